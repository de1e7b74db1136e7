//! AES128_CM_HMAC_SHA1_80 (RFC 3711 §4.1.1 and §4.2.1).

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use subtle::ConstantTimeEq as _;

use super::hmac_sha1::{DIGEST_LEN, HmacSha1};
use super::{PacketId, RTCP_CLEAR_LEN, room};
use crate::kdf::{Label, counter_key, derive};
use crate::{KeyError, SrtpError, SrtpKey};

/// The leftmost 80 of the digest's 160 bits.
pub(super) const TAG_LEN: usize = 10;
const WORD_LEN: usize = 4;

pub(crate) struct CmSession {
    key: EncryptingKey,
    salt: [u8; 14],
    mac: HmacSha1,
}

impl CmSession {
    pub(super) fn derive(master: &SrtpKey, key: Label, authentication: Label, salt: Label) -> Result<Self, KeyError> {
        let mut session_key = [0; 16];
        let mut mac_key = [0; DIGEST_LEN];
        let mut session_salt = [0; 14];
        derive(master, key, &mut session_key)?;
        derive(master, authentication, &mut mac_key)?;
        derive(master, salt, &mut session_salt)?;
        Ok(Self { key: counter_key(&session_key)?, salt: session_salt, mac: HmacSha1::new(&mac_key) })
    }

    /// XORs the packet's keystream into `data`; the same both ways. RFC 3711 §4.1.1: the salt, SSRC and index are
    /// added up above a 16-bit block counter.
    fn crypt(&self, data: &mut [u8], id: PacketId) -> Result<(), SrtpError> {
        let mixed = (u128::from(id.ssrc) << 64) | (u128::from(id.index) << 16);
        let mut iv = mixed.to_be_bytes();
        iv.iter_mut().zip(self.salt).for_each(|(byte, salt)| *byte ^= salt);
        self.key.less_safe_encrypt(data, EncryptionContext::Iv128(iv.into())).map(|_| ()).map_err(|_| SrtpError::Cipher)
    }

    fn check(&self, covered: &[u8], suffix: &[u8], tag: &[u8; TAG_LEN]) -> Result<(), SrtpError> {
        let ours = self.mac.tag(covered, suffix);
        let ours = ours.first_chunk::<TAG_LEN>().ok_or(SrtpError::Authentication)?;
        if bool::from(ours.ct_eq(tag)) { Ok(()) } else { Err(SrtpError::Authentication) }
    }

    pub(super) fn seal_rtp(
        &self,
        buf: &mut [u8],
        header_len: usize,
        len: usize,
        id: PacketId,
    ) -> Result<usize, SrtpError> {
        let end = len + TAG_LEN;
        let (packet, tag) = room(buf, end)?.split_at_mut(len);
        self.crypt(packet.get_mut(header_len..).ok_or(SrtpError::Truncated)?, id)?;
        put_tag(tag, &self.mac.tag(packet, &id.rollover().to_be_bytes()));
        Ok(end)
    }

    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, id: PacketId) -> Result<usize, SrtpError> {
        let (covered, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::Truncated)?;
        if covered.len() < header_len {
            return Err(SrtpError::Truncated);
        }
        self.check(covered, &id.rollover().to_be_bytes(), tag)?;
        self.crypt(covered.get_mut(header_len..).ok_or(SrtpError::Truncated)?, id)?;
        Ok(covered.len())
    }

    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, id: PacketId) -> Result<usize, SrtpError> {
        let end = len + WORD_LEN + TAG_LEN;
        let (packet, trailer) = room(buf, end)?.split_at_mut(len);
        self.crypt(packet.get_mut(RTCP_CLEAR_LEN..).ok_or(SrtpError::Truncated)?, id)?;
        let word = id.rtcp_word();
        let (index, tag) = trailer.split_at_mut(WORD_LEN);
        index.copy_from_slice(&word);
        put_tag(tag, &self.mac.tag(packet, &word));
        Ok(end)
    }

    pub(super) fn open_rtcp(&self, packet: &mut [u8], id: PacketId) -> Result<usize, SrtpError> {
        let (covered, tag) = packet.split_last_chunk_mut::<TAG_LEN>().ok_or(SrtpError::Truncated)?;
        let len = covered.len().checked_sub(WORD_LEN).ok_or(SrtpError::Truncated)?;
        if len < RTCP_CLEAR_LEN {
            return Err(SrtpError::Truncated);
        }
        self.check(covered, &[], tag)?;
        self.crypt(covered.get_mut(RTCP_CLEAR_LEN..len).ok_or(SrtpError::Truncated)?, id)?;
        Ok(len)
    }
}

fn put_tag(slot: &mut [u8], digest: &[u8; DIGEST_LEN]) {
    slot.iter_mut().zip(digest).for_each(|(byte, d)| *byte = *d);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::test_hex::hex;

    #[test]
    fn the_rfc_3711_b2_keystream_comes_out_at_both_ends() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let session = CmSession { key: counter_key(&key).unwrap(), salt, mac: HmacSha1::new(&[0; 20]) };
        let mut stream = vec![0; 0xFF02 * 16];
        session.crypt(&mut stream, PacketId { ssrc: 0, index: 0 }).unwrap();
        let start = "E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB
            41E95B3BB0A2E8DD477901E4FCA894C0";
        let end = "EC8CDF7398607CB0F2D21675EA9EA1E4362B7C3C6773516318A077D7FC5073AE
            6A2CC3787889374FBEB4C81B17BA6C44";
        assert_eq!(stream[..48], hex(start));
        assert_eq!(stream[0xFEFF * 16..], hex(end));
    }
}
