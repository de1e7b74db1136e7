//! One relaying thread: waits, reads everything, lets the shard decide, sends. No lock, log or allocation per packet.
use crate::sessions::Ask;
use crate::sockets::{BATCH, DATAGRAM_BYTES, Sockets};
use crate::stream::{Line, Spare};
use offhook_link::{Guest, GuestId, Handed, Host, HostThread, House, NoHost, Stay};
use offhook_net::{Pace, PeerError, Poller, Ready, ReceiveBatch, UdpOptions, UdpSocket};
use offhook_turn_core::stream::{Framed, next_message};
use offhook_turn_core::{
    ClientPath, Command, Counters, EndCause, Forward, Gauges, HEAD_ROOM, IcmpError, Key, Moment, Output, RelayKey,
    RelayPorts, Shard, TAIL_ROOM, Via,
};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads in a row from one listener before others get their turn.
const ROUNDS: usize = 8;
/// Tells relay sockets from listeners in a poller's token.
const RELAY: u64 = 1 << 63;
/// With so many relay sockets ready, each has one datagram read, as most have no more; fewer are read by the batch.
const MANY: usize = 4;
/// Orders and messages of streams in a row before datagrams get their turn.
const ORDERS_AT_ONCE: usize = 256;
const STATS_EVERY: Duration = Duration::from_millis(100);
/// From so many packets in a second on, up and down, they wait for each other.
const BUSY_FROM: u64 = 10_000;
const CLOCK_EVERY: Duration = Duration::from_secs(1);
const NEVER: Moment = Moment(u64::MAX);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What other threads tell a worker.
pub(crate) enum Order {
    Command(Command),
    /// A connection begins.
    StreamOpened {
        path: ClientPath,
        line: Line,
    },
    /// Whole ones, in a buffer that goes back by the connection's line.
    StreamMessages {
        path: ClientPath,
        messages: Vec<u8>,
    },
    Sessions(Ask),
    /// Become the guest of a media thread.
    Move(HostThread),
    Stop,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    pub(crate) gauges: Gauges,
    /// The kernel had no room or no route.
    pub(crate) refused_datagrams: u64,
    /// Went to or came from a host without a socket.
    pub(crate) handed_over: u64,
    /// Lines that the log had no room for.
    pub(crate) lost_news: u64,
}

pub(crate) type SharedSnapshot = Arc<Mutex<Snapshot>>;

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) shard: Shard,
    pub(crate) listeners: Vec<UdpSocket>,
    pub(crate) poller: Poller,
    pub(crate) orders: Receiver<Order>,
    /// Starts and ends of sessions, refusals. Full: the line is lost, and counted.
    pub(crate) news: SyncSender<Output>,
    pub(crate) snapshot: SharedSnapshot,
    pub(crate) start: Instant,
    pub(crate) lives: Lives,
    pub(crate) spare: Spare,
}

/// Which of the server's threads this is, and where the others' relays stand.
pub(crate) struct Lives {
    pub(crate) house: House,
    pub(crate) index: u16,
    pub(crate) ports: RelayPorts,
}

/// A shard and its sockets. Runs in a thread of its own, or as the guest of a media thread.
pub(crate) struct Worker {
    shard: Shard,
    sockets: Sockets,
    poller: Poller,
    ready: Ready,
    orders: Receiver<Order>,
    news: SyncSender<Output>,
    snapshot: SharedSnapshot,
    start: Instant,
    lives: Lives,
    receive: ReceiveBatch,
    pace: Pace,
    lost_news: u64,
    stats_due: Moment,
    clock_due: Moment,
    /// Its own thread waits here while it is away.
    home: SyncSender<Box<Self>>,
    /// Where it was told to go.
    invited: Option<HostThread>,
    ended: bool,
}

