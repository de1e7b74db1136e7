//! The pages: sessions that outlive their WebSocket for a while, each with the events it has not confirmed and the
//! replies it may ask for again.
use offhook_contract::{CallId, LegId, TenantId, UnixMs};
use offhook_control_core::{CallView, ClientEvent, SessionId, UserId};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// A session without a WebSocket is kept for this long.
pub const KEPT: Duration = Duration::from_secs(30);
/// Events kept for a page that resumes.
const REMEMBERED: usize = 256;
const REMEMBERED_BYTES: usize = 256 * 1024;
/// Replies kept for commands that a resuming page repeats.
const REPLIES: usize = 64;
/// Frames on their way to one WebSocket; a page that lets more pile up is cut off and may resume.
pub const QUEUE: usize = 256;

/// A text frame for a page, or an order to its WebSocket.
#[derive(Debug)]
pub enum Frame {
    Text(String),
    Close {
        code: u16,
        reason: &'static str,
    },
    /// Find out whether the page is still there, and say so.
    Probe(oneshot::Sender<()>),
}

pub const CLOSE_REPLACED: (u16, &str) = (4409, "the session was resumed by another connection");
pub const CLOSE_SLOW: (u16, &str) = (4408, "the page does not take its events");

#[derive(Default)]
pub struct Pages {
    pages: HashMap<SessionId, Page>,
    expiries: BTreeSet<(Instant, SessionId)>,
}

struct Page {
    tenant: TenantId,
    user: UserId,
    seq: u64,
    events: VecDeque<(u64, String)>,
    bytes: usize,
    replies: VecDeque<(u64, Option<String>)>,
    connection: Option<Connection>,
    expires: Option<Instant>,
}

struct Connection {
    id: u64,
    frames: mpsc::Sender<Frame>,
}

/// What a page is given when it says hello.
pub struct Opened {
    pub session: SessionId,
    pub connection: u64,
    pub seq: u64,
    pub resumed: bool,
    pub calls: Vec<CallView>,
    pub missed: Vec<String>,
}

#[derive(Serialize)]
struct EventFrame<'a, T: Serialize> {
    seq: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    ts: UnixMs,
    call_id: Option<&'a CallId>,
    data: T,
}

#[derive(Serialize)]
struct SlotData<'a> {
    slot: u8,
    leg: Option<&'a LegId>,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct DigitData<'a> {
    leg: &'a LegId,
    digit: char,
}

/// Whether a command was seen before.
pub enum Seen {
    New,
    InProgress,
    Answered(String),
}

impl Pages {
    pub fn len(&self) -> usize {
        self.pages.len()
    }
    pub fn attached(&self) -> usize {
        self.pages.values().filter(|p| p.connection.is_some()).count()
    }
    pub fn of_user(&self, tenant: &TenantId, user: &UserId) -> usize {
        self.pages.values().filter(|p| p.connection.is_some() && p.tenant == *tenant && p.user == *user).count()
    }

    pub fn knows(&self, session: &SessionId, tenant: &TenantId, user: &UserId) -> bool {
        self.pages.get(session).is_some_and(|p| p.tenant == *tenant && p.user == *user)
    }

    pub fn open(&mut self, session: SessionId, tenant: TenantId, user: UserId) {
        let page = Page {
            tenant,
            user,
            seq: 0,
            events: VecDeque::new(),
            bytes: 0,
            replies: VecDeque::new(),
            connection: None,
            expires: None,
        };
        self.pages.insert(session, page);
    }

    /// Gives the session its WebSocket; the one it had is closed. Returns what it missed since `last_seq`, or `None`
    /// when that is not remembered any more.
    pub fn attach(
        &mut self,
        session: &SessionId,
        connection: u64,
        frames: mpsc::Sender<Frame>,
        last_seq: Option<u64>,
    ) -> Option<(u64, Option<Vec<String>>)> {
        let page = self.pages.get_mut(session)?;
        if let Some(at) = page.expires.take() {
            self.expiries.remove(&(at, session.clone()));
        }
        // A page that was reloaded counts its commands from the beginning.
        page.replies.clear();
        if let Some(former) = page.connection.replace(Connection { id: connection, frames }) {
            let (code, reason) = CLOSE_REPLACED;
            // A full queue closes by itself when its sender goes.
            let _ = former.frames.try_send(Frame::Close { code, reason });
        }
        let missed = last_seq.filter(|last| *last <= page.seq).and_then(|last| {
            let first = page.events.front().map_or(page.seq + 1, |(seq, _)| *seq);
            let whole = last + 1 >= first;
            whole.then(|| page.events.iter().filter(|(seq, _)| *seq > last).map(|(_, text)| text.clone()).collect())
        });
        Some((page.seq, missed))
    }

