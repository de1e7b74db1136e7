//! Who asks: the address of the client, and how much it may ask for.
use crate::config::Limits;
use axum::http::HeaderMap;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Sources remembered at one time; when there are more, the ones that rest longest are forgotten.
const MAX_SOURCES: usize = 20_000;
/// Failed sign-ins of one login before it rests, whoever tried.
const LOGIN_FAILURES: u32 = 20;
const LOGIN_REST: Duration = Duration::from_secs(900);
const MAX_FORWARDED: usize = 16;

/// Whether a connection may speak to the API and the pages. Without TLS of our own only this machine itself and the
/// TLS proxies in front may: from anywhere else passwords and tokens would cross the network in the clear.
pub fn may_speak(peer: SocketAddr, tls: bool, trusted: &[IpAddr]) -> bool {
    let peer = peer.ip().to_canonical();
    tls || peer.is_loopback() || trusted.contains(&peer)
}

/// The client behind trusted proxies: the last address in X-Forwarded-For that is not one of them.
pub fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let peer = peer.ip().to_canonical();
    if !trusted.contains(&peer) {
        return peer;
    }
    let listed = headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok());
    let addresses: Vec<&str> = listed.flat_map(|line| line.split(',')).collect();
    let mut client = peer;
    for text in addresses.iter().rev().take(MAX_FORWARDED) {
        match text.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
        if !trusted.contains(&client) {
            break;
        }
    }
    client
}

/// An IPv6 customer has a whole /64.
fn bucket_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let s = v6.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub const fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: burst as f64, at: now }
    }
    pub fn take(&mut self, per_s: f64, burst: u32, now: Instant) -> bool {
        self.refill(per_s, burst, now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
    fn refill(&mut self, per_s: f64, burst: u32, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_s).min(f64::from(burst));
        self.at = now;
    }
    fn has(&mut self, per_s: f64, burst: u32, now: Instant) -> bool {
        self.refill(per_s, burst, now);
        self.tokens >= 1.0
    }
}

/// The limits of attacks and floods. Small locked tables: held for the length of a look-up.
pub struct Gate {
    limits: Limits,
    requests: Mutex<HashMap<IpAddr, Bucket>>,
    failures: Mutex<HashMap<IpAddr, Bucket>>,
    logins: Mutex<HashMap<String, (u32, Instant)>>,
}

impl Gate {
    pub fn new(limits: Limits) -> Self {
        Self { limits, requests: Mutex::default(), failures: Mutex::default(), logins: Mutex::default() }
    }

    pub fn request(&self, source: IpAddr, now: Instant) -> bool {
        let (per_s, burst) = (f64::from(self.limits.requests_per_s), self.limits.requests_burst);
        let mut table = lock(&self.requests);
        make_room(&mut table, |bucket| bucket.at);
        table.entry(bucket_of(source)).or_insert(Bucket::full(burst, now)).take(per_s, burst, now)
    }

    /// Whether the source may still try to prove who it is.
    pub fn may_try(&self, source: IpAddr, now: Instant) -> bool {
        let burst = self.limits.auth_failures_per_minute;
        let mut table = lock(&self.failures);
        table.get_mut(&bucket_of(source)).is_none_or(|b| b.has(f64::from(burst) / 60.0, burst, now))
    }

    pub fn failed(&self, source: IpAddr, now: Instant) {
        let burst = self.limits.auth_failures_per_minute;
        let mut table = lock(&self.failures);
        make_room(&mut table, |bucket| bucket.at);
        table.entry(bucket_of(source)).or_insert(Bucket::full(burst, now)).take(f64::from(burst) / 60.0, burst, now);
    }

    pub fn may_sign_in(&self, login: &str, now: Instant) -> bool {
        let mut table = lock(&self.logins);
        match table.get(login) {
            Some((count, since)) if *count >= LOGIN_FAILURES => {
                let rested = now.saturating_duration_since(*since) >= LOGIN_REST;
                if rested {
                    table.remove(login);
                }
                rested
            }
            _ => true,
        }
    }

