//! How much to buffer before playing.

use std::time::Duration;

/// Chooses the depth of a jitter buffer. It is told every arrival, and asked whenever a stretch starts or may be cut.
pub trait Depth {
    /// A packet came: `offset` is its transit time less that of the stretch's first packet, in milliseconds.
    fn arrived(&mut self, now: Duration, offset_ms: i64);
    /// How long the first packet of a stretch waits.
    fn target(&self) -> Duration;
    /// How much more than the target may stand in the buffer, for how long, before a frame is skipped.
    fn tolerance(&self) -> (Duration, Duration);
}

/// Always the same depth.
#[derive(Debug, Clone, Copy)]
pub struct FixedDepth {
    target: Duration,
}

impl FixedDepth {
    pub const fn new(target: Duration) -> Self {
        Self { target }
    }
}

impl Default for FixedDepth {
    fn default() -> Self {
        Self::new(Duration::from_millis(60))
    }
}

impl Depth for FixedDepth {
    fn arrived(&mut self, _now: Duration, _offset_ms: i64) {}

    fn target(&self) -> Duration {
        self.target
    }

    fn tolerance(&self) -> (Duration, Duration) {
        (Duration::from_millis(40), Duration::from_secs(1))
    }
}
