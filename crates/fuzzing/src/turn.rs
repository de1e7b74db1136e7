//! The TURN server: any sequence of messages, peers' datagrams, commands and time leaves it in order.

mod login;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use offhook_turn_core::stream::{Framed, next_message};
use offhook_turn_core::{
    ClientPath, Command, Grant, HEAD_ROOM, IcmpError, Ledger, Moment, Output, Quota, QuotaError, Rate, RelayAddress,
    RelayKey, RelayPorts, Reserved, Settings, Shard, ShardOptions, TAIL_ROOM, Users, Via,
};
use offhook_wire_stun::Message;

struct Book(RefCell<Ledger>);

impl Quota for Book {
    fn admit(&self, user: &Arc<str>) -> Result<Grant, QuotaError> {
        self.0.borrow_mut().admit(user)
    }
    fn release(&self, user: &str, grant: Grant) {
        self.0.borrow_mut().release(user, grant);
    }
    fn reserve(&self, token: [u8; 8], reserved: Reserved) {
        self.0.borrow_mut().reserve(token, reserved);
    }
    fn is_reserved_for(&self, token: &[u8; 8], user: &str) -> bool {
        self.0.borrow().is_reserved_for(token, user)
    }
    fn claim(&self, token: &[u8; 8]) -> Option<Reserved> {
        self.0.borrow_mut().claim(token)
    }
}

struct World {
    shard: Shard,
    now: Moment,
    relays: Vec<RelayKey>,
    /// Asked for and not yet bound; `true` once they are not wanted any more.
    late: Vec<(RelayKey, bool)>,
    /// `None`: nobody is asked who he is.
    clients: Option<login::Clients>,
}

/// Each step is an operation, a length and so many bytes.
pub fn run(data: &[u8]) {
    let _ = frames(data);
    play(data, World::open());
    play(data, World::closed());
}

/// How many allocations came of it.
fn play(data: &[u8], mut world: World) -> u64 {
    let mut rest = data;
    while let Some((&[operation, l0, l1], body)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([l0, l1])).min(body.len());
        let (body, next) = body.split_at(length);
        world.step(operation, body);
        rest = next;
    }
    world.end();
    world.shard.counters().allocations_created
}

/// However a stream is cut, it comes apart without a byte lost.
fn frames(stream: &[u8]) -> usize {
    let mut at = 0;
    let mut count = 0;
    while let Framed::Message { length, next } = next_message(&stream[at..], count == 0) {
        assert!(length <= next && next > 0 && at + next <= stream.len());
        at += next;
        count += 1;
    }
    count
}

fn path(which: u8) -> ClientPath {
    let server = "198.51.100.1:3478".parse().unwrap();
    let which = which & 7;
    let client = format!("203.0.113.{}:4000", which & 3).parse().unwrap();
    let via = if which & 4 == 0 { Via::Udp(0) } else { Via::Stream(u32::from(which)) };
    ClientPath { client, server, via }
}

impl World {
    fn open() -> Self {
        let mut users = Users::new("example.org");
        users.admit_anyone();
        Self::with(Settings::new(users), None)
    }

    /// Nobody gets in without a seal that is right, and strangers are answered as often as they ask.
    fn closed() -> Self {
        let settings = Settings { unauthenticated: Rate::UNLIMITED, ..Settings::new(login::users()) };
        Self::with(settings, Some(login::Clients::default()))
    }

    fn with(settings: Settings, clients: Option<login::Clients>) -> Self {
        let local = "198.51.100.1".parse().unwrap();
        let six = "2001:db8::1".parse().unwrap();
        let relays = vec![RelayAddress { local, announced: local }, RelayAddress { local: six, announced: six }];
        let shard = Shard::new(ShardOptions {
            secret: [5; 32],
            shard: 0,
            settings: Arc::new(settings),
            ports: RelayPorts::new(&relays, &(50_000..=50_007)),
            relays,
            allocations_max: 8,
            quota: Box::new(Book(RefCell::default())),
        });
        Self { shard, now: Moment(1 << 40), relays: Vec::new(), late: Vec::new(), clients }
    }

