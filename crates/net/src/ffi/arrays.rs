//! The arrays that `recvmmsg` and `sendmmsg` read and write. Every pointer in them is made anew inside the call that
//! uses it, from buffers borrowed for that call; what stays behind afterwards is never followed.
use crate::address::RawAddress;
use crate::receive::Shape;
use crate::socket::PeerError;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Room for one packet-info and one segment-size control message.
const CONTROL_BYTES: usize = 64;
const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct Control {
    bytes: [u8; CONTROL_BYTES],
    used: usize,
}

impl Control {
    pub const EMPTY: Self = Self { bytes: [0; CONTROL_BYTES], used: 0 };

    pub fn clear(&mut self) {
        self.used = 0;
    }

    fn push(&mut self, level: i32, kind: i32, value: &[u8]) {
        let length = CMSG_HEADER + value.len();
        let space = length.next_multiple_of(align_of::<libc::cmsghdr>());
        let Some(target) = self.bytes.get_mut(self.used..self.used + space) else { return };
        target[0..8].copy_from_slice(&length.to_ne_bytes());
        target[8..12].copy_from_slice(&level.to_ne_bytes());
        target[12..16].copy_from_slice(&kind.to_ne_bytes());
        target[CMSG_HEADER..length].copy_from_slice(value);
        self.used += space;
    }

    /// The source address of a send (`in_pktinfo.ipi_spec_dst`, RFC 3542 §6.2 for IPv6).
    pub fn set_source(&mut self, source: IpAddr) {
        match source {
            IpAddr::V4(ip) => {
                let mut value = [0; 12];
                value[4..8].copy_from_slice(&ip.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &value);
            }
            IpAddr::V6(ip) => {
                let mut value = [0; 20];
                value[0..16].copy_from_slice(&ip.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &value);
            }
        }
    }

    pub fn set_segment(&mut self, bytes: u16) {
        self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    /// The local address of a received packet.
    pub fn local(&self) -> Option<IpAddr> {
        let mut rest = self.bytes.get(..self.used)?;
        while rest.len() >= CMSG_HEADER {
            let length = usize::from_ne_bytes(rest.get(0..8)?.try_into().ok()?);
            let level = i32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
            let kind = i32::from_ne_bytes(rest.get(12..16)?.try_into().ok()?);
            let value = rest.get(CMSG_HEADER..length)?;
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let octets: [u8; 4] = value.get(8..12)?.try_into().ok()?;
                    return Some(IpAddr::from(octets));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let octets: [u8; 16] = value.get(0..16)?.try_into().ok()?;
                    return Some(IpAddr::from(octets));
                }
                _ => rest = rest.get(length.next_multiple_of(align_of::<libc::cmsghdr>())..)?,
            }
        }
        None
    }
}

/// Headers for one system call.
pub struct Headers {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    vectors_used: usize,
    used: usize,
}

// SAFETY: the raw pointers inside are only written, and followed by the kernel during calls that made them themselves;
// between calls they are plain numbers.
unsafe impl Send for Headers {}

const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

fn empty_header() -> libc::mmsghdr {
    // SAFETY: mmsghdr is a plain C structure for which all zeroes is a valid value (null pointers, zero lengths).
    unsafe { std::mem::zeroed() }
}

impl Headers {
    pub fn new(capacity: usize) -> Self {
        Self {
            headers: (0..capacity).map(|_| empty_header()).collect(),
            vectors: vec![EMPTY_VECTOR; capacity].into(),
            vectors_used: 0,
            used: 0,
        }
    }

    pub fn clear(&mut self) {
        self.vectors_used = 0;
        self.used = 0;
    }

    /// Starts a message. The pointers are followed by [`Headers::send`], for whose call the caller keeps the borrows.
    pub fn begin(&mut self, name: &RawAddress, name_length: u32, control: &Control) {
        let Some(header) = self.headers.get_mut(self.used) else { return };
        let Some(vector) = self.vectors.get_mut(self.vectors_used) else { return };
        let h = &mut header.msg_hdr;
        h.msg_name = (&raw const *name).cast_mut().cast();
        h.msg_namelen = name_length;
        h.msg_iov = vector;
        h.msg_iovlen = 0;
        h.msg_control = if control.used == 0 { std::ptr::null_mut() } else { (&raw const *control).cast_mut().cast() };
        h.msg_controllen = control.used;
        h.msg_flags = 0;
        self.used += 1;
    }

    /// Adds a piece to the message begun last.
    pub fn piece(&mut self, bytes: &[u8]) {
        let Some(header) = self.used.checked_sub(1).and_then(|i| self.headers.get_mut(i)) else { return };
        let Some(vector) = self.vectors.get_mut(self.vectors_used) else { return };
        *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        header.msg_hdr.msg_iovlen += 1;
        self.vectors_used += 1;
    }

