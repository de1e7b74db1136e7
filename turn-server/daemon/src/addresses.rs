//! The addresses of this host.
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Of the kernel's tables, which hold every route of a router: what is further down is not read.
const TABLE_BYTES: u64 = 4 << 20;
const ADDRESSES_MAX: usize = 1_024;

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

/// Every address of every interface but loopback's, as the kernel has them now. Its tables are read: netlink, by which
/// others ask, is closed to a service in a sandbox.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let table = |name: &str| File::open(format!("/proc/self/net/{name}")).map(|file| file.take(TABLE_BYTES));
    let mut found: Vec<IpAddr> = [outward(false), outward(true)].into_iter().flatten().collect();
    if let Ok(file) = table("fib_trie") {
        found.extend(local_v4(BufReader::new(file)).map(IpAddr::V4));
    }
    if let Ok(file) = table("if_inet6") {
        found.extend(local_v6(BufReader::new(file)).map(IpAddr::V6));
    }
    found.retain(|ip| !ip.is_loopback());
    found.sort_unstable();
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    found
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
