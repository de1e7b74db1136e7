//! A segment's sidecar read back: after a death to go on, and after the end to make the final file.
use crate::consent::{self, ConsentChain, ConsentEvent};
use crate::g711_file;
use crate::input::{CloseReason, Voice};
use crate::opus_file;
use crate::timeline::{self, Entry, Opened, Record, run_file_name};
use offhook_contract::fact::ConsentKind;
use offhook_contract::{CodecName, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// A run as the sidecar knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub run: u32,
    pub track: u16,
    pub codec: CodecName,
    pub file: String,
    pub entries: Vec<Entry>,
}

impl RunRow {
    /// Packets in the file: audio and filling.
    pub fn packets_in_file(&self) -> u64 {
        self.entries.iter().map(|entry| 1 + u64::from(entry.fill)).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    pub kind: ConsentKind,
    pub started_ns: u64,
    pub ended_ns: u64,
    pub played: UnixMs,
    pub number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TapGap {
    pub packets: u64,
    pub first_ns: u64,
    pub last_ns: u64,
}

/// Everything confirmed of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRead {
    pub opened: Opened,
    pub tracks: BTreeMap<u16, Voice>,
    pub runs: Vec<RunRow>,
    pub announced: Vec<Announced>,
    pub clock_pairs: Vec<(u64, UnixMs)>,
    pub gaps: Vec<TapGap>,
    pub closed: Option<(CloseReason, u64)>,
    pub through: u64,
    pub also: BTreeSet<u64>,
    pub facts_told: u64,
    /// To which length the sidecar is to be cut.
    pub sidecar_bytes: usize,
}

impl SegmentRead {
    /// `None`: nothing of the segment was confirmed.
    pub fn read(sidecar: &[u8]) -> Option<Self> {
        let (records, sidecar_bytes) = timeline::confirmed(sidecar);
        let mut records = records.into_iter();
        let Some(Record::Opened(opened)) = records.next() else { return None };
        if opened.version != Opened::VERSION {
            return None;
        }
        let mut segment = Self {
            through: opened.resume_after,
            opened,
            tracks: BTreeMap::new(),
            runs: Vec::new(),
            announced: Vec::new(),
            clock_pairs: Vec::new(),
            gaps: Vec::new(),
            closed: None,
            also: BTreeSet::new(),
            facts_told: 0,
            sidecar_bytes,
        };
        records.for_each(|record| segment.take(record));
        Some(segment)
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Opened(_) | Record::TrackEnded { .. } => {}
            Record::Track { track, voice, .. } => {
                self.tracks.insert(track, voice);
            }
            Record::Run { run, track, codec } => {
                let file = run_file_name(track, run, codec);
                self.runs.push(RunRow { run, track, codec, file, entries: Vec::new() });
            }
            Record::Packets { run, entries } => {
                if let Some(row) = self.runs.iter_mut().rev().find(|row| row.run == run) {
                    row.entries.extend(entries);
                }
            }
            Record::Announcement { announcement, started_ns, ended_ns, played, number } => {
                self.announced.push(Announced { kind: announcement, started_ns, ended_ns, played, number });
            }
            Record::ClockPair { media_ns, wall } => self.clock_pairs.push((media_ns, wall)),
            Record::Gap { packets, first_ns, last_ns } => self.gaps.push(TapGap { packets, first_ns, last_ns }),
            Record::Reported { through } => self.facts_told = self.facts_told.max(through),
            Record::Closed { reason, at_ns } => self.closed = Some((reason, at_ns)),
            Record::Progress { through, also } => {
                self.through = through;
                self.also = also.into_iter().collect();
            }
        }
    }

    pub fn packets(&self) -> u64 {
        self.runs.iter().map(|run| run.entries.len() as u64).sum()
    }

    /// The latest media time anything is known of.
    pub fn last_ns(&self) -> u64 {
        let packets = self.runs.iter().filter_map(|run| run.entries.iter().map(|entry| entry.media_ns).max()).max();
        let closed = self.closed.map(|(_, at_ns)| at_ns);
        packets.into_iter().chain(closed).max().unwrap_or(self.opened.media_ns)
    }

    pub fn first_ns(&self) -> Option<u64> {
        self.runs.iter().filter_map(|run| run.entries.iter().map(|entry| entry.media_ns).min()).min()
    }
}

