//! A media thread: waits, reads everything, lets the shard work, sends everything. No lock, log or allocation per packet.
use crate::clock::MediaClock;
use crate::guest::{GUEST, GuestRoom, names};
use crate::outputs::OutputSender;
use crate::stats::{SharedStats, Snapshot, SocketCounts};
use offhook_contract::{HangupCause, RequestError};
use offhook_link::{HostThread, Neighbours};
use offhook_net::{BindError, Datagram, Pace, Poller, Ready, ReceiveBatch, SendBatch, UdpOptions, UdpSocket, Waker};
use offhook_sfu_core::{Command, CommandError, MediaNs, Output, Reply, Shard, ShardOptions, Transmit};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Commands waiting for a media thread; a full queue refuses the request.
const COMMANDS: usize = 1024;
/// Datagrams of one system call, and their longest.
const BATCH: usize = 64;
pub(crate) const DATAGRAM_BYTES: usize = 1_600;
/// Reads in a row from one socket before the timers get their turn.
const ROUNDS: usize = 8;
/// Sends when so many datagrams wait, even in the middle of a batch.
pub(crate) const FLUSH_AT: usize = 1_024;
/// Parcels of other threads in a row before the sockets get their turn.
const PARCELS_AT_ONCE: usize = 16;
const STATS_EVERY: Duration = Duration::from_millis(100);
/// From so many datagrams in a second on (60 legs that talk) they wait for each other, 0.5 ms at most: looking at the
/// sockets by the clock is fewer rounds then than one for each.
const BUSY_FROM: u64 = 3_000;

type ReplyTo = oneshot::Sender<Result<Reply, CommandError>>;

enum Order {
    Command(Box<Command>, ReplyTo),
    Meet(Box<Neighbours>),
    Stop,
}

/// The signalling side's end of a media thread.
pub struct MediaThread {
    orders: SyncSender<Order>,
    waker: Waker,
    pub addresses: Vec<SocketAddr>,
    /// The same as this machine calls them.
    pub names: Vec<SocketAddr>,
    pub stats: SharedStats,
    /// Where a relaying thread of this process may move in.
    pub host: HostThread,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartThreadError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start a media thread")]
    Start(#[from] std::io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Refused(#[from] CommandError),
    #[error("the media thread has more work than it can take")]
    Busy,
    #[error("the media thread has ended")]
    Ended,
}

impl From<AskError> for RequestError {
    fn from(error: AskError) -> Self {
        use offhook_contract::ErrorCode;
        let code = match &error {
            AskError::Refused(refused) => refused.code(),
            AskError::Busy => ErrorCode::Exhausted,
            AskError::Ended => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl MediaThread {
    /// `locals`: addresses of this machine behind a wildcard.
    pub fn start(
        name: String,
        (listen, locals): (&[SocketAddr], &[IpAddr]),
        options: ShardOptions,
        clock: MediaClock,
        outputs: OutputSender,
    ) -> Result<Self, StartThreadError> {
        let sockets: Vec<UdpSocket> =
            listen.iter().map(|address| UdpSocket::bind(*address, UdpOptions::default())).collect::<Result<_, _>>()?;
        let poller = Poller::new()?;
        for (token, socket) in (0..).zip(&sockets) {
            poller.add(socket, token)?;
        }
        let waker = poller.waker();
        let addresses: Vec<SocketAddr> = sockets.iter().map(UdpSocket::local_address).collect();
        let at_the_door = poller.waker();
        let (host, door) = HostThread::open(move || at_the_door.wake());
        let names = names(&addresses, locals);
        let guests = GuestRoom::new(door, names.clone());
        let (orders, inbox) = sync_channel(COMMANDS);
        let stats = SharedStats::default();
        let shared = stats.clone();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            Worker {
                shard: Shard::new(options),
                sockets,
                poller,
                receive: ReceiveBatch::new(BATCH, DATAGRAM_BYTES),
                send: SendBatch::new(1_024),
                clock,
                orders: inbox,
                outputs,
                kept: None,
                stats: shared,
                counts: SocketCounts::default(),
                stats_due: MediaNs(0),
                pace: Pace::new(BUSY_FROM),
                guests,
            }
            .run();
        })?;
        Ok(Self { orders, waker, addresses, names, stats, host, thread: Some(thread) })
    }

    /// The other media threads, to which and from which packets are handed over.
    pub fn meet(&self, neighbours: Neighbours) {
        // Without them everything takes its socket.
        let _ = self.orders.try_send(Order::Meet(Box::new(neighbours)));
        self.waker.wake();
    }

    /// It ended by itself, which it never should.
    pub fn is_lost(&self) -> bool {
        self.thread.as_ref().is_none_or(std::thread::JoinHandle::is_finished)
    }

    /// Has the shard carry a command out.
    pub async fn ask(&self, command: Command) -> Result<Reply, AskError> {
        let (reply, answer) = oneshot::channel();
        self.orders.try_send(Order::Command(Box::new(command), reply)).map_err(|error| match error {
            TrySendError::Full(_) => AskError::Busy,
            TrySendError::Disconnected(_) => AskError::Ended,
        })?;
        self.waker.wake();
        Ok(answer.await.map_err(|_| AskError::Ended)??)
    }
}

impl Drop for MediaThread {
    fn drop(&mut self) {
        // A full queue is emptied by the thread; the order must not be lost.
        let _ = self.orders.send(Order::Stop);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    shard: Shard,
    sockets: Vec<UdpSocket>,
    poller: Poller,
    receive: ReceiveBatch,
    send: SendBatch,
    clock: MediaClock,
    orders: Receiver<Order>,
    outputs: OutputSender,
    /// Found no room in the queue.
    kept: Option<Output>,
    stats: SharedStats,
    counts: SocketCounts,
    stats_due: MediaNs,
    pace: Pace,
    guests: GuestRoom,
}

impl Worker {
    fn run(mut self) {
        let mut ready = Ready::default();
        loop {
            let wait = self.rest_or_wait();
            if self.poller.wait(wait, &mut ready).is_err() {
                self.counts.receive_errors += 1;
            }
            self.pace.begin(self.clock.now().0, self.shard.counters().received_datagrams);
            let has_mail = self.guests.wake_up();
            if ready.woken() && !self.obey() {
                return self.end();
            }
            if has_mail {
                self.take_parcels();
            }
            let mut guest_is_ready = false;
            for token in ready.tokens() {
                match *token {
                    GUEST => guest_is_ready = true,
                    socket => self.read(socket as usize),
                }
            }
            if guest_is_ready || self.guests.due_in().is_some_and(|due| due.is_zero()) {
                self.guests.work(&self.poller, &mut self.shard, self.clock);
            }
            let now = self.clock.now();
            if self.shard.poll_timeout().is_some_and(|due| due <= now) {
                let guarded = catch_unwind(AssertUnwindSafe(|| self.shard.handle_timeout(now)));
                if guarded.is_err() {
                    // What panicked may do so again while it is ended; the others go on all the same.
                    let _ = catch_unwind(AssertUnwindSafe(|| self.shard.quarantine_timer(now)));
                }
            }
            self.flush();
            self.guests.post();
            self.shard.counters_mut().panics += self.guests.take_failures();
            self.tell();
            self.publish(now);
        }
    }

