//! Datagrams between two daemons of one process: a media thread takes the other's relaying thread in as its guest, waits
//! for the sockets of both, and what either sends to an address of the other becomes a function call. The network form
//! of the same thing is their sockets: without a host a guest waits for itself, and neither side notices. What is for a
//! thread beside goes there by [`crate::neighbours`].
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::watch;

/// Guests that wait at one thread's door.
const DOOR: usize = 4;

/// The thread's own protocol, as its guest sees it.
pub trait Host {
    /// Takes a datagram that would go from `from` to `to`, if `to` is one of the host's sockets or of a neighbour's. It
    /// may be changed in place.
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &mut [u8]) -> bool;

    /// So much waits to be sent that a guest should end its round soon.
    fn is_full(&self) -> bool {
        false
    }
}

/// A host that has no sockets: everything takes its way through the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

impl Host for NoHost {
    fn hand_over(&mut self, _: SocketAddr, _: SocketAddr, _: &mut [u8]) -> bool {
        false
    }
}

/// A guest among all of the process: guests of one house know each other's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestId {
    house: u32,
    place: u16,
}

impl GuestId {
    /// Its number in its house, and of the host thread that it moves to.
    #[must_use]
    pub fn place(self) -> usize {
        usize::from(self.place)
    }

    /// Never 0.
    pub(crate) const fn to_bits(self) -> u64 {
        (self.house as u64) << 16 | self.place as u64
    }
}

/// A daemon whose threads are guests; after a restart it is another one.
#[derive(Debug, Clone, Copy)]
pub struct House(u32);

impl Default for House {
    fn default() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl House {
    #[must_use]
    pub const fn guest(self, place: u16) -> GuestId {
        GuestId { house: self.0, place }
    }
}

/// What became of a datagram that a host would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    Taken,
    /// It is for another guest of the same house.
    For(GuestId),
    /// It takes the socket.
    No,
}

/// Whether a guest goes on living where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    On,
    /// It wants to go home.
    Over,
}

/// What lives in another's thread.
pub trait Guest: Send {
    fn id(&self) -> GuestId;
    /// Readable when there is something for [`Self::work`].
    fn wakes(&self) -> BorrowedFd<'_>;
    /// Until [`Self::work`] is due without anything readable.
    fn due_in(&self) -> Duration;
    /// Does what is ready and what is due.
    fn work(&mut self, host: &mut dyn Host) -> Stay;
    /// Takes a datagram that the host would send from `from` to `to`, if `to` is one of the guest's sockets.
    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Handed;
    /// Sends what [`Self::hand_over`] gathered.
    fn flush(&mut self);
    /// Back to the thread it came from.
    fn go_home(self: Box<Self>);
}

/// A guest under a host's roof: whatever ends the host's thread, the guest goes home.
pub struct Lodging(Option<Box<dyn Guest>>);

impl Lodging {
    #[must_use]
    pub fn guest(&mut self) -> Option<&mut (dyn Guest + 'static)> {
        self.0.as_deref_mut()
    }

    /// A guest that failed is not sent home: its thread learns of the failure by its absence.
    pub fn bury(mut self) {
        self.0 = None;
    }
}

impl Drop for Lodging {
    fn drop(&mut self) {
        if let Some(guest) = self.0.take() {
            guest.go_home();
        }
    }
}

/// The door of a thread that takes guests in.
#[derive(Clone)]
pub struct HostThread {
    door: SyncSender<Lodging>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl HostThread {
    /// The door, and its inner side; `wake` makes the thread look there.
    #[must_use]
    pub fn open(wake: impl Fn() + Send + Sync + 'static) -> (Self, Receiver<Lodging>) {
        let (door, inside) = sync_channel(DOOR);
        (Self { door, wake: Arc::new(wake) }, inside)
    }

    /// Makes the thread look what came for it.
    pub(crate) fn wake(&self) {
        (self.wake)();
    }

    /// Moves a guest in. If nobody opens, it goes home at once.
    pub fn take_in(&self, guest: Box<dyn Guest>) {
        match self.door.try_send(Lodging(Some(guest))) {
            Ok(()) => self.wake(),
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => drop(refused),
        }
    }
}

/// The threads of one process that take guests in; every clone tells the same.
#[derive(Clone)]
pub struct HostThreads(Arc<watch::Sender<Vec<HostThread>>>);

impl Default for HostThreads {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl HostThreads {
    /// These are the threads from now on; after a restart of their daemon they are others.
    pub fn publish(&self, threads: Vec<HostThread>) {
        self.0.send_replace(threads);
    }

    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<HostThread>> {
        self.0.subscribe()
    }
}