/// What to do with a file that was being written when its writer died.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    pub keep_bytes: usize,
    pub append: Vec<u8>,
}

/// How a run's file is made to hold what its sidecar says, and no more.
pub fn cut_run(run: &RunRow, bytes: &[u8]) -> Option<Cut> {
    match run.codec {
        CodecName::Opus => opus_file::salvage(bytes, run.packets_in_file())
            .map(|kept| Cut { keep_bytes: kept.keep_bytes, append: kept.ending }),
        CodecName::Pcmu | CodecName::Pcma => g711_file::salvage(bytes, run.packets_in_file())
            .map(|(keep_bytes, _)| Cut { keep_bytes, append: Vec::new() }),
    }
}

/// Where the consent log stands if `played` announcements are confirmed: the bytes to keep and the chain after them.
pub fn cut_consent(bytes: &[u8], played: usize) -> (usize, ConsentChain) {
    let log = consent::read(bytes);
    let is_played = |line: &consent::ConsentLine| matches!(line.event, ConsentEvent::Played { .. });
    let beyond = log.lines.iter().enumerate().filter(|(_, line)| is_played(line)).nth(played);
    let Some((index, _)) = beyond else { return (log.bytes, log.chain) };
    let keep = bytes.split_inclusive(|byte| *byte == b'\n').take(index).map(<[u8]>::len).sum();
    let kept = consent::read(bytes.get(..keep).unwrap_or_default());
    (kept.bytes, kept.chain)
}

/// What the segments of a dead recorder say about going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The number of the next segment.
    pub segment: u32,
    pub resume_after: u64,
    pub skip: BTreeSet<u64>,
    pub base: Option<Base>,
    pub tracks: Vec<(u16, Voice)>,
    pub packets: u64,
    pub chain: ConsentChain,
    /// Announcements whose facts may not have reached the outbox, with their segment.
    pub untold: Vec<(u32, Announced)>,
    /// The last segment that holds audio.
    pub last_with_audio: Option<u32>,
    pub closed: bool,
}

/// The Tap's clock, and the newest moment of it on the wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub clock: offhook_contract::BootId,
    /// When the Tap was opened: the zero of the recording.
    pub origin_ns: u64,
    pub media_ns: u64,
    pub wall: UnixMs,
}

impl Base {
    pub fn wall_of(&self, media_ns: u64) -> UnixMs {
        let later = media_ns.saturating_sub(self.media_ns) / 1_000_000;
        let earlier = self.media_ns.saturating_sub(media_ns) / 1_000_000;
        UnixMs(self.wall.0.saturating_add(later).saturating_sub(earlier))
    }
}

impl Recovered {
    /// `segments`: by number, those of which something was confirmed; `next`: the first number without a directory.
    pub fn from_segments(segments: &[SegmentRead], next: u32, chain: ConsentChain) -> Self {
        let last = segments.last();
        let told = segments.iter().map(|segment| segment.facts_told).max().unwrap_or(0);
        let untold = segments
            .iter()
            .flat_map(|segment| segment.announced.iter().map(|announced| (segment.opened.segment, *announced)))
            .filter(|(_, announced)| announced.number > told)
            .collect();
        let base = last.map(|segment| {
            let opened = &segment.opened;
            let newest = segment.clock_pairs.last().copied().unwrap_or((opened.media_ns, opened.wall));
            let origin_ns = segments.first().map_or(opened.media_ns, |first| first.opened.media_ns);
            Base { clock: opened.clock.clone(), origin_ns, media_ns: newest.0, wall: newest.1 }
        });
        let tracks: BTreeMap<u16, Voice> =
            segments.iter().flat_map(|segment| segment.tracks.iter().map(|(id, voice)| (*id, voice.clone()))).collect();
        Self {
            segment: next,
            resume_after: last.map_or(0, |segment| segment.through),
            skip: last.map(|segment| segment.also.clone()).unwrap_or_default(),
            base,
            tracks: tracks.into_iter().collect(),
            packets: segments.iter().map(SegmentRead::packets).sum(),
            chain,
            untold,
            last_with_audio: segments.iter().rev().find(|s| s.packets() > 0).map(|s| s.opened.segment),
            closed: last.is_some_and(|segment| segment.closed.is_some()),
        }
    }
}
