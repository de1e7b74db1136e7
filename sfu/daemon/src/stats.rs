//! What a media thread lets others see: its counters and gauges, copied a few times a second.
use offhook_sfu_core::{Counters, Gauges};
use std::sync::{Arc, Mutex, PoisonError};

/// What the sockets said.
#[derive(Debug, Clone, Copy, Default)]
pub struct SocketCounts {
    pub sent_datagrams: u64,
    pub refused_datagrams: u64,
    pub send_calls: u64,
    pub receive_errors: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    pub counters: Counters,
    pub gauges: Gauges,
    pub sockets: SocketCounts,
    pub open_sockets: usize,
}

/// Written by one media thread at most ten times a second, read by the signalling side.
#[derive(Clone, Default)]
pub struct SharedStats(Arc<Mutex<Snapshot>>);

impl SharedStats {
    /// Skips a turn rather than wait for a reader.
    pub fn publish(&self, snapshot: Snapshot) -> bool {
        match self.0.try_lock() {
            Ok(mut shared) => {
                *shared = snapshot;
                true
            }
            Err(_) => false,
        }
    }

    pub fn read(&self) -> Snapshot {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
