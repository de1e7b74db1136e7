//! The transforms of the three profiles behind one pair of enums: keyed once, then `&self` per packet.

mod cm;
mod gcm;
mod hmac_sha1;

use cm::CmSession;
use gcm::GcmSession;

use crate::kdf::Label;
use crate::{KeyError, Profile, SrtpError, SrtpKey};

/// RFC 3711 §3.4: header and sender's SSRC of the first packet stay in clear.
pub(crate) const RTCP_CLEAR_LEN: usize = 8;
/// RFC 3711 §3.4: the bit in front of the 31-bit index that says the compound is encrypted.
const RTCP_E_BIT: u32 = 0x8000_0000;

/// Session keys of one direction, for RTP or for RTCP.
#[allow(clippy::large_enum_variant, reason = "one per peer and direction; a box would cost a cache miss per packet")]
pub(crate) enum Session {
    Gcm(GcmSession),
    Cm(CmSession),
}

impl Session {
    pub(crate) fn for_rtp(master: &SrtpKey) -> Result<Self, KeyError> {
        Self::derive(master, Label::RtpEncryption, Label::RtpAuthentication, Label::RtpSalt)
    }

    pub(crate) fn for_rtcp(master: &SrtpKey) -> Result<Self, KeyError> {
        Self::derive(master, Label::RtcpEncryption, Label::RtcpAuthentication, Label::RtcpSalt)
    }

    fn derive(master: &SrtpKey, key: Label, authentication: Label, salt: Label) -> Result<Self, KeyError> {
        match master.profile() {
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => GcmSession::derive(master, key, salt).map(Self::Gcm),
            Profile::Aes128CmSha1_80 => CmSession::derive(master, key, authentication, salt).map(Self::Cm),
        }
    }

    /// Seals `buf[..len]`, whose payload begins at `header_len`; returns the new length.
    pub(crate) fn seal_rtp(
        &self,
        buf: &mut [u8],
        header_len: usize,
        len: usize,
        id: PacketId,
    ) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm(session) => session.seal_rtp(buf, header_len, len, id),
            Self::Cm(session) => session.seal_rtp(buf, header_len, len, id),
        }
    }

    /// Opens `packet` whole; returns the length without the tag.
    pub(crate) fn open_rtp(&self, packet: &mut [u8], header_len: usize, id: PacketId) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm(session) => session.open_rtp(packet, header_len, id),
            Self::Cm(session) => session.open_rtp(packet, header_len, id),
        }
    }

    pub(crate) fn seal_rtcp(&self, buf: &mut [u8], len: usize, id: PacketId) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm(session) => session.seal_rtcp(buf, len, id),
            Self::Cm(session) => session.seal_rtcp(buf, len, id),
        }
    }

    pub(crate) fn open_rtcp(&self, packet: &mut [u8], id: PacketId) -> Result<usize, SrtpError> {
        match self {
            Self::Gcm(session) => session.open_rtcp(packet, id),
            Self::Cm(session) => session.open_rtcp(packet, id),
        }
    }

    /// Reads the index word of a compound without trusting it; refuses packets that are not encrypted.
    pub(crate) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let word = match self {
            Self::Gcm(_) => packet.last_chunk::<4>(),
            Self::Cm(_) => packet.get(..packet.len().saturating_sub(cm::TAG_LEN)).and_then(<[u8]>::last_chunk),
        };
        let word = u32::from_be_bytes(*word.ok_or(SrtpError::Truncated)?);
        if word & RTCP_E_BIT == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        Ok(word & !RTCP_E_BIT)
    }
}

/// What makes a packet's keystream its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PacketId {
    pub ssrc: u32,
    /// 48 bits for RTP, 31 for RTCP.
    pub index: u64,
}

impl PacketId {
    /// RFC 3711 §3.3.1: the rollover counter is the upper 32 of 48 bits.
    #[allow(clippy::cast_possible_truncation, reason = "an index has 48 bits")]
    const fn rollover(self) -> u32 {
        (self.index >> 16) as u32
    }

    #[allow(clippy::cast_possible_truncation, reason = "an SRTCP index has 31 bits")]
    const fn rtcp_word(self) -> [u8; 4] {
        (self.index as u32 | RTCP_E_BIT).to_be_bytes()
    }
}

/// `buf[..end]`, or the error that says how much room was missing.
fn room(buf: &mut [u8], end: usize) -> Result<&mut [u8], SrtpError> {
    let capacity = buf.len();
    buf.get_mut(..end).ok_or(SrtpError::BufferTooSmall { needed: end, capacity })
}

#[cfg(test)]
pub(crate) mod test_hex {
    pub(crate) fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }
}
