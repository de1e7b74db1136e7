//! Every packet as `rtc-srtp` sees it: sealed bytes equal, either side opens the other's, across roll-overs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Rng, roomy, rtcp, rtp};
use offhook_wire_srtp::{Profile, ReceiveContext, SendContext, SrtpError, SrtpKey};
use rtc_srtp::context::Context;
use rtc_srtp::crypto::RTCCryptoProvider as _;
use rtc_srtp::crypto::providers::AwsLcRsProvider;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;

fn theirs(key: &SrtpKey) -> Context {
    let profile = match key.profile() {
        Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Profile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let provider = AwsLcRsProvider::new();
    let replay = (srtp_replay_protection(128), srtcp_replay_protection(128));
    let (key, salt) = (key.master_key(), key.master_salt());
    Context::new(key, salt, profile, Some(replay.0), Some(replay.1), provider.crypto()).unwrap()
}

/// Both libraries at both ends of one key.
struct Pair {
    ours: (SendContext, ReceiveContext),
    theirs: (Context, Context),
}

impl Pair {
    fn new(key: &SrtpKey) -> Self {
        Self {
            ours: (SendContext::new(key).unwrap(), ReceiveContext::new(key).unwrap()),
            theirs: (theirs(key), theirs(key)),
        }
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut buf = roomy(plain);
        let len = self.ours.0.protect_rtp(&mut buf, plain.len()).unwrap();
        buf.truncate(len);
        assert_eq!(buf, self.theirs.0.encrypt_rtp(plain).unwrap().as_ref());
        buf
    }

    fn open(&mut self, sealed: &[u8], plain: &[u8]) {
        let mut buf = sealed.to_vec();
        let len = self.ours.1.unprotect_rtp(&mut buf).unwrap();
        assert_eq!(&buf[..len], plain);
        assert_eq!(self.theirs.1.decrypt_rtp(sealed).unwrap().as_ref(), plain);
    }
}

#[test]
fn streams_agree_in_order_across_the_wrap() {
    let mut rng = Rng::seeded(1);
    for profile in Profile::ALL {
        for start in [0, 1, 0x7FFF, 0x8000, 65_400, 65_535] {
            let mut pair = Pair::new(&rng.key(profile));
            let ssrc = u32::try_from(rng.next() >> 32).unwrap();
            for n in 0..300_u16 {
                let plain = rtp(&mut rng, ssrc, u16::wrapping_add(start, n));
                let sealed = pair.seal(&plain);
                pair.open(&sealed, &plain);
            }
        }
    }
}

#[test]
fn many_cycles_agree_when_numbers_leap() {
    let mut rng = Rng::seeded(2);
    for profile in Profile::ALL {
        let mut pair = Pair::new(&rng.key(profile));
        let mut sequence = 40_000_u16;
        let mut index = u64::from(sequence);
        for _ in 0..400 {
            let plain = rtp(&mut rng, 0xCAFE, sequence);
            let sealed = pair.seal(&plain);
            let mut with_index = roomy(&plain);
            let len = pair.ours.0.protect_rtp_with_index(&mut with_index, plain.len(), index).unwrap();
            assert_eq!(&with_index[..len], sealed.as_slice());
            let opened = pair.ours.1.open_rtp(&mut sealed.clone()).unwrap();
            assert_eq!((opened.len, opened.ssrc, opened.index), (plain.len(), 0xCAFE, index));
            assert_eq!(pair.theirs.1.decrypt_rtp(&sealed).unwrap().as_ref(), plain.as_slice());
            let leap = 1 + rng.below(30_000);
            sequence = sequence.wrapping_add(u16::try_from(leap).unwrap());
            index += leap as u64;
        }
        assert!(index >> 16 > 50);
    }
}

#[test]
fn reordered_and_lost_packets_agree_around_the_wrap() {
    let mut rng = Rng::seeded(3);
    for profile in Profile::ALL {
        let mut pair = Pair::new(&rng.key(profile));
        let mut sent: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for n in 0..600_u16 {
            let plain = rtp(&mut rng, 9, 65_300_u16.wrapping_add(n));
            let sealed = pair.seal(&plain);
            sent.push((sealed, plain));
        }
        // The first packet stays first: what precedes it lies in no cycle.
        for window in sent[1..].chunks_mut(12) {
            for at in (1..window.len()).rev() {
                let other = rng.below(at + 1);
                window.swap(at, other);
            }
        }
        for (n, (sealed, plain)) in sent.iter().enumerate() {
            if n == 0 || rng.below(10) != 0 {
                pair.open(sealed, plain);
            }
        }
    }
}

#[test]
fn both_refuse_replays_and_forgeries() {
    let mut rng = Rng::seeded(4);
    for profile in Profile::ALL {
        let mut pair = Pair::new(&rng.key(profile));
        for n in 0..200_u16 {
            let plain = rtp(&mut rng, 77, 65_500_u16.wrapping_add(n));
            let sealed = pair.seal(&plain);
            let mut forged = sealed.clone();
            let at = rng.below(forged.len());
            forged[at] ^= 1 << rng.below(8);
            assert!(pair.ours.1.unprotect_rtp(&mut forged.clone()).is_err(), "byte {at}");
            assert!(pair.theirs.1.decrypt_rtp(&forged).is_err(), "byte {at}");
            pair.open(&sealed, &plain);
            assert_eq!(pair.ours.1.unprotect_rtp(&mut sealed.clone()), Err(SrtpError::Replayed));
            assert!(pair.theirs.1.decrypt_rtp(&sealed).is_err());
        }
    }
}

#[test]
fn several_sources_share_a_key_and_agree() {
    let mut rng = Rng::seeded(5);
    for profile in Profile::ALL {
        let mut pair = Pair::new(&rng.key(profile));
        let mut next: Vec<u16> = (0..8).map(|_| u16::try_from(rng.next() >> 48).unwrap()).collect();
        for _ in 0..400 {
            let source = rng.below(next.len());
            let plain = rtp(&mut rng, u32::try_from(source).unwrap() + 500, next[source]);
            next[source] = next[source].wrapping_add(1);
            let sealed = pair.seal(&plain);
            pair.open(&sealed, &plain);
        }
    }
}

#[test]
fn rtcp_of_either_opens_at_the_other() {
    let mut rng = Rng::seeded(6);
    for profile in Profile::ALL {
        let key = rng.key(profile);
        let mut pair = Pair::new(&key);
        for n in 0..100_u8 {
            let plain = rtcp(&mut rng, 0xBEEF, n % 5);
            let mut ours = roomy(&plain);
            let len = pair.ours.0.protect_rtcp(&mut ours, plain.len()).unwrap();
            ours.truncate(len);
            assert_eq!(pair.theirs.1.decrypt_rtcp(&ours).unwrap().as_ref(), plain.as_slice());

            let sealed = pair.theirs.0.encrypt_rtcp(&plain).unwrap();
            let mut buf = sealed.to_vec();
            let len = pair.ours.1.unprotect_rtcp(&mut buf).unwrap();
            assert_eq!(&buf[..len], plain.as_slice());
            assert_eq!(pair.ours.1.unprotect_rtcp(&mut sealed.to_vec()), Err(SrtpError::Replayed));
        }
    }
}
