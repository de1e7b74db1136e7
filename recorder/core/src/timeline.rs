//! The sidecar of a segment: which packet of which file came when. Append-only; a record is `length u32, CRC-32 u32,
//! body`, the body a letter and its content (packets and progress in binary, the rest JSON). A flush appends its
//! records in one write that ends with a progress record: what stands after the last whole progress never happened.
use crate::input::{CloseReason, Voice};
use offhook_contract::fact::ConsentKind;
use offhook_contract::{BootId, CallId, CodecName, RecordingId, TenantId, UnixMs};
use serde::{Deserialize, Serialize};

pub const FILE_NAME: &str = "timeline.bin";
const VERSION: u8 = 1;
const JSON: u8 = b'J';
const PACKETS: u8 = b'P';
const PROGRESS: u8 = b'Q';
/// A flush of the busiest room stays far below.
const MAX_BODY_BYTES: usize = 1 << 20;

/// One packet of a run. `fill` packets without audio stand in the run's file before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub media_ns: u64,
    pub timestamp: u32,
    pub sequence: u16,
    pub fill: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub version: u8,
    pub recording: RecordingId,
    pub call: CallId,
    pub tenant: TenantId,
    pub segment: u32,
    /// The clock of every media time here, and the pair under which the Tap was opened.
    pub clock: BootId,
    pub media_ns: u64,
    pub wall: UnixMs,
    /// The Tap's record after which this segment goes on.
    pub resume_after: u64,
    /// Media missing before this segment.
    pub gap_ns: u64,
}

impl Opened {
    pub const VERSION: u8 = VERSION;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Told {
    Opened(Opened),
    Track { track: u16, voice: Voice, at_ns: u64 },
    Run { run: u32, track: u16, codec: CodecName },
    Announcement { announcement: ConsentKind, started_ns: u64, ended_ns: u64, played: UnixMs, number: u64 },
    ClockPair { media_ns: u64, wall: UnixMs },
    Gap { packets: u64, first_ns: u64, last_ns: u64 },
    TrackEnded { track: u16, at_ns: u64 },
    Reported { through: u64 },
    Closed { reason: CloseReason, at_ns: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Opened(Opened),
    Track {
        track: u16,
        voice: Voice,
        at_ns: u64,
    },
    /// A stretch of one codec with a rising timestamp: a file of its own.
    Run {
        run: u32,
        track: u16,
        codec: CodecName,
    },
    Packets {
        run: u32,
        entries: Vec<Entry>,
    },
    Announcement {
        announcement: ConsentKind,
        started_ns: u64,
        ended_ns: u64,
        /// `started_ns` on the wall clock, as it was told then.
        played: UnixMs,
        /// The Tap's record that ended it.
        number: u64,
    },
    ClockPair {
        media_ns: u64,
        wall: UnixMs,
    },
    Gap {
        packets: u64,
        first_ns: u64,
        last_ns: u64,
    },
    TrackEnded {
        track: u16,
        at_ns: u64,
    },
    /// Facts about announcements up to this Tap record are in the outbox.
    Reported {
        through: u64,
    },
    Closed {
        reason: CloseReason,
        at_ns: u64,
    },
    /// Every Tap record up to `through` is on disk, and of the later ones those in `also`.
    Progress {
        through: u64,
        also: Vec<u64>,
    },
}

/// The name of a run's file.
pub fn run_file_name(track: u16, run: u32, codec: CodecName) -> String {
    let kind = if codec == CodecName::Opus { "ogg" } else { "g711" };
    format!("t{track}-{run}.{kind}")
}

impl Record {
    /// Appends the framed record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 8]);
        match self {
            Self::Packets { run, entries } => {
                out.push(PACKETS);
                out.extend_from_slice(&run.to_be_bytes());
                for entry in entries {
                    out.extend_from_slice(&entry.media_ns.to_be_bytes());
                    out.extend_from_slice(&entry.timestamp.to_be_bytes());
                    out.extend_from_slice(&entry.sequence.to_be_bytes());
                    out.extend_from_slice(&entry.fill.to_be_bytes());
                }
            }
            Self::Progress { through, also } => {
                out.push(PROGRESS);
                out.extend_from_slice(&through.to_be_bytes());
                for number in also {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            other => {
                out.push(JSON);
                if let Some(told) = other.told() {
                    // Plain data: serde_json cannot fail on it.
                    out.extend_from_slice(&serde_json::to_vec(&told).unwrap_or_default());
                }
            }
        }
        let body = out.get(start + 8..).unwrap_or_default();
        let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
        let sum = crc32fast::hash(body).to_be_bytes();
        for (byte, value) in out.iter_mut().skip(start).zip(length.into_iter().chain(sum)) {
            *byte = value;
        }
    }

    fn told(&self) -> Option<Told> {
        Some(match self.clone() {
            Self::Opened(opened) => Told::Opened(opened),
            Self::Track { track, voice, at_ns } => Told::Track { track, voice, at_ns },
            Self::Run { run, track, codec } => Told::Run { run, track, codec },
            Self::Announcement { announcement, started_ns, ended_ns, played, number } => {
                Told::Announcement { announcement, started_ns, ended_ns, played, number }
            }
            Self::ClockPair { media_ns, wall } => Told::ClockPair { media_ns, wall },
            Self::Gap { packets, first_ns, last_ns } => Told::Gap { packets, first_ns, last_ns },
            Self::TrackEnded { track, at_ns } => Told::TrackEnded { track, at_ns },
            Self::Reported { through } => Told::Reported { through },
            Self::Closed { reason, at_ns } => Told::Closed { reason, at_ns },
            Self::Packets { .. } | Self::Progress { .. } => return None,
        })
    }

    /// The record at the start of `bytes` and its length in the file; `None` if cut, damaged or unknown.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let length = usize::try_from(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
        if length > MAX_BODY_BYTES {
            return None;
        }
        let body = bytes.get(8..8 + length)?;
        if bytes.get(4..8)? != crc32fast::hash(body).to_be_bytes() {
            return None;
        }
        let (letter, content) = body.split_first()?;
        let record = match *letter {
            JSON => serde_json::from_slice::<Told>(content).ok()?.into(),
            PACKETS => {
                let (run, entries) = content.split_at_checked(4)?;
                let entries = entries.chunks_exact(16).map(read_entry).collect::<Option<_>>()?;
                Self::Packets { run: u32::from_be_bytes(run.try_into().ok()?), entries }
            }
            PROGRESS => {
                let mut numbers = content.chunks_exact(8).map(|n| n.try_into().ok().map(u64::from_be_bytes));
                let through = numbers.next()??;
                Self::Progress { through, also: numbers.collect::<Option<_>>()? }
            }
            _ => return None,
        };
        Some((record, 8 + length))
    }
}

fn read_entry(bytes: &[u8]) -> Option<Entry> {
    Some(Entry {
        media_ns: u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?),
        timestamp: u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?),
        sequence: u16::from_be_bytes(bytes.get(12..14)?.try_into().ok()?),
        fill: u16::from_be_bytes(bytes.get(14..16)?.try_into().ok()?),
    })
}

