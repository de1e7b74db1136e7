//! The control bus: typed requests and replies, events, node presence, leases and the outbox, over two transports
//! (inside one process, or NATS). Messages are JSON on both, so that splitting a process later changes nothing.
//!
//! ```text
//! request ──> offhook.<cluster>.v1.<daemon>.<node|any>.<request> ──> Server: repeated id? deadline? epoch? ──> Incoming
//! event   ──> offhook.<cluster>.v1.event.<tenant|->.<kind>       ──> Events
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod bus;
mod epochs;
mod events;
mod in_process;
mod lease;
mod message;
mod nats;
mod outbox;
mod presence;
mod replies;
mod request;
mod server;
mod subject;
mod transport;

pub use bus::Bus;
pub use events::{Events, PublishError, SubscribeError};
pub use in_process::BusCut;
pub use lease::{Lease, LeaseError};
pub use message::{new_message_id, wall_now};
pub use nats::{ConnectError, NatsCredentials, NatsOptions};
pub use outbox::{Outbox, OutboxError, OutboxFigures, OutboxLimits};
pub use presence::{NodeTable, Presence};
pub use request::BusError;
pub use server::{Incoming, ServeError, Server};
pub use subject::{InvalidCluster, Target};
