//! What a leg sends us: its streams, their statistics and the rules that a packet has to keep.
use crate::command::PayloadTypes;
use crate::slot::{Frame, RunId};
use crate::tap::TrackNumber;
use crate::time::MediaNs;
use offhook_contract::CodecName;
use offhook_shard::{Bucket, Rate};
use offhook_wire_rtp::rtcp::ReportBlock;
use offhook_wire_rtp::{NtpTime, ReceiverStats, RtpPacket};
use std::time::Duration;

/// Streams of one sender; an SRTP context keeps no more either.
pub const STREAMS_MAX: usize = 8;
/// A phone sends 50 packets a second, or 100 at 10 ms; anything above is no voice.
const PACKET_RATE: Rate = Rate { per_second: 150, burst: 75 };
/// Longer payloads do not fit one datagram on every path.
const PAYLOAD_MAX: usize = 1_300;
/// A second stream of one sender is heard once the first has been silent for so long.
const TAKEOVER: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Oversized,
    PayloadType,
    Rate,
    SourceLimit,
}

/// A packet that passed. `heard` is false for a stream that is not the sender's current one.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub frame: Frame,
    pub level: Option<u8>,
    pub payload_type: u8,
    pub heard: bool,
    /// The stream's place in the table.
    pub stream: usize,
}

#[derive(Debug)]
pub struct Stream {
    pub ssrc: u32,
    pub track: Option<TrackNumber>,
    stats: ReceiverStats,
    clock_hz: u32,
    last: MediaNs,
}

#[derive(Debug)]
pub struct Source {
    payload_types: PayloadTypes,
    level_id: Option<u8>,
    /// For Links: the one SSRC agreed on.
    only_ssrc: Option<u32>,
    /// Runs are numbered from here: the leg's serial and a stream's place.
    first_run: RunId,
    pub streams: Vec<Stream>,
    current: usize,
    bucket: Bucket,
    pub received: u64,
}

impl Source {
    pub fn new(payload_types: PayloadTypes, level_id: Option<u8>, only_ssrc: Option<u32>, serial: u64) -> Self {
        Self {
            payload_types,
            level_id,
            only_ssrc,
            first_run: serial << 8,
            streams: Vec::with_capacity(STREAMS_MAX),
            current: 0,
            bucket: Bucket::default(),
            received: 0,
        }
    }

    /// Takes an authenticated packet.
    pub fn accept(&mut self, now: MediaNs, packet: &RtpPacket<'_>) -> Result<Accepted, Refused> {
        let payload = packet.payload_range();
        if payload.len() > PAYLOAD_MAX {
            return Err(Refused::Oversized);
        }
        if !self.bucket.take(now, PACKET_RATE, 1) {
            return Err(Refused::Rate);
        }
        let codec = self.payload_types.codec(packet.payload_type()).ok_or(Refused::PayloadType)?;
        let place = self.stream(now, packet.ssrc(), codec)?;
        let takeover = self.streams.get(self.current).is_none_or(|s| now.since(s.last) >= TAKEOVER);
        if takeover {
            self.current = place;
        }
        let stream = self.streams.get_mut(place).ok_or(Refused::SourceLimit)?;
        stream.last = now;
        stream.clock_hz = codec.clock_rate_hz();
        stream.stats.on_packet(packet.sequence(), packet.timestamp(), stream.clock_hz, now.0);
        self.received += 1;
        Ok(Accepted {
            frame: Frame {
                run: self.first_run | place as u64,
                codec,
                sequence: packet.sequence(),
                timestamp: packet.timestamp(),
                marker: packet.marker(),
            },
            level: self.level_id.and_then(|id| packet.audio_level(id)).map(|level| level.to_byte()),
            // An empty payload carries nothing to hear; it only counted.
            heard: place == self.current && !payload.is_empty(),
            payload_type: packet.payload_type(),
            stream: place,
        })
    }

