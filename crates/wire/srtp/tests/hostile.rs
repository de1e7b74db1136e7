//! What an attacker or a confused peer can send, and what it may not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Rng, roomy, rtcp, rtp};
use offhook_wire_srtp::{Profile, ReceiveContext, SendContext, SrtpError, SrtpKey};

fn ends(key: &SrtpKey) -> (SendContext, ReceiveContext) {
    (SendContext::new(key).unwrap(), ReceiveContext::new(key).unwrap())
}

fn sealed(sender: &mut SendContext, plain: &[u8]) -> Vec<u8> {
    let mut buf = roomy(plain);
    let len = sender.protect_rtp(&mut buf, plain.len()).unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let mut rng = Rng::seeded(10);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        let bytes = sealed(&mut sender, &rtp(&mut rng, 1, 5));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.unprotect_rtp(&mut broken).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(receiver.unprotect_rtp(&mut bytes[..len].to_vec()).is_err(), "length {len}");
        }
        assert_eq!(receiver.source_count(), 0);
        receiver.unprotect_rtp(&mut bytes.clone()).unwrap();
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_rtcp_is_refused() {
    let mut rng = Rng::seeded(11);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        let plain = rtcp(&mut rng, 1, 2);
        let mut bytes = roomy(&plain);
        let len = sender.protect_rtcp(&mut bytes, plain.len()).unwrap();
        bytes.truncate(len);
        assert_eq!(len, plain.len() + profile.rtcp_trailer_len());
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(receiver.unprotect_rtcp(&mut broken).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(receiver.unprotect_rtcp(&mut bytes[..len].to_vec()).is_err(), "length {len}");
        }
        receiver.unprotect_rtcp(&mut bytes.clone()).unwrap();
    }
}

#[test]
fn forged_numbers_move_neither_cycle_nor_window() {
    let mut rng = Rng::seeded(12);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        for n in 0..400_u16 {
            let sequence = 65_400_u16.wrapping_add(n);
            let plain = rtp(&mut rng, 3, sequence);
            let bytes = sealed(&mut sender, &plain);
            for jump in [1, 200, 0x4000, 0x7FFF, 0x8000, 0xC000] {
                let mut forged = bytes.clone();
                forged[2..4].copy_from_slice(&sequence.wrapping_add(jump).to_be_bytes());
                assert!(receiver.unprotect_rtp(&mut forged).is_err());
            }
            let mut buf = bytes.clone();
            let len = receiver.unprotect_rtp(&mut buf).unwrap();
            assert_eq!(&buf[..len], plain.as_slice());
        }
    }
}

#[test]
fn packets_behind_the_window_are_too_old() {
    let mut rng = Rng::seeded(13);
    let (mut sender, mut receiver) = ends(&rng.key(Profile::AeadAes128Gcm));
    let packets: Vec<_> = (0..200).map(|n| sealed(&mut sender, &rtp(&mut rng, 3, n))).collect();
    receiver.unprotect_rtp(&mut packets[0].clone()).unwrap();
    receiver.unprotect_rtp(&mut packets[150].clone()).unwrap();
    receiver.unprotect_rtp(&mut packets[23].clone()).unwrap();
    assert_eq!(receiver.unprotect_rtp(&mut packets[22].clone()), Err(SrtpError::TooOld));
    assert_eq!(receiver.unprotect_rtp(&mut packets[23].clone()), Err(SrtpError::Replayed));
}

#[test]
fn a_flood_of_sources_gets_no_state() {
    let mut rng = Rng::seeded(14);
    for profile in Profile::ALL {
        let key = rng.key(profile);
        let mut sender = SendContext::with_max_sources(&key, 20).unwrap();
        let mut receiver = ReceiveContext::new(&key).unwrap();
        for ssrc in 0..5000 {
            let mut forged = rtp(&mut rng, ssrc, 1);
            forged.extend(rng.bytes(16));
            assert_eq!(receiver.unprotect_rtp(&mut forged), Err(SrtpError::Authentication));
        }
        assert_eq!(receiver.source_count(), 0);
        for ssrc in 0..10 {
            let mut bytes = sealed(&mut sender, &rtp(&mut rng, ssrc, 1));
            let opened = receiver.unprotect_rtp(&mut bytes);
            assert_eq!(opened.err(), (ssrc >= 8).then_some(SrtpError::TooManySources { limit: 8 }));
        }
        let mut bytes = sealed(&mut sender, &rtp(&mut rng, 7, 2));
        receiver.unprotect_rtp(&mut bytes).unwrap();
    }
}

#[test]
fn the_sender_never_uses_an_index_twice() {
    let mut rng = Rng::seeded(15);
    for profile in Profile::ALL {
        let (mut sender, _) = ends(&rng.key(profile));
        sealed(&mut sender, &rtp(&mut rng, 1, 65_535));
        sealed(&mut sender, &rtp(&mut rng, 1, 1));
        sealed(&mut sender, &rtp(&mut rng, 1, 0));
        for (sequence, error) in [
            (65_535, SrtpError::Replayed),
            (0, SrtpError::Replayed),
            (1, SrtpError::Replayed),
            (65_000, SrtpError::TooOld),
        ] {
            let again = rtp(&mut rng, 1, sequence);
            assert_eq!(sender.protect_rtp(&mut roomy(&again), again.len()), Err(error));
        }
    }
}

