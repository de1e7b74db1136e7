//! A thread that slept until each packet came would spend most of its time on falling asleep and waking up. While many
//! come it looks at its sockets by the clock instead, and finds several at once.
use std::time::Duration;

/// What a packet may wait for others, at most; the system's timers add a tenth.
const GATHERS: Duration = Duration::from_micros(400);
/// How often the rate is judged.
const JUDGED_EVERY: Duration = Duration::from_millis(10);

/// Times are nanoseconds of one monotonic clock.
#[derive(Debug)]
pub struct Pace {
    busy_from: u64,
    is_busy: bool,
    round_began: u64,
    judged: u64,
    packets: u64,
}

impl Pace {
    /// Fewer packets than `busy_from` in a second have no company worth waiting for.
    #[must_use]
    pub const fn new(busy_from: u64) -> Self {
        Self { busy_from, is_busy: false, round_began: 0, judged: 0, packets: 0 }
    }

    /// A round begins; so many packets were carried before it, ever.
    pub fn begin(&mut self, now_ns: u64, packets: u64) {
        self.round_began = now_ns;
        let passed = Duration::from_nanos(now_ns.saturating_sub(self.judged));
        if passed >= JUDGED_EVERY {
            let carried = packets.saturating_sub(self.packets) as u128;
            self.is_busy = carried * 1_000_000_000 >= u128::from(self.busy_from) * passed.as_nanos();
            (self.judged, self.packets) = (now_ns, packets);
        }
    }

    /// How long to leave the sockets alone. A round that took long has gathered enough already.
    #[must_use]
    pub fn rest(&self, now_ns: u64) -> Option<Duration> {
        let left = GATHERS.checked_sub(Duration::from_nanos(now_ns.saturating_sub(self.round_began)))?;
        (self.is_busy && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(us: u64) -> u64 {
        us * 1_000
    }

    /// Rounds every `interval_us`, one packet in each, for a tenth of a second; whether the last one is followed by a rest.
    fn rests(pace: &mut Pace, from_us: u64, interval_us: u64) -> Option<Duration> {
        let rounds = 100_000 / interval_us;
        (1..=rounds).for_each(|n| pace.begin(at(from_us + n * interval_us), from_us + n));
        pace.rest(at(from_us + rounds * interval_us))
    }

    #[test]
    fn few_packets_are_carried_at_once_and_many_wait_for_each_other() {
        let mut pace = Pace::new(10_000);
        assert_eq!(rests(&mut pace, 1_000_000, 200), None);
        assert_eq!(rests(&mut pace, 2_000_000, 20), Some(GATHERS));
        assert_eq!(rests(&mut pace, 3_000_000, 1_000), None);
    }

    #[test]
    fn the_time_of_the_round_counts_and_a_long_round_is_followed_by_the_next() {
        let mut pace = Pace::new(10_000);
        rests(&mut pace, 1_000_000, 20);
        let began = 1_100_000;
        assert_eq!(pace.rest(at(began + 150)), Some(Duration::from_micros(250)));
        assert_eq!(pace.rest(at(began + 400)), None);
        assert_eq!(pace.rest(at(began + 900)), None);
    }
}
