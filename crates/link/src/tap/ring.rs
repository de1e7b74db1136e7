//! A byte ring from one media thread to one task: fixed memory, no lock, no allocation, no `unsafe`. Records lie in
//! it as one length word and the bytes in 64-bit words; the release store of a position publishes what lies before.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Keeps the two positions on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Position(AtomicUsize);

#[derive(Debug)]
struct Shared {
    words: Box<[AtomicU64]>,
    written: Position,
    read: Position,
    producer_gone: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Producer {
    ring: Arc<Shared>,
    written: usize,
    read_seen: usize,
}

#[derive(Debug)]
pub(super) struct Consumer {
    ring: Arc<Shared>,
    read: usize,
}

/// `bytes` is rounded up to a power of two words.
pub(super) fn ring(bytes: usize) -> (Producer, Consumer) {
    let words = bytes.div_ceil(8).max(16).next_power_of_two();
    let ring = Arc::new(Shared {
        words: (0..words).map(|_| AtomicU64::new(0)).collect(),
        written: Position::default(),
        read: Position::default(),
        producer_gone: AtomicBool::new(false),
    });
    (Producer { ring: Arc::clone(&ring), written: 0, read_seen: 0 }, Consumer { ring, read: 0 })
}

impl Shared {
    fn word(&self, position: usize) -> Option<&AtomicU64> {
        self.words.get(position & (self.words.len() - 1))
    }
}

impl Producer {
    /// `false` if the record would leave fewer than `reserve` bytes free.
    pub(super) fn push(&mut self, record: &[u8], reserve: usize) -> bool {
        let need = 1 + record.len().div_ceil(8);
        let capacity = self.ring.words.len();
        let wanted = need + reserve.div_ceil(8);
        if capacity - self.written.wrapping_sub(self.read_seen) < wanted {
            self.read_seen = self.ring.read.0.load(Ordering::Acquire);
            if capacity - self.written.wrapping_sub(self.read_seen) < wanted {
                return false;
            }
        }
        let mut at = self.written;
        let mut put = |value: u64| {
            if let Some(word) = self.ring.word(at) {
                word.store(value, Ordering::Relaxed);
            }
            at = at.wrapping_add(1);
        };
        put(record.len() as u64);
        for chunk in record.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            put(u64::from_le_bytes(word));
        }
        self.written = at;
        self.ring.written.0.store(at, Ordering::Release);
        true
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.ring.producer_gone.store(true, Ordering::Release);
    }
}

impl Consumer {
    /// Replaces `out` by the next record; `false` if there is none.
    pub(super) fn pop(&mut self, out: &mut Vec<u8>) -> bool {
        if self.ring.written.0.load(Ordering::Acquire) == self.read {
            return false;
        }
        let mut next = || {
            let value = self.ring.word(self.read).map_or(0, |word| word.load(Ordering::Relaxed));
            self.read = self.read.wrapping_add(1);
            value
        };
        let length = usize::try_from(next()).unwrap_or(0);
        out.clear();
        for _ in 0..length.div_ceil(8) {
            out.extend_from_slice(&next().to_le_bytes());
        }
        out.truncate(length);
        self.ring.read.0.store(self.read, Ordering::Release);
        true
    }

    /// Nothing will come after what [`Self::pop`] still gives.
    pub(super) fn producer_gone(&self) -> bool {
        self.ring.producer_gone.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_length_cross_two_threads_in_order_and_unchanged() {
        let (mut producer, mut consumer) = ring(4_096);
        let writer = std::thread::spawn(move || {
            for n in 0..20_000_usize {
                let record = vec![u8::try_from(n % 251).unwrap(); n % 300];
                while !producer.push(&record, 0) {
                    std::thread::yield_now();
                }
            }
        });
        let mut out = Vec::new();
        for n in 0..20_000_usize {
            while !consumer.pop(&mut out) {
                std::thread::yield_now();
            }
            assert_eq!(out, vec![u8::try_from(n % 251).unwrap(); n % 300]);
        }
        writer.join().unwrap();
        assert!(consumer.producer_gone());
        assert!(!consumer.pop(&mut out));
    }

    #[test]
    fn a_full_ring_refuses_and_the_reserve_stays_free() {
        let (mut producer, mut consumer) = ring(1_024);
        let mut packets = 0;
        while producer.push(&[1; 100], 200) {
            packets += 1;
        }
        assert!(packets >= 6, "{packets}");
        assert!(producer.push(&[2; 100], 0), "the reserve is there for control records");
        let mut out = Vec::new();
        for _ in 0..packets {
            assert!(consumer.pop(&mut out));
        }
        assert!(producer.push(&[3; 100], 200));
    }
}
