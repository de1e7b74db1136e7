//! The WebSocket: hello, commands, events. One task per connection; the engine owns the session behind it.
use super::auth::{Caller, Source};
use super::body::is_too_deep;
use super::problem::Problem;
use super::source::Bucket;
use super::{App, Disabled, Shared};
use crate::engine::pages::{Frame, Opened, QUEUE};
use crate::engine::{Hello, Message as ToEngine, TooManyPages, refused};
use crate::ice;
use crate::store::{Store, UserRow};
use crate::tokens::Subject;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use offhook_bus::wall_now;
use offhook_contract::{CallId, TenantId};
use offhook_control_core::{Actor, Command, CommandError, RefusalCode, SessionId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

pub const MAX_FRAME_BYTES: usize = 64 * 1024;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const PING_PERIOD: Duration = Duration::from_secs(20);
/// A page that says nothing, not even pong.
const SILENCE: Duration = Duration::from_secs(60);
/// For a page to answer a ping when another one claims its session.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a token ends its page is told to bring a new one.
const EXPIRY_NOTICE: Duration = Duration::from_secs(60);
const MAX_TEXT: usize = 64;

const REFUSED: u16 = 4401;
const UNREADABLE: u16 = 4400;
/// RFC 6455 §7.4.1.
const NOT_TEXT: u16 = 1003;
const TOO_LONG: u16 = 1009;
const TOO_FAST: u16 = 4429;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HelloFrame {
    op: HelloWord,
    token: String,
    session: Option<String>,
    last_seq: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum HelloWord {
    Hello,
}

#[derive(Deserialize)]
struct CommandFrame {
    id: u64,
    #[serde(flatten)]
    op: Op,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Op {
    Dial { to: String },
    Answer { call: CallId },
    Join { call: CallId, offer: String },
    Reject { call: CallId },
    Hangup { call: CallId },
    Mute { call: CallId, muted: bool },
    Hold { call: CallId, held: bool },
    Digits { call: CallId, digits: String },
    Record { call: CallId, on: bool },
    Token { token: String },
}

/// Only pages that we served, or origins that the operator named, may open a WebSocket from a browser. Programs that
/// are no browsers send no Origin.
fn origin_is_ours(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let host = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let same = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")) == Some(host);
    (same && !host.is_empty()) || allowed.iter().any(|a| a == origin)
}

pub async fn open(
    State(app): State<Shared>,
    Source(source): Source,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if !origin_is_ours(&headers, &app.allowed_origins) {
        return Err(Problem::forbidden("this origin may not open a WebSocket"));
    }
    let host = ice::page_host(&headers);
    let upgrade = upgrade.map_err(|_| Problem::invalid("this address speaks WebSocket only"))?;
    let bounded = upgrade.max_message_size(MAX_FRAME_BYTES).max_frame_size(MAX_FRAME_BYTES);
    Ok(bounded.on_upgrade(move |socket| async move {
        if let Some(talk) = greet(app, socket, source, host).await {
            talk.run().await;
        }
    }))
}

/// Reads the hello and opens the session, or says why not.
async fn greet(app: Shared, mut socket: WebSocket, source: std::net::IpAddr, host: Option<Box<str>>) -> Option<Talk> {
    let hello = match timeout(HELLO_TIMEOUT, next_text(&mut socket)).await {
        Err(_) => return refuse(&app, source, socket, "hello_timeout", "no hello came within 5 s").await,
        Ok(None) => return None,
        Ok(Some(text)) => serde_json::from_str::<HelloFrame>(&text),
    };
    let Ok(HelloFrame { op: HelloWord::Hello, token, session, last_seq }) = hello else {
        return refuse(&app, source, socket, "invalid", "the first frame is {op:\"hello\", token}").await;
    };
    let (caller, subject) = match app.page_caller(&token, source).await {
        Ok(found) => found,
        Err(problem) => return refuse(&app, source, socket, problem.code, &problem.to_string()).await,
    };
    let user = caller.user()?.clone();
    let me = match app.me_of(&user).await {
        Ok(me) => me,
        Err(problem) => return refuse(&app, source, socket, problem.code, &problem.to_string()).await,
    };
    let session = session.filter(|s| !s.is_empty() && s.len() <= MAX_TEXT).map(SessionId::new);
    let fresh = session.is_none();
    // A second page that found the session of the first (in storage they share) is a page of its own; a page whose
    // former connection is dead takes its session back.
    let session = match session {
        Some(taken) if app.engine.is_alive((&caller.tenant, &user.id), &taken, PROBE_TIMEOUT).await => None,
        session => session,
    };
    let (frames, queue) = mpsc::channel(QUEUE);
    let (tenant, id) = (caller.tenant.clone(), user.id.clone());
    let opened = app.engine.open(|reply| Hello { tenant, user: id, session, last_seq, fresh, frames, reply }).await;
    let opened: Opened = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(error @ TooManyPages)) => {
            return refuse(&app, source, socket, "limit_reached", &error.to_string()).await;
        }
        Err(stopped) => return refuse(&app, source, socket, "unavailable", &stopped.to_string()).await,
    };
    let talk = Talk {
        bucket: Bucket::full(app.commands_per_s, std::time::Instant::now()),
        session: opened.session.clone(),
        connection: opened.connection,
        app,
        socket,
        queue,
        user,
        source,
        host,
        expires: until(&subject),
        warned: false,
        probes: Vec::new(),
    };
    talk.ready(opened, me).await
}

fn until(subject: &Subject) -> Instant {
    Instant::now() + Duration::from_millis(subject.expires.since(wall_now()))
}

/// Says why in a frame and in the close code.
async fn refuse(
    app: &App,
    source: std::net::IpAddr,
    mut socket: WebSocket,
    code: &'static str,
    message: &str,
) -> Option<Talk> {
    app.refused.say(source, "WebSocket", code, message);
    let frame = json!({ "type": "refused", "code": code, "message": message }).to_string();
    let closing = async {
        socket.send(Message::Text(frame.into())).await?;
        close(&mut socket, REFUSED, "refused").await
    };
    // Whoever does not listen is left behind.
    let _ = timeout(SEND_TIMEOUT, closing).await;
    None
}

async fn close(socket: &mut WebSocket, code: u16, reason: &'static str) -> Result<(), axum::Error> {
    socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await
}

async fn next_text(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Message::Text(text)) => return Some(text.to_string()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_)) | Err(_) => return None,
        }
    }
}

