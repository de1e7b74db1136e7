//! The buffer itself: a fixed table of slots, kept by timestamp.

use std::time::Duration;

use super::{Arrival, Depth, FixedDepth, JitterCounters, Pull, Pushed};

/// Slots: one second of 20 ms packets.
const SLOTS: usize = 50;
/// Room kept in each slot from the start; a larger payload grows its slot once.
const SLOT_BYTES: usize = 320;
/// The largest payload taken.
const MAX_PAYLOAD: usize = 1_500;
/// A packet further than this from where the stream stands is a jump, in milliseconds.
const JUMP_MS: u32 = 1_000;
/// After this much concealment without a packet the stream is paused, in milliseconds.
const PAUSE_AFTER_MS: u32 = 100;
/// How far behind the last sequence number a packet may be and still be known for an old one.
const LAGGARDS: u16 = 100;
/// This many late packets in a row mean that the delay has grown for good.
const LATE_RUN: u32 = 4;

#[derive(Debug, Default)]
struct Slot {
    used: bool,
    sequence: u16,
    timestamp: u32,
    ticks: u32,
    payload_type: u8,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Playout {
    /// Nothing came yet, or nothing for a while.
    Paused,
    /// Packets wait until the depth is reached.
    Filling { until: Duration },
    /// `next` is the timestamp due at the next pull; `stretched` ticks of concealment were played while it was awaited.
    Playing { next: u32, stretched: u32, fresh: bool },
}

/// A packet far from the stream, kept until the next one tells what it was.
#[derive(Debug, Default)]
struct Candidate {
    held: bool,
    sequence: u16,
    ssrc: u32,
    slot: Slot,
}

/// See the [module](super) for what it does. `now` is time since any fixed moment.
#[derive(Debug)]
pub struct JitterBuffer<D: Depth = FixedDepth> {
    depth: D,
    clock_rate: u32,
    slots: Vec<Slot>,
    playout: Playout,
    candidate: Candidate,
    ssrc: Option<u32>,
    last_sequence: u16,
    last_ticks: u32,
    late_run: u32,
    /// Since when more than the tolerated depth stands in the buffer.
    deep_since: Option<Duration>,
    /// Arrival and timestamp of the stretch's first packet.
    anchor: (Duration, u32),
    counters: JitterCounters,
}

impl JitterBuffer<FixedDepth> {
    /// A buffer of fixed depth for a stream with this timestamp clock.
    pub fn fixed(clock_rate: u32, target: Duration) -> Self {
        Self::new(clock_rate, FixedDepth::new(target))
    }
}

impl<D: Depth> JitterBuffer<D> {
    pub fn new(clock_rate: u32, depth: D) -> Self {
        let slot = || Slot { bytes: Vec::with_capacity(SLOT_BYTES), ..Slot::default() };
        Self {
            depth,
            clock_rate: clock_rate.max(1_000),
            slots: (0..SLOTS).map(|_| slot()).collect(),
            playout: Playout::Paused,
            candidate: Candidate { slot: slot(), ..Candidate::default() },
            ssrc: None,
            last_sequence: 0,
            last_ticks: 0,
            late_run: 0,
            deep_since: None,
            anchor: (Duration::ZERO, 0),
            counters: JitterCounters::default(),
        }
    }

    pub const fn counters(&self) -> JitterCounters {
        self.counters
    }

    pub const fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// Forgets the stream; the next one may have another clock.
    pub fn reset(&mut self, clock_rate: u32) {
        self.clear();
        self.clock_rate = clock_rate.max(1_000);
        self.ssrc = None;
    }

    /// How much sound stands ready, in milliseconds.
    pub fn depth_ms(&self) -> u32 {
        let from = match self.playout {
            Playout::Playing { next, .. } => Some(next),
            _ => self.oldest().and_then(|i| self.slots.get(i)).map(|s| s.timestamp),
        };
        let end = self.newest().and_then(|i| self.slots.get(i)).map(|s| s.timestamp.wrapping_add(s.ticks));
        match (from, end) {
            (Some(from), Some(end)) => self.millis(ahead(end, from).max(0) as u32),
            _ => 0,
        }
    }

    /// Takes a packet as it came.
    pub fn push(&mut self, now: Duration, packet: &Arrival<'_>) -> Pushed {
        let outcome = self.place(now, packet);
        match outcome {
            Pushed::Stored => self.counters.stored += 1,
            Pushed::Restarted => {
                self.counters.stored += 1;
                self.counters.restarts += 1;
            }
            Pushed::Late => self.counters.late += 1,
            Pushed::Duplicate => self.counters.duplicate += 1,
            Pushed::Refused => self.counters.refused += 1,
            Pushed::Held => {}
        }
        outcome
    }

