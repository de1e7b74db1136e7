//! Socket options that socket2 does not know.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and length describe one live c_int; the descriptor is borrowed for the call.
    let code = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<i32>() as libc::socklen_t)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Beyond `rmem_max` and `wmem_max` when the process may (CAP_NET_ADMIN), else as much as they allow. 0: the system's
/// default.
pub fn set_buffers(fd: BorrowedFd<'_>, receive: usize, send: usize) {
    let ways = [(receive, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (send, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)];
    for (bytes, forced, plain) in ways.into_iter().filter(|(bytes, ..)| *bytes > 0) {
        let bytes = bytes.min(i32::MAX as usize) as i32;
        // Smaller buffers than asked are no reason not to start.
        if set(fd, libc::SOL_SOCKET, forced, bytes).is_err() {
            let _ = set(fd, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

pub fn set_dscp(fd: BorrowedFd<'_>, v6: bool, dscp: u8) {
    let class = i32::from(dscp & 0x3f) << 2;
    let _ = if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, class)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_TOS, class)
    };
}

pub fn share_port(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
}

pub fn keep_errors(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 { set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1) } else { set(fd, libc::IPPROTO_IP, libc::IP_RECVERR, 1) }
}

/// Off is not the same for both. With `IP_PMTUDISC_DONT` the kernel throws ICMP's "fragmentation needed" away, also that
/// which answers what was sent with the bit a moment ago; `IP_PMTUDISC_OMIT` lets routers cut and keeps the errors. IPv6 keeps
/// them anyway, and with `IPV6_PMTUDISC_OMIT` would not learn into which pieces to cut what no router cuts.
pub fn set_dont_fragment(fd: BorrowedFd<'_>, v6: bool, on: bool) -> io::Result<()> {
    let (level, name, value) = match (v6, on) {
        (true, true) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        (true, false) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
        (false, true) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        (false, false) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
    };
    set(fd, level, name, value)
}

/// Has the kernel tell each packet's local address (RFC 3542 §6 for IPv6).
pub fn enable_packet_info(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// Linux 4.18 and newer segment a large UDP send by themselves. Asked once for the process.
pub fn knows_segmentation(fd: BorrowedFd<'_>) -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| set(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok())
}
