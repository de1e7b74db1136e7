//! All media threads, as signalling sees them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use offhook_net::{Poller, Waker};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::counters::{MediaCounters, MediaCounts};
use super::thread::{LegKey, MediaNews, MediaOrder, MediaThread};

/// Orders that may wait for one thread; it looks at every wake-up, so this is never reached while it lives.
const ORDERS: usize = 4_096;
/// News that may wait for signalling.
const NEWS: usize = 8_192;

#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("cannot start a media thread: {0}")]
    Start(#[from] std::io::Error),
    #[error("the media thread is overloaded or gone")]
    Unreachable,
}

struct Member {
    orders: SyncSender<MediaOrder>,
    waker: Waker,
    counters: Arc<MediaCounters>,
    legs: usize,
    thread: Option<JoinHandle<()>>,
}

/// Threads and which leg lives on which.
pub struct MediaPool {
    members: Vec<Member>,
    homes: HashMap<LegKey, usize>,
    epoch: Instant,
    next_key: u64,
}

impl MediaPool {
    /// Starts `threads` threads. Their clock counts from `epoch`.
    pub fn start(threads: usize, epoch: Instant) -> Result<(Self, Receiver<MediaNews>), PoolError> {
        let (news, inbox) = channel(NEWS);
        let members = (0..threads.max(1)).map(|n| Member::start(n, news.clone(), epoch)).collect::<Result<_, _>>()?;
        Ok((Self { members, homes: HashMap::new(), epoch, next_key: 1 }, inbox))
    }

    /// The media threads' `now`.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub fn new_key(&mut self) -> LegKey {
        let key = LegKey(self.next_key);
        self.next_key += 1;
        key
    }

    /// Gives a new leg to the thread with the fewest.
    pub fn add(&mut self, key: LegKey, order: MediaOrder) -> Result<(), PoolError> {
        let place = (0..self.members.len()).min_by_key(|m| self.members.get(*m).map_or(usize::MAX, |m| m.legs));
        let place = place.ok_or(PoolError::Unreachable)?;
        let member = self.members.get_mut(place).ok_or(PoolError::Unreachable)?;
        member.order(order)?;
        member.legs += 1;
        self.homes.insert(key, place);
        Ok(())
    }

    /// Sends an order to the thread that has the leg; nothing happens for a leg that is closed.
    pub fn order(&mut self, leg: LegKey, order: MediaOrder) -> Result<(), PoolError> {
        let Some(member) = self.homes.get(&leg).and_then(|home| self.members.get(*home)) else { return Ok(()) };
        member.order(order)
    }

    /// The news said that a leg is closed.
    pub fn closed(&mut self, leg: LegKey) {
        if let Some(member) = self.homes.remove(&leg).and_then(|home| self.members.get_mut(home)) {
            member.legs = member.legs.saturating_sub(1);
        }
    }

    pub fn counters(&self) -> Vec<Arc<MediaCounters>> {
        self.members.iter().map(|m| Arc::clone(&m.counters)).collect()
    }

    pub fn counts(&self) -> MediaCounts {
        let mut sum = MediaCounts::default();
        self.members.iter().for_each(|m| m.counters.read_into(&mut sum));
        sum
    }
}

impl Member {
    fn start(number: usize, news: Sender<MediaNews>, epoch: Instant) -> Result<Self, PoolError> {
        let poller = Poller::new()?;
        let waker = poller.waker();
        let (orders, inbox) = sync_channel(ORDERS);
        let counters = Arc::new(MediaCounters::default());
        let body = MediaThread::new(poller, inbox, news, Arc::clone(&counters), epoch);
        let thread = std::thread::Builder::new().name(format!("sip-media-{number}")).spawn(move || body.run())?;
        Ok(Self { orders, waker, counters, legs: 0, thread: Some(thread) })
    }

    fn order(&self, order: MediaOrder) -> Result<(), PoolError> {
        let sent = self.orders.try_send(order);
        self.waker.wake();
        sent.map_err(|_| PoolError::Unreachable)
    }
}

impl Drop for Member {
    /// The thread says goodbye on its legs, closes their sockets and ends.
    fn drop(&mut self) {
        let _ = self.orders.send(MediaOrder::Stop);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a media thread had panicked");
        }
    }
}
