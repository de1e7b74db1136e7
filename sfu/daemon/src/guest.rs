//! A TURN server's relaying thread under this media thread's roof: what a browser sends us through it, and what we send
//! back, is handed over by a call, or in a parcel where the guest and the room live in different threads.
use crate::clock::MediaClock;
use crate::media::{DATAGRAM_BYTES, FLUSH_AT};
use offhook_link::{Guest, Handed, Host, Lodging, Neighbours, Parcel, Stay};
use offhook_net::Poller;
use offhook_sfu_core::{MediaNs, Shard};
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
    /// The other media threads and their guests.
    neighbours: Option<Neighbours>,
    failures: u64,
}

/// A socket's addresses: of the wildcard, what it is called on this machine.
pub(crate) fn names(bound: &[SocketAddr], locals: &[IpAddr]) -> Vec<SocketAddr> {
    let each = bound.iter().flat_map(|bound| {
        let names = if bound.ip().is_unspecified() { locals.to_vec() } else { vec![bound.ip()] };
        names.into_iter().filter(|ip| ip.is_ipv4() == bound.is_ipv4()).map(|ip| SocketAddr::new(ip, bound.port()))
    });
    each.collect()
}

impl GuestRoom {
    pub(crate) const fn new(door: Receiver<Lodging>, own: Vec<SocketAddr>) -> Self {
        Self { own, door, lodging: None, neighbours: None, failures: 0 }
    }

    pub(crate) fn meet(&mut self, neighbours: Neighbours) {
        self.neighbours = Some(neighbours);
        self.announce();
    }

    /// Tells the others who lives here.
    fn announce(&mut self) {
        let guest = self.lodging.as_mut().and_then(Lodging::guest).map(|guest| guest.id());
        if let Some(neighbours) = &self.neighbours {
            neighbours.announce(guest);
        }
    }

    /// Lets in who waits at the door. There is room for one; whoever comes next finds it taken and goes home.
    pub(crate) fn open_door(&mut self, poller: &Poller) {
        while let Ok(mut lodging) = self.door.try_recv() {
            let is_free = self.lodging.is_none();
            if is_free && lodging.guest().is_some_and(|guest| poller.add(&guest.wakes(), GUEST).is_ok()) {
                tracing::debug!("a relaying thread moved in");
                self.lodging = Some(lodging);
                self.announce();
            } else {
                tracing::warn!("a relaying thread found no room here: what it relays to this SFU takes the sockets");
            }
        }
    }

    pub(crate) fn due_in(&mut self) -> Option<Duration> {
        self.guarded(|guest| guest.due_in())
    }

    /// Gives our guest, or a neighbour's, what is for one of its addresses.
    pub(crate) fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        match self.guarded(|guest| guest.hand_over(from, to, datagram)) {
            Some(Handed::Taken) => true,
            Some(Handed::For(other)) => {
                self.neighbours.as_mut().is_some_and(|beside| beside.hand_over_to(other, from, to, datagram))
            }
            Some(Handed::No) | None => false,
        }
    }

    pub(crate) fn flush(&mut self) {
        self.guarded(|guest| guest.flush());
    }

    /// Sends on what the neighbours get.
    pub(crate) fn post(&mut self) {
        if let Some(neighbours) = &mut self.neighbours {
            neighbours.post();
        }
    }

    /// To be asked before each wait.
    pub(crate) fn may_sleep(&self) -> bool {
        self.neighbours.as_ref().is_none_or(Neighbours::may_sleep)
    }

    /// To be asked after each wait: whether neighbours sent something.
    pub(crate) fn wake_up(&self) -> bool {
        self.neighbours.as_ref().is_some_and(Neighbours::wake_up)
    }

    pub(crate) fn next_parcel(&self) -> Option<Parcel> {
        self.neighbours.as_ref()?.take_in()
    }

    pub(crate) fn give_back(&self, parcel: Parcel) {
        if let Some(neighbours) = &self.neighbours {
            neighbours.give_back(parcel);
        }
    }

    /// More parcels may wait than were taken in.
    pub(crate) fn stay_up(&self) {
        if let Some(neighbours) = &self.neighbours {
            neighbours.stay_up();
        }
    }

    /// Takes what a neighbour sent, for us or for our guest. What is for neither would have found no socket.
    pub(crate) fn take(
        &mut self,
        (shard, now): (&mut Shard, MediaNs),
        (from, to): (SocketAddr, SocketAddr),
        datagram: &mut [u8],
    ) {
        if self.own.contains(&to) {
            take_in(shard, now, (from, to), datagram);
        } else {
            self.guarded(|guest| guest.hand_over(from, to, datagram));
        }
    }

    /// Guests that failed and are gone.
    pub(crate) fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    /// A guest that panics ends its own stay, and not the host.
    fn guarded<T>(&mut self, ask: impl FnOnce(&mut (dyn Guest + 'static)) -> T) -> Option<T> {
        let guest = self.lodging.as_mut()?.guest()?;
        let answer = catch_unwind(AssertUnwindSafe(|| ask(guest))).ok();
        if answer.is_none() {
            self.bury();
        }
        answer
    }

    fn bury(&mut self) {
        if let Some(failed) = self.lodging.take() {
            // Its descriptor closes with it, and leaves the poller by that.
            failed.bury();
            self.failures += 1;
            self.announce();
        }
    }

    /// Has the guest do what is ready and due.
    pub(crate) fn work(&mut self, poller: &Poller, shard: &mut Shard, clock: MediaClock) {
        let Some(guest) = self.lodging.as_mut().and_then(Lodging::guest) else { return };
        let mut host = MediaHost { shard, own: &self.own, neighbours: self.neighbours.as_mut(), clock };
        match catch_unwind(AssertUnwindSafe(|| guest.work(&mut host))) {
            Ok(Stay::On) => {}
            Ok(Stay::Over) => self.close(poller),
            Err(_) => self.bury(),
        }
    }

    /// Nobody lives here when the thread is gone.
    pub(crate) fn close(&mut self, poller: &Poller) {
        if let Some(guest) = self.lodging.as_mut().and_then(Lodging::guest) {
            let _ = poller.remove(&guest.wakes());
        }
        self.lodging = None;
        self.announce();
    }
}

struct MediaHost<'a> {
    shard: &'a mut Shard,
    own: &'a [SocketAddr],
    neighbours: Option<&'a mut Neighbours>,
    clock: MediaClock,
}

