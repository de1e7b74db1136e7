//! The TURN server's IO half: one thread per core with its own listeners, relay sockets and shard; TCP and TLS beside it.
//!
//! `offhook-turn -c turnserver.conf` takes the place of a coturn installation.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod addresses;
mod ciphers;
mod cli;
mod database;
mod keys;
mod log;
mod metrics;
mod plan;
mod process;
mod quota;
mod reload;
mod run;
mod server;
mod sockets;
mod stream;
mod tls;
mod traffic;
mod worker;

pub use cli::main;
pub use plan::{Plan, PlanError};
pub use server::{Server, StartError};
