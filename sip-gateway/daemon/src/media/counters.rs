//! What the media threads count. Each thread adds to its own; readers sum them up once in a while.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use offhook_sip_core::media::DropReason;

/// One thread's counters.
#[derive(Debug, Default)]
pub struct MediaCounters {
    pub(super) legs: AtomicU64,
    pub(super) sockets: AtomicU64,
    pub(super) timers: AtomicU64,
    pub(super) trunk_received: AtomicU64,
    pub(super) trunk_dropped: [AtomicU64; DropReason::ALL.len()],
    pub(super) trunk_sent: AtomicU64,
    pub(super) link_received: AtomicU64,
    pub(super) link_refused: AtomicU64,
    pub(super) link_sent: AtomicU64,
    pub(super) send_refused: AtomicU64,
    pub(super) news_lost: AtomicU64,
}

impl MediaCounters {
    pub(super) fn add(&self, counter: impl Fn(&Self) -> &AtomicU64) {
        counter(self).fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, reason: DropReason) {
        let place = DropReason::ALL.iter().position(|r| *r == reason);
        if let Some(counter) = place.and_then(|at| self.trunk_dropped.get(at)) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Adds this thread's numbers to a sum.
    pub fn read_into(&self, sum: &mut MediaCounts) {
        sum.legs += self.legs.load(Relaxed);
        sum.sockets += self.sockets.load(Relaxed);
        sum.timers += self.timers.load(Relaxed);
        sum.trunk_received += self.trunk_received.load(Relaxed);
        for (total, own) in sum.trunk_dropped.iter_mut().zip(&self.trunk_dropped) {
            *total += own.load(Relaxed);
        }
        sum.trunk_sent += self.trunk_sent.load(Relaxed);
        sum.link_received += self.link_received.load(Relaxed);
        sum.link_refused += self.link_refused.load(Relaxed);
        sum.link_sent += self.link_sent.load(Relaxed);
        sum.send_refused += self.send_refused.load(Relaxed);
        sum.news_lost += self.news_lost.load(Relaxed);
    }
}

/// The sum over all threads at one moment. The first three are gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaCounts {
    pub legs: u64,
    pub sockets: u64,
    pub timers: u64,
    pub trunk_received: u64,
    pub trunk_dropped: [u64; DropReason::ALL.len()],
    pub trunk_sent: u64,
    pub link_received: u64,
    pub link_refused: u64,
    pub link_sent: u64,
    pub send_refused: u64,
    pub news_lost: u64,
}
