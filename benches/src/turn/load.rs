//! The generator: clients and a peer on the other core, one thread that never sleeps. Every payload is looked at where it
//! arrives: whose it is, that it is next in order, and each of its bytes.
use super::caller::{Caller, Want, bind, everyone, key};
use super::streams::Stream;
use super::{CLIENT_IP, PAYLOAD_BYTES, PEER_IP, channel};
use anyhow::{Context, ensure};
use offhook_net::{Datagram, Poller, Ready, ReceiveBatch, SendBatch, UdpSocket};
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId, channel_data};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Packets on their way at most when the pace is the server's: what fits into the buffers of every server, which with
/// one allocation are those of one relay socket.
const WINDOW: u64 = 1_024;
const WINDOW_OF_ONE: u64 = 128;
const BURST: usize = 16;
/// Nothing has arrived for so long: what was on its way is lost.
const LOST_AFTER: Duration = Duration::from_millis(5);
const GRACE: Duration = Duration::from_millis(200);
/// A paced generator looks at its sockets so often; looking is felt by the server, whose packets meet a held lock.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Further behind than this, a paced generator lets packets fall out instead of making up for them in a burst.
const BEHIND_AT_MOST: Duration = Duration::from_millis(2);
const BATCH: usize = 64;
const DATAGRAM: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Channel,
    Indication,
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub way: Way,
    pub form: Form,
    /// Packets a second; `None`: as fast as they are carried.
    pub rate: Option<u32>,
    pub lasts: Duration,
}

#[derive(Debug, Clone, Default)]
pub struct Carried {
    pub sent: u64,
    pub delivered: u64,
    pub took: Duration,
    /// From send to read, in µs, unsorted.
    delays_us: Vec<u32>,
}

impl Carried {
    pub fn loss(&self) -> f64 {
        1.0 - self.delivered as f64 / self.sent.max(1) as f64
    }

    pub fn per_second(&self) -> f64 {
        self.delivered as f64 / self.took.as_secs_f64()
    }

    pub fn delay_us(&mut self, quantile: f64) -> f64 {
        self.delays_us.sort_unstable();
        let at = (self.delays_us.len() as f64 * quantile) as usize;
        self.delays_us.get(at).copied().map_or(f64::NAN, f64::from)
    }
}

/// What carries the clients' side.
enum Clients {
    Udp(Vec<UdpSocket>),
    Tcp(Vec<Stream>),
}

impl Clients {
    const fn len(&self) -> usize {
        match self {
            Self::Udp(sockets) => sockets.len(),
            Self::Tcp(streams) => streams.len(),
        }
    }
}

/// Clients of one server and what they talk to.
pub struct Field {
    server: SocketAddr,
    clients: Clients,
    relayed: Vec<SocketAddr>,
    /// Bound to channels, and permitted only.
    peers: [UdpSocket; 2],
    /// The last number sent and the last one that arrived, of each client.
    sent: Vec<u32>,
    arrived: Vec<u32>,
    poller: Poller,
    ready: Ready,
    receive: ReceiveBatch,
    send: SendBatch,
    begun: Instant,
    next: usize,
}

impl Field {
    pub fn peers() -> anyhow::Result<[UdpSocket; 2]> {
        Ok([bind(PEER_IP.into())?, bind(PEER_IP.into())?])
    }

    /// Everyone has an allocation and a channel to the first peer.
    pub fn allocate(server: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let peers = Self::peers()?;
        let mut callers = (0..count).map(|_| Caller::new(CLIENT_IP.into())).collect::<anyhow::Result<Vec<Caller>>>()?;
        everyone(&mut callers, server, Want::Allocate)?;
        everyone(&mut callers, server, Want::Bind(peers[0].local_address()))?;
        let relayed = callers.iter().map(|caller| caller.asking.relayed).collect::<Option<Vec<_>>>();
        let clients = callers.into_iter().map(|caller| caller.socket).collect();
        Self::over(server, clients, relayed.context("everyone has a relayed address")?, peers)
    }

    /// The same by a TCP connection each.
    pub fn allocate_by_tcp(server: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let (peers, key) = (Self::peers()?, key());
        let allocate = |number| Stream::allocate(server, number as u16, &key, peers[0].local_address());
        let all = (0..count).map(allocate).collect::<anyhow::Result<Vec<_>>>()?;
        let (streams, relayed) = all.into_iter().unzip();
        Self::with(server, Clients::Tcp(streams), relayed, peers)
    }

    pub fn over(
        server: SocketAddr,
        clients: Vec<UdpSocket>,
        relayed: Vec<SocketAddr>,
        peers: [UdpSocket; 2],
    ) -> anyhow::Result<Self> {
        Self::with(server, Clients::Udp(clients), relayed, peers)
    }