    pub fn sign_in_failed(&self, login: &str, now: Instant) {
        let mut table = lock(&self.logins);
        make_room(&mut table, |(_, at)| *at);
        let entry = table.entry(login.chars().take(64).collect()).or_insert((0, now));
        *entry = (entry.0.saturating_add(1), now);
    }

    pub fn signed_in(&self, login: &str) {
        lock(&self.logins).remove(login);
    }
}

fn make_room<K: Clone + Eq + Hash, V>(table: &mut HashMap<K, V>, at: impl Fn(&V) -> Instant) {
    if table.len() < MAX_SOURCES {
        return;
    }
    let mut ages: Vec<Instant> = table.values().map(&at).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    table.retain(|_, v| at(v) > median);
}

/// A panic elsewhere leaves these tables consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
    fn headers(forwarded: &str) -> HeaderMap {
        HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), forwarded.parse().unwrap())])
    }

    #[test]
    fn plain_http_is_spoken_with_this_machine_and_the_trusted_proxies_alone() {
        let proxy = [ip("10.0.0.1")];
        let may = |peer: &str, tls| may_speak(peer.parse().unwrap(), tls, &proxy);
        for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5", "10.0.0.1:5", "[::ffff:10.0.0.1]:5"] {
            assert!(may(peer, false), "{peer}");
        }
        for peer in ["10.0.0.2:5", "203.0.113.9:5", "[2001:db8::1]:5", "[::ffff:10.0.0.2]:5"] {
            assert!(!may(peer, false) && may(peer, true), "{peer}");
        }
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_client() {
        let peer = "192.0.2.1:5000".parse().unwrap();
        let proxy = [ip("192.0.2.1"), ip("192.0.2.2")];
        assert_eq!(client(peer, &headers("203.0.113.9"), &[]), ip("192.0.2.1"));
        assert_eq!(client(peer, &headers("203.0.113.9"), &proxy), ip("203.0.113.9"));
        assert_eq!(client(peer, &headers("10.0.0.1, 203.0.113.9, 192.0.2.2"), &proxy), ip("203.0.113.9"), "a claim");
        assert_eq!(client(peer, &headers("nonsense"), &proxy), ip("192.0.2.1"));
        assert_eq!(client(peer, &headers("::ffff:203.0.113.9"), &proxy), ip("203.0.113.9"));
    }

    #[test]
    fn a_flood_is_slowed_per_source_and_failures_close_the_door_for_a_while() {
        let gate = Gate::new(Limits {
            requests_per_s: 2,
            requests_burst: 3,
            auth_failures_per_minute: 2,
            ..Limits::default()
        });
        let start = Instant::now();
        let allowed = (0..10).filter(|_| gate.request(ip("2001:db8::1"), start)).count();
        assert_eq!(allowed, 3);
        assert!(!gate.request(ip("2001:db8::2"), start), "the same /64");
        assert!(gate.request(ip("198.51.100.1"), start));
        assert!(gate.request(ip("2001:db8::1"), start + Duration::from_secs(1)));
        for _ in 0..2 {
            assert!(gate.may_try(ip("198.51.100.1"), start));
            gate.failed(ip("198.51.100.1"), start);
        }
        assert!(!gate.may_try(ip("198.51.100.1"), start));
        assert!(gate.may_try(ip("198.51.100.1"), start + Duration::from_secs(31)));
    }

    #[test]
    fn a_login_that_is_guessed_at_rests_whoever_guesses() {
        let gate = Gate::new(Limits::default());
        let start = Instant::now();
        for _ in 0..LOGIN_FAILURES {
            assert!(gate.may_sign_in("alice", start));
            gate.sign_in_failed("alice", start);
        }
        assert!(!gate.may_sign_in("alice", start));
        assert!(gate.may_sign_in("bob", start));
        assert!(gate.may_sign_in("alice", start + LOGIN_REST));
    }

    #[test]
    fn the_tables_stay_bounded() {
        let gate = Gate::new(Limits::default());
        let start = Instant::now();
        for n in 0..(MAX_SOURCES as u32 * 2) {
            gate.request(IpAddr::from(n.to_be_bytes()), start + Duration::from_millis(u64::from(n)));
        }
        assert!(lock(&gate.requests).len() <= MAX_SOURCES);
    }
}