    fn step(&mut self, operation: u8, body: &[u8]) {
        let path = path(operation >> 3);
        match operation & 7 {
            0..=3 => {
                let dressed = self.clients.as_mut().and_then(|clients| clients.dress(operation, body));
                let body = dressed.as_deref().unwrap_or(body);
                if let Some(forward) = self.shard.handle_input(self.now, &path, body) {
                    assert!(self.relays.contains(&forward.relay));
                    assert!(forward.payload.end <= body.len());
                    assert!(!forward.to.ip().is_loopback() && !forward.to.ip().is_unspecified());
                }
            }
            4 => self.peer(body),
            5 => {
                self.now = self.now.after(Duration::from_secs(body.len() as u64 * 7));
                self.shard.handle_timeout(self.now);
                assert!(self.shard.poll_timeout().is_none_or(|due| due > self.now));
            }
            6 => self.shard.handle_command(self.now, Command::ClientClosed { path }),
            _ => {
                self.open_late();
                if let (Some(relay), Some([kind, code])) = (self.relays.first(), body.first_chunk()) {
                    let error = IcmpError { kind: *kind, code: *code, data: 0 };
                    self.shard.handle_icmp(self.now, *relay, "8.8.8.8:9".parse().unwrap(), error);
                }
            }
        }
        self.drain();
    }

    fn peer(&mut self, body: &[u8]) {
        let Some(relay) = self.relays.last().copied() else { return };
        let from = if body.len().is_multiple_of(2) { "8.8.8.8:9" } else { "[2a00::1]:9" };
        let mut frame = vec![0xAA; HEAD_ROOM + body.len() + TAIL_ROOM];
        let payload = HEAD_ROOM..HEAD_ROOM + body.len();
        frame[payload.clone()].copy_from_slice(body);
        if let Some(deliver) =
            self.shard.handle_peer(self.now, relay, from.parse().unwrap(), &mut frame, payload.clone())
        {
            let message = &frame[deliver.message];
            match Message::parse(message) {
                Ok(data) => assert_eq!(data.data(), Some(body)),
                Err(_) => assert_eq!(&message[4..4 + body.len()], body),
            }
        }
    }

    /// A shell that takes its time with sockets.
    fn open_late(&mut self) {
        for (relay, unwanted) in std::mem::take(&mut self.late) {
            if !unwanted {
                self.relays.push(relay);
            }
            self.shard.handle_command(self.now, Command::RelayOpened { relay });
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::OpenRelay { relay, .. } if relay.to_bits() % 5 == 2 => self.late.push((relay, false)),
                Output::OpenRelay { relay, .. } => {
                    // Every fourth is somebody else's.
                    let opened = relay.to_bits() % 4 != 3;
                    if opened {
                        self.relays.push(relay);
                    }
                    let command = if opened { Command::RelayOpened { relay } } else { Command::RelayFailed { relay } };
                    self.shard.handle_command(self.now, command);
                }
                Output::CloseRelay { relay } => {
                    self.relays.retain(|open| *open != relay);
                    match self.late.iter_mut().find(|(late, _)| *late == relay) {
                        Some((_, unwanted)) => *unwanted = true,
                        None => self.shard.handle_command(self.now, Command::RelayClosed { relay }),
                    }
                }
                _ => {}
            }
        }
        for transmit in self.shard.transmits() {
            let message = Message::parse(transmit.bytes);
            assert!(message.is_ok());
            if let (Some(clients), Ok(message)) = (&mut self.clients, message) {
                clients.hear(transmit.path, &message);
            }
        }
        assert!(
            self.clients.as_ref().is_none_or(|c| c.sealed) || self.shard.gauges().allocations == 0,
            "let in unsealed"
        );
        self.shard.clear_transmits();
        assert_eq!(self.shard.gauges().relays, self.relays.len() + self.late.len());
    }

    /// Whatever happened, the end leaves nothing.
    fn end(&mut self) {
        let cause = offhook_turn_core::EndCause::ServerStopped;
        self.shard.handle_command(self.now, Command::EndAll { cause });
        self.now = self.now.after(Duration::from_secs(4_000));
        self.shard.handle_timeout(self.now);
        self.drain();
        // What is still being opened is closed when it is open.
        self.open_late();
        self.drain();
        let gauges = self.shard.gauges();
        assert_eq!((gauges.allocations, gauges.relays, gauges.reservations, gauges.free_ports), (0, 0, 0, 16));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else everything behind the login would be out of reach.
    #[test]
    fn the_seed_of_logins_logs_in_by_each_way() {
        let seed = include_bytes!("../../../fuzz/seeds/turn/login");
        assert_eq!(play(seed, World::closed()), 5);
        let strangers = include_bytes!("../../../fuzz/seeds/turn/session");
        assert_eq!((play(strangers, World::closed()), play(strangers, World::open())), (0, 1));
    }
}