    fn with(
        server: SocketAddr,
        clients: Clients,
        relayed: Vec<SocketAddr>,
        peers: [UdpSocket; 2],
    ) -> anyhow::Result<Self> {
        let poller = Poller::new()?;
        for (token, index) in (0..).zip(0..clients.len()) {
            match &clients {
                Clients::Udp(sockets) => poller.add(&sockets[index], token)?,
                Clients::Tcp(streams) => poller.add(&streams[index], token)?,
            }
        }
        Ok(Self {
            server,
            sent: vec![0; clients.len()],
            arrived: vec![0; clients.len()],
            clients,
            relayed,
            peers,
            poller,
            ready: Ready::default(),
            receive: ReceiveBatch::new(BATCH, 1_500),
            send: SendBatch::new(BATCH),
            begun: Instant::now(),
            next: 0,
        })
    }

    pub fn drive(&mut self, load: &Load) -> anyhow::Result<Carried> {
        let mut carried = Carried::default();
        let begun = Instant::now();
        match load.rate {
            Some(rate) => self.paced(load, rate, &mut carried)?,
            None => self.flat_out(load, &mut carried)?,
        }
        carried.took = begun.elapsed();
        let mut quiet = Instant::now();
        while carried.delivered < carried.sent && quiet.elapsed() < GRACE {
            if self.look(load, &mut carried)? > 0 {
                quiet = Instant::now();
            }
        }
        ensure!(carried.delivered > 0, "nothing arrived");
        Ok(carried)
    }

    fn paced(&mut self, load: &Load, rate: u32, carried: &mut Carried) -> anyhow::Result<()> {
        let interval = Duration::from_secs(1) / rate;
        let begun = Instant::now();
        let (mut due, mut look) = (begun, begun);
        loop {
            let now = Instant::now();
            if now - begun >= load.lasts {
                return Ok(());
            }
            if now >= due {
                due = due.max(now - BEHIND_AT_MOST) + interval;
                self.send(load, 1, carried)?;
            } else if now >= look {
                look = now + LOOK_EVERY;
                while self.look(load, carried)? == BATCH {}
            } else {
                std::hint::spin_loop();
            }
        }
    }

    fn flat_out(&mut self, load: &Load, carried: &mut Carried) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (mut heard, mut given_up) = (begun, 0);
        let window = if self.clients.len() == 1 { WINDOW_OF_ONE } else { WINDOW };
        while begun.elapsed() < load.lasts {
            let on_the_way = carried.sent.saturating_sub(carried.delivered + given_up);
            if on_the_way + BURST as u64 <= window {
                self.send(load, BURST, carried)?;
            }
            if self.look(load, carried)? > 0 {
                heard = Instant::now();
            } else if on_the_way > 0 && heard.elapsed() > LOST_AFTER {
                given_up = carried.sent - carried.delivered;
                heard = Instant::now();
            }
        }
        Ok(())
    }

    fn send(&mut self, load: &Load, count: usize, carried: &mut Carried) -> anyhow::Result<()> {
        let mut datagrams = [([0; DATAGRAM], 0, 0); BURST];
        for slot in datagrams.iter_mut().take(count) {
            let index = self.next % self.clients.len();
            self.next = index + 1;
            self.sent[index] += 1;
            let payload = payload(index, self.sent[index], self.begun.elapsed().as_nanos() as u64);
            slot.1 = write(&mut slot.0, load, index, self.peers[1].local_address(), &payload)?;
            slot.2 = index;
        }
        carried.sent += count as u64;
        let peer = &self.peers[usize::from(load.form == Form::Indication)];
        let chosen = datagrams.iter().take(count);
        match (load.way, &mut self.clients) {
            (Way::Down, _) => {
                let datagrams = chosen.map(|(bytes, length, index)| Datagram {
                    to: self.relayed[*index],
                    from: None,
                    flow: *index as u32,
                    bytes: &bytes[..*length],
                });
                peer.send(&mut self.send, datagrams);
            }
            (Way::Up, Clients::Udp(sockets)) if sockets.len() == 1 => {
                let to = self.server;
                let datagrams =
                    chosen.map(|(bytes, length, _)| Datagram { to, from: None, flow: 0, bytes: &bytes[..*length] });
                sockets[0].send(&mut self.send, datagrams);
            }
            (Way::Up, Clients::Udp(sockets)) => {
                for (bytes, length, index) in chosen {
                    // A full buffer loses the packet, and the count shows it.
                    let _ = sockets[*index].send_one(self.server, &bytes[..*length]);
                }
            }
            (Way::Up, Clients::Tcp(streams)) => {
                for (bytes, length, index) in chosen {
                    streams[*index].send(&bytes[..*length])?;
                }
            }
        }
        Ok(())
    }

    /// Takes what has arrived; returns how many datagrams.
    fn look(&mut self, load: &Load, carried: &mut Carried) -> anyhow::Result<usize> {
        let mut count = 0;
        match load.way {
            Way::Up => {
                let peer = &self.peers[usize::from(load.form == Form::Indication)];
                count = peer.receive(&mut self.receive)?;
                for datagram in self.receive.datagrams() {
                    let seen = read(datagram.data)?;
                    ensure!(self.relayed.get(seen.index) == Some(&datagram.from), "came from a strange relay");
                    seen.arrived(&mut self.arrived, self.begun, carried)?;
                }
            }
            Way::Down => {
                self.poller.wait(Some(Duration::ZERO), &mut self.ready)?;
                let Self { clients, arrived, begun, peers, server, receive, .. } = self;
                let limit = if clients.len() == 1 { BATCH } else { 1 };
                for token in self.ready.tokens() {
                    let index = *token as usize;
                    let mut take = |message: &[u8]| {
                        let seen = read(unwrap(message, load, index, peers[1].local_address())?)?;
                        ensure!(seen.index == index, "came to the wrong client");
                        seen.arrived(arrived, *begun, carried)
                    };
                    match clients {
                        Clients::Udp(sockets) => {
                            receive.clear();
                            count += sockets[index].receive_more(receive, limit)?;
                            for datagram in receive.datagrams() {
                                ensure!(datagram.from == *server, "came from somebody else than the server");
                                take(datagram.data)?;
                            }
                        }
                        Clients::Tcp(streams) => count += streams[index].receive(take)?,
                    }
                }
            }
        }
        Ok(count)
    }
}

