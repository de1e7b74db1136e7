//! Ids that only call-control uses, the maker of all ids, and the time as the core is told it.
use offhook_contract::{CallId, LegId, RecordingId, UnixMs};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(/** A person with an extension, inside a tenant. */ UserId);
text_id!(
    /** One page's connection to the API, across reconnections. Knowing it resumes the session, so it prints shortened. */
    SessionId
);

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.0.get(..6).unwrap_or_default())
    }
}

/// Names a caller of ours that waits for an answer: given with the input, returned with the output.
pub type Tag = u64;

/// Names a request that we sent to a node, until its reply.
pub type RequestId = u64;

/// The time, told with every input: monotonic since the daemon started, and on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub at: Duration,
    pub wall: UnixMs,
}

/// Makes UUIDv7 (RFC 9562 §5.7) from the time it is told and a seed that the shell drew. The ids are unique, not secret.
#[derive(Debug)]
pub struct IdMaker {
    state: [u64; 2],
    /// The millisecond of the last id, and how many it has seen: ids of one maker sort in the order they were made
    /// (RFC 9562 §6.2, a counter in rand_a).
    last: (u64, u16),
}

/// Twelve bits of counter; a millisecond with more borrows from the next.
const COUNTER_MAX: u16 = 0x0fff;

impl IdMaker {
    pub const fn seeded(seed: [u64; 2]) -> Self {
        Self { state: [seed[0] | 1, seed[1]], last: (0, 0) }
    }

    /// xoroshiro128+: a long period and no two equal streams from different seeds.
    fn next_u64(&mut self) -> u64 {
        let [a, mut b] = self.state;
        let word = a.wrapping_add(b);
        b ^= a;
        self.state = [a.rotate_left(24) ^ b ^ (b << 16), b.rotate_left(37)];
        word
    }

    pub fn uuid(&mut self, now: UnixMs) -> uuid::Uuid {
        let mut random = [0_u8; 10];
        let words = self.next_u64().to_le_bytes().into_iter().chain(self.next_u64().to_le_bytes());
        for (byte, from) in random.iter_mut().zip(words) {
            *byte = from;
        }
        self.last = match self.last {
            (ms, _) if ms < now.0 => (now.0, 0),
            (ms, COUNTER_MAX) => (ms + 1, 0),
            (ms, counter) => (ms, counter + 1),
        };
        let [high, low] = self.last.1.to_be_bytes();
        random[0] = high;
        random[1] = low;
        uuid::Builder::from_unix_timestamp_millis(self.last.0, &random).into_uuid()
    }

    pub fn call(&mut self, now: UnixMs) -> CallId {
        CallId::from_uuid(self.uuid(now))
    }
    pub fn leg(&mut self, now: UnixMs) -> LegId {
        LegId::from_uuid(self.uuid(now))
    }
    pub fn recording(&mut self, now: UnixMs) -> RecordingId {
        RecordingId::from_uuid(self.uuid(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_distinct_and_carry_their_time() {
        let mut maker = IdMaker::seeded([7, 8]);
        let mut seen = HashSet::new();
        let mut before = uuid::Uuid::nil();
        for n in 0..20_000_u64 {
            let id = maker.uuid(UnixMs(1_700_000_000_000 + n / 5_000));
            assert_eq!(id.get_version_num(), 7);
            assert!(seen.insert(id) && id > before, "in the order they were made");
            before = id;
        }
    }

    #[test]
    fn a_session_prints_shortened() {
        assert_eq!(format!("{:?}", SessionId::new("0123456789abcdef")), "012345…");
    }
}
