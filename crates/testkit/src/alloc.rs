//! An allocator that counts, per thread: `#[global_allocator] static A: CountingAllocator = CountingAllocator;`.
#![allow(unsafe_code)]
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// More threads than run at once; two whose ids are this far apart would share a place.
const PLACES: usize = 1 << 16;
/// By the thread's kernel id.
static COUNTS: [AtomicU64; PLACES] = [const { AtomicU64::new(0) }; PLACES];

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(0) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

impl CountingAllocator {
    /// Allocations and reallocations of the calling thread so far.
    pub fn count() -> u64 {
        COUNT.with(Cell::get)
    }

    /// The same of any thread of this process, by its kernel id.
    pub fn count_of(tid: i32) -> u64 {
        COUNTS.get(tid as usize % PLACES).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How many the calling thread makes inside `work`.
    pub fn during<T>(work: impl FnOnce() -> T) -> (T, u64) {
        let before = Self::count();
        let result = work();
        (result, Self::count() - before)
    }

    /// Bytes that the calling thread took, less those it gave back.
    pub fn bytes() -> i64 {
        BYTES.with(Cell::get)
    }
}

fn note() {
    // While a thread is torn down its cells are gone; what it allocates then is not counted.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
    let _ = THREAD.try_with(|thread| {
        if thread.get() == 0 {
            // SAFETY: no arguments, cannot fail.
            thread.set(unsafe { libc::gettid() } as usize);
        }
        if let Some(count) = COUNTS.get(thread.get() % PLACES) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
}

fn weigh(taken: usize, given_back: usize) {
    let _ = BYTES.try_with(|bytes| bytes.set(bytes.get() + taken as i64 - given_back as i64));
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory that it manages.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        weigh(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        weigh(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        weigh(new_size, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        weigh(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator;

    #[test]
    fn a_boxed_value_is_one_allocation_and_arithmetic_is_none() {
        let (_, boxed) = CountingAllocator::during(|| Box::new(7u64));
        let (_, none) = CountingAllocator::during(|| std::hint::black_box(7u64) + 1);
        assert_eq!((boxed, none), (1, 0));
        let before = CountingAllocator::bytes();
        let kept = vec![0u8; 1_000];
        assert_eq!(CountingAllocator::bytes() - before, 1_000);
        drop(kept);
        assert_eq!(CountingAllocator::bytes(), before);
    }

    #[test]
    fn what_a_thread_allocates_is_known_to_others_by_its_id() {
        let ((go, starts), (tell, told)) = (channel::<()>(), channel());
        let thread = std::thread::spawn(move || {
            // SAFETY: no arguments, cannot fail.
            let tid = unsafe { libc::gettid() };
            tell.send((tid, 0)).unwrap();
            starts.recv().unwrap();
            let (boxes, counted) = CountingAllocator::during(|| [Box::new(1u8), Box::new(2)]);
            drop(boxes);
            tell.send((tid, counted)).unwrap();
            starts.recv().unwrap();
        });
        let (tid, _) = told.recv().unwrap();
        let before = CountingAllocator::count_of(tid);
        go.send(()).unwrap();
        let (_, counted) = told.recv().unwrap();
        let seen = CountingAllocator::count_of(tid) - before;
        // Between the two looks the channels may have taken memory, too.
        assert!(counted == 2 && seen >= counted, "{seen} instead of {counted}");
        go.send(()).unwrap();
        thread.join().unwrap();
    }
}
