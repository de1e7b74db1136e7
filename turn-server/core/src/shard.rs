//! One thread's state and its entrances: input, command, timeout, and the two polls.
use crate::allocation::{Allocation, AllocationKey, Phase, Relay, RelayKey};
use crate::counters::{Counters, Gauges};
use crate::elsewhere::Waiting;
use crate::event::{Carried, Command, Denial, Denied, EndCause, Ended, Output, Session};
use crate::ledger::Quota;
use crate::nonce::Nonces;
use crate::path::{ClientPath, Keyed};
use crate::ports::Ports;
use crate::random::Random;
use crate::relaying::Forward;
use crate::reply::{Replies, Transmit};
use crate::settings::{RelayAddress, Settings, ShardOptions};
use crate::users::Users;
use offhook_shard::Timers;
use offhook_shard::{Bucket, Moment, Rate, SourceBuckets};
use offhook_shard::{Key, Slab};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Buckets for answers to strangers: 128 KiB whatever comes.
const SOURCES: usize = 16_384;
/// Buckets for what is too long in them: 32 KiB.
const EXCESSES: usize = 4_096;
/// Lines about refusals of each cause, of each shard.
const DENIALS: Rate = Rate { per_second: 1, burst: 5 };
/// Of a name that a client claims, in a line.
const NAME_SHOWN: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Allocation(u64),
    Reservation([u8; 8]),
    Waiting,
}

pub struct Shard {
    pub(crate) settings: Arc<Settings>,
    /// As the settings have it, or newer.
    pub(crate) revoked: Arc<HashMap<Arc<str>, u64>>,
    pub(crate) addresses: Vec<RelayAddress>,
    pub(crate) ports: Ports,
    pub(crate) allocations_max: usize,
    pub(crate) quota: Box<dyn Quota>,
    pub(crate) allocations: Slab<Allocation>,
    pub(crate) relays: Slab<Relay>,
    pub(crate) by_path: HashMap<ClientPath, AllocationKey, Keyed>,
    /// Places and ports of reservations that were made here.
    pub(crate) reservations: HashMap<[u8; 8], (usize, u16)>,
    pub(crate) timers: Timers<Timer>,
    pub(crate) replies: Replies,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    pub(crate) nonces: Nonces,
    pub(crate) random: Random,
    pub(crate) sources: SourceBuckets,
    /// Nobody who forges datagrams can take them from connections.
    pub(crate) stream_sources: SourceBuckets,
    pub(crate) excess: SourceBuckets,
    pub(crate) waiting: Waiting,
    pub(crate) shard_rate: Rate,
    pub(crate) shard_up: Bucket,
    pub(crate) shard_down: Bucket,
    pub(crate) indications: u64,
    pub(crate) indication_salt: u64,
    pub(crate) nobody: Arc<str>,
    pub(crate) draining: bool,
    clock: (Moment, u64),
    denials: [Denials; Denial::CAUSES],
}

/// Lines of one cause, and how many were not said.
#[derive(Clone, Copy, Default)]
struct Denials {
    bucket: Bucket,
    left_out: u64,
}

