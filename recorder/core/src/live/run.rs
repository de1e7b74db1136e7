//! A run: the packets of one track in one codec, in one file. Its timestamp rises without leaps; only where a track has
//! used up its files does its last run go on across a leap.
use crate::g711_file::{self, Frame};
use crate::opus_file::OpusFile;
use crate::timeline::Entry;
use offhook_contract::CodecName;

/// A longer silence begins a new run instead of being filled.
const MAX_FILL_SECONDS: u32 = 30;
/// Less than the shortest Opus frame is not filled.
const MIN_FILL_TICKS: u32 = 120;

/// A packet on its way to disk, its sequence number unwrapped.
#[derive(Debug, Clone)]
pub(super) struct Queued {
    pub number: u64,
    pub media_ns: u64,
    pub codec: CodecName,
    /// Counts restarts of the sender's sequence.
    pub era: u32,
    pub sequence: i64,
    pub timestamp: u32,
    /// At the codec's clock.
    pub ticks: u32,
    pub payload: Box<[u8]>,
}

#[derive(Debug)]
enum Body {
    Opus(OpusFile),
    G711,
}

#[derive(Debug)]
pub(super) struct Run {
    pub number: u32,
    pub file: String,
    pub codec: CodecName,
    era: u32,
    body: Body,
    first_media_ns: u64,
    first_timestamp: u32,
    last_timestamp: u32,
    /// Timestamp ticks from `first_timestamp` to the end of what is written.
    written_ticks: u32,
    pub entries: Vec<Entry>,
    pub bytes: Vec<u8>,
}

impl Run {
    pub(super) fn begin(number: u32, track: u16, file: String, packet: &Queued) -> Self {
        let mut bytes = Vec::new();
        let body = match packet.codec {
            CodecName::Opus => {
                let serial = u32::from(track) << 16 | (number & 0xffff);
                let (track, number) = (track.to_string(), number.to_string());
                Body::Opus(OpusFile::begin(serial, &[("TRACK", &track), ("RUN", &number)], &mut bytes))
            }
            CodecName::Pcmu | CodecName::Pcma => {
                bytes.extend_from_slice(&g711_file::MAGIC);
                Body::G711
            }
        };
        Self {
            number,
            file,
            codec: packet.codec,
            era: packet.era,
            body,
            first_media_ns: packet.media_ns,
            first_timestamp: packet.timestamp,
            last_timestamp: packet.timestamp.wrapping_sub(1),
            written_ticks: 0,
            entries: Vec::new(),
            bytes,
        }
    }

    /// Whether the packet goes on where this run is: ahead, by no more than a silence, and by all silences together no
    /// further than time has passed, for what is filled is the sender's word against the disk.
    pub(super) fn takes(&self, packet: &Queued) -> bool {
        let rate = packet.codec.clock_rate_hz();
        let ahead = packet.timestamp.wrapping_sub(self.last_timestamp).cast_signed();
        let longest = MAX_FILL_SECONDS * rate;
        let passed_ns = u128::from(packet.media_ns.saturating_sub(self.first_media_ns));
        let passed = passed_ns * u128::from(rate) / 1_000_000_000;
        let run_to = u128::from(packet.timestamp.wrapping_sub(self.first_timestamp));
        packet.codec == self.codec
            && packet.era == self.era
            && ahead > 0
            && ahead <= longest.cast_signed()
            && run_to <= passed + u128::from(longest)
    }

    /// Of the run's codec.
    pub(super) fn write(&mut self, packet: &Queued) {
        if !self.takes(packet) {
            // Across a leap nothing is filled: the packet stands right behind what is written, its place in time is
            // its entry's to say.
            self.first_timestamp = packet.timestamp.wrapping_sub(self.written_ticks);
        }
        let offset = packet.timestamp.wrapping_sub(self.first_timestamp);
        let gap = offset.saturating_sub(self.written_ticks);
        let mut fill = 0;
        match &mut self.body {
            Body::Opus(file) => {
                if gap >= MIN_FILL_TICKS {
                    let before = file.position();
                    fill = file.fill(u64::from(gap), &mut self.bytes);
                    let filled = file.position() - before;
                    self.written_ticks = self.written_ticks.wrapping_add(u32::try_from(filled).unwrap_or(0));
                }
                file.packet(&packet.payload, packet.ticks, &mut self.bytes);
            }
            Body::G711 => {
                self.written_ticks = self.written_ticks.max(offset);
                let frame = Frame {
                    media_ns: packet.media_ns,
                    timestamp: packet.timestamp,
                    sequence: wire_sequence(packet.sequence),
                    codec: packet.codec,
                    payload: &packet.payload,
                };
                frame.encode(&mut self.bytes);
            }
        }
        self.written_ticks = self.written_ticks.wrapping_add(packet.ticks);
        (self.last_timestamp, self.era) = (packet.timestamp, packet.era);
        self.entries.push(Entry {
            media_ns: packet.media_ns,
            timestamp: packet.timestamp,
            sequence: wire_sequence(packet.sequence),
            fill: u16::try_from(fill).unwrap_or(u16::MAX),
        });
    }

    /// Makes what is written stand on its own in the file.
    pub(super) fn settle(&mut self) {
        if let Body::Opus(file) = &mut self.body {
            file.close_page(&mut self.bytes);
        }
    }

    pub(super) fn finish(&mut self) {
        if let Body::Opus(file) = &mut self.body {
            file.finish(&mut self.bytes);
        }
    }
}

fn wire_sequence(unwrapped: i64) -> u16 {
    u16::try_from(unwrapped.rem_euclid(65_536)).unwrap_or(0)
}