    /// The WebSocket is gone. False when another one has the session by now.
    pub fn detach(&mut self, session: &SessionId, connection: u64, now: Instant) -> bool {
        let Some(page) = self.pages.get_mut(session) else { return false };
        if page.connection.as_ref().is_none_or(|c| c.id != connection) {
            return false;
        }
        page.connection = None;
        let at = now + KEPT;
        page.expires = Some(at);
        self.expiries.insert((at, session.clone()));
        true
    }

    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    pub fn pop_expired(&mut self, now: Instant) -> Option<SessionId> {
        let (at, session) = self.expiries.first()?.clone();
        if at > now {
            return None;
        }
        self.expiries.remove(&(at, session.clone()));
        self.pages.remove(&session);
        Some(session)
    }

    /// Asks the connection that has the session whether its page lives. Without one the answer is no at once.
    pub fn probe(&self, session: &SessionId, alive: oneshot::Sender<()>) {
        if let Some(connection) = self.pages.get(session).and_then(|p| p.connection.as_ref()) {
            // A queue that is full belongs to a page that is about to be cut off.
            let _ = connection.frames.try_send(Frame::Probe(alive));
        }
    }

    fn on(&mut self, session: &SessionId, connection: u64) -> Option<&mut Page> {
        let page = self.pages.get_mut(session)?;
        page.connection.as_ref().is_some_and(|c| c.id == connection).then_some(page)
    }

    /// Commands are numbered by connection: what comes from a former one is dropped.
    pub fn seen(&mut self, session: &SessionId, connection: u64, command: u64) -> Seen {
        let Some(page) = self.on(session, connection) else { return Seen::InProgress };
        match page.replies.iter().find(|(id, _)| *id == command) {
            Some((_, Some(reply))) => Seen::Answered(reply.clone()),
            Some((_, None)) => Seen::InProgress,
            None => {
                if page.replies.len() >= REPLIES {
                    page.replies.pop_front();
                }
                page.replies.push_back((command, None));
                Seen::New
            }
        }
    }

    /// Keeps a reply for repetitions and sends it.
    pub fn reply(&mut self, session: &SessionId, connection: u64, command: u64, reply: String) {
        let Some(page) = self.on(session, connection) else { return };
        if let Some(entry) = page.replies.iter_mut().find(|(id, _)| *id == command) {
            entry.1 = Some(reply.clone());
        }
        page.send(reply);
    }

    pub fn send(&mut self, session: &SessionId, text: String) {
        if let Some(page) = self.pages.get_mut(session) {
            page.send(text);
        }
    }

    pub fn event(&mut self, session: &SessionId, event: &ClientEvent, ts: UnixMs) {
        match event {
            ClientEvent::CallUpdated(view) => self.tell(session, "call.updated", Some(&view.id), ts, view),
            ClientEvent::CallEnded(view) => self.tell(session, "call.ended", Some(&view.id), ts, view),
            ClientEvent::Slot { call, slot, leg, name } => {
                let data = SlotData { slot: *slot, leg: leg.as_ref(), name: name.as_deref() };
                self.tell(session, "call.slot", Some(call), ts, data);
            }
            ClientEvent::Digit { call, leg, digit } => {
                self.tell(session, "call.digit", Some(call), ts, DigitData { leg, digit: *digit });
            }
        }
    }

    pub fn tell(
        &mut self,
        session: &SessionId,
        kind: &str,
        call_id: Option<&CallId>,
        ts: UnixMs,
        data: impl Serialize,
    ) {
        let Some(page) = self.pages.get_mut(session) else { return };
        page.seq += 1;
        let frame = EventFrame { seq: page.seq, kind, ts, call_id, data };
        let Ok(text) = serde_json::to_string(&frame) else { return };
        page.remember(text.clone());
        page.send(text);
    }
}