    /// Sends the messages from `first` on; returns how many the kernel took, at least one.
    ///
    /// # Safety
    /// What was passed to `begin` and `piece` since `clear` is still borrowed and has not moved.
    pub unsafe fn send(&mut self, fd: BorrowedFd<'_>, first: usize) -> io::Result<usize> {
        let Some(messages) = self.headers.get_mut(first..self.used) else { return Ok(0) };
        // `msg_iov` was taken from `vectors` one element at a time: derive it again from the whole array, so that the
        // kernel may read every piece of a message through it.
        let base = self.vectors.as_mut_ptr();
        let mut at =
            messages.first().map_or(0, |m| (m.msg_hdr.msg_iov as usize - base as usize) / size_of::<libc::iovec>());
        for message in messages.iter_mut() {
            message.msg_hdr.msg_iov = base.wrapping_add(at);
            at += message.msg_hdr.msg_iovlen;
        }
        // SAFETY: the caller keeps names, controls and pieces borrowed; headers and vectors are ours and borrowed mutably.
        let count = unsafe {
            libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, libc::MSG_NOSIGNAL)
        };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

/// Takes one entry off the socket's error queue (`IP_RECVERR`): ICMP's words, and whom the packet was for.
pub fn take_error(fd: BorrowedFd<'_>) -> Option<PeerError> {
    let mut name = RawAddress::EMPTY;
    let mut control = ErrorControl { bytes: [0; ERROR_BYTES] };
    let mut header = empty_header().msg_hdr;
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = RawAddress::CAPACITY;
    header.msg_control = (&raw mut control.bytes).cast();
    header.msg_controllen = ERROR_BYTES;
    // SAFETY: name and control live in this frame; no pieces are given, so nothing else is written.
    let result = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if result < 0 {
        return None;
    }
    let used = header.msg_controllen.min(ERROR_BYTES);
    let mut rest = control.bytes.get(..used)?;
    while rest.len() >= CMSG_HEADER {
        let length = usize::from_ne_bytes(rest.get(0..8)?.try_into().ok()?);
        let level = i32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?);
        let kind = i32::from_ne_bytes(rest.get(12..16)?.try_into().ok()?);
        let value = rest.get(CMSG_HEADER..length)?;
        let is_error =
            matches!((level, kind), (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR));
        // `sock_extended_err`: errno, origin, type, code, padding, info, data.
        if let (true, [_, _, _, _, origin, kind, code, _, i0, i1, i2, i3, ..]) = (is_error, value) {
            let from_network = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(origin);
            let (kind, code) = if from_network { (*kind, *code) } else { (PeerError::LOCAL, 0) };
            return Some(PeerError { peer: name.get()?, kind, code, data: u32::from_ne_bytes([*i0, *i1, *i2, *i3]) });
        }
        rest = rest.get(length.next_multiple_of(align_of::<libc::cmsghdr>())..)?;
    }
    None
}

/// An extended error with the address of whoever complained.
const ERROR_BYTES: usize = 256;

#[repr(C, align(8))]
struct ErrorControl {
    bytes: [u8; ERROR_BYTES],
}

/// Receives into `storage`, `size` bytes per datagram with room around each. Fills names, controls and lengths of as many as arrived.
pub fn receive(
    fd: BorrowedFd<'_>,
    headers: &mut Headers,
    storage: &mut [u8],
    shape: Shape,
    slots: &mut [crate::receive::Slot],
) -> io::Result<usize> {
    let size = shape.size;
    let capacity = slots.len().min(headers.headers.len()).min(storage.len() / shape.stride());
    let pieces = storage.chunks_exact_mut(shape.stride()).filter_map(|chunk| chunk.get_mut(shape.payload(size)));
    for (((header, vector), slot), piece) in
        headers.headers.iter_mut().zip(headers.vectors.iter_mut()).zip(slots.iter_mut()).zip(pieces).take(capacity)
    {
        *vector = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        let h = &mut header.msg_hdr;
        h.msg_name = (&raw mut slot.name).cast();
        h.msg_namelen = RawAddress::CAPACITY;
        h.msg_iov = vector;
        h.msg_iovlen = 1;
        h.msg_control = (&raw mut slot.control.bytes).cast();
        h.msg_controllen = CONTROL_BYTES;
        h.msg_flags = 0;
    }
    // SAFETY: the first `capacity` headers point to one vector, one name, one control buffer and one piece of storage
    // each, all borrowed mutably by this function and untouched until the call returns.
    let count = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.headers.as_mut_ptr(),
            capacity as libc::c_uint,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
        )
    };
    if count < 0 {
        return match io::Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            e => Err(e),
        };
    }
    let count = count as usize;
    for (header, slot) in headers.headers.iter().zip(slots.iter_mut()).take(count) {
        slot.length = (header.msg_len as usize).min(size);
        slot.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        slot.control.used = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
    }
    Ok(count)
}

/// Receives one datagram into `slot` and `piece`; `false` when none waits. The local address stays unknown.
pub fn receive_one(fd: BorrowedFd<'_>, slot: &mut crate::receive::Slot, piece: &mut [u8]) -> io::Result<bool> {
    let mut name_length = RawAddress::CAPACITY;
    // SAFETY: name and piece are borrowed mutably through the call, and their lengths are theirs.
    let length = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            piece.as_mut_ptr().cast(),
            piece.len(),
            // With MSG_TRUNC the length is the datagram's, whatever room there was.
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            (&raw mut slot.name).cast(),
            &raw mut name_length,
        )
    };
    if length < 0 {
        return match io::Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            e => Err(e),
        };
    }
    let length = length as usize;
    slot.length = length.min(piece.len());
    slot.truncated = length > piece.len();
    slot.control.clear();
    Ok(true)
}

/// Sends one datagram.
pub fn send_one(fd: BorrowedFd<'_>, name: &RawAddress, name_length: u32, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: name and bytes are borrowed through the call, and their lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
            (&raw const *name).cast(),
            name_length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
