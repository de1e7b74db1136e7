//! An allocator that counts per thread and lets other threads read the count.
#![allow(unsafe_code)]
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

const PLACES: usize = 1 << 16;
static COUNTS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
}

pub struct CountingAllocator;

/// Allocations of the thread with this kernel id so far.
pub fn allocations_of(tid: i32) -> u64 {
    COUNTS[tid as usize % PLACES].load(Ordering::Relaxed)
}

fn note() {
    // A thread that is being torn down has no cell any more; what it allocates then is not counted.
    let _ = THREAD.try_with(|thread| {
        if thread.get() == 0 {
            thread.set(crate::cpu::own_tid() as usize);
        }
        COUNTS[thread.get() % PLACES].fetch_add(1, Ordering::Relaxed);
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory that it manages.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}
