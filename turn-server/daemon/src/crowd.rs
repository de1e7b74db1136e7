//! Connections that have not shown yet who they are: few from each prefix, so that one source cannot take the places of all.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// From one /32 or /64. Whoever has an allocation does not count, so that an office behind one address is not limited by it.
const FROM_ONE_PREFIX: u32 = 256;
/// From all of them.
const ALTOGETHER: usize = 8_192;

#[derive(Default)]
pub(crate) struct Crowd(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    by_prefix: HashMap<u128, u32>,
    altogether: usize,
}

/// A place in the crowd, until its holder is known or gone.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    prefix: u128,
    is_known: AtomicBool,
}

impl Crowd {
    /// `None`: there are too many of its prefix already.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let prefix = prefix_of(ip);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.by_prefix.get(&prefix).copied().unwrap_or(0);
        if count >= FROM_ONE_PREFIX || counts.altogether >= ALTOGETHER {
            return None;
        }
        counts.by_prefix.insert(prefix, count + 1);
        counts.altogether += 1;
        drop(counts);
        Some(Place { crowd: Arc::clone(self), prefix, is_known: AtomicBool::new(false) })
    }

    fn leave(&self, prefix: u128) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.altogether = counts.altogether.saturating_sub(1);
        if let Some(count) = counts.by_prefix.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                counts.by_prefix.remove(&prefix);
            }
        }
    }
}

impl Place {
    /// Its holder has logged in, and counts no longer.
    pub(crate) fn make_known(&self) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.crowd.leave(self.prefix);
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.make_known();
    }
}

/// A host has an IPv4 address, or a whole /64.
fn prefix_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_has_its_places_and_whoever_is_known_or_gone_makes_room() {
        let crowd = Arc::new(Crowd::default());
        let mut places: Vec<Place> = (0..FROM_ONE_PREFIX).map(|_| crowd.enter(ip("192.0.2.1")).unwrap()).collect();
        assert!(crowd.enter(ip("192.0.2.1")).is_none() && crowd.enter(ip("::ffff:192.0.2.1")).is_none());
        assert!(crowd.enter(ip("192.0.2.2")).is_some());
        places[7].make_known();
        places[7].make_known();
        assert!(places[7].is_known());
        places.push(crowd.enter(ip("192.0.2.1")).unwrap());
        assert!(crowd.enter(ip("192.0.2.1")).is_none());
        drop(places);
        let counts = crowd.0.lock().unwrap();
        assert_eq!((counts.altogether, counts.by_prefix.len()), (0, 0));
    }

    #[test]
    fn a_host_owns_its_whole_64_and_all_of_them_have_an_end() {
        let crowd = Arc::new(Crowd::default());
        let mut places = Vec::new();
        for n in 0..10_000 {
            places.extend(crowd.enter(ip(&format!("2001:db8::{n:x}"))));
        }
        assert_eq!(places.len(), FROM_ONE_PREFIX as usize);
        for n in 0..10_000 {
            places.extend(crowd.enter(ip(&format!("10.{}.{}.1", n >> 8, n & 0xFF))));
        }
        assert_eq!(places.len(), ALTOGETHER);
    }
}
