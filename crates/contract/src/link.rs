//! What two daemons agree on for a Link: RTP under SRTP, addresses and keys carried by the bus.
use crate::audio::CodecName;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkProfile {
    AeadAes128Gcm,
    AeadAes256Gcm,
}

/// The key of one direction. `key` and `salt` are base64; `Debug` prints `***`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkKey {
    pub profile: LinkProfile,
    pub key: Secret,
    pub salt: Secret,
}

/// The SFU's half. One port carries RTP and RTCP of all streams (RFC 5761).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOffer {
    /// Where the other side sends to.
    pub addresses: Vec<SocketAddr>,
    /// Protects what the SFU sends.
    pub key: LinkKey,
    /// One SSRC per slot, as on a browser's lines. Who speaks stands in the CSRC.
    pub slot_ssrcs: Vec<u32>,
    pub announcer_ssrc: u32,
    /// What the SFU may send on this Link.
    pub codecs: Vec<CodecName>,
    /// The CSRC under which other listeners of the room see this leg.
    pub source_id: u32,
}

/// The other side's half.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkAnswer {
    pub addresses: Vec<SocketAddr>,
    /// Protects what the other side sends.
    pub key: LinkKey,
    pub ssrc: u32,
    /// What the other side will send, first choice first. Each packet carries the RFC 6464 level.
    pub codecs: Vec<CodecName>,
}
