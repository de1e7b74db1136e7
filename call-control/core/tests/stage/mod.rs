//! A switchboard in virtual time with nodes that answer by themselves, or are held back.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::dial::NumberingPlan;
use offhook_contract::gateway::*;
use offhook_contract::link::{LinkKey, LinkProfile};
use offhook_contract::node::{NodeState, TrunkState};
use offhook_contract::recorder::*;
use offhook_contract::sfu::*;
use offhook_contract::*;
use offhook_control_core::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

pub const START: u64 = 1_800_000_000_000;

pub struct Stage {
    pub board: Switchboard,
    at: Duration,
    next_tag: Tag,
    next_sequence: u64,
    pub replies: HashMap<Tag, Result<CommandReply, CommandError>>,
    pub routes: HashMap<Tag, IncomingRoute>,
    /// Every request that went out, in order.
    pub asked: Vec<(NodeId, NodeRequest)>,
    /// Requests whose name stands in `hold` wait here.
    pub waiting: Vec<(RequestId, NodeId, NodeRequest)>,
    contexts: HashMap<RequestId, Option<CallId>>,
    hold: HashSet<&'static str>,
    refuse: HashMap<&'static str, RequestFailure>,
    pub told: HashMap<String, Vec<ClientEvent>>,
    pub db: Database,
    /// What the nodes carry, as inventories say it.
    pub rooms: BTreeMap<RoomId, RoomRow>,
    pub telephones: BTreeMap<LegId, TelephoneLegRow>,
    pub recordings: BTreeMap<RecordingId, RecordingRow>,
    seed: u64,
}

/// What was written, as the rows stand.
#[derive(Default, Debug, Clone)]
pub struct Database {
    pub calls: BTreeMap<CallId, CallRow>,
    pub legs: BTreeMap<LegId, LegRow>,
    pub events: BTreeMap<String, CallEventRow>,
    pub recordings: BTreeMap<RecordingId, (RecordingWord, Option<String>, Option<NodeId>, CallId)>,
    pub consent: Vec<ConsentRow>,
    /// How often a call was written as ended for the first time.
    pub ends: HashMap<CallId, u32>,
}

pub fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}
pub fn user(name: &str) -> User {
    let extension = match name {
        "alice" => "101",
        "bob" => "102",
        "carol" => "103",
        other => panic!("{other} is not on stage"),
    };
    User { id: UserId::new(format!("id-{name}")), name: name.to_owned(), extension: extension.to_owned() }
}
pub fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
fn node_id(kind: DaemonKind) -> NodeId {
    NodeId::parse(format!("{kind}-1")).unwrap()
}

pub fn row(kind: DaemonKind, name: &str, boot: &str) -> NodeRow {
    let trunk = |name: &str, emergency| TrunkState { trunk: TrunkName::parse(name).unwrap(), up: true, emergency };
    NodeRow {
        node: NodeId::parse(name).unwrap(),
        kind,
        boot: BootId::parse(boot).unwrap(),
        version: "0".into(),
        started_ms: UnixMs(START),
        state: NodeState::Ready,
        load: 0,
        capacity: 10,
        media_addresses: Vec::new(),
        certificate_fingerprint: Some("ab".repeat(32)),
        trunks: if kind == DaemonKind::Sip { vec![trunk("carrier", false)] } else { Vec::new() },
    }
}

pub fn policy() -> Policy {
    let dial = DialRules { allowed_prefixes: vec!["+49".into()], max_concurrent_calls: 2, ..DialRules::default() };
    let trunk = TrunkRule { name: TrunkName::parse("carrier").unwrap(), tenant: tenant(), emergency: false };
    let numbering = NumberingPlan { country_code: Some("49".into()), ..NumberingPlan::default() };
    Policy { dial, numbering, trunks: vec![trunk], ..Policy::default() }
}

impl Stage {
    pub fn new() -> Self {
        Self::with(policy())
    }

    pub fn with(policy: Policy) -> Self {
        let at = secs(1);
        let mut stage = Self {
            board: Switchboard::new(policy, IdMaker::seeded([1, 2]), now(at)),
            at,
            next_tag: 0,
            next_sequence: 0,
            replies: HashMap::new(),
            routes: HashMap::new(),
            asked: Vec::new(),
            waiting: Vec::new(),
            contexts: HashMap::new(),
            hold: HashSet::new(),
            refuse: HashMap::new(),
            told: HashMap::new(),
            db: Database::default(),
            rooms: BTreeMap::new(),
            telephones: BTreeMap::new(),
            recordings: BTreeMap::new(),
            seed: 3,
        };
        stage.nodes_are(&[DaemonKind::Sfu, DaemonKind::Sip, DaemonKind::Recorder]);
        stage
    }

