//! The media clock: nanoseconds since the node's boot. The daemon pairs a moment with the boot id (`contract::MediaTime`).
pub use offhook_shard::Moment as MediaNs;
use std::time::Duration;

/// RTP ticks of `clock_hz` in `duration`.
pub const fn ticks(duration: Duration, clock_hz: u32) -> u64 {
    (duration.as_nanos() as u64 as u128 * clock_hz as u128 / 1_000_000_000) as u64
}
