//! What can go wrong, by operation.

use offhook_wire_rtp::RtpError;

/// Why a packet was not sealed or opened. The buffer's content is unspecified afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    #[error(transparent)]
    Rtp(#[from] RtpError),
    #[error("shorter than an SRTP or SRTCP packet of this profile")]
    Truncated,
    #[error("not RTCP version 2")]
    NotRtcp,
    #[error("{needed} bytes do not fit into a buffer of {capacity}")]
    BufferTooSmall { needed: usize, capacity: usize },
    #[error("authentication failed")]
    Authentication,
    #[error("index was seen before")]
    Replayed,
    #[error("index lies behind the replay window")]
    TooOld,
    #[error("more than {limit} sources")]
    TooManySources { limit: usize },
    #[error("index does not end in the packet's sequence number")]
    IndexMismatch,
    #[error("indices under this key are used up")]
    KeyExhausted,
    #[error("SRTCP packet is not encrypted")]
    NotEncrypted,
    #[error("the cipher refused")]
    Cipher,
}

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("{what} has {len} bytes where {wanted} are needed")]
    Length { what: &'static str, len: usize, wanted: usize },
    #[error("the cipher refused the key")]
    Cipher,
}
