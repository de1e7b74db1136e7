//! Randomness is an argument: the shell hands in the operating system's, tests a seeded one.

use std::time::Duration;

/// A source of random bytes. In production it must be the operating system's: tags, branches and client nonces are guessed
/// otherwise.
pub trait Random: Send {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The same bytes for the same seed (SplitMix64). For tests and simulations only.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Random for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let word = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(word.get(..chunk.len()).unwrap_or_default());
        }
    }
}

/// `bytes` random bytes as lower-case hexadecimal.
pub(crate) fn hex(random: &mut dyn Random, bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    random.fill(&mut raw);
    raw.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn number(random: &mut dyn Random) -> u64 {
    let mut raw = [0; 8];
    random.fill(&mut raw);
    u64::from_le_bytes(raw)
}

/// `base` times a random factor between `low` and `high` percent.
pub(crate) fn spread(random: &mut dyn Random, base: Duration, low: u32, high: u32) -> Duration {
    let range = u64::from(high.saturating_sub(low)) + 1;
    let percent = low + u32::try_from(number(random) % range).unwrap_or(0);
    base.saturating_mul(percent) / 100
}
