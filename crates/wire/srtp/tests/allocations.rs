//! Sealing and opening allocate nothing: counted, over every profile, RTP and RTCP, new sources included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(unsafe_code)] // the counting allocator

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::{Rng, rtcp, rtp};
use offhook_wire_srtp::{MAX_TRAILER_LEN, Profile, ReceiveContext, SendContext};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|total| total.set(total.get() + 1));
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    run();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(vec![1_u8; 100]))) > 0);
}

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
        let counted = allocations(|| {
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