impl Shard {
    #[must_use]
    pub fn new(options: ShardOptions) -> Self {
        let mut random = Random::new(&options.secret, &format!("shard {}", options.shard));
        Self {
            ports: Ports::new(options.ports, options.shard),
            addresses: options.relays,
            allocations_max: options.allocations_max,
            quota: options.quota,
            allocations: Slab::default(),
            relays: Slab::default(),
            by_path: HashMap::with_hasher(Keyed(random.next_u64())),
            reservations: HashMap::new(),
            timers: Timers::default(),
            replies: Replies::default(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            nonces: Nonces::new(&options.secret),
            sources: SourceBuckets::new(SOURCES, random.next_u64()),
            stream_sources: SourceBuckets::new(SOURCES, random.next_u64()),
            excess: SourceBuckets::new(EXCESSES, random.next_u64()),
            waiting: Waiting::new(random.next_u64()),
            shard_rate: Rate::bytes(options.settings.shard_bytes_per_second),
            shard_up: Bucket::default(),
            shard_down: Bucket::default(),
            indications: 0,
            indication_salt: random.next_u64(),
            random,
            nobody: "".into(),
            draining: false,
            clock: (Moment::default(), 0),
            denials: [Denials::default(); Denial::CAUSES],
            revoked: Arc::clone(options.settings.users.revoked()),
            settings: options.settings,
        }
    }

    /// Takes one datagram of a client, or one message off its stream. What is to go to a peer is returned; answers lie
    /// in [`Self::transmits`].
    #[must_use]
    pub fn handle_input(&mut self, now: Moment, path: &ClientPath, datagram: &[u8]) -> Option<Forward> {
        match datagram.first() {
            // RFC 8656 §12: the first two bits tell one from the other.
            Some(0x40..=0x7F) => self.handle_channel_data(now, path, datagram),
            Some(0..=0x3F) => self.handle_stun(now, path, datagram),
            _ => {
                self.counters.dropped_unknown += 1;
                None
            }
        }
    }

    pub fn handle_command(&mut self, now: Moment, command: Command) {
        match command {
            Command::SetClock { unix_s } => self.clock = (now, unix_s),
            Command::RelayOpened { relay } => self.relay_opened(now, relay),
            Command::RelayFailed { relay } => self.relay_failed(now, relay),
            Command::RelayClosed { relay } => self.relay_closed(relay),
            Command::ClientClosed { path } => {
                self.waiting.forget(&path);
                if let Some(key) = self.by_path.get(&path).copied() {
                    self.end(now, key, EndCause::ConnectionClosed);
                }
            }
            Command::Reload { settings } => self.reload(now, settings),
            Command::Drain => self.draining = true,
            Command::Revoke { refused, ended } => self.revoke(now, refused, &ended),
            Command::EndAll { cause } => self.end_where(now, cause, |_| true),
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        while let Some((_, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Allocation(bits) => self.allocation_due(now, Key::from_bits(bits)),
                Timer::Reservation(token) => {
                    if !self.drop_reservation(&token) {
                        self.timers.was_stale();
                    }
                }
                Timer::Waiting => self.take_up_again(now),
            }
        }
    }

    /// When [`Self::handle_timeout`] is due. O(1).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.timers.next_due()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Messages to clients; call [`Self::clear_transmits`] when they are sent.
    pub fn transmits(&self) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.replies.iter()
    }

    pub fn clear_transmits(&mut self) {
        self.replies.clear();
    }

    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            allocations: self.allocations.len(),
            relays: self.relays.len(),
            reservations: self.reservations.len(),
            timers: self.timers.len(),
            free_ports: self.ports.free(),
        }
    }

    pub fn sessions(&self) -> impl Iterator<Item = Session<'_>> {
        self.allocations.iter().filter(|(_, allocation)| allocation.is_live()).map(|(_, allocation)| Session {
            user: &allocation.user,
            account: &allocation.account,
            path: &allocation.path,
            relayed: self.relayed(allocation),
            began: allocation.began,
            up: allocation.up.carried(),
            down: allocation.down.carried(),
        })
    }

    pub(crate) fn unix_s(&self, now: Moment) -> u64 {
        self.clock.1 + now.since(self.clock.0).as_secs()
    }

    pub(crate) fn relayed(&self, allocation: &Allocation) -> [Option<SocketAddr>; 2] {
        allocation.relays.map(|held| held.and_then(|held| Some(self.relays.get(held.relay)?.announced)))
    }

    /// A family that the server does not have, or whose ports are all taken.
    pub(crate) fn family_error(&self) -> u16 {
        if self.has_relay_address(offhook_wire_stun::AddressFamily::V6) { 508 } else { 440 }
    }

    /// Says why, if not too many lines of this cause were said lately: guesses at passwords do not hide a full quota.
    pub(crate) fn deny(
        &mut self,
        now: Moment,
        why: Denial,
        path: &ClientPath,
        user: Option<&str>,
        peer: Option<SocketAddr>,
    ) {
        let Some(said) = self.denials.get_mut(why.cause()) else { return };
        if !said.bucket.take(now, DENIALS, 1) {
            said.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut said.left_out);
        let user = user.map(|user| user.chars().take(NAME_SHOWN).collect::<String>().into_boxed_str());
        let denied = Denied { why, client: path.client, user, peer, left_out };
        self.outputs.push_back(Output::Denied(Box::new(denied)));
    }

    fn reload(&mut self, now: Moment, settings: Arc<Settings>) {
        self.shard_rate = Rate::bytes(settings.shard_bytes_per_second);
        let (policy, relays) = (&settings.policy, self.ports.shared());
        for (_, allocation) in self.allocations.iter_mut() {
            allocation.permissions.retain(|permission| policy.may_keep(permission.peer));
            allocation.channels.retain(|channel| policy.judge(channel.peer, relays) == Ok(channel.local));
            allocation.forget_ended(now);
        }
        self.revoked = Arc::clone(settings.users.revoked());
        let before = std::mem::replace(&mut self.settings, settings);
        self.end_under_removed_secrets(now, &before.users);
    }

    /// Whoever holds a secret that was taken away mints nothing more, and keeps nothing that it minted: Refresh asks for
    /// no look-up, so that these would go on for ever.
    fn end_under_removed_secrets(&mut self, now: Moment, before: &Users) {
        let removed = self.settings.users.secrets_removed_since(before);
        if removed.is_empty() {
            return;
        }
        self.end_where(now, EndCause::SecretRemoved, |allocation| {
            allocation.seal.key().is_some_and(|key| before.is_minted_under(&removed, &allocation.user, key))
        });
    }

    /// One look at every allocation, however many are revoked.
    fn revoke(&mut self, now: Moment, refused: Arc<HashMap<Arc<str>, u64>>, ended: &HashMap<Arc<str>, u64>) {
        self.revoked = refused;
        if ended.is_empty() {
            return;
        }
        let settings = Arc::clone(&self.settings);
        self.end_where(now, EndCause::Revoked, |allocation| {
            let until = ended.get(&allocation.account).or_else(|| ended.get(&allocation.user));
            until.is_some_and(|until| settings.users.rest_expiry(&allocation.user).is_none_or(|ends| ends <= *until))
        });
    }

    fn end_where(&mut self, now: Moment, cause: EndCause, is_meant: impl Fn(&Allocation) -> bool) {
        let keys: Vec<AllocationKey> =
            self.allocations.iter().filter(|(_, allocation)| is_meant(allocation)).map(|(key, _)| key).collect();
        for key in keys {
            let path = self.allocations.get(key).map(|allocation| allocation.path);
            self.end(now, key, cause);
            if let Some(path) = path.filter(ClientPath::is_stream) {
                self.outputs.push_back(Output::CloseClient { path });
            }
        }
    }

    fn allocation_due(&mut self, now: Moment, key: AllocationKey) {
        if self.allocations.get(key).is_none_or(|allocation| allocation.timer > now) {
            self.timers.was_stale();
            return;
        }
        self.end_relays(now, key, EndCause::Expired);
    }

    /// Closes the relays whose time is over, and the allocation with its last one.
    pub(crate) fn end_relays(&mut self, now: Moment, key: AllocationKey, cause: EndCause) {
        let Some(allocation) = self.allocations.get_mut(key) else { return };
        if allocation.relays.iter().flatten().all(|held| held.ends <= now) {
            return self.end(now, key, cause);
        }
        let over = |held: &mut crate::allocation::Held| held.ends <= now;
        if let Some(held) = allocation.relays.iter_mut().find_map(|slot| slot.take_if(over)) {
            self.close_relay(held.relay);
        }
        self.rearm(now, key);
    }

    /// One timer for each allocation.
    pub(crate) fn rearm(&mut self, now: Moment, key: AllocationKey) {
        let Some(allocation) = self.allocations.get_mut(key) else { return };
        let due = allocation.first_end().unwrap_or(now);
        if due == allocation.timer {
            return;
        }
        allocation.timer = due;
        self.cancel_timer();
        self.timers.set(due, Timer::Allocation(key.to_bits()));
    }

    /// The allocation is gone, its place in the ledger is free, and its ports are as soon as their sockets are closed.
    pub(crate) fn end(&mut self, now: Moment, key: AllocationKey, cause: EndCause) {
        let Some(allocation) = self.allocations.get(key) else { return };
        let Phase::Live(created) = allocation.phase else { return self.give_up(key) };
        let relayed = self.relayed(allocation);
        let ended = Ended {
            user: Arc::clone(&allocation.user),
            path: allocation.path,
            relayed,
            cause,
            duration: now.since(allocation.began),
            up: allocation.up.carried(),
            down: allocation.down.carried(),
        };
        if let Some(token) = created.token
            && self.drop_reservation(&token)
        {
            self.cancel_timer();
        }
        self.give_up(key);
        self.cancel_timer();
        self.outputs.push_back(Output::Ended(Box::new(ended)));
    }

    /// Takes an allocation apart, live or not.
    pub(crate) fn give_up(&mut self, key: AllocationKey) {
        self.return_tried(key);
        let pending = self.take_pending(key);
        let Some(mut allocation) = self.allocations.remove(key) else { return };
        self.by_path.remove(&allocation.path);
        if self.by_path.is_empty() {
            self.by_path.shrink_to(1_024);
        }
        let held = allocation.relays.into_iter().flatten().map(|held| held.relay);
        held.chain(pending).for_each(|relay| self.close_relay(relay));
        if let Some(grant) = allocation.grant.take() {
            self.quota.release(&allocation.account, grant);
        }
    }

    /// Its port is ours until the shell has closed the socket: another thread would find it taken.
    pub(crate) fn close_relay(&mut self, key: RelayKey) {
        if self.relays.get(key).is_some() {
            self.outputs.push_back(Output::CloseRelay { relay: key });
        }
    }

    fn relay_closed(&mut self, key: RelayKey) {
        if let Some(relay) = self.relays.remove(key) {
            self.ports.give_back(relay.place, relay.local.port());
        }
    }

    fn drop_reservation(&mut self, token: &[u8; 8]) -> bool {
        let Some((place, port)) = self.reservations.remove(token) else { return false };
        match self.quota.claim(token) {
            Some(_) => self.ports.give_back(place, port),
            // Another thread has taken it over.
            None => self.ports.forget_one(),
        }
        true
    }

    pub(crate) fn cancel_timer(&mut self) {
        let (allocations, reservations) = (&self.allocations, &self.reservations);
        self.timers.cancel(|due, timer| match timer {
            Timer::Allocation(bits) => allocations.get(Key::from_bits(*bits)).is_some_and(|a| a.timer == due),
            Timer::Reservation(token) => reservations.contains_key(token),
            Timer::Waiting => true,
        });
    }

    pub(crate) fn owner_of(&self, relay: RelayKey) -> Option<AllocationKey> {
        Some(self.relays.get(relay)?.owner)
    }
}

impl crate::allocation::Meter {
    const fn carried(&self) -> Carried {
        Carried { packets: self.packets, bytes: self.bytes }
    }
}
