//! The call-control daemon: the switchboard with its database, its bus, the HTTP and WebSocket API and the pages.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod acme;
pub mod admin;
mod config;
mod daemon;
mod door;
mod engine;
mod fetcher;
mod http;
mod ice;
mod passwords;
mod secrets;
pub mod store;
mod tokens;
mod turn;
mod writer;

pub use config::{AcmeWish, Certificate, Config, Limits};
pub use daemon::Control;
pub use http::routes::{Access, ROUTES, Route};

/// call-control as a process runs it.
pub static CONTROL: offhook_runtime::Program = offhook_runtime::Program::of::<Control>();
