//! Deadlines, earliest first. Looking at the next one is O(1); a deadline whose owner is gone is removed with it.
use crate::time::MediaNs;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

struct Entry<T> {
    due: MediaNs,
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
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::with_capacity(1024), order: 0 }
    }
}

impl<T> Timers<T> {
    pub fn set(&mut self, due: MediaNs, timer: T) {
        self.order += 1;
        self.heap.push(Entry { due, order: self.order, timer });
    }

    pub fn next_due(&self) -> Option<MediaNs> {
        self.heap.peek().map(|entry| entry.due)
    }

    pub fn pop_due(&mut self, now: MediaNs) -> Option<(MediaNs, T)> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|entry| (entry.due, entry.timer))
    }

    pub fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.heap.retain(|entry| keep(&entry.timer));
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_only_when_due() {
        let mut timers = Timers::default();
        for (due, name) in [(5, "b"), (9, "d"), (5, "c"), (1, "a")] {
            timers.set(MediaNs(due), name);
        }
        assert_eq!(timers.next_due(), Some(MediaNs(1)));
        let got: Vec<&str> = std::iter::from_fn(|| timers.pop_due(MediaNs(8)).map(|(_, name)| name)).collect();
        assert_eq!(got, ["a", "b", "c"]);
        timers.retain(|name| *name != "d");
        assert_eq!((timers.len(), timers.next_due()), (0, None));
    }
}