/// What a payload says of itself.
struct Seen {
    index: usize,
    number: u32,
    sent_ns: u64,
}

impl Seen {
    fn arrived(&self, arrived: &mut [u32], begun: Instant, carried: &mut Carried) -> anyhow::Result<()> {
        let last = arrived.get_mut(self.index).context("a client of ours")?;
        ensure!(self.number > *last, "packet {} of client {} came after {last}", self.number, self.index);
        *last = self.number;
        carried.delivered += 1;
        let now = begun.elapsed().as_nanos() as u64;
        carried.delays_us.push((now.saturating_sub(self.sent_ns) / 1_000) as u32);
        Ok(())
    }
}

fn word(index: usize, number: u32, sent_ns: u64) -> u64 {
    (sent_ns ^ (index as u64) << 32 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Client, number, time, and words that follow from them.
fn payload(index: usize, number: u32, sent_ns: u64) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0; PAYLOAD_BYTES];
    bytes[..4].copy_from_slice(&(index as u32).to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&sent_ns.to_be_bytes());
    let word = word(index, number, sent_ns).to_be_bytes();
    bytes[16..].chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&word[..chunk.len()]));
    bytes
}

fn read(bytes: &[u8]) -> anyhow::Result<Seen> {
    ensure!(bytes.len() == PAYLOAD_BYTES, "a payload of {} bytes", bytes.len());
    let index = u32::from_be_bytes(bytes[..4].try_into()?) as usize;
    let number = u32::from_be_bytes(bytes[4..8].try_into()?);
    let sent_ns = u64::from_be_bytes(bytes[8..16].try_into()?);
    let word = word(index, number, sent_ns).to_be_bytes();
    ensure!(bytes[16..].chunks(8).all(|chunk| *chunk == word[..chunk.len()]), "a payload was changed");
    Ok(Seen { index, number, sent_ns })
}

/// What the sender puts around a payload.
fn write(buffer: &mut [u8], load: &Load, index: usize, peer: SocketAddr, payload: &[u8]) -> anyhow::Result<usize> {
    let start = match (load.way, load.form) {
        (Way::Down, _) => 0,
        (Way::Up, Form::Channel) => {
            let header = channel_data::header(channel(index), payload.len()).context("a length of 16 bits")?;
            buffer[..header.len()].copy_from_slice(&header);
            header.len()
        }
        (Way::Up, Form::Indication) => {
            let mut message = MessageBuilder::new(buffer, Class::Indication, Method::SEND, TransactionId([5; 12]));
            return Ok(message.xor_peer_address(peer).data(payload).finish()?);
        }
    };
    buffer[start..start + payload.len()].copy_from_slice(payload);
    Ok(start + payload.len())
}

/// What a client finds around a payload, which must be right too.
fn unwrap<'a>(datagram: &'a [u8], load: &Load, index: usize, peer: SocketAddr) -> anyhow::Result<&'a [u8]> {
    match load.form {
        Form::Channel => {
            let data = channel_data::ChannelData::parse(datagram)?;
            ensure!(data.channel == channel(index), "came by channel {:#06x}", data.channel);
            Ok(data.payload)
        }
        Form::Indication => {
            let message = Message::parse(datagram)?;
            ensure!(message.class() == Class::Indication && message.method() == Method::DATA, "no Data indication");
            ensure!(message.xor_peer_address()? == Some(peer), "the indication names another peer");
            message.data().context("DATA")
        }
    }
}

/// The sockets that the floor's clients use.
pub fn clients(count: usize) -> anyhow::Result<Vec<UdpSocket>> {
    (0..count).map(|_| bind(IpAddr::from(CLIENT_IP))).collect()
}
