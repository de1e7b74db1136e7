//! HMAC-SHA1 with both keyed states kept, so a packet costs only its own blocks (RFC 2104 §4).

use sha1::block_api::compress;

const BLOCK: usize = 64;
pub(super) const DIGEST_LEN: usize = 20;
/// FIPS 180-4 §5.3.1.
const INITIAL: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];

pub(super) struct HmacSha1 {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl HmacSha1 {
    /// `key` has at most one block, as every SRTP key has.
    pub(super) fn new(key: &[u8; DIGEST_LEN]) -> Self {
        let keyed = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(slot, byte)| *slot ^= byte);
            let mut state = INITIAL;
            compress(&mut state, &[block]);
            state
        };
        Self { inner: keyed(0x36), outer: keyed(0x5C) }
    }

    /// The tag over `data` followed by `suffix` (the rollover counter stands behind a packet, RFC 3711 §4.2).
    pub(super) fn tag(&self, data: &[u8], suffix: &[u8]) -> [u8; DIGEST_LEN] {
        let (blocks, tail) = data.as_chunks::<BLOCK>();
        let mut state = self.inner;
        compress(&mut state, blocks);

        let mut last = [[0; BLOCK]; 2];
        let used = put(last.as_flattened_mut(), &[tail, suffix, &[0x80]]);
        let count = if used + 8 <= BLOCK { 1 } else { 2 };
        finish(&mut state, &mut last, count, data.len() + suffix.len());

        let mut outer = self.outer;
        let mut block = [[0; BLOCK]; 2];
        put(block.as_flattened_mut(), &[&digest(state), &[0x80]]);
        finish(&mut outer, &mut block, 1, DIGEST_LEN);
        digest(outer)
    }
}

/// Writes `parts` one behind the other; returns the end.
fn put(out: &mut [u8], parts: &[&[u8]]) -> usize {
    let bytes = parts.iter().flat_map(|part| part.iter());
    out.iter_mut().zip(bytes).map(|(slot, byte)| *slot = *byte).count()
}

/// Adds the bit length, which counts the keyed block in front, and takes in the last `count` blocks.
fn finish(state: &mut [u32; 5], blocks: &mut [[u8; BLOCK]; 2], count: usize, message_len: usize) {
    let bits = (BLOCK as u64 + message_len as u64) * 8;
    let Some(blocks) = blocks.get_mut(..count) else { return };
    if let Some(length) = blocks.as_flattened_mut().last_chunk_mut::<8>() {
        *length = bits.to_be_bytes();
    }
    compress(state, blocks);
}

fn digest(state: [u32; 5]) -> [u8; DIGEST_LEN] {
    let mut out = [0; DIGEST_LEN];
    out.as_chunks_mut::<4>().0.iter_mut().zip(state).for_each(|(slot, word)| *slot = word.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::test_hex::hex;

    #[test]
    fn the_rfc_2202_case_comes_out() {
        let mac = HmacSha1::new(&[0x0B; DIGEST_LEN]);
        assert_eq!(mac.tag(b"Hi There", b"").as_slice(), hex("b617318655057264e28bc0b6fb378c8ef146be00"));
    }

    #[test]
    fn every_length_agrees_with_the_crypto_library() {
        use aws_lc_rs::hmac;
        let key: Vec<u8> = (100..120).collect();
        let ours = HmacSha1::new(key.as_slice().try_into().unwrap());
        let theirs = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
        let data: Vec<u8> = (0..=255).cycle().take(400).collect();
        for len in 0..data.len() - 4 {
            let (message, suffix) = data[..len + 4].split_at(len);
            let wanted = hmac::sign(&theirs, &data[..len + 4]);
            assert_eq!(ours.tag(message, suffix).as_slice(), wanted.as_ref(), "{len}");
        }
    }
}
