//! Numbers nobody outside can foretell, drawn from the system's randomness that the shell handed in.
use aws_lc_rs::hmac;

/// HMAC-SHA256 in counter mode under a secret of the process.
pub(crate) struct Random {
    key: hmac::Key,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    pub(crate) fn new(secret: &[u8; 32], purpose: &str) -> Self {
        Self { key: derived(secret, purpose), counter: 0, block: [0; 32], used: 32 }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        if self.used + 8 > self.block.len() {
            self.counter += 1;
            let tag = hmac::sign(&self.key, &self.counter.to_le_bytes());
            self.block.iter_mut().zip(tag.as_ref()).for_each(|(slot, byte)| *slot = *byte);
            self.used = 0;
        }
        let word = self.block.get(self.used..self.used + 8).and_then(|bytes| bytes.try_into().ok());
        self.used += 8;
        u64::from_le_bytes(word.unwrap_or_default())
    }

    /// In `0..bound`, evenly; 0 when `bound` is 0. The high half of a product leans by less than `bound` in 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }
}

/// A key for one purpose, so that what leaks of one tells nothing of another.
pub(crate) fn derived(secret: &[u8; 32], purpose: &str) -> hmac::Key {
    let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, purpose.as_bytes()).as_ref())
}
