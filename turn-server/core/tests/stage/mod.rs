//! A shard in virtual time: sockets are entries in a table, clients are scripts.
#![allow(dead_code, reason = "each story uses its part of the stage")]

use offhook_turn_core::*;
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId, credentials};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const REALM: &str = "example.org";
pub const UNIX_S: u64 = 1_700_000_000;
/// Peers on the open Internet.
pub const PEER: &str = "8.8.4.4:5004";
pub const PEER6: &str = "[2a00:1450::8]:5004";

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[derive(Clone)]
pub struct SharedLedger(pub Arc<Mutex<Ledger>>);

impl Quota for SharedLedger {
    fn admit(&self, user: &Arc<str>) -> Result<Grant, QuotaError> {
        self.0.lock().unwrap().admit(user)
    }
    fn release(&self, user: &str, grant: Grant) {
        self.0.lock().unwrap().release(user, grant);
    }
    fn reserve(&self, token: [u8; 8], reserved: Reserved) {
        self.0.lock().unwrap().reserve(token, reserved);
    }
    fn is_reserved_for(&self, token: &[u8; 8], user: &str) -> bool {
        self.0.lock().unwrap().is_reserved_for(token, user)
    }
    fn claim(&self, token: &[u8; 8]) -> Option<Reserved> {
        self.0.lock().unwrap().claim(token)
    }
}

pub struct Stage {
    pub shard: Shard,
    pub now: Moment,
    pub ledger: SharedLedger,
    pub ports: RelayPorts,
    pub settings: Settings,
    /// Bound relay sockets.
    pub sockets: HashMap<u64, SocketAddr>,
    /// Ports that somebody else on the machine holds.
    pub taken: HashSet<SocketAddr>,
    pub binds: usize,
    /// Sockets wait in `closing` for [`Stage::close`].
    pub closes_late: bool,
    pub closing: Vec<RelayKey>,
    pub started: Vec<Started>,
    pub ended: Vec<Ended>,
    pub denied: Vec<Denied>,
    pub closed: Vec<ClientPath>,
    pub replies: Vec<(ClientPath, Vec<u8>)>,
}

