//! The addresses of this host.
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Of the kernel's tables, which hold every route of a router: what is further down is not read.
const TABLE_BYTES: u64 = 4 << 20;
const ADDRESSES_MAX: usize = 1_024;
/// Relay addresses that nobody named; each has a table of its ports.
const RELAYS_MAX: usize = 64;

/// The address by which this host reaches the Internet; connecting a UDP socket sends nothing.
pub(crate) fn outward(v6: bool) -> Option<IpAddr> {
    let (bind, to): (SocketAddr, SocketAddr) = if v6 {
        ((Ipv6Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888), 9).into())
    } else {
        ((Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv4Addr::new(8, 8, 8, 8), 9).into())
    };
    let socket = UdpSocket::bind(bind).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Every address of every interface but loopback's, as the kernel has them now.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let mut found = all_addresses();
    found.retain(|ip| !ip.is_loopback());
    found.extend([outward(false), outward(true)].into_iter().flatten());
    found.sort_unstable();
    found.dedup();
    found
}

/// The kernel's tables are read: netlink, by which others ask, is closed to a service in a sandbox.
fn all_addresses() -> Vec<IpAddr> {
    let table = |name: &str| File::open(format!("/proc/self/net/{name}")).map(|file| file.take(TABLE_BYTES));
    let mut found: Vec<IpAddr> = Vec::new();
    if let Ok(file) = table("fib_trie") {
        found.extend(local_v4(BufReader::new(file)).map(IpAddr::V4));
    }
    if let Ok(file) = table("if_inet6") {
        found.extend(local_v6(BufReader::new(file)).map(IpAddr::V6));
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    found
}

/// Where a server stands, as far as its plan depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// By which it reaches the Internet, of each family.
    pub outward: Vec<IpAddr>,
    /// Of every interface, loopback among them.
    pub addresses: Vec<IpAddr>,
    pub name: Option<String>,
}

impl Host {
    /// This one, as it is now.
    #[must_use]
    pub fn here() -> Self {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        Self {
            outward: [outward(false), outward(true)].into_iter().flatten().collect(),
            addresses: all_addresses(),
            name: name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        }
    }

    /// Outward ones first.
    fn each(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.addresses.iter().filter(|ip| !self.outward.contains(ip));
        self.outward.iter().chain(others).copied()
    }

    pub(crate) fn beyond_loopback(&self) -> impl Iterator<Item = IpAddr> {
        self.each().filter(|ip| !ip.is_loopback())
    }

    /// Whether it has an address of this family at all.
    pub(crate) fn speaks(&self, v6: bool) -> bool {
        self.each().any(|ip| ip.is_ipv6() == v6)
    }

    /// Where relays stand when nobody says: as from coturn, on every address but loopback and link-local, and on those
    /// only if there is nothing else. A link-local address of IPv6 says nothing without its interface.
    pub(crate) fn relay_addresses(&self) -> Vec<IpAddr> {
        let is_link_local = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let of = |wanted: &dyn Fn(&IpAddr) -> bool| -> Vec<IpAddr> {
            self.each().filter(|ip| !ip.is_unspecified()).filter(wanted).take(RELAYS_MAX).collect()
        };
        let mut found = of(&|ip| !ip.is_loopback() && !is_link_local(ip));
        if found.is_empty() {
            found = of(&|ip| !ip.is_loopback() && ip.is_ipv4());
        }
        if found.is_empty() {
            found = of(&IpAddr::is_loopback);
        }
        found
    }
}

/// A leaf of the tree, `|-- 192.0.2.1`, and below it `/32 host LOCAL` if it is an address of ours.
fn local_v4(table: impl BufRead) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    table.lines().map_while(Result::ok).filter_map(move |line| {
        let line = line.trim();
        match line.strip_prefix("|-- ") {
            Some(address) => {
                leaf = address.parse().ok();
                None
            }
            None => leaf.filter(|_| line == "/32 host LOCAL"),
        }
    })
}

/// 32 digits, and what is said of them.
fn local_v6(table: impl BufRead) -> impl Iterator<Item = Ipv6Addr> {
    let address =
        |line: String| u128::from_str_radix(line.split_whitespace().next()?, 16).ok().map(Ipv6Addr::from_bits);
    table.lines().map_while(Result::ok).filter_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_say_which_addresses_are_ours() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
            +-- 10.1.0.0/16 2 0 2\n           |-- 10.1.0.0\n              /16 link UNICAST\n           \
            |-- 10.1.2.3\n              /32 host LOCAL\n        |-- 10.1.255.255\n           /32 link BROADCAST\n        \
            |-- 192.0.2.9\n              /32 link UNICAST\n              /32 host LOCAL\n";
        assert_eq!(local_v4(trie.as_bytes()).map(|ip| ip.to_string()).collect::<Vec<_>>(), ["10.1.2.3", "192.0.2.9"]);
        let list =
            "fe800000000000000000000000000001 02 40 20 80 eth0\n20010db8000000000000000000000005 02 40 00 80 eth0\n";
        assert_eq!(local_v6(list.as_bytes()).map(|ip| ip.to_string()).collect::<Vec<_>>(), ["fe80::1", "2001:db8::5"]);
    }

    #[test]
    fn relays_stand_on_loopback_and_link_local_addresses_only_if_there_is_nothing_else() {
        let ips = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let relays = |outward: &[&str], all: &[&str]| {
            Host { outward: ips(outward), addresses: ips(all), name: None }.relay_addresses()
        };
        let all = ["10.2.0.1", "10.3.0.1", "127.0.0.1", "169.254.1.1", "::1", "2001:db8::1", "fe80::1"];
        assert_eq!(relays(&["10.3.0.1"], &all), ips(&["10.3.0.1", "10.2.0.1", "2001:db8::1"]));
        assert_eq!(relays(&[], &["127.0.0.1", "169.254.1.1", "::1", "fe80::1"]), ips(&["169.254.1.1"]));
        assert_eq!(relays(&[], &["127.0.0.1", "::1", "fe80::1"]), ips(&["127.0.0.1", "::1"]));
        assert!(relays(&[], &[]).is_empty());
    }

    /// By the word of `ip`, which asks the kernel another way.
    #[test]
    fn no_address_of_this_host_is_missed() {
        let output = std::process::Command::new("ip").args(["-o", "address", "show"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = own_addresses();
        let mut compared = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| word.starts_with("inet")).unwrap();
            let ip: IpAddr = words[at + 1].split('/').next().unwrap().parse().unwrap();
            assert!(ip.is_loopback() || found.contains(&ip), "{ip} is missing in {found:?}");
            compared += 1;
        }
        assert!(compared > 0);
    }
}