    /// Until when to wait for sockets, after a rest while much comes. Who rests is awake for the neighbours: they need not
    /// ring.
    fn rest_or_wait(&mut self) -> Option<Duration> {
        match self.pace.rest(self.clock.now().0) {
            Some(rest) => {
                std::thread::sleep(rest);
                Some(Duration::ZERO)
            }
            None if self.guests.may_sleep() => self.wait_for(),
            None => Some(Duration::ZERO),
        }
    }

    fn wait_for(&mut self) -> Option<Duration> {
        let now = self.clock.now();
        // News that found the queue full, and counters that changed, are told soon.
        let soon = self.stats_due.0.saturating_add(STATS_EVERY.as_nanos() as u64 * 10);
        let due = self.shard.poll_timeout().map_or(soon, |due| due.0.min(soon));
        let own = Duration::from_nanos(due.saturating_sub(now.0));
        Some(self.guests.due_in().map_or(own, |guests| guests.min(own)))
    }

    /// Carries out what was ordered; `false` when the thread shall end.
    fn obey(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            self.stats_due = MediaNs(0);
            match order {
                Order::Stop => return false,
                Order::Meet(neighbours) => self.guests.meet(*neighbours),
                Order::Command(command, reply) => {
                    let now = self.clock.now();
                    let done = catch_unwind(AssertUnwindSafe(|| self.shard.handle_command(now, *command)));
                    match done {
                        // Whoever asked may have stopped waiting.
                        Ok(outcome) => drop(reply.send(outcome)),
                        Err(_) => self.shard.counters_mut().panics += 1,
                    }
                }
            }
        }
        self.guests.open_door(&self.poller);
        true
    }

    /// What other threads have for us and for our guest.
    fn take_parcels(&mut self) {
        let now = self.clock.now();
        for _ in 0..PARCELS_AT_ONCE {
            let Some(mut parcel) = self.guests.next_parcel() else { return self.guests.flush() };
            for (from, to, datagram) in parcel.datagrams() {
                self.guests.take((&mut self.shard, now), (from, to), datagram);
                if self.shard.transmits().len() >= FLUSH_AT {
                    flush(&mut self.shard, &self.sockets, &mut self.guests, &mut self.send, &mut self.counts);
                }
            }
            self.guests.give_back(parcel);
        }
        self.guests.flush();
        self.guests.stay_up();
    }