struct Talk {
    app: Shared,
    socket: WebSocket,
    queue: mpsc::Receiver<Frame>,
    session: SessionId,
    connection: u64,
    user: UserRow,
    source: std::net::IpAddr,
    /// Under which the page was reached.
    host: Option<Box<str>>,
    expires: Instant,
    warned: bool,
    bucket: Bucket,
    /// Who waits to hear that the page lives.
    probes: Vec<oneshot::Sender<()>>,
}

/// Why a connection ends: a close code with its word, or a socket that is gone already.
enum End {
    Close(u16, &'static str),
    Gone,
}

impl Talk {
    async fn ready(mut self, opened: Opened, me: super::me::Me) -> Option<Self> {
        let ice = self.app.ice.for_page(self.host.as_deref(), &self.user.id, wall_now());
        let frame = json!({
            "type": "ready",
            "session": opened.session,
            "seq": opened.seq,
            "resumed": opened.resumed,
            "me": me,
            "ice_servers": ice,
            "calls": opened.calls,
        });
        let mut sent = self.send(frame.to_string()).await;
        for missed in opened.missed {
            sent = sent.and(self.send(missed).await);
        }
        match sent {
            Ok(()) => Some(self),
            Err(_) => {
                self.detach().await;
                None
            }
        }
    }

