//! Every option of a `turnserver.conf`, seen to act: the daemon is started from a file, and a client, a file, a database
//! or a signal shows what became of it. [`options`] holds the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod credentials;
mod daemon;
mod database;
mod limits;
mod logs;
mod options;
mod peers;
#[path = "../../../../call-control/daemon/tests/storage/postgres.rs"]
mod postgres;
mod process;
mod reload;
mod sockets;
mod tls;
