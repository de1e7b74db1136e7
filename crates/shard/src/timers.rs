//! Deadlines, earliest first. Looking at the next one is O(1); what was cancelled is swept when it is half of all.
use crate::time::Moment;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Fewer stale entries than this are not worth a sweep.
const SWEEP_FROM: usize = 1_024;

struct Entry<T> {
    due: Moment,
    /// Equal deadlines keep their order.
    order: u64,
    timer: T,
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<T> Eq for Entry<T> {}

pub struct Timers<T> {
    heap: BinaryHeap<Entry<T>>,
    order: u64,
    stale: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), order: 0, stale: 0 }
    }
}

impl<T> Timers<T> {
    /// With room for so many: no allocation until there are more.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(capacity), ..Self::default() }
    }

    pub fn set(&mut self, due: Moment, timer: T) {
        self.order += 1;
        self.heap.push(Entry { due, order: self.order, timer });
    }

    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.heap.peek().map(|entry| entry.due)
    }

    pub fn pop_due(&mut self, now: Moment) -> Option<(Moment, T)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.due, entry.timer))
    }

    /// Takes entries out now, whatever it costs.
    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.heap.retain(|entry| keep(&entry.timer));
    }

    /// Says that one entry has lost its owner (once too often does no harm: a sweep counts anew); `is_live` tells which
    /// are left when it is time to sweep.
    pub fn cancel(&mut self, is_live: impl Fn(Moment, &T) -> bool) {
        self.stale += 1;
        if self.stale >= SWEEP_FROM && self.stale * 2 >= self.heap.len() {
            self.heap.retain(|entry| is_live(entry.due, &entry.timer));
            self.heap.shrink_to_fit();
            self.stale = 0;
        }
    }

    /// An entry that was popped turned out to be cancelled.
    pub const fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_due_in_order_and_equal_ones_in_the_order_they_were_set() {
        let mut timers = Timers::default();
        for (due, name) in [(5, "b"), (9, "d"), (5, "c"), (1, "a")] {
            timers.set(Moment(due), name);
        }
        assert_eq!(timers.next_due(), Some(Moment(1)));
        let got: Vec<&str> = std::iter::from_fn(|| timers.pop_due(Moment(8)).map(|(_, name)| name)).collect();
        assert_eq!(got, ["a", "b", "c"]);
        timers.retain(|name| *name != "d");
        assert_eq!((timers.len(), timers.next_due()), (0, None));
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
