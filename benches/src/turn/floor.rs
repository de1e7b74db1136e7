//! The bare loop: the system calls that relaying cannot do without, batched as far as the kernel allows, and no protocol.
//! A channel's number is the place of its relay socket, nothing is looked up.
#![allow(unsafe_code)]
use super::load::{Field, clients};
use super::{CHANNELS_FROM, PAYLOAD_BYTES, SERVER_IP, channel};
use crate::cpu;
use offhook_net::{UdpOptions, UdpSocket};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

const BATCH: usize = 64;
const HEADER: usize = 4;
const ROOM: usize = 2_048;
/// With fewer sockets ready each is read by a batch, with more each by one receive.
const FEW: usize = 4;
const LISTENER: u64 = u64::MAX;

pub struct Floor {
    tid: i32,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Floor {
    /// Relays for `count` clients, on core 0.
    pub fn start(count: usize) -> anyhow::Result<(Self, Field)> {
        let any = SocketAddr::from((SERVER_IP, 0));
        let listener = UdpSocket::bind(any, UdpOptions::default())?;
        // The system's buffers, as our server's relay sockets have.
        let options = UdpOptions { receive_buffer_bytes: 0, send_buffer_bytes: 0, ..UdpOptions::default() };
        let relays = (0..count).map(|_| UdpSocket::bind(any, options)).collect::<Result<Vec<_>, _>>()?;
        let (clients, peers) = (clients(count)?, Field::peers()?);
        let relayed = relays.iter().map(UdpSocket::local_address).collect();
        let destinations: Vec<SocketAddr> = clients.iter().map(UdpSocket::local_address).collect();
        let (server, peer) = (listener.local_address(), peers[0].local_address());
        let (tid, stop) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (own_tid, own_stop) = (Arc::clone(&tid), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("floor".into()).spawn(move || {
            own_tid.store(cpu::own_tid(), Ordering::Release);
            Loop::new(&listener, &relays, &destinations, peer).run(&own_stop);
        })?;
        while tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let tid = tid.load(Ordering::Acquire);
        cpu::pin(tid, 0)?;
        Ok((Self { tid, stop, thread: Some(thread) }, Field::over(server, clients, relayed, peers)?))
    }

    pub fn cpu(&self) -> Duration {
        cpu::time_of(self.tid)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const EMPTY_NAME: libc::sockaddr_in =
    libc::sockaddr_in { sin_family: 0, sin_port: 0, sin_addr: libc::in_addr { s_addr: 0 }, sin_zero: [0; 8] };

fn name(address: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(v4) = address else { panic!("loopback is IPv4 here") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// The option that has the kernel cut a send into datagrams.
#[repr(C, align(8))]
struct Segments {
    header: libc::cmsghdr,
    bytes: u16,
}

/// Looks by the clock while more than ten thousand packets a second come, as our server does.
struct Pace {
    is_busy: bool,
    round: Instant,
    judged: Instant,
    /// Since it was judged.
    packets: u64,
}

impl Pace {
    fn rest(&self) -> bool {
        let left = Duration::from_micros(400).checked_sub(self.round.elapsed()).filter(|_| self.is_busy);
        left.is_some_and(|left| {
            std::thread::sleep(left);
            true
        })
    }

    fn begin(&mut self) {
        self.round = Instant::now();
        let passed = self.round - self.judged;
        if passed >= Duration::from_millis(10) {
            self.is_busy = self.packets as f64 >= 1e4 * passed.as_secs_f64();
            (self.judged, self.packets) = (self.round, 0);
        }
    }
}

struct Loop {
    epoll: RawFd,
    listener: RawFd,
    relays: Vec<RawFd>,
    destinations: Vec<libc::sockaddr_in>,
    peer: libc::sockaddr_in,
    storage: Vec<u8>,
    lengths: [usize; BATCH],
    /// Whose the received datagrams are.
    owners: [usize; BATCH],
    names: [libc::sockaddr_in; BATCH],
    headers: [libc::mmsghdr; BATCH],
    vectors: [libc::iovec; BATCH],
    segments: Segments,
}

impl Loop {
    fn new(listener: &UdpSocket, relays: &[UdpSocket], destinations: &[SocketAddr], peer: SocketAddr) -> Self {
        let listener = listener.as_fd().as_raw_fd();
        let relays: Vec<RawFd> = relays.iter().map(|relay| relay.as_fd().as_raw_fd()).collect();
        // SAFETY: plain calls on descriptors that outlive the loop; the event lives through its call.
        let epoll = unsafe {
            let epoll = libc::epoll_create1(0);
            for (token, fd) in (0..).zip(&relays).chain([(LISTENER, &listener)]) {
                let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
                assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, *fd, &raw mut event), 0);
            }
            epoll
        };
        let header = libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + 2,
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        Self {
            epoll,
            listener,
            relays,
            destinations: destinations.iter().map(|to| name(*to)).collect(),
            peer: name(peer),
            storage: vec![0; BATCH * ROOM],
            lengths: [0; BATCH],
            owners: [0; BATCH],
            names: [EMPTY_NAME; BATCH],
            // SAFETY: all zeroes is a valid mmsghdr.
            headers: unsafe { std::mem::zeroed() },
            vectors: [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH],
            segments: Segments { header, bytes: (PAYLOAD_BYTES + HEADER) as u16 },
        }
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; BATCH];
        let mut pace = Pace { is_busy: false, round: Instant::now(), judged: Instant::now(), packets: 0 };
        while !stop.load(Ordering::Relaxed) {
            let timeout = if pace.rest() { 0 } else { 100 };
            // SAFETY: the kernel writes at most as many events as there is room for.
            let count = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), BATCH as i32, timeout) };
            pace.begin();
            let ready = events.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
            let mut gathered = 0;
            for event in ready {
                let token = event.u64;
                match token {
                    LISTENER => pace.packets += self.up(),
                    relay if ready.len() < FEW => {
                        let count = self.receive_batch(self.relays[relay as usize], gathered);
                        self.owners[gathered..gathered + count].fill(relay as usize);
                        gathered += count;
                    }
                    relay => gathered += usize::from(self.receive_one(relay as usize, gathered)),
                }
            }
            self.down(gathered);
            pace.packets += gathered as u64;
        }
        // SAFETY: our own descriptor, used by nobody else.
        unsafe { libc::close(self.epoll) };
    }

