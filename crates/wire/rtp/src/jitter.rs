//! Interarrival jitter (RFC 3550 §6.4.1 and appendix A.8).

/// A running estimate in timestamp ticks. A change of clock (another codec) keeps the estimate in time units.
#[derive(Debug, Clone, Copy, Default)]
pub struct JitterEstimator {
    clock_hz: u32,
    last_transit: Option<u32>,
    /// Sixteen times the estimate, so that the division by 16 loses nothing.
    scaled: u32,
}

impl JitterEstimator {
    #[must_use]
    pub const fn new() -> Self {
        Self { clock_hz: 0, last_transit: None, scaled: 0 }
    }

    /// Takes one packet: its RTP timestamp, the clock of its payload type and when it arrived.
    pub fn update(&mut self, timestamp: u32, clock_hz: u32, arrival_ns: u64) {
        if clock_hz != self.clock_hz {
            self.change_clock(clock_hz);
        }
        let ticks = u128::from(arrival_ns) * u128::from(clock_hz) / 1_000_000_000;
        #[allow(clippy::cast_possible_truncation, reason = "transit times are compared modulo 2^32")]
        let transit = (ticks as u32).wrapping_sub(timestamp);
        if let Some(last) = self.last_transit.replace(transit) {
            let forward = transit.wrapping_sub(last);
            // A source that jumps in its timestamps is no jitter: the estimate takes at most ten seconds from one packet.
            let difference = forward.min(last.wrapping_sub(transit)).min(clock_hz.saturating_mul(10));
            self.scaled = self.scaled.saturating_add(difference) - ((self.scaled.saturating_add(8)) >> 4);
        }
    }

    /// The estimate in ticks of the current clock, as a report block carries it.
    #[must_use]
    pub const fn ticks(&self) -> u32 {
        self.scaled >> 4
    }

    fn change_clock(&mut self, clock_hz: u32) {
        if self.clock_hz != 0 {
            let scaled = u64::from(self.scaled) * u64::from(clock_hz) / u64::from(self.clock_hz);
            self.scaled = u32::try_from(scaled).unwrap_or(u32::MAX);
        }
        self.clock_hz = clock_hz;
        self.last_transit = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_steady_stream_has_none() {
        let mut jitter = JitterEstimator::new();
        for n in 0..500_u32 {
            jitter.update((u32::MAX - 1000).wrapping_add(n * 160), 8000, u64::from(n) * 20 * MS);
        }
        assert_eq!(jitter.ticks(), 0);
    }

    #[test]
    fn alternating_arrival_settles_at_the_swing() {
        let mut jitter = JitterEstimator::new();
        for n in 0..2000_u32 {
            jitter.update(n * 960, 48_000, u64::from(n) * 20 * MS + u64::from(n % 2) * 5 * MS);
        }
        // 5 ms of 48 kHz
        assert!((238..=240).contains(&jitter.ticks()), "{}", jitter.ticks());
    }

    #[test]
    fn another_codec_keeps_the_estimate_in_time() {
        let mut jitter = JitterEstimator::new();
        for n in 0..2000_u32 {
            jitter.update(n * 960, 48_000, u64::from(n) * 20 * MS + u64::from(n % 2) * 5 * MS);
        }
        jitter.update(77, 8000, 40_000 * MS);
        assert!((39..=40).contains(&jitter.ticks()), "{}", jitter.ticks());
    }

    #[test]
    fn a_jump_of_hours_cannot_overflow() {
        let mut jitter = JitterEstimator::new();
        for n in 0..2000_u32 {
            jitter.update(n.wrapping_mul(0x9E37_79B9), 90_000, u64::from(n) * 20 * MS);
        }
        assert!(jitter.ticks() <= 900_000);
    }
}
