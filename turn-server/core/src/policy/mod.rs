//! Which peers a client may reach (DESIGN.md §6). CreatePermission, ChannelBind and Send ask the same question here.
//!
//! Addresses are unwrapped first ([`faces`]), then checked; what the operator allows beats what he denies, and an own
//! socket is out of reach whatever he allows, except the media ports he names.
mod faces;
mod range;
mod special;

pub(crate) use faces::canonical_socket;
pub use range::{AddressRange, RangeError};

use crate::ports::RelayPorts;
use faces::Faces;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// Why a peer is out of reach: 403 (RFC 8656 §9, §10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Forbidden {
    #[error("the unspecified address")]
    Unspecified,
    #[error("a loopback address")]
    Loopback,
    #[error("a private address")]
    Private,
    #[error("a link-local address")]
    LinkLocal,
    #[error("an address behind carrier-grade NAT")]
    CarrierGrade,
    #[error("a unique-local address")]
    UniqueLocal,
    #[error("a multicast address")]
    Multicast,
    #[error("the broadcast address")]
    Broadcast,
    #[error("an address for documentation")]
    Documentation,
    #[error("a reserved address")]
    Reserved,
    #[error("port 0")]
    PortZero,
    #[error("a listening socket of this server")]
    OwnSocket,
    #[error("a port of this server's address that is no relay")]
    OwnAddress,
    #[error("denied by denied-peer-ip")]
    Denied,
}

/// A media port of an SFU of ours: what clients are told, and where it is reached from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaPeer {
    pub announced: SocketAddr,
    pub local: SocketAddr,
}

/// An address of ours behind 1:1 NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedAddress {
    pub announced: IpAddr,
    pub local: IpAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPolicy {
    pub allowed: Vec<AddressRange>,
    pub denied: Vec<AddressRange>,
    pub allow_loopback: bool,
    /// RFC 1918, carrier-grade NAT and unique-local, as coturn 4.6 does.
    pub allow_private: bool,
    /// Sockets of this stack. The wildcard address stands for every address in `own_addresses` and loopback.
    pub own_sockets: Vec<SocketAddr>,
    pub own_addresses: Vec<IpAddr>,
    /// Ports of this stack on whichever of its addresses: RTP's.
    pub own_ports: Vec<RangeInclusive<u16>>,
    pub media: Vec<MediaPeer>,
    pub mapped: Vec<MappedAddress>,
    /// Among them a port of ours bears the name that clients know; whose relay it is, if any, the server's table tells.
    pub relay_ports: RangeInclusive<u16>,
}

impl Default for PeerPolicy {
    /// Nothing but the open Internet.
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            denied: Vec::new(),
            allow_loopback: false,
            allow_private: false,
            own_sockets: Vec::new(),
            own_addresses: Vec::new(),
            own_ports: Vec::new(),
            media: Vec::new(),
            mapped: Vec::new(),
            relay_ports: 49_152..=65_535,
        }
    }
}

impl PeerPolicy {
    /// Judges `peer` as a client named it, and says where its packets go from here. Its port counts only where the
    /// policy names ports. At an address of ours one client's relay may be another client's peer: what else stands in
    /// the range of relay ports is as closed as the rest.
    pub(crate) fn judge(&self, peer: SocketAddr, relays: &RelayPorts) -> Result<SocketAddr, Forbidden> {
        let peer = canonical_socket(peer);
        if let Some(media) = self.media.iter().find(|media| media.announced == peer || media.local == peer) {
            return Ok(media.local);
        }
        if self.is_own_socket(peer) {
            return Err(Forbidden::OwnSocket);
        }
        let is_relay = |ip: IpAddr| relays.owner(SocketAddr::new(ip, peer.port())).is_some();
        if let Some(mapped) = self.mapped.iter().find(|mapped| mapped.announced == peer.ip()) {
            // Both ends relayed here: the packet need not leave for the NAT, and reaches nothing but relays.
            let local = SocketAddr::new(mapped.local, peer.port());
            return if is_relay(mapped.local) { Ok(local) } else { Err(Forbidden::OwnAddress) };
        }
        Faces::of(peer.ip()).iter().try_for_each(|face| {
            self.judge_face(face)?;
            if self.may_reach_all_of(face) || is_relay(self.local_of(face)) {
                Ok(())
            } else {
                Err(Forbidden::OwnAddress)
            }
        })?;
        Ok(peer)
    }

    /// Judges an address to which a permission is asked for without a port (RFC 8656 §9): whatever is sent to one of its
    /// ports is judged again.
    pub(crate) fn judge_address(&self, peer: IpAddr) -> Result<(), Forbidden> {
        let peer = faces::canonical(peer);
        let is_media = self.media.iter().any(|media| media.announced.ip() == peer);
        if is_media || self.mapped.iter().any(|mapped| mapped.announced == peer) {
            return Ok(());
        }
        Faces::of(peer).iter().try_for_each(|face| self.judge_face(face))
    }

