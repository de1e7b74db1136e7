//! The media clock: nanoseconds since the node's boot. The daemon pairs a moment with the boot id (`contract::MediaTime`).
pub use offhook_shard::Moment as MediaNs;
use std::time::Duration;

/// RTP ticks of `clock_hz` in `duration`.
pub const fn ticks(duration: Duration, clock_hz: u32) -> u64 {
    (duration.as_nanos() as u64 as u128 * clock_hz as u128 / 1_000_000_000) as u64
}

/// How many came in the current second.
#[derive(Debug, Clone, Copy, Default)]
pub struct PerSecond {
    second: u64,
    count: u32,
}

impl PerSecond {
    /// Counts one; false when there were as many as `limit` already.
    pub const fn take(&mut self, now: MediaNs, limit: u32) -> bool {
        let second = now.seconds();
        if self.second != second {
            *self = Self { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= limit
    }
}
