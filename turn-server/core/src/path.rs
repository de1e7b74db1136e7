//! Which way a client reaches us: the 5-tuple of RFC 8656 §3, and a keyed hash over it.
use offhook_shard::fold;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::SocketAddr;

/// What carries the client's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// A UDP listener of this thread, by its number.
    Udp(u16),
    /// A TCP or TLS connection, by a number that this thread gives out once.
    Stream(u32),
}

/// The 5-tuple. The protocol lies in `via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPath {
    pub client: SocketAddr,
    /// Our own address as the client sees it, before any NAT of ours.
    pub server: SocketAddr,
    pub via: Via,
}

impl ClientPath {
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self.via, Via::Stream(_))
    }
}

impl Hash for ClientPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.via {
            // Two listeners differ in the server's address or port already.
            Via::Udp(number) => state.write_u64(u64::from(number) << 16 | u64::from(self.client.port())),
            Via::Stream(number) => state.write_u64(1 << 63 | u64::from(number)),
        }
        for ip in [self.client.ip(), self.server.ip()] {
            match ip {
                std::net::IpAddr::V4(ip) => state.write_u64(u64::from(ip.to_bits())),
                std::net::IpAddr::V6(ip) => {
                    state.write_u64((ip.to_bits() >> 64) as u64);
                    state.write_u64(ip.to_bits() as u64);
                }
            }
        }
    }
}

/// Makes hashers keyed by a secret of the process: only those who authenticated stand in the table, but they choose
/// their own addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed(pub(crate) u64);

pub(crate) struct KeyedHasher(u64);

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher(self.0)
    }
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(slot, byte)| *slot = *byte);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = fold(self.0.rotate_left(23) ^ word, 0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        fold(self.0, 0xd6e8_feb8_6659_fd93)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn paths_that_differ_anywhere_hash_apart() {
        let path = |client: &str, server: &str, via| ClientPath {
            client: client.parse().unwrap(),
            server: server.parse().unwrap(),
            via,
        };
        let mut seen = HashSet::new();
        for port in 1..5_000 {
            for via in [Via::Udp(0), Via::Udp(1), Via::Stream(7)] {
                let path = path(&format!("192.0.2.{}:{port}", port % 200), "198.51.100.1:3478", via);
                if via == Via::Stream(7) && port > 200 {
                    continue;
                }
                seen.insert(Keyed(11).hash_one(path));
            }
        }
        assert_eq!(seen.len(), 4_999 * 2 + 200);
    }
}
