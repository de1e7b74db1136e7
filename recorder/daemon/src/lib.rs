//! The recorder: dials Taps, writes recordings and their consent logs, makes the final files and serves them over a
//! private listener. What it has accepted it does not lose: see `session` for a recording's task and `store` for what
//! is found again after a death.
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
mod daemon;
mod disk;
mod ffi;
mod files;
mod finalise;
mod http;
mod serve;
mod session;
mod stage;
mod store;
mod tap;

pub use config::Config;
pub use daemon::Recorder;

/// The recorder as a process runs it.
pub static RECORDER: offhook_runtime::Program = offhook_runtime::Program::of::<Recorder>();
