//! Our stream to the telephone: one packet every 20 ms, numbered and stamped without holes.

use offhook_media::{Codec, g711};
use offhook_wire_rtp::RtpHeader;
use offhook_wire_rtp::rtcp::SenderInfo;

use super::digits_out::Frame;
use super::{FRAME, RemoteMedia};

#[derive(Debug)]
pub(super) struct Mouth {
    pub(super) ssrc: u32,
    sequence: u16,
    timestamp: u32,
    /// The first packet of the stream carries the marker (RFC 3551 §4.1).
    fresh: bool,
    packets: u32,
    octets: u32,
}

impl Mouth {
    pub(super) const fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self { ssrc, sequence, timestamp, fresh: true, packets: 0, octets: 0 }
    }

    pub(super) const fn packets(&self) -> u32 {
        self.packets
    }

    /// Time passes without a packet (not sending, or the thread was late).
    pub(super) fn skip(&mut self, frames: u32) {
        self.timestamp = self.timestamp.wrapping_add(frames.wrapping_mul(FRAME as u32));
        self.fresh = true;
    }

    /// A frame of sound.
    pub(super) fn speak(&mut self, remote: &RemoteMedia, pcm: &[i16; FRAME], out: &mut [u8]) -> Option<usize> {
        let mut payload = [0u8; FRAME];
        match remote.codec {
            Codec::Pcma => g711::encode_pcma(pcm, &mut payload),
            Codec::Pcmu | Codec::Opus => g711::encode_pcmu(pcm, &mut payload),
        };
        self.send(remote, &payload, out)
    }

    /// A frame that is encoded already.
    pub(super) fn send(&mut self, remote: &RemoteMedia, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let (marker, timestamp) = (std::mem::take(&mut self.fresh), self.timestamp);
        self.packet(marker, remote.payload_type, timestamp, payload, out)
    }

    /// A frame of a key press: its timestamp is that of the press (RFC 4733 §2.5.1.1).
    pub(super) fn press(&mut self, payload_type: u8, frame: Frame, out: &mut [u8]) -> Option<usize> {
        let Frame::Event { payload, start, first } = frame else { return None };
        self.packet(first, payload_type, self.timestamp.wrapping_sub(start), &payload, out)
    }

    fn packet(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        out: &mut [u8],
    ) -> Option<usize> {
        let header = RtpHeader { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        let start = header.write(out).ok()?;
        out.get_mut(start..start + payload.len())?.copy_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(FRAME as u32);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        Some(start + payload.len())
    }

    /// What a sender report says of it (RFC 3550 §6.4.1).
    pub(super) fn info(&self, ntp: offhook_wire_rtp::NtpTime) -> SenderInfo {
        SenderInfo { ntp, rtp_timestamp: self.timestamp, packet_count: self.packets, octet_count: self.octets }
    }
}
