//! Session descriptions: what a browser offers and what we answer ([`webrtc`]), and offer/answer with a trunk
//! ([`telephony`]). Pure: text in, typed values out, text back.
//!
//! Out of scope: candidates sent by the browser (we are ICE-lite and learn its address from its checks), video, data
//! channels (both are refused line by line), SDES keys, ICE on trunks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod direction;
mod error;
mod lines;
pub mod property;
pub mod telephony;
pub mod webrtc;

pub use direction::Direction;
pub use error::SdpError;
pub use lines::{MAX_BYTES, MAX_LINE_BYTES, MAX_LINES, MAX_MEDIA};
