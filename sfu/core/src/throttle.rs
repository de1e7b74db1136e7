//! Rates: a token bucket for one sender, and a fixed table of buckets for senders that have no state yet.
use crate::time::MediaNs;
use std::net::IpAddr;
use std::time::Duration;

/// Lets `rate` events a second pass, `burst` at once.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// When the bucket will be full again; the usual virtual form, so that no fraction is kept.
    full_at: MediaNs,
}

#[derive(Debug, Clone, Copy)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

impl Rate {
    const fn interval(self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.per_second as u64)
    }
}

impl Bucket {
    pub const FULL: Self = Self { full_at: MediaNs(0) };

    pub fn take(&mut self, now: MediaNs, rate: Rate) -> bool {
        let owed = self.full_at.since(now) + rate.interval();
        if owed > rate.interval() * rate.burst {
            return false;
        }
        self.full_at = self.full_at.max(now).after(rate.interval());
        true
    }
}

/// A bucket per source address, in fixed memory: addresses that share a place share a bucket, so a flood from many
/// addresses throttles itself rather than growing anything.
pub struct SourceBuckets {
    buckets: Box<[Bucket]>,
    rate: Rate,
    /// Mixed into the place, so that nobody outside can choose whom he shares with.
    secret: u64,
}

impl SourceBuckets {
    pub fn new(places: usize, rate: Rate, secret: u64) -> Self {
        Self { buckets: vec![Bucket::FULL; places.next_power_of_two()].into(), rate, secret }
    }

    pub fn take(&mut self, now: MediaNs, source: IpAddr) -> bool {
        let bits = match source {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            // A host commonly owns its whole /64.
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        let mixed = (bits ^ self.secret).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = (mixed >> 40) as usize & (self.buckets.len() - 1);
        self.buckets.get_mut(place).is_some_and(|bucket| bucket.take(now, self.rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_burst_pass_and_then_its_rate() {
        let rate = Rate { per_second: 100, burst: 5 };
        let mut bucket = Bucket::FULL;
        let start = MediaNs(7_000_000_000);
        assert_eq!((0..20).filter(|_| bucket.take(start, rate)).count(), 5);
        let passed = (1..=1000).filter(|ms| bucket.take(start.after(Duration::from_millis(*ms)), rate)).count();
        assert_eq!(passed, 100);
    }

    #[test]
    fn one_noisy_source_does_not_silence_another() {
        let mut table = SourceBuckets::new(1024, Rate { per_second: 5, burst: 5 }, 42);
        let (noisy, quiet): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let now = MediaNs(1);
        assert_eq!((0..100).filter(|_| table.take(now, noisy)).count(), 5);
        assert!(table.take(now, quiet));
    }
}
