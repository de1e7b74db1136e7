//! The SFU daemon: media threads that own their sockets and a core shard each, and a signalling side that answers the
//! bus. The media threads know neither tokio nor the bus; bounded queues join the two.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod clock;
mod config;
mod daemon;
mod dtls;
mod engine;
mod guest;
mod media;
mod metrics;
mod news;
mod outputs;
mod prompts;
mod stats;
mod tap_sink;

pub use clock::MediaClock;
pub use config::SfuConfig;
pub use daemon::SfuDaemon;
pub use dtls::{Certificate, DtlsServers};

/// The SFU as a process runs it.
pub static SFU: offhook_runtime::Program = offhook_runtime::Program::of::<SfuDaemon>();