impl From<Told> for Record {
    fn from(told: Told) -> Self {
        match told {
            Told::Opened(opened) => Self::Opened(opened),
            Told::Track { track, voice, at_ns } => Self::Track { track, voice, at_ns },
            Told::Run { run, track, codec } => Self::Run { run, track, codec },
            Told::Announcement { announcement, started_ns, ended_ns, played, number } => {
                Self::Announcement { announcement, started_ns, ended_ns, played, number }
            }
            Told::ClockPair { media_ns, wall } => Self::ClockPair { media_ns, wall },
            Told::Gap { packets, first_ns, last_ns } => Self::Gap { packets, first_ns, last_ns },
            Told::TrackEnded { track, at_ns } => Self::TrackEnded { track, at_ns },
            Told::Reported { through } => Self::Reported { through },
            Told::Closed { reason, at_ns } => Self::Closed { reason, at_ns },
        }
    }
}

/// The records up to and with the last whole progress, and how many bytes they take. A sidecar without one has none.
pub fn confirmed(bytes: &[u8]) -> (Vec<Record>, usize) {
    let (mut records, mut confirmed, mut bytes_confirmed, mut at) = (Vec::new(), 0, 0, 0);
    while let Some((record, length)) = bytes.get(at..).and_then(Record::parse) {
        at += length;
        let is_progress = matches!(record, Record::Progress { .. });
        records.push(record);
        if is_progress {
            (confirmed, bytes_confirmed) = (records.len(), at);
        }
    }
    records.truncate(confirmed);
    (records, bytes_confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let entry = Entry { media_ns: 5, timestamp: 6, sequence: 7, fill: 8 };
        vec![
            Record::Opened(Opened {
                version: VERSION,
                recording: RecordingId::parse("r").unwrap(),
                call: CallId::parse("c").unwrap(),
                tenant: TenantId::parse("t").unwrap(),
                segment: 1,
                clock: BootId::parse("b").unwrap(),
                media_ns: 1,
                wall: UnixMs(2),
                resume_after: 0,
                gap_ns: 0,
            }),
            Record::Track { track: 1, voice: Voice::Announcer, at_ns: 3 },
            Record::Run { run: 0, track: 1, codec: CodecName::Pcmu },
            Record::Packets { run: 0, entries: vec![entry; 3] },
            Record::Progress { through: 9, also: vec![11, 12] },
            Record::Announcement {
                announcement: ConsentKind::Beep,
                started_ns: 4,
                ended_ns: 5,
                played: UnixMs(3),
                number: 6,
            },
            Record::ClockPair { media_ns: 1, wall: UnixMs(2) },
            Record::Gap { packets: 1, first_ns: 2, last_ns: 3 },
            Record::TrackEnded { track: 1, at_ns: 9 },
            Record::Reported { through: 6 },
            Record::Closed { reason: CloseReason::Requested, at_ns: 10 },
            Record::Progress { through: 20, also: vec![] },
        ]
    }

    #[test]
    fn records_come_back() {
        let mut bytes = Vec::new();
        records().iter().for_each(|record| record.encode(&mut bytes));
        assert_eq!(confirmed(&bytes), (records(), bytes.len()));
    }

    #[test]
    fn what_follows_the_last_whole_progress_never_happened() {
        let mut bytes = Vec::new();
        records().iter().for_each(|record| record.encode(&mut bytes));
        for cut in 0..bytes.len() {
            let (kept, _) = confirmed(&bytes[..cut]);
            assert!(kept.is_empty() || kept.len() == 5, "{cut}: {}", kept.len());
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(confirmed(&flipped).0.len() < records().len());
        }
    }
}
