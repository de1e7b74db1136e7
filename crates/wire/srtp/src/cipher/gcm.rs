//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714 §8 and §9).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{PacketId, RTCP_CLEAR_LEN, room};
use crate::kdf::{Label, derive};
use crate::{KeyError, SrtpError, SrtpKey};

pub(super) const TAG_LEN: usize = 16;
/// The index word behind the tag of a compound.
const WORD_LEN: usize = 4;

pub(crate) struct GcmSession {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl GcmSession {
    pub(super) fn derive(master: &SrtpKey, key: Label, salt: Label) -> Result<Self, KeyError> {
        let mut session_key = [0; 32];
        let session_key = session_key.get_mut(..master.profile().key_len()).ok_or(KeyError::Cipher)?;
        let mut session_salt = [0; 12];
        derive(master, key, session_key)?;
        derive(master, salt, &mut session_salt)?;
        Self::new(session_key, session_salt)
    }

    fn new(key: &[u8], salt: [u8; 12]) -> Result<Self, KeyError> {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).map_err(|_| KeyError::Cipher)?;
        Ok(Self { key: LessSafeKey::new(key), salt })
    }

    /// RFC 7714 §8.1 and §9.1: two zero bytes, SSRC, 48 bits of index, all under the salt. An SRTCP index has 31 bits,
    /// so its upper two bytes are zero as the second form wants.
    fn nonce(&self, id: PacketId) -> Nonce {
        let mixed = (u128::from(id.ssrc) << 48) | u128::from(id.index);
        let mut nonce = self.salt;
        nonce.iter_mut().rev().zip(mixed.to_le_bytes()).for_each(|(byte, m)| *byte ^= m);
        Nonce::assume_unique_for_key(nonce)
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
        let (header, payload) = packet.split_at_mut_checked(header_len).ok_or(SrtpError::Truncated)?;
        let sealed = self
            .key
            .seal_in_place_separate_tag(self.nonce(id), Aad::from(&*header), payload)
            .map_err(|_| SrtpError::Cipher)?;
        tag.copy_from_slice(sealed.as_ref());
        Ok(end)
    }

    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, id: PacketId) -> Result<usize, SrtpError> {
        let (header, sealed) = packet.split_at_mut_checked(header_len).ok_or(SrtpError::Truncated)?;
        if sealed.len() < TAG_LEN {
            return Err(SrtpError::Truncated);
        }
        let plain = self
            .key
            .open_in_place(self.nonce(id), Aad::from(&*header), sealed)
            .map_err(|_| SrtpError::Authentication)?;
        Ok(header_len + plain.len())
    }

    pub(super) fn seal_rtcp(&self, buf: &mut [u8], len: usize, id: PacketId) -> Result<usize, SrtpError> {
        let end = len + TAG_LEN + WORD_LEN;
        let (packet, trailer) = room(buf, end)?.split_at_mut(len);
        let (clear, body) = packet.split_first_chunk_mut::<RTCP_CLEAR_LEN>().ok_or(SrtpError::Truncated)?;
        let word = id.rtcp_word();
        let sealed = self
            .key
            .seal_in_place_separate_tag(self.nonce(id), rtcp_aad(clear, word), body)
            .map_err(|_| SrtpError::Cipher)?;
        let (tag, index) = trailer.split_at_mut(TAG_LEN);
        tag.copy_from_slice(sealed.as_ref());
        index.copy_from_slice(&word);
        Ok(end)
    }

    pub(super) fn open_rtcp(&self, packet: &mut [u8], id: PacketId) -> Result<usize, SrtpError> {
        let (clear, rest) = packet.split_first_chunk_mut::<RTCP_CLEAR_LEN>().ok_or(SrtpError::Truncated)?;
        let (sealed, word) = rest.split_last_chunk_mut::<WORD_LEN>().ok_or(SrtpError::Truncated)?;
        if sealed.len() < TAG_LEN {
            return Err(SrtpError::Truncated);
        }
        let plain = self
            .key
            .open_in_place(self.nonce(id), rtcp_aad(clear, *word), sealed)
            .map_err(|_| SrtpError::Authentication)?;
        Ok(RTCP_CLEAR_LEN + plain.len())
    }
}

/// RFC 7714 §9.2: clear header, then the index word with its E bit.
fn rtcp_aad(clear: &[u8; RTCP_CLEAR_LEN], word: [u8; WORD_LEN]) -> Aad<[u8; RTCP_CLEAR_LEN + WORD_LEN]> {
    let mut aad = [0; RTCP_CLEAR_LEN + WORD_LEN];
    let (front, back) = aad.split_at_mut(RTCP_CLEAR_LEN);
    front.copy_from_slice(clear);
    back.copy_from_slice(&word);
    Aad::from(aad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::test_hex::hex;

    const RTP: &str = "8040f17b8041f8d35501a0b2 47616c6c696120657374206f6d6e697320646976697361
        20696e207061727465732074726573";
    const RTCP: &str = "81c8000d4d6172734e5450314e54503252545020
        0000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

    fn session(key_len: u8) -> GcmSession {
        let key: Vec<u8> = (0..key_len).collect();
        GcmSession::new(&key, *b"Quid pro quo").unwrap()
    }

    #[test]
    fn the_rfc_7714_16_rtp_packets_come_out_and_open() {
        let id = PacketId { ssrc: 0x5501_a0b2, index: 0xf17b };
        for (key_len, sealed) in [
            (
                16,
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833
                 899d7f27beb16a9152cf765ee4390cce",
            ),
            (
                32,
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b
                 7aa3db36dfffd6b0f9bb7878d7a76c13",
            ),
        ] {
            let plain = hex(RTP);
            let mut buf = plain.clone();
            buf.resize(plain.len() + TAG_LEN, 0);
            let len = session(key_len).seal_rtp(&mut buf, 12, plain.len(), id).unwrap();
            assert_eq!((&buf[..12], &buf[12..len]), (&plain[..12], hex(sealed).as_slice()));
            assert_eq!(session(key_len).open_rtp(&mut buf, 12, id), Ok(plain.len()));
            assert_eq!(buf[..plain.len()], plain);
        }
    }

    #[test]
    fn the_rfc_7714_17_rtcp_packets_come_out_and_open() {
        let id = PacketId { ssrc: 0x4d61_7273, index: 0x5d4 };
        for (key_len, sealed) in [
            (
                16,
                "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda
                 4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
            ),
            (
                32,
                "d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be
                 8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
            ),
        ] {
            let plain = hex(RTCP);
            let mut buf = plain.clone();
            buf.resize(plain.len() + TAG_LEN + WORD_LEN, 0);
            let len = session(key_len).seal_rtcp(&mut buf, plain.len(), id).unwrap();
            assert_eq!((&buf[..8], &buf[8..len]), (&plain[..8], hex(sealed).as_slice()));
            assert_eq!(session(key_len).open_rtcp(&mut buf, id), Ok(plain.len()));
            assert_eq!(buf[..plain.len()], plain);
        }
    }
}
