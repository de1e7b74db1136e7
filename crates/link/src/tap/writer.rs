//! The media thread's end of a Tap.
use super::hub::Tap;
use super::record::{self, ClosedReason, MAX_PAYLOAD_BYTES, MAX_RECORD_BYTES, Packet, Party, TapRecord, TrackId};
use super::ring::Producer;
use super::session::ReaderState;
use offhook_contract::UnixMs;
use offhook_contract::fact::ConsentKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of the ring that packets leave free for the records that name tracks and times.
pub(super) const CONTROL_RESERVE_BYTES: usize = 4_096;

/// Numbers records and puts them into the ring. Never blocks, locks or allocates; what finds the ring full is
/// counted and told by a gap record as soon as there is room. Dropping it closes the Tap as abandoned.
#[derive(Debug)]
pub struct TapWriter {
    ring: Producer,
    scratch: Vec<u8>,
    number: u64,
    missed: Option<Missed>,
    tap: Arc<Tap>,
}

#[derive(Debug, Clone, Copy)]
struct Missed {
    from: u64,
    to: u64,
    packets: u64,
    first_ns: u64,
    last_ns: u64,
}

impl TapWriter {
    /// `last` is the number of the record that is already in the Tap (the hello).
    pub(super) fn new(ring: Producer, tap: Arc<Tap>, last: u64) -> Self {
        let scratch = Vec::with_capacity(2 * MAX_RECORD_BYTES);
        Self { ring, scratch, number: last, missed: None, tap }
    }

    /// `false`: it did not fit (the reader's side is stuck, or the payload is no audio packet) and was counted.
    pub fn packet(&mut self, packet: &Packet<'_>) -> bool {
        let fits = packet.payload.len() <= MAX_PAYLOAD_BYTES && self.tell_missed(CONTROL_RESERVE_BYTES);
        self.number += 1;
        if fits {
            self.scratch.clear();
            record::encode_packet(packet, self.number, &mut self.scratch);
            if self.ring.push(&self.scratch, CONTROL_RESERVE_BYTES) {
                return true;
            }
        }
        self.miss(1, packet.media_ns);
        self.tap.dropped_packets.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// A track begins; its packets follow.
    pub fn track(&mut self, track: TrackId, party: &Party, at_ns: u64) -> bool {
        self.control(at_ns, |number, out| record::encode_track(number, track, party, at_ns, out))
    }
    pub fn track_ended(&mut self, track: TrackId, at_ns: u64) -> bool {
        self.control(at_ns, |number, out| TapRecord::TrackEnded { track, at_ns }.encode(number, out))
    }
    pub fn announcement_started(&mut self, kind: ConsentKind, at_ns: u64) -> bool {
        self.control(at_ns, |number, out| TapRecord::AnnouncementStarted { kind, at_ns }.encode(number, out))
    }
    pub fn announcement_ended(&mut self, kind: ConsentKind, at_ns: u64) -> bool {
        self.control(at_ns, |number, out| TapRecord::AnnouncementEnded { kind, at_ns }.encode(number, out))
    }
    /// Every 10 s.
    pub fn clock_pair(&mut self, media_ns: u64, wall: UnixMs) -> bool {
        self.control(media_ns, |number, out| TapRecord::ClockPair { media_ns, wall }.encode(number, out))
    }
    /// The last record. Readers get everything up to it, then the end.
    pub fn close(mut self, reason: ClosedReason, at_ns: u64) {
        self.tap.set_close_reason(reason, at_ns);
        self.control(at_ns, |number, out| TapRecord::Closed { reason, at_ns }.encode(number, out));
    }

    /// Whether someone reads; a plain atomic load.
    pub fn reader(&self) -> ReaderState {
        self.tap.reader_state()
    }
    /// Packets that found the ring full.
    pub fn dropped_packets(&self) -> u64 {
        self.tap.dropped_packets.load(Ordering::Relaxed)
    }
    /// The number of the last record given.
    pub fn last_number(&self) -> u64 {
        self.number
    }

    fn control(&mut self, at_ns: u64, encode: impl FnOnce(u64, &mut Vec<u8>)) -> bool {
        let room = self.tell_missed(0);
        self.number += 1;
        if room {
            self.scratch.clear();
            encode(self.number, &mut self.scratch);
            if self.ring.push(&self.scratch, 0) {
                return true;
            }
        }
        self.miss(0, at_ns);
        false
    }

    fn miss(&mut self, packets: u64, ns: u64) {
        match &mut self.missed {
            Some(missed) => {
                missed.to = self.number;
                missed.packets += packets;
                missed.last_ns = ns;
            }
            None => {
                self.missed = Some(Missed { from: self.number, to: self.number, packets, first_ns: ns, last_ns: ns });
            }
        }
    }

    fn tell_missed(&mut self, reserve: usize) -> bool {
        let Some(Missed { from, to, packets, first_ns, last_ns }) = self.missed else { return true };
        self.scratch.clear();
        TapRecord::Gap { from, to, packets, first_ns, last_ns }.encode(to, &mut self.scratch);
        if !self.ring.push(&self.scratch, reserve) {
            return false;
        }
        self.missed = None;
        true
    }
}
