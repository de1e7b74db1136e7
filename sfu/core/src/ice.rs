//! ICE-lite (RFC 8445 §2.5): we answer checks, and an authenticated check alone says where a browser is.
use crate::egress::Path;
use crate::leg::{Leg, LegKey, Peer, Transport, VALIDATED_MAX};
use crate::shard::Shard;
use crate::shard::UNAUTHENTICATED_REPLIES;
use crate::time::MediaNs;
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method};
use std::net::{IpAddr, SocketAddr};

/// A response is never longer.
const RESPONSE_MAX: usize = 256;

/// What a check deserves.
enum Verdict {
    /// Not for us, or not worth an answer.
    Ignore,
    /// Not authenticated: an error of this code, seldom.
    Refuse(u16),
    /// Authenticated by this leg's password.
    Authentic(LegKey),
}

impl Shard {
    pub(crate) fn handle_stun(&mut self, now: MediaNs, from: SocketAddr, local: Option<IpAddr>, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else {
            self.counters.stun_malformed += 1;
            return;
        };
        // Indications and responses ask nothing of a lite agent, which sends no checks of its own.
        if message.class() != Class::Request || message.method() != Method::BINDING {
            self.counters.dropped_unknown += 1;
            return;
        }
        match self.judge(&message) {
            Verdict::Ignore => self.counters.stun_malformed += 1,
            Verdict::Refuse(code) => {
                self.counters.stun_unauthenticated += 1;
                self.refuse(now, from, local, &message, code);
            }
            Verdict::Authentic(key) => self.answer(now, from, local, &message, key),
        }
    }

    fn judge(&self, message: &Message<'_>) -> Verdict {
        // RFC 8445 §7.1: every check carries a fingerprint; what does not is no check.
        if message.verify_fingerprint().is_err() {
            return Verdict::Ignore;
        }
        // RFC 8489 §9.1.3 for the codes.
        let (Ok(Some(username)), true) = (message.username(), message.has_integrity()) else {
            return Verdict::Refuse(400);
        };
        // RFC 8445 §7.2.2: the receiver's fragment, a colon, the sender's.
        let ours = username.split_once(':').map_or(username, |(ours, _)| ours);
        let Some(key) = self.register.by_fragment(ours) else { return Verdict::Refuse(401) };
        match self.legs.get(key).map(|leg| &leg.transport) {
            Some(Transport::Peer(peer)) if message.verify_integrity(peer.pwd.as_bytes()).is_ok() => {
                Verdict::Authentic(key)
            }
            _ => Verdict::Refuse(401),
        }
    }

    fn refuse(&mut self, now: MediaNs, to: SocketAddr, local: Option<IpAddr>, request: &Message<'_>, code: u16) {
        if !self.stun_refusals.take(now, to.ip(), UNAUTHENTICATED_REPLIES, 1) {
            self.counters.stun_throttled += 1;
            return;
        }
        let reason = if code == 400 { "Bad Request" } else { "Unauthenticated" };
        let mut buffer = [0; RESPONSE_MAX];
        let written = MessageBuilder::response(&mut buffer, request, Class::Error)
            .error_code(code, reason)
            .fingerprint()
            .finish();
        if let Some(response) = written.ok().and_then(|len| buffer.get(..len)) {
            self.egress.push(response, Path { remote: to, local }, u32::MAX);
        }
    }

    fn answer(&mut self, now: MediaNs, from: SocketAddr, local: Option<IpAddr>, request: &Message<'_>, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let Transport::Peer(peer) = &mut leg.transport else { return };
        let mut buffer = [0; RESPONSE_MAX];
        let unknown = request.unknown_required(AttributeType::KNOWN_TO_ICE).next().is_some();
        let conflict = matches!(request.ice_controlled(), Ok(Some(_)));
        let mut response = if unknown {
            let mut response = MessageBuilder::response(&mut buffer, request, Class::Error);
            response
                .error_code(420, "Unknown Attribute")
                .unknown_attributes(request.unknown_required(AttributeType::KNOWN_TO_ICE).take(8));
            response
        } else if conflict {
            // RFC 8445 §7.3.1.1: a lite agent is always controlled; the browser shall take the other role.
            let mut response = MessageBuilder::response(&mut buffer, request, Class::Error);
            response.error_code(487, "Role Conflict");
            response
        } else {
            let mut response = MessageBuilder::response(&mut buffer, request, Class::Success);
            response.xor_mapped_address(from);
            response
        };
        let written = response.integrity(peer.pwd.as_bytes()).fingerprint().finish();
        let path = Path { remote: from, local };
        if let Some(response) = written.ok().and_then(|len| buffer.get(..len)) {
            self.egress.push(response, path, key.index() as u32);
        }
        if !unknown && !conflict {
            self.counters.stun_checks += 1;
            self.validated(now, path, request.use_candidate(), key);
        }
    }

    /// The browser has proved that it is at `path`; it moves there when it nominates it.
    fn validated(&mut self, now: MediaNs, path: Path, nominated: bool, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        let current = leg.path;
        let Leg { transport: Transport::Peer(peer), path: leg_path, .. } = leg else { return };
        peer.last_check = now;
        if !peer.validated.contains(&path.remote) {
            if !self.register.add_peer_address(path.remote, key) {
                return;
            }
            if let Some(oldest) = make_room(peer, current) {
                self.register.remove_peer_address(oldest, key);
            }
            peer.validated.push(path.remote);
        } else {
            // Another leg may have been there in between.
            self.register.add_peer_address(path.remote, key);
        }
        if nominated || leg_path.is_none() {
            *leg_path = Some(path);
        }
    }
}

/// Takes the oldest address out that carries no media, when there are too many.
fn make_room(peer: &mut Peer, current: Option<Path>) -> Option<SocketAddr> {
    if peer.validated.len() < VALIDATED_MAX {
        return None;
    }
    let at = peer.validated.iter().position(|address| Some(*address) != current.map(|path| path.remote))?;
    Some(peer.validated.remove(at))
}
