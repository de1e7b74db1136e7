//! Datagrams between the host threads of one process. What one has for another gathers in a parcel, which changes hands at
//! the end of a round and comes back empty; a thread that sleeps is woken once, however many parcels come. No lock, and
//! no allocation once the parcels are made; whatever finds no room takes the socket.
use crate::handover::{GuestId, HostThread};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Parcels that one thread has for another, wherever they are.
const PARCELS: usize = 4;
/// Datagrams and bytes of a parcel.
const DATAGRAMS: usize = 64;
const PARCEL_BYTES: usize = 16 << 10;

/// Datagrams from one thread to another.
pub struct Parcel {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
    list: Vec<Entry>,
}

struct Entry {
    from: SocketAddr,
    to: SocketAddr,
    length: usize,
}

impl Parcel {
    fn new(from: usize, to: usize) -> Self {
        Self { from, to, bytes: Vec::with_capacity(PARCEL_BYTES), list: Vec::with_capacity(DATAGRAMS) }
    }

    fn has_room(&self, length: usize) -> bool {
        self.list.len() < DATAGRAMS && self.bytes.len() + length <= PARCEL_BYTES
    }

    fn push(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.list.push(Entry { from, to, length: datagram.len() });
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// From, to, and the datagram, in the order in which they were handed over.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (SocketAddr, SocketAddr, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.list.iter().map_while(move |entry| {
            let (datagram, after) = std::mem::take(&mut rest).split_at_mut_checked(entry.length)?;
            rest = after;
            Some((entry.from, entry.to, datagram))
        })
    }
}

/// It will look for parcels before it sleeps.
const AWAKE: u8 = 0;
/// It is to be woken.
const ASLEEP: u8 = 1;
/// Parcels came since it last looked.
const RUNG: u8 = 2;

/// What the others know of a thread. Each on lines of its own: they are written at every round.
#[repr(align(128))]
struct Member {
    host: HostThread,
    letterbox: SyncSender<Parcel>,
    /// Its own parcels come back here.
    emptied: SyncSender<Parcel>,
    bell: AtomicU8,
    /// [`GuestId::to_bits`] of who lives there, or 0.
    guest: AtomicU64,
    is_gone: AtomicBool,
}

impl Member {
    fn is_here(&self) -> bool {
        !self.is_gone.load(Ordering::Relaxed)
    }

    /// Whoever puts a parcel in rings: the exchange shows it to the thread that looks after it.
    fn ring(&self) {
        if self.bell.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            self.host.wake();
        }
    }
}

/// One thread's view of the others.
pub struct Neighbours {
    own: usize,
    members: Arc<[Member]>,
    /// Sorted: whose socket stands where.
    addresses: Arc<[(SocketAddr, usize)]>,
    letters: Receiver<Parcel>,
    returned: Receiver<Parcel>,
    desks: Vec<Desk>,
    has_mail: bool,
}

/// Parcels for one neighbour.
#[derive(Default)]
struct Desk {
    filling: Option<Parcel>,
    empty: Vec<Parcel>,
    made: usize,
}

/// The threads of one daemon and their sockets' addresses, in the order in which guests find them; each is given its own
/// view.
#[must_use]
pub fn neighbourhood(threads: &[(HostThread, Vec<SocketAddr>)]) -> Vec<Neighbours> {
    // Nobody has more than this under way: neither side is ever full.
    let room = PARCELS * threads.len();
    let mut members = Vec::new();
    let mut ends = Vec::new();
    for (host, _) in threads {
        let (letterbox, letters) = sync_channel(room);
        let (emptied, returned) = sync_channel(room);
        members.push(Member {
            host: host.clone(),
            letterbox,
            emptied,
            bell: AtomicU8::new(AWAKE),
            guest: AtomicU64::new(0),
            is_gone: AtomicBool::new(false),
        });
        ends.push((letters, returned));
    }
    let each = threads.iter().enumerate();
    let mut addresses: Vec<_> = each.flat_map(|(at, (_, own))| own.iter().map(move |own| (*own, at))).collect();
    addresses.sort_unstable();
    let (members, addresses): (Arc<[Member]>, Arc<[_]>) = (members.into(), addresses.into());
    let views = ends.into_iter().enumerate().map(|(own, (letters, returned))| Neighbours {
        own,
        members: Arc::clone(&members),
        addresses: Arc::clone(&addresses),
        letters,
        returned,
        desks: threads.iter().map(|_| Desk::default()).collect(),
        has_mail: false,
    });
    views.collect()
}

