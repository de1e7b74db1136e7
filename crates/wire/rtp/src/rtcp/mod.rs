//! RTCP: compound packets read and written (RFC 3550 §6, RFC 4585 §6.2.1, RFC 5506).

mod read;
mod view;
mod write;

use core::time::Duration;

pub use read::{Compound, Packets, RtcpError};
pub use view::{
    GenericNack, Goodbye, ReceiverReport, RtcpPacket, SdesChunk, SdesItem, SenderReport, SourceDescription,
};
pub use write::RtcpWriter;

use crate::{NtpTime, ntp};

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
pub mod packet_type {
    pub const SENDER_REPORT: u8 = 200;
    pub const RECEIVER_REPORT: u8 = 201;
    pub const SOURCE_DESCRIPTION: u8 = 202;
    pub const GOODBYE: u8 = 203;
    pub const APPLICATION: u8 = 204;
    pub const TRANSPORT_FEEDBACK: u8 = 205;
    pub const PAYLOAD_FEEDBACK: u8 = 206;
    pub const EXTENDED_REPORT: u8 = 207;
}

/// The format of a generic NACK inside transport feedback (RFC 4585 §6.2).
pub const NACK_FORMAT: u8 = 1;
/// The canonical-name item of a source description (RFC 3550 §6.5.1).
pub const SDES_CNAME: u8 = 1;

/// What a sender says about its own stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    pub ntp: NtpTime,
    /// The same instant in the stream's clock.
    pub rtp_timestamp: u32,
    pub packet_count: u32,
    /// Payload bytes, headers and padding left out.
    pub octet_count: u32,
}

/// What a receiver says about one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    pub ssrc: u32,
    /// Of the last interval, in 1/256.
    pub fraction_lost: u8,
    /// 24 bits, signed.
    pub cumulative_lost: i32,
    /// Cycles in the upper half, sequence number in the lower.
    pub highest_sequence: u32,
    /// Ticks of the stream's clock.
    pub jitter: u32,
    /// Middle 32 bits of the last sender report's NTP time; 0 if there was none.
    pub last_sr: u32,
    /// Since that report, in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    /// The round trip as the sender of the report sees it on receipt; nothing without a sender report, or when the
    /// clocks make it negative.
    #[must_use]
    pub fn round_trip(&self, received: NtpTime) -> Option<Duration> {
        if self.last_sr == 0 {
            return None;
        }
        let units = received.middle().wrapping_sub(self.last_sr).wrapping_sub(self.delay_since_last_sr);
        (units < 0x8000_0000).then(|| ntp::from_short_format(units))
    }
}
