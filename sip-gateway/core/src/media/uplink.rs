//! Telephone to room: the carrier's payload untouched, in a stream of our own numbering, with its level written on it.

use std::time::Duration;

use offhook_contract::CodecName;
use offhook_contract::audio::LINK_LEVEL_EXTENSION_ID;
use offhook_media::{Codec, level};
use offhook_wire_rtp::{AudioLevel, Extension, RtpHeader, RtpPacket, seq_newer};

use super::RATE;

/// When the carrier's timestamps leave the wall clock by more than this, the stream has jumped.
const JUMP_MS: i64 = 1_000;
/// Sequence steps larger than this (either way) are a jump (RFC 3550 A.1).
const SEQUENCE_JUMP: u16 = 3_000;

#[derive(Debug, Clone, Copy)]
struct Mapping {
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
    highest_in: u16,
    timestamp_in: u32,
    arrival: Duration,
}

#[derive(Debug)]
pub(super) struct Uplink {
    ssrc: u32,
    mapping: Option<Mapping>,
    last_sequence: u16,
    last_timestamp: u32,
    /// How long the last packet sounds: what comes behind a change of the source begins after it.
    last_ticks: u32,
}

impl Uplink {
    pub(super) const fn new(ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            ssrc,
            mapping: None,
            last_sequence: sequence,
            last_timestamp: timestamp,
            last_ticks: super::FRAME as u32,
        }
    }

    /// Writes the packet for the Link into `out`; its length, or nothing if it does not fit.
    pub(super) fn forward(
        &mut self,
        now: Duration,
        packet: &RtpPacket<'_>,
        codec: Codec,
        out: &mut [u8],
    ) -> Option<usize> {
        let mapping = self.map(now, packet);
        let sequence = packet.sequence().wrapping_add(mapping.sequence_offset);
        let timestamp = packet.timestamp().wrapping_add(mapping.timestamp_offset);
        if seq_newer(sequence, self.last_sequence) {
            self.last_sequence = sequence;
            self.last_timestamp = timestamp;
            self.last_ticks = codec.payload_ticks(packet.payload()).unwrap_or(super::FRAME as u32);
        }
        let payload = packet.payload();
        let minus_dbov = level::dbov_of_payload(codec, payload).unwrap_or(level::SILENT);
        let level = AudioLevel { voice: minus_dbov <= level::SPEECH_AT_MOST, minus_dbov };
        let header = RtpHeader {
            marker: packet.marker(),
            payload_type: link_codec(codec).link_payload_type(),
            sequence,
            timestamp,
            ssrc: self.ssrc,
        };
        let extension = Extension { id: LINK_LEVEL_EXTENSION_ID, data: &[level.to_byte()] };
        let start = header.write_with(out, &[], &[extension]).ok()?;
        let end = start + payload.len();
        out.get_mut(start..end)?.copy_from_slice(payload);
        Some(end)
    }

    /// An event packet took a sequence number that the room will not see: the numbers behind it move up.
    pub(super) fn skip(&mut self, packet: &RtpPacket<'_>) {
        if let Some(mapping) = &mut self.mapping
            && mapping.ssrc == packet.ssrc()
            && seq_newer(packet.sequence(), mapping.highest_in)
        {
            let passed = packet.sequence().wrapping_sub(mapping.highest_in);
            mapping.highest_in = packet.sequence();
            // Only this packet is ours to hide; lost ones in between stay visible as lost.
            if passed < SEQUENCE_JUMP {
                mapping.sequence_offset = mapping.sequence_offset.wrapping_sub(1);
            }
        }
    }

    fn map(&mut self, now: Duration, packet: &RtpPacket<'_>) -> Mapping {
        let (sequence, timestamp) = (packet.sequence(), packet.timestamp());
        if let Some(mapping) = &mut self.mapping
            && mapping.ssrc == packet.ssrc()
            && runs_on(mapping, now, sequence, timestamp)
        {
            if seq_newer(sequence, mapping.highest_in) {
                (mapping.highest_in, mapping.timestamp_in, mapping.arrival) = (sequence, timestamp, now);
            }
            return *mapping;
        }
        let elapsed = self.mapping.map_or(0, |m| ticks(now.saturating_sub(m.arrival)));
        let mapping = Mapping {
            ssrc: packet.ssrc(),
            sequence_offset: self.last_sequence.wrapping_add(1).wrapping_sub(sequence),
            timestamp_offset: self.last_timestamp.wrapping_add(elapsed.max(self.last_ticks)).wrapping_sub(timestamp),
            highest_in: sequence,
            timestamp_in: timestamp,
            arrival: now,
        };
        self.mapping = Some(mapping);
        mapping
    }
}

/// Whether a packet continues the stream: numbers near the last ones, timestamps near the wall clock.
fn runs_on(mapping: &Mapping, now: Duration, sequence: u16, timestamp: u32) -> bool {
    let step = sequence.wrapping_sub(mapping.highest_in);
    let near = !(SEQUENCE_JUMP..=u16::MAX - SEQUENCE_JUMP).contains(&step);
    let moved = i64::from(timestamp.wrapping_sub(mapping.timestamp_in) as i32);
    let elapsed = i64::from(ticks(now.saturating_sub(mapping.arrival)));
    near && (moved - elapsed).abs() <= JUMP_MS * i64::from(RATE) / 1_000
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() * u128::from(RATE) / 1_000).unwrap_or(u32::MAX / 2)
}

pub(super) const fn link_codec(codec: Codec) -> CodecName {
    match codec {
        Codec::Opus => CodecName::Opus,
        Codec::Pcmu => CodecName::Pcmu,
        Codec::Pcma => CodecName::Pcma,
    }
}
