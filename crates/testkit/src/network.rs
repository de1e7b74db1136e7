//! A network in virtual time: hosts exchange datagrams over impaired paths, behind NATs; nothing happens by itself.
use crate::impair::{Impairment, Impairments};
use crate::nat::Nat;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A datagram as its receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub at: Duration,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
}

impl Ord for Delivery {
    /// Reversed, for the heap: the earliest is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}
impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Debug)]
pub struct VirtualNetwork {
    now: Duration,
    seed: u64,
    default_plan: Impairment,
    paths: BTreeMap<(IpAddr, IpAddr), Impairments>,
    nats: BTreeMap<IpAddr, Nat>,
    under_way: BinaryHeap<Delivery>,
    pub dropped: u64,
}

impl VirtualNetwork {
    pub const fn seeded(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            seed,
            default_plan: Impairment {
                loss: 0.0,
                burst_begin: 0.0,
                burst_end: 0.0,
                delay: Duration::from_millis(1),
                jitter: Duration::ZERO,
                reorder: 0.0,
                duplicate: 0.0,
                corrupt: 0.0,
            },
            paths: BTreeMap::new(),
            nats: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            dropped: 0,
        }
    }

    pub const fn now(&self) -> Duration {
        self.now
    }

    /// What every path without a plan of its own does.
    pub fn impair_all(&mut self, plan: Impairment) {
        self.default_plan = plan;
        self.paths.clear();
    }

    /// Both directions between two hosts.
    pub fn impair(&mut self, a: IpAddr, b: IpAddr, plan: Impairment) {
        for (from, to) in [(a, b), (b, a)] {
            self.path(from, to).plan = plan;
        }
    }

    pub fn cut(&mut self, a: IpAddr, b: IpAddr, cut: bool) {
        for (from, to) in [(a, b), (b, a)] {
            self.path(from, to).cut = cut;
        }
    }

    /// Puts a host behind a NAT.
    pub fn behind(&mut self, host: IpAddr, nat: Nat) {
        self.nats.insert(host, nat);
    }

    pub fn nat(&mut self, host: IpAddr) -> Option<&mut Nat> {
        self.nats.get_mut(&host)
    }

    pub fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let seen_from = self.nats.get_mut(&from.ip()).map_or(from, |nat| nat.outward(from, to));
        let Some(reached) = self.admit(seen_from, to) else {
            self.dropped += 1;
            return;
        };
        let now = self.now;
        let mut copy = datagram.to_vec();
        let arrivals = self.path(from.ip(), reached.ip()).pass(now, &mut copy);
        self.dropped += u64::from(arrivals.is_empty());
        for at in arrivals {
            self.under_way.push(Delivery { at, from: seen_from, to: reached, datagram: copy.clone() });
        }
    }

    /// The next arrival not later than `until`; the clock moves to it, or to `until` when there is none.
    pub fn step(&mut self, until: Duration) -> Option<Delivery> {
        if self.under_way.peek().is_some_and(|d| d.at <= until) {
            let delivery = self.under_way.pop()?;
            self.now = self.now.max(delivery.at);
            return Some(delivery);
        }
        self.now = self.now.max(until);
        None
    }

    pub fn next_arrival(&self) -> Option<Duration> {
        self.under_way.peek().map(|d| d.at)
    }

    fn admit(&self, from: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        if self.nats.contains_key(&to.ip()) {
            return None; // an inner address is not reachable from outside
        }
        let behind = self.nats.values().find_map(|nat| nat.inward(from, to));
        behind.or_else(|| (!self.nats.values().any(|nat| nat.is_outer(to.ip()))).then_some(to))
    }

    fn path(&mut self, from: IpAddr, to: IpAddr) -> &mut Impairments {
        let seed = self.seed.wrapping_add(self.paths.len() as u64);
        let plan = self.default_plan;
        self.paths.entry((from, to)).or_insert_with(|| Impairments::new(plan, seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::NatKind;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn datagrams_arrive_in_order_of_time() {
        let mut network = VirtualNetwork::seeded(1);
        let (a, b) = (address("10.0.0.1:1"), address("10.0.0.2:2"));
        network.impair(a.ip(), b.ip(), Impairment { delay: Duration::from_millis(30), ..Default::default() });
        network.send(a, b, b"one");
        assert_eq!(network.step(Duration::from_millis(29)), None);
        let got = network.step(Duration::from_millis(50)).unwrap();
        assert_eq!((got.datagram.as_slice(), network.now()), (&b"one"[..], Duration::from_millis(30)));
    }

    #[test]
    fn a_host_behind_a_nat_is_answered_and_cannot_be_called() {
        let mut network = VirtualNetwork::seeded(1);
        let (inner, server) = (address("10.0.0.2:5000"), address("203.0.113.1:7882"));
        network.behind(inner.ip(), Nat::new(NatKind::PortRestricted, "192.0.2.7".parse().unwrap()));
        network.send(server, inner, b"unasked");
        assert_eq!(network.dropped, 1);
        network.send(inner, server, b"hello");
        let seen = network.step(Duration::from_secs(1)).unwrap().from;
        assert_eq!(seen.ip(), "192.0.2.7".parse::<IpAddr>().unwrap());
        network.send(server, seen, b"welcome");
        assert_eq!(network.step(Duration::from_secs(2)).unwrap().to, inner);
        network.send(address("203.0.113.1:9"), seen, b"stranger");
        assert_eq!(network.step(Duration::from_secs(3)), None);
    }
}
