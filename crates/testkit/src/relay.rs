//! Impairs real datagrams in user space: a UDP relay between two sockets on loopback.
use crate::impair::{Impairment, Impairments};
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::network::Delivery;

/// What is sent to [`Relay::address`] reaches `server` late, twice or not at all; replies go to the last sender.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    pub fn start(server: SocketAddr, plan: Impairment, seed: u64) -> io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = front.local_addr()?;
        let (stop, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut work = Work {
            there: Impairments::new(plan, seed),
            back_again: Impairments::new(plan, seed.wrapping_add(1)),
            client: None,
            server,
            begun: Instant::now(),
            under_way: BinaryHeap::new(),
        };
        let (stopping, cutting) = (Arc::clone(&stop), Arc::clone(&cut));
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let is_cut = cutting.load(Ordering::Relaxed);
                (work.there.cut, work.back_again.cut) = (is_cut, is_cut);
                work.turn(&front, &back);
            }
        })?;
        Ok(Self { address, stop, cut, thread: Some(thread) })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Work {
    there: Impairments,
    back_again: Impairments,
    client: Option<SocketAddr>,
    server: SocketAddr,
    begun: Instant,
    under_way: BinaryHeap<Delivery>,
}

impl Work {
    fn turn(&mut self, front: &UdpSocket, back: &UdpSocket) {
        let mut bytes = [0u8; 2_048];
        if let Ok((len, from)) = front.recv_from(&mut bytes) {
            self.client = Some(from);
            self.pass(&mut bytes[..len], from, self.server);
        }
        if let (Ok((len, from)), Some(client)) = (back.recv_from(&mut bytes), self.client) {
            self.pass(&mut bytes[..len], from, client);
        }
        let now = self.begun.elapsed();
        while self.under_way.peek().is_some_and(|d| d.at <= now) {
            let Some(due) = self.under_way.pop() else { break };
            let socket = if due.to == self.server { back } else { front };
            // A full socket buffer loses the datagram, as a network would.
            let _ = socket.send_to(&due.datagram, due.to);
        }
    }

    fn pass(&mut self, datagram: &mut [u8], from: SocketAddr, to: SocketAddr) {
        let now = self.begun.elapsed();
        let path = if to == self.server { &mut self.there } else { &mut self.back_again };
        for at in path.pass(now, datagram) {
            self.under_way.push(Delivery { at, from, to, datagram: datagram.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_cross_in_both_directions() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let relay = Relay::start(server.local_addr().unwrap(), Impairment::default(), 1).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"there", relay.address()).unwrap();
        let mut bytes = [0; 10];
        let (len, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"there");
        server.send_to(b"back", from).unwrap();
        assert_eq!(client.recv(&mut bytes).unwrap(), 4);
    }
}
