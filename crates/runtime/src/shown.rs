//! Addresses as they stand in logs: shortened, unless `[runtime] log_full_addresses` asks for all of it.
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

static FULL: AtomicBool = AtomicBool::new(false);

pub(crate) fn show_full_addresses(full: bool) {
    FULL.store(full, Ordering::Relaxed);
}

/// For log fields: `203.0.113.x:5060`, `2001:db8::/32 …:5060`.
pub fn shown(address: SocketAddr) -> impl fmt::Display + fmt::Debug {
    Shown { ip: address.ip(), port: Some(address.port()), full: FULL.load(Ordering::Relaxed) }
}

/// The same without a port.
pub fn shown_ip(ip: IpAddr) -> impl fmt::Display + fmt::Debug {
    Shown { ip, port: None, full: FULL.load(Ordering::Relaxed) }
}

struct Shown {
    ip: IpAddr,
    port: Option<u16>,
    full: bool,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.ip.to_canonical();
        match ip {
            // Nobody is identified by a loopback address.
            _ if self.full || ip.is_loopback() || ip.is_unspecified() => match self.port {
                Some(port) => return SocketAddr::new(ip, port).fmt(f),
                None => return ip.fmt(f),
            },
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                write!(f, "{a}.{b}.{c}.x")?;
            }
            IpAddr::V6(v6) => {
                let [a, b, ..] = v6.segments();
                write!(f, "[{a:x}:{b:x}:…]")?;
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logged_address_names_the_network_and_not_the_host() {
        assert_eq!(shown("203.0.113.77:5060".parse().unwrap()).to_string(), "203.0.113.x:5060");
        assert_eq!(shown("[::ffff:203.0.113.77]:5060".parse().unwrap()).to_string(), "203.0.113.x:5060");
        assert_eq!(shown("[2001:db8:1::7]:9".parse().unwrap()).to_string(), "[2001:db8:…]:9");
        assert_eq!(shown("127.0.0.1:5060".parse().unwrap()).to_string(), "127.0.0.1:5060");
        assert_eq!(shown_ip("198.51.100.9".parse().unwrap()).to_string(), "198.51.100.x");
    }
}
