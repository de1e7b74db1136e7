//! A track while it is written: packets in order of their sequence, late ones waited for, runs begun and ended.
use super::run::{Queued, Run};
use crate::input::Packet;
use crate::timeline::{Record, run_file_name};
use offhook_contract::CodecName;
use offhook_media::Codec;
use std::time::Duration;

/// How long a hole in the sequence holds back what came after it: a repair takes two round trips at most.
const REPAIR_PATIENCE: Duration = Duration::from_millis(250);
/// RFC 3550 appendix A.1: a larger jump is a sender that started anew.
const MAX_DROPOUT: i64 = 3_000;
/// Files that a track may begin in a segment, and all tracks together: more than a day of meetings with silences needs.
/// A sender that leaps again and again in time, or changes its codec with every packet, goes on in its last file of
/// each codec; nothing of it is lost.
const MAX_TRACK_RUNS: u32 = 64;
const MAX_SEGMENT_RUNS: u32 = 2_048;
/// What one track may hold back: a quarter of a second of packets of 2.5 ms, and some.
const MAX_PENDING: usize = 512;

/// Packets that are in the Tap but not in a file, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Losses {
    /// The sequence says they existed; the SFU never got them.
    pub missing: u64,
    pub duplicate: u64,
    /// Came after their place was given up.
    pub late: u64,
    /// No packet of the codec it claims.
    pub malformed: u64,
}

impl Losses {
    pub fn add(&mut self, other: Self) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.malformed += other.malformed;
    }
}

#[derive(Debug)]
struct Pending {
    seen: Duration,
    packet: Queued,
}

#[derive(Debug, Clone, Copy)]
struct Written {
    era: u32,
    sequence: i64,
    codec: CodecName,
}

#[derive(Debug)]
pub(super) struct LiveTrack {
    id: u16,
    /// The running one; once the track may begin no more files, the last of each codec.
    runs: Vec<Run>,
    begun: u32,
    /// The last packet written.
    last: Option<Written>,
    pending: Vec<Pending>,
    /// The newest sequence number, unwrapped, and the sender's era.
    newest: Option<i64>,
    era: u32,
    pub losses: Losses,
}

pub(super) const fn media_codec(codec: CodecName) -> Codec {
    match codec {
        CodecName::Opus => Codec::Opus,
        CodecName::Pcmu => Codec::Pcmu,
        CodecName::Pcma => Codec::Pcma,
    }
}

/// Where a flush puts what it has.
pub(super) struct Sink<'a> {
    pub runs: &'a mut u32,
    pub files: &'a mut Vec<(String, Vec<u8>)>,
    pub records: &'a mut Vec<Record>,
}

impl LiveTrack {
    pub(super) fn new(id: u16) -> Self {
        let (runs, pending) = (Vec::new(), Vec::new());
        Self { id, runs, begun: 0, last: None, pending, newest: None, era: 0, losses: Losses::default() }
    }

    /// Whether the packet waits to be written.
    pub(super) fn push(&mut self, number: u64, packet: &Packet<'_>, now: Duration) -> bool {
        let Some(ticks) = media_codec(packet.codec).payload_ticks(packet.payload) else {
            self.losses.malformed += 1;
            return false;
        };
        let sequence = self.unwrap_sequence(packet.sequence);
        let queued = Queued {
            number,
            media_ns: packet.media_ns,
            codec: packet.codec,
            era: self.era,
            sequence,
            timestamp: packet.timestamp,
            ticks,
            payload: packet.payload.into(),
        };
        self.pending.push(Pending { seen: now, packet: queued });
        true
    }

    fn unwrap_sequence(&mut self, wire: u16) -> i64 {
        let Some(newest) = self.newest else {
            self.newest = Some(i64::from(wire));
            return i64::from(wire);
        };
        let known = u16::try_from(newest.rem_euclid(65_536)).unwrap_or(0);
        let step = i64::from(wire.wrapping_sub(known).cast_signed());
        if step.abs() > MAX_DROPOUT {
            self.era += 1;
            self.newest = Some(i64::from(wire));
            return i64::from(wire);
        }
        self.newest = Some(newest.max(newest + step));
        newest + step
    }

    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_PENDING
    }

    /// The numbers of the records that still wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|pending| pending.packet.number)
    }

    /// Writes what is in order; with `all`, everything.
    pub(super) fn flush(&mut self, now: Duration, all: bool, sink: &mut Sink<'_>) {
        self.pending.sort_by_key(|pending| (pending.packet.era, pending.packet.sequence));
        let mut done = 0;
        while let Some(Pending { seen, packet }) = self.pending.get(done) {
            let hole = self.last.is_some_and(|last| {
                last.era == packet.era && last.codec == packet.codec && packet.sequence > last.sequence + 1
            });
            if hole && !all && now.saturating_sub(*seen) < REPAIR_PATIENCE {
                break;
            }
            let packet = packet.clone();
            self.write(&packet, sink);
            done += 1;
        }
        self.pending.drain(..done);
        for run in &mut self.runs {
            run.settle();
            put_run(run, sink);
        }
    }

    fn write(&mut self, packet: &Queued, sink: &mut Sink<'_>) {
        if let Some(last) = self.last
            && last.era == packet.era
        {
            let step = packet.sequence - last.sequence;
            match step {
                0 => self.losses.duplicate += 1,
                ..0 => self.losses.late += 1,
                _ => self.losses.missing += step.unsigned_abs() - 1,
            }
            if step <= 0 {
                return;
            }
        }
        self.last = Some(Written { era: packet.era, sequence: packet.sequence, codec: packet.codec });
        let index = self.run_for(packet, sink);
        if let Some(run) = self.runs.get_mut(index) {
            run.write(packet);
        }
    }

    /// Which of the runs the packet goes into; begins one if none can take it.
    fn run_for(&mut self, packet: &Queued, sink: &mut Sink<'_>) -> usize {
        let used_up = self.begun >= MAX_TRACK_RUNS || *sink.runs >= MAX_SEGMENT_RUNS;
        let fits = |run: &Run| run.codec == packet.codec && (used_up || run.takes(packet));
        if let Some(index) = self.runs.iter().position(fits) {
            return index;
        }
        if !used_up {
            self.end_runs(sink);
        }
        let number = *sink.runs;
        *sink.runs += 1;
        self.begun += 1;
        let file = run_file_name(self.id, number, packet.codec);
        sink.records.push(Record::Run { run: number, track: self.id, codec: packet.codec });
        self.runs.push(Run::begin(number, self.id, file, packet));
        self.runs.len() - 1
    }

    /// Ends the files of the running runs.
    pub(super) fn end_runs(&mut self, sink: &mut Sink<'_>) {
        for mut run in self.runs.drain(..) {
            run.finish();
            put_run(&mut run, sink);
        }
    }
}

fn put_run(run: &mut Run, sink: &mut Sink<'_>) {
    if !run.bytes.is_empty() {
        sink.files.push((run.file.clone(), std::mem::take(&mut run.bytes)));
    }
    if !run.entries.is_empty() {
        sink.records.push(Record::Packets { run: run.number, entries: std::mem::take(&mut run.entries) });
    }
}
