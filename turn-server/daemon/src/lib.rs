//! The TURN server's IO half: one thread per core with its own listeners, relay sockets and shard; TCP and TLS beside it.
//!
//! `offhook-turn -c turnserver.conf` takes the place of a coturn installation.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod addresses;
mod bus;
mod carried;
mod ciphers;
mod cli;
mod crowd;
mod daemon;
mod database;
mod exported;
mod keys;
mod listen;
mod log;
mod metrics;
mod native;
mod plan;
mod private;
mod process;
mod quota;
mod reload;
mod run;
mod server;
mod sessions;
mod sockets;
mod stream;
mod tls;
mod traffic;
mod worker;

pub use addresses::Host;
pub use cli::main;
pub use daemon::TurnDaemon;
pub use native::TurnConfig;
pub use plan::{Plan, PlanError};
pub use server::{Server, StartError};

/// The TURN server as a process runs it.
pub static TURN: offhook_runtime::Program = offhook_runtime::Program::of::<TurnDaemon>();