/// Runs a worker until it is told to end. `false`: it was lost at its host's.
pub(crate) fn live(parts: Parts) -> bool {
    let (home, returned) = sync_channel(1);
    let mut worker = Box::new(Worker::new(parts, home));
    while let Some(host) = worker.run_alone() {
        host.take_in(worker);
        match returned.recv() {
            Ok(back) => worker = back,
            Err(_) => return false,
        }
    }
    true
}

impl Worker {
    fn new(parts: Parts, home: SyncSender<Box<Self>>) -> Self {
        let Parts { shard, listeners, poller, orders, news, snapshot, start, lives, spare } = parts;
        Self {
            shard,
            sockets: Sockets::new(listeners, spare),
            poller,
            ready: Ready::default(),
            orders,
            news,
            snapshot,
            start,
            lives,
            receive: ReceiveBatch::with_room(BATCH, DATAGRAM_BYTES, HEAD_ROOM, TAIL_ROOM),
            pace: Pace::new(BUSY_FROM),
            lost_news: 0,
            stats_due: Moment(0),
            clock_due: Moment(0),
            home,
            invited: None,
            ended: false,
        }
    }

    /// Works until it ends or is invited elsewhere.
    fn run_alone(&mut self) -> Option<HostThread> {
        while !self.ended {
            if let Some(host) = self.invited.take() {
                return Some(host);
            }
            let due = match self.pace.rest(self.now().0) {
                Some(rest) => {
                    std::thread::sleep(rest);
                    Duration::ZERO
                }
                None => self.due_in(),
            };
            let _ = self.poller.wait(Some(due), &mut self.ready);
            let counters = self.shard.counters();
            self.pace.begin(self.now().0, counters.up_packets + counters.down_packets);
            self.work_ready(&mut NoHost);
        }
        None
    }

    /// Does what the poller found, and what is due.
    fn work_ready(&mut self, host: &mut dyn Host) {
        let now = self.now();
        if now >= self.clock_due {
            self.command(now, Command::SetClock { unix_s: unix_s() });
            self.clock_due = now.after(CLOCK_EVERY);
        }
        let count = self.ready.tokens().len();
        if self.ready.woken() || count > 0 {
            self.arm_stats(now);
        }
        if self.ready.woken() {
            self.obey(host);
        }
        let limit = if count < MANY { BATCH } else { 1 };
        for index in 0..count {
            match self.ready.tokens().get(index) {
                Some(token) if token & RELAY == 0 => self.read_listener(*token as usize, host),
                Some(token) => {
                    let key = Key::from_bits(token & !RELAY);
                    if self.ready.has_error(index) {
                        self.read_errors(key);
                    }
                    self.read_relay(now, key, limit);
                }
                None => {}
            }
        }
        let now = self.now();
        if self.shard.poll_timeout().is_some_and(|due| due <= now) {
            if guarded(|| self.shard.handle_timeout(now)).is_none() {
                self.shard.quarantine_timer();
            }
            self.settle(now);
            self.arm_stats(now);
        }
        self.sockets.flush();
        if now >= self.stats_due {
            self.publish();
            self.stats_due = NEVER;
        }
    }

    /// Whoever does nothing is not woken to say so.
    fn arm_stats(&mut self, now: Moment) {
        if self.stats_due == NEVER {
            self.stats_due = now.after(STATS_EVERY);
        }
    }

