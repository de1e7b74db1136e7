//! One relaying thread: waits, reads everything, lets the shard decide, sends. No lock, log or allocation per UDP packet.
use offhook_net::{Datagram, Poller, Ready, ReceiveBatch, SendBatch, UdpOptions, UdpSocket};
use offhook_turn_core::{
    ClientPath, Command, Counters, EndCause, Forward, Gauges, HEAD_ROOM, IcmpError, Key, Moment, Output, RelayKey,
    Shard, TAIL_ROOM, Via,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Datagrams of one system call, and their longest.
const BATCH: usize = 64;
const DATAGRAM_BYTES: usize = 4_096;
/// Reads in a row from one listener before others get their turn.
const ROUNDS: usize = 8;
/// Tells relay sockets from listeners in a poller's token.
const RELAY: u64 = 1 << 63;
const RELAY_BUFFER_BYTES: usize = 256 << 10;
const STATS_EVERY: Duration = Duration::from_millis(100);
const CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What other threads tell a worker.
pub(crate) enum Order {
    Command(Command),
    /// A connection begins; what is for it goes into the queue.
    StreamOpened {
        path: ClientPath,
        queue: mpsc::Sender<Vec<u8>>,
    },
    StreamMessage {
        path: ClientPath,
        message: Vec<u8>,
    },
    Stop,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Snapshot {
    pub(crate) counters: Counters,
    pub(crate) gauges: Gauges,
    /// The kernel had no room or no route.
    pub(crate) refused_datagrams: u64,
}

pub(crate) type SharedSnapshot = Arc<Mutex<Snapshot>>;

pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) listeners: Vec<UdpSocket>,
    pub(crate) poller: Poller,
    pub(crate) orders: Receiver<Order>,
    /// Starts and ends of sessions, refusals. Full: the line is lost, and counted.
    pub(crate) news: SyncSender<Output>,
    pub(crate) snapshot: SharedSnapshot,
    pub(crate) start: Instant,
}

/// What a worker's loop owns besides the shard.
struct Sockets {
    listeners: Vec<UdpSocket>,
    /// By the index of their key.
    relays: Vec<Option<(RelayKey, UdpSocket)>>,
    streams: HashMap<u32, mpsc::Sender<Vec<u8>>>,
    send: SendBatch,
    refused: u64,
}

impl Worker {
    pub(crate) fn run(self) {
        let Self { shard, listeners, poller, orders, news, snapshot, start } = self;
        let sockets =
            Sockets { listeners, relays: Vec::new(), streams: HashMap::new(), send: SendBatch::new(BATCH), refused: 0 };
        let mut running = Running {
            shard,
            sockets,
            poller,
            news,
            start,
            receive: ReceiveBatch::with_room(BATCH, DATAGRAM_BYTES, HEAD_ROOM, TAIL_ROOM),
            lost_news: 0,
        };
        running.run(&orders, &snapshot);
    }
}

struct Running {
    shard: Shard,
    sockets: Sockets,
    poller: Poller,
    news: SyncSender<Output>,
    start: Instant,
    receive: ReceiveBatch,
    lost_news: u64,
}

