//! Socket addresses between Rust's form and the kernel's, without allocation.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Large enough for both families; the kernel reads and writes it as bytes.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct RawAddress {
    bytes: [u8; 28],
}

/// `sizeof(sockaddr_in)` and `sizeof(sockaddr_in6)` on Linux.
const V4_LENGTH: u32 = 16;
const V6_LENGTH: u32 = 28;

impl RawAddress {
    pub const CAPACITY: u32 = V6_LENGTH;
    pub const EMPTY: Self = Self { bytes: [0; 28] };

    /// Writes `address` and returns the length that the kernel wants to hear.
    pub fn set(&mut self, address: SocketAddr) -> u32 {
        let b = &mut self.bytes;
        match address {
            SocketAddr::V4(v4) => {
                b[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                b[2..4].copy_from_slice(&v4.port().to_be_bytes());
                b[4..8].copy_from_slice(&v4.ip().octets());
                b[8..16].fill(0);
                V4_LENGTH
            }
            SocketAddr::V6(v6) => {
                b[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                b[2..4].copy_from_slice(&v6.port().to_be_bytes());
                b[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
                b[8..24].copy_from_slice(&v6.ip().octets());
                b[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                V6_LENGTH
            }
        }
    }

    /// `None` for a family that is neither IPv4 nor IPv6.
    pub fn get(&self) -> Option<SocketAddr> {
        let b = &self.bytes;
        let family = i32::from(u16::from_ne_bytes([b[0], b[1]]));
        let port = u16::from_be_bytes([b[2], b[3]]);
        match family {
            libc::AF_INET => Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(b[4], b[5], b[6], b[7]), port))),
            libc::AF_INET6 => {
                let mut ip = [0; 16];
                ip.copy_from_slice(&b[8..24]);
                let flow = u32::from_be_bytes([b[4], b[5], b[6], b[7]]);
                let scope = u32::from_ne_bytes([b[24], b[25], b[26], b[27]]);
                Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope)))
            }
            _ => None,
        }
    }
}

/// The wildcard address of either family.
pub fn is_wildcard(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_kernel_form_in_both_families() {
        for text in ["127.0.0.1:7882", "255.255.255.255:65535", "[::1]:1", "[fe80::1%3]:9", "[2001:db8::7]:443"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut raw = RawAddress::EMPTY;
            raw.set(address);
            assert_eq!(raw.get(), Some(address));
        }
        assert_eq!(RawAddress::EMPTY.get(), None);
    }
}
