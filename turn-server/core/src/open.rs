//! Sockets for a new allocation: a port is drawn, the shell binds it, another is drawn if somebody else has it.
use crate::allocation::{AllocationKey, Held, Phase, Relay, RelayKey, family_of};
use crate::auth::Login;
use crate::event::{Output, Started};
use crate::ledger::Reserved;
use crate::reply::Asked;
use crate::request::Refused;
use crate::shard::{Shard, Timer};
use offhook_shard::Moment;
use offhook_wire_stun::AddressFamily;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Ports of other programs that one Allocate runs into before the answer is 508.
const TRIES: usize = 64;
/// After so many of them it looks where none was found before.
const BOLD: usize = 8;
/// RFC 8656 §7.2.
const RESERVED_FOR: Duration = Duration::from_secs(30);

/// EVEN-PORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Even {
    Any,
    Alone,
    /// The next higher port is reserved.
    WithNext,
}

/// Which socket is being opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    First(AddressFamily),
    /// The upper one of a pair; the lower one is open.
    Next(RelayKey),
    /// IPv6 beside IPv4.
    Additional,
    /// The one port that was reserved.
    Kept(AddressFamily),
}

pub(crate) struct Opening {
    pub(crate) asked: Asked,
    pub(crate) lifetime: Duration,
    pub(crate) failed_family: Option<(AddressFamily, u16)>,
    even: Even,
    additional: bool,
    /// What the shell was asked to open.
    pending: Option<(RelayKey, Stage)>,
    /// Ports that other programs have, by the place of their address; nobody draws them until we are done.
    tried: Vec<(usize, u16)>,
}

impl Opening {
    pub(crate) const fn new(asked: Asked, lifetime: Duration, even: Even, additional: bool) -> Self {
        Self { asked, lifetime, failed_family: None, even, additional, pending: None, tried: Vec::new() }
    }
}

impl Shard {
    pub(crate) fn has_relay_address(&self, family: AddressFamily) -> bool {
        self.addresses.iter().any(|address| is_of(address.local, family))
    }

    /// Draws a port and asks for its socket.
    pub(crate) fn open_next(&mut self, now: Moment, key: AllocationKey, stage: Stage) {
        let Some(allocation) = self.allocations.get(key) else { return };
        let Phase::Opening(opening) = &allocation.phase else { return };
        let (even, tried, server) = (opening.even, opening.tried.len(), allocation.path.server.ip());
        let drawn = match stage {
            Stage::First(family) if tried < TRIES => self.draw(family, even, server, tried < BOLD),
            Stage::Additional if tried < TRIES => self.draw(AddressFamily::V6, Even::Any, server, tried < BOLD),
            // Drawn together with the lower one.
            Stage::Next(lower) => {
                self.relays.get(lower).and_then(|lower| Some((lower.place, lower.local.port().checked_add(1)?)))
            }
            Stage::First(_) | Stage::Additional | Stage::Kept(_) => None,
        };
        let Some((place, port)) = drawn else { return self.open_failed(now, key, stage) };
        let Some(address) = self.addresses.get(place) else { return };
        let (local, announced) = (SocketAddr::new(address.local, port), SocketAddr::new(address.announced, port));
        self.ask_for(key, stage, Relay { owner: key, local, announced, place });
    }

    fn ask_for(&mut self, key: AllocationKey, stage: Stage, relay: Relay) {
        let local = relay.local;
        let relay = self.relays.insert(relay);
        if let Some(opening) = self.opening(key) {
            opening.pending = Some((relay, stage));
        }
        self.outputs.push_back(Output::OpenRelay { relay, local });
    }

    /// On the address the client came to, if relays may stand there; else on any of the family.
    fn draw(&mut self, family: AddressFamily, even: Even, server: IpAddr, boldly: bool) -> Option<(usize, u16)> {
        let count = self.addresses.len();
        let came_to = self.addresses.iter().position(|a| a.local == server && is_of(a.local, family));
        if self.settings.relay_by_arrival {
            let place = came_to.or_else(|| self.addresses.iter().position(|a| is_of(a.local, family)))?;
            return Some((place, self.ports.take(place, even, boldly, &mut self.random)?));
        }
        let start = match came_to {
            Some(place) => place,
            None => self.random.below(count),
        };
        for place in (start..count).chain(0..start) {
            if self.addresses.get(place).is_some_and(|address| is_of(address.local, family))
                && let Some(port) = self.ports.take(place, even, boldly, &mut self.random)
            {
                return Some((place, port));
            }
        }
        None
    }

