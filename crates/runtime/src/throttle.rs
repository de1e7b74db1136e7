//! Log lines that strangers can cause, kept few.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets eight lines through in ten seconds and counts the others.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    passed: u32,
    held_back: u64,
}

const PERIOD: Duration = Duration::from_secs(10);
const LINES: u32 = 8;

impl LogThrottle {
    /// How many lines were held back since the last one, if one may be written now.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            (state.since, state.passed) = (Some(now), 0);
        }
        if state.passed == LINES {
            state.held_back += 1;
            return None;
        }
        state.passed += 1;
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_lines_pass_in_a_period_and_the_next_one_tells_of_the_others() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        let passed: Vec<_> = (0..11).map(|s| throttle.pass_at(start + Duration::from_millis(s))).collect();
        assert_eq!((&passed[..8], &passed[8..]), (&[Some(0); 8][..], &[None; 3][..]));
        assert_eq!(throttle.pass_at(start + PERIOD), Some(3));
        assert_eq!(throttle.pass_at(start + PERIOD), Some(0));
    }
}
