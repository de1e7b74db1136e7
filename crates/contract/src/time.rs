//! Wall time for people and records, media time for audio, epochs for fencing.
use crate::ids::BootId;
use serde::{Deserialize, Serialize};

/// Wall time, UTC, milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl UnixMs {
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Monotonic nanoseconds of one boot of one node. Comparable only within one `clock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MediaTime {
    pub clock: BootId,
    pub ns: u64,
}

/// A pair that places a node's media time on the wall clock; published every 10 s and carried by Taps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockPair {
    pub media: MediaTime,
    pub wall: UnixMs,
}

/// A fencing number: when the lease bucket was created, then the revision at which the lease was acquired.
/// Renewals keep it. A node refuses commands under an older epoch than it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    pub bucket: u64,
    pub revision: u64,
}
