//! What a path does to a datagram: lost, late, twice, or ahead of others.
use crate::rng::Rng;
use std::time::Duration;

/// A path's faults. Probabilities are 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Impairment {
    /// Independent loss.
    pub loss: f64,
    /// Burst loss (Gilbert): the chance that a burst begins at a datagram, and that it ends after one.
    pub burst_begin: f64,
    pub burst_end: f64,
    pub delay: Duration,
    /// Added to or taken from the delay, uniformly.
    pub jitter: Duration,
    /// The chance that a datagram overtakes the delayed ones.
    pub reorder: f64,
    pub duplicate: f64,
    /// The chance that one bit is flipped.
    pub corrupt: f64,
}

/// One direction of a path with its faults and their memory.
#[derive(Debug, Clone)]
pub struct Impairments {
    pub plan: Impairment,
    rng: Rng,
    in_burst: bool,
    /// Without jitter a path keeps the order even if its delay is changed.
    last_arrival: Duration,
    pub cut: bool,
}

impl Impairments {
    pub const fn new(plan: Impairment, seed: u64) -> Self {
        Self { plan, rng: Rng::seeded(seed), in_burst: false, last_arrival: Duration::ZERO, cut: false }
    }

    /// When the copies of a datagram sent `now` arrive: none when it is lost. May flip a bit of it.
    pub fn pass(&mut self, now: Duration, datagram: &mut [u8]) -> Vec<Duration> {
        if self.cut || self.is_lost() {
            return Vec::new();
        }
        if self.rng.chance(self.plan.corrupt) && !datagram.is_empty() {
            let at = self.rng.below(datagram.len() as u64) as usize;
            let bit = self.rng.below(8) as u32;
            datagram[at] ^= 1u8 << bit;
        }
        let copies = 1 + usize::from(self.rng.chance(self.plan.duplicate));
        (0..copies).map(|_| self.arrival(now)).collect()
    }

    fn is_lost(&mut self) -> bool {
        self.in_burst =
            if self.in_burst { !self.rng.chance(self.plan.burst_end) } else { self.rng.chance(self.plan.burst_begin) };
        self.in_burst || self.rng.chance(self.plan.loss)
    }

    fn arrival(&mut self, now: Duration) -> Duration {
        if self.rng.chance(self.plan.reorder) {
            return now;
        }
        let spread = self.plan.jitter.as_secs_f64() * (2.0 * self.rng.unit() - 1.0);
        let delay = (self.plan.delay.as_secs_f64() + spread).max(0.0);
        let mut at = now + Duration::from_secs_f64(delay);
        if self.plan.jitter.is_zero() {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(plan: Impairment, count: u32) -> Vec<Vec<Duration>> {
        let mut path = Impairments::new(plan, 7);
        (0..count).map(|n| path.pass(Duration::from_millis(u64::from(n) * 20), &mut [0; 20])).collect()
    }

    #[test]
    fn loss_is_what_was_asked_for() {
        let lost =
            passed(Impairment { loss: 0.1, ..Default::default() }, 10_000).iter().filter(|a| a.is_empty()).count();
        assert!((900..1_100).contains(&lost), "{lost} of 10,000");
    }

    #[test]
    fn bursts_are_longer_than_single_losses() {
        let plan = Impairment { burst_begin: 0.01, burst_end: 0.25, ..Default::default() };
        let arrivals = passed(plan, 20_000);
        let lost = arrivals.iter().filter(|a| a.is_empty()).count();
        let begun = arrivals.windows(2).filter(|w| !w[0].is_empty() && w[1].is_empty()).count();
        assert!(lost > 3 * begun, "{lost} lost in {begun} bursts");
    }

    #[test]
    fn a_steady_delay_keeps_the_order_and_reordering_breaks_it() {
        let steady = Impairment { delay: Duration::from_millis(40), ..Default::default() };
        let at: Vec<_> = passed(steady, 100).concat();
        assert!(at.windows(2).all(|w| w[0] <= w[1]) && at.len() == 100);
        let at: Vec<_> = passed(Impairment { reorder: 0.2, ..steady }, 100).concat();
        assert!(at.windows(2).any(|w| w[0] > w[1]));
    }

    #[test]
    fn a_cut_path_passes_nothing() {
        let mut path = Impairments::new(Impairment::default(), 1);
        path.cut = true;
        assert!(path.pass(Duration::ZERO, &mut [1]).is_empty());
    }
}