    pub fn nodes_are(&mut self, kinds: &[DaemonKind]) {
        let rows = kinds.iter().map(|k| row(*k, node_id(*k).as_str(), "boot-1")).collect();
        self.input(Input::Nodes(rows));
    }

    /// The daemon dies and comes back with what the database has; nodes carry on.
    pub fn kill_and_restart(&mut self) {
        self.waiting.clear();
        self.told.clear();
        self.seed += 7;
        let policy = self.board.policy().clone();
        self.at += secs(2);
        let base = self.at;
        self.board = Switchboard::new(policy, IdMaker::seeded([self.seed, 9]), now(base));
        let running = self.db.calls.values().filter(|c| c.ended.is_none()).cloned().collect::<Vec<_>>();
        let stored = running.into_iter().map(|call| {
            let mut legs: Vec<LegRow> = self.db.legs.values().filter(|l| l.call == call.id).cloned().collect();
            legs.sort_by_key(|l| l.position);
            let recording = self.db.recordings.iter().find(|(_, r)| r.3 == call.id);
            let recording = recording.map(|(id, (word, _, node, _))| (id.clone(), *word, node.clone()));
            StoredCall { call, legs, recording }
        });
        let stored: Vec<_> = stored.collect();
        self.board.restore(now(self.at), stored, Vec::new());
        self.drain();
        self.nodes_are(&[DaemonKind::Sfu, DaemonKind::Sip, DaemonKind::Recorder]);
    }

    pub fn now(&self) -> Now {
        now(self.at)
    }

    pub fn input(&mut self, input: Input) {
        self.board.handle_input(now(self.at), input);
        self.drain();
    }

    pub fn advance(&mut self, by: Duration) {
        let until = self.at + by;
        while let Some(next) = self.board.poll_timeout().filter(|next| *next <= until) {
            self.at = next.max(self.at);
            self.board.handle_timeout(now(self.at));
            self.drain();
        }
        self.at = until;
    }

    fn drain(&mut self) {
        while let Some(output) = self.board.poll_output() {
            match output {
                Output::Reply { tag, result } => {
                    assert!(self.replies.insert(tag, result).is_none(), "one reply per command");
                }
                Output::Route { tag, decision } => {
                    self.routes.insert(tag, decision);
                }
                Output::Notify { session, event } => {
                    self.told.entry(session.as_str().to_owned()).or_default().push(event);
                }
                Output::Write(write) => self.db.apply(write),
                Output::Request { id, node, tenant, call, body } => {
                    self.asked.push((node.clone(), body.clone()));
                    if self.hold.contains(name(&body)) {
                        self.contexts.insert(id, call);
                        self.waiting.push((id, node, body));
                    } else {
                        let result = self.node_answers(&node, tenant, call, body);
                        self.board.handle_input(now(self.at), Input::Reply { request: id, result });
                    }
                }
            }
        }
    }

    /// Requests of this name are not answered until [`Stage::release`].
    pub fn hold(&mut self, name: &'static str) {
        self.hold.insert(name);
    }

