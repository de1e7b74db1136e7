//! A TURN server's relaying thread under this media thread's roof: what a browser sends us through it, and what we send
//! back, is handed over by a call.
use crate::clock::MediaClock;
use crate::media::{DATAGRAM_BYTES, FLUSH_AT};
use offhook_link::{Guest, Host, Lodging, Stay};
use offhook_net::Poller;
use offhook_sfu_core::Shard;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// The guest's poller among the media sockets.
pub(crate) const GUEST: u64 = u64::MAX - 1;

/// Where guests come in, and the one that did.
pub(crate) struct GuestRoom {
    door: Receiver<Lodging>,
    lodging: Option<Lodging>,
    /// Our sockets' addresses as the host itself knows them.
    own: Vec<SocketAddr>,
    failures: u64,
}

impl GuestRoom {
    /// `locals`: what a socket on the wildcard address is called on this machine.
    pub(crate) fn new(door: Receiver<Lodging>, bound: &[SocketAddr], locals: &[IpAddr]) -> Self {
        let own = bound.iter().flat_map(|bound| {
            let names = if bound.ip().is_unspecified() { locals.to_vec() } else { vec![bound.ip()] };
            names.into_iter().filter(|ip| ip.is_ipv4() == bound.is_ipv4()).map(|ip| SocketAddr::new(ip, bound.port()))
        });
        Self { own: own.collect(), door, lodging: None, failures: 0 }
    }

    /// Lets in who waits at the door. There is room for one; whoever comes next finds it taken and goes home.
    pub(crate) fn open_door(&mut self, poller: &Poller) {
        while let Ok(mut lodging) = self.door.try_recv() {
            let is_free = self.lodging.is_none();
            if is_free && lodging.guest().is_some_and(|guest| poller.add(&guest.wakes(), GUEST).is_ok()) {
                tracing::debug!("a relaying thread moved in");
                self.lodging = Some(lodging);
            } else {
                tracing::warn!("a relaying thread found no room here: what it relays to this SFU takes the sockets");
            }
        }
    }

    pub(crate) fn due_in(&mut self) -> Option<Duration> {
        self.guarded(|guest| guest.due_in())
    }

    /// Gives the guest what is for one of its addresses.
    pub(crate) fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        self.guarded(|guest| guest.hand_over(from, to, datagram)).unwrap_or(false)
    }

    pub(crate) fn flush(&mut self) {
        self.guarded(|guest| guest.flush());
    }

    /// Guests that failed and are gone.
    pub(crate) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// A guest that panics ends its own stay, and not the host.
    fn guarded<T>(&mut self, ask: impl FnOnce(&mut (dyn Guest + 'static)) -> T) -> Option<T> {
        let guest = self.lodging.as_mut()?.guest()?;
        let answer = catch_unwind(AssertUnwindSafe(|| ask(guest))).ok();
        if answer.is_none()
            && let Some(failed) = self.lodging.take()
        {
            // Its descriptor closes with it, and leaves the poller by that.
            failed.bury();
            self.failures += 1;
        }
        answer
    }

    /// Has the guest do what is ready and due.
    pub(crate) fn work(&mut self, poller: &Poller, shard: &mut Shard, clock: MediaClock) {
        let own = std::mem::take(&mut self.own);
        let mut host = MediaHost { shard, own: &own, clock };
        let outcome = self.guarded(|guest| guest.work(&mut host));
        self.own = own;
        if outcome == Some(Stay::Over) {
            self.close(poller);
        }
    }

    /// Nobody lives here when the thread is gone.
    pub(crate) fn close(&mut self, poller: &Poller) {
        if let Some(guest) = self.lodging.as_mut().and_then(Lodging::guest) {
            let _ = poller.remove(&guest.wakes());
        }
        self.lodging = None;
    }
}

struct MediaHost<'a> {
    shard: &'a mut Shard,
    own: &'a [SocketAddr],
    clock: MediaClock,
}

impl Host for MediaHost<'_> {
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) -> bool {
        if !self.own.contains(&to) {
            return false;
        }
        let shard = &mut *self.shard;
        // No more than a socket would have let in.
        if datagram.len() > DATAGRAM_BYTES {
            shard.count_truncated();
            return true;
        }
        let now = self.clock.now();
        if catch_unwind(AssertUnwindSafe(|| shard.handle_input(now, from, Some(to.ip()), datagram))).is_err() {
            shard.quarantine(now, from, datagram);
        }
        true
    }

    fn is_full(&self) -> bool {
        self.shard.transmits().len() >= FLUSH_AT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_link::HostThread;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Takes what is for port 5, and fails at port 6.
    struct Fragile {
        poller: Poller,
        went_home: Arc<AtomicU32>,
    }

    impl Guest for Fragile {
        fn wakes(&self) -> BorrowedFd<'_> {
            self.poller.as_fd()
        }
        fn due_in(&self) -> Duration {
            Duration::from_secs(1)
        }
        fn work(&mut self, _: &mut dyn Host) -> Stay {
            Stay::Over
        }
        fn hand_over(&mut self, _: SocketAddr, to: SocketAddr, _: &[u8]) -> bool {
            assert_ne!(to.port(), 6, "an invariant is broken");
            to.port() == 5
        }
        fn flush(&mut self) {}
        fn go_home(self: Box<Self>) {
            self.went_home.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_guest_that_panics_is_buried_and_the_next_one_has_its_place() {
        let (host, door) = HostThread::open(|| {});
        let poller = Poller::new().unwrap();
        let mut room = GuestRoom::new(door, &[at(7)], &[]);
        let went_home = Arc::new(AtomicU32::new(0));
        let guest = || Box::new(Fragile { poller: Poller::new().unwrap(), went_home: Arc::clone(&went_home) });
        host.take_in(guest());
        room.open_door(&poller);
        assert!(room.hand_over(at(7), at(5), b"x") && !room.hand_over(at(7), at(4), b"x"));
        // One place: whoever comes second goes home, and is not lost.
        host.take_in(guest());
        room.open_door(&poller);
        assert_eq!(went_home.load(Ordering::Relaxed), 1);
        assert!(!room.hand_over(at(7), at(6), b"x"), "what a guest failed at takes the socket");
        assert_eq!((room.take_failures(), room.take_failures(), went_home.load(Ordering::Relaxed)), (1, 0, 1));
        assert_eq!((room.due_in(), room.hand_over(at(7), at(5), b"x")), (None, false));
        host.take_in(guest());
        room.open_door(&poller);
        assert!(room.hand_over(at(7), at(5), b"x"));
        room.close(&poller);
        assert_eq!(went_home.load(Ordering::Relaxed), 2);
    }
}
