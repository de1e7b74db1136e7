//! The relay ports of one address: any free one at random, in constant time.
use crate::random::Random;
use std::ops::RangeInclusive;

const TAKEN: u16 = u16::MAX;

pub(crate) struct Ports {
    first: u16,
    /// Free ports, less `first`, in no order.
    free: Vec<u16>,
    /// Where each port stands in `free`.
    places: Vec<u16>,
}

impl Ports {
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Self {
        // Port 0 is nobody's, and one place less than 65,536 keeps `TAKEN` apart.
        let (first, last) = ((*range.start()).max(1), *range.end());
        let count = last.checked_sub(first).map_or(0, |n| n + 1);
        Self { first, free: (0..count).collect(), places: (0..count).collect() }
    }

    pub(crate) fn take(&mut self, random: &mut Random) -> Option<u16> {
        let at = random.below(self.free.len());
        let offset = self.free.get(at).copied()?;
        self.remove(offset);
        Some(self.first + offset)
    }

    /// An even port; with `pair` the next one is taken too (RFC 8656 §18.7).
    pub(crate) fn take_even(&mut self, random: &mut Random, pair: bool) -> Option<u16> {
        let start = random.below(self.free.len());
        let (before, after) = self.free.split_at_checked(start)?;
        let fits =
            |offset: &&u16| (self.first + **offset).is_multiple_of(2) && (!pair || self.is_free(offset.checked_add(1)));
        let offset = *after.iter().chain(before).find(fits)?;
        self.remove(offset);
        if pair {
            self.remove(offset + 1);
        }
        Some(self.first + offset)
    }

    pub(crate) fn give_back(&mut self, port: u16) {
        let Some(offset) = port.checked_sub(self.first) else { return };
        let at = self.free.len() as u16;
        if let Some(place) = self.places.get_mut(usize::from(offset))
            && *place == TAKEN
        {
            *place = at;
            self.free.push(offset);
        }
    }

    pub(crate) const fn free(&self) -> usize {
        self.free.len()
    }

    fn is_free(&self, offset: Option<u16>) -> bool {
        offset.and_then(|offset| self.places.get(usize::from(offset))).is_some_and(|place| *place != TAKEN)
    }

    fn remove(&mut self, offset: u16) {
        let Some(place) = self.places.get_mut(usize::from(offset)) else { return };
        let at = usize::from(std::mem::replace(place, TAKEN));
        if at >= self.free.len() {
            return;
        }
        self.free.swap_remove(at);
        if let Some(moved) = self.free.get(at)
            && let Some(place) = self.places.get_mut(usize::from(*moved))
        {
            *place = at as u16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> Random {
        Random::new(&[3; 32], "ports")
    }

    #[test]
    fn every_port_is_given_once_and_comes_back() {
        let (mut ports, mut random) = (Ports::new(&(50_000..=50_099)), random());
        for _ in 0..3 {
            let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(&mut random)).collect();
            assert_eq!(ports.take(&mut random), None);
            taken.iter().for_each(|port| ports.give_back(*port));
            taken.iter().for_each(|port| ports.give_back(*port));
            taken.sort_unstable();
            assert!(taken.iter().copied().eq(50_000..=50_099));
            assert_eq!(ports.free(), 100);
        }
    }

    #[test]
    fn even_ports_come_alone_or_with_their_neighbour() {
        let (mut ports, mut random) = (Ports::new(&(50_001..=50_010)), random());
        let pairs: Vec<u16> = std::iter::from_fn(|| ports.take_even(&mut random, true)).collect();
        assert!(pairs.len() == 4 && pairs.iter().all(|port| port % 2 == 0 && *port < 50_010));
        assert_eq!(ports.take_even(&mut random, false), Some(50_010));
        assert_eq!((ports.take_even(&mut random, false), ports.take(&mut random)), (None, Some(50_001)));
        assert_eq!(ports.free(), 0);
        ports.give_back(50_004);
        assert_eq!(ports.take_even(&mut random, true), None);
        ports.give_back(50_005);
        assert_eq!(ports.take_even(&mut random, true), Some(50_004));
    }

    #[test]
    fn the_whole_range_of_ports_is_a_range_and_a_backward_one_is_empty() {
        assert_eq!(Ports::new(&(0..=65_535)).free(), 65_535);
        #[allow(clippy::reversed_empty_ranges)]
        let mut backward = Ports::new(&(2..=1));
        assert_eq!((backward.free(), backward.take(&mut random())), (0, None));
    }

    /// Ten thousand draws over a hundred ports: chi-square with 99 degrees of freedom stays below its 99.9 % bound.
    #[test]
    fn ports_are_drawn_evenly() {
        let (mut ports, mut random) = (Ports::new(&(50_000..=50_099)), random());
        let mut counts = [0u32; 100];
        for _ in 0..10_000 {
            let port = ports.take(&mut random).unwrap();
            counts[usize::from(port - 50_000)] += 1;
            ports.give_back(port);
        }
        let chi: f64 = counts.iter().map(|n| (f64::from(*n) - 100.0).powi(2) / 100.0).sum();
        assert!((50.0..148.2).contains(&chi), "{chi}");
    }
}
