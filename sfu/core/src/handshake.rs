//! DTLS of a browser: taken from addresses that passed a check, until it gives the keys of the media.
use crate::command::News;
use crate::dtls::{DtlsEvent, DtlsFailure, HANDSHAKE_LIMIT, Keys, profile_name};
use crate::egress::DATAGRAM_MAX;
use crate::leg::{Handshake, Leg, LegKey, Media, Transport};
use crate::shard::{Shard, Timer};
use crate::time::MediaNs;
use offhook_contract::event::PeerConnected;
use offhook_contract::{HangupCause, LegId};
use offhook_wire_srtp::{ReceiveContext, SendContext};
use std::net::SocketAddr;

enum Step {
    Wait,
    Connected(Box<Keys>),
    /// The page is gone or reloads; a leg without consent ends by itself.
    Closed,
}

/// Datagrams a second of one leg while it shakes hands: a few flights, each repeated after 50 ms at the earliest.
const HANDSHAKE_DATAGRAMS: u32 = 100;
/// And afterwards, when only a lost last flight or the page's farewell is still to come.
const LATER_DATAGRAMS: u32 = 10;

impl Shard {
    pub(crate) fn handle_dtls(&mut self, now: MediaNs, from: SocketAddr, datagram: &[u8]) {
        let Some(key) = self.register.by_address(from, || None) else {
            self.counters.dropped_unknown_source += 1;
            return;
        };
        let Some(Transport::Peer(peer)) = self.legs.get_mut(key).map(|leg| &mut leg.transport) else { return };
        let limit = if peer.handshake == Handshake::Done { LATER_DATAGRAMS } else { HANDSHAKE_DATAGRAMS };
        if !peer.dtls_datagrams.take(now, limit) {
            self.counters.dropped_dtls_rate += 1;
            return;
        }
        let fed = peer.dtls.handle_packet(now, datagram);
        self.drive_dtls(now, key, fed);
    }

    /// The leg's one entry among the timers has come due; what DTLS waits for may have moved to a later moment.
    pub(crate) fn dtls_timeout(&mut self, now: MediaNs, key: LegKey) {
        let Some(Transport::Peer(peer)) = self.legs.get_mut(key).map(|leg| &mut leg.transport) else { return };
        peer.dtls_timer = None;
        match peer.dtls_due {
            Some(due) if due <= now => {
                peer.dtls_due = None;
                let fed = peer.dtls.handle_timeout(now);
                self.drive_dtls(now, key, fed);
            }
            Some(_) => self.arm_dtls(key),
            None => {}
        }
    }

    fn drive_dtls(&mut self, now: MediaNs, key: LegKey, fed: Result<(), DtlsFailure>) {
        if let Err(failure) = fed
            && !self.survives(now, key, &failure)
        {
            return;
        }
        loop {
            match self.poll_dtls(now, key) {
                Ok(Step::Wait) => return self.arm_dtls(key),
                Ok(Step::Connected(keys)) => self.keyed(now, key, &keys),
                Ok(Step::Closed) => {
                    if let Some(leg) = self.legs.get_mut(key) {
                        leg.media = None;
                    }
                }
                Err(failure) => {
                    self.survives(now, key, &failure);
                    return;
                }
            }
        }
    }

    /// Whether the leg outlives it. Once media has its keys nothing that comes by DTLS is needed any more, and an
    /// address is forged easily: what DTLS cannot use is dropped (RFC 6347 §4.1.2.7).
    fn survives(&mut self, now: MediaNs, key: LegKey, failure: &DtlsFailure) -> bool {
        let done = match self.legs.get(key).map(|leg| &leg.transport) {
            Some(Transport::Peer(peer)) => peer.handshake == Handshake::Done,
            _ => return false,
        };
        if done {
            self.counters.dropped_dtls_unusable += 1;
        } else {
            self.counters.dtls_failed += 1;
            self.end_leg(now, key, HangupCause::MediaLost, failure.0);
        }
        done
    }

    /// At most one entry for each leg, never later than what DTLS waits for.
    fn arm_dtls(&mut self, key: LegKey) {
        let Some(Transport::Peer(peer)) = self.legs.get_mut(key).map(|leg| &mut leg.transport) else { return };
        let Some(due) = peer.dtls_due else { return };
        match peer.dtls_timer {
            Some(set) if set <= due => return,
            Some(_) => self.timers.retain(|timer| *timer != Timer::Dtls(key)),
            None => {}
        }
        peer.dtls_timer = Some(due);
        self.timers.set(due, Timer::Dtls(key));
    }

    /// Sends what DTLS has to say, until something happens or it waits.
    fn poll_dtls(&mut self, now: MediaNs, key: LegKey) -> Result<Step, DtlsFailure> {
        let Some(leg) = self.legs.get_mut(key) else { return Ok(Step::Wait) };
        let Leg { transport: Transport::Peer(peer), path, .. } = leg else { return Ok(Step::Wait) };
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            match peer.dtls.poll(&mut buffer)? {
                DtlsEvent::Packet(len) => {
                    if let (Some(path), Some(bytes)) = (*path, buffer.get(..len)) {
                        self.egress.push(bytes, path, key.index() as u32);
                    }
                }
                DtlsEvent::PeerCertificate(fingerprint) if fingerprint == peer.remote_fingerprint => {
                    if peer.handshake == Handshake::Begun {
                        peer.handshake = Handshake::Matched;
                    }
                }
                // RFC 8122 §6.2: another certificate than the one announced is another party.
                DtlsEvent::PeerCertificate(_) => {
                    return Err(DtlsFailure("the browser's certificate is not the one it announced"));
                }
                DtlsEvent::Keys(keys) => match peer.handshake {
                    Handshake::Begun => return Err(DtlsFailure("the browser sent no certificate")),
                    Handshake::Matched => {
                        peer.handshake = Handshake::Done;
                        return Ok(Step::Connected(keys));
                    }
                    // A key is never taken twice: its SRTP contexts would begin anew (RFC 3711 §9.1).
                    Handshake::Done => return Err(DtlsFailure("the browser shook hands a second time")),
                },
                DtlsEvent::Closed => return Ok(Step::Closed),
                DtlsEvent::Idle(due) => {
                    peer.dtls_due = due.filter(|due| due.since(now) <= HANDSHAKE_LIMIT);
                    return Ok(Step::Wait);
                }
            }
        }
    }

    fn keyed(&mut self, now: MediaNs, key: LegKey, keys: &Keys) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let (Ok(inbound), Ok(outbound)) = (ReceiveContext::new(&keys.theirs), SendContext::new(&keys.ours)) else {
            return self.end_leg(now, key, HangupCause::InternalError, "the negotiated keys cannot be used");
        };
        let srtp_profile = profile_name(outbound.profile()).to_owned();
        leg.media = Some(Media { inbound, outbound });
        let (room_key, leg) = (leg.room, LegId::clone(&leg.id));
        let Some(room) = self.rooms.get(room_key).map(|room| room.id.clone()) else { return };
        self.tell_room(now, room_key, News::PeerConnected(PeerConnected { room, leg, srtp_profile }));
        self.connected(now, key);
    }
}
