//! DTLS behind a small trait: the daemon brings an implementation, tests a scripted one.
use crate::time::MediaNs;
use offhook_wire_srtp::{Profile, SrtpKey};
use std::time::Duration;

/// A handshake that takes longer than consent lasts has failed. What a connection waits for beyond that is nothing to
/// wake up for: media needs no DTLS once it has its keys.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// The connection cannot go on; the text is for a log line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DtlsFailure(pub &'static str);

/// What a handshake gave (RFC 5764 §4.2).
#[derive(Debug, Clone)]
pub struct Keys {
    /// Protects what we send.
    pub ours: SrtpKey,
    /// Protects what the peer sends.
    pub theirs: SrtpKey,
}

#[derive(Debug)]
pub enum DtlsEvent {
    /// The first `n` bytes of the buffer are a datagram to send.
    Packet(usize),
    /// SHA-256 of the peer's certificate; told before the keys.
    PeerCertificate([u8; 32]),
    Keys(Box<Keys>),
    /// The peer closed the connection (`close_notify`).
    Closed,
    /// Nothing more now; call `handle_timeout` then, if a time within [`HANDSHAKE_LIMIT`] is given.
    Idle(Option<MediaNs>),
}

/// A DTLS server that waits for its first packet. Drive: one `handle_…`, then `poll` until [`DtlsEvent::Idle`].
pub trait DtlsSession: Send {
    fn handle_packet(&mut self, now: MediaNs, datagram: &[u8]) -> Result<(), DtlsFailure>;
    fn handle_timeout(&mut self, now: MediaNs) -> Result<(), DtlsFailure>;
    fn poll(&mut self, datagram: &mut [u8]) -> Result<DtlsEvent, DtlsFailure>;
}

/// The name in the IANA registry "DTLS-SRTP Protection Profiles".
pub const fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
        Profile::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
        Profile::Aes128CmSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
    }
}
