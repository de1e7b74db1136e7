//! Waiting: sockets, a waker for command queues, and a deadline.
use crate::ffi::epoll;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// The token under which wake-ups are reported; sockets take any other.
pub const WAKER_TOKEN: u64 = u64::MAX;

/// Wakes the thread that waits on the poller. Cheap to clone, callable from any thread; several calls before the
/// sleeper looks count as one.
#[derive(Debug, Clone)]
pub struct Waker {
    fd: Arc<OwnedFd>,
}

impl Waker {
    pub fn wake(&self) {
        epoll::signal(self.fd.as_fd());
    }
}

/// Tokens that are ready, reused from wait to wait.
#[derive(Debug)]
pub struct Ready {
    tokens: Vec<u64>,
    /// Of the same place: an error waits beside what there is to read.
    errors: Vec<bool>,
    woken: bool,
}

impl Ready {
    /// Sockets with something to read.
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }
    /// Whether the socket at a place of [`Self::tokens`] has an error to take ([`crate::UdpSocket::take_error`]).
    pub fn has_error(&self, place: usize) -> bool {
        self.errors.get(place).copied().unwrap_or(false)
    }
    /// Somebody called [`Waker::wake`].
    pub const fn woken(&self) -> bool {
        self.woken
    }
}

impl Default for Ready {
    fn default() -> Self {
        Self { tokens: Vec::with_capacity(EVENTS_PER_WAIT), errors: Vec::with_capacity(EVENTS_PER_WAIT), woken: false }
    }
}

const EVENTS_PER_WAIT: usize = 64;

pub struct Poller {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    events: Box<[libc::epoll_event]>,
}

/// Itself readable while a socket in it is: one poller can wait for another.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create()?;
        let wake = Arc::new(epoll::eventfd()?);
        epoll::add(epoll.as_fd(), wake.as_fd(), WAKER_TOKEN)?;
        Ok(Self { epoll, wake, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_PER_WAIT].into() })
    }

    pub fn waker(&self) -> Waker {
        Waker { fd: Arc::clone(&self.wake) }
    }

    /// Level-triggered: reported until it is read empty.
    pub fn add(&self, socket: &impl AsFd, token: u64) -> io::Result<()> {
        epoll::add(self.epoll.as_fd(), socket.as_fd(), token)
    }

    pub fn remove(&self, socket: &impl AsFd) -> io::Result<()> {
        epoll::remove(self.epoll.as_fd(), socket.as_fd())
    }

    /// Waits until something is ready or `timeout` has passed (rounded up to a millisecond; `None`: for ever).
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Ready) -> io::Result<()> {
        let timeout_ms = timeout.map_or(-1, |t| t.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i32);
        let count = epoll::wait(self.epoll.as_fd(), &mut self.events, timeout_ms)?;
        ready.tokens.clear();
        ready.errors.clear();
        ready.woken = false;
        for event in self.events.iter().take(count) {
            let (token, events) = (event.u64, event.events);
            if token == WAKER_TOKEN {
                epoll::clear(self.wake.as_fd());
                ready.woken = true;
            } else {
                ready.tokens.push(token);
                ready.errors.push(events & libc::EPOLLERR as u32 != 0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{UdpOptions, UdpSocket};

    #[test]
    fn a_wake_up_from_another_thread_ends_the_wait_once() {
        let mut poller = Poller::new().unwrap();
        let mut ready = Ready::default();
        let waker = poller.waker();
        std::thread::spawn(move || {
            waker.wake();
            waker.wake();
        })
        .join()
        .unwrap();
        poller.wait(None, &mut ready).unwrap();
        assert!(ready.woken());
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(!ready.woken());
    }

    #[test]
    fn a_socket_is_reported_until_it_is_read_and_not_after_removal() {
        let mut poller = Poller::new().unwrap();
        let mut ready = Ready::default();
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), UdpOptions::default()).unwrap();
        poller.add(&socket, 7).unwrap();
        poller.wait(Some(Duration::from_micros(1)), &mut ready).unwrap();
        assert!(ready.tokens().is_empty());
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"x", socket.local_address()).unwrap();
        poller.wait(None, &mut ready).unwrap();
        assert_eq!(ready.tokens(), [7]);
        poller.remove(&socket).unwrap();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        assert!(ready.tokens().is_empty());
    }
}
