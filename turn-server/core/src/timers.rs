//! Deadlines, earliest first. Looking at the next one is O(1); what was cancelled is swept when it is half of all.
use crate::time::Moment;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Fewer stale entries than this are not worth a sweep.
const SWEEP_FROM: usize = 1_024;

pub(crate) struct Timers<T> {
    heap: BinaryHeap<Reverse<(Moment, T)>>,
    stale: usize,
}

impl<T: Ord> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), stale: 0 }
    }
}

impl<T: Ord + Copy> Timers<T> {
    pub(crate) fn set(&mut self, due: Moment, timer: T) {
        self.heap.push(Reverse((due, timer)));
    }

    /// Says that one entry has lost its owner (once too often does no harm: a sweep counts anew); `is_live` tells which are left when it is time to sweep.
    pub(crate) fn cancel(&mut self, is_live: impl Fn(Moment, &T) -> bool) {
        self.stale += 1;
        if self.stale >= SWEEP_FROM && self.stale * 2 >= self.heap.len() {
            self.heap.retain(|Reverse((due, timer))| is_live(*due, timer));
            self.heap.shrink_to_fit();
            self.stale = 0;
        }
    }

    pub(crate) fn next_due(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<T> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, timer))| timer)
    }

    /// An entry that was popped turned out to be cancelled.
    pub(crate) const fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        for (due, name) in [(5, "b"), (9, "d"), (1, "a")] {
            timers.set(Moment(due), name);
        }
        assert_eq!(timers.next_due(), Some(Moment(1)));
        let got: Vec<&str> = std::iter::from_fn(|| timers.pop_due(Moment(8))).collect();
        assert_eq!(got, ["a", "b"]);
    }

    #[test]
    fn a_hundred_thousand_cancelled_deadlines_leave_nothing_behind() {
        let mut timers = Timers::default();
        for n in 0..100_000u32 {
            timers.set(Moment(u64::from(n)), n);
            timers.cancel(|_, _| false);
            assert!(timers.len() <= SWEEP_FROM);
        }
    }
}