impl Neighbours {
    /// Takes a datagram for a neighbour's socket; [`Self::post`] sends it on.
    pub fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let found = self.addresses.binary_search_by(|(address, _)| address.cmp(&to)).ok();
        let Some((_, at)) = found.and_then(|place| self.addresses.get(place)).copied() else { return false };
        at != self.own && self.put(at, from, to, datagram)
    }

    /// Takes a datagram for the guest of a neighbour.
    pub fn hand_over_to(&mut self, guest: GuestId, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        let at = guest.place();
        let lives_there =
            self.members.get(at).is_some_and(|member| member.guest.load(Ordering::Relaxed) == guest.to_bits());
        lives_there && at != self.own && self.put(at, from, to, datagram)
    }

    fn put(&mut self, at: usize, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> bool {
        if datagram.len() > PARCEL_BYTES || !self.members.get(at).is_some_and(Member::is_here) {
            return false;
        }
        let filling = self.desks.get(at).and_then(|desk| desk.filling.as_ref());
        if filling.is_some_and(|parcel| !parcel.has_room(datagram.len())) {
            self.post_to(at);
        }
        let Some(parcel) = self.parcel_for(at) else { return false };
        parcel.push(from, to, datagram);
        self.has_mail = true;
        true
    }

    fn parcel_for(&mut self, at: usize) -> Option<&mut Parcel> {
        if self.desks.get(at)?.filling.is_none() {
            self.take_back();
            let own = self.own;
            let desk = self.desks.get_mut(at)?;
            desk.filling = desk.empty.pop();
            if desk.filling.is_none() && desk.made < PARCELS {
                desk.made += 1;
                desk.empty.reserve(PARCELS);
                desk.filling = Some(Parcel::new(own, at));
            }
        }
        self.desks.get_mut(at)?.filling.as_mut()
    }

    /// Sends on what has gathered: at the end of each round.
    pub fn post(&mut self) {
        if std::mem::take(&mut self.has_mail) {
            (0..self.desks.len()).for_each(|at| self.post_to(at));
        }
    }

    fn post_to(&mut self, at: usize) {
        let Some((desk, member)) = self.desks.get_mut(at).zip(self.members.get(at)) else { return };
        let Some(parcel) = desk.filling.take() else { return };
        match member.letterbox.try_send(parcel) {
            Ok(()) => member.ring(),
            // It has ended, and its sockets with it.
            Err(_) => desk.made -= 1,
        }
    }

    /// Parcels that came back.
    fn take_back(&mut self) {
        while let Ok(parcel) = self.returned.try_recv() {
            if let Some(desk) = self.desks.get_mut(parcel.to) {
                desk.empty.push(parcel);
            }
        }
    }

    /// To be asked before this thread waits: `false` if parcels came meanwhile.
    #[must_use]
    pub fn may_sleep(&self) -> bool {
        let Some(own) = self.members.get(self.own) else { return true };
        own.bell.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// To be asked after it waited: whether there are parcels to take.
    #[must_use]
    pub fn wake_up(&self) -> bool {
        self.members.get(self.own).is_some_and(|own| own.bell.swap(AWAKE, Ordering::AcqRel) == RUNG)
    }

    /// Some parcels are left for the next round.
    pub fn stay_up(&self) {
        if let Some(own) = self.members.get(self.own) {
            own.bell.store(RUNG, Ordering::Release);
        }
    }

    /// The next parcel for this thread; [`Self::give_back`] returns it.
    #[must_use]
    pub fn take_in(&self) -> Option<Parcel> {
        self.letters.try_recv().ok()
    }

    pub fn give_back(&self, mut parcel: Parcel) {
        parcel.clear();
        if let Some(owner) = self.members.get(parcel.from) {
            // Whoever has ended needs no parcels.
            let _ = owner.emptied.try_send(parcel);
        }
    }

    /// Says who lives here from now on.
    pub fn announce(&self, guest: Option<GuestId>) {
        if let Some(own) = self.members.get(self.own) {
            own.guest.store(guest.map_or(0, GuestId::to_bits), Ordering::Relaxed);
        }
    }
}

/// Whoever has ended takes nothing.
impl Drop for Neighbours {
    fn drop(&mut self) {
        self.announce(None);
        if let Some(own) = self.members.get(self.own) {
            own.is_gone.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::House;
    use std::sync::atomic::AtomicUsize;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// Thread n listens on port n; how often each was woken.
    fn threads(count: u16) -> (Vec<Neighbours>, Vec<Arc<AtomicUsize>>) {
        let woken: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
        let each = woken.iter().enumerate().map(|(own, woken)| {
            let woken = Arc::clone(woken);
            let (host, _) = HostThread::open(move || {
                woken.fetch_add(1, Ordering::Relaxed);
            });
            (host, vec![at(own as u16)])
        });
        (neighbourhood(&each.collect::<Vec<_>>()), woken)
    }

    /// The first bytes of what came for a thread.
    fn read(own: &Neighbours) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(mut parcel) = own.take_in() {
            all.extend(parcel.datagrams().map(|(_, _, datagram)| datagram[0]));
            own.give_back(parcel);
        }
        all
    }

    #[test]
    fn datagrams_come_in_order_and_a_sleeper_is_woken_once() {
        let (mut threads, woken) = threads(3);
        let [first, second, third] = &mut threads[..] else { panic!() };
        assert!(second.may_sleep());
        for n in 0..200 {
            assert!(first.hand_over(at(90), at(1), &[n; 100]), "{n}");
        }
        assert!(third.hand_over(at(91), at(1), &[255]));
        assert_eq!(woken[1].load(Ordering::Relaxed), 1, "a full parcel does not wait");
        first.post();
        third.post();
        third.post();
        assert_eq!(woken[1].load(Ordering::Relaxed), 1);
        assert!(second.wake_up() && !second.wake_up());
        let came = read(second);
        assert!(came.iter().copied().filter(|n| *n != 255).eq(0..200) && came.len() == 201);
        // Awake, it is not woken; nor does it fall asleep over a parcel.
        first.hand_over(at(90), at(1), &[7]);
        first.post();
        assert!(!second.may_sleep() && second.wake_up() && read(second) == [7]);
        assert!(second.may_sleep() && !second.wake_up());
        second.stay_up();
        assert!(!second.may_sleep());
        assert_eq!(woken.iter().map(|woken| woken.load(Ordering::Relaxed)).collect::<Vec<_>>(), [0, 1, 0]);
    }

    #[test]
    fn what_finds_no_room_takes_the_socket_and_room_comes_back() {
        let (mut threads, _) = threads(2);
        let [first, second] = &mut threads[..] else { panic!() };
        for _ in 0..3 {
            let taken = (0..1_000).filter(|_| first.hand_over(at(90), at(1), &[1; 64])).count();
            assert_eq!(taken, PARCELS * DATAGRAMS);
            first.post();
            assert_eq!(read(second).len(), PARCELS * DATAGRAMS);
        }
        // The bytes are bounded, too.
        let taken = (0..1_000).filter(|_| first.hand_over(at(90), at(1), &[1; 4_000])).count();
        assert_eq!(taken, PARCELS * (PARCEL_BYTES / 4_000));
        first.post();
        read(second);
        assert!(!first.hand_over(at(90), at(1), &[1; PARCEL_BYTES + 1]));
        assert!(first.hand_over(at(90), at(1), &[1; PARCEL_BYTES]));
    }

    #[test]
    fn only_a_neighbours_address_and_a_guest_that_lives_there_are_known() {
        let (mut threads, _) = threads(2);
        let [first, second] = &mut threads[..] else { panic!() };
        assert!(!first.hand_over(at(90), at(0), b"own") && !first.hand_over(at(90), at(5), b"nobody"));
        let (house, other) = (House::default(), House::default());
        assert!(!first.hand_over_to(house.guest(1), at(0), at(90), b"not yet"));
        second.announce(Some(house.guest(1)));
        assert!(first.hand_over_to(house.guest(1), at(0), at(90), b"here"));
        for elsewhere in [other.guest(1), house.guest(0), house.guest(7)] {
            assert!(!first.hand_over_to(elsewhere, at(0), at(90), b"not here"));
        }
        second.announce(None);
        assert!(!first.hand_over_to(house.guest(1), at(0), at(90), b"gone"));
    }

    #[test]
    fn whoever_has_ended_takes_nothing_and_nothing_waits_for_it() {
        let (mut threads, woken) = threads(3);
        let mut second = threads.remove(1);
        let [first, third] = &mut threads[..] else { panic!() };
        assert!(second.may_sleep());
        second.hand_over(at(91), at(0), &[1]);
        second.post();
        for _ in 0..100 {
            first.hand_over(at(90), at(1), &[1]);
        }
        drop(second);
        first.post();
        assert!((0..1_000).all(|_| !first.hand_over(at(90), at(1), &[1])));
        assert_eq!((read(first), woken[1].load(Ordering::Relaxed)), (vec![1], 1));
        assert!(first.hand_over(at(90), at(2), &[3]));
        first.post();
        assert_eq!(read(third), [3]);
    }

    /// Neither side ever sleeps over the other's parcel.
    #[test]
    fn a_ball_goes_to_and_fro_between_two_threads_that_sleep() {
        const ROUNDS: u32 = 20_000;
        let (bells, ears): (Vec<_>, Vec<_>) = (0..2).map(|_| sync_channel::<()>(1)).unzip();
        let each = bells.into_iter().enumerate().map(|(own, bell)| {
            let (host, _) = HostThread::open(move || {
                let _ = bell.try_send(());
            });
            (host, vec![at(own as u16)])
        });
        let players = neighbourhood(&each.collect::<Vec<_>>()).into_iter().zip(ears);
        std::thread::scope(|scope| {
            for (own, (mut view, ear)) in players.enumerate() {
                scope.spawn(move || {
                    let other = at(1 - own as u16);
                    if own == 0 {
                        assert!(view.hand_over(at(90), other, &0u32.to_be_bytes()));
                        view.post();
                    }
                    let mut count = 0;
                    while count + 1 < ROUNDS {
                        if view.may_sleep() {
                            ear.recv().unwrap();
                        }
                        if !view.wake_up() {
                            continue;
                        }
                        while let Some(mut parcel) = view.take_in() {
                            let came = parcel.datagrams().map(|(_, _, ball)| <[u8; 4]>::try_from(ball).unwrap());
                            let balls: Vec<u32> = came.map(u32::from_be_bytes).collect();
                            view.give_back(parcel);
                            for ball in balls {
                                count = ball + 1;
                                // The last one to hit leaves the court.
                                assert!(count == ROUNDS || view.hand_over(at(90), other, &count.to_be_bytes()));
                            }
                        }
                        view.post();
                    }
                });
            }
        });
    }
}
