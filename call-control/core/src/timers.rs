//! One table of deadlines for the whole core.
use crate::ids::RequestId;
use offhook_contract::{CallId, LegId};
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// Nobody answered.
    Ring(CallId),
    /// The page of a leg is gone for good.
    PageGone(CallId, LegId),
    /// A browser that dialled or answered has not joined its media.
    MediaDue(CallId, LegId),
    /// The longest call that is allowed.
    MaxDuration(CallId),
    /// Parties whose media is not up yet hold the recording back no longer.
    RecordingDue(CallId),
    /// A recorder that was asked has not said that it has audio.
    RecorderDue(CallId),
    /// The next attempt of a request that could not be delivered.
    Retry(RequestId),
    /// Compare what the nodes carry with what we own.
    Sweep,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Duration, TimerKey)>,
    due: HashMap<TimerKey, Duration>,
}

impl Timers {
    pub fn set(&mut self, key: TimerKey, at: Duration) {
        self.clear(&key);
        self.order.insert((at, key.clone()));
        self.due.insert(key, at);
    }

    pub fn clear(&mut self, key: &TimerKey) {
        if let Some(at) = self.due.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    pub fn is_set(&self, key: &TimerKey) -> bool {
        self.due.contains_key(key)
    }

    pub fn next(&self) -> Option<Duration> {
        self.order.first().map(|(at, _)| *at)
    }

    pub fn pop_due(&mut self, now: Duration) -> Option<TimerKey> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.due.remove(&key);
        Some(key)
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(n: u8) -> TimerKey {
        TimerKey::Ring(CallId::parse(format!("c{n}")).unwrap())
    }

    #[test]
    fn timers_fire_in_order_once_and_a_cleared_one_never() {
        let mut timers = Timers::default();
        timers.set(ring(1), Duration::from_secs(3));
        timers.set(ring(2), Duration::from_secs(2));
        timers.set(ring(3), Duration::from_secs(1));
        timers.clear(&ring(3));
        timers.set(ring(1), Duration::from_secs(1));
        assert_eq!(timers.next(), Some(Duration::from_secs(1)));
        assert_eq!(timers.pop_due(Duration::from_secs(5)), Some(ring(1)));
        assert_eq!(timers.pop_due(Duration::from_secs(1)), None);
        assert_eq!(timers.pop_due(Duration::from_secs(2)), Some(ring(2)));
        assert_eq!((timers.pop_due(Duration::from_secs(9)), timers.len()), (None, 0));
    }
}