    pub fn release(&mut self, request: &'static str) {
        self.hold.remove(request);
        let (now_free, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, _, body)| name(body) == request);
        self.waiting = still;
        for (id, node, body) in now_free {
            let call = self.contexts.remove(&id).flatten();
            let result = self.node_answers(&node, Some(tenant()), call, body);
            self.input(Input::Reply { request: id, result });
        }
    }

    /// What was held back is answered no more; what comes from now on is answered at once.
    pub fn forget_held(&mut self, request: &'static str) {
        self.hold.remove(request);
        self.waiting.retain(|(_, _, body)| name(body) != request);
    }

    pub fn refuse(&mut self, request: &'static str, code: ErrorCode, message: &str) {
        self.refuse.insert(request, RequestFailure::Refused(RequestError::new(code, message)));
    }
    pub fn unreachable(&mut self, request: &'static str) {
        self.refuse.insert(request, RequestFailure::Unreachable);
    }
    pub fn reachable(&mut self, request: &'static str) {
        self.refuse.remove(request);
    }

    fn node_answers(
        &mut self,
        _node: &NodeId,
        tenant: Option<TenantId>,
        call: Option<CallId>,
        body: NodeRequest,
    ) -> Result<NodeReply, RequestFailure> {
        if let Some(failure) = self.refuse.get(name(&body)) {
            return Err(failure.clone());
        }
        let wall = now(self.at).wall;
        Ok(match body {
            NodeRequest::OpenRoom(open) => {
                let row = RoomRow {
                    room: open.room.clone(),
                    tenant: tenant.unwrap(),
                    call: call.unwrap_or_else(|| CallId::parse(open.room.as_str()).unwrap()),
                    epoch: None,
                    kind: open.kind,
                    opened_ms: wall,
                    legs: Vec::new(),
                    taps: Vec::new(),
                };
                self.rooms.insert(open.room, row);
                NodeReply::Done
            }
            NodeRequest::JoinPeer(join) => {
                self.place(&join.room, &join.leg, LegTransport::Peer)?;
                NodeReply::PeerJoined(PeerJoined {
                    answer_sdp: format!("answer to {}", join.offer_sdp),
                    slot_mids: vec!["1".into()],
                    announcer_mid: Some("5".into()),
                })
            }
            NodeRequest::OpenLink(link) => {
                self.place(&link.room, &link.leg, LegTransport::Link)?;
                NodeReply::LinkOffer(offer())
            }
            NodeRequest::ConnectLink(connect) => {
                let rows = self.rooms.get_mut(&connect.room).into_iter().flat_map(|r| r.legs.iter_mut());
                rows.filter(|l| l.leg == connect.leg).for_each(|l| l.connected = true);
                NodeReply::Done
            }
            NodeRequest::CloseRoom(close) => {
                self.rooms.remove(&close.room);
                NodeReply::Done
            }
            NodeRequest::DialTelephone(dial) => {
                self.carry(&dial.leg, call, true);
                NodeReply::Dialled(TelephoneDialled { link: answer(), sip_call_id: "sip".into() })
            }
            NodeRequest::AnswerTelephone(_) => NodeReply::Answered(TelephoneAnswered { link: answer() }),
            NodeRequest::HangUpTelephone(hang) => {
                self.telephones.remove(&hang.leg);
                NodeReply::Done
            }
            NodeRequest::OpenTap(tap) => NodeReply::Tap(TapOffer {
                recording: tap.recording,
                addresses: Vec::new(),
                fingerprint: "cd".repeat(32),
                token: Secret::new("t"),
            }),
            NodeRequest::SfuInventory(_) => {
                NodeReply::Sfu(SfuInventory { rooms: self.rooms.values().cloned().collect() })
            }
            NodeRequest::GatewayInventory(_) => NodeReply::Gateway(GatewayInventory {
                legs: self.telephones.values().cloned().collect(),
                trunks: Vec::new(),
            }),
            NodeRequest::StartRecording(start) => {
                let row = RecordingRow {
                    recording: start.recording.clone(),
                    call: call.unwrap(),
                    tenant: tenant.unwrap(),
                    epoch: None,
                    state: RecordingState::Recording,
                    segment: 1,
                };
                self.recordings.insert(start.recording, row);
                NodeReply::Done
            }
            NodeRequest::StopRecording(stop) => {
                self.recordings.remove(&stop.recording);
                NodeReply::Done
            }
            NodeRequest::RecorderInventory(_) => {
                NodeReply::Recorder(RecorderInventory { recordings: self.recordings.values().cloned().collect() })
            }
            _ => NodeReply::Done,
        })
    }

    fn place(&mut self, room: &RoomId, leg: &LegId, transport: LegTransport) -> Result<(), RequestFailure> {
        let missing = || RequestFailure::Refused(RequestError::new(ErrorCode::NotFound, "no such room"));
        let row = self.rooms.get_mut(room).ok_or_else(missing)?;
        row.legs.retain(|l| l.leg != *leg);
        row.legs.push(RoomLegRow { leg: leg.clone(), transport, connected: false, muted: false, held: false });
        Ok(())
    }

    fn carry(&mut self, leg: &LegId, call: Option<CallId>, outbound: bool) {
        let row = TelephoneLegRow {
            leg: leg.clone(),
            call: call.unwrap(),
            tenant: tenant(),
            epoch: None,
            trunk: TrunkName::parse("carrier").unwrap(),
            outbound,
            number: None,
            state: TelephoneState::Talking,
            since_ms: UnixMs(START),
            sip_call_id: "sip".into(),
        };
        self.telephones.insert(leg.clone(), row);
    }

    pub fn forget(&mut self, page: &str) {
        self.told.remove(page);
    }
}