    fn publish(&self) {
        let taken = Snapshot {
            counters: *self.shard.counters(),
            gauges: self.shard.gauges(),
            refused_datagrams: self.sockets.refused,
            handed_over: self.sockets.handed_over,
            lost_news: self.lost_news,
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }

    fn now(&self) -> Moment {
        Moment(self.start.elapsed().as_nanos() as u64)
    }

    fn command(&mut self, now: Moment, command: Command) {
        self.shard.handle_command(now, command);
        self.settle(now);
    }

    /// Carries out what was ordered, and no more of it at once than leaves the datagrams their turn.
    fn obey(&mut self, host: &mut dyn Host) {
        let mut count = 0;
        loop {
            count += 1;
            if count > ORDERS_AT_ONCE || host.is_full() {
                self.poller.waker().wake();
                return;
            }
            let order = match self.orders.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Empty) => return,
                // Nobody can tell it to end any more.
                Err(TryRecvError::Disconnected) => Order::Stop,
            };
            let now = self.now();
            match order {
                Order::Command(command) => {
                    if let Command::ClientClosed { path: ClientPath { via: Via::Stream(id), .. } } = &command {
                        self.sockets.streams.remove(id);
                    }
                    self.command(now, command);
                }
                Order::StreamOpened { path, line } => {
                    if let Via::Stream(id) = path.via {
                        self.sockets.streams.insert(id, line);
                    }
                }
                Order::StreamMessages { path, messages } => count += self.read_stream(now, &path, messages, host),
                Order::Sessions(ask) => ask.answer(&self.shard, now),
                Order::Move(host) => self.invited = Some(host),
                Order::Stop => {
                    self.command(now, Command::EndAll { cause: EndCause::ServerStopped });
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Says how many messages there were.
    fn read_stream(&mut self, now: Moment, path: &ClientPath, mut messages: Vec<u8>, host: &mut dyn Host) -> usize {
        let (mut at, mut count) = (0, 0);
        while let Framed::Message { length, next } = next_message(messages.get(at..).unwrap_or_default(), false) {
            let Some(message) = messages.get_mut(at..at + length) else { break };
            if let Some(forward) = input(&mut self.shard, now, path, message) {
                self.sockets.forward(&forward, message, host);
                self.tell_errors(now);
            }
            self.settle(now);
            at += next;
            count += 1;
        }
        self.sockets.give_back(path, messages);
        count
    }

    fn read_listener(&mut self, index: usize, host: &mut dyn Host) {
        for _ in 0..ROUNDS {
            let Some(listener) = self.sockets.listeners.get(index) else { return };
            let bound = listener.local_address();
            let Ok(count) = listener.receive(&mut self.receive) else { return };
            let now = self.now();
            for (place, datagram) in self.receive.datagrams().enumerate() {
                if datagram.truncated {
                    continue;
                }
                let server = SocketAddr::new(datagram.local.unwrap_or(bound.ip()), bound.port());
                let path = ClientPath { client: datagram.from, server, via: Via::Udp(index as u16) };
                if let Some(forward) = input(&mut self.shard, now, &path, datagram.data) {
                    self.sockets.line_up(place, forward, datagram.data, host);
                }
            }
            self.sockets.send_lined_up(&self.receive);
            self.tell_errors(now);
            self.settle(now);
            if count < self.receive.capacity() || host.is_full() {
                return;
            }
        }
    }

    fn read_errors(&mut self, key: RelayKey) {
        let now = self.now();
        let Some((key, relay)) = self.sockets.relay(key) else { return };
        while let Some(error) = relay.take_error() {
            self.shard.handle_icmp(now, key, error.peer, icmp(&error));
        }
        self.settle(now);
    }

    /// What the system said of datagrams that were just sent.
    fn tell_errors(&mut self, now: Moment) {
        for (key, peer, error) in self.sockets.errors.drain(..) {
            self.shard.handle_icmp(now, key, peer, error);
        }
    }

    fn read_relay(&mut self, now: Moment, key: RelayKey, limit: usize) {
        let Some((key, relay)) = self.sockets.relay(key) else { return };
        self.receive.clear();
        if relay.receive_more(&mut self.receive, limit).is_ok() {
            self.sockets.deliver(now, &mut self.shard, key, &mut self.receive);
        }
        self.settle(now);
    }

    /// Does what the shard asked for, and sends its answers.
    fn settle(&mut self, now: Moment) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::OpenRelay { relay, local } => {
                    let command = if self.open_relay(relay, local) {
                        Command::RelayOpened { relay }
                    } else {
                        Command::RelayFailed { relay }
                    };
                    self.shard.handle_command(now, command);
                }
                Output::CloseRelay { relay } => {
                    self.close_relay(relay);
                    self.shard.handle_command(now, Command::RelayClosed { relay });
                }
                Output::CloseClient { path: ClientPath { via: Via::Stream(id), .. } } => {
                    // Without its queue the connection's task ends.
                    self.sockets.streams.remove(&id);
                }
                news => self.tell(news),
            }
        }
        if self.shard.transmits().len() > 0 {
            self.sockets.answer(&self.shard);
            self.shard.clear_transmits();
        }
    }

