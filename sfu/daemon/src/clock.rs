//! The node's media clock: monotonic time since this process made it.
use offhook_sfu_core::MediaNs;
use std::time::{Duration, Instant};

/// One per boot; every media thread and every Tap of the node counts from the same moment.
#[derive(Debug, Clone, Copy)]
pub struct MediaClock {
    start: Instant,
}

impl MediaClock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> MediaNs {
        // One second ahead, so that "earlier than everything" exists.
        MediaNs(1_000_000_000 + u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX / 2))
    }

    /// For libraries that count in the system's own monotonic time.
    pub fn instant(&self, at: MediaNs) -> Instant {
        self.start + Duration::from_nanos(at.0.saturating_sub(1_000_000_000))
    }

    pub fn at(&self, instant: Instant) -> MediaNs {
        let elapsed = instant.saturating_duration_since(self.start);
        MediaNs(1_000_000_000 + u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX / 2))
    }
}
