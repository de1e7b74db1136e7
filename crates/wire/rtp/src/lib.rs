//! RTP and RTCP as bytes: borrowed readers, in-place writers, and the sums that receiver reports are made of.
//!
//! RFC 3550 with the header extensions of RFC 8285, the audio level of RFC 6464, generic NACK (RFC 4585), reduced-size
//! RTCP (RFC 5506) and telephone events (RFC 4733). No sockets, no clock, no allocation. Times are arguments in
//! nanoseconds of whichever clock the caller keeps to.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audio_level;
mod demux;
mod extension;
mod header;
mod jitter;
mod ntp;
mod packet;
pub mod rtcp;
mod sequence;
mod stats;
mod telephone_event;

pub use audio_level::AudioLevel;
pub use demux::{DatagramKind, is_rtcp, is_rtp_or_rtcp};
pub use extension::{Extension, ExtensionError, Extensions, set_one_byte_extension_in_place};
pub use header::{RtpHeader, WriteError};
pub use jitter::JitterEstimator;
pub use ntp::NtpTime;
pub use packet::{HeaderView, RtpError, RtpPacket};
pub use sequence::{SeqExtender, seq_newer};
pub use stats::ReceiverStats;
pub use telephone_event::{TelephoneEvent, TelephoneEventError};

/// The fixed part of an RTP header (RFC 3550 §5.1).
pub const FIXED_HEADER_LEN: usize = 12;