    fn read(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let Some(socket) = self.sockets.get(index) else { return };
            let bound = socket.local_address().ip();
            let count = match socket.receive(&mut self.receive) {
                Ok(count) => count,
                Err(_) => {
                    self.counts.receive_errors += 1;
                    return;
                }
            };
            let now = self.clock.now();
            for datagram in self.receive.datagrams() {
                if datagram.truncated {
                    self.shard.count_truncated();
                    continue;
                }
                let local = Some(datagram.local.unwrap_or(bound));
                let shard = &mut self.shard;
                let (from, data) = (datagram.from, datagram.data);
                if catch_unwind(AssertUnwindSafe(|| shard.handle_input(now, from, local, data))).is_err() {
                    shard.quarantine(now, from, data);
                }
                if shard.transmits().len() >= FLUSH_AT {
                    flush(shard, &self.sockets, &mut self.guests, &mut self.send, &mut self.counts);
                }
            }
            if count < self.receive.capacity() {
                return;
            }
        }
    }

    fn flush(&mut self) {
        flush(&mut self.shard, &self.sockets, &mut self.guests, &mut self.send, &mut self.counts);
    }

    fn tell(&mut self) {
        let mut told = false;
        while let Some(output) = self.kept.take().or_else(|| self.shard.poll_output()) {
            if let Err(output) = self.outputs.try_send(output) {
                self.kept = Some(output);
                break;
            }
            told = true;
        }
        if told {
            self.outputs.wake();
        }
    }

    fn publish(&mut self, now: MediaNs) {
        if now < self.stats_due {
            return;
        }
        let snapshot = Snapshot {
            counters: *self.shard.counters(),
            gauges: self.shard.gauges(),
            sockets: self.counts,
            open_sockets: self.sockets.len(),
        };
        if self.stats.publish(snapshot) {
            self.stats_due = now.after(STATS_EVERY);
        }
    }

    fn end(mut self) {
        let now = self.clock.now();
        let _ = self.shard.handle_command(now, Command::EndAll { cause: HangupCause::Drained });
        self.flush();
        self.guests.post();
        // What is for the guest outlives us with it.
        self.take_parcels();
        self.guests.close(&self.poller);
        self.tell();
    }
}

/// Sends what the shard has, but for what the guest takes.
fn flush(
    shard: &mut Shard,
    sockets: &[UdpSocket],
    guests: &mut GuestRoom,
    batch: &mut SendBatch,
    counts: &mut SocketCounts,
) {
    if shard.transmits().len() == 0 {
        return;
    }
    let mut goes_out = |socket: &UdpSocket, transmit: &Transmit<'_>| {
        let bound = socket.local_address();
        let from = SocketAddr::new(transmit.path.local.unwrap_or(bound.ip()), bound.port());
        !guests.hand_over(from, transmit.path.remote, transmit.bytes)
    };
    match sockets {
        [socket] => send(socket, batch, counts, shard.transmits().filter(|transmit| goes_out(socket, transmit))),
        _ => {
            for (index, socket) in sockets.iter().enumerate() {
                let own = |transmit: &Transmit<'_>| socket_for(sockets, transmit) == Some(index);
                let transmits = shard.transmits().filter(own);
                send(socket, batch, counts, transmits.filter(|transmit| goes_out(socket, transmit)));
            }
        }
    }
    shard.clear_transmits();
    guests.flush();
}

fn send<'a>(
    socket: &UdpSocket,
    batch: &mut SendBatch,
    counts: &mut SocketCounts,
    transmits: impl Iterator<Item = Transmit<'a>>,
) {
    let wildcard = socket.local_address().ip().is_unspecified();
    let sent = socket.send(
        batch,
        transmits.map(|t| Datagram {
            to: t.path.remote,
            from: t.path.local.filter(|_| wildcard),
            flow: t.flow,
            bytes: t.bytes,
        }),
    );
    counts.sent_datagrams += sent.datagrams as u64;
    counts.refused_datagrams += sent.refused as u64;
    counts.send_calls += sent.system_calls as u64;
}

/// The socket on which the other side reached us; for a Link, the first of its family.
fn socket_for(sockets: &[UdpSocket], transmit: &Transmit<'_>) -> Option<usize> {
    let family = |socket: &&UdpSocket| socket.local_address().is_ipv4() == transmit.path.remote.is_ipv4();
    let exact = transmit.path.local.and_then(|local| {
        let here = |socket: &UdpSocket| [local].contains(&socket.local_address().ip());
        sockets.iter().position(here)
    });
    exact.or_else(|| sockets.iter().position(|socket| family(&socket)))
}
