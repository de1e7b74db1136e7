//! The media clock: nanoseconds since the node's boot.
use std::time::Duration;

/// A moment of the node's media clock. The daemon pairs it with the boot id (`contract::MediaTime`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaNs(pub u64);

impl MediaNs {
    #[must_use]
    pub const fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }
    /// Zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// RTP ticks of `clock_hz` in `duration`.
pub const fn ticks(duration: Duration, clock_hz: u32) -> u64 {
    (duration.as_nanos() as u64 as u128 * clock_hz as u128 / 1_000_000_000) as u64
}