    fn place(&mut self, now: Duration, packet: &Arrival<'_>) -> Pushed {
        let second = self.clock_rate;
        if packet.payload.is_empty() || packet.payload.len() > MAX_PAYLOAD || !(1..=second).contains(&packet.ticks) {
            return Pushed::Refused;
        }
        let Some(reference) = self.reference() else {
            // After a pause anything starts a new stretch, except what lags behind the old one.
            let lags = self.last_sequence.wrapping_sub(packet.sequence) < LAGGARDS;
            return if self.ssrc == Some(packet.ssrc) && lags { Pushed::Late } else { self.restart(now, packet) };
        };
        let distance = ahead(packet.timestamp, reference);
        let jump = i64::from(JUMP_MS) * i64::from(self.clock_rate) / 1_000;
        if self.ssrc != Some(packet.ssrc) || distance.abs() > jump {
            return self.far(now, packet);
        }
        self.candidate.held = false;
        let offset = self.transit_offset(now, packet.timestamp);
        self.depth.arrived(now, offset);
        if distance < 0 {
            return self.behind(now, packet);
        }
        self.late_run = 0;
        self.store(packet)
    }

    /// Where the stream stands: the next timestamp to play, or the oldest one waiting.
    fn reference(&self) -> Option<u32> {
        match self.playout {
            Playout::Playing { next, .. } => Some(next),
            Playout::Filling { .. } => {
                // Reordering may bring a packet from before the first one.
                Some(self.anchor.1.wrapping_sub(self.ticks(self.depth.target())))
            }
            Playout::Paused => None,
        }
    }

    /// A packet of another source or far away: two in a row restart the stream, one alone is forgotten.
    fn far(&mut self, now: Duration, packet: &Arrival<'_>) -> Pushed {
        let follows_last = self.ssrc == Some(packet.ssrc) && packet.sequence == self.last_sequence.wrapping_add(1);
        let follows_held = self.candidate.held
            && self.candidate.ssrc == packet.ssrc
            && packet.sequence == self.candidate.sequence.wrapping_add(1);
        if follows_held {
            let first = std::mem::take(&mut self.candidate.slot);
            self.candidate.held = false;
            let earlier = Arrival {
                sequence: self.candidate.sequence,
                timestamp: first.timestamp,
                ssrc: packet.ssrc,
                payload_type: first.payload_type,
                ticks: first.ticks,
                payload: &first.bytes,
            };
            let outcome = self.restart(now, &earlier);
            self.candidate.slot = first;
            let near =
                ahead(packet.timestamp, self.candidate.slot.timestamp).unsigned_abs() <= u64::from(self.clock_rate);
            if near {
                self.store(packet);
                return outcome;
            }
            return self.restart(now, packet);
        }
        if follows_last {
            return self.restart(now, packet);
        }
        self.candidate.held = true;
        self.candidate.sequence = packet.sequence;
        self.candidate.ssrc = packet.ssrc;
        fill(&mut self.candidate.slot, packet);
        Pushed::Held
    }

    fn behind(&mut self, now: Duration, packet: &Arrival<'_>) -> Pushed {
        self.late_run += 1;
        if self.late_run < LATE_RUN || !self.is_empty() {
            return Pushed::Late;
        }
        // Every packet comes too late by the same amount: the path got longer, so the play-out moves back.
        self.restart(now, packet)
    }

    fn restart(&mut self, now: Duration, packet: &Arrival<'_>) -> Pushed {
        self.clear();
        self.ssrc = Some(packet.ssrc);
        self.last_sequence = packet.sequence;
        self.anchor = (now, packet.timestamp);
        self.playout = Playout::Filling { until: now + self.depth.target() };
        self.store(packet);
        Pushed::Restarted
    }

    fn store(&mut self, packet: &Arrival<'_>) -> Pushed {
        if self.slots.iter().any(|s| s.used && s.timestamp == packet.timestamp) {
            return Pushed::Duplicate;
        }
        let free = self.slots.iter().position(|s| !s.used).or_else(|| {
            self.counters.overflow += 1;
            self.oldest()
        });
        if let Some(slot) = free.and_then(|i| self.slots.get_mut(i)) {
            fill(slot, packet);
            slot.used = true;
        }
        if packet.sequence.wrapping_sub(self.last_sequence) < 0x8000 {
            self.last_sequence = packet.sequence;
        }
        Pushed::Stored
    }

    /// The next piece for the listener. The caller plays `ticks` of it before pulling again.
    pub fn pull(&mut self, now: Duration) -> Pull<'_> {
        if let Playout::Filling { until } = self.playout
            && now >= until
            && let Some(slot) = self.oldest().and_then(|i| self.slots.get(i))
        {
            self.playout = Playout::Playing { next: slot.timestamp, stretched: 0, fresh: true };
        }
        let Playout::Playing { next, stretched, fresh } = self.playout else { return Pull::Empty };
        let next = self.trim(now, next);
        let Some(index) = self.oldest() else { return self.starve(next, stretched, fresh) };
        let Some(slot) = self.slots.get(index) else { return Pull::Empty };
        let gap = ahead(slot.timestamp, next).max(0) as u32;
        // Concealment already played while waiting counts against the gap it covered.
        if gap > stretched {
            let unit = if self.last_ticks > 0 { self.last_ticks } else { self.clock_rate / 50 };
            let ticks = unit.min(gap - stretched).max(1);
            let step = ticks + if gap - stretched <= ticks { stretched } else { 0 };
            let left = if step > ticks { 0 } else { stretched };
            self.playout = Playout::Playing { next: next.wrapping_add(step), stretched: left, fresh };
            self.counters.concealed += 1;
            return Pull::Missing { ticks };
        }
        self.play(index, fresh)
    }

