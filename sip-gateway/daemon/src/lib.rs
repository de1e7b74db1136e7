//! The SIP gateway's shell: sockets, media threads, the bus. What SIP and RTP mean is decided in `offhook-sip-core`.
//!
//! ```text
//! UDP ──> Sockets ──> Gateway (one task: SipEndpoint, legs, gate) <──> bus
//!                        │ orders            ▲ news
//!                        ▼                   │
//!                     media threads: RTP/RTCP of the trunk <──> Link to the SFU
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
mod daemon;
mod events;
mod facts;
mod gate;
mod gateway;
mod incoming;
mod legs;
pub mod media;
mod report;
mod requests;
mod sockets;
mod trunks;

pub use config::Config;
pub use daemon::SipGateway;

/// The gateway as a process runs it.
pub static SIP_GATEWAY: offhook_runtime::Program = offhook_runtime::Program::of::<SipGateway>();
