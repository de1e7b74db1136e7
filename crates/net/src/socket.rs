//! A non-blocking UDP socket with large buffers.
use crate::address::{RawAddress, is_wildcard};
use crate::ffi::{arrays, options};
use crate::receive::ReceiveBatch;
use crate::send::{Datagram, SendBatch, Sent};
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What is asked of the kernel. Each option costs a system call, which counts where sockets come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpOptions {
    /// It may give less (`net.core.rmem_max`, `wmem_max`). 0: the system's default.
    pub receive_buffer_bytes: usize,
    pub send_buffer_bytes: usize,
    /// DSCP in the upper six bits of the traffic class; 46 (EF) is usual for voice (RFC 8837 §5).
    pub dscp: u8,
    /// Several sockets share one address; the kernel keeps each 5-tuple on one of them.
    pub reuse_port: bool,
    /// Keep ICMP errors for [`UdpSocket::take_error`].
    pub keep_errors: bool,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            dscp: 46,
            reuse_port: false,
            keep_errors: false,
        }
    }
}

/// What ICMP said of a datagram sent to `peer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerError {
    pub peer: SocketAddr,
    pub kind: u8,
    pub code: u8,
    /// The next hop's MTU where the message tells it.
    pub data: u32,
}

impl PeerError {
    /// Its `kind` where no ICMP message came: the system itself refused the datagram, `data` is the MTU that it did not
    /// fit, and the peer's port is unknown.
    pub const LOCAL: u8 = u8::MAX;
}

#[derive(Debug, thiserror::Error)]
#[error("cannot bind UDP {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    #[source]
    pub source: io::Error,
}

/// One UDP socket of one media thread. `Send`, not `Sync`: its owner alone sends and receives.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// Cleared when the device refuses segmentation, for the socket's life.
    segmentation: Cell<bool>,
}

impl UdpSocket {
    pub fn bind(address: SocketAddr, wanted: UdpOptions) -> Result<Self, BindError> {
        Self::open(address, wanted).map_err(|source| BindError { address, source })
    }

    fn open(address: SocketAddr, wanted: UdpOptions) -> io::Result<Self> {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        options::set_buffers(socket.as_fd(), wanted.receive_buffer_bytes, wanted.send_buffer_bytes);
        options::set_dscp(socket.as_fd(), address.is_ipv6(), wanted.dscp);
        if wanted.reuse_port {
            options::share_port(socket.as_fd())?;
        }
        if wanted.keep_errors {
            options::keep_errors(socket.as_fd(), address.is_ipv6())?;
        }
        if is_wildcard(address.ip()) {
            options::enable_packet_info(socket.as_fd(), address.is_ipv6())?;
        }
        socket.bind(&address.into())?;
        let local = match address.port() {
            0 => socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?,
            _ => address,
        };
        let fd: OwnedFd = socket.into();
        let segmentation = Cell::new(options::knows_segmentation(fd.as_fd()));
        Ok(Self { fd, local, segmentation })
    }

    /// The bound address; the port is the real one when 0 was asked.
    pub const fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// Takes what has arrived, up to the batch's capacity. 0 when nothing waits.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.clear();
        batch.fill(self.fd.as_fd(), batch.capacity())
    }

    /// Takes up to `limit` datagrams, behind those that the batch holds already: several sockets' in one batch.
    pub fn receive_more(&self, batch: &mut ReceiveBatch, limit: usize) -> io::Result<usize> {
        if limit == 1 && !is_wildcard(self.local.ip()) {
            batch.fill_one(self.fd.as_fd())
        } else {
            batch.fill(self.fd.as_fd(), limit)
        }
    }

    /// The oldest ICMP error that nobody has taken, for sockets that keep them.
    pub fn take_error(&self) -> Option<PeerError> {
        arrays::take_error(self.fd.as_fd())
    }

    /// Whether packets leave with the DF bit, and are refused when they are too long for it. What ICMP says of those that
    /// did is kept whichever is set when it comes.
    pub fn set_dont_fragment(&self, on: bool) -> io::Result<()> {
        options::set_dont_fragment(self.fd.as_fd(), self.local.is_ipv6(), on)
    }

    /// Sends one datagram from the bound address.
    ///
    /// # Errors
    /// The kernel had no room or no route, or an ICMP error waited for the next send to this peer.
    pub fn send_one(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let mut name = RawAddress::EMPTY;
        let length = name.set(to);
        arrays::send_one(self.fd.as_fd(), &name, length, bytes)
    }

    /// Sends all datagrams, those to one destination in as few system calls as the kernel allows.
    /// What the kernel refuses is counted and skipped: UDP promises nothing, a media thread waits for nobody.
    pub fn send<'a>(&self, batch: &mut SendBatch, datagrams: impl Iterator<Item = Datagram<'a>>) -> Sent {
        batch.send_all(self.fd.as_fd(), &self.segmentation, datagrams)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