pub struct Setup {
    pub settings: Settings,
    pub limits: QuotaLimits,
    pub relays: Vec<RelayAddress>,
    pub ports: std::ops::RangeInclusive<u16>,
    pub allocations_max: usize,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Setup)) -> Self {
        Self::beside(None, 0, change)
    }

    /// Another thread of the same process: its own shard, the same ledger and the same ports.
    pub fn thread(&self, shard: u16, change: impl FnOnce(&mut Setup)) -> Self {
        Self::beside(Some((self.ledger.clone(), self.ports.clone())), shard, change)
    }

    fn beside(shared: Option<(SharedLedger, RelayPorts)>, shard: u16, change: impl FnOnce(&mut Setup)) -> Self {
        let mut users = Users::new(REALM);
        users.add("alice", UserSecret::Password("sesame".into()));
        users.add("bob", UserSecret::Password("open".into()));
        users.add_rest_secret(b"north");
        let same = |ip: &str| RelayAddress { local: ip.parse().unwrap(), announced: ip.parse().unwrap() };
        let mut setup = Setup {
            settings: Settings::new(users),
            limits: QuotaLimits::default(),
            relays: vec![same("198.51.100.1"), same("2001:db8::1")],
            ports: 49_152..=65_535,
            allocations_max: 100_000,
        };
        change(&mut setup);
        let (ledger, ports) = shared.unwrap_or_else(|| {
            let ledger = SharedLedger(Arc::new(Mutex::new(Ledger::new(setup.limits))));
            (ledger, RelayPorts::new(&setup.relays, &setup.ports))
        });
        let shard = Shard::new(ShardOptions {
            secret: [7; 32],
            shard,
            settings: Arc::new(setup.settings.clone()),
            relays: setup.relays,
            ports: ports.clone(),
            allocations_max: setup.allocations_max,
            quota: Box::new(ledger.clone()),
        });
        let mut stage = Self {
            shard,
            now: Moment(1_000_000_000_000),
            ledger,
            ports,
            settings: setup.settings,
            sockets: HashMap::new(),
            taken: HashSet::new(),
            binds: 0,
            closes_late: false,
            closing: Vec::new(),
            started: Vec::new(),
            ended: Vec::new(),
            denied: Vec::new(),
            closed: Vec::new(),
            replies: Vec::new(),
        };
        stage.command(Command::SetClock { unix_s: UNIX_S });
        stage
    }

    pub fn input(&mut self, path: &ClientPath, datagram: &[u8]) -> Option<Forward> {
        let forward = self.shard.handle_input(self.now, path, datagram);
        self.drain();
        forward
    }

    pub fn command(&mut self, command: Command) {
        self.shard.handle_command(self.now, command);
        self.drain();
    }

    pub fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.command(Command::Reload { settings: Arc::new(self.settings.clone()) });
    }

    pub fn advance(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(due) = self.shard.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.shard.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::OpenRelay { relay, local } => {
                    self.binds += 1;
                    let free = !self.taken.contains(&local) && !self.sockets.values().any(|bound| *bound == local);
                    let command = if free {
                        self.sockets.insert(relay.to_bits(), local);
                        Command::RelayOpened { relay }
                    } else {
                        Command::RelayFailed { relay }
                    };
                    self.shard.handle_command(self.now, command);
                }
                Output::CloseRelay { relay } if self.closes_late => self.closing.push(relay),
                Output::CloseRelay { relay } => self.close_socket(relay),
                Output::Started(started) => self.started.push(*started),
                Output::Ended(ended) => self.ended.push(*ended),
                Output::Denied(denied) => self.denied.push(*denied),
                Output::CloseClient { path } => self.closed.push(path),
            }
        }
        self.replies.extend(self.shard.transmits().map(|t| (*t.path, t.bytes.to_vec())));
        self.shard.clear_transmits();
    }

    /// Closes what waits for it.
    pub fn close(&mut self) {
        std::mem::take(&mut self.closing).into_iter().for_each(|relay| self.close_socket(relay));
        self.drain();
    }

    fn close_socket(&mut self, relay: RelayKey) {
        self.sockets.remove(&relay.to_bits());
        self.shard.handle_command(self.now, Command::RelayClosed { relay });
    }

    /// The one answer to a datagram.
    pub fn answer(&mut self, path: &ClientPath, datagram: &[u8]) -> Answer {
        self.try_answer(path, datagram).expect("one answer")
    }

    pub fn try_answer(&mut self, path: &ClientPath, datagram: &[u8]) -> Option<Answer> {
        self.replies.clear();
        assert_eq!(self.input(path, datagram), None);
        assert!(self.replies.len() <= 1, "{} answers", self.replies.len());
        let (to, bytes) = self.replies.pop()?;
        assert_eq!(to, *path);
        Some(Answer(bytes))
    }

    /// What a client gets when `peer` sends `payload` to a relay socket.
    pub fn peer_sends(&mut self, relay: RelayKey, peer: SocketAddr, payload: &[u8]) -> Option<(ClientPath, Vec<u8>)> {
        let mut frame = vec![0xAA; HEAD_ROOM + payload.len() + TAIL_ROOM];
        frame[HEAD_ROOM..HEAD_ROOM + payload.len()].copy_from_slice(payload);
        let range = HEAD_ROOM..HEAD_ROOM + payload.len();
        let deliver = self.shard.handle_peer(self.now, relay, peer, &mut frame, range)?;
        Some((deliver.path, frame[deliver.message].to_vec()))
    }

    pub fn relay_at(&self, announced: SocketAddr) -> RelayKey {
        let (bits, _) = self.sockets.iter().find(|(_, local)| **local == announced).expect("an open relay");
        Key::from_bits(*bits)
    }

    pub fn expect_empty(&self) {
        let gauges = self.shard.gauges();
        assert_eq!((gauges.allocations, gauges.relays, gauges.reservations), (0, 0, 0));
        assert!(self.sockets.is_empty());
        let ledger = self.ledger.0.lock().unwrap();
        assert_eq!((ledger.allocations(), ledger.users()), (0, 0));
    }
}

pub struct Answer(pub Vec<u8>);

impl Answer {
    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.0).unwrap()
    }

    /// 0 for success.
    pub fn code(&self) -> u16 {
        match self.message().class() {
            Class::Success => 0,
            _ => self.message().error_code().unwrap().unwrap().code,
        }
    }

    pub fn relayed(&self) -> SocketAddr {
        self.message().xor_relayed_address().unwrap().unwrap()
    }

    pub fn lifetime(&self) -> u32 {
        self.message().lifetime_s().unwrap().unwrap()
    }

    pub fn nonce(&self) -> String {
        self.message().nonce().unwrap().unwrap().to_owned()
    }
}

/// A client that logs in as RFC 8489 §9.2.3 says.
#[derive(Clone)]
pub struct Client {
    pub path: ClientPath,
    pub user: String,
    pub password: String,
    pub realm: String,
    pub nonce: String,
    pub count: u64,
}

pub fn udp(client: &str) -> ClientPath {
    ClientPath { client: at(client), server: at("198.51.100.1:3478"), via: Via::Udp(0) }
}

pub fn tcp(client: &str, connection: u32) -> ClientPath {
    ClientPath { via: Via::Stream(connection), ..udp(client) }
}

impl Client {
    pub fn new(address: &str, user: &str, password: &str) -> Self {
        Self::by(udp(address), user, password)
    }

