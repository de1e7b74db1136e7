//! Network address translators as RFC 4787 describes them: what address a packet shows outside, and who may answer.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// One outer port per inner socket; anybody may answer (endpoint-independent filtering).
    FullCone,
    /// One outer port per inner socket; only addresses that were sent to may answer.
    AddressRestricted,
    /// One outer port per inner socket; only address and port that were sent to may answer.
    PortRestricted,
    /// Another outer port for each destination (address- and port-dependent mapping).
    Symmetric,
}

#[derive(Debug, Clone)]
pub struct Nat {
    kind: NatKind,
    outer: IpAddr,
    next_port: u16,
    /// (inner, destination when symmetric) to the outer port.
    mappings: BTreeMap<(SocketAddr, Option<SocketAddr>), u16>,
    inner_of: BTreeMap<u16, SocketAddr>,
    sent: BTreeSet<(u16, SocketAddr)>,
}

impl Nat {
    pub const fn new(kind: NatKind, outer: IpAddr) -> Self {
        Self {
            kind,
            outer,
            next_port: 40_000,
            mappings: BTreeMap::new(),
            inner_of: BTreeMap::new(),
            sent: BTreeSet::new(),
        }
    }

    /// The source that the world sees for a packet from `inner` to `to`.
    pub fn outward(&mut self, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        let key = (inner, (self.kind == NatKind::Symmetric).then_some(to));
        let port = match self.mappings.get(&key) {
            Some(port) => *port,
            None => {
                let port = self.next_port;
                self.next_port = self.next_port.wrapping_add(1).max(1_024);
                self.mappings.insert(key, port);
                self.inner_of.insert(port, inner);
                port
            }
        };
        self.sent.insert((port, to));
        SocketAddr::new(self.outer, port)
    }

    /// The inner socket that a packet from outside reaches, if the NAT lets it in.
    pub fn inward(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if to.ip() != self.outer {
            return None;
        }
        let inner = *self.inner_of.get(&to.port())?;
        let welcome = match self.kind {
            NatKind::FullCone => true,
            NatKind::AddressRestricted => {
                self.sent.iter().any(|(port, peer)| *port == to.port() && peer.ip() == from.ip())
            }
            NatKind::PortRestricted | NatKind::Symmetric => self.sent.contains(&(to.port(), from)),
        };
        welcome.then_some(inner)
    }

    pub fn is_outer(&self, ip: IpAddr) -> bool {
        ip == self.outer
    }

    /// Forgets all mappings, as a NAT that restarts: the next packet shows a new port.
    pub fn rebind(&mut self) {
        self.mappings.clear();
        self.inner_of.clear();
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_kind_admits_whom_rfc_4787_says() {
        let (inner, server) = (address("10.0.0.2:5000"), address("203.0.113.1:7882"));
        let (other_port, stranger) = (address("203.0.113.1:9"), address("198.51.100.9:7882"));
        for (kind, port_may, stranger_may) in [
            (NatKind::FullCone, true, true),
            (NatKind::AddressRestricted, true, false),
            (NatKind::PortRestricted, false, false),
            (NatKind::Symmetric, false, false),
        ] {
            let mut nat = Nat::new(kind, "192.0.2.7".parse().unwrap());
            let seen = nat.outward(inner, server);
            assert_eq!(nat.inward(server, seen), Some(inner), "{kind:?}");
            assert_eq!(nat.inward(other_port, seen).is_some(), port_may, "{kind:?}");
            assert_eq!(nat.inward(stranger, seen).is_some(), stranger_may, "{kind:?}");
        }
    }

    #[test]
    fn a_symmetric_nat_shows_each_destination_another_port() {
        let inner = address("10.0.0.2:5000");
        let mut nat = Nat::new(NatKind::Symmetric, "192.0.2.7".parse().unwrap());
        let first = nat.outward(inner, address("203.0.113.1:1"));
        assert_ne!(first, nat.outward(inner, address("203.0.113.1:2")));
        assert_eq!(first, nat.outward(inner, address("203.0.113.1:1")));
        nat.rebind();
        assert_ne!(first, nat.outward(inner, address("203.0.113.1:1")));
    }
}
