//! Every option of a `turnserver.conf`, seen to act: the daemon is started from a file, and a client, a file, a database
//! or a signal shows what became of it. [`options`] holds the list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod credentials;
mod database;
mod files;
mod hosts;
mod limits;
mod logs;
#[path = "../rig/net.rs"]
mod net;
mod options;
mod peers;
mod plans;
#[path = "../../../../call-control/daemon/tests/storage/postgres.rs"]
mod postgres;
mod process;
mod reload;
#[path = "../rig/mod.rs"]
mod rig;
mod sha256;
mod sockets;
mod tls;
