//! RTP ports: pairs of an even port and the odd one above it (RFC 3550 §11), from a configured range.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use offhook_net::{BindError, UdpOptions, UdpSocket};

/// Kernel buffers of one leg's socket: two seconds of G.711 with room.
const BUFFER_BYTES: usize = 128 << 10;
/// Pairs that only calls for help may take; of a small range this share.
const EMERGENCY_PAIRS: usize = 8;
const EMERGENCY_SHARE: usize = 8;
/// Ports tried for one pair before giving up: others on this machine may hold some of the range.
const TRIES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    #[error("all {pairs} RTP port pairs of [sip] rtp_ports are in use")]
    Exhausted { pairs: usize },
    #[error("no free RTP port pair in {TRIES} tries; the last failed: {0}")]
    Bind(#[from] BindError),
}

/// The range and what is taken of it. Ports are given out in turn, so that a port rests before it is used again.
#[derive(Debug)]
pub struct PortRange {
    first: u16,
    pairs: u16,
    next: u16,
    taken: BTreeSet<u16>,
}

/// The two sockets of a leg.
#[derive(Debug)]
pub struct PortPair {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

impl PortRange {
    /// `first` and `last` are included; an odd `first` is left out.
    pub fn new(first: u16, last: u16) -> Self {
        let first = first.saturating_add(first % 2).max(2);
        let pairs = (u32::from(last) + 1).saturating_sub(u32::from(first)) / 2;
        Self { first, pairs: pairs as u16, next: 0, taken: BTreeSet::new() }
    }

    pub const fn capacity(&self) -> usize {
        self.pairs as usize
    }

    pub fn in_use(&self) -> usize {
        self.taken.len()
    }

    /// Binds a pair for an ordinary call, which leaves those for calls for help alone.
    pub fn open_sparing(&mut self, address: IpAddr) -> Result<PortPair, PortsError> {
        let spare = EMERGENCY_PAIRS.min(self.capacity() / EMERGENCY_SHARE);
        if self.taken.len() + spare >= self.capacity() {
            return Err(PortsError::Exhausted { pairs: self.capacity() });
        }
        self.open(address)
    }

    /// Binds the next free pair on `address`, the last one included.
    pub fn open(&mut self, address: IpAddr) -> Result<PortPair, PortsError> {
        let mut failed = None;
        for _ in 0..self.pairs.min(TRIES as u16 + self.taken.len() as u16) {
            let port = self.first + 2 * self.next;
            self.next = (self.next + 1) % self.pairs;
            if self.taken.contains(&port) {
                continue;
            }
            match bind(address, port) {
                Ok(pair) => {
                    self.taken.insert(port);
                    return Ok(pair);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.map_or(PortsError::Exhausted { pairs: self.capacity() }, PortsError::Bind))
    }

    /// The sockets of this RTP port are closed.
    pub fn release(&mut self, port: u16) {
        self.taken.remove(&port);
    }
}

fn bind(address: IpAddr, port: u16) -> Result<PortPair, BindError> {
    let options =
        UdpOptions { receive_buffer_bytes: BUFFER_BYTES, send_buffer_bytes: BUFFER_BYTES, ..UdpOptions::default() };
    let rtp = UdpSocket::bind(SocketAddr::new(address, port), options)?;
    let rtcp = UdpSocket::bind(SocketAddr::new(address, port + 1), options)?;
    Ok(PortPair { rtp, rtcp })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// A range in which nothing else of this machine is likely to listen; taken ports are skipped anyway.
    fn range() -> PortRange {
        PortRange::new(41_000, 41_199)
    }

    #[test]
    fn pairs_are_even_and_odd_and_come_back() {
        let mut ports = range();
        let pair = ports.open(LOOPBACK).unwrap();
        let port = pair.rtp.local_address().port();
        assert_eq!(port % 2, 0);
        assert_eq!(pair.rtcp.local_address().port(), port + 1);
        assert_eq!(ports.in_use(), 1);
        drop(pair);
        ports.release(port);
        assert_eq!(ports.in_use(), 0);
        let next = ports.open(LOOPBACK).unwrap();
        assert_ne!(next.rtp.local_address().port(), port, "a port rests before it is used again");
    }

    #[test]
    fn a_port_held_by_somebody_else_is_passed_over() {
        let mut ports = range();
        let first = ports.open(LOOPBACK).unwrap().rtp.local_address().port();
        let stranger = std::net::UdpSocket::bind((LOOPBACK, first + 3)).unwrap();
        let pair = ports.open(LOOPBACK).unwrap();
        assert!(pair.rtp.local_address().port() > first + 2);
        drop(stranger);
    }

    #[test]
    fn the_last_pairs_are_for_calls_for_help() {
        let mut ports = PortRange::new(41_401, 41_417);
        assert_eq!(ports.capacity(), 8);
        let held: Vec<_> = (0..7).map(|_| ports.open_sparing(LOOPBACK).unwrap()).collect();
        assert!(matches!(ports.open_sparing(LOOPBACK), Err(PortsError::Exhausted { pairs: 8 })));
        assert!(ports.open(LOOPBACK).is_ok());
        drop(held);
    }

    #[test]
    fn an_exhausted_range_says_so() {
        let mut ports = PortRange::new(41_301, 41_305);
        assert_eq!(ports.capacity(), 2);
        let held: Vec<_> = (0..2).map(|_| ports.open(LOOPBACK).unwrap()).collect();
        assert!(matches!(ports.open(LOOPBACK), Err(PortsError::Exhausted { pairs: 2 })));
        drop(held);
        assert_eq!(PortRange::new(9, 9).capacity(), 0);
        assert!(matches!(PortRange::new(9, 9).open(LOOPBACK), Err(PortsError::Exhausted { pairs: 0 })));
    }
}
