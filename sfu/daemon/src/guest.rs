//! A TURN server's relaying thread under this media thread's roof: what a browser sends us through it, and what we send
//! back, is handed over by a call.
use crate::clock::MediaClock;
use crate::media::FLUSH_AT;
use offhook_link::{Host, Lodging, Stay};
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
}

impl GuestRoom {
    /// `locals`: what a socket on the wildcard address is called on this machine.
    pub(crate) fn new(door: Receiver<Lodging>, bound: &[SocketAddr], locals: &[IpAddr]) -> Self {
        let own = bound.iter().flat_map(|bound| {
            let names = if bound.ip().is_unspecified() { locals.to_vec() } else { vec![bound.ip()] };
            names.into_iter().filter(|ip| ip.is_ipv4() == bound.is_ipv4()).map(|ip| SocketAddr::new(ip, bound.port()))
        });
        Self { own: own.collect(), door, lodging: None }
    }

    /// Lets in who waits at the door. There is room for one; whoever comes next finds it taken and goes home.
    pub(crate) fn open_door(&mut self, poller: &Poller) {
        while let Ok(mut lodging) = self.door.try_recv() {
            if self.lodging.is_some() {
                continue;
            }
            let moved_in = lodging.guest().is_some_and(|guest| poller.add(&guest.wakes(), GUEST).is_ok());
            if moved_in {
                tracing::debug!("a relaying thread moved in");
                self.lodging = Some(lodging);
            }
        }
    }

    pub(crate) fn due_in(&mut self) -> Option<Duration> {
        Some(self.guest()?.due_in())
    }

    pub(crate) fn guest(&mut self) -> Option<&mut (dyn offhook_link::Guest + 'static)> {
        self.lodging.as_mut()?.guest()
    }

    /// Has the guest do what is ready and due; `false` when it failed, which ends its stay.
    pub(crate) fn work(&mut self, poller: &Poller, shard: &mut Shard, clock: MediaClock) -> bool {
        let Some(guest) = self.lodging.as_mut().and_then(Lodging::guest) else { return true };
        let mut host = MediaHost { shard, own: &self.own, clock };
        let outcome = catch_unwind(AssertUnwindSafe(|| guest.work(&mut host)));
        if outcome.as_ref().is_ok_and(|stay| *stay == Stay::On) {
            return true;
        }
        let _ = poller.remove(&guest.wakes());
        match (outcome, self.lodging.take()) {
            (Err(_), Some(failed)) => {
                failed.bury();
                false
            }
            _ => true,
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
        let now = self.clock.now();
        let shard = &mut *self.shard;
        if catch_unwind(AssertUnwindSafe(|| shard.handle_input(now, from, Some(to.ip()), datagram))).is_err() {
            shard.quarantine(now, from, datagram);
        }
        true
    }

    fn is_full(&self) -> bool {
        self.shard.transmits().len() >= FLUSH_AT
    }
}
