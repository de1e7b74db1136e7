//! Sealing and opening allocate nothing: counted, over every profile, RTP and RTCP, new sources included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Rng, rtcp, rtp};
use offhook_testkit::CountingAllocator;
use offhook_wire_srtp::{MAX_TRAILER_LEN, Profile, ReceiveContext, SendContext};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_packet_costs_no_allocation() {
    let mut rng = Rng::seeded(30);
    for profile in Profile::ALL {
        let key = rng.key(profile);
        let mut sender = SendContext::new(&key).unwrap();
        let mut receiver = ReceiveContext::new(&key).unwrap();
        let packets: Vec<_> =
            (0..1000_u16).map(|n| rtp(&mut rng, u32::from(n % 8), 60_000_u16.wrapping_add(n * 9))).collect();
        let compounds: Vec<_> = (0..100_u8).map(|n| rtcp(&mut rng, u32::from(n % 8), n % 4)).collect();
        let mut buf = vec![0; 1500 + MAX_TRAILER_LEN];
        let ((), counted) = CountingAllocator::during(|| {
            for plain in &packets {
                buf[..plain.len()].copy_from_slice(plain);
                let len = sender.protect_rtp(&mut buf, plain.len()).unwrap();
                assert_eq!(receiver.unprotect_rtp(&mut buf[..len]), Ok(plain.len()));
                assert!(receiver.unprotect_rtp(&mut buf[..len]).is_err());
            }
            for plain in &compounds {
                buf[..plain.len()].copy_from_slice(plain);
                let len = sender.protect_rtcp(&mut buf, plain.len()).unwrap();
                assert_eq!(receiver.unprotect_rtcp(&mut buf[..len]), Ok(plain.len()));
            }
        });
        assert_eq!(counted, 0, "{profile:?}");
    }
}
