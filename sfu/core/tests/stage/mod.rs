//! A shard on stage: browsers and gateways scripted in virtual time, DTLS replaced by a word.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod actor;
mod tape;

#[allow(unused_imports, reason = "each test file uses its part")]
pub use actor::{Actor, Heard, Kind};
#[allow(unused_imports, reason = "each test file uses its part")]
pub use tape::{Tape, TapeReader, Taped};

use offhook_contract::sfu::RoomKind;
use offhook_contract::{CallId, CodecName, LegId, RecordingId, RoomId, TenantId, UnixMs};
use offhook_media::{BeepSpec, EncodedPrompt, Prompt, encode, encode_beep};
use offhook_sfu_core::*;
use offhook_wire_srtp::{Profile, SrtpKey};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub const START_NS: u64 = 100_000_000_000;
pub const START_WALL_MS: u64 = 1_700_000_000_000;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub fn room() -> RoomId {
    RoomId::parse("room").unwrap()
}

pub fn leg(name: &str) -> LegId {
    LegId::parse(name).unwrap()
}

pub fn recording() -> RecordingId {
    RecordingId::parse("recording").unwrap()
}

pub fn context() -> RoomContext {
    RoomContext { tenant: TenantId::parse("tenant").unwrap(), call: CallId::parse("call").unwrap(), epoch: None }
}

/// Prompts are encoded once for all tests of a file.
pub fn notice() -> Arc<EncodedPrompt> {
    static NOTICE: OnceLock<Arc<EncodedPrompt>> = OnceLock::new();
    let make = || Arc::new(encode(&Prompt { rate: 8_000, samples: vec![900; 8_000] }).unwrap());
    Arc::clone(NOTICE.get_or_init(make))
}

pub fn hold() -> Arc<EncodedPrompt> {
    static HOLD: OnceLock<Arc<EncodedPrompt>> = OnceLock::new();
    let make = || Arc::new(encode(&Prompt { rate: 8_000, samples: vec![500; 4_000] }).unwrap());
    Arc::clone(HOLD.get_or_init(make))
}

pub fn beep() -> Arc<EncodedPrompt> {
    static BEEP: OnceLock<Arc<EncodedPrompt>> = OnceLock::new();
    Arc::clone(BEEP.get_or_init(|| Arc::new(encode_beep(&BeepSpec::default()).unwrap())))
}

/// A key that both sides derive from the leg's number and the direction.
pub fn key(number: u8, ours: bool) -> SrtpKey {
    SrtpKey::new(Profile::AeadAes128Gcm, &[number ^ u8::from(ours) << 7; 16], &[number; 12]).unwrap()
}

/// Instead of a handshake: the first datagram carries the number of the client. Otherwise like a real one: connected, it
/// waits for ten years from each moment on, and complains of what it cannot read.
#[derive(Default)]
struct WordDtls {
    said: Vec<DtlsEvent>,
    connected: bool,
    now: MediaNs,
}

const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

pub fn fingerprint(number: u8) -> [u8; 32] {
    [number; 32]
}

impl DtlsSession for WordDtls {
    fn handle_packet(&mut self, now: MediaNs, datagram: &[u8]) -> Result<(), DtlsFailure> {
        self.now = now;
        match datagram {
            [22, number] if !self.connected => {
                let keys = Keys { ours: key(*number, true), theirs: key(*number, false) };
                self.said = vec![DtlsEvent::Keys(Box::new(keys)), DtlsEvent::PeerCertificate(fingerprint(*number))];
                self.connected = true;
                Ok(())
            }
            [21, 0] => {
                self.said = vec![DtlsEvent::Closed];
                Ok(())
            }
            [23, ..] if self.connected => Ok(()),
            _ => Err(DtlsFailure("not a word")),
        }
    }
    fn handle_timeout(&mut self, now: MediaNs) -> Result<(), DtlsFailure> {
        self.now = now;
        Ok(())
    }
    fn poll(&mut self, _: &mut [u8]) -> Result<DtlsEvent, DtlsFailure> {
        let due = self.connected.then(|| self.now.after(TEN_YEARS));
        Ok(self.said.pop().unwrap_or(DtlsEvent::Idle(due)))
    }
}

pub struct Stage {
    pub shard: Shard,
    pub now: MediaNs,
    pub actors: Vec<Actor>,
    pub outputs: Vec<Output>,
    /// Everything that left the shard: to whom, and the bytes.
    pub wire: Vec<(SocketAddr, Vec<u8>)>,
    /// Browsers check every five seconds, as they do.
    pub consent: bool,
    /// The socket takes nothing: what is sent waits.
    pub jammed: bool,
}

impl Stage {
    pub fn new() -> Self {
        Self::with_options(ShardOptions::new(hold(), 7))
    }

    pub fn with_options(options: ShardOptions) -> Self {
        let mut shard = Shard::new(options);
        let now = MediaNs(START_NS);
        shard.handle_command(now, Command::SetClock { at: now, wall: UnixMs(START_WALL_MS) }).unwrap();
        Self { shard, now, actors: Vec::new(), outputs: Vec::new(), wire: Vec::new(), consent: true, jammed: false }
    }

    /// A stage with its room open.
    pub fn with_room(kind: RoomKind) -> Self {
        let mut stage = Self::new();
        stage.open_room(kind);
        stage
    }

    pub fn open_room(&mut self, kind: RoomKind) {
        self.command(Command::OpenRoom { room: room(), kind, context: context(), opened_ms: UnixMs(START_WALL_MS) });
    }

    pub fn conversation() -> Self {
        Self::with_room(RoomKind::Conversation)
    }