impl Running {
    fn run(&mut self, orders: &Receiver<Order>, snapshot: &SharedSnapshot) {
        let mut ready = Ready::default();
        let (mut stats_due, mut clock_due) = (Moment(0), Moment(0));
        loop {
            let now = self.now();
            if now >= clock_due {
                self.command(now, Command::SetClock { unix_s: unix_s() });
                clock_due = now.after(CLOCK_EVERY);
            }
            if now >= stats_due {
                let taken = Snapshot {
                    counters: *self.shard.counters(),
                    gauges: self.shard.gauges(),
                    refused_datagrams: self.sockets.refused,
                };
                *snapshot.lock().unwrap_or_else(PoisonError::into_inner) = taken;
                stats_due = now.after(STATS_EVERY);
            }
            let due = self.shard.poll_timeout().unwrap_or(clock_due).min(clock_due).min(stats_due);
            let _ = self.poller.wait(Some(due.since(now)), &mut ready);
            if ready.woken() && !self.obey(orders) {
                return;
            }
            for token in ready.tokens() {
                if token & RELAY == 0 {
                    self.read_listener(*token as usize);
                } else {
                    self.read_relay(Key::from_bits(token & !RELAY));
                }
            }
            let now = self.now();
            if self.shard.poll_timeout().is_some_and(|due| due <= now) {
                self.shard.handle_timeout(now);
                self.settle(now);
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(self.start.elapsed().as_nanos() as u64)
    }

    fn command(&mut self, now: Moment, command: Command) {
        self.shard.handle_command(now, command);
        self.settle(now);
    }

    /// Carries out what was ordered; `false` when the thread shall end.
    fn obey(&mut self, orders: &Receiver<Order>) -> bool {
        while let Ok(order) = orders.try_recv() {
            let now = self.now();
            match order {
                Order::Command(command) => {
                    if let Command::ClientClosed { path: ClientPath { via: Via::Stream(id), .. } } = &command {
                        self.sockets.streams.remove(id);
                    }
                    self.command(now, command);
                }
                Order::StreamOpened { path, queue } => {
                    if let Via::Stream(id) = path.via {
                        self.sockets.streams.insert(id, queue);
                    }
                }
                Order::StreamMessage { path, message } => {
                    if let Some(forward) = self.shard.handle_input(now, &path, &message) {
                        self.sockets.forward(&forward, &message);
                    }
                    self.settle(now);
                }
                Order::Stop => {
                    self.command(now, Command::EndAll { cause: EndCause::ServerStopped });
                    return false;
                }
            }
        }
        true
    }

    fn read_listener(&mut self, index: usize) {
        for _ in 0..ROUNDS {
            let Some(listener) = self.sockets.listeners.get(index) else { return };
            let bound = listener.local_address();
            let Ok(count) = listener.receive(&mut self.receive) else { return };
            let now = self.now();
            for datagram in self.receive.datagrams() {
                if datagram.truncated {
                    continue;
                }
                let server = SocketAddr::new(datagram.local.unwrap_or(bound.ip()), bound.port());
                let path = ClientPath { client: datagram.from, server, via: Via::Udp(index as u16) };
                if let Some(forward) = self.shard.handle_input(now, &path, datagram.data) {
                    self.sockets.forward(&forward, datagram.data);
                }
            }
            self.settle(now);
            if count < self.receive.capacity() {
                return;
            }
        }
    }

    fn read_relay(&mut self, key: RelayKey) {
        let now = self.now();
        let Some(relay) = self.sockets.relay(key) else { return };
        while let Some(error) = relay.take_error() {
            let told = IcmpError { kind: error.kind, code: error.code, data: error.data };
            self.shard.handle_icmp(now, key, error.peer, told);
        }
        if relay.receive(&mut self.receive).is_ok() {
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
                Output::CloseRelay { relay } => self.close_relay(relay),
                Output::CloseClient { path: ClientPath { via: Via::Stream(id), .. } } => {
                    // Without its queue the connection's task ends.
                    self.sockets.streams.remove(&id);
                }
                news => {
                    if self.news.try_send(news).is_err() {
                        self.lost_news += 1;
                    }
                }
            }
        }
        if self.shard.transmits().len() > 0 {
            self.sockets.answer(&self.shard);
            self.shard.clear_transmits();
        }
    }

    fn open_relay(&mut self, key: RelayKey, local: SocketAddr) -> bool {
        let options = UdpOptions {
            receive_buffer_bytes: RELAY_BUFFER_BYTES,
            send_buffer_bytes: RELAY_BUFFER_BYTES,
            keep_errors: true,
            ..UdpOptions::default()
        };
        let Ok(socket) = UdpSocket::bind(local, options) else { return false };
        if self.poller.add(&socket, key.to_bits() | RELAY).is_err() {
            return false;
        }
        let relays = &mut self.sockets.relays;
        if relays.len() <= key.index() {
            relays.resize_with(key.index() + 1, || None);
        }
        if let Some(slot) = relays.get_mut(key.index()) {
            *slot = Some((key, socket));
        }
        true
    }

    fn close_relay(&mut self, key: RelayKey) {
        let slot = self.sockets.relays.get_mut(key.index());
        if let Some((_, socket)) = slot.and_then(|slot| slot.take_if(|(held, _)| *held == key)) {
            let _ = self.poller.remove(&socket);
        }
    }
}

impl Sockets {
    fn relay(&self, key: RelayKey) -> Option<&UdpSocket> {
        self.relays
            .get(key.index())?
            .as_ref()
            .filter(|(held, _)| held.to_bits() & !RELAY == key.to_bits() & !RELAY)
            .map(|(_, socket)| socket)
    }

    fn forward(&mut self, forward: &Forward, datagram: &[u8]) {
        let Some(bytes) = datagram.get(forward.payload.clone()) else { return };
        let Some(Some((_, socket))) = self.relays.get(forward.relay.index()) else { return };
        if forward.dont_fragment {
            let _ = socket.set_dont_fragment(true);
        }
        let once = || std::iter::once(Datagram { to: forward.to, from: None, flow: 0, bytes });
        // An ICMP error that waits is told by the first send after it, which then has not been made.
        if socket.send(&mut self.send, once()).refused > 0 {
            self.refused += socket.send(&mut self.send, once()).refused as u64;
        }
        if forward.dont_fragment {
            let _ = socket.set_dont_fragment(false);
        }
    }

    /// Takes a relay socket's datagrams to their client.
    fn deliver(&mut self, now: Moment, shard: &mut Shard, key: RelayKey, batch: &mut ReceiveBatch) {
        for framed in batch.framed().filter(|framed| !framed.truncated) {
            let Some(deliver) = shard.handle_peer(now, key, framed.from, framed.frame, framed.payload) else {
                continue;
            };
            let Some(bytes) = framed.frame.get(deliver.message) else { continue };
            match deliver.path.via {
                Via::Udp(index) => {
                    let Some(listener) = self.listeners.get(usize::from(index)) else { continue };
                    let sent = listener.send(&mut self.send, std::iter::once(datagram(&deliver.path, listener, bytes)));
                    self.refused += sent.refused as u64;
                }
                Via::Stream(id) => {
                    // A client that does not read loses packets, as on any network.
                    let lost = self.streams.get(&id).is_none_or(|queue| queue.try_send(bytes.to_vec()).is_err());
                    self.refused += u64::from(lost);
                }
            }
        }
    }

    fn answer(&mut self, shard: &Shard) {
        for (index, listener) in self.listeners.iter().enumerate() {
            let own = shard.transmits().filter(|transmit| transmit.path.via == Via::Udp(index as u16));
            let sent = listener.send(&mut self.send, own.map(|t| datagram(t.path, listener, t.bytes)));
            self.refused += sent.refused as u64;
        }
        for transmit in shard.transmits() {
            if let Via::Stream(id) = transmit.path.via
                && let Some(queue) = self.streams.get(&id)
            {
                let _ = queue.try_send(transmit.bytes.to_vec());
            }
        }
    }
}

fn datagram<'a>(path: &ClientPath, listener: &UdpSocket, bytes: &'a [u8]) -> Datagram<'a> {
    let wildcard = listener.local_address().ip().is_unspecified();
    Datagram { to: path.client, from: wildcard.then_some(path.server.ip()), flow: u32::from(path.client.port()), bytes }
}

pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
