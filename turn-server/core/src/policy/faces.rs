//! One address, seen through every way of hiding an IPv4 address in an IPv6 one.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address and whatever IPv4 addresses it carries: a packet may end at any of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faces {
    list: [IpAddr; MOST],
    len: usize,
}

/// Itself, two through Teredo or one through 6to4 or NAT64, one through ISATAP.
const MOST: usize = 4;

impl Faces {
    pub(crate) fn of(ip: IpAddr) -> Self {
        let ip = canonical(ip);
        let mut faces = Self { list: [ip; MOST], len: 1 };
        if let IpAddr::V6(v6) = ip {
            hidden(v6, |v4| faces.push(IpAddr::V4(v4)));
        }
        faces
    }

    fn push(&mut self, ip: IpAddr) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = ip;
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.list.iter().copied().take(self.len)
    }
}

/// Mapped (RFC 4291 §2.5.5.2), compatible (§2.5.5.1) and translated (RFC 2765 §2.1) forms are the IPv4 address itself.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let low = v6.to_bits() as u32;
    let v4 = match v6.to_bits() >> 32 {
        0x0000_ffff | 0xffff_0000 => Some(low),
        // `::` and `::1` are addresses of their own.
        0 if low > 1 => Some(low),
        _ => None,
    };
    v4.map_or(ip, |bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

pub(crate) fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}

fn hidden(v6: Ipv6Addr, mut found: impl FnMut(Ipv4Addr)) {
    let bits = v6.to_bits();
    let at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    // NAT64's well-known prefix (RFC 6052 §2.1).
    if bits >> 32 == 0x0064_ff9b_0000_0000_0000_0000 {
        found(at(0));
    }
    // Under the prefix for local use (RFC 8215) an operator has a /96, or all of the /48 (RFC 6052 §2.2: around the byte
    // that stays zero).
    if bits >> 80 == 0x0064_ff9b_0001 {
        let whole = Ipv4Addr::from_bits(((bits >> 64) as u32) << 16 | (bits >> 40) as u32 & 0xffff);
        found(if bits as u32 == 0 { whole } else { at(0) });
    }
    // 6to4 (RFC 3056 §2).
    if bits >> 112 == 0x2002 {
        found(at(80));
    }
    // Teredo (RFC 4380 §4): the server, and the client with its bits turned over.
    if bits >> 96 == 0x2001_0000 {
        found(at(64));
        found(Ipv4Addr::from_bits(!(bits as u32)));
    }
    // ISATAP (RFC 5214 §6.1): an interface identifier under any prefix, with or without the universal bit.
    if (bits >> 32) as u32 & 0xfdff_ffff == 0x0000_5efe {
        found(at(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faces(text: &str) -> Vec<String> {
        Faces::of(text.parse().unwrap()).iter().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn every_form_shows_the_address_it_hides() {
        assert_eq!(faces("::ffff:127.0.0.1"), ["127.0.0.1"]);
        assert_eq!(faces("::127.0.0.1"), ["127.0.0.1"]);
        assert_eq!(faces("::ffff:0:127.0.0.1"), ["127.0.0.1"]);
        assert_eq!(faces("64:ff9b::7f00:1"), ["64:ff9b::7f00:1", "127.0.0.1"]);
        assert_eq!(faces("64:ff9b:1:5::7f00:1"), ["64:ff9b:1:5::7f00:1", "127.0.0.1"]);
        assert_eq!(faces("64:ff9b:1:7f00:0:100::"), ["64:ff9b:1:7f00:0:100::", "127.0.0.1"]);
        assert_eq!(faces("2002:7f00:1::"), ["2002:7f00:1::", "127.0.0.1"]);
        let teredo = ["2001:0:a00:1:8000:f227:80ff:fffe", "10.0.0.1", "127.0.0.1"];
        assert_eq!(faces(teredo[0]), teredo);
        assert_eq!(faces("2a00::5efe:a00:1"), ["2a00::5efe:a00:1", "10.0.0.1"]);
        assert_eq!(faces("2a00::200:5efe:a00:1"), ["2a00::200:5efe:a00:1", "10.0.0.1"]);
        assert_eq!(faces("2002:808:808::5efe:a00:1"), ["2002:808:808::5efe:a00:1", "8.8.8.8", "10.0.0.1"]);
    }

    #[test]
    fn what_hides_nothing_is_left_alone() {
        for text in ["::", "::1", "2a00::1", "fe80::1", "8.8.8.8"] {
            assert_eq!(faces(text), [text]);
        }
    }
}