impl Host for MediaHost<'_> {
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) -> bool {
        if self.own.contains(&to) {
            take_in(self.shard, self.clock.now(), (from, to), datagram);
            return true;
        }
        self.neighbours.as_mut().is_some_and(|neighbours| neighbours.hand_over(from, to, datagram))
    }

    fn is_full(&self) -> bool {
        self.shard.transmits().len() >= FLUSH_AT
    }
}

/// As if it came from our socket at `to`.
fn take_in(shard: &mut Shard, now: MediaNs, (from, to): (SocketAddr, SocketAddr), datagram: &mut [u8]) {
    // No more than a socket would have let in.
    if datagram.len() > DATAGRAM_BYTES {
        shard.count_truncated();
    } else if catch_unwind(AssertUnwindSafe(|| shard.handle_input(now, from, Some(to.ip()), datagram))).is_err() {
        shard.quarantine(now, from, datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_link::{GuestId, HostThread, House, neighbourhood};
    use offhook_media::{BeepSpec, encode_beep};
    use offhook_sfu_core::ShardOptions;
    use std::os::fd::{AsFd, BorrowedFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Takes what is for port 5, fails at port 6, and knows another guest's port 9.
    struct Fragile {
        poller: Poller,
        id: GuestId,
        other: GuestId,
        heard: Arc<AtomicU32>,
        went_home: Arc<AtomicU32>,
    }

    impl Guest for Fragile {
        fn id(&self) -> GuestId {
            self.id
        }
        fn wakes(&self) -> BorrowedFd<'_> {
            self.poller.as_fd()
        }
        fn due_in(&self) -> Duration {
            Duration::from_secs(1)
        }
        fn work(&mut self, host: &mut dyn Host) -> Stay {
            // The other thread's socket, then nobody's.
            assert!(host.hand_over(at(5), at(71), &mut [0; 8]) && !host.hand_over(at(5), at(72), &mut [0; 8]));
            Stay::Over
        }
        fn hand_over(&mut self, _: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Handed {
            assert_ne!(to.port(), 6, "an invariant is broken");
            match to.port() {
                5 => {
                    self.heard.fetch_add(u32::from(datagram[0]), Ordering::Relaxed);
                    Handed::Taken
                }
                9 => Handed::For(self.other),
                _ => Handed::No,
            }
        }
        fn flush(&mut self) {}
        fn go_home(self: Box<Self>) {
            self.went_home.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A thread's room at port 70 or 71, and guests for it.
    struct Thread {
        host: HostThread,
        room: GuestRoom,
        poller: Poller,
        place: u16,
        house: House,
        heard: Arc<AtomicU32>,
        went_home: Arc<AtomicU32>,
    }

    impl Thread {
        fn new(place: u16, house: House) -> Self {
            let (host, door) = HostThread::open(|| {});
            let room = GuestRoom::new(door, vec![at(70 + place)]);
            let (heard, went_home) = Default::default();
            Self { host, room, poller: Poller::new().unwrap(), place, house, heard, went_home }
        }

        fn let_in(&mut self) {
            self.host.take_in(Box::new(Fragile {
                poller: Poller::new().unwrap(),
                id: self.house.guest(self.place),
                other: self.house.guest(1 - self.place),
                heard: Arc::clone(&self.heard),
                went_home: Arc::clone(&self.went_home),
            }));
            self.room.open_door(&self.poller);
        }

        /// Takes in what the neighbours sent; says how many datagrams it was.
        fn read(&mut self, shard: &mut Shard) -> usize {
            let mut count = 0;
            while let Some(mut parcel) = self.room.next_parcel() {
                for (from, to, datagram) in parcel.datagrams() {
                    self.room.take((shard, MediaNs(1)), (from, to), datagram);
                    count += 1;
                }
                self.room.give_back(parcel);
            }
            count
        }
    }

    fn two() -> [Thread; 2] {
        let house = House::default();
        let mut both = [Thread::new(0, house), Thread::new(1, house)];
        let each: Vec<_> = both.iter().map(|one| (one.host.clone(), one.room.own.clone())).collect();
        both.iter_mut().zip(neighbourhood(&each)).for_each(|(one, view)| one.room.meet(view));
        both
    }

    fn shard() -> Shard {
        let hold = encode_beep(&BeepSpec::default()).unwrap();
        Shard::new(ShardOptions::new(Arc::new(hold), 1))
    }

    #[test]
    fn a_guest_that_panics_is_buried_and_the_next_one_has_its_place() {
        let mut one = Thread::new(0, House::default());
        one.let_in();
        assert!(one.room.hand_over(at(7), at(5), b"x") && !one.room.hand_over(at(7), at(4), b"x"));
        // One place: whoever comes second goes home, and is not lost.
        one.let_in();
        assert_eq!(one.went_home.load(Ordering::Relaxed), 1);
        assert!(!one.room.hand_over(at(7), at(6), b"x"), "what a guest failed at takes the socket");
        let failures = (one.room.take_failures(), one.room.take_failures());
        assert_eq!((failures, one.went_home.load(Ordering::Relaxed)), ((1, 0), 1));
        assert_eq!((one.room.due_in(), one.room.hand_over(at(7), at(5), b"x")), (None, false));
        one.let_in();
        assert!(one.room.hand_over(at(7), at(5), b"x"));
        one.room.close(&one.poller);
        assert_eq!(one.went_home.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_is_for_a_neighbours_guest_or_socket_goes_there_in_a_parcel() {
        let [mut first, mut second] = two();
        first.let_in();
        assert!(!first.room.hand_over(at(70), at(9), &[3]), "nobody lives there yet");
        second.let_in();
        assert!(first.room.hand_over(at(70), at(9), &[3]) && second.room.may_sleep());
        first.room.post();
        assert!(second.room.wake_up());
        // The other guest has that port under its own name.
        let mut parcel = second.room.next_parcel().unwrap();
        for (from, to, datagram) in parcel.datagrams() {
            assert_eq!((from, to), (at(70), at(9)));
            second.room.take((&mut shard(), MediaNs(1)), (from, at(5)), datagram);
        }
        second.room.give_back(parcel);
        assert_eq!(second.heard.load(Ordering::Relaxed), 3);
        // A guest's datagram for the other thread's socket is the other shard's, as if it had come there.
        let (mut here, mut there) = (shard(), shard());
        first.room.work(&first.poller, &mut here, MediaClock::start());
        first.room.post();
        assert_eq!(second.read(&mut there), 1);
        let received = [here.counters().received_datagrams, there.counters().received_datagrams];
        assert_eq!(received, [0, 1]);
    }

    #[test]
    fn a_guest_that_left_or_failed_and_a_thread_that_ended_are_sent_nothing() {
        let [mut first, mut second] = two();
        first.let_in();
        second.let_in();
        second.room.hand_over(at(71), at(6), b"x");
        assert!(!first.room.hand_over(at(70), at(9), b"x"), "it was buried");
        second.let_in();
        assert!(first.room.hand_over(at(70), at(9), b"x"));
        second.room.close(&second.poller);
        assert!(!first.room.hand_over(at(70), at(9), b"x"), "it went home");
        second.let_in();
        assert!(first.room.hand_over(at(70), at(9), b"x"));
        first.room.post();
        // Under way when the other one fails: its guest is told by nobody, and nothing waits.
        let mut shard = shard();
        assert_eq!(second.read(&mut shard), 2);
        drop(second);
        assert!(!first.room.hand_over(at(70), at(9), b"x"));
        first.room.post();
    }
}