    pub(crate) fn relay_opened(&mut self, now: Moment, relay: RelayKey) {
        let key = self.owner_of(relay);
        let pending = key.and_then(|key| self.opening(key)).and_then(|opening| opening.pending.take());
        let (Some(key), Some((expected, stage))) = (key, pending) else {
            // Its allocation ended meanwhile.
            self.outputs.push_back(Output::CloseRelay { relay });
            return;
        };
        debug_assert_eq!(expected, relay, "one socket at a time");
        match stage {
            Stage::First(family) => {
                self.hold(now, key, relay, family);
                let (even, additional) = self.opening(key).map_or((Even::Any, false), |o| (o.even, o.additional));
                if even == Even::WithNext {
                    self.open_next(now, key, Stage::Next(relay));
                } else if additional {
                    self.open_next(now, key, Stage::Additional);
                } else {
                    self.opened(now, key, None);
                }
            }
            Stage::Next(_) => {
                let token = self.reserve(now, key, relay);
                self.opened(now, key, token);
            }
            Stage::Kept(family) => {
                self.hold(now, key, relay, family);
                self.opened(now, key, None);
            }
            Stage::Additional => {
                self.hold(now, key, relay, AddressFamily::V6);
                self.opened(now, key, None);
            }
        }
    }

    pub(crate) fn relay_failed(&mut self, now: Moment, relay: RelayKey) {
        let Some(key) = self.owner_of(relay) else { return };
        // Without it the allocation has ended meanwhile, and its port comes back when it is said to be closed.
        let Some((_, stage)) = self.opening(key).and_then(|opening| opening.pending.take()) else { return };
        let Some(gone) = self.relays.remove(relay) else { return };
        if let Some(opening) = self.opening(key) {
            opening.tried.push((gone.place, gone.local.port()));
        }
        match stage {
            // A pair is drawn anew as a pair.
            Stage::First(family) => {
                self.give_back_next(key, gone.place, gone.local.port());
                self.open_next(now, key, Stage::First(family));
            }
            Stage::Next(lower) => {
                let family = self.drop_lower(key, lower);
                self.open_next(now, key, Stage::First(family));
            }
            Stage::Additional => self.open_next(now, key, Stage::Additional),
            Stage::Kept(family) => self.open_failed(now, key, Stage::Kept(family)),
        }
    }

    /// The lower port of a pair could not be had: the upper one was drawn for nothing.
    fn give_back_next(&mut self, key: AllocationKey, place: usize, port: u16) {
        let is_pair = self.opening(key).is_some_and(|opening| opening.even == Even::WithNext);
        if let (true, Some(next)) = (is_pair, port.checked_add(1)) {
            self.ports.give_back(place, next);
        }
    }

    /// The upper port of a pair could not be had: the lower one is closed, and not drawn again with it.
    fn drop_lower(&mut self, key: AllocationKey, lower: RelayKey) -> AddressFamily {
        let mut family = AddressFamily::V4;
        if let Some(allocation) = self.allocations.get_mut(key)
            && let Some(held) = allocation.relays.iter_mut().find_map(|slot| slot.take_if(|held| held.relay == lower))
        {
            family = held.family;
        }
        self.close_relay(lower);
        family
    }

    /// No port is left for this stage.
    fn open_failed(&mut self, now: Moment, key: AllocationKey, stage: Stage) {
        if stage == Stage::Additional {
            // RFC 8656 §7.2: IPv4 alone, and the reason.
            let code = self.family_error();
            if let Some(opening) = self.opening(key) {
                opening.failed_family = Some((AddressFamily::V6, code));
            }
            return self.opened(now, key, None);
        }
        let Some(allocation) = self.allocations.get(key) else { return };
        let Phase::Opening(opening) = &allocation.phase else { return };
        let asked = opening.asked;
        let login = Login { user: Arc::clone(&allocation.user), seal: allocation.seal };
        self.give_up(key);
        self.counters.allocations_refused += 1;
        self.refuse(now, &asked, &login, Refused::PortsExhausted, None);
    }