#[test]
fn a_failed_seal_uses_no_index() {
    let mut rng = Rng::seeded(16);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        let plain = rtp(&mut rng, 1, 7);
        let (needed, capacity) = (plain.len() + profile.tag_len(), plain.len());
        let refused = sender.protect_rtp(&mut plain.clone(), plain.len());
        assert_eq!(refused, Err(SrtpError::BufferTooSmall { needed, capacity }));
        receiver.unprotect_rtp(&mut sealed(&mut sender, &plain)).unwrap();
        let refused = sender.protect_rtp(&mut plain.clone(), plain.len() + 1);
        assert_eq!(refused, Err(SrtpError::BufferTooSmall { needed: plain.len() + 1, capacity }));
        assert!(matches!(sender.protect_rtp(&mut roomy(&[0x80; 4]), 4), Err(SrtpError::Rtp(_))));
        assert_eq!(sender.protect_rtcp(&mut roomy(&[0x80; 4]), 4), Err(SrtpError::Truncated));
        assert_eq!(sender.protect_rtcp(&mut roomy(&[0; 8]), 8), Err(SrtpError::NotRtcp));
    }
}

#[test]
fn an_explicit_index_must_be_the_packets_and_fit() {
    let mut rng = Rng::seeded(17);
    let key = rng.key(Profile::AeadAes256Gcm);
    let (sender, mut receiver) = ends(&key);
    let plain = rtp(&mut rng, 1, 0xFFFF);
    let seal = |index| sender.protect_rtp_with_index(&mut roomy(&plain), plain.len(), index);
    assert_eq!(seal(0x1_0000), Err(SrtpError::IndexMismatch));
    assert_eq!(seal(0x1_FFFF_FFFF_FFFF), Err(SrtpError::KeyExhausted));

    let last = (1 << 48) - 1;
    let mut buf = roomy(&plain);
    let len = sender.protect_rtp_with_index(&mut buf, plain.len(), last).unwrap();
    receiver.expect_index(1, last - 5).unwrap();
    assert_eq!(receiver.open_rtp(&mut buf[..len]).unwrap().index, last);
    let mut beyond = rtp(&mut rng, 1, 0);
    beyond.extend([0; 16]);
    assert_eq!(receiver.unprotect_rtp(&mut beyond), Err(SrtpError::KeyExhausted));
    assert_eq!(receiver.expect_index(2, 1 << 48), Err(SrtpError::KeyExhausted));
}

#[test]
fn a_receiver_told_the_cycle_joins_late() {
    let mut rng = Rng::seeded(18);
    for profile in Profile::ALL {
        let (sender, mut receiver) = ends(&rng.key(profile));
        receiver.expect_index(4, 0x0003_0000_FFFF).unwrap();
        for (sequence, index) in [(0, 0x0003_0001_0000), (2, 0x0003_0001_0002), (0xFFFE, 0x0003_0000_FFFE)] {
            let plain = rtp(&mut rng, 4, sequence);
            let mut buf = roomy(&plain);
            let len = sender.protect_rtp_with_index(&mut buf, plain.len(), index).unwrap();
            assert_eq!(receiver.open_rtp(&mut buf[..len]).unwrap().index, index);
        }
    }
}

#[test]
fn compounds_that_are_only_authenticated_are_refused() {
    let mut rng = Rng::seeded(19);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        let plain = rtcp(&mut rng, 1, 1);
        let mut buf = roomy(&plain);
        let len = sender.protect_rtcp(&mut buf, plain.len()).unwrap();
        let word = if profile == Profile::Aes128CmSha1_80 { len - 14 } else { len - 4 };
        buf[word] &= 0x7F;
        assert_eq!(receiver.unprotect_rtcp(&mut buf[..len]), Err(SrtpError::NotEncrypted));
    }
}

#[test]
fn the_other_direction_or_profile_opens_nothing() {
    let mut rng = Rng::seeded(20);
    for profile in Profile::ALL {
        let mut sender = SendContext::new(&rng.key(profile)).unwrap();
        let bytes = sealed(&mut sender, &rtp(&mut rng, 1, 5));
        for other in Profile::ALL {
            let mut receiver = ReceiveContext::new(&rng.key(other)).unwrap();
            assert_eq!(receiver.unprotect_rtp(&mut bytes.clone()), Err(SrtpError::Authentication));
        }
    }
}

#[test]
fn packets_without_payload_pass() {
    let mut rng = Rng::seeded(21);
    for profile in Profile::ALL {
        let (mut sender, mut receiver) = ends(&rng.key(profile));
        let plain = [0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut bytes = sealed(&mut sender, &plain);
        assert_eq!(bytes.len(), 12 + profile.tag_len());
        assert_eq!(receiver.unprotect_rtp(&mut bytes), Ok(12));
        assert_eq!(bytes[..12], plain);
    }
}
