//! The one task that owns the switchboard: it feeds it pages, nodes, facts and the clock, and carries out what it says.
pub mod pages;
mod requests;

use crate::ice::IceServers;
use crate::store::{Batch, InboxFact};
use crate::writer::Writer;
use offhook_bus::{Bus, Incoming};
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::{
    Context, DaemonKind, Epoch, ErrorCode, Event, FactRecord, HangupCause, MessageId, NodeRow, RequestError, TenantId,
    UnixMs,
};
use offhook_control_core::{
    Actor, Command, CommandError, CommandReply, IdMaker, Input, NodeReply, Now, Output, Policy, RecordingMode,
    RequestFailure, RequestId, SessionId, StoredCall, Switchboard, Tag, User, UserId,
};
use offhook_runtime::{Gauge, Metrics};
use pages::{Frame, Opened, Pages, Seen};
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What waits for the engine. When it is full, whoever brings more waits too.
const INBOX: usize = 1_024;

/// What the engine is told.
pub enum Message {
    Open(Hello),
    /// Whether a page of this session is there: the sender is used or dropped.
    Probe {
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        alive: oneshot::Sender<()>,
    },
    Detach {
        session: SessionId,
        connection: u64,
    },
    /// A command of a page: answered through the page's own queue.
    PageCommand {
        session: SessionId,
        connection: u64,
        id: u64,
        /// The host under which the page was reached.
        host: Option<Box<str>>,
        actor: Actor,
        command: Command,
    },
    /// Answers a page's command that the engine need not see (a new token, a bad value).
    PageReply {
        session: SessionId,
        connection: u64,
        id: u64,
        reply: String,
    },
    /// Tells a page something outside any call.
    PageEvent {
        session: SessionId,
        kind: &'static str,
    },
    Command {
        actor: Actor,
        command: Command,
        reply: oneshot::Sender<Result<CommandReply, CommandError>>,
    },
    Route {
        incoming: Incoming,
        route: RouteIncoming,
        callee: Option<User>,
        recording: RecordingMode,
    },
    Fact {
        incoming: Incoming,
        record: FactRecord,
    },
    Event {
        context: Context,
        event: Event,
    },
    Nodes(Vec<NodeRow>),
    Answer {
        request: RequestId,
        result: Result<NodeReply, RequestFailure>,
    },
    Policy(Box<Policy>),
    /// No new calls from now on; the sender learns when the last one has ended.
    Drain(oneshot::Sender<()>),
    EndAll(oneshot::Sender<()>),
}

/// A page that has proved who it is.
pub struct Hello {
    pub tenant: TenantId,
    pub user: UserId,
    pub session: Option<SessionId>,
    pub last_seq: Option<u64>,
    /// It brought no session: a page that was opened anew.
    pub fresh: bool,
    pub frames: mpsc::Sender<Frame>,
    pub reply: oneshot::Sender<Result<Opened, TooManyPages>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many pages are open for this user")]
pub struct TooManyPages;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("call-control is stopping")]
pub struct Stopped;

/// The engine's entrance. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    messages: mpsc::Sender<Message>,
}

impl Engine {
    pub async fn send(&self, message: Message) -> Result<(), Stopped> {
        self.messages.send(message).await.map_err(|_| Stopped)
    }