    fn stream(&mut self, now: MediaNs, ssrc: u32, codec: CodecName) -> Result<usize, Refused> {
        if let Some(place) = self.streams.iter().position(|stream| stream.ssrc == ssrc) {
            return Ok(place);
        }
        if self.streams.len() == STREAMS_MAX || self.only_ssrc.is_some_and(|only| only != ssrc) {
            return Err(Refused::SourceLimit);
        }
        self.streams.push(Stream {
            ssrc,
            track: None,
            stats: ReceiverStats::new(),
            clock_hz: codec.clock_rate_hz(),
            last: now,
        });
        Ok(self.streams.len() - 1)
    }

    pub fn on_sender_report(&mut self, now: MediaNs, ssrc: u32, ntp: NtpTime) {
        if let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) {
            stream.stats.on_sender_report(ntp, now.0);
        }
    }

    /// Report blocks for a receiver report, one for each stream heard in the last while.
    pub fn reports(&mut self, now: MediaNs, blocks: &mut Vec<ReportBlock>) {
        const SILENT: Duration = Duration::from_secs(10);
        let active = self.streams.iter_mut().filter(|stream| now.since(stream.last) < SILENT);
        blocks.extend(active.filter_map(|stream| stream.stats.report(stream.ssrc, now.0)));
    }

    pub fn lost(&self) -> u64 {
        self.streams.iter().map(|s| u64::try_from(s.stats.cumulative_lost()).unwrap_or(0)).sum()
    }

    pub fn jitter_ms(&self) -> f32 {
        self.streams
            .get(self.current)
            .map_or(0.0, |s| s.stats.jitter_ticks() as f32 * 1000.0 / s.clock_hz.max(1) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_wire_rtp::RtpHeader;

    fn source() -> Source {
        Source::new(PayloadTypes { opus: Some(111), pcmu: Some(0), pcma: None }, None, None, 7)
    }

    fn packet(ssrc: u32, payload_type: u8, sequence: u16, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; 12 + payload];
        RtpHeader { payload_type, sequence, ssrc, ..RtpHeader::default() }.write(&mut bytes).unwrap();
        bytes
    }

    fn accept(source: &mut Source, ms: u64, bytes: &[u8]) -> Result<Accepted, Refused> {
        source.accept(MediaNs(1_000_000_000_000 + ms * 1_000_000), &RtpPacket::parse(bytes).unwrap())
    }

    #[test]
    fn each_rule_refuses_by_its_name() {
        let mut s = source();
        assert_eq!(accept(&mut s, 0, &packet(1, 9, 0, 160)).unwrap_err(), Refused::PayloadType);
        assert_eq!(accept(&mut s, 0, &packet(1, 0, 0, 1_301)).unwrap_err(), Refused::Oversized);
        for ssrc in 0..8 {
            assert!(accept(&mut s, 20, &packet(ssrc, 0, 0, 160)).is_ok());
        }
        assert_eq!(accept(&mut s, 20, &packet(8, 0, 0, 160)).unwrap_err(), Refused::SourceLimit);
    }

    #[test]
    fn a_flood_is_cut_to_its_cap() {
        let mut s = source();
        let passed = (0..5_000_u16).filter(|n| accept(&mut s, u64::from(*n), &packet(1, 0, *n, 160)).is_ok()).count();
        assert!((750..=830).contains(&passed), "{passed} in five seconds");
    }

    #[test]
    fn a_second_stream_is_heard_only_after_the_first_fell_silent() {
        let mut s = source();
        assert!(accept(&mut s, 0, &packet(1, 0, 0, 160)).unwrap().heard);
        assert!(!accept(&mut s, 100, &packet(2, 0, 0, 160)).unwrap().heard);
        assert!(accept(&mut s, 120, &packet(1, 0, 1, 160)).unwrap().heard);
        assert!(accept(&mut s, 330, &packet(2, 0, 1, 160)).unwrap().heard);
        assert!(!accept(&mut s, 340, &packet(1, 0, 2, 160)).unwrap().heard);
    }

    #[test]
    fn a_link_is_held_to_its_ssrc() {
        let mut s = Source::new(PayloadTypes { pcmu: Some(0), ..PayloadTypes::default() }, None, Some(5), 1);
        assert!(accept(&mut s, 0, &packet(5, 0, 0, 160)).is_ok());
        assert_eq!(accept(&mut s, 0, &packet(6, 0, 0, 160)).unwrap_err(), Refused::SourceLimit);
    }
}
