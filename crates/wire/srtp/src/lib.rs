//! SRTP and SRTCP: sealing and opening packets in place (RFC 3711, RFC 7714), keyed once, no allocation per packet.
//!
//! A [`SendContext`] seals under our key, a [`ReceiveContext`] opens under the peer's. Both keep a bounded table of
//! sources; a source enters the receiver's table only with a packet that authenticated. Key derivation rate is zero and
//! there is no MKI, as in DTLS-SRTP (RFC 5764 §4.1.2).
//!
//! Never seal two different plaintexts under one index: with AES-GCM that gives away the authentication key
//! (RFC 7714 §8.1). [`SendContext::protect_rtp`] refuses a repeated index; whoever calls
//! [`SendContext::protect_rtp_with_index`] keeps that promise himself.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod cipher;
mod error;
mod index;
mod kdf;
mod key;
mod receive;
mod send;
mod sources;

pub use error::{KeyError, SrtpError};
pub use key::{DTLS_EXPORTER_LABEL, Profile, SrtpKey, split_dtls_keys};
pub use receive::{Opened, ReceiveContext};
pub use send::SendContext;

/// Sources a context keeps unless told otherwise.
pub const DEFAULT_MAX_SOURCES: usize = 8;
/// Room that sealing may need behind the longest packet: GCM tag and SRTCP index.
pub const MAX_TRAILER_LEN: usize = 20;
/// Packets back from the newest that are still taken (RFC 3711 §3.3.2 asks for 64 at least).
pub const REPLAY_WINDOW: u64 = 128;