    fn play(&mut self, index: usize, fresh: bool) -> Pull<'_> {
        let Some(slot) = self.slots.get_mut(index) else { return Pull::Empty };
        slot.used = false;
        self.last_ticks = slot.ticks;
        self.counters.played += 1;
        let next = slot.timestamp.wrapping_add(slot.ticks);
        self.playout = Playout::Playing { next, stretched: 0, fresh: false };
        Pull::Frame {
            payload: &slot.bytes,
            payload_type: slot.payload_type,
            sequence: slot.sequence,
            timestamp: slot.timestamp,
            ticks: slot.ticks,
            restarted: fresh,
        }
    }

    /// Nothing is there: stretch the last sound for a while without moving on, then pause.
    fn starve(&mut self, next: u32, stretched: u32, fresh: bool) -> Pull<'_> {
        if self.millis(stretched) >= PAUSE_AFTER_MS {
            self.playout = Playout::Paused;
            self.late_run = 0;
            return Pull::Empty;
        }
        let ticks = if self.last_ticks > 0 { self.last_ticks } else { self.clock_rate / 50 };
        self.playout = Playout::Playing { next, stretched: stretched.saturating_add(ticks), fresh };
        self.counters.concealed += 1;
        Pull::Missing { ticks }
    }

    /// Skips one frame when too much has stood in the buffer for too long (clock drift, a burst after a stall).
    fn trim(&mut self, now: Duration, next: u32) -> u32 {
        let (extra, patience) = self.depth.tolerance();
        let allowed = (self.depth.target() + extra).as_millis() as u32;
        if self.depth_ms() <= allowed {
            self.deep_since = None;
            return next;
        }
        let since = *self.deep_since.get_or_insert(now);
        let too_deep = self.depth_ms() > allowed * 2;
        if now.saturating_sub(since) < patience && !too_deep {
            return next;
        }
        let Some(index) = self.oldest() else { return next };
        let Some(slot) = self.slots.get_mut(index) else { return next };
        slot.used = false;
        self.deep_since = if too_deep { self.deep_since } else { None };
        self.counters.skipped += 1;
        slot.timestamp.wrapping_add(slot.ticks)
    }

    fn clear(&mut self) {
        self.slots.iter_mut().for_each(|s| s.used = false);
        self.playout = Playout::Paused;
        self.candidate.held = false;
        self.late_run = 0;
        self.last_ticks = 0;
        self.deep_since = None;
    }

    fn is_empty(&self) -> bool {
        self.slots.iter().all(|s| !s.used)
    }

    fn oldest(&self) -> Option<usize> {
        self.extreme(|a, b| ahead(a, b) < 0)
    }

    fn newest(&self) -> Option<usize> {
        self.extreme(|a, b| ahead(a, b) > 0)
    }

    fn extreme(&self, better: impl Fn(u32, u32) -> bool) -> Option<usize> {
        let mut best: Option<(usize, u32)> = None;
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, s)| s.used) {
            if best.is_none_or(|(_, timestamp)| better(slot.timestamp, timestamp)) {
                best = Some((index, slot.timestamp));
            }
        }
        best.map(|(index, _)| index)
    }

    fn ticks(&self, time: Duration) -> u32 {
        (time.as_millis() as u64 * u64::from(self.clock_rate) / 1_000) as u32
    }

    fn millis(&self, ticks: u32) -> u32 {
        (u64::from(ticks) * 1_000 / u64::from(self.clock_rate)) as u32
    }

    fn transit_offset(&self, now: Duration, timestamp: u32) -> i64 {
        let elapsed = now.saturating_sub(self.anchor.0).as_millis() as i64;
        elapsed - ahead(timestamp, self.anchor.1) * 1_000 / i64::from(self.clock_rate)
    }
}

/// How far `a` lies after `b` on the circle of timestamps.
fn ahead(a: u32, b: u32) -> i64 {
    i64::from(a.wrapping_sub(b) as i32)
}

fn fill(slot: &mut Slot, packet: &Arrival<'_>) {
    slot.sequence = packet.sequence;
    slot.timestamp = packet.timestamp;
    slot.ticks = packet.ticks;
    slot.payload_type = packet.payload_type;
    slot.bytes.clear();
    slot.bytes.extend_from_slice(packet.payload);
}
