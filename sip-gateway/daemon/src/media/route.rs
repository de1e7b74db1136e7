//! Which of our addresses faces a destination.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

#[derive(Debug, thiserror::Error)]
#[error("no route to {to}: {source}")]
pub struct NoRoute {
    pub to: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// The local address that the kernel would send from. Connecting a UDP socket asks the routing table; nothing is sent.
pub fn local_address_towards(to: SocketAddr) -> Result<IpAddr, NoRoute> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let ask = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    ask().map_err(|source| NoRoute { to, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_faced_by_loopback() {
        let local = local_address_towards("127.0.0.1:5060".parse().unwrap()).unwrap();
        assert_eq!(local, IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