    pub fn by(path: ClientPath, user: &str, password: &str) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        Self { path, user, password, realm: REALM.to_owned(), nonce: String::new(), count: 0 }
    }

    pub fn alice() -> Self {
        Self::new("203.0.113.7:40000", "alice", "sesame")
    }

    /// The n-th of many, each at an address of its own.
    pub fn alice_at(n: u32) -> Self {
        let [_, b, c, d] = n.to_be_bytes();
        Self::new(&format!("5.{b}.{c}.{d}:40000"), "alice", "sesame")
    }

    pub fn rest(address: &str, expires: u64, user: &str, secret: &[u8]) -> Self {
        let minted = credentials::mint(secret, expires, user);
        Self::new(address, &minted.username, &minted.password)
    }

    pub fn id(&mut self) -> TransactionId {
        self.count += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.count.to_be_bytes());
        id[8..10].copy_from_slice(&self.path.client.port().to_be_bytes());
        TransactionId(id)
    }

    pub fn plain(&mut self, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let mut buffer = vec![0; 2_048];
        let id = self.id();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        write(&mut builder);
        let length = builder.finish().unwrap();
        buffer.truncate(length);
        buffer
    }

    pub fn key(&self) -> [u8; 16] {
        credentials::long_term_key(&self.user, &self.realm, &self.password)
    }

    pub fn sealed(&mut self, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        let (user, realm, nonce, key) = (self.user.clone(), self.realm.clone(), self.nonce.clone(), self.key());
        self.plain(method, |builder| {
            write(builder);
            builder.username(&user).realm(&realm).nonce(&nonce).integrity(&key);
        })
    }

    /// Sends a request, and sends it again under the nonce of the first refusal.
    pub fn request(&mut self, stage: &mut Stage, method: Method, write: impl Fn(&mut MessageBuilder<'_>)) -> Answer {
        if self.nonce.is_empty() {
            let datagram = self.plain(Method::ALLOCATE, |b| done(b.requested_transport(17)));
            let challenge = stage.answer(&self.path, &datagram);
            assert_eq!(challenge.code(), 401);
            self.nonce = challenge.nonce();
        }
        let datagram = self.sealed(method, &write);
        let answer = stage.answer(&self.path, &datagram);
        if answer.code() != 438 {
            return answer;
        }
        self.nonce = answer.nonce();
        let datagram = self.sealed(method, &write);
        stage.answer(&self.path, &datagram)
    }

    pub fn allocate(&mut self, stage: &mut Stage, write: impl Fn(&mut MessageBuilder<'_>)) -> Answer {
        self.request(stage, Method::ALLOCATE, |builder| {
            builder.requested_transport(17);
            write(builder);
        })
    }

    /// Allocates and returns the relayed address.
    pub fn allocated(&mut self, stage: &mut Stage) -> SocketAddr {
        let answer = self.allocate(stage, |_| {});
        assert_eq!(answer.code(), 0);
        answer.message().verify_integrity(&self.key()).unwrap();
        answer.relayed()
    }

    pub fn refresh(&mut self, stage: &mut Stage, lifetime_s: u32) -> Answer {
        self.request(stage, Method::REFRESH, |builder| {
            builder.lifetime_s(lifetime_s);
        })
    }

    pub fn permit(&mut self, stage: &mut Stage, peer: SocketAddr) -> u16 {
        let answer = self.request(stage, Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(peer);
        });
        answer.code()
    }

    pub fn bind(&mut self, stage: &mut Stage, number: u16, peer: SocketAddr) -> u16 {
        let answer = self.request(stage, Method::CHANNEL_BIND, |builder| {
            builder.channel_number(number).xor_peer_address(peer);
        });
        answer.code()
    }

    pub fn send_indication(&mut self, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut buffer = vec![0; 128 + payload.len()];
        let id = self.id();
        let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id);
        let length = builder.xor_peer_address(peer).data(payload).finish().unwrap();
        buffer.truncate(length);
        buffer
    }

    /// What leaves for a peer after a Send indication.
    pub fn send(&mut self, stage: &mut Stage, peer: SocketAddr, payload: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let datagram = self.send_indication(peer, payload);
        let forward = stage.input(&self.path, &datagram)?;
        Some((forward.to, datagram[forward.payload].to_vec()))
    }

    pub fn send_channel(&mut self, stage: &mut Stage, number: u16, payload: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let datagram = channel_data(number, payload);
        let forward = stage.input(&self.path, &datagram)?;
        Some((forward.to, datagram[forward.payload].to_vec()))
    }
}

pub fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = offhook_wire_stun::channel_data::header(number, payload.len()).unwrap().to_vec();
    datagram.extend_from_slice(payload);
    datagram
}

pub fn read_data(indication: &[u8]) -> (SocketAddr, Vec<u8>) {
    let message = Message::parse(indication).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    (message.xor_peer_address().unwrap().unwrap(), message.data().unwrap_or_default().to_vec())
}

pub fn attribute_names(answer: &Answer) -> Vec<AttributeType> {
    answer.message().attributes().map(|raw| raw.attribute).collect()
}

/// Lets a builder's chain end without a value.
pub fn done<T>(_: T) {}

/// Accounts whose sessions end, and those whose credentials are refused, each by a Unix time.
pub fn revocation(ended: &[(&str, u64)], refused: &[(&str, u64)]) -> Command {
    let map = |list: &[(&str, u64)]| Arc::new(list.iter().map(|(user, until)| (Arc::from(*user), *until)).collect());
    Command::Revoke { refused: map(refused), ended: map(ended) }
}