    pub async fn command(&self, actor: Actor, command: Command) -> Result<Result<CommandReply, CommandError>, Stopped> {
        let (reply, answered) = oneshot::channel();
        self.send(Message::Command { actor, command, reply }).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// Whether a page answers for this session within `patience`.
    pub async fn is_alive(&self, caller: (&TenantId, &UserId), session: &SessionId, patience: Duration) -> bool {
        let (alive, answered) = oneshot::channel();
        let (tenant, user) = (caller.0.clone(), caller.1.clone());
        let probe = Message::Probe { tenant, user, session: session.clone(), alive };
        self.send(probe).await.is_ok() && matches!(tokio::time::timeout(patience, answered).await, Ok(Ok(())))
    }

    pub async fn open(
        &self,
        hello: impl FnOnce(oneshot::Sender<Result<Opened, TooManyPages>>) -> Hello,
    ) -> Result<Result<Opened, TooManyPages>, Stopped> {
        let (reply, opened) = oneshot::channel();
        self.send(Message::Open(hello(reply))).await?;
        opened.await.map_err(|_| Stopped)
    }
}

/// What the engine is built from.
pub struct Parts {
    pub policy: Policy,
    pub seed: [u64; 2],
    pub bus: Bus,
    pub epoch: watch::Receiver<Option<Epoch>>,
    pub writer: Writer,
    pub ice: IceServers,
    pub metrics: Metrics,
    pub pages_per_user: usize,
    pub calls: Vec<StoredCall>,
    pub minutes: Vec<(TenantId, u32)>,
}

struct Task {
    board: Switchboard,
    life: String,
    started: Instant,
    pages: Pages,
    waiters: HashMap<Tag, Waiter>,
    routes: HashMap<Tag, Incoming>,
    next_tag: Tag,
    next_connection: u64,
    bus: Bus,
    epoch: watch::Receiver<Option<Epoch>>,
    writer: Writer,
    ice: IceServers,
    pages_per_user: usize,
    /// Weak, so that the engine ends when everybody else has let go of it.
    sender: mpsc::WeakSender<Message>,
    messages: mpsc::Receiver<Message>,
    drained: Option<oneshot::Sender<()>>,
    draining: bool,
    gauges: Gauges,
}

enum Waiter {
    Page { asker: Asker, user: Option<UserId> },
    Caller(oneshot::Sender<Result<CommandReply, CommandError>>),
}

/// Which command of which connection.
#[derive(Debug, Clone)]
struct Asker {
    session: SessionId,
    connection: u64,
    id: u64,
    host: Option<Box<str>>,
}

struct Gauges {
    calls: Gauge,
    legs: Gauge,
    sessions: Gauge,
    websockets: Gauge,
    timers: Gauge,
    requests: Gauge,
    nodes: Gauge,
}

/// Starts the engine with the calls of its former life.
pub fn start(parts: Parts) -> (Engine, watch::Receiver<usize>, tokio::task::JoinHandle<()>) {
    let (sender, messages) = mpsc::channel(INBOX);
    let engine = Engine { messages: sender.clone() };
    let (calls, running) = watch::channel(0);
    let task = Task::new(parts, sender, messages);
    (engine, running, tokio::spawn(task.run(calls)))
}

/// Where the core's monotonic time begins: late enough that calls of a former life began after zero on it.
const CLOCK_START: Duration = Duration::from_secs(30 * 86_400);

impl Task {
    fn new(parts: Parts, sender: mpsc::Sender<Message>, messages: mpsc::Receiver<Message>) -> Self {
        let Parts { policy, seed, bus, epoch, writer, ice, metrics, pages_per_user, calls, minutes } = parts;
        let started = Instant::now();
        let now = Now { at: CLOCK_START, wall: offhook_bus::wall_now() };
        let mut ids = IdMaker::seeded(seed);
        let life = ids.uuid(now.wall).simple().to_string();
        let own = ids.uuid(now.wall).as_u64_pair();
        let mut board = Switchboard::new(policy, IdMaker::seeded([own.0, own.1]), now);
        if !calls.is_empty() {
            tracing::info!(calls = calls.len(), "taking over the calls of the former life");
        }
        board.restore(now, calls, minutes);
        Self {
            board,
            life,
            started,
            pages: Pages::default(),
            waiters: HashMap::new(),
            routes: HashMap::new(),
            next_tag: 1,
            next_connection: 1,
            bus,
            epoch,
            writer,
            ice,
            pages_per_user,
            sender: sender.downgrade(),
            messages,
            drained: None,
            draining: false,
            gauges: Gauges {
                calls: metrics.gauge("calls", "Calls that have not ended"),
                legs: metrics.gauge("legs", "Legs that have not ended"),
                sessions: metrics.gauge("sessions", "Pages with a session, with or without a WebSocket"),
                websockets: metrics.gauge("websockets", "Pages with a WebSocket"),
                timers: metrics.gauge("timers", "Timers of the switchboard; one is the sweep"),
                requests: metrics.gauge("requests_pending", "Requests to nodes without a reply"),
                nodes: metrics.gauge("nodes", "SFUs, gateways and recorders that can be asked"),
            },
        }
    }

