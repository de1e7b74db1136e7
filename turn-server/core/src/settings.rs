//! What a shard is made with, and what may be changed while it runs.
use crate::elsewhere::Elsewhere;
use crate::ledger::Quota;
use crate::policy::PeerPolicy;
use crate::ports::RelayPorts;
use crate::users::Users;
use offhook_shard::Rate;
use offhook_wire_stun::channel_data::CHANNEL_RANGE;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// An address for relays, and how clients are to call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayAddress {
    pub local: IpAddr,
    pub announced: IpAddr,
}

/// Which family an Allocate without REQUESTED-ADDRESS-FAMILY gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultFamily {
    /// RFC 8656 §7.2.
    #[default]
    V4,
    V6,
    /// The one the client came by, if there is such a relay address.
    AsClient,
}

/// Reloadable as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    pub users: Users,
    /// Where those are looked up who are not among them.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    pub policy: PeerPolicy,
    /// FINGERPRINT in every answer; without it, in answers to messages that carry one.
    pub fingerprint: bool,
    /// SOFTWARE in answers to those who logged in.
    pub software: Option<Box<str>>,
    /// Answer Binding requests.
    pub stun: bool,
    /// Answer everything else.
    pub turn: bool,
    /// Relay over UDP (442 otherwise).
    pub udp_relay: bool,
    pub default_family: DefaultFamily,
    /// Nobody chose the relay addresses: a relay stands on the one that its client came to, else on the first of the
    /// family, and on no other, which may lead nowhere.
    pub relay_by_arrival: bool,
    /// `None`: a nonce is good for ever.
    pub nonce_lifetime: Option<Duration>,
    pub lifetime: Duration,
    pub lifetime_max: Duration,
    pub channel_lifetime: Duration,
    pub permission_lifetime: Duration,
    /// Answers to each /32 or /64 that has not logged in, of all shards together.
    pub unauthenticated: Rate,
    /// Bytes that each of them may be sent beyond 1.6 times what came from it, under a realm of more than 16 bytes; of all
    /// shards together.
    pub excess: Rate,
    /// So many shards share these two rates.
    pub shards: u64,
    pub permissions_max: usize,
    pub channels_max: usize,
    /// Numbers a client may bind: RFC 8656 §12's, or RFC 5766 §11's up to 0x7FFF for older clients.
    pub channel_numbers: RangeInclusive<u16>,
    /// Peers that one allocation has not named before.
    pub new_peers: Rate,
    /// Together for all allocations of this shard, in each direction; beside what the ledger grants to each.
    pub shard_bytes_per_second: u64,
}

impl Settings {
    #[must_use]
    pub fn new(users: Users) -> Self {
        Self {
            users,
            elsewhere: None,
            policy: PeerPolicy::default(),
            fingerprint: false,
            software: None,
            stun: true,
            turn: true,
            udp_relay: true,
            default_family: DefaultFamily::V4,
            relay_by_arrival: false,
            nonce_lifetime: Some(Duration::from_secs(600)),
            // RFC 8656 §3.2 and §7.2, §12, §9.
            lifetime: Duration::from_secs(600),
            lifetime_max: Duration::from_secs(3_600),
            channel_lifetime: Duration::from_secs(600),
            permission_lifetime: Duration::from_secs(300),
            unauthenticated: Rate { per_second: 100, burst: 400 },
            excess: Rate { per_second: 256, burst: 4_096 },
            shards: 1,
            permissions_max: 64,
            channels_max: 64,
            channel_numbers: CHANNEL_RANGE,
            new_peers: Rate { per_second: 5, burst: 64 },
            shard_bytes_per_second: 0,
        }
    }
}

/// Fixed for a shard's life.
pub struct ShardOptions {
    /// From the system's source; the same in every shard of a process, so that nonces are good in all.
    pub secret: [u8; 32],
    /// Tells the shards apart where they must not draw the same numbers.
    pub shard: u16,
    pub settings: Arc<Settings>,
    pub relays: Vec<RelayAddress>,
    /// Of the same addresses; the same table in every shard of a server.
    pub ports: RelayPorts,
    pub allocations_max: usize,
    pub quota: Box<dyn Quota>,
}