// Pages and their commands.
impl Stage {
    /// `page` is `<user>` or `<user>-<n>` for further pages of the same user.
    pub fn page(&mut self, page: &str) {
        let user = user(person(page));
        let session = SessionId::new(page);
        self.input(Input::SessionOpened { tenant: tenant(), user: user.id, session, former: None });
    }
    pub fn reconnect(&mut self, page: &str) {
        self.input(Input::SessionAttached { session: SessionId::new(page) });
    }
    pub fn disconnect(&mut self, page: &str) {
        self.input(Input::SessionDetached { session: SessionId::new(page) });
    }

    pub fn command(&mut self, page: &str, command: Command) -> Tag {
        self.next_tag += 1;
        let tag = self.next_tag;
        let actor = Actor { tenant: tenant(), user: Some(user(person(page))), session: Some(SessionId::new(page)) };
        self.input(Input::Command { tag, actor, command });
        tag
    }

    pub fn ok(&mut self, page: &str, command: Command) -> CallView {
        let said = format!("{command:?}");
        let tag = self.command(page, command);
        match self.replies.remove(&tag) {
            Some(Ok(CommandReply::Call { view, .. })) => {
                // The page takes it as it takes an event.
                self.told.entry(page.to_owned()).or_default().push(ClientEvent::CallUpdated(view.clone()));
                *view
            }
            other => panic!("{page}: {said} gave {other:?}"),
        }
    }

    pub fn refused(&mut self, page: &str, command: Command) -> CommandError {
        let said = format!("{command:?}");
        let tag = self.command(page, command);
        match self.replies.remove(&tag) {
            Some(Err(refusal)) => refusal,
            other => panic!("{page}: {said} gave {other:?}"),
        }
    }

    pub fn dial_command(&self, to: &str, recording: RecordingMode) -> Command {
        let callee = ["alice", "bob", "carol"].into_iter().map(user).find(|u| u.extension == to);
        Command::Dial { dialled: to.into(), callee, recording }
    }
    pub fn dial(&mut self, page: &str, to: &str) -> CallId {
        self.dial_recorded(page, to, RecordingMode::Off)
    }
    pub fn dial_recorded(&mut self, page: &str, to: &str, recording: RecordingMode) -> CallId {
        let command = self.dial_command(to, recording);
        self.ok(page, command).id
    }
    pub fn dial_refused(&mut self, page: &str, to: &str) -> CommandError {
        let command = self.dial_command(to, RecordingMode::Off);
        self.refused(page, command)
    }

    /// Joins and has the media come up.
    pub fn join(&mut self, page: &str, call: &CallId) {
        let tag = self.join_only(page, call);
        assert!(matches!(self.replies.remove(&tag), Some(Ok(CommandReply::Joined { .. }))), "{page} could not join");
        self.connected(page, call);
    }
    pub fn join_only(&mut self, page: &str, call: &CallId) -> Tag {
        self.command(page, Command::Join { call: call.clone(), offer_sdp: format!("offer of {page}") })
    }
    pub fn connected(&mut self, page: &str, call: &CallId) {
        let leg = self.leg_of(page, call);
        let room = RoomId::from(call);
        let rows = self.rooms.get_mut(&room).into_iter().flat_map(|r| r.legs.iter_mut());
        rows.filter(|l| l.leg == leg).for_each(|l| l.connected = true);
        let event = Event::PeerConnected(event::PeerConnected { room, leg, srtp_profile: String::new() });
        self.event(call, event);
    }
    pub fn answer(&mut self, page: &str, call: &CallId) -> CallView {
        self.ok(page, Command::Answer { call: call.clone() })
    }
    pub fn hang_up(&mut self, page: &str, call: &CallId) {
        self.ok(page, Command::HangUp { call: call.clone() });
    }

    /// alice and bob talk, recorded by `mode`.
    pub fn talking(&mut self, mode: RecordingMode) -> CallId {
        self.page("alice");
        self.page("bob");
        let call = self.dial_recorded("alice", "102", mode);
        self.join("alice", &call);
        self.answer("bob", &call);
        self.join("bob", &call);
        call
    }

