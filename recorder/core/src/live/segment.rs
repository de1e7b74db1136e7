//! The tracks of a segment and its sidecar, flushed together.
use super::track::{LiveTrack, Losses, Sink};
use crate::input::{CloseReason, Packet, TapInput, Voice};
use crate::recover::Announced;
use crate::timeline::{FILE_NAME, Opened, Record};
use offhook_contract::UnixMs;
use offhook_contract::fact::ConsentKind;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long accepted audio may wait for its write: half of the second that a death may cost.
pub const FLUSH_PERIOD: Duration = Duration::from_millis(500);
/// A room has that many tracks over its life at most; more are counted, not written.
const MAX_TRACKS: usize = 1_024;

/// Bytes for the end of a file in the segment's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub file: String,
    pub bytes: Vec<u8>,
}

/// What a segment begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentStart {
    pub opened: Opened,
    /// Tracks that were announced in earlier segments.
    pub tracks: Vec<(u16, Voice)>,
    /// Tap records after `opened.resume_after` that are on disk already.
    pub skip: BTreeSet<u64>,
}

/// One flush: file contents first, the sidecar last; they are to be written in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    pub appends: Vec<Append>,
    /// Packets among them.
    pub packets: u64,
}

#[derive(Debug)]
pub struct LiveSegment {
    tracks: BTreeMap<u16, LiveTrack>,
    voices: BTreeMap<u16, Voice>,
    skip: BTreeSet<u64>,
    records: Vec<Record>,
    runs: u32,
    handled: u64,
    through: u64,
    dirty_since: Option<Duration>,
    announcement: Option<(ConsentKind, u64)>,
    refused_tracks: u64,
    broken: bool,
}

impl LiveSegment {
    pub fn begin(start: SegmentStart) -> Self {
        let resume_after = start.opened.resume_after;
        let mut records = vec![Record::Opened(start.opened)];
        let mut segment = Self {
            tracks: BTreeMap::new(),
            voices: BTreeMap::new(),
            skip: start.skip,
            records: Vec::new(),
            runs: 0,
            handled: resume_after,
            through: resume_after,
            dirty_since: None,
            announcement: None,
            refused_tracks: 0,
            broken: false,
        };
        for (track, voice) in start.tracks {
            records.push(Record::Track { track, voice: voice.clone(), at_ns: 0 });
            segment.add_track(track, voice);
        }
        segment.records = records;
        segment
    }

    fn add_track(&mut self, track: u16, voice: Voice) -> bool {
        if self.tracks.contains_key(&track) {
            return false;
        }
        if self.tracks.len() >= MAX_TRACKS {
            self.refused_tracks += 1;
            return false;
        }
        self.tracks.insert(track, LiveTrack::new(track));
        self.voices.insert(track, voice);
        true
    }

    /// Takes the Tap's record `number`. Returns the announcement that it completed: kind, start and end, to be answered
    /// with [`Self::announced`].
    pub fn handle_record(
        &mut self,
        number: u64,
        input: &TapInput<'_>,
        now: Duration,
    ) -> Option<(ConsentKind, u64, u64)> {
        // Behind a hole in the numbers nothing is waited for, so that what is written ahead stays a short list.
        self.broken |= number > self.handled + 1;
        self.handled = self.handled.max(number);
        self.dirty_since.get_or_insert(now);
        if self.skip.remove(&number) {
            return None;
        }
        match input {
            TapInput::Packet(packet) => self.handle_packet(number, packet, now),
            TapInput::Track { track, voice, at_ns } => {
                if self.add_track(*track, voice.clone()) {
                    self.records.push(Record::Track { track: *track, voice: voice.clone(), at_ns: *at_ns });
                }
            }
            TapInput::TrackEnded { track, at_ns } => {
                self.records.push(Record::TrackEnded { track: *track, at_ns: *at_ns });
            }
            TapInput::AnnouncementStarted { kind, at_ns } => self.announcement = Some((*kind, *at_ns)),
            TapInput::AnnouncementEnded { kind, at_ns } => return Some(self.end_announcement(*kind, *at_ns)),
            TapInput::ClockPair { media_ns, wall } => self.clock_pair(*media_ns, *wall),
            TapInput::Gap { packets, first_ns, last_ns } => {
                let (packets, first_ns, last_ns) = (*packets, *first_ns, *last_ns);
                self.records.push(Record::Gap { packets, first_ns, last_ns });
            }
            TapInput::Closed { reason, at_ns } => self.close(*reason, *at_ns),
            TapInput::Hello { media_ns, wall, .. } => self.clock_pair(*media_ns, *wall),
        }
        None
    }

