//! The relay ports of a server: one table for all its shards, in which each port says whose it is. A free one is drawn at
//! random; no lock, and nothing is walked through unless almost everything is taken.
use crate::open::Even;
use crate::random::Random;
use crate::settings::RelayAddress;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

const FREE: u16 = 0;
/// Another program had it when it was last tried.
const ELSEWHERE: u16 = u16::MAX;
/// Beside the number of a shard: its socket is open.
const OPEN: u16 = 1 << 15;
/// Draws before the table is walked through: with half of the range taken, one Allocate in four billion does that.
const DRAWS: usize = 32;

/// Shared by the shards of a server; every clone is the same table.
#[derive(Clone)]
pub struct RelayPorts(Arc<[Table]>);

/// The ports of one relay address.
struct Table {
    local: IpAddr,
    first: u16,
    /// [`FREE`], [`ELSEWHERE`], or one more than the number of a shard, with [`OPEN`] or without.
    owners: Box<[AtomicU16]>,
}

impl RelayPorts {
    /// The same range on each of the addresses, in their order.
    #[must_use]
    pub fn new(relays: &[RelayAddress], range: &RangeInclusive<u16>) -> Self {
        // Port 0 is nobody's.
        let (first, last) = ((*range.start()).max(1), *range.end());
        let count = if range.is_empty() { 0 } else { last.checked_sub(first).map_or(0, |n| n + 1) };
        let owners = || (0..count).map(|_| AtomicU16::new(FREE)).collect();
        Self(relays.iter().map(|relay| Table { local: relay.local, first, owners: owners() }).collect())
    }

    /// The shard that has a socket at a port. What is only drawn, tried or reserved is nobody's: whatever stands there is
    /// not ours.
    #[must_use]
    pub fn owner(&self, local: SocketAddr) -> Option<u16> {
        let table = self.0.iter().find(|table| table.local == local.ip())?;
        let offset = local.port().checked_sub(table.first)?;
        let owner = table.owners.get(usize::from(offset))?.load(Ordering::Relaxed);
        if owner == ELSEWHERE || owner & OPEN == 0 { None } else { (owner & !OPEN).checked_sub(1) }
    }
}

/// What one shard does with the table.
pub(crate) struct Ports {
    shared: RelayPorts,
    mark: u16,
    /// Ports that are this shard's.
    held: usize,
}

impl Ports {
    pub(crate) const fn new(shared: RelayPorts, shard: u16) -> Self {
        let last = OPEN - 2;
        Self { shared, mark: if shard < last { shard + 1 } else { last }, held: 0 }
    }

    pub(crate) const fn shared(&self) -> &RelayPorts {
        &self.shared
    }

    /// A port of the address at `place`, as EVEN-PORT wants it. What other programs had lately comes last, or, `boldly`,
    /// like any other.
    pub(crate) fn take(&mut self, place: usize, even: Even, boldly: bool, random: &mut Random) -> Option<u16> {
        let port = self.shared.0.get(place)?.draw(self.mark, even, boldly, random)?;
        self.held += if even == Even::WithNext { 2 } else { 1 };
        Some(port)
    }