    fn now(&self) -> Now {
        Now { at: CLOCK_START + self.started.elapsed(), wall: offhook_bus::wall_now() }
    }

    async fn run(mut self, running: watch::Sender<usize>) {
        self.carry_out(None);
        loop {
            let timer = self.board.poll_timeout().map(|at| self.started + at.saturating_sub(CLOCK_START));
            let next = [timer, self.pages.next_expiry()].into_iter().flatten().min();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                () = sleep => self.timeout(),
            }
            let live = self.show_gauges();
            running.send_if_modified(|n| std::mem::replace(n, live) != live);
            if self.draining
                && live == 0
                && let Some(drained) = self.drained.take()
            {
                // Nobody may wait any more.
                let _ = drained.send(());
            }
        }
    }

    fn show_gauges(&self) -> usize {
        let held = self.board.gauges();
        let show = |gauge: &Gauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        show(&self.gauges.calls, held.calls);
        show(&self.gauges.legs, held.legs);
        show(&self.gauges.timers, held.timers);
        show(&self.gauges.requests, held.requests);
        show(&self.gauges.sessions, self.pages.len());
        show(&self.gauges.websockets, self.pages.attached());
        held.calls
    }

    fn timeout(&mut self) {
        let now = self.now();
        while let Some(session) = self.pages.pop_expired(Instant::now()) {
            self.board.handle_input(now, Input::SessionClosed { session });
        }
        self.board.handle_timeout(now);
        self.carry_out(None);
    }

    fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        self.next_tag
    }

    fn feed(&mut self, input: Input) {
        let now = self.now();
        self.board.handle_input(now, input);
        self.carry_out(None);
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Open(hello) => self.open(hello),
            Message::Detach { session, connection } => {
                if self.pages.detach(&session, connection, Instant::now()) {
                    self.feed(Input::SessionDetached { session });
                }
            }
            Message::PageCommand { session, connection, id, host, actor, command } => {
                self.page_command(Asker { session, connection, id, host }, actor, command);
            }
            Message::Probe { tenant, user, session, alive } => {
                if self.pages.knows(&session, &tenant, &user) {
                    self.pages.probe(&session, alive);
                }
            }
            Message::PageReply { session, connection, id, reply } => match self.pages.seen(&session, connection, id) {
                Seen::New | Seen::InProgress => self.pages.reply(&session, connection, id, reply),
                Seen::Answered(first) => self.pages.send(&session, first),
            },
            Message::PageEvent { session, kind } => {
                let wall = self.now().wall;
                self.pages.tell(&session, kind, None, wall, json!({}));
            }
            Message::Command { actor, command, reply } => {
                if let Some(refusal) = self.no_new_call(&command) {
                    let _ = reply.send(Err(refusal));
                    return;
                }
                let tag = self.tag();
                self.waiters.insert(tag, Waiter::Caller(reply));
                self.feed(Input::Command { tag, actor, command });
            }
            Message::Route { incoming, route, callee, recording } => self.route(incoming, route, callee, recording),
            Message::Fact { incoming, record } => self.fact(incoming, record),
            Message::Event { context, event } => self.feed(Input::Event { context, event }),
            Message::Nodes(rows) => {
                let others = rows.iter().filter(|r| !matches!(r.kind, DaemonKind::Control | DaemonKind::Turn)).count();
                self.gauges.nodes.set(i64::try_from(others).unwrap_or(i64::MAX));
                self.feed(Input::Nodes(rows));
            }
            Message::Answer { request, result } => self.feed(Input::Reply { request, result }),
            Message::Policy(policy) => self.board.set_policy(*policy),
            Message::Drain(drained) => {
                self.draining = true;
                self.drained = Some(drained);
            }
            Message::EndAll(done) => {
                let now = self.now();
                self.board.end_all(now, HangupCause::Drained);
                self.carry_out(None);
                let _ = done.send(());
            }
        }
    }

    fn open(&mut self, hello: Hello) {
        let Hello { tenant, user, session, last_seq, fresh, frames, reply } = hello;
        let known = session.as_ref().filter(|s| self.pages.knows(s, &tenant, &user)).cloned();
        if known.is_none() && self.pages.of_user(&tenant, &user) >= self.pages_per_user {
            let _ = reply.send(Err(TooManyPages));
            return;
        }
        self.next_connection += 1;
        let connection = self.next_connection;
        let resumes = known.is_some();
        let session = match known {
            Some(session) => {
                self.feed(Input::SessionAttached { session: session.clone() });
                session
            }
            None => {
                let Ok(name) = crate::secrets::random_text::<24>() else { return };
                let new = SessionId::new(name);
                self.pages.open(new.clone(), tenant.clone(), user.clone());
                self.feed(Input::SessionOpened { tenant, user, session: new.clone(), former: session });
                new
            }
        };
        let Some((seq, missed)) = self.pages.attach(&session, connection, frames, last_seq) else { return };
        let calls = self.board.calls_for(&session, fresh);
        let missed = missed.filter(|_| resumes);
        let resumed = missed.is_some();
        let opened =
            Opened { session: session.clone(), connection, seq, resumed, calls, missed: missed.unwrap_or_default() };
        if reply.send(Ok(opened)).is_err() && self.pages.detach(&session, connection, Instant::now()) {
            self.feed(Input::SessionDetached { session });
        }
    }

    fn page_command(&mut self, asker: Asker, actor: Actor, command: Command) {
        let Asker { session, connection, id, .. } = &asker;
        match self.pages.seen(session, *connection, *id) {
            Seen::Answered(reply) => return self.pages.send(session, reply),
            Seen::InProgress => return,
            Seen::New => {}
        }
        if let Some(refusal) = self.no_new_call(&command) {
            return self.pages.reply(session, *connection, *id, refused(*id, &refusal));
        }
        let tag = self.tag();
        let user = actor.user.as_ref().map(|u| u.id.clone());
        self.waiters.insert(tag, Waiter::Page { asker, user });
        self.feed(Input::Command { tag, actor, command });
    }

    fn no_new_call(&self, command: &Command) -> Option<CommandError> {
        let (Command::Dial { dialled, .. } | Command::Originate { dialled, .. }) = command else { return None };
        let emergency = self.board.policy().dial.is_emergency(dialled);
        let message = match (self.draining, self.writer.is_behind()) {
            (true, _) => "the server is shutting down",
            // Help comes before the log.
            (_, true) if !emergency => "the database is away",
            _ => return None,
        };
        let code = offhook_control_core::RefusalCode::Unavailable;
        Some(CommandError {
            code,
            message: message.to_owned(),
            cause: Some(HangupCause::Drained).filter(|_| self.draining),
        })
    }

    fn route(&mut self, incoming: Incoming, route: RouteIncoming, callee: Option<User>, recording: RecordingMode) {
        if self.draining || self.writer.is_behind() {
            let cause = if self.draining { HangupCause::Drained } else { HangupCause::Congestion };
            return incoming.reply::<RouteIncoming>(Ok(IncomingRoute::Reject { cause }));
        }
        let tag = self.tag();
        self.routes.insert(tag, incoming);
        self.feed(Input::Incoming { tag, route, callee, recording });
    }

    fn fact(&mut self, incoming: Incoming, record: FactRecord) {
        if self.writer.is_behind() {
            let away = RequestError::new(ErrorCode::Exhausted, "the database is away; send the fact again later");
            return incoming.reply::<StoreFact>(Err(away));
        }
        let now = self.now();
        self.board.handle_input(now, Input::Fact(record.clone()));
        self.carry_out(Some((incoming, record)));
    }

    /// Does what the switchboard says. Rows go to the writer before anybody is told, so that whoever was told reads them.
    fn carry_out(&mut self, fact: Option<(Incoming, FactRecord)>) {
        let wall = self.now().wall;
        let mut batch = Batch::default();
        let mut rest = Vec::new();
        while let Some(output) = self.board.poll_output() {
            match output {
                Output::Write(write) => batch.writes.push(write),
                other => rest.push(other),
            }
        }
        let then = fact.map(|(incoming, record)| {
            batch.fact = Some(InboxFact { record: record.clone(), stored: wall });
            self.after_fact(incoming, record)
        });
        if !batch.writes.is_empty() || batch.fact.is_some() {
            self.writer.write(batch, then);
        }
        for output in rest {
            self.tell(output, wall);
        }
    }

    /// Once a fact is committed its producer may forget it, and everyone else hears of it.
    fn after_fact(&self, incoming: Incoming, record: FactRecord) -> crate::writer::Committed {
        let bus = self.bus.clone();
        Box::new(move || {
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
            let context = Context { tenant: Some(record.tenant.clone()), call: Some(record.call.clone()), epoch: None };
            if let Err(error) = bus.publish(&context, &Event::FactStored(Box::new(record))) {
                tracing::debug!(%error, "a stored fact was not announced");
            }
        })
    }

    fn tell(&mut self, output: Output, wall: UnixMs) {
        match output {
            Output::Reply { tag, result } => self.answer(tag, result),
            Output::Route { tag, decision } => {
                if let Some(incoming) = self.routes.remove(&tag) {
                    incoming.reply::<RouteIncoming>(Ok(decision));
                }
            }
            Output::Notify { session, event } => self.pages.event(&session, &event, wall),
            Output::Request { id, node, tenant, call, body } => {
                let context = Context { tenant, call, epoch: *self.epoch.borrow() };
                let message = MessageId::parse(format!("{}-{id}", self.life));
                let Ok(message) = message else { return };
                let (bus, sender) = (self.bus.clone(), self.sender.clone());
                tokio::spawn(async move {
                    let result = requests::send(&bus, message, node, context, body).await;
                    if let Some(sender) = sender.upgrade() {
                        // The engine is gone when the daemon ends.
                        let _ = sender.send(Message::Answer { request: id, result }).await;
                    }
                });
            }
            Output::Write(_) => {}
        }
    }

    fn answer(&mut self, tag: Tag, result: Result<CommandReply, CommandError>) {
        match self.waiters.remove(&tag) {
            Some(Waiter::Caller(reply)) => {
                // The HTTP client may have gone.
                let _ = reply.send(result);
            }
            Some(Waiter::Page { asker: Asker { session, connection, id, host }, user }) => {
                let text = match result {
                    Ok(reply) => self.accepted(id, reply, user.as_ref(), host.as_deref()),
                    Err(refusal) => refused(id, &refusal),
                };
                self.pages.reply(&session, connection, id, text);
            }
            None => {}
        }
    }

    fn accepted(&mut self, id: u64, reply: CommandReply, user: Option<&UserId>, host: Option<&str>) -> String {
        let now = offhook_bus::wall_now();
        let servers = || user.map(|u| self.ice.for_page(host, u, now)).unwrap_or_default();
        let ok = match reply {
            CommandReply::Call { leg, view, .. } => json!({ "call": view, "leg": leg, "ice_servers": servers() }),
            CommandReply::Joined { answer_sdp, slot_mids, announcer_mid } => json!({
                "answer": answer_sdp,
                "slot_mids": slot_mids,
                "announcer_mid": announcer_mid,
                "ice_servers": servers(),
            }),
        };
        json!({ "re": id, "ok": ok }).to_string()
    }
}

pub fn refused(id: u64, refusal: &CommandError) -> String {
    let CommandError { code, message, cause } = refusal;
    match cause {
        Some(cause) => json!({ "re": id, "error": { "code": code, "message": message, "cause": cause } }).to_string(),
        None => json!({ "re": id, "error": { "code": code, "message": message } }).to_string(),
    }
}
