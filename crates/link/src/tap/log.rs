//! The last seconds of a Tap, pure: what the writer's ring delivered, kept for a reader that comes (back) with
//! `resume after record n`. Bounded in time and bytes; what is dropped becomes a gap in front of what remains, but
//! the records that name the Tap and its tracks stay.
use super::record::{self, KIND_GAP, KIND_PACKET, TapRecord};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many naming records outlive their time; beyond it the oldest fall into the gap as well.
const KEPT_RECORDS: usize = 512;

#[derive(Debug, Clone, Copy)]
pub(super) struct LogLimits {
    pub age: Duration,
    pub bytes: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    kind: u8,
    at: Duration,
    bytes: Arc<[u8]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lost {
    from: u64,
    to: u64,
    packets: u64,
    first_ns: u64,
    last_ns: u64,
}

impl Lost {
    fn join(&mut self, later: Self) {
        self.to = later.to;
        if self.packets == 0 {
            self.first_ns = later.first_ns;
            self.last_ns = later.last_ns;
        } else if later.packets > 0 {
            self.last_ns = later.last_ns;
        }
        self.packets = self.packets.saturating_add(later.packets);
    }
}

/// What stands before the recent records.
#[derive(Debug)]
enum Old {
    Kept { number: u64, bytes: Arc<[u8]> },
    Lost(Lost),
}

impl Old {
    fn last(&self) -> u64 {
        match self {
            Self::Kept { number, .. } => *number,
            Self::Lost(lost) => lost.to,
        }
    }
}

#[derive(Debug)]
pub(super) struct TapLog {
    limits: LogLimits,
    old: VecDeque<Old>,
    recent: VecDeque<Entry>,
    bytes: usize,
    kept: usize,
    last: u64,
    closed: bool,
}

impl TapLog {
    pub(super) fn new(limits: LogLimits) -> Self {
        Self { limits, old: VecDeque::new(), recent: VecDeque::new(), bytes: 0, kept: 0, last: 0, closed: false }
    }