    fn handle_packet(&mut self, number: u64, packet: &Packet<'_>, now: Duration) {
        if let Some(track) = self.tracks.get_mut(&packet.track) {
            track.push(number, packet, now);
        } else {
            self.refused_tracks += 1;
        }
    }

    fn end_announcement(&mut self, kind: ConsentKind, at_ns: u64) -> (ConsentKind, u64, u64) {
        // Its beginning may have been in the segment before: then it began at the latest where this one knows of it.
        let started_ns = self.announcement.take().filter(|(begun, _)| *begun == kind).map_or(at_ns, |(_, ns)| ns);
        (kind, started_ns, at_ns)
    }

    pub fn announced(&mut self, announced: Announced) {
        let Announced { kind: announcement, started_ns, ended_ns, played, number } = announced;
        self.records.push(Record::Announcement { announcement, started_ns, ended_ns, played, number });
    }
    pub fn clock_pair(&mut self, media_ns: u64, wall: UnixMs) {
        self.records.push(Record::ClockPair { media_ns, wall });
    }
    pub fn facts_told(&mut self, through: u64) {
        self.records.push(Record::Reported { through });
    }
    pub fn close(&mut self, reason: CloseReason, at_ns: u64) {
        self.records.push(Record::Closed { reason, at_ns });
    }

    /// An announcement that has begun and not ended, for the next segment.
    pub fn open_announcement(&self) -> Option<(ConsentKind, u64)> {
        self.announcement
    }
    pub fn carry_announcement(&mut self, open: Option<(ConsentKind, u64)>) {
        self.announcement = open;
    }
    pub fn voices(&self) -> impl Iterator<Item = (u16, &Voice)> {
        self.voices.iter().map(|(track, voice)| (*track, voice))
    }
    /// The last Tap record taken.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    pub fn losses(&self) -> Losses {
        self.tracks.values().fold(Losses::default(), |mut sum, track| {
            sum.add(track.losses);
            sum
        })
    }

    /// When [`Self::flush`] is due.
    pub fn flush_due(&self) -> Option<Duration> {
        let full = self.tracks.values().any(LiveTrack::is_full);
        self.dirty_since.map(|since| if full { since } else { since + FLUSH_PERIOD })
    }

    /// Gives what can be written. With `last` everything is given and the files are ended.
    pub fn flush(&mut self, now: Duration, last: bool) -> Flushed {
        let mut files = Vec::new();
        let mut records = std::mem::take(&mut self.records);
        // `Closed` is the last word of a sidecar: packets go before it.
        let tail = records.iter().position(|r| matches!(r, Record::Closed { .. })).unwrap_or(records.len());
        let closed = records.split_off(tail);
        let mut sink = Sink { runs: &mut self.runs, files: &mut files, records: &mut records };
        for track in self.tracks.values_mut() {
            let all = last || self.broken || track.is_full();
            track.flush(now, all, &mut sink);
            if last {
                track.end_runs(&mut sink);
            }
        }
        self.broken = false;
        records.extend(closed);
        let packets = records.iter().map(packets_in).sum();
        records.push(self.progress());
        let waiting = self.tracks.values().any(|track| track.waiting().next().is_some());
        self.dirty_since = waiting.then_some(now);
        let mut sidecar = Vec::new();
        records.iter().for_each(|record| record.encode(&mut sidecar));
        files.push((FILE_NAME.to_owned(), sidecar));
        Flushed { appends: files.into_iter().map(|(file, bytes)| Append { file, bytes }).collect(), packets }
    }

    fn progress(&mut self) -> Record {
        let waiting: BTreeSet<u64> = self.tracks.values().flat_map(LiveTrack::waiting).collect();
        let through = waiting.first().map_or(self.handled, |oldest| oldest - 1);
        self.through = self.through.max(through.min(self.handled));
        // What an earlier segment wrote ahead stays written.
        let ahead = self.skip.iter().copied().filter(|number| *number > self.through);
        let since = (self.through + 1..=self.handled).filter(|number| !waiting.contains(number));
        let also: BTreeSet<u64> = ahead.chain(since).collect();
        Record::Progress { through: self.through, also: also.into_iter().collect() }
    }
}

fn packets_in(record: &Record) -> u64 {
    if let Record::Packets { entries, .. } = record { entries.len() as u64 } else { 0 }
}