    /// From clients: one batch off the listener, runs of one channel in one send each.
    fn up(&mut self) -> u64 {
        let count = self.receive_batch(self.listener, 0);
        let mut at = 0;
        while at < count {
            let from = &self.storage[at * ROOM + HEADER..];
            let place = usize::from(u16::from_be_bytes([from[0], from[1]]) - CHANNELS_FROM);
            let mut run = 1;
            while at + run < count
                && self.storage[(at + run) * ROOM + HEADER..][..2] == channel(place).to_be_bytes()
                && self.lengths[at + run] == self.lengths[at]
            {
                run += 1;
            }
            self.send_run(self.relays[place], at, run);
            at += run;
        }
        count as u64
    }

    fn send_run(&mut self, relay: RawFd, at: usize, run: usize) {
        let base = self.storage.as_mut_ptr();
        let length = self.lengths[at] - HEADER;
        for (place, vector) in self.vectors.iter_mut().take(run).enumerate() {
            // SAFETY: a place of the storage, behind the datagram's header.
            let payload = unsafe { base.add((at + place) * ROOM + 2 * HEADER) };
            *vector = libc::iovec { iov_base: payload.cast(), iov_len: length };
        }
        // SAFETY: name, vectors, storage and option live through the calls.
        unsafe {
            if run == 1 {
                let name = (&raw const self.peer).cast();
                libc::sendto(relay, self.vectors[0].iov_base, length, 0, name, size_of::<libc::sockaddr_in>() as u32);
                return;
            }
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_name = (&raw mut self.peer).cast();
            message.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_iov = self.vectors.as_mut_ptr();
            message.msg_iovlen = run;
            self.segments.bytes = length as u16;
            message.msg_control = (&raw mut self.segments).cast();
            message.msg_controllen = size_of::<Segments>();
            libc::sendmsg(relay, &raw const message, 0);
        }
    }

    /// To clients: all that was gathered by one call, runs to one of them as one message.
    fn down(&mut self, gathered: usize) {
        let (mut messages, mut at) = (0, 0);
        while at < gathered {
            let owner = self.owners[at];
            let header = &mut self.headers[messages].msg_hdr;
            header.msg_name = (&raw mut self.destinations[owner]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 0;
            while at < gathered && self.owners[at] == owner {
                let length = self.lengths[at];
                let frame = &mut self.storage[at * ROOM..][..ROOM];
                frame[..2].copy_from_slice(&channel(owner).to_be_bytes());
                frame[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                self.vectors[at] = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: HEADER + length };
                header.msg_iovlen += 1;
                at += 1;
            }
            self.segments.bytes = (PAYLOAD_BYTES + HEADER) as u16;
            let is_run = header.msg_iovlen > 1;
            header.msg_control = if is_run { (&raw mut self.segments).cast() } else { std::ptr::null_mut() };
            header.msg_controllen = if is_run { size_of::<Segments>() } else { 0 };
            messages += 1;
        }
        let mut done = 0;
        while done < messages {
            // SAFETY: names, vectors, storage and option are our own and live through the call.
            let sent = unsafe {
                libc::sendmmsg(self.listener, self.headers.as_mut_ptr().add(done), (messages - done) as u32, 0)
            };
            done += usize::try_from(sent).unwrap_or(1).max(1);
        }
    }

    /// Behind what was gathered already; each datagram with room for a header.
    fn receive_batch(&mut self, fd: RawFd, first: usize) -> usize {
        let base = self.storage.as_mut_ptr();
        for place in first..BATCH {
            // SAFETY: a place of the storage.
            let piece = unsafe { base.add(place * ROOM + HEADER) };
            self.vectors[place] = libc::iovec { iov_base: piece.cast(), iov_len: ROOM - HEADER };
            let header = &mut self.headers[place].msg_hdr;
            header.msg_iov = &raw mut self.vectors[place];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.names[place]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
        }
        // SAFETY: every header points to its own vector, name and piece, all alive through the call.
        let count = unsafe {
            let headers = self.headers.as_mut_ptr().add(first);
            libc::recvmmsg(fd, headers, (BATCH - first) as u32, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        let count = usize::try_from(count).unwrap_or(0);
        for place in first..first + count {
            self.lengths[place] = self.headers[place].msg_len as usize;
        }
        count
    }

    fn receive_one(&mut self, relay: usize, place: usize) -> bool {
        let piece = &mut self.storage[place * ROOM + HEADER..(place + 1) * ROOM];
        let mut length = size_of::<libc::sockaddr_in>() as u32;
        // SAFETY: piece and name live through the call, and their lengths are theirs.
        let received = unsafe {
            let name = (&raw mut self.names[place]).cast();
            let (fd, flags) = (self.relays[relay], libc::MSG_DONTWAIT);
            libc::recvfrom(fd, piece.as_mut_ptr().cast(), piece.len(), flags, name, &raw mut length)
        };
        self.lengths[place] = usize::try_from(received).unwrap_or(0);
        self.owners[place] = relay;
        received > 0
    }
}
