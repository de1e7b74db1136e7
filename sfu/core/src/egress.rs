//! Datagrams on their way out, and for a moment after: a ring of sealed bytes from which a lost packet is sent again
//! exactly as it was (DESIGN.md §5).
use std::net::{IpAddr, SocketAddr};

/// Where a leg's datagrams go to and from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    pub remote: SocketAddr,
    /// Our address as the other side sees it; only for sockets bound to the wildcard.
    pub local: Option<IpAddr>,
}

/// One datagram to send.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    pub path: Path,
    /// Equal for equal destinations.
    pub flow: u32,
    pub bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    path: Path,
    flow: u32,
    place: Place,
}

/// Bytes in the ring; recoverable until the ring has come round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// Counted from the ring's first byte ever; never wraps.
    at: u64,
    len: u16,
}

/// No datagram is longer: a payload of 1,300 bytes, headers and the tag.
pub const DATAGRAM_MAX: usize = 1_472;

pub struct Egress {
    ring: Box<[u8]>,
    /// Bytes ever given out, the skipped ends of the ring included.
    written: u64,
    /// `written` when the oldest pending datagram was begun.
    unsent_from: u64,
    pending: Vec<Pending>,
}

impl Egress {
    /// `capacity` bytes are also the window for repetitions: at 50 packets of 200 bytes a second and stream, 1 MiB
    /// lasts 500 streams for 200 ms.
    pub fn new(capacity: usize) -> Self {
        Self {
            ring: vec![0; capacity.max(64 * DATAGRAM_MAX)].into(),
            written: 0,
            unsent_from: 0,
            pending: Vec::with_capacity(4096),
        }
    }

    /// Room for one datagram to be written in place, and where it begins; `None` when unsent datagrams fill the ring.
    pub fn reserve(&mut self) -> Option<(u64, &mut [u8])> {
        let size = self.ring.len() as u64;
        let mut begin = self.written;
        if size - begin % size < DATAGRAM_MAX as u64 {
            begin = begin.next_multiple_of(size);
        }
        if self.pending.is_empty() {
            self.unsent_from = begin;
        }
        if begin + DATAGRAM_MAX as u64 > self.unsent_from + size {
            return None;
        }
        let offset = (begin % size) as usize;
        Some((begin, self.ring.get_mut(offset..offset + DATAGRAM_MAX)?))
    }

    /// Sends the first `len` bytes of the room reserved at `begin`.
    pub fn commit(&mut self, begin: u64, len: usize, path: Path, flow: u32) -> Place {
        let place = Place { at: begin, len: len.min(DATAGRAM_MAX) as u16 };
        self.written = begin + u64::from(place.len);
        self.pending.push(Pending { path, flow, place });
        place
    }

    /// Copies a datagram in; `false` when there is no room.
    pub fn push(&mut self, bytes: &[u8], path: Path, flow: u32) -> bool {
        let Some((begin, room)) = self.reserve() else { return false };
        let Some(target) = room.get_mut(..bytes.len()) else { return false };
        target.copy_from_slice(bytes);
        self.commit(begin, bytes.len(), path, flow);
        true
    }

    /// Sends the bytes at `place` once more, if they have not been overwritten.
    pub fn again(&mut self, place: Place, path: Path, flow: u32) -> bool {
        // What is reserved next may begin at `written` and reach one datagram (and one skipped end) further.
        let reach = self.written + 2 * DATAGRAM_MAX as u64;
        if place.len == 0 || place.at + (self.ring.len() as u64) < reach {
            return false;
        }
        if self.pending.is_empty() {
            self.unsent_from = self.written;
        }
        self.unsent_from = self.unsent_from.min(place.at);
        self.pending.push(Pending { path, flow, place });
        true
    }

    pub fn transmits(&self) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.pending.iter().map(|p| Transmit { path: p.path, flow: p.flow, bytes: self.bytes(p.place) })
    }

    pub fn clear(&mut self) {
        self.pending.clear();
    }

    fn bytes(&self, place: Place) -> &[u8] {
        let offset = (place.at % self.ring.len() as u64) as usize;
        self.ring.get(offset..offset + usize::from(place.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path =
        Path { remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 9), local: None };

    fn put(egress: &mut Egress, byte: u8, len: usize) -> Option<Place> {
        let (begin, room) = egress.reserve()?;
        room[..len].fill(byte);
        Some(egress.commit(begin, len, PATH, 0))
    }

    #[test]
    fn bytes_can_be_sent_again_until_the_ring_comes_round() {
        let mut egress = Egress::new(0);
        let first = put(&mut egress, 1, 200).unwrap();
        egress.clear();
        let mut rounds = 0;
        while egress.again(first, PATH, 0) {
            let seen: Vec<u8> = egress.transmits().flat_map(|t| t.bytes.to_vec()).collect();
            assert_eq!(seen, vec![1; 200]);
            egress.clear();
            put(&mut egress, 2, 200).unwrap();
            egress.clear();
            rounds += 1;
        }
        assert!((400..480).contains(&rounds), "{rounds}");
    }

    #[test]
    fn unsent_datagrams_are_never_overwritten() {
        let mut egress = Egress::new(0);
        let mut count = 0;
        while put(&mut egress, count as u8, 1000).is_some() {
            count += 1;
        }
        assert!(count > 60, "{count}");
        assert!(egress.transmits().enumerate().all(|(i, t)| t.bytes == vec![i as u8; 1000]));
        egress.clear();
        assert!(put(&mut egress, 0, 1000).is_some());
    }
}
