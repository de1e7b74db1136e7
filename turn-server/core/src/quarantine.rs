//! What broke an invariant is not to be trusted any more, and must not touch the others of its thread.
use crate::allocation::RelayKey;
use crate::event::EndCause;
use crate::path::ClientPath;
use crate::shard::Shard;
use offhook_shard::Moment;

impl Shard {
    /// A message on this path made the shard panic: its allocation ends, and nobody else's.
    pub fn quarantine(&mut self, now: Moment, path: &ClientPath) {
        self.counters.panics += 1;
        if let Some(key) = self.by_path.get(path).copied() {
            self.end(now, key, EndCause::Broken);
        }
    }

    /// The timer that was at work made the shard panic, and will not come again.
    pub const fn quarantine_timer(&mut self) {
        self.counters.panics += 1;
    }

    /// The same for a datagram from a peer.
    pub fn quarantine_relay(&mut self, now: Moment, relay: RelayKey) {
        self.counters.panics += 1;
        if let Some(key) = self.owner_of(relay) {
            self.end(now, key, EndCause::Broken);
        }
    }
}
