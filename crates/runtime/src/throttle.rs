//! Log lines that strangers can cause, kept few.
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line through every ten seconds and counts those between.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

const PERIOD: Duration = Duration::from_secs(10);

impl LogThrottle {
    /// How many lines were held back since the last one, if one may be written now.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            state.held_back += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_and_tells_of_those_before_it() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let passed: Vec<_> = [0, 1, 9, 10, 11, 25].map(|s| throttle.pass_at(at(s))).into();
        assert_eq!(passed, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
