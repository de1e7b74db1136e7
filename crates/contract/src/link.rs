//! What two daemons agree on for a Link: RTP under SRTP, addresses and keys carried by the bus.
use crate::audio::CodecName;
use crate::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the Link's key is not base64")]
pub struct LinkKeyError;

impl LinkKey {
    /// `key` and `salt` as bytes, of the profile's lengths.
    pub fn from_bytes(profile: LinkProfile, key: &[u8], salt: &[u8]) -> Self {
        Self { profile, key: Secret::new(STANDARD.encode(key)), salt: Secret::new(STANDARD.encode(salt)) }
    }

    /// Key and salt as bytes; their lengths are the reader's to check.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, Vec<u8>), LinkKeyError> {
        let decode = |text: &Secret| STANDARD.decode(text.expose()).map_err(|_| LinkKeyError);
        Ok((decode(&self.key)?, decode(&self.salt)?))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_text_and_is_never_printed() {
        let key = LinkKey::from_bytes(LinkProfile::AeadAes128Gcm, &[7; 16], &[9; 12]);
        assert_eq!(key.to_bytes(), Ok((vec![7; 16], vec![9; 12])));
        assert!(!format!("{key:?}").contains("BwcH"));
        let bad = LinkKey { key: Secret::new("no base64!"), ..key };
        assert_eq!(bad.to_bytes(), Err(LinkKeyError));
    }
}