impl Page {
    fn remember(&mut self, text: String) {
        self.bytes += text.len();
        self.events.push_back((self.seq, text));
        while self.events.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES {
            let Some((_, text)) = self.events.pop_front() else { break };
            self.bytes -= text.len();
        }
    }

    fn send(&mut self, text: String) {
        let Some(connection) = &self.connection else { return };
        if connection.frames.capacity() <= 1 {
            // The last place in the queue is for saying why.
            let (code, reason) = CLOSE_SLOW;
            let _ = connection.frames.try_send(Frame::Close { code, reason });
            return;
        }
        // The receiver is gone when the WebSocket is closing: the page resumes or its session expires.
        let _ = connection.frames.try_send(Frame::Text(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> (Pages, SessionId) {
        let mut pages = Pages::default();
        let session = SessionId::new("s");
        pages.open(session.clone(), TenantId::parse("a").unwrap(), UserId::new("u"));
        (pages, session)
    }
    fn tell(pages: &mut Pages, session: &SessionId, n: u64) {
        for _ in 0..n {
            pages.tell(session, "call.updated", None, UnixMs(0), ());
        }
    }

    #[test]
    fn a_page_that_resumes_gets_exactly_what_it_missed() {
        let (mut pages, session) = pages();
        let (sender, _receiver) = mpsc::channel(QUEUE);
        pages.attach(&session, 1, sender.clone(), None);
        tell(&mut pages, &session, 3);
        assert!(pages.detach(&session, 1, Instant::now()));
        tell(&mut pages, &session, 2);
        let (seq, missed) = pages.attach(&session, 2, sender.clone(), Some(3)).unwrap();
        assert_eq!((seq, missed.map(|m| m.len())), (5, Some(2)));
        assert!(!pages.detach(&session, 1, Instant::now()), "the former connection ends later than the new one began");
        tell(&mut pages, &session, 300);
        assert!(pages.attach(&session, 3, sender.clone(), Some(5)).unwrap().1.is_none(), "too long ago");
        assert!(pages.attach(&session, 4, sender, Some(999)).unwrap().1.is_none(), "from the future");
    }

    #[test]
    fn a_page_that_takes_nothing_is_told_so_and_cut_off() {
        let (mut pages, session) = pages();
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        pages.attach(&session, 1, sender, None);
        tell(&mut pages, &session, QUEUE as u64 + 50);
        let mut last = None;
        while let Ok(frame) = receiver.try_recv() {
            last = Some(frame);
        }
        assert!(matches!(last, Some(Frame::Close { code: 4408, .. })));
    }

    #[test]
    fn a_repeated_command_gets_its_first_reply() {
        let (mut pages, session) = pages();
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        pages.attach(&session, 1, sender.clone(), None);
        assert!(matches!(pages.seen(&session, 1, 7), Seen::New));
        assert!(matches!(pages.seen(&session, 1, 7), Seen::InProgress));
        pages.reply(&session, 1, 7, "done".into());
        assert!(matches!(pages.seen(&session, 1, 7), Seen::Answered(text) if text == "done"));
        assert!(matches!(receiver.try_recv(), Ok(Frame::Text(_))));
        assert!(matches!(pages.seen(&session, 1, 8), Seen::New));
        pages.attach(&session, 2, sender, None);
        while receiver.try_recv().is_ok() {}
        pages.reply(&session, 1, 8, "late".into());
        assert!(receiver.try_recv().is_err(), "the reloaded page has a command 8 of its own");
        assert!(matches!(pages.seen(&session, 2, 7), Seen::New));
    }

    #[test]
    fn a_session_expires_thirty_seconds_after_its_websocket() {
        let (mut pages, session) = pages();
        let (sender, _receiver) = mpsc::channel(QUEUE);
        pages.attach(&session, 1, sender, None);
        let now = Instant::now();
        pages.detach(&session, 1, now);
        assert_eq!(pages.pop_expired(now + KEPT / 2), None);
        assert_eq!(pages.pop_expired(now + KEPT), Some(session));
        assert_eq!((pages.len(), pages.next_expiry()), (0, None));
    }
}
