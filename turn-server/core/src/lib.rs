//! The TURN server's pure half: one [`Shard`] per thread holds allocations, permissions, channels and their timers.
//!
//! STUN and TURN (RFC 8489, RFC 8656) over any carrier. No sockets, clock, randomness or threads: messages, commands,
//! the time and a secret come in; decisions ([`Forward`], [`Deliver`]), answers ([`Shard::transmits`]) and [`Output`]s
//! come out. A relayed packet allocates nothing and stays where it arrived.
//!
//! Out of scope: TCP allocations (RFC 6062), mobility (RFC 8016), OAuth (RFC 7635), NAT discovery (RFC 5780).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod allocate;
mod allocation;
mod auth;
pub mod conf;
mod counters;
mod elsewhere;
mod event;
mod ledger;
mod nonce;
mod open;
mod path;
mod peers;
mod policy;
mod ports;
mod quarantine;
mod random;
mod relaying;
mod reply;
mod request;
mod settings;
mod shard;
pub mod stream;
mod users;

pub use offhook_shard::{Key, Moment, Rate};

pub use allocation::{Relay, RelayKey};
pub use auth::AuthError;
pub use counters::{Counters, Gauges};
pub use elsewhere::{Elsewhere, LookUp};
pub use event::{Carried, Command, Denial, Denied, EndCause, Ended, Output, Session, Started};
pub use ledger::{Grant, Ledger, Quota, QuotaError, QuotaLimits, Reserved};
pub use path::{ClientPath, Via};
pub use policy::{AddressRange, Forbidden, MappedAddress, MediaPeer, PeerPolicy, RangeError};
pub use ports::RelayPorts;
pub use relaying::{Deliver, Forward, HEAD_ROOM, IcmpError, TAIL_ROOM};
pub use reply::Transmit;
pub use request::Refused;
pub use settings::{DefaultFamily, RelayAddress, Settings, ShardOptions};
pub use shard::Shard;
pub use users::{UnknownUser, UserSecret, Users};