    /// A port that was taken has its socket.
    pub(crate) fn opened(&self, place: usize, port: u16) {
        if let Some(owner) = self.shared.0.get(place).and_then(|table| table.owner(port)) {
            let _ = owner.compare_exchange(self.mark, self.mark | OPEN, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(crate) fn give_back(&mut self, place: usize, port: u16) {
        self.leave(place, port, FREE);
    }

    /// Another program has it.
    pub(crate) fn leave_elsewhere(&mut self, place: usize, port: u16) {
        self.leave(place, port, ELSEWHERE);
    }

    /// What another shard kept for whoever shows its token is ours from now on.
    pub(crate) fn take_over(&mut self, place: usize, port: u16) {
        if let Some(owner) = self.shared.0.get(place).and_then(|table| table.owner(port))
            && owner.swap(self.mark, Ordering::Relaxed) != self.mark
        {
            self.held += 1;
        }
    }

    /// The other side of [`Self::take_over`].
    pub(crate) const fn forget_one(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    /// What this shard leaves to the others.
    pub(crate) fn free(&self) -> usize {
        self.shared.0.iter().map(|table| table.owners.len()).sum::<usize>().saturating_sub(self.held)
    }

    fn leave(&mut self, place: usize, port: u16, state: u16) {
        let Some(owner) = self.shared.0.get(place).and_then(|table| table.owner(port)) else { return };
        let before = owner.load(Ordering::Relaxed);
        if before != ELSEWHERE
            && before & !OPEN == self.mark
            && owner.compare_exchange(before, state, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.held = self.held.saturating_sub(1);
        }
    }
}

impl Table {
    fn owner(&self, port: u16) -> Option<&AtomicU16> {
        self.owners.get(usize::from(port.checked_sub(self.first)?))
    }

    fn draw(&self, mark: u16, even: Even, boldly: bool, random: &mut Random) -> Option<u16> {
        let choices = self.choices(even);
        let claim = |choice: usize, boldly: bool| self.claim(mark, even, choice, boldly);
        if let Some(port) = (0..DRAWS).find_map(|_| claim(random.below(choices), boldly)) {
            return Some(port);
        }
        for boldly in [false, true] {
            // Evenly among what is left.
            let open = || (0..choices).filter(|choice| self.is_open(even, *choice, boldly));
            let start = open().nth(random.below(open().count())).unwrap_or(0);
            let taken = (start..choices).chain(0..start).find_map(|choice| claim(choice, boldly));
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// So many ports, or pairs, can be had of a table that nobody uses.
    fn choices(&self, even: Even) -> usize {
        let from_even = self.owners.len().saturating_sub(self.first_even());
        match even {
            Even::Any => self.owners.len(),
            Even::Alone => from_even.div_ceil(2),
            Even::WithNext => from_even / 2,
        }
    }

    const fn first_even(&self) -> usize {
        (self.first % 2) as usize
    }

    const fn offset(&self, even: Even, choice: usize) -> usize {
        match even {
            Even::Any => choice,
            Even::Alone | Even::WithNext => self.first_even() + 2 * choice,
        }
    }

    fn is_open(&self, even: Even, choice: usize, boldly: bool) -> bool {
        let offset = self.offset(even, choice);
        let is_open = |offset: usize| self.state(offset).is_some_and(|state| is_open(state, boldly));
        is_open(offset) && (even != Even::WithNext || is_open(offset + 1))
    }

    /// An even port; with its next the two are taken together or not at all (RFC 8656 §18.7).
    fn claim(&self, mark: u16, even: Even, choice: usize, boldly: bool) -> Option<u16> {
        let offset = self.offset(even, choice);
        let before = self.claim_one(mark, offset, boldly)?;
        if even == Even::WithNext && self.claim_one(mark, offset + 1, boldly).is_none() {
            self.owners.get(offset)?.store(before, Ordering::Relaxed);
            return None;
        }
        Some(self.first + offset as u16)
    }

    /// What stood there before. No more than the number is passed on, so no order is needed beyond it.
    fn claim_one(&self, mark: u16, offset: usize, boldly: bool) -> Option<u16> {
        let before = self.state(offset).filter(|state| is_open(*state, boldly))?;
        let owner = self.owners.get(offset)?;
        owner.compare_exchange(before, mark, Ordering::Relaxed, Ordering::Relaxed).ok()
    }

    fn state(&self, offset: usize) -> Option<u16> {
        Some(self.owners.get(offset)?.load(Ordering::Relaxed))
    }
}

const fn is_open(state: u16, boldly: bool) -> bool {
    state == FREE || boldly && state == ELSEWHERE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> Random {
        Random::new(&[3; 32], "ports")
    }

    fn table(range: RangeInclusive<u16>) -> RelayPorts {
        let ip = "192.0.2.1".parse().unwrap();
        RelayPorts::new(&[RelayAddress { local: ip, announced: ip }], &range)
    }

    fn ports(range: RangeInclusive<u16>) -> Ports {
        Ports::new(table(range), 0)
    }

    #[test]
    fn every_port_is_given_once_and_comes_back() {
        let (mut ports, mut random) = (ports(50_000..=50_099), random());
        for _ in 0..3 {
            let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(0, Even::Any, true, &mut random)).collect();
            assert_eq!((ports.take(0, Even::Any, true, &mut random), ports.free()), (None, 0));
            taken.iter().for_each(|port| ports.give_back(0, *port));
            taken.iter().for_each(|port| ports.give_back(0, *port));
            taken.sort_unstable();
            assert!(taken.iter().copied().eq(50_000..=50_099));
            assert_eq!(ports.free(), 100);
        }
    }

    #[test]
    fn even_ports_come_alone_or_with_their_neighbour() {
        let (mut ports, mut random) = (ports(50_001..=50_010), random());
        let mut take = |ports: &mut Ports, even| ports.take(0, even, true, &mut random);
        let pairs: Vec<u16> = std::iter::from_fn(|| take(&mut ports, Even::WithNext)).collect();
        assert!(pairs.len() == 4 && pairs.iter().all(|port| port % 2 == 0 && *port < 50_010));
        assert_eq!(take(&mut ports, Even::Alone), Some(50_010));
        assert_eq!((take(&mut ports, Even::Alone), take(&mut ports, Even::Any)), (None, Some(50_001)));
        assert_eq!(ports.free(), 0);
        ports.give_back(0, 50_004);
        assert_eq!(take(&mut ports, Even::WithNext), None);
        ports.give_back(0, 50_005);
        assert_eq!(take(&mut ports, Even::WithNext), Some(50_004));
    }

    #[test]
    fn the_whole_range_of_ports_is_a_range_and_a_backward_one_is_empty() {
        assert_eq!(ports(0..=65_535).free(), 65_535);
        #[allow(clippy::reversed_empty_ranges)]
        let mut backward = ports(2..=1);
        assert_eq!((backward.free(), backward.take(0, Even::Any, true, &mut random())), (0, None));
        let mut last = ports(65_535..=65_535);
        let mut random = random();
        assert_eq!(last.take(0, Even::WithNext, true, &mut random), None);
        assert_eq!(last.take(0, Even::Alone, true, &mut random), None);
        assert_eq!(last.take(0, Even::Any, true, &mut random), Some(65_535));
    }

    /// Ten thousand draws over a hundred ports: chi-square with 99 degrees of freedom stays below its 99.9 % bound.
    fn drawn_evenly(ports: &mut Ports, boldly: bool) {
        let mut random = random();
        let mut counts = [0u32; 100];
        for _ in 0..10_000 {
            let port = ports.take(0, Even::Any, boldly, &mut random).unwrap();
            counts[usize::from(port - 50_000)] += 1;
            ports.give_back(0, port);
        }
        let chi: f64 = counts.iter().map(|n| (f64::from(*n) - 100.0).powi(2) / 100.0).sum();
        assert!((50.0..148.2).contains(&chi), "{chi}");
    }

    #[test]
    fn ports_are_drawn_evenly() {
        drawn_evenly(&mut ports(50_000..=50_099), true);
    }

    /// A hundred free ports among twenty thousand that another shard holds.
    #[test]
    fn ports_are_drawn_evenly_when_almost_all_are_taken() {
        let shared = table(50_000..=65_535);
        let mut others = Ports::new(shared.clone(), 1);
        let mut random = random();
        while others.take(0, Even::Any, true, &mut random).is_some() {}
        (50_000..50_100).for_each(|port| others.give_back(0, port));
        drawn_evenly(&mut Ports::new(shared, 0), false);
    }

    #[test]
    fn several_shards_use_the_range_up_to_its_last_port_and_each_is_found_by_it() {
        let shared = table(50_000..=50_999);
        let mut shards: Vec<Ports> = (0..4).map(|shard| Ports::new(shared.clone(), shard)).collect();
        let mut random = random();
        for _ in 0..2 {
            let mut taken = Vec::new();
            for count in 0..1_000 {
                let at = count % 4;
                let port = shards[at].take(0, Even::Any, false, &mut random).unwrap();
                assert_eq!(shared.owner(format!("192.0.2.1:{port}").parse().unwrap()), None, "not open yet");
                shards[(at + 1) % 4].opened(0, port);
                shards[at].opened(0, port);
                assert_eq!(shared.owner(format!("192.0.2.1:{port}").parse().unwrap()), Some(at as u16));
                taken.push((at, port));
            }
            assert!(shards.iter_mut().all(|shard| shard.take(0, Even::Any, true, &mut random).is_none()));
            for (at, port) in taken {
                // Nobody gives back what is another's.
                shards[(at + 1) % 4].give_back(0, port);
                assert!(shared.owner(format!("192.0.2.1:{port}").parse().unwrap()).is_some());
                shards[at].give_back(0, port);
                assert_eq!(shared.owner(format!("192.0.2.1:{port}").parse().unwrap()), None);
            }
            assert!(shards.iter().all(|shard| shard.free() == 1_000));
        }
        for nobodys in ["192.0.2.1:50001", "192.0.2.2:50001", "192.0.2.1:49999", "192.0.2.1:51000"] {
            assert_eq!(shared.owner(nobodys.parse().unwrap()), None);
        }
    }

    #[test]
    fn what_other_programs_have_comes_last_and_not_never() {
        let (mut ports, mut random) = (ports(50_000..=50_009), random());
        let all: Vec<u16> = std::iter::from_fn(|| ports.take(0, Even::Any, true, &mut random)).collect();
        all.iter().for_each(
            |port| {
                if *port == 50_007 { ports.give_back(0, *port) } else { ports.leave_elsewhere(0, *port) }
            },
        );
        assert_eq!(ports.free(), 10);
        assert_eq!(ports.take(0, Even::Any, false, &mut random), Some(50_007));
        assert!(ports.take(0, Even::Any, false, &mut random).is_some_and(|port| port != 50_007));
        ports.opened(0, 50_007);
        assert_eq!(ports.shared.owner("192.0.2.1:50007".parse().unwrap()), Some(0));
    }

    #[test]
    fn threads_that_draw_at_once_never_draw_the_same() {
        let shared = table(40_000..=41_999);
        let drawn: Vec<_> = std::thread::scope(|scope| {
            let draw = |shard| {
                let mut ports = Ports::new(shared.clone(), shard);
                scope.spawn(move || {
                    let mut random = Random::new(&[shard as u8; 32], "ports");
                    let even = if shard % 2 == 0 { Even::Any } else { Even::WithNext };
                    std::iter::from_fn(|| ports.take(0, even, true, &mut random))
                        .flat_map(|port| [Some(port), (even == Even::WithNext).then_some(port + 1)])
                        .flatten()
                        .collect::<Vec<u16>>()
                })
            };
            let threads: Vec<_> = (0..4).map(draw).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!((sorted.len(), drawn.len()), (2_000, 2_000));
    }
}