    async fn detach(&mut self) {
        let gone = ToEngine::Detach { session: self.session.clone(), connection: self.connection };
        // The engine is gone when the process ends.
        let _ = self.app.engine.send(gone).await;
    }

    async fn run(mut self) {
        let end = self.talk().await;
        self.detach().await;
        if let End::Close(code, reason) = end {
            if [UNREADABLE, TOO_FAST, NOT_TEXT, TOO_LONG].contains(&code) {
                self.app.refused.say(self.source, "WebSocket", "frame", reason);
            }
            let _ = timeout(SEND_TIMEOUT, close(&mut self.socket, code, reason)).await;
        }
    }

    async fn talk(&mut self) -> End {
        let mut ping = tokio::time::interval_at(Instant::now() + PING_PERIOD, PING_PERIOD);
        let mut heard = Instant::now();
        let user = (self.user.tenant.clone(), self.user.id.clone());
        let disabled = is_disabled(self.app.store.clone(), self.app.disabled.clone(), user);
        tokio::pin!(disabled);
        loop {
            let expiry = if self.warned {
                self.expires
            } else {
                self.expires - EXPIRY_NOTICE.min(self.expires - Instant::now())
            };
            let turn = tokio::select! {
                frame = self.queue.recv() => match frame {
                    Some(Frame::Text(text)) => self.send(text).await,
                    Some(Frame::Close { code, reason }) => Err(End::Close(code, reason)),
                    Some(Frame::Probe(alive)) => {
                        self.probes.push(alive);
                        self.put(Message::Ping(Vec::new().into())).await
                    }
                    None => Err(End::Gone),
                },
                message = self.socket.recv() => {
                    heard = Instant::now();
                    self.heard(message).await
                }
                _ = ping.tick() => match heard.elapsed() > SILENCE {
                    true => Err(End::Close(4408, "nothing was heard for 60 s")),
                    false => self.put(Message::Ping(Vec::new().into())).await,
                },
                () = tokio::time::sleep_until(expiry) => self.expiring().await,
                () = &mut disabled => Err(End::Close(REFUSED, "the user is disabled")),
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    async fn expiring(&mut self) -> Result<(), End> {
        if self.warned {
            return Err(End::Close(REFUSED, "the access token has expired"));
        }
        self.warned = true;
        let event = ToEngine::PageEvent { session: self.session.clone(), kind: "token.expiring" };
        self.app.engine.send(event).await.map_err(|_| End::Gone)
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_TIMEOUT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.put(Message::Text(text.into())).await
    }

    async fn heard(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        if matches!(message, Some(Ok(_))) {
            for alive in self.probes.drain(..) {
                // Whoever asked may have stopped waiting.
                let _ = alive.send(());
            }
        }
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => return Err(End::Close(NOT_TEXT, "frames are text")),
            Some(Err(error)) if is_too_long(&error) => {
                return Err(End::Close(TOO_LONG, "a frame is longer than 64 KiB"));
            }
            Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return Err(End::Gone),
        };
        let limit = self.app.commands_per_s;
        if !self.bucket.take(f64::from(limit), limit, std::time::Instant::now()) {
            return Err(End::Close(TOO_FAST, "too many commands"));
        }
        if is_too_deep(text.as_bytes()) {
            return Err(End::Close(UNREADABLE, "unreadable frame"));
        }
        let frame: CommandFrame = match serde_json::from_str(&text) {
            Ok(frame) => frame,
            // With an id it is a command that is not right; without one nobody could be answered.
            Err(error) => match serde_json::from_str::<Value>(&text).ok().and_then(|v| v.get("id")?.as_u64()) {
                Some(id) => return self.answer(id, refused(id, &invalid(error.to_string()))).await,
                None => return Err(End::Close(UNREADABLE, "unreadable frame")),
            },
        };
        self.command(frame).await
    }

    async fn answer(&mut self, id: u64, reply: String) -> Result<(), End> {
        let message = ToEngine::PageReply { session: self.session.clone(), connection: self.connection, id, reply };
        self.app.engine.send(message).await.map_err(|_| End::Gone)
    }

    async fn command(&mut self, frame: CommandFrame) -> Result<(), End> {
        let id = frame.id;
        let command = match frame.op {
            Op::Token { token } => return self.new_token(id, &token).await,
            Op::Dial { to } => match self.app.resolve(&self.user.tenant, &to).await {
                Ok((callee, recording)) => Command::Dial { dialled: to, callee, recording },
                Err(problem) => return self.answer(id, refused(id, &away(&problem))).await,
            },
            Op::Answer { call } => Command::Answer { call },
            Op::Join { call, offer } => Command::Join { call, offer_sdp: offer },
            Op::Reject { call } => Command::Reject { call },
            Op::Hangup { call } => Command::HangUp { call },
            Op::Mute { call, muted } => Command::Mute { call, muted },
            Op::Hold { call, held } => Command::Hold { call, held },
            Op::Digits { call, digits } => Command::Digits { call, digits },
            Op::Record { call, on } => Command::Record { call, on },
        };
        let actor = Actor {
            tenant: self.user.tenant.clone(),
            user: Some(self.user.user()),
            session: Some(self.session.clone()),
        };
        let (session, connection, host) = (self.session.clone(), self.connection, self.host.clone());
        let message = ToEngine::PageCommand { session, connection, id, host, actor, command };
        self.app.engine.send(message).await.map_err(|_| End::Gone)
    }

    /// A fresh token on the open socket: of the same user, or the connection ends.
    async fn new_token(&mut self, id: u64, token: &str) -> Result<(), End> {
        match self.app.page_caller(token, self.source).await {
            Ok((caller, subject)) if caller.tenant == self.user.tenant && caller.user_id() == Some(&self.user.id) => {
                (self.expires, self.warned) = (until(&subject), false);
                self.answer(id, json!({ "re": id, "ok": {} }).to_string()).await
            }
            _ => Err(End::Close(REFUSED, "the token is not valid for this page")),
        }
    }
}

/// Ends when the user is disabled. What was read a while ago is no reason to close the page of one who was let in again.
async fn is_disabled(store: Store, mut disabled: Disabled, user: (TenantId, UserId)) {
    while disabled.changed().await.is_ok() {
        let named = disabled.borrow_and_update().contains(&user);
        if named && !matches!(store.user(&user.0, &user.1).await, Ok(Some(_))) {
            return;
        }
    }
    std::future::pending().await
}

/// By the library's word; a connection that merely broke is no refusal.
fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("too long")
}

fn invalid(message: String) -> CommandError {
    CommandError { code: RefusalCode::Invalid, message, cause: None }
}

fn away(problem: &Problem) -> CommandError {
    CommandError { code: RefusalCode::Unavailable, message: problem.to_string(), cause: None }
}

impl App {
    /// Pages come with access tokens: an API key is nobody who could be called.
    async fn page_caller(&self, token: &str, source: std::net::IpAddr) -> Result<(Caller, Subject), Problem> {
        let caller = self.caller(token, source).await?;
        let expires = match caller.user() {
            Some(_) => self.tokens.check(token).map_err(|e| Problem::unauthorized(&e.to_string()))?,
            None => return Err(Problem::unauthorized("an API key is no user")),
        };
        Ok((caller, expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_our_own_pages_and_named_origins_may_connect() {
        let named = ["https://phone.example.org".to_owned()];
        assert!(origin_is_ours(&from(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"), &[]));
        assert!(origin_is_ours(&from(None, "127.0.0.1:8080"), &[]));
        assert!(origin_is_ours(&from(Some("https://phone.example.org"), "api.example.org"), &named));
        for foreign in ["http://evil.example", "http://127.0.0.1:8081", "null", "https://phone.example.org.evil", ""] {
            assert!(!origin_is_ours(&from(Some(foreign), "127.0.0.1:8080"), &named), "{foreign}");
        }
    }
}