    /// Bytes that are no record, or out of order, are ignored: the writer is ours.
    pub(super) fn append(&mut self, bytes: &[u8], now: Duration) {
        let Some((number, kind)) = record::peek(bytes) else { return };
        if number <= self.last || self.closed {
            return;
        }
        self.last = number;
        self.closed = record::is_closed(kind);
        self.bytes += bytes.len();
        self.recent.push_back(Entry { number, kind, at: now, bytes: bytes.into() });
        self.trim(now);
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The closing record is in.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Drops what is too old or too much.
    pub(super) fn trim(&mut self, now: Duration) {
        while let Some(oldest) = self.recent.front() {
            let fresh = now.saturating_sub(oldest.at) <= self.limits.age && self.bytes <= self.limits.bytes;
            if fresh || record::is_closed(oldest.kind) {
                return;
            }
            if let Some(entry) = self.recent.pop_front() {
                self.bytes = self.bytes.saturating_sub(entry.bytes.len());
                self.retire(entry);
            }
        }
    }

    fn retire(&mut self, entry: Entry) {
        if record::is_kept(entry.kind) {
            self.kept += 1;
            self.old.push_back(Old::Kept { number: entry.number, bytes: entry.bytes });
            if self.kept > KEPT_RECORDS {
                self.forget_oldest_kept();
            }
            return;
        }
        let lost = lost_of(&entry);
        match self.old.back_mut() {
            Some(Old::Lost(before)) => before.join(lost),
            _ => self.old.push_back(Old::Lost(lost)),
        }
    }

    /// Turns the oldest kept record but the very first one into a part of the gap around it.
    fn forget_oldest_kept(&mut self) {
        let found = self.old.iter().position(|old| matches!(old, Old::Kept { number, .. } if *number != 1));
        let Some(at) = found else { return };
        let Some(Old::Kept { number, .. }) = self.old.remove(at) else { return };
        self.kept -= 1;
        let mut lost = Lost { from: number, to: number, packets: 0, first_ns: 0, last_ns: 0 };
        if let Some(Old::Lost(after)) = self.old.get(at) {
            lost.join(*after);
            self.old.remove(at);
        }
        match at.checked_sub(1).and_then(|before| self.old.get_mut(before)) {
            Some(Old::Lost(before)) => before.join(lost),
            _ => self.old.insert(at, Old::Lost(lost)),
        }
    }

    /// Up to `limit` records after `cursor`, oldest first, into `out`; the number of the last one.
    pub(super) fn read(&self, cursor: u64, limit: usize, out: &mut Vec<Arc<[u8]>>) -> u64 {
        let mut cursor = cursor;
        let before = out.len();
        let start = self.old.partition_point(|old| old.last() <= cursor);
        for old in self.old.range(start..) {
            if out.len() - before >= limit {
                return cursor;
            }
            match old {
                Old::Kept { bytes, .. } => out.push(Arc::clone(bytes)),
                Old::Lost(lost) => out.push(gap_after(*lost, cursor)),
            }
            cursor = old.last();
        }
        let start = self.recent.partition_point(|entry| entry.number <= cursor);
        for entry in self.recent.range(start..).take(limit.saturating_sub(out.len() - before)) {
            out.push(Arc::clone(&entry.bytes));
            cursor = entry.number;
        }
        cursor
    }
}

fn lost_of(entry: &Entry) -> Lost {
    let mut lost = Lost { from: entry.number, to: entry.number, packets: 0, first_ns: 0, last_ns: 0 };
    if entry.kind == KIND_PACKET {
        let ns = record::peek_packet_ns(&entry.bytes).unwrap_or(0);
        lost = Lost { packets: 1, first_ns: ns, last_ns: ns, ..lost };
    } else if entry.kind == KIND_GAP
        && let Ok((_, TapRecord::Gap { from, to, packets, first_ns, last_ns })) = TapRecord::decode(&entry.bytes)
    {
        lost = Lost { from, to, packets, first_ns, last_ns };
    }
    lost
}

/// The gap as one sees it who already has everything up to `cursor`.
fn gap_after(lost: Lost, cursor: u64) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(64);
    let from = lost.from.max(cursor.saturating_add(1)).min(lost.to);
    let Lost { to, packets, first_ns, last_ns, .. } = lost;
    TapRecord::Gap { from, to, packets: packets.min(to - from + 1), first_ns, last_ns }.encode(to, &mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tap::record::{ClosedReason, Packet, Party, TrackId};
    use offhook_contract::CodecName;

    const SECOND: Duration = Duration::from_secs(1);

    fn log() -> TapLog {
        TapLog::new(LogLimits { age: 10 * SECOND, bytes: 1 << 20 })
    }

    fn packet(log: &mut TapLog, number: u64, now: Duration) {
        let mut bytes = Vec::new();
        let packet = Packet {
            track: TrackId(1),
            media_ns: u64::try_from(now.as_nanos()).unwrap(),
            codec: CodecName::Pcmu,
            payload_type: 0,
            marker: false,
            sequence: 0,
            timestamp: 0,
            payload: &[0xff; 160],
        };
        TapRecord::Packet(packet).encode(number, &mut bytes);
        log.append(&bytes, now);
    }

    fn track(log: &mut TapLog, number: u64, now: Duration) {
        let mut bytes = Vec::new();
        TapRecord::Track { track: TrackId(1), party: Party::Announcer, at_ns: 0 }.encode(number, &mut bytes);
        log.append(&bytes, now);
    }

    fn numbers(log: &TapLog, after: u64) -> Vec<String> {
        let mut out = Vec::new();
        log.read(after, 10_000, &mut out);
        let name = |bytes: &Arc<[u8]>| match TapRecord::decode(bytes).unwrap() {
            (_, TapRecord::Gap { from, to, packets, .. }) => format!("gap {from}-{to} ({packets})"),
            (n, TapRecord::Track { .. }) => format!("track {n}"),
            (n, TapRecord::Closed { .. }) => format!("closed {n}"),
            (n, _) => format!("{n}"),
        };
        out.iter().map(name).collect()
    }

    #[test]
    fn a_reader_resumes_after_the_record_it_has_and_misses_nothing() {
        let mut log = log();
        (1..=5).for_each(|n| packet(&mut log, n, SECOND));
        assert_eq!(numbers(&log, 3), ["4", "5"]);
        assert_eq!(numbers(&log, 5), Vec::<String>::new());
    }

    #[test]
    fn what_is_older_than_ten_seconds_stands_as_a_gap_but_tracks_keep_their_names() {
        let mut log = log();
        track(&mut log, 1, SECOND);
        (2..=3).for_each(|n| packet(&mut log, n, SECOND));
        track(&mut log, 4, SECOND);
        packet(&mut log, 5, SECOND);
        packet(&mut log, 6, 11 * SECOND);
        packet(&mut log, 7, 12 * SECOND);
        assert_eq!(numbers(&log, 0), ["track 1", "gap 2-3 (2)", "track 4", "gap 5-5 (1)", "6", "7"]);
        assert_eq!(numbers(&log, 2), ["gap 3-3 (1)", "track 4", "gap 5-5 (1)", "6", "7"]);
    }

    #[test]
    fn bytes_are_bounded_as_well_as_time() {
        let mut log = TapLog::new(LogLimits { age: 10 * SECOND, bytes: 2_000 });
        (1..=100).for_each(|n| packet(&mut log, n, SECOND));
        assert!(log.bytes <= 2_000);
        let seen = numbers(&log, 0);
        assert!(seen[0].starts_with("gap 1-"), "{seen:?}");
        assert_eq!(seen.last().unwrap(), "100");
    }

    #[test]
    fn naming_records_are_bounded_too() {
        let mut log = TapLog::new(LogLimits { age: SECOND, bytes: 1 << 20 });
        (1..=2_000).for_each(|n| if n % 2 == 1 { track(&mut log, n, SECOND) } else { packet(&mut log, n, SECOND) });
        log.trim(5 * SECOND);
        assert!(log.old.len() <= 2 * KEPT_RECORDS + 2, "{}", log.old.len());
        let mut after = 0;
        let mut out = Vec::new();
        log.read(0, 10_000, &mut out);
        for bytes in &out {
            let (number, record) = TapRecord::decode(bytes).unwrap();
            let from = if let TapRecord::Gap { from, .. } = record { from } else { number };
            assert_eq!(from, after + 1, "no number is missing or told twice");
            after = number;
        }
        assert_eq!(after, 2_000);
    }

    #[test]
    fn the_closing_record_is_never_dropped() {
        let mut log = log();
        packet(&mut log, 1, SECOND);
        let mut bytes = Vec::new();
        TapRecord::Closed { reason: ClosedReason::Requested, at_ns: 0 }.encode(2, &mut bytes);
        log.append(&bytes, SECOND);
        packet(&mut log, 3, SECOND);
        log.trim(60 * SECOND);
        assert_eq!(numbers(&log, 0), ["gap 1-1 (1)", "closed 2"]);
        assert!(log.is_closed());
    }

    #[test]
    fn a_reader_takes_the_log_in_portions() {
        let mut log = log();
        (1..=5).for_each(|n| packet(&mut log, n, SECOND));
        let mut out = Vec::new();
        assert_eq!(log.read(0, 2, &mut out), 2);
        assert_eq!(log.read(2, 2, &mut out), 4);
        assert_eq!(out.len(), 4);
    }
}
