//! STUN and TURN messages as bytes: a borrowed reader, an in-place writer, and the credentials of both.
//!
//! RFC 8489 (STUN), RFC 8445 §16 (ICE attributes), RFC 8656 (TURN). Nothing here owns a socket, a clock or randomness, and
//! neither reading nor writing allocates; only [`credentials`] makes strings.
//!
//! Two of the protocol's traps are closed in the reader itself: attributes behind MESSAGE-INTEGRITY can never be seen
//! (RFC 8489 §14.5), and of a repeated attribute only the first counts (RFC 8489 §14).

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
mod attribute;
mod builder;
pub mod channel_data;
pub mod credentials;
mod getters;
mod integrity;
mod kind;
mod message;

pub use attribute::{AddressFamily, AttributeType, Attributes, RawAttribute};
pub use builder::{BuildError, MessageBuilder};
pub use getters::{AttributeError, ErrorCode};
pub use integrity::IntegrityError;
pub use kind::{Class, Method, TransactionId};
pub use message::{Message, ParseError};

/// The fixed header: type, length, cookie, transaction id (RFC 8489 §5).
pub const HEADER_LEN: usize = 20;
/// RFC 8489 §5.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;
/// More attributes than any peer sends; bounds the walk over one message.
pub const MAX_ATTRIBUTES: usize = 64;

/// Whether a datagram is meant for STUN: first byte 0 to 3 (RFC 7983 §7), a full header and the cookie.
///
/// It says nothing about the rest; [`Message::parse`] does.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && has_header(datagram)
}

/// Over a stream (RFC 8489 §6.2.2): how many bytes the message beginning here takes, once its header is in.
#[must_use]
pub fn framed_len(stream: &[u8]) -> Option<usize> {
    if !has_header(stream) {
        return None;
    }
    let length = u16::from_be_bytes([*stream.get(2)?, *stream.get(3)?]);
    Some(HEADER_LEN + usize::from(length))
}

/// Two zero bits, a full header and the cookie (RFC 8489 §5).
fn has_header(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_LEN
        && bytes.first().is_some_and(|first| *first < 0x40)
        && bytes.get(4..8) == Some(MAGIC_COOKIE.to_be_bytes().as_slice())
}