    pub fn command(&mut self, command: Command) -> Reply {
        self.try_command(command).unwrap()
    }

    pub fn try_command(&mut self, command: Command) -> Result<Reply, CommandError> {
        let reply = self.shard.handle_command(self.now, command);
        self.settle();
        reply
    }

    /// Adds a browser's leg without letting it send anything.
    pub fn join(&mut self, name: &str, actor: Actor) -> usize {
        let command = Command::AddPeer {
            room: room(),
            leg: leg(name),
            plan: Box::new(actor.peer_plan()),
            dtls: Box::new(WordDtls::default()),
            emergency: false,
        };
        self.actors.push(actor);
        self.command(command);
        self.actors.len() - 1
    }

    /// A browser that is connected, with all codecs, four slots and the Announcer's line.
    pub fn browser(&mut self, name: &str) -> usize {
        self.browser_with(name, |_| {})
    }

    pub fn browser_with(&mut self, name: &str, change: impl FnOnce(&mut Actor)) -> usize {
        let mut actor = Actor::browser(self.actors.len() as u8 + 1);
        change(&mut actor);
        let index = self.join(name, actor);
        self.check(index, true);
        self.handshake(index);
        index
    }

    /// A gateway's link that is connected and speaks `codecs`.
    pub fn link(&mut self, name: &str, codecs: &[CodecName]) -> usize {
        self.link_at(name, codecs, None)
    }

    pub fn link_at(&mut self, name: &str, codecs: &[CodecName], address: Option<SocketAddr>) -> usize {
        let mut actor = Actor::link(self.actors.len() as u8 + 1, codecs);
        actor.address = address.unwrap_or(actor.address);
        let (open, connect) = (actor.link_plan(), actor.connect_plan());
        self.actors.push(actor);
        self.command(Command::OpenLink { room: room(), leg: leg(name), plan: Box::new(open), emergency: false });
        self.command(Command::ConnectLink { room: room(), leg: leg(name), plan: Box::new(connect) });
        self.actors.len() - 1
    }

    pub fn check(&mut self, index: usize, nominate: bool) {
        let datagram = self.actors[index].check(nominate, None);
        self.send(index, datagram);
    }

    pub fn handshake(&mut self, index: usize) {
        let number = self.actors[index].number;
        self.send(index, vec![22, number]);
    }

    pub fn send(&mut self, index: usize, datagram: Vec<u8>) {
        let from = self.actors[index].address;
        self.send_from(from, datagram);
    }

    pub fn send_from(&mut self, from: SocketAddr, mut datagram: Vec<u8>) {
        self.shard.handle_input(self.now, from, None, &mut datagram);
        self.settle();
    }

    /// One frame of 20 ms from this actor.
    pub fn speak(&mut self, index: usize, codec: CodecName, payload: &[u8]) {
        let datagram = self.actors[index].frame(codec, payload);
        self.send(index, datagram);
    }

    /// Lets time pass in steps of a millisecond; `each_frame` every 20 ms.
    pub fn advance_with(&mut self, time: Duration, mut each_frame: impl FnMut(&mut Self)) {
        for step in 0..time.as_millis() as u64 {
            if step % 20 == 0 {
                each_frame(self);
            }
            self.now = self.now.after(ms(1));
            self.due();
            if self.consent && self.now.0.is_multiple_of(5_000_000_000) {
                self.check_all();
            }
        }
    }

    pub fn advance(&mut self, time: Duration) {
        self.advance_with(time, |_| {});
    }

    /// Lets time pass while these actors speak one byte of theirs each.
    pub fn talk(&mut self, time: Duration, speakers: &[(usize, CodecName, u8)]) {
        self.advance_with(time, |stage| {
            for (index, codec, byte) in speakers {
                let payload = vec![*byte; if *codec == CodecName::Opus { 30 } else { 160 }];
                stage.speak(*index, *codec, &payload);
            }
        });
    }

    fn check_all(&mut self) {
        for index in 0..self.actors.len() {
            if self.actors[index].kind == Kind::Browser {
                self.check(index, false);
            }
        }
    }

    /// Does what is due now.
    pub fn due(&mut self) {
        while self.shard.poll_timeout().is_some_and(|due| due <= self.now) {
            self.shard.handle_timeout(self.now);
            self.settle();
        }
    }

    /// Collects what the shard has to say and gives everyone their datagrams.
    pub fn settle(&mut self) {
        while let Some(output) = self.shard.poll_output() {
            self.outputs.push(output);
        }
        if self.jammed {
            return;
        }
        let sent: Vec<(SocketAddr, Vec<u8>)> =
            self.shard.transmits().map(|t| (t.path.remote, t.bytes.to_vec())).collect();
        self.shard.clear_transmits();
        for (to, bytes) in sent {
            for actor in self.actors.iter_mut().filter(|actor| actor.address == to) {
                actor.take(self.now, &bytes);
            }
            self.wire.push((to, bytes));
        }
        if self.shard.poll_timeout().is_some_and(|due| due <= self.now) {
            self.due();
        }
    }

    pub fn news(&self) -> impl Iterator<Item = &News> {
        self.outputs.iter().map(|output| &output.news)
    }

    /// Opens a Tap with a tape on it.
    pub fn record(&mut self) -> TapeReader {
        let (tape, reader) = Tape::new();
        reader.attach();
        self.command(open_tap(tape));
        reader
    }
}

pub fn open_tap(tape: Tape) -> Command {
    Command::OpenTap {
        room: room(),
        plan: Box::new(TapPlan {
            recording: recording(),
            notice: notice(),
            beep: beep(),
            period: secs(15),
            sink: Box::new(tape),
        }),
    }
}
