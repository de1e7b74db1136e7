//! All deadlines of an endpoint in one structure: the next one is known at once, the rest is not walked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Deadlines by key; setting a key again moves its deadline.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    heap: BinaryHeap<Reverse<(Duration, u64)>>,
    /// The live deadline of each key, by its serial number; older entries of the heap are stale.
    serials: HashMap<K, u64>,
    keys: HashMap<u64, K>,
    last_serial: u64,
}

impl<K: Eq + Hash + Clone> Timers<K> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), serials: HashMap::new(), keys: HashMap::new(), last_serial: 0 }
    }

    pub fn set(&mut self, key: K, at: Duration) {
        self.last_serial += 1;
        let serial = self.last_serial;
        if let Some(old) = self.serials.insert(key.clone(), serial) {
            self.keys.remove(&old);
        }
        self.keys.insert(serial, key);
        self.heap.push(Reverse((at, serial)));
        self.prune();
    }

    pub fn cancel(&mut self, key: &K) {
        if let Some(serial) = self.serials.remove(key) {
            self.keys.remove(&serial);
            self.prune();
        }
    }

    /// The next deadline. O(1): the top of the heap is never stale.
    pub fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// A key whose deadline is not after `now`, earliest first.
    pub fn pop_due(&mut self, now: Duration) -> Option<K> {
        let Reverse((at, serial)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        let key = self.keys.remove(&serial)?;
        self.serials.remove(&key);
        self.prune();
        Some(key)
    }

    pub fn len(&self) -> usize {
        self.serials.len()
    }

    fn prune(&mut self) {
        // Deadlines that were moved or cancelled leave entries behind; without this a day of calls with long limits would
        // keep them all.
        if self.heap.len() > 2 * self.keys.len() + 64 {
            let keys = &self.keys;
            self.heap.retain(|Reverse((_, serial))| keys.contains_key(serial));
        }
        while self.heap.peek().is_some_and(|Reverse((_, serial))| !self.keys.contains_key(serial)) {
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn the_next_deadline_is_never_one_that_was_moved_or_cancelled() {
        let mut timers = Timers::new();
        timers.set('a', secs(1));
        timers.set('b', secs(2));
        timers.set('a', secs(5));
        assert_eq!(timers.next(), Some(secs(2)));
        timers.cancel(&'b');
        assert_eq!(timers.next(), Some(secs(5)));
        assert_eq!(timers.pop_due(secs(4)), None);
        assert_eq!(timers.pop_due(secs(5)), Some('a'));
        assert_eq!((timers.next(), timers.len()), (None, 0));
    }

    #[test]
    fn cancelled_deadlines_leave_nothing_behind() {
        let mut timers = Timers::new();
        timers.set(0, secs(1));
        for i in 1..10_000_u64 {
            timers.set(i, secs(i + 10));
            timers.cancel(&i);
        }
        assert!(timers.heap.len() < 100);
        assert_eq!(timers.next(), Some(secs(1)));
    }
}