    fn hold(&mut self, now: Moment, key: AllocationKey, relay: RelayKey, family: AddressFamily) {
        let Some(lifetime) = self.opening(key).map(|opening| opening.lifetime) else { return };
        if let Some(Relay { place, local, .. }) = self.relays.get(relay) {
            self.ports.opened(*place, local.port());
        }
        let held = Held { relay, family, ends: now.after(lifetime) };
        if let Some(allocation) = self.allocations.get_mut(key)
            && let Some(slot) = allocation.relays.iter_mut().find(|slot| slot.is_none())
        {
            *slot = Some(held);
        }
    }

    /// The upper port is free, as its socket has shown. It is kept by name from here on: the token may come to another
    /// thread.
    fn reserve(&mut self, now: Moment, key: AllocationKey, relay: RelayKey) -> Option<[u8; 8]> {
        let user = Arc::clone(&self.allocations.get(key)?.account);
        let Relay { local, announced, place, .. } = self.relays.remove(relay)?;
        self.outputs.push_back(Output::CloseRelay { relay });
        let token = self.random.next_u64().to_be_bytes();
        self.reservations.insert(token, (place, local.port()));
        self.quota.reserve(token, Reserved { user, local, announced, place });
        self.timers.set(now.after(RESERVED_FOR), Timer::Reservation(token));
        Some(token)
    }

    pub(crate) fn open_reserved(&mut self, now: Moment, key: AllocationKey, token: &[u8; 8]) {
        let Some(Reserved { local, announced, place, .. }) = self.quota.claim(token) else {
            return self.open_failed(now, key, Stage::Kept(AddressFamily::V4));
        };
        if self.reservations.remove(token).is_some() {
            self.cancel_timer();
        } else {
            self.ports.take_over(place, local.port());
        }
        self.ask_for(key, Stage::Kept(family_of(local)), Relay { owner: key, local, announced, place });
    }

    /// Everything is open: the allocation lives.
    fn opened(&mut self, now: Moment, key: AllocationKey, token: Option<[u8; 8]>) {
        self.return_tried(key);
        let Some(allocation) = self.allocations.get_mut(key) else { return };
        let Phase::Opening(opening) = &allocation.phase else { return };
        let asked = opening.asked;
        allocation.phase = Phase::Live(Self::created(opening, token));
        allocation.timer = allocation.first_end().unwrap_or(now);
        self.timers.set(allocation.timer, Timer::Allocation(key.to_bits()));
        self.counters.allocations_created += 1;
        let (user, path) = (Arc::clone(&allocation.user), allocation.path);
        if let Some(allocation) = self.allocations.get(key) {
            let relayed = self.relayed(allocation);
            self.outputs.push_back(Output::Started(Box::new(Started { user, path, relayed })));
        }
        self.answer_allocated(&asked, key);
    }

    pub(crate) fn return_tried(&mut self, key: AllocationKey) {
        let tried = self.opening(key).map(|opening| std::mem::take(&mut opening.tried)).unwrap_or_default();
        for (place, port) in tried {
            self.ports.leave_elsewhere(place, port);
        }
    }

    pub(crate) fn opening(&mut self, key: AllocationKey) -> Option<&mut Opening> {
        match &mut self.allocations.get_mut(key)?.phase {
            Phase::Opening(opening) => Some(opening),
            Phase::Live(_) => None,
        }
    }

    /// A socket that was asked for and is not yet anybody's. If it is the lower one of a pair, the upper port was drawn
    /// for nothing.
    pub(crate) fn take_pending(&mut self, key: AllocationKey) -> Option<RelayKey> {
        let (relay, stage) = self.opening(key)?.pending.take()?;
        if let (Stage::First(_), Some(&Relay { place, local, .. })) = (stage, self.relays.get(relay)) {
            self.give_back_next(key, place, local.port());
        }
        Some(relay)
    }
}

pub(crate) const fn is_of(ip: IpAddr, family: AddressFamily) -> bool {
    matches!((ip, family), (IpAddr::V4(_), AddressFamily::V4) | (IpAddr::V6(_), AddressFamily::V6))
}
