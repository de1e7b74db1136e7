//! What every part of an endpoint shares: trunks, transactions, timers, randomness and the queue of outputs.

use crate::api::{EndpointConfig, LegEvent, LegHandle, Now, Output, Refusal, SocketConfig, Stats};
use crate::random::{Random, hex, number};
use crate::timers::Timers;
use crate::transaction::{ClientRequest, Clients, Effects, Owner, Servers, Timer, TxId};
use crate::trunk::Trunk;
use offhook_wire_sip::{Message, Method, Name, RequestBuilder, ResponseBuilder};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What we serve (RFC 3261 §20.5).
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, PRACK";

/// Everything that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TimerKey {
    Client(TxId, Timer),
    Server(TxId, Timer),
    Leg(LegHandle, LegTimer),
    Trunk(usize, TrunkTimer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LegTimer {
    /// A ringing call is given up.
    NoAnswer,
    /// A carrier that says nothing is given up.
    Silence,
    /// The call has lasted long enough.
    MaxDuration,
    /// The 2xx is sent again (RFC 3261 §13.3.1.4).
    OkAgain,
    /// No ACK came.
    AckWait,
    /// A cancelled INVITE never got its final response (RFC 3261 §9.1).
    GiveUp,
}

impl LegTimer {
    pub const ALL: [Self; 6] =
        [Self::NoAnswer, Self::Silence, Self::MaxDuration, Self::OkAgain, Self::AckWait, Self::GiveUp];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TrunkTimer {
    /// REGISTER is due.
    Register,
    /// OPTIONS is due.
    Probe,
    /// OPTIONS was not answered.
    ProbeSilence,
}

/// A trunk in its place; places are never reused for another name, so an index stays true.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub trunk: Arc<Trunk>,
    pub socket: SocketConfig,
    /// False once the configuration no longer has it; its calls go on.
    pub active: bool,
    /// The carrier has once taken a request that carried the credentials.
    pub password_proved: bool,
}

pub(crate) struct Core {
    pub random: Box<dyn Random>,
    pub timers: Timers<TimerKey>,
    pub clients: Clients,
    pub servers: Servers,
    pub slots: Vec<Slot>,
    pub stats: Stats,
    pub max_ringing: Duration,
    pub silence_limit: Duration,
    max_transactions: usize,
    product: Option<String>,
    outputs: VecDeque<Output>,
    last_id: u64,
    /// The second in which refusals were last told, and how many.
    refusals_told: (u64, u32),
}

impl Core {
    pub fn new(config: EndpointConfig) -> Self {
        Self {
            random: config.random,
            timers: Timers::new(),
            clients: Clients::default(),
            servers: Servers::default(),
            slots: Vec::new(),
            stats: Stats::default(),
            max_ringing: config.max_ringing,
            silence_limit: config.silence_limit,
            max_transactions: config.max_transactions,
            product: config.product,
            outputs: VecDeque::new(),
            last_id: 0,
            refusals_told: (0, 0),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub fn emit(&mut self, leg: LegHandle, event: LegEvent) {
        self.push(Output::Leg { leg, event });
    }

    pub fn transmit(&mut self, to: SocketAddr, from_local: SocketAddr, bytes: Vec<u8>) {
        self.stats.datagrams_out += 1;
        self.push(Output::Transmit { to, from_local, bytes });
    }

    /// Tells a refusal, at most ten in one second.
    pub fn refuse(&mut self, now: Now, source: SocketAddr, reason: Refusal) {
        let (second, told) = &mut self.refusals_told;
        if *second != now.as_secs() {
            (*second, *told) = (now.as_secs(), 0);
        }
        if *told < 10 {
            *told += 1;
            self.push(Output::Refused { source, reason });
        }
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn is_full(&self) -> bool {
        self.clients.len() + self.servers.len() >= self.max_transactions
    }

    /// The first trunk, active or not, for which `ip` may speak.
    pub fn admitting(&self, ip: IpAddr) -> Option<usize> {
        self.slots.iter().position(|slot| slot.trunk.admits(ip))
    }

    pub fn slot(&self, trunk: usize) -> Option<&Slot> {
        self.slots.get(trunk)
    }

    pub fn note_proved(&mut self, trunk: usize) {
        if let Some(slot) = self.slots.get_mut(trunk) {
            slot.password_proved = true;
        }
    }

    pub fn tag(&mut self) -> String {
        hex(self.random.as_mut(), 8)
    }

    pub fn branch(&mut self) -> String {
        format!("z9hG4bK{}", hex(self.random.as_mut(), 12))
    }

    pub fn call_id(&mut self) -> String {
        hex(self.random.as_mut(), 16)
    }

    pub fn session_id(&mut self) -> u64 {
        number(self.random.as_mut())
    }

    pub fn after(&mut self, now: Now, key: TimerKey, pause: Duration) {
        self.timers.set(key, now.saturating_add(pause));
    }

    pub fn stop_leg_timers(&mut self, leg: LegHandle) {
        for timer in LegTimer::ALL {
            self.timers.cancel(&TimerKey::Leg(leg, timer));
        }
    }

    /// A request with the headers that all of ours have: Via, Max-Forwards and the product.
    pub fn request_builder(&self, method: &Method, uri: &str, socket: &SocketConfig, branch: &str) -> RequestBuilder {
        let via = format!("SIP/2.0/UDP {};branch={branch};rport", socket.advertised);
        let builder = RequestBuilder::new(method, uri).header(Name::Via, via).header(Name::MaxForwards, "70");
        match &self.product {
            Some(product) => builder.header(Name::UserAgent, product),
            None => builder,
        }
    }

    /// A response to `request`, with the product.
    pub fn response_builder(&self, request: &Message<'_>, code: u16, source: SocketAddr, tag: &str) -> ResponseBuilder {
        let builder = ResponseBuilder::answering(request, code, source, tag);
        match &self.product {
            Some(product) => builder.header(Name::Server, product),
            None => builder,
        }
    }

    /// Sends a request in a transaction of its own.
    pub fn send(&mut self, now: Now, request: ClientRequest) -> TxId {
        let id = TxId(self.next_id());
        let fx = self.clients.start(id, request);
        self.apply_client(now, id, &fx);
        id
    }

    /// Answers a request in its transaction.
    pub fn answer(&mut self, now: Now, id: TxId, code: u16, bytes: Vec<u8>) {
        if let Some(fx) = self.servers.respond(id, code, bytes) {
            self.apply_server(now, id, &fx);
        }
    }

    /// Answers with nothing but a code and some headers.
    pub fn answer_plainly(
        &mut self,
        now: Now,
        id: TxId,
        request: &Message<'_>,
        source: SocketAddr,
        code: u16,
        headers: &[(Name, &str)],
    ) {
        let tag = self.tag();
        let builder = self.response_builder(request, code, source, &tag);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, value));
        // A request that was parsed can be echoed, unless it fills a whole datagram; then silence is the answer.
        if let Ok(bytes) = builder.to_bytes() {
            self.answer(now, id, code, bytes);
        }
    }

    pub fn apply_client(&mut self, now: Now, id: TxId, fx: &Effects) {
        for (wanted, ack) in [(fx.send, false), (fx.ack, true)] {
            if let Some((to, local, bytes)) = self.clients.bytes(id, ack).filter(|_| wanted) {
                self.transmit(to, local, bytes);
            }
        }
        self.apply_timers(now, fx, |timer| TimerKey::Client(id, timer));
        if fx.done {
            self.clients.remove(id);
        }
    }

    pub fn apply_server(&mut self, now: Now, id: TxId, fx: &Effects) {
        if let Some((to, local, bytes)) = self.servers.bytes(id).filter(|_| fx.send) {
            self.transmit(to, local, bytes);
        }
        self.apply_timers(now, fx, |timer| TimerKey::Server(id, timer));
        if fx.done {
            self.servers.remove(id);
        }
    }

    fn apply_timers(&mut self, now: Now, fx: &Effects, key: impl Fn(Timer) -> TimerKey) {
        for timer in &fx.disarm {
            self.timers.cancel(&key(*timer));
        }
        for (timer, pause) in &fx.arm {
            self.after(now, key(*timer), *pause);
        }
    }

    /// Forgets a client transaction with all its timers.
    pub fn drop_client(&mut self, id: TxId) {
        use Timer as T;
        for timer in [T::A, T::B, T::D, T::E, T::F, T::K, T::M] {
            self.timers.cancel(&TimerKey::Client(id, timer));
        }
        self.clients.remove(id);
    }

    /// Cancels an INVITE that has had a provisional response (RFC 3261 §9.1): same URI, route, branch and number.
    pub fn send_cancel(&mut self, now: Now, invite: TxId, reason: &str) {
        let Some(request) = self.clients.request(invite) else { return };
        let Ok(message) = Message::parse(&request.bytes) else { return };
        let Some(uri) = message.request_uri() else { return };
        let lines = |name| message.lines(name);
        let built = RequestBuilder::new(&Method::Cancel, uri.as_str())
            .each(Name::Via, lines(Name::Via))
            .each(Name::Route, lines(Name::Route))
            .header(Name::MaxForwards, "70")
            .each(Name::From, lines(Name::From))
            .each(Name::To, lines(Name::To))
            .header(Name::CallId, message.call_id())
            .header(Name::CSeq, format!("{} CANCEL", message.cseq().number))
            .header(Name::Reason, reason)
            .to_bytes();
        let Ok(bytes) = built else { return };
        let cancel = ClientRequest {
            owner: Owner::Nobody,
            trunk: request.trunk,
            method: Method::Cancel,
            branch: request.branch.clone(),
            to: request.to,
            local: request.local,
            bytes,
        };
        self.send(now, cancel);
    }
}