    fn tell(&mut self, news: Output) {
        match &news {
            Output::Started(started) => {
                self.hold(&started.path, true);
                // Waking the log's thread costs as much as the allocation.
                if !tracing::enabled!(tracing::Level::DEBUG) {
                    return;
                }
            }
            Output::Ended(ended) => self.hold(&ended.path, false),
            _ => {}
        }
        if self.news.try_send(news).is_err() {
            self.lost_news += 1;
        }
    }

    /// Whether a connection has an allocation.
    fn hold(&mut self, path: &ClientPath, holds: bool) {
        if let Via::Stream(id) = path.via
            && let Some(line) = self.sockets.streams.get_mut(&id)
        {
            line.hold(holds);
        }
    }

    fn open_relay(&mut self, key: RelayKey, local: SocketAddr) -> bool {
        // The system's buffers hold seconds of a call: asking for others is two calls more for every allocation.
        let options =
            UdpOptions { receive_buffer_bytes: 0, send_buffer_bytes: 0, keep_errors: true, ..UdpOptions::default() };
        let Ok(socket) = UdpSocket::bind(local, options) else { return false };
        // RFC 8656 §14: what does not ask for it may be cut into pieces; by itself the system forbids it to every packet.
        let _ = socket.set_dont_fragment(false);
        if self.poller.add(&socket, key.to_bits() | RELAY).is_err() {
            return false;
        }
        self.sockets.add_relay(key, socket);
        true
    }

    fn close_relay(&mut self, key: RelayKey) {
        if let Some(socket) = self.sockets.remove_relay(key) {
            let _ = self.poller.remove(&socket);
        }
    }
}

impl Guest for Worker {
    fn id(&self) -> GuestId {
        self.lives.house.guest(self.lives.index)
    }

    fn wakes(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    fn due_in(&self) -> Duration {
        let due = self.shard.poll_timeout().unwrap_or(NEVER).min(self.stats_due);
        due.since(self.now()).min(LONGEST_WAIT)
    }

    fn work(&mut self, host: &mut dyn Host) -> Stay {
        let _ = self.poller.wait(Some(Duration::ZERO), &mut self.ready);
        self.work_ready(host);
        if self.ended || self.invited.is_some() { Stay::Over } else { Stay::On }
    }

    fn hand_over(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Handed {
        // The whole server's table: most of what a host sends is for no relay at all.
        match self.lives.ports.owner(to) {
            None => return Handed::No,
            Some(owner) if owner != self.lives.index => return Handed::For(self.lives.house.guest(owner)),
            Some(_) => {}
        }
        let now = self.now();
        if !self.sockets.take(now, &mut self.shard, (from, to), datagram) {
            return Handed::No;
        }
        self.arm_stats(now);
        Handed::Taken
    }

    fn flush(&mut self) {
        self.sockets.flush();
    }

    fn go_home(self: Box<Self>) {
        let home = self.home.clone();
        // Its thread waits there, unless the process is ending.
        let _ = home.send(self);
    }
}

/// A message that breaks an invariant costs its own allocation, and nobody else's.
fn input(shard: &mut Shard, now: Moment, path: &ClientPath, message: &[u8]) -> Option<Forward> {
    guarded(|| shard.handle_input(now, path, message)).unwrap_or_else(|| {
        shard.quarantine(now, path);
        None
    })
}

pub(crate) const fn icmp(error: &PeerError) -> IcmpError {
    IcmpError { kind: error.kind, code: error.code, data: error.data }
}

/// `None` when `work` panicked.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
