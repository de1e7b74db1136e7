//! The SIP gateway without sockets, clock or threads: signalling ([`SipEndpoint`]) and the media half of a telephone leg
//! ([`media`]).
//!
//! Signalling, from the outside in: [`api`] names what goes in and out; `endpoint` routes datagrams to transactions and
//! dialogs; `transaction` holds the machines of RFC 3261 §17; `call` is the leg; `register` and `options` keep trunks up.
//!
//! Assumptions: UDP only; a trunk is known by its source addresses; we are the far end of every dialog, never a proxy.
//! Out of scope here: TCP and TLS, DNS, reliable provisional responses (RFC 3262), transfers (REFER), our own session
//! timers (RFC 4028: the other side's refreshes are answered), registrations of phones with us.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod api;
mod call;
pub mod cause;
mod core;
mod dialog;
pub mod digest;
mod endpoint;
pub mod media;
mod options;
pub mod random;
mod register;
mod timers;
mod transaction;
pub mod trunk;

pub use api::{Command, CommandError, EndpointConfig, LegEvent, LegHandle, Output, SocketConfig};
pub use endpoint::SipEndpoint;
