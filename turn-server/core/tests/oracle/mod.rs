//! Two servers, one script: ours on its stage, and `turn-server-proto` beside it.
#![allow(dead_code, reason = "each story uses its part")]

use super::stage::*;
use offhook_turn_core::{QuotaLimits, Rate};
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId, credentials};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use turn_server_proto::api::{Transmit, TurnServerApi, TurnServerPollRet};
use turn_server_proto::server::TurnServer;
use turn_server_proto::types::{AddressFamily, Instant, TransportType};

pub const LISTEN: &str = "198.51.100.1:3478";
pub const CLIENTS: usize = 5;
pub const ALICE: usize = 0;
pub const BOB: usize = 2;
pub const STRANGER: usize = 5;
pub const GUESSER: usize = 6;

/// What a server made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Answer(Facts),
    ToPeer { from: SocketAddr, to: SocketAddr, payload: Vec<u8> },
    Data { peer: SocketAddr, payload: Vec<u8> },
    Channel { number: u16, payload: Vec<u8> },
}

/// What of an answer must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub class: Class,
    pub method: Method,
    pub id: TransactionId,
    /// 0 for success.
    pub code: u16,
    pub mapped: Option<SocketAddr>,
    pub relayed: BTreeSet<SocketAddr>,
    pub lifetime: Option<u32>,
    pub unknown: BTreeSet<u16>,
    /// REALM and NONCE, where the code calls for them.
    pub challenges: bool,
    /// Under the key of the client, where it is known who that is.
    pub sealed: bool,
}

impl Seen {
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::Answer(facts) => Some(facts.code),
            _ => None,
        }
    }
}

pub struct Peer {
    pub address: SocketAddr,
    pub user: &'static str,
    pub password: &'static str,
    pub claimed_realm: Option<&'static str>,
    /// Ours and theirs.
    nonces: [String; 2],
    relayed: Vec<SocketAddr>,
}

impl Peer {
    fn key(&self) -> [u8; 16] {
        credentials::long_term_key(self.user, REALM, self.password)
    }
}

pub struct Twins {
    pub ours: Stage,
    pub theirs: TurnServer,
    pub clients: Vec<Peer>,
    count: u64,
    /// Errors, successes, to peers, from peers.
    pub seen: [u32; 4],
}

impl Twins {
    pub fn new() -> Self {
        let ours = Stage::with(|setup| {
            setup.limits = QuotaLimits::default();
            setup.settings.unauthenticated = Rate::UNLIMITED;
            setup.settings.new_peers = Rate::UNLIMITED;
            // As theirs, for clients of RFC 5766.
            setup.settings.channel_numbers = 0x4000..=0x7FFF;
            setup.settings.nonce_lifetime = None;
        });
        let mut theirs = TurnServer::new(TransportType::Udp, at(LISTEN), REALM.to_owned());
        theirs.add_user("alice".to_owned(), "sesame".to_owned());
        theirs.add_user("bob".to_owned(), "open".to_owned());
        theirs.set_nonce_expiry_duration(Duration::from_secs(1 << 30));
        let client = |address: &str, user, password| Peer {
            address: at(address),
            user,
            password,
            claimed_realm: None,
            nonces: [String::new(), String::new()],
            relayed: Vec::new(),
        };
        let clients = vec![
            client("203.0.113.7:40000", "alice", "sesame"),
            client("203.0.113.7:40001", "alice", "sesame"),
            client("203.0.113.8:40000", "bob", "open"),
            client("[2a00:7::8]:40000", "bob", "open"),
            // Behind the same NAT as the first, on the same port by mistake: another user on its 5-tuple.
            client("203.0.113.7:40000", "bob", "open"),
            client("203.0.113.9:1", "nobody", "x"),
            client("203.0.113.9:2", "alice", "guess"),
        ];
        let mut twins = Self { ours, theirs, clients, count: 0, seen: [0; 4] };
        (0..twins.clients.len()).for_each(|who| twins.challenge(who));
        twins
    }

    fn challenge(&mut self, who: usize) {
        let request = self.write(who, Class::Request, Method::ALLOCATE, |b| done(b.requested_transport(17)));
        let (ours, theirs) = (self.ask_ours(who, &request), self.ask_theirs(who, &request));
        let nonce = |bytes: Option<Vec<u8>>| Answer(bytes.expect("a challenge")).nonce();
        self.clients[who].nonces = [nonce(ours), nonce(theirs)];
    }

