//! Rates: a token bucket for one sender, and a fixed table of buckets for senders that have no state yet.
use crate::time::Moment;
use std::net::IpAddr;

const NS_PER_S: u64 = 1_000_000_000;

/// So many units a second, so many at once. A rate of zero limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u64,
    pub burst: u64,
}

impl Rate {
    pub const UNLIMITED: Self = Self { per_second: 0, burst: 0 };

    /// Bytes a second, one second's worth at once.
    #[must_use]
    pub const fn bytes(per_second: u64) -> Self {
        Self { per_second, burst: per_second }
    }
}

/// A token bucket in its virtual form: it remembers when it will be full again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at: Moment,
}

impl Bucket {
    pub const fn take(&mut self, now: Moment, rate: Rate, units: u64) -> bool {
        if rate.per_second == 0 {
            return true;
        }
        let cost = units.saturating_mul(NS_PER_S) / rate.per_second;
        let most = rate.burst.saturating_mul(NS_PER_S) / rate.per_second;
        let owed = self.full_at.0.saturating_sub(now.0).saturating_add(cost);
        if owed > most {
            return false;
        }
        self.full_at = Moment(now.0.saturating_add(owed));
        true
    }
}

/// A bucket per source prefix (/32 of IPv4, /64 of IPv6) in fixed memory: prefixes that share a place share a bucket, so
/// a flood from many sources throttles itself and grows nothing.
pub struct SourceBuckets {
    buckets: Box<[Bucket]>,
    /// Mixed into the place, so that nobody outside can choose whom he shares with.
    secret: u64,
}

impl SourceBuckets {
    pub fn new(places: usize, secret: u64) -> Self {
        Self { buckets: vec![Bucket::default(); places.next_power_of_two()].into(), secret }
    }

    pub fn take(&mut self, now: Moment, source: IpAddr, rate: Rate, units: u64) -> bool {
        let prefix = match source {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        let place = mix(prefix, self.secret) as usize & (self.buckets.len() - 1);
        self.buckets.get_mut(place).is_some_and(|bucket| bucket.take(now, rate, units))
    }
}

/// Spreads `value` under `secret`: multiply wide and fold, twice.
pub const fn mix(value: u64, secret: u64) -> u64 {
    let once = fold(value ^ secret, 0x9e37_79b9_7f4a_7c15);
    fold(once ^ secret.rotate_left(32), 0xd6e8_feb8_6659_fd93)
}

pub const fn fold(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    wide as u64 ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const START: Moment = Moment(7 * NS_PER_S);

    #[test]
    fn a_bucket_lets_its_burst_pass_and_then_its_rate() {
        let rate = Rate { per_second: 100, burst: 5 };
        let mut bucket = Bucket::default();
        assert_eq!((0..20).filter(|_| bucket.take(START, rate, 1)).count(), 5);
        let later = (1..=1000).filter(|ms| bucket.take(START.after(Duration::from_millis(*ms)), rate, 1)).count();
        assert_eq!(later, 100);
        assert!((0..1_000_000).all(|_| bucket.take(START, Rate::UNLIMITED, 1)));
    }

    #[test]
    fn bytes_count_by_their_number() {
        let rate = Rate::bytes(1_000);
        let mut bucket = Bucket::default();
        assert!(bucket.take(START, rate, 900));
        assert!(!bucket.take(START, rate, 200));
        assert!(bucket.take(START, rate, 100));
        assert!(bucket.take(START.after(Duration::from_secs(1)), rate, 1_000));
    }

    #[test]
    fn one_noisy_prefix_does_not_silence_another() {
        let rate = Rate { per_second: 5, burst: 5 };
        let mut table = SourceBuckets::new(1024, 42);
        let mut taken = |ip: &str| table.take(START, ip.parse().unwrap(), rate, 1);
        assert_eq!((0..100).filter(|_| taken("192.0.2.1")).count(), 5);
        assert!(taken("192.0.2.2"));
        // A host owns its whole /64.
        assert_eq!((0..100).filter(|n| taken(&format!("2001:db8::{n:x}"))).count(), 5);
        assert!(taken("2001:db8:0:1::1"));
    }
}
