//! A core's Tap over the link crate's writer.
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{LegId, UnixMs};
use offhook_link::{Packet, Party, ReaderState, TapWriter, TrackId};
use offhook_sfu_core::{MediaNs, ReaderPresence, TapPacket, TapSink, TrackNumber};

pub struct LinkTap(pub TapWriter);

const fn id(track: TrackNumber) -> TrackId {
    TrackId(track.0)
}

impl TapSink for LinkTap {
    fn track(&mut self, track: TrackNumber, leg: Option<&LegId>, at: MediaNs) {
        let party = leg.map_or(Party::Announcer, |leg| Party::Leg(leg.clone()));
        self.0.track(id(track), &party, at.0);
    }
    fn packet(&mut self, packet: &TapPacket<'_>) {
        self.0.packet(&Packet {
            track: id(packet.track),
            media_ns: packet.at.0,
            codec: packet.codec,
            payload_type: packet.payload_type,
            marker: packet.marker,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            payload: packet.payload,
        });
    }
    fn track_ended(&mut self, track: TrackNumber, at: MediaNs) {
        self.0.track_ended(id(track), at.0);
    }
    fn announcement_started(&mut self, kind: ConsentKind, at: MediaNs) {
        self.0.announcement_started(kind, at.0);
    }
    fn announcement_ended(&mut self, kind: ConsentKind, at: MediaNs) {
        self.0.announcement_ended(kind, at.0);
    }
    fn clock_pair(&mut self, at: MediaNs, wall: UnixMs) {
        self.0.clock_pair(at.0, wall);
    }
    fn reader(&self) -> ReaderPresence {
        match self.0.reader() {
            ReaderState::Waiting => ReaderPresence::Waiting,
            ReaderState::Attached => ReaderPresence::Attached,
            ReaderState::Detached => ReaderPresence::Detached,
            ReaderState::Gone | ReaderState::Finished => ReaderPresence::Gone,
        }
    }
    fn close(self: Box<Self>, reason: TapCloseReason, at: MediaNs) {
        self.0.close(reason.into(), at.0);
    }
}
