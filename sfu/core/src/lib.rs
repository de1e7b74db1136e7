//! The SFU's pure half: one [`Shard`] per media thread holds rooms, legs, slots, the Announcer and the Taps.
//!
//! No sockets, clock, randomness or threads: datagrams, commands and the time come in, datagrams to send and outputs
//! come out. The path of a packet allocates nothing (DESIGN.md §5).
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod announcer;
mod command;
mod counters;
mod dtls;
mod egress;
mod forward;
mod handshake;
mod ice;
mod leg;
mod lifecycle;
mod negotiate;
mod quarantine;
mod register;
mod reports;
mod room;
mod shard;
mod slot;
mod source;
mod tap;
mod time;

pub use command::{
    Command, CommandError, ConnectPlan, LegFigures, LinePlan, LinkPlan, News, Output, PayloadTypes, PeerPlan, Reply,
    RoomContext, TapPlan,
};
pub use counters::{Counters, Gauges};
pub use dtls::{DtlsEvent, DtlsFailure, DtlsSession, HANDSHAKE_LIMIT, Keys, profile_name};
pub use egress::{Path, Transmit};
pub use lifecycle::EMERGENCY_LEGS;
pub use negotiate::{JoinError, JoinSecrets, Joined, negotiate};
pub use shard::{Shard, ShardOptions};
pub use tap::{ReaderPresence, TapPacket, TapSink, TrackNumber};
pub use time::MediaNs;