    fn id(&mut self) -> TransactionId {
        self.count += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.count.to_be_bytes());
        TransactionId(id)
    }

    fn write(
        &mut self,
        _: usize,
        class: Class,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let id = self.id();
        build(class, method, id, write)
    }

    /// A message as it is, to both.
    pub fn plain(&mut self, who: usize, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> (Seen, Seen) {
        let request = self.write(who, Class::Request, method, write);
        self.exchange(who, [&request, &request])
    }

    /// A request under the client's credentials, with each server's own nonce.
    pub fn sealed(&mut self, who: usize, method: Method, write: impl Fn(&mut MessageBuilder<'_>)) -> (Seen, Seen) {
        let [ours, theirs] = self.sealed_requests(who, method, write);
        self.exchange(who, [&ours, &theirs])
    }

    pub fn sealed_twice(
        &mut self,
        who: usize,
        method: Method,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> ([Seen; 2], [Seen; 2]) {
        let [ours, theirs] = self.sealed_requests(who, method, write);
        let (ours1, theirs1) = self.exchange(who, [&ours, &theirs]);
        let (ours2, theirs2) = self.exchange(who, [&ours, &theirs]);
        ([ours1, ours2], [theirs1, theirs2])
    }

    fn sealed_requests(&mut self, who: usize, method: Method, write: impl Fn(&mut MessageBuilder<'_>)) -> [Vec<u8>; 2] {
        let id = self.id();
        let client = &self.clients[who];
        client.nonces.clone().map(|nonce| {
            build(Class::Request, method, id, |b| {
                write(b);
                let realm = client.claimed_realm.unwrap_or(REALM);
                b.username(client.user).realm(realm).nonce(&nonce).integrity(&client.key());
            })
        })
    }

    pub fn sealed_without(&mut self, who: usize, method: Method, leave_out: AttributeType) -> (Seen, Seen) {
        let id = self.id();
        let client = &self.clients[who];
        let requests = client.nonces.clone().map(|nonce| {
            build(Class::Request, method, id, |b| {
                if leave_out != AttributeType::USERNAME {
                    b.username(client.user);
                }
                if leave_out != AttributeType::REALM {
                    b.realm(REALM);
                }
                if leave_out != AttributeType::NONCE {
                    b.nonce(&nonce);
                }
                b.integrity(&client.key());
            })
        });
        self.exchange(who, [&requests[0], &requests[1]])
    }

    pub fn sealed_under(&mut self, who: usize, method: Method, nonce: &str) -> (Seen, Seen) {
        let id = self.id();
        let client = &self.clients[who];
        let request = build(Class::Request, method, id, |b| {
            b.username(client.user).realm(REALM).nonce(nonce).integrity(&client.key());
        });
        self.exchange(who, [&request, &request])
    }

    /// As a client of RFC 8489 would: the algorithms that each server offers, the strongest of them, and a hashed name.
    pub fn modern(&mut self, who: usize, hashed: bool, write: impl Fn(&mut MessageBuilder<'_>)) -> (Seen, Seen) {
        let ask = self.write(who, Class::Request, Method::ALLOCATE, |b| {
            b.requested_transport(17).software(&"a client with much to say".repeat(4));
        });
        let offers = [self.ask_ours(who, &ask), self.ask_theirs(who, &ask)].map(|answer| Answer(answer.unwrap()));
        let id = self.id();
        let client = &self.clients[who];
        let key = credentials::long_term_key_sha256(client.user, REALM, client.password);
        let requests = offers.map(|offer| {
            let message = offer.message();
            let list = message.raw(AttributeType::PASSWORD_ALGORITHMS).unwrap();
            assert!(list.chunks(4).any(|one| one == [0, 2, 0, 0]), "SHA-256 is offered");
            build(Class::Request, Method::ALLOCATE, id, |b| {
                write(b);
                if hashed {
                    b.attr(AttributeType::USERHASH, &credentials::userhash(client.user, REALM));
                } else {
                    b.username(client.user);
                }
                b.realm(REALM).nonce(&offer.nonce()).attr(AttributeType::PASSWORD_ALGORITHMS, list);
                b.attr(AttributeType::PASSWORD_ALGORITHM, &[0, 2, 0, 0]).integrity_sha256(&key);
            })
        });
        self.exchange(who, [&requests[0], &requests[1]])
    }

    pub fn indication(&mut self, who: usize, write: impl FnOnce(&mut MessageBuilder<'_>)) -> (Seen, Seen) {
        let message = self.write(who, Class::Indication, Method::SEND, write);
        self.forward(who, &message)
    }

    pub fn channel_data(&mut self, who: usize, number: u16, payload: &[u8], claimed: usize) -> (Seen, Seen) {
        let mut datagram = channel_data(number, payload);
        datagram[2..4].copy_from_slice(&(claimed as u16).to_be_bytes());
        self.forward(who, &datagram)
    }

    fn forward(&mut self, who: usize, datagram: &[u8]) -> (Seen, Seen) {
        let path = udp(&self.clients[who].address.to_string());
        let ours = self.ours.input(&path, datagram).map_or(Seen::Nothing, |forward| Seen::ToPeer {
            from: self.ours.sockets[&forward.relay.to_bits()],
            to: forward.to,
            payload: datagram[forward.payload].to_vec(),
        });
        let sent = self.feed_theirs(self.clients[who].address, at(LISTEN), datagram);
        let theirs =
            sent.map_or(Seen::Nothing, |sent| Seen::ToPeer { from: sent.from, to: sent.to, payload: sent.data });
        self.count_seen(&ours);
        (ours, theirs)
    }

    /// From `peer` to the client's relay of that family.
    pub fn peer_sends(&mut self, who: usize, peer: SocketAddr, payload: &[u8]) -> (Seen, Seen) {
        let relays = &self.clients[who].relayed;
        let Some(relayed) = relays.iter().copied().find(|relayed| relayed.is_ipv4() == peer.is_ipv4()) else {
            return (Seen::Nothing, Seen::Nothing);
        };
        let open = self.ours.sockets.values().any(|bound| *bound == relayed);
        let ours = if open {
            let relay = self.ours.relay_at(relayed);
            self.ours.peer_sends(relay, peer, payload).map(|(_, bytes)| bytes)
        } else {
            None
        };
        let theirs = self.feed_theirs(peer, relayed, payload).map(|sent| sent.data);
        let (ours, theirs) = (relayed_to_client(ours), relayed_to_client(theirs));
        self.count_seen(&ours);
        (ours, theirs)
    }

    pub fn wait(&mut self, time: Duration) {
        self.ours.advance(time);
        self.settle_theirs(&[]);
    }

    fn exchange(&mut self, who: usize, requests: [&[u8]; 2]) -> (Seen, Seen) {
        let ours = self.ask_ours(who, requests[0]);
        if let Some(answer) = ours.as_deref() {
            let relayed = relayed_of(answer);
            if !relayed.is_empty() {
                // All clients of the address: the sixth shares it with the first.
                let address = self.clients[who].address;
                self.clients.iter_mut().filter(|c| c.address == address).for_each(|c| c.relayed.clone_from(&relayed));
            }
        }
        let theirs = self.ask_theirs(who, requests[1]);
        let (ours, theirs) = (self.facts(who, ours), self.facts(who, theirs));
        self.count_seen(&ours);
        (ours, theirs)
    }

    fn count_seen(&mut self, seen: &Seen) {
        let place = match seen {
            Seen::Nothing => return,
            Seen::Answer(facts) if facts.code > 0 => 0,
            Seen::Answer(_) => 1,
            Seen::ToPeer { .. } => 2,
            Seen::Data { .. } | Seen::Channel { .. } => 3,
        };
        self.seen[place] += 1;
    }

    fn ask_ours(&mut self, who: usize, request: &[u8]) -> Option<Vec<u8>> {
        let path = udp(&self.clients[who].address.to_string());
        self.ours.try_answer(&path, request).map(|answer| answer.0)
    }

    fn ask_theirs(&mut self, who: usize, request: &[u8]) -> Option<Vec<u8>> {
        let address = self.clients[who].address;
        let at_once = self.feed_theirs(address, at(LISTEN), request);
        let relayed = self.clients[who].relayed.clone();
        let later = self.settle_theirs(&relayed);
        assert!(at_once.is_none() || later.is_none());
        let sent = at_once.or(later)?;
        // It names itself as the one to whom a Binding's answer goes.
        assert!(sent.from == at(LISTEN) && (sent.to == address || sent.to == at(LISTEN)), "to whom it answers");
        Some(sent.data)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.ours.now.0 as i64)
    }

    fn feed_theirs(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Option<Transmit<Vec<u8>>> {
        let now = self.now();
        let sent = self.theirs.recv(Transmit::new(bytes.to_vec(), TransportType::Udp, from, to), now);
        sent.map(turn_server_proto::types::transmit::TransmitBuild::build)
    }

    /// Gives it the sockets that ours was given.
    fn settle_theirs(&mut self, relayed: &[SocketAddr]) -> Option<Transmit<Vec<u8>>> {
        let now = self.now();
        for _ in 0..100 {
            match self.theirs.poll(now) {
                TurnServerPollRet::AllocateSocket {
                    transport,
                    listen_addr,
                    client_addr,
                    allocation_transport,
                    family,
                } => {
                    let is_v4 = family == AddressFamily::IPV4;
                    let bound = relayed.iter().copied().find(|address| address.is_ipv4() == is_v4);
                    let bound = bound.unwrap_or_else(|| at(if is_v4 { "198.51.100.1:1" } else { "[2001:db8::1]:1" }));
                    self.theirs.allocated_socket(
                        transport,
                        listen_addr,
                        client_addr,
                        allocation_transport,
                        family,
                        Ok(bound),
                        now,
                    );
                }
                TurnServerPollRet::WaitUntil(_) => return self.theirs.poll_transmit(now),
                _ => {}
            }
        }
        panic!("it never comes to rest");
    }

    fn facts(&self, who: usize, answer: Option<Vec<u8>>) -> Seen {
        let Some(bytes) = answer else { return Seen::Nothing };
        let answer = Answer(bytes);
        let message = answer.message();
        let client = &self.clients[who];
        let code = answer.code();
        let sha256 = credentials::long_term_key_sha256(client.user, REALM, client.password);
        let is_sealed =
            message.verify_integrity(&client.key()).is_ok() || message.verify_integrity_sha256(&sha256).is_ok();
        // A refusal of somebody unknown may bear a seal or not (RFC 8489 §9.2.4).
        let unknown_client = matches!(code, 400 | 401 | 438 | 441) || message.method() == Method::BINDING;
        let is_challenge = matches!(code, 401 | 438);
        let has_both = message.has(AttributeType::REALM) && message.has(AttributeType::NONCE);
        let unknown = message.raw(AttributeType::UNKNOWN_ATTRIBUTES).unwrap_or_default();
        Seen::Answer(Facts {
            class: message.class(),
            method: message.method(),
            id: message.transaction_id(),
            code,
            mapped: message.xor_mapped_address().unwrap(),
            relayed: relayed_of(&answer.0).into_iter().collect(),
            lifetime: message.lifetime_s().unwrap(),
            unknown: unknown
                .chunks_exact(2)
                .map(|two| u16::from_be_bytes([two[0], two[1]]))
                .filter(|u| *u > 0)
                .collect(),
            challenges: is_challenge && has_both,
            sealed: !unknown_client && is_sealed,
        })
    }
}

fn build(class: Class, method: Method, id: TransactionId, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2_048];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id);
    write(&mut builder);
    let length = builder.finish().unwrap();
    buffer.truncate(length);
    buffer
}

/// Both of them: the same values read as addresses of peers, of which there may be many.
fn relayed_of(answer: &[u8]) -> Vec<SocketAddr> {
    let message = Message::parse(answer).unwrap();
    let values = message.attributes().filter(|raw| raw.attribute == AttributeType::XOR_RELAYED_ADDRESS);
    let peers = build(Class::Request, Method::CREATE_PERMISSION, message.transaction_id(), |b| {
        values.for_each(|raw| done(b.attr(AttributeType::XOR_PEER_ADDRESS, raw.value)));
    });
    Message::parse(&peers).unwrap().xor_peer_addresses().map(Result::unwrap).collect()
}

fn relayed_to_client(bytes: Option<Vec<u8>>) -> Seen {
    match bytes {
        None => Seen::Nothing,
        Some(bytes) if bytes[0] & 0xC0 == 0x40 => {
            let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            Seen::Channel { number: u16::from_be_bytes([bytes[0], bytes[1]]), payload: bytes[4..4 + length].to_vec() }
        }
        Some(bytes) => {
            let (peer, payload) = read_data(&bytes);
            Seen::Data { peer, payload }
        }
    }
}
