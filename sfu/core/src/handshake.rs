//! DTLS of a browser: taken from addresses that passed a check, until it gives the keys of the media.
use crate::command::News;
use crate::dtls::{DtlsEvent, DtlsFailure, Keys, profile_name};
use crate::egress::DATAGRAM_MAX;
use crate::leg::{Certificate, Leg, LegKey, Media, Transport};
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

impl Shard {
    pub(crate) fn handle_dtls(&mut self, now: MediaNs, from: SocketAddr, datagram: &[u8]) {
        let Some(key) = self.register.by_address(from, || None) else {
            self.counters.dropped_unknown_source += 1;
            return;
        };
        let fed = match self.legs.get_mut(key).map(|leg| &mut leg.transport) {
            Some(Transport::Peer(peer)) => peer.dtls.handle_packet(now, datagram),
            _ => return,
        };
        self.drive_dtls(now, key, fed);
    }

    pub(crate) fn dtls_timeout(&mut self, now: MediaNs, key: LegKey, due: MediaNs) {
        let fed = match self.legs.get_mut(key).map(|leg| &mut leg.transport) {
            Some(Transport::Peer(peer)) if peer.dtls_due == Some(due) => {
                peer.dtls_due = None;
                peer.dtls.handle_timeout(now)
            }
            _ => return,
        };
        self.drive_dtls(now, key, fed);
    }

    fn drive_dtls(&mut self, now: MediaNs, key: LegKey, fed: Result<(), DtlsFailure>) {
        loop {
            let step = match &fed {
                Ok(()) => self.poll_dtls(key),
                Err(failure) => Err(failure.clone()),
            };
            match step {
                Ok(Step::Wait) => return,
                Ok(Step::Connected(keys)) => self.keyed(now, key, &keys),
                Ok(Step::Closed) => {
                    if let Some(leg) = self.legs.get_mut(key) {
                        leg.media = None;
                    }
                }
                Err(failure) => {
                    self.counters.dtls_failed += 1;
                    return self.end_leg(now, key, HangupCause::MediaLost, failure.0);
                }
            }
        }
    }

    /// Sends what DTLS has to say, until something happens or it waits.
    fn poll_dtls(&mut self, key: LegKey) -> Result<Step, DtlsFailure> {
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
                    peer.certificate = Certificate::Matched;
                }
                // RFC 8122 §6.2: another certificate than the one announced is another party.
                DtlsEvent::PeerCertificate(_) => {
                    return Err(DtlsFailure("the browser's certificate is not the one it announced"));
                }
                DtlsEvent::Keys(_) if peer.certificate != Certificate::Matched => {
                    return Err(DtlsFailure("the browser sent no certificate"));
                }
                DtlsEvent::Keys(keys) => return Ok(Step::Connected(keys)),
                DtlsEvent::Closed => return Ok(Step::Closed),
                DtlsEvent::Idle(due) => {
                    if let Some(due) = due.filter(|due| peer.dtls_due != Some(*due)) {
                        peer.dtls_due = Some(due);
                        self.timers.set(due, Timer::Dtls(key));
                    }
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
