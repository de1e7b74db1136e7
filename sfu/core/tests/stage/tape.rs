//! A Tap's sink that keeps everything, and the recorder's hand on it.
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{CodecName, LegId, UnixMs};
use offhook_sfu_core::{MediaNs, ReaderPresence, TapPacket, TapSink, TrackNumber};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taped {
    Track { track: TrackNumber, leg: Option<LegId> },
    Packet { track: TrackNumber, at: MediaNs, codec: CodecName, sequence: u16, timestamp: u32, payload: Vec<u8> },
    TrackEnded(TrackNumber),
    Started(ConsentKind, MediaNs),
    Ended(ConsentKind, MediaNs),
    ClockPair(MediaNs, UnixMs),
    Closed(TapCloseReason, MediaNs),
}

struct Shared {
    taped: Vec<Taped>,
    presence: ReaderPresence,
}

pub struct Tape(Arc<Mutex<Shared>>);

#[derive(Clone)]
pub struct TapeReader(Arc<Mutex<Shared>>);

impl Tape {
    pub fn new() -> (Self, TapeReader) {
        let shared = Arc::new(Mutex::new(Shared { taped: Vec::new(), presence: ReaderPresence::Waiting }));
        (Self(Arc::clone(&shared)), TapeReader(shared))
    }

    fn put(&self, taped: Taped) {
        self.0.lock().unwrap().taped.push(taped);
    }
}

impl TapeReader {
    pub fn attach(&self) {
        self.0.lock().unwrap().presence = ReaderPresence::Attached;
    }
    pub fn detach(&self) {
        self.0.lock().unwrap().presence = ReaderPresence::Detached;
    }
    pub fn taped(&self) -> Vec<Taped> {
        self.0.lock().unwrap().taped.clone()
    }
    pub fn closed(&self) -> Option<TapCloseReason> {
        self.taped().iter().find_map(|taped| match taped {
            Taped::Closed(reason, _) => Some(*reason),
            _ => None,
        })
    }
    /// The track of a leg, or the Announcer's.
    pub fn track(&self, leg: Option<&str>) -> Option<TrackNumber> {
        self.taped().iter().find_map(|taped| match taped {
            Taped::Track { track, leg: of } if of.as_ref().map(LegId::as_str) == leg => Some(*track),
            _ => None,
        })
    }
    /// Moments and payloads of one track.
    pub fn packets(&self, track: TrackNumber) -> Vec<(MediaNs, Vec<u8>)> {
        let of_track = |taped: Taped| match taped {
            Taped::Packet { track: of, at, payload, .. } if of == track => Some((at, payload)),
            _ => None,
        };
        self.taped().into_iter().filter_map(of_track).collect()
    }
    /// When announcements of a kind began.
    pub fn started(&self, kind: ConsentKind) -> Vec<MediaNs> {
        let of_kind = |taped: Taped| match taped {
            Taped::Started(of, at) if of == kind => Some(at),
            _ => None,
        };
        self.taped().into_iter().filter_map(of_kind).collect()
    }
}

impl TapSink for Tape {
    fn track(&mut self, track: TrackNumber, leg: Option<&LegId>, _: MediaNs) {
        self.put(Taped::Track { track, leg: leg.cloned() });
    }
    fn packet(&mut self, packet: &TapPacket<'_>) {
        let TapPacket { track, at, codec, sequence, timestamp, payload, .. } = *packet;
        self.put(Taped::Packet { track, at, codec, sequence, timestamp, payload: payload.to_vec() });
    }
    fn track_ended(&mut self, track: TrackNumber, _: MediaNs) {
        self.put(Taped::TrackEnded(track));
    }
    fn announcement_started(&mut self, kind: ConsentKind, at: MediaNs) {
        self.put(Taped::Started(kind, at));
    }
    fn announcement_ended(&mut self, kind: ConsentKind, at: MediaNs) {
        self.put(Taped::Ended(kind, at));
    }
    fn clock_pair(&mut self, at: MediaNs, wall: UnixMs) {
        self.put(Taped::ClockPair(at, wall));
    }
    fn reader(&self) -> ReaderPresence {
        self.0.lock().unwrap().presence
    }
    fn close(self: Box<Self>, reason: TapCloseReason, at: MediaNs) {
        self.put(Taped::Closed(reason, at));
    }
}