    /// alice talks to a telephone.
    pub fn talking_to_telephone(&mut self, mode: RecordingMode) -> CallId {
        self.page("alice");
        let call = self.dial_recorded("alice", "+4930123456", mode);
        self.join("alice", &call);
        self.fact(&call, Fact::LegAnswered { leg: self.telephone(&call) });
        call
    }
}

// What nodes tell.
impl Stage {
    pub fn event(&mut self, call: &CallId, event: Event) {
        let context = Context { tenant: Some(tenant()), call: Some(call.clone()), epoch: None };
        self.input(Input::Event { context, event });
    }

    pub fn fact(&mut self, call: &CallId, fact: Fact) -> FactRecord {
        self.next_sequence += 1;
        let record = FactRecord {
            producer: "outbox".into(),
            sequence: self.next_sequence,
            tenant: tenant(),
            call: call.clone(),
            at_ms: now(self.at).wall,
            fact,
        };
        self.input(Input::Fact(record.clone()));
        record
    }

    /// A telephone calls bob.
    pub fn incoming(&mut self, callee: Option<&str>) -> IncomingRoute {
        self.incoming_recorded(callee, RecordingMode::Off)
    }
    pub fn incoming_recorded(&mut self, callee: Option<&str>, recording: RecordingMode) -> IncomingRoute {
        self.next_tag += 1;
        let tag = self.next_tag;
        let route = RouteIncoming {
            gateway: node_id(DaemonKind::Sip),
            trunk: TrunkName::parse("carrier").unwrap(),
            tenant: tenant(),
            to: PhoneNumber::try_from("+4930555".to_owned()).unwrap(),
            from: Some(PhoneNumber::try_from("+4989777".to_owned()).unwrap()),
            from_name: None,
            sip_call_id: format!("sip-{tag}"),
        };
        self.input(Input::Incoming { tag, route, callee: callee.map(user), recording });
        let decision = self.routes.remove(&tag).expect("the gateway waits for a decision");
        if let IncomingRoute::Accept { call, leg } = &decision {
            self.carry(leg, Some(call.clone()), false);
        }
        decision
    }
    pub fn accepted(&mut self, callee: &str) -> (CallId, LegId) {
        match self.incoming(Some(callee)) {
            IncomingRoute::Accept { call, leg } => (call, leg),
            IncomingRoute::Reject { cause } => panic!("rejected: {cause:?}"),
        }
    }
}

// What became of it.
impl Stage {
    pub fn leg_of(&self, page: &str, call: &CallId) -> LegId {
        let id = user(person(page)).id;
        let mut legs = self.db.legs.values().filter(|l| l.call == *call);
        legs.find(|l| l.user.as_ref() == Some(&id)).expect("a leg of the user").id.clone()
    }
    pub fn telephone(&self, call: &CallId) -> LegId {
        let mut legs = self.db.legs.values().filter(|l| l.call == *call);
        legs.find(|l| l.kind == PartyKind::Telephone).expect("a telephone").id.clone()
    }
    pub fn row(&self, call: &CallId) -> &CallRow {
        &self.db.calls[call]
    }
    pub fn cause(&self, call: &CallId) -> Option<HangupCause> {
        self.row(call).cause
    }

    /// What the page saw last of any call.
    pub fn view(&self, page: &str) -> CallView {
        let events = self.told.get(page).unwrap_or_else(|| panic!("{page} was told nothing"));
        let views = events.iter().rev().find_map(|e| match e {
            ClientEvent::CallUpdated(view) | ClientEvent::CallEnded(view) => Some((**view).clone()),
            _ => None,
        });
        views.unwrap_or_else(|| panic!("{page} saw no call"))
    }
    pub fn times_ended(&self, page: &str) -> usize {
        let events = self.told.get(page).map(Vec::as_slice).unwrap_or_default();
        events.iter().filter(|e| matches!(e, ClientEvent::CallEnded(_))).count()
    }

    pub fn was_asked(&self, request: &str) -> usize {
        self.asked.iter().filter(|(_, body)| name(body) == request).count()
    }
    pub fn last<T>(&self, pick: impl Fn(&NodeRequest) -> Option<T>) -> T {
        self.asked.iter().rev().find_map(|(_, body)| pick(body)).expect("it was never asked")
    }