    /// Where a datagram to a peer goes whose address has a permission: a permission opens every port (RFC 8656 §9), our
    /// own sockets and named ports stay what they are.
    pub(crate) fn judge_datagram(&self, peer: SocketAddr, relays: &RelayPorts) -> Result<SocketAddr, Forbidden> {
        if peer.port() == 0 {
            return Err(Forbidden::PortZero);
        }
        if self.names_ports() {
            return self.judge(peer, relays);
        }
        if self.is_own_socket(peer) { Err(Forbidden::OwnSocket) } else { Ok(peer) }
    }

    /// Whether an SFU elsewhere may name this as its media port: its word opens nothing that is closed to everybody, and no
    /// socket of ours. `here`: an address of this host.
    #[must_use]
    pub fn takes_media_from_elsewhere(&self, media: SocketAddr, here: bool) -> bool {
        let media = canonical_socket(media);
        let is_open = || Faces::of(media.ip()).iter().all(|face| self.judge_face(face).is_ok());
        media.port() != 0 && !self.is_own_socket(media) && (here || is_open())
    }

    /// Whether a permission given under another policy may stay.
    pub(crate) fn may_keep(&self, peer: IpAddr) -> bool {
        self.media.iter().any(|media| media.local.ip() == peer) || self.judge_address(peer).is_ok()
    }

    const fn names_ports(&self) -> bool {
        !self.media.is_empty() || !self.mapped.is_empty() || self.closes_own_addresses()
    }

    fn judge_face(&self, face: IpAddr) -> Result<(), Forbidden> {
        if self.is_allowed(face) {
            return Ok(());
        }
        if self.denied.iter().any(|range| range.contains(face)) {
            return Err(Forbidden::Denied);
        }
        match special::special(face) {
            Some(Forbidden::Loopback) if self.allow_loopback => Ok(()),
            Some(Forbidden::Private | Forbidden::CarrierGrade | Forbidden::UniqueLocal) if self.allow_private => Ok(()),
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    fn is_allowed(&self, face: IpAddr) -> bool {
        self.allowed.iter().any(|range| range.contains(face))
    }

    /// On our own addresses a packet from here passes every firewall: without coturn's word for it, only relays and media
    /// ports are peers there.
    const fn closes_own_addresses(&self) -> bool {
        !self.allow_private && !self.own_addresses.is_empty()
    }

    fn may_reach_all_of(&self, face: IpAddr) -> bool {
        !self.closes_own_addresses() || !self.is_own_address_beyond_loopback(face) || self.is_allowed(face)
    }

    fn local_of(&self, announced: IpAddr) -> IpAddr {
        self.mapped.iter().find(|mapped| mapped.announced == announced).map_or(announced, |mapped| mapped.local)
    }

    fn is_own_address_beyond_loopback(&self, face: IpAddr) -> bool {
        self.own_addresses.contains(&face) || self.mapped.iter().any(|mapped| mapped.announced == face)
    }

    /// By any of its names: what turns a form back into the address stands outside and sends it to us again.
    pub(crate) fn is_own_socket(&self, address: SocketAddr) -> bool {
        let faces = Faces::of(address.ip());
        // A packet to the unspecified address stays on this host.
        let is_here = |face: IpAddr| face.is_unspecified() || self.is_own_address(face);
        if self.own_ports.iter().any(|ports| ports.contains(&address.port())) && faces.iter().any(is_here) {
            return true;
        }
        let of_port = |own: &&SocketAddr| own.port() == address.port();
        self.own_sockets.iter().filter(of_port).any(|own| {
            faces
                .iter()
                .any(|face| own.ip() == face || face.is_unspecified() || own.ip().is_unspecified() && is_here(face))
        })
    }

    fn is_own_address(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.is_own_address_beyond_loopback(ip)
    }

    /// What a client calls an address from which a packet came: a name to which it has a permission. A media port has
    /// several where it is announced twice, or is named as it is bound.
    pub(crate) fn name_for(&self, from: SocketAddr, is_permitted: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
        let usual = self.announced(from);
        if is_permitted(usual.ip()) {
            return Some(usual);
        }
        let media = self.media.iter().filter(|media| media.local == from);
        media.flat_map(|media| [media.announced, from]).find(|name| is_permitted(name.ip()))
    }

    fn announced(&self, from: SocketAddr) -> SocketAddr {
        let mut media = self.media.iter().filter(|media| media.local == from).map(|media| media.announced);
        if let Some(first) = media.next() {
            // The name outside wins over the port's own: that is what clients ask for.
            return if first == from { media.find(|announced| *announced != from).unwrap_or(first) } else { first };
        }
        match self.mapped.iter().find(|mapped| mapped.local == from.ip()) {
            Some(mapped) if self.relay_ports.contains(&from.port()) => SocketAddr::new(mapped.announced, from.port()),
            _ => from,
        }
    }
}
