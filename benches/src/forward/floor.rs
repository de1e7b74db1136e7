//! The bare loop: nothing but the system calls and the crypto that forwarding cannot do without.
#![allow(unsafe_code)]
use super::ground::{self, Pace};
use super::{PAYLOAD_BYTES, RECEIVERS, Round, payload};
use crate::cpu;
use anyhow::{Context, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// RTP header with the level extension, as the SFU writes it.
const HEADER: usize = 20;
const TAG: usize = 16;
const DATAGRAM: usize = HEADER + PAYLOAD_BYTES + TAG;
const BATCH: usize = 64;

pub struct Floor {
    sockets: Vec<UdpSocket>,
    sender: UdpSocket,
    to: SocketAddr,
    key: LessSafeKey,
    tid: Arc<AtomicI32>,
    stop: Arc<AtomicBool>,
    sequence: u32,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn key(number: usize) -> LessSafeKey {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of 32 bytes"))
}

fn nonce(sequence: u32) -> Nonce {
    let mut bytes = [0; 12];
    bytes[8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn sequence_of(datagram: &[u8]) -> u32 {
    datagram.get(4..8).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

impl Floor {
    pub fn start() -> anyhow::Result<Self> {
        let sockets = (0..RECEIVERS).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        let destinations = sockets.iter().map(UdpSocket::local_addr).collect::<Result<Vec<_>, _>>()?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        let to = socket.local_addr()?;
        let (tid, stop) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let (own_tid, own_stop) = (Arc::clone(&tid), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("floor".into()).spawn(move || {
            own_tid.store(cpu::own_tid(), Ordering::Release);
            forward(&socket, &destinations, &own_stop);
        })?;
        while tid.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        cpu::pin(tid.load(Ordering::Acquire), 0)?;
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self { sockets, sender, to, key: key(0), tid, stop, sequence: 0, thread: Some(thread) })
    }

    pub fn round(&mut self, packets: u32) -> anyhow::Result<Round> {
        let tid = self.tid.load(Ordering::Acquire);
        let keys: Vec<LessSafeKey> = (1..=RECEIVERS).map(key).collect();
        let before = cpu::time_of(tid);
        let first = self.sequence;
        let received = ground::drive(
            &self.sockets,
            &Pace::of_forwarding(packets),
            |number| {
                let sequence = first + number;
                let mut datagram = [0x80; DATAGRAM];
                datagram[4..8].copy_from_slice(&sequence.to_be_bytes());
                let (header, rest) = datagram.split_at_mut(HEADER);
                let (body, tag) = rest.split_at_mut(PAYLOAD_BYTES);
                body.copy_from_slice(&payload(sequence));
                let sealed = self.key.seal_in_place_separate_tag(nonce(sequence), Aad::from(&*header), body);
                tag.copy_from_slice(sealed.ok().context("seal")?.as_ref());
                self.sender.send_to(&datagram, self.to)?;
                Ok(())
            },
            |index, datagram| {
                let sequence = sequence_of(datagram);
                if (sequence as usize + index).is_multiple_of(50) {
                    let (header, body) = datagram.split_at_mut(HEADER);
                    let opened = keys[index].open_in_place(nonce(sequence), Aad::from(&*header), body);
                    ensure!(opened.ok() == Some(&mut payload(sequence)[..]), "a payload of the floor is wrong");
                }
                Ok(())
            },
        )?;
        self.sequence += packets;
        let spent = cpu::time_of(tid) - before;
        Ok(Round { ns_per_packet: spent.as_nanos() as f64 / received as f64, allocations: 0, packets: received })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.sender.send_to(&[0], self.to);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What `sendmmsg` reads for one destination.
#[derive(Clone, Copy)]
struct Names {
    address: libc::sockaddr_in,
}

fn name(address: SocketAddr) -> Names {
    let SocketAddr::V4(v4) = address else { panic!("loopback is IPv4 here") };
    let raw = |v4: SocketAddrV4| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: v4.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
        sin_zero: [0; 8],
    };
    Names { address: raw(v4) }
}

fn forward(socket: &UdpSocket, destinations: &[SocketAddr], stop: &AtomicBool) {
    let own = key(0);
    let keys: Vec<LessSafeKey> = (1..=destinations.len()).map(key).collect();
    let mut names: Vec<Names> = destinations.iter().map(|to| name(*to)).collect();
    let mut incoming = vec![0_u8; BATCH * 1_600];
    let mut outgoing = vec![0_u8; BATCH * DATAGRAM];
    let fd = socket.as_raw_fd();
    let epoll = epoll_on(fd);
    while !stop.load(Ordering::Acquire) {
        wait(epoll);
        loop {
            let (count, lengths) = receive(fd, &mut incoming);
            for (datagram, len) in incoming.chunks_exact_mut(1_600).zip(lengths).take(count) {
                if len != DATAGRAM {
                    continue;
                }
                let sequence = sequence_of(datagram);
                let (header, body) = datagram[..DATAGRAM].split_at_mut(HEADER);
                if own.open_in_place(nonce(sequence), Aad::from(&*header), body).is_err() {
                    continue;
                }
                let keyed = keys.chunks(BATCH).zip(names.chunks_mut(BATCH));
                for (keys, names) in keyed {
                    for (key, out) in keys.iter().zip(outgoing.chunks_exact_mut(DATAGRAM)) {
                        let (out_header, rest) = out.split_at_mut(HEADER);
                        out_header.copy_from_slice(header);
                        let (out_body, tag) = rest.split_at_mut(PAYLOAD_BYTES);
                        out_body.copy_from_slice(&body[..PAYLOAD_BYTES]);
                        let sealed = key.seal_in_place_separate_tag(nonce(sequence), Aad::from(&*out_header), out_body);
                        tag.copy_from_slice(sealed.expect("seal").as_ref());
                    }
                    send(fd, names, &mut outgoing);
                }
            }
            if count < BATCH {
                break;
            }
        }
    }
    // SAFETY: our own descriptor, used by nobody else.
    unsafe { libc::close(epoll) };
}

fn epoll_on(fd: RawFd) -> RawFd {
    // SAFETY: plain calls; the event lives through the second.
    unsafe {
        let epoll = libc::epoll_create1(0);
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event), 0);
        epoll
    }
}

fn wait(epoll: RawFd) {
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: room for one event, which lives through the call.
    unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 1_000) };
}

fn empty() -> libc::mmsghdr {
    // SAFETY: all zeroes is a valid mmsghdr.
    unsafe { std::mem::zeroed() }
}

fn receive(fd: RawFd, storage: &mut [u8]) -> (usize, [usize; BATCH]) {
    let mut headers = [empty(); BATCH];
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    let mut from = [name("0.0.0.0:0".parse().expect("an address")); BATCH];
    let pieces = storage.chunks_exact_mut(1_600);
    for (((header, vector), from), piece) in headers.iter_mut().zip(&mut vectors).zip(&mut from).zip(pieces) {
        *vector = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut from.address).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    }
    // SAFETY: every header points to its own vector, name and piece, all alive through the call.
    let count =
        unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), BATCH as u32, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
    let mut lengths = [0; BATCH];
    lengths.iter_mut().zip(&headers).for_each(|(length, header)| *length = header.msg_len as usize);
    (usize::try_from(count).unwrap_or(0), lengths)
}

fn send(fd: RawFd, names: &mut [Names], storage: &mut [u8]) {
    let mut headers = [empty(); BATCH];
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
    let count = names.len();
    let pieces = storage.chunks_exact_mut(DATAGRAM);
    for (((header, vector), name), piece) in headers.iter_mut().zip(&mut vectors).zip(names).zip(pieces) {
        *vector = libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_name = (&raw mut name.address).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
    }
    let mut done = 0;
    while done < count {
        // SAFETY: every header points to its own vector, name and piece, all alive through the call.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr().add(done), (count - done) as u32, 0) };
        done += usize::try_from(sent).unwrap_or(1);
    }
}