    /// Nobody holds anything any more: no call, leg, timer but the sweep, request, room or telephone.
    pub fn expect_nothing_left(&mut self) {
        let gauges = self.board.gauges();
        let sessions = gauges.sessions;
        assert_eq!(gauges, Gauges { sessions, timers: 1, ..Gauges::default() });
        assert!(self.rooms.is_empty() && self.telephones.is_empty(), "{:?} {:?}", self.rooms, self.telephones);
        assert!(self.waiting.is_empty());
        for (call, row) in &self.db.calls {
            assert!(row.ended.is_some() && row.cause.is_some(), "{call} has not ended in the log");
            assert_eq!(self.db.ends[call], 1, "{call} ended once");
        }
        for leg in self.db.legs.values() {
            assert_eq!(leg.state, LegWord::Ended, "a leg has not ended in the log");
        }
    }
}

impl Database {
    fn apply(&mut self, write: Write) {
        match write {
            Write::Call(row) => {
                let before = self.calls.insert(row.id.clone(), (*row).clone());
                if row.ended.is_some() && before.is_none_or(|b| b.ended.is_none()) {
                    *self.ends.entry(row.id.clone()).or_default() += 1;
                }
            }
            Write::Leg(row) => {
                self.legs.insert(row.id.clone(), *row);
            }
            Write::Event(row) => {
                self.events.entry(format!("{}:{}", row.call, row.id)).or_insert(row);
            }
            Write::Consent(row) => {
                if !self.consent.contains(&row) {
                    self.consent.push(row);
                }
            }
            Write::Recording { call, recording, outcome, .. } => {
                let entry = self.recordings.entry(recording).or_insert((RecordingWord::Starting, None, None, call));
                match outcome {
                    RecordingOutcome::Asked { recorder } => entry.2 = recorder.or(entry.2.take()),
                    RecordingOutcome::State { state, reason } => {
                        if !matches!(entry.0, RecordingWord::Failed | RecordingWord::Stopped) {
                            (entry.0, entry.1) = (state, reason.map(|r| r.sentence));
                        }
                    }
                    RecordingOutcome::Segment { .. } => {
                        if entry.0 == RecordingWord::Starting {
                            entry.0 = RecordingWord::Recording;
                        }
                    }
                    RecordingOutcome::Finished { .. } => {
                        if entry.0 != RecordingWord::Failed {
                            entry.0 = RecordingWord::Stopped;
                        }
                    }
                }
            }
        }
    }
}

fn now(at: Duration) -> Now {
    Now { at, wall: UnixMs(START + u64::try_from(at.as_millis()).unwrap()) }
}

fn person(page: &str) -> &str {
    page.split('-').next().unwrap()
}

fn key() -> LinkKey {
    LinkKey { profile: LinkProfile::AeadAes128Gcm, key: Secret::new("k"), salt: Secret::new("s") }
}
fn offer() -> LinkOffer {
    LinkOffer {
        addresses: Vec::new(),
        key: key(),
        slot_ssrcs: vec![1],
        announcer_ssrc: 2,
        codecs: vec![CodecName::Pcma],
        source_id: 3,
    }
}
fn answer() -> LinkAnswer {
    LinkAnswer { addresses: Vec::new(), key: key(), ssrc: 4, codecs: vec![CodecName::Pcma] }
}

pub fn name(body: &NodeRequest) -> &'static str {
    match body {
        NodeRequest::OpenRoom(_) => "open_room",
        NodeRequest::JoinPeer(_) => "join_peer",
        NodeRequest::OpenLink(_) => "open_link",
        NodeRequest::ConnectLink(_) => "connect_link",
        NodeRequest::RemoveLeg(_) => "remove_leg",
        NodeRequest::CloseRoom(_) => "close_room",
        NodeRequest::MuteLeg(_) => "mute_leg",
        NodeRequest::HoldLeg(_) => "hold_leg",
        NodeRequest::OpenTap(_) => "open_tap",
        NodeRequest::CloseTap(_) => "close_tap",
        NodeRequest::DialTelephone(_) => "dial_telephone",
        NodeRequest::RingTelephone(_) => "ring_telephone",
        NodeRequest::AnswerTelephone(_) => "answer_telephone",
        NodeRequest::HangUpTelephone(_) => "hang_up_telephone",
        NodeRequest::SendDigits(_) => "send_digits",
        NodeRequest::HoldTelephone(_) => "hold_telephone",
        NodeRequest::StartRecording(_) => "start_recording",
        NodeRequest::StopRecording(_) => "stop_recording",
        NodeRequest::SfuInventory(_) | NodeRequest::GatewayInventory(_) | NodeRequest::RecorderInventory(_) => {
            "inventory"
        }
    }
}
