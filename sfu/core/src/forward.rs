//! The path of a media packet: from its sender's address through SRTP to every listener's slot.
use crate::command::News;
use crate::leg::{Leg, LegKey, Sending, Unsent};
use crate::room::RoomKey;
use crate::shard::Shard;
use crate::source::{Accepted, Refused};
use crate::tap::{TapPacket, TrackNumber};
use crate::time::MediaNs;
use offhook_contract::LegId;
use offhook_contract::event::SlotChanged;
use offhook_contract::sfu::RoomKind;
use offhook_wire_rtp::RtpPacket;
use offhook_wire_srtp::SrtpError;
use std::net::SocketAddr;

/// The SSRC of an RTP packet, or of an RTCP packet's sender.
fn word_at(datagram: &[u8], at: usize) -> Option<u32> {
    datagram.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

pub fn rtp_ssrc(datagram: &[u8]) -> Option<u32> {
    word_at(datagram, 8)
}

pub fn rtcp_sender(datagram: &[u8]) -> Option<u32> {
    word_at(datagram, 4)
}

impl Shard {
    pub(crate) fn handle_rtp(&mut self, now: MediaNs, from: SocketAddr, datagram: &mut [u8]) {
        let Some(key) = self.register.by_address(from, || rtp_ssrc(datagram)) else {
            self.counters.dropped_unknown_source += 1;
            return;
        };
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(media) = leg.media.as_mut() else {
            self.counters.dropped_unauthenticated += 1;
            return;
        };
        let len = match media.inbound.unprotect_rtp(datagram) {
            Ok(len) => len,
            Err(error) => return self.count_srtp(error),
        };
        let Some(Ok(packet)) = datagram.get(..len).map(RtpPacket::parse) else {
            self.counters.dropped_unknown += 1;
            return;
        };
        let accepted = match leg.source.accept(now, &packet) {
            Ok(accepted) => accepted,
            Err(refused) => return self.count_refused(refused),
        };
        if !leg.is_audible() {
            return;
        }
        let payload = packet.payload();
        let room = leg.room;
        self.copy_to_tap(now, key, room, &accepted, payload);
        if accepted.heard {
            self.fan_out(now, key, room, &accepted, payload);
        } else {
            self.counters.dropped_late += 1;
        }
    }

    pub(crate) const fn count_srtp(&mut self, error: SrtpError) {
        match error {
            SrtpError::Replayed | SrtpError::TooOld => self.counters.dropped_replayed += 1,
            SrtpError::TooManySources { .. } => self.counters.dropped_source_limit += 1,
            _ => self.counters.dropped_unauthenticated += 1,
        }
    }

    const fn count_refused(&mut self, refused: Refused) {
        match refused {
            Refused::Oversized => self.counters.dropped_oversized += 1,
            Refused::PayloadType => self.counters.dropped_payload_type += 1,
            Refused::Rate => self.counters.dropped_rate += 1,
            Refused::SourceLimit => self.counters.dropped_source_limit += 1,
        }
    }

    fn copy_to_tap(&mut self, now: MediaNs, key: LegKey, room: RoomKey, accepted: &Accepted, payload: &[u8]) {
        let Some(tap) = self.rooms.get_mut(room).and_then(|room| room.tap.as_mut()) else { return };
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Some(stream) = leg.source.streams.get_mut(accepted.stream) else { return };
        let packet = TapPacket {
            track: TrackNumber(0),
            at: now,
            codec: accepted.frame.codec,
            payload_type: accepted.payload_type,
            marker: accepted.frame.marker,
            sequence: accepted.frame.sequence,
            timestamp: accepted.frame.timestamp,
            payload,
        };
        tap.packet(now, &leg.id, &mut stream.track, packet);
    }

    fn fan_out(&mut self, now: MediaNs, speaker: LegKey, room: RoomKey, accepted: &Accepted, payload: &[u8]) {
        let Some(source_id) = self.legs.get(speaker).map(|leg| leg.source_id) else { return };
        let Some(room_of) = self.rooms.get(room) else { return };
        let sending = Sending { frame: &accepted.frame, level: accepted.level, speaker: source_id, payload };
        let echo = room_of.kind == RoomKind::Echo;
        let listeners = room_of.legs.len();
        for at in 0..listeners {
            // Looked up anew each time, so that a slot's new tenant can be told in between.
            let Some(&listener) = self.rooms.get(room).and_then(|room| room.legs.get(at)) else { return };
            if (listener == speaker) != echo {
                continue;
            }
            let Some(leg) = self.legs.get_mut(listener) else { continue };
            if leg.held || !leg.is_connected() {
                continue;
            }
            let (index, new) = match slot_for(leg, speaker) {
                Some(found) => found,
                None => {
                    self.counters.unheard_no_slot += 1;
                    continue;
                }
            };
            match leg.send_on_slot(&mut self.egress, now, listener.index() as u32, index, &sending) {
                Ok(()) => self.counters.forwarded_packets += 1,
                Err(Unsent::Codec) => {
                    self.counters.unheard_codec += 1;
                    continue;
                }
                Err(Unsent::Late) => self.counters.dropped_late += 1,
                Err(Unsent::Full | Unsent::NotConnected) => {
                    self.counters.dropped_egress_full += 1;
                    continue;
                }
            }
            if new {
                self.take_slot(now, room, listener, index, speaker);
            }
        }
    }

    fn take_slot(&mut self, now: MediaNs, room: RoomKey, listener: LegKey, index: usize, speaker: LegKey) {
        if let Some(slot) = self.legs.get_mut(listener).and_then(|leg| leg.ears.slots.get_mut(index)) {
            slot.speaker = Some(speaker);
            slot.tail = 0;
        }
        self.tell_slot(now, room, listener, index, Some(speaker));
    }

    pub(crate) fn tell_slot(
        &mut self,
        now: MediaNs,
        room: RoomKey,
        listener: LegKey,
        index: usize,
        speaker: Option<LegKey>,
    ) {
        let name = |key: LegKey| self.legs.get(key).map(|leg| LegId::clone(&leg.id));
        let (Some(listener), Some(id)) = (name(listener), self.rooms.get(room).map(|room| room.id.clone())) else {
            return;
        };
        let speaker = speaker.and_then(name);
        let slot = index as u8;
        self.tell_room(now, room, News::SlotChanged(SlotChanged { room: id, listener, slot, speaker }));
    }
}

/// The slot in which `speaker` stands, or the first free one (then `true`): slots fill in order of arrival. A slot
/// that just fell silent is taken last, so that its silence is heard.
fn slot_for(leg: &Leg, speaker: LegKey) -> Option<(usize, bool)> {
    let slots = &leg.ears.slots;
    if let Some(index) = slots.iter().position(|slot| slot.speaker == Some(speaker)) {
        return Some((index, false));
    }
    let free = |resting: bool| slots.iter().position(|slot| slot.speaker.is_none() && (slot.tail > 0) == resting);
    free(false).or_else(|| free(true)).map(|index| (index, true))
}
