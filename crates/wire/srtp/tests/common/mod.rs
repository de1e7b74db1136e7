//! A seeded generator and packets for the tests of this folder.
#![allow(dead_code)]

use offhook_wire_rtp::{Extension, RtpHeader};
use offhook_wire_srtp::{Profile, SrtpKey};

/// xorshift64*: the same numbers on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }

    pub fn key(&mut self, profile: Profile) -> SrtpKey {
        SrtpKey::new(profile, &self.bytes(profile.key_len()), &self.bytes(profile.salt_len())).unwrap()
    }
}

/// A packet whose contributors, extensions and payload are random; well-formed throughout.
pub fn rtp(rng: &mut Rng, ssrc: u32, sequence: u16) -> Vec<u8> {
    let header = RtpHeader {
        marker: rng.below(2) == 1,
        payload_type: u8::try_from(rng.below(128)).unwrap(),
        sequence,
        timestamp: u32::try_from(rng.next() >> 32).unwrap(),
        ssrc,
    };
    let csrcs: Vec<u32> = (0..rng.below(4)).map(|n| u32::try_from(n).unwrap()).collect();
    let data = [rng.bytes(1), rng.bytes(3)];
    let elements = [Extension { id: 1, data: &data[0] }, Extension { id: 5, data: &data[1] }];
    let mut buf = vec![0; 1500];
    let len = header.write_with(&mut buf, &csrcs, &elements[..rng.below(3)]).unwrap();
    buf.truncate(len);
    let payload = rng.below(400);
    buf.extend(rng.bytes(payload));
    buf
}

/// A receiver report with `blocks` random blocks.
pub fn rtcp(rng: &mut Rng, ssrc: u32, blocks: u8) -> Vec<u8> {
    let mut bytes = vec![0x80 | blocks, 201, 0, 1 + 6 * blocks];
    bytes.extend(ssrc.to_be_bytes());
    bytes.extend(rng.bytes(usize::from(blocks) * 24));
    bytes
}

/// `plain` with room for the longest trailer.
pub fn roomy(plain: &[u8]) -> Vec<u8> {
    let mut buf = plain.to_vec();
    buf.resize(plain.len() + offhook_wire_srtp::MAX_TRAILER_LEN, 0);
    buf
}
