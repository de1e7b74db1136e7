//! Fencing: the newest epoch seen of each call. Bounded: the calls longest unheard of are forgotten first.
use offhook_contract::{CallId, Epoch};
use std::collections::{HashMap, VecDeque};

const CALLS: usize = 16_384;

#[derive(Debug)]
pub(crate) struct Epochs {
    newest: HashMap<CallId, Epoch>,
    /// In order of first sight.
    order: VecDeque<CallId>,
    limit: usize,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { newest: HashMap::new(), order: VecDeque::new(), limit: CALLS }
    }
}

impl Epochs {
    /// Remembers `epoch`, or returns the newer one under which the call already acts.
    pub(crate) fn admit(&mut self, call: &CallId, epoch: Epoch) -> Result<(), Epoch> {
        if let Some(newest) = self.newest.get_mut(call) {
            if epoch < *newest {
                return Err(*newest);
            }
            *newest = epoch;
            return Ok(());
        }
        if self.order.len() >= self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.newest.remove(&oldest);
        }
        self.order.push_back(call.clone());
        self.newest.insert(call.clone(), epoch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(n: u32) -> CallId {
        CallId::parse(format!("call-{n}")).unwrap()
    }
    const fn epoch(bucket: u64, revision: u64) -> Epoch {
        Epoch { bucket, revision }
    }

    #[test]
    fn an_older_epoch_of_the_same_call_is_refused_and_another_call_is_not_touched() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.admit(&call(1), epoch(1, 5)), Ok(()));
        assert_eq!(epochs.admit(&call(1), epoch(1, 5)), Ok(()));
        assert_eq!(epochs.admit(&call(1), epoch(1, 4)), Err(epoch(1, 5)));
        assert_eq!(epochs.admit(&call(2), epoch(1, 4)), Ok(()));
        assert_eq!(epochs.admit(&call(1), epoch(2, 1)), Ok(()), "a newer bucket beats a higher revision");
        assert_eq!(epochs.admit(&call(1), epoch(1, 99)), Err(epoch(2, 1)));
    }

    #[test]
    fn a_flood_of_calls_does_not_grow_the_table() {
        let mut epochs = Epochs { limit: 8, ..Epochs::default() };
        for n in 0..100 {
            epochs.admit(&call(n), epoch(1, 1)).unwrap();
        }
        assert_eq!((epochs.newest.len(), epochs.order.len()), (8, 8));
    }
}
