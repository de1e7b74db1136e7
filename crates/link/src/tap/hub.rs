//! The SFU's side of Taps: opening them, moving records from the media threads' rings into the logs, telling who
//! reads. The same in both forms; the network form listens besides.
use super::dial::TapDialer;
use super::log::{LogLimits, TapLog};
use super::record::{ClosedReason, Hello, TapRecord, closed_code, closed_from};
use super::ring::{Consumer, ring};
use super::serve;
use super::session::{ReaderState, Session};
use super::wire::Refusal;
use super::writer::{CONTROL_RESERVE_BYTES, TapWriter};
use crate::identity::{Fingerprint, Identity, IdentityError};
use crate::key::{RandomError, random_token};
use offhook_contract::sfu::TapOffer;
use offhook_contract::{BootId, CallId, RecordingId, RoomId, Secret, TenantId, UnixMs};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

/// How often rings are emptied into logs: what a reader's delay may be, and how seldom another core is woken.
const PUMP_PERIOD: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy)]
pub struct TapLimits {
    /// Between the media thread and the log, per Tap; rounded up to a power of two.
    pub ring_bytes: usize,
    /// What the log keeps for a reader that resumes.
    pub history: Duration,
    pub history_bytes: usize,
    /// Without a reader for so long the Tap is given up.
    pub patience: Duration,
    /// A reader on another machine that acknowledges nothing for so long counts as detached.
    pub silence: Duration,
    pub taps: usize,
    /// Connections that have not yet shown a token.
    pub strangers: usize,
}

impl Default for TapLimits {
    fn default() -> Self {
        Self {
            ring_bytes: 128 * 1024,
            history: Duration::from_secs(10),
            history_bytes: 4 * 1024 * 1024,
            patience: Duration::from_secs(10),
            silence: Duration::from_secs(5),
            taps: 4_096,
            strangers: 64,
        }
    }
}

/// The two transports of Taps; injected, and opaque to both sides.
#[derive(Debug, Clone)]
pub enum TapForm {
    /// TLS between machines.
    Network,
    /// One process; every clone shares the same Taps.
    InProcess(InProcessTaps),
}

/// The Taps of one process.
#[derive(Debug, Clone, Default)]
pub struct InProcessTaps(pub(super) Arc<Registry>);

/// What an SFU needs to offer Taps. The in-process form uses neither address.
#[derive(Debug, Clone)]
pub struct TapHost {
    pub listen: Vec<SocketAddr>,
    /// What offers say; empty: the addresses listened on.
    pub advertised: Vec<SocketAddr>,
    pub identity: Identity,
    pub limits: TapLimits,
}

#[derive(Debug, thiserror::Error)]
pub enum TapHostError {
    #[error("the Tap listener cannot use {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the Tap listener has no address")]
    NoAddress,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl TapForm {
    /// The SFU's side; call inside its tokio runtime.
    pub async fn host(&self, host: TapHost) -> Result<TapHub, TapHostError> {
        let (registry, addresses, listeners) = match self {
            Self::InProcess(taps) => (Arc::clone(&taps.0), Vec::new(), Vec::new()),
            Self::Network => {
                let registry = Arc::new(Registry::default());
                let (bound, tasks) = serve::listen(&host, &registry).await?;
                let advertised = if host.advertised.is_empty() { bound } else { host.advertised };
                (registry, advertised, tasks)
            }
        };
        let own = Arc::new(Mutex::new(Vec::new()));
        let pump = tokio::spawn(pump(Arc::clone(&registry), Arc::clone(&own)));
        let mut tasks = listeners;
        tasks.push(pump);
        let fingerprint = host.identity.fingerprint();
        Ok(TapHub { inner: Arc::new(Hub { registry, own, addresses, fingerprint, limits: host.limits, tasks }) })
    }

    /// The recorder's side.
    pub fn dialer(&self, identity: Identity) -> TapDialer {
        match self {
            Self::Network => TapDialer::network(identity),
            Self::InProcess(taps) => TapDialer::in_process(identity, Arc::clone(&taps.0)),
        }
    }
}

/// Whose Tap it is and who may read it.
#[derive(Debug, Clone)]
pub struct TapSubject {
    pub recording: RecordingId,
    pub room: RoomId,
    pub call: CallId,
    pub tenant: TenantId,
    /// The clock of every media time in this Tap.
    pub clock: BootId,
    pub recorder: Fingerprint,
}

#[derive(Debug, thiserror::Error)]
pub enum TapOpenError {
    #[error("this recording already has a Tap")]
    AlreadyOpen,
    #[error("{0} Taps are open, as many as this node takes")]
    Full(usize),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A Tap just opened: the writer goes to the media thread, the offer over the bus.
#[derive(Debug)]
pub struct OpenedTap {
    pub writer: TapWriter,
    pub offer: TapOffer,
    /// The latest word about the reader; [`TapWriter::reader`] tells the media thread the same.
    pub reader: watch::Receiver<ReaderState>,
}

/// The SFU's Taps. Clones share; the last one dropped closes them.
#[derive(Debug, Clone)]
pub struct TapHub {
    inner: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    registry: Arc<Registry>,
    /// The Taps of this hub; in one process several hubs share the registry.
    own: Arc<Mutex<Vec<Arc<Tap>>>>,
    addresses: Vec<SocketAddr>,
    fingerprint: Fingerprint,
    limits: TapLimits,
    tasks: Vec<JoinHandle<()>>,
}

impl TapHub {
    /// Connections of strangers that were refused since the start.
    pub fn refused(&self) -> u64 {
        self.inner.registry.refused()
    }

    /// Opens a Tap whose first record says whose it is. `media_ns` and `wall` are the same moment on both clocks.
    pub fn open(&self, subject: TapSubject, media_ns: u64, wall: UnixMs) -> Result<OpenedTap, TapOpenError> {
        let hub = &self.inner;
        let token = random_token()?;
        let (producer, consumer) = ring(hub.limits.ring_bytes.max(4 * CONTROL_RESERVE_BYTES));
        let now = hub.registry.now();
        let limits = LogLimits { age: hub.limits.history, bytes: hub.limits.history_bytes };
        let mut inner = TapInner {
            log: TapLog::new(limits),
            session: Session::new(now, hub.limits.patience),
            ring: consumer,
            scratch: Vec::new(),
            closed_at: None,
        };
        let TapSubject { recording, room, call, tenant, clock, recorder } = subject;
        let hello = Hello { recording: recording.clone(), room, call, tenant, clock, media_ns, wall };
        let mut bytes = Vec::new();
        TapRecord::Hello(hello).encode(1, &mut bytes);
        inner.log.append(&bytes, now);
        let (reader, reader_seen) = watch::channel(ReaderState::Waiting);
        let tap = Arc::new(Tap {
            token: token.clone(),
            recorder,
            hub: hub.fingerprint,
            silence: hub.limits.silence,
            inner: Mutex::new(inner),
            news: watch::channel(0).0,
            reader,
            reader_code: AtomicU8::new(ReaderState::Waiting as u8),
            dropped_packets: AtomicU64::new(0),
            close_code: AtomicU8::new(0),
            close_ns: AtomicU64::new(0),
        });
        hub.registry.insert(&recording, &tap, hub.limits.taps)?;
        lock(&hub.own).push(Arc::clone(&tap));
        let offer =
            TapOffer { recording, addresses: hub.addresses.clone(), fingerprint: hub.fingerprint.to_string(), token };
        Ok(OpenedTap { writer: TapWriter::new(producer, tap, 1), offer, reader: reader_seen })
    }

    /// Where the network form listens; empty in one process.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.inner.addresses
    }
    /// Taps not yet forgotten: open, or closed less than the patience time ago.
    pub fn len(&self) -> usize {
        lock(&self.inner.own).len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let now = self.registry.now();
        for tap in lock(&self.own).drain(..) {
            tap.pump(now);
            tap.abandon(now);
            self.registry.remove(&tap);
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All Taps that a dialler can name.
#[derive(Debug)]
pub(super) struct Registry {
    taps: Mutex<HashMap<RecordingId, Arc<Tap>>>,
    started: Instant,
    refused: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { taps: Mutex::default(), started: Instant::now(), refused: AtomicU64::new(0), told: Mutex::default() }
    }
}

impl Registry {
    /// Counts a stranger's connection, and says so in the log once a second at most.
    pub(super) fn refuse(&self, from: SocketAddr, why: &dyn std::fmt::Display) {
        let in_all = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= Duration::from_secs(1)) {
            *told = Some(Instant::now());
            tracing::warn!(%from, %why, in_all, "a Tap connection was refused");
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn insert(&self, recording: &RecordingId, tap: &Arc<Tap>, limit: usize) -> Result<(), TapOpenError> {
        let mut taps = lock(&self.taps);
        if taps.get(recording).is_some_and(|old| !lock(&old.inner).log.is_closed()) {
            return Err(TapOpenError::AlreadyOpen);
        }
        if taps.len() >= limit {
            return Err(TapOpenError::Full(limit));
        }
        taps.insert(recording.clone(), Arc::clone(tap));
        Ok(())
    }

    fn remove(&self, tap: &Arc<Tap>) {
        lock(&self.taps).retain(|_, known| !Arc::ptr_eq(known, tap));
    }

    /// The Tap, for whoever names the recording and shows its token. The comparison takes the same time whatever differs.
    pub(super) fn find(&self, recording: &str, token: &str) -> Result<Arc<Tap>, Refusal> {
        let recording = RecordingId::parse(recording).map_err(|_| Refusal::Token)?;
        let tap = lock(&self.taps).get(&recording).cloned().ok_or(Refusal::Token)?;
        let same: bool = tap.token.expose().as_bytes().ct_eq(token.as_bytes()).into();
        if same { Ok(tap) } else { Err(Refusal::Token) }
    }
}

async fn pump(registry: Arc<Registry>, own: Arc<Mutex<Vec<Arc<Tap>>>>) {
    let mut ticks = tokio::time::interval(PUMP_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = registry.now();
        let taps: Vec<_> = lock(&own).clone();
        for tap in taps {
            if tap.pump(now) {
                registry.remove(&tap);
                lock(&own).retain(|known| !Arc::ptr_eq(known, &tap));
            }
        }
    }
}

/// One Tap, shared by its writer, the pump and its reader. Only the last two take the lock.
#[derive(Debug)]
pub(super) struct Tap {
    token: Secret,
    recorder: Fingerprint,
    hub: Fingerprint,
    silence: Duration,
    inner: Mutex<TapInner>,
    news: watch::Sender<u64>,
    reader: watch::Sender<ReaderState>,
    reader_code: AtomicU8,
    pub(super) dropped_packets: AtomicU64,
    close_code: AtomicU8,
    close_ns: AtomicU64,
}

#[derive(Debug)]
struct TapInner {
    log: TapLog,
    session: Session,
    ring: Consumer,
    scratch: Vec<u8>,
    closed_at: Option<Duration>,
}

impl Tap {
    pub(super) fn reader_state(&self) -> ReaderState {
        ReaderState::from_code(self.reader_code.load(Ordering::Relaxed))
    }

    pub(super) fn set_close_reason(&self, reason: ClosedReason, at_ns: u64) {
        self.close_ns.store(at_ns, Ordering::Relaxed);
        self.close_code.store(closed_code(reason), Ordering::Release);
    }

    /// Moves what the writer gave; `true` when the Tap is over and its linger time too.
    fn pump(&self, now: Duration) -> bool {
        let mut inner = lock(&self.inner);
        let TapInner { log, session, ring, scratch, closed_at } = &mut *inner;
        let before = log.last();
        let gone = ring.producer_gone();
        while ring.pop(scratch) {
            log.append(scratch, now);
        }
        if gone && !log.is_closed() {
            self.append_closed(log, now);
        }
        log.trim(now);
        if log.is_closed() {
            closed_at.get_or_insert(now);
            session.finish();
        } else {
            session.handle_timeout(now);
        }
        let state = session.state();
        let after = log.last();
        let forgotten = closed_at.is_some_and(|at| now.saturating_sub(at) >= Duration::from_secs(10));
        drop(inner);
        self.tell(state);
        if before != after {
            self.news.send_replace(after);
        }
        forgotten
    }

    /// The hub goes away under a living writer.
    fn abandon(&self, now: Duration) {
        let mut inner = lock(&self.inner);
        if !inner.log.is_closed() {
            self.append_closed(&mut inner.log, now);
        }
        inner.session.finish();
        let last = inner.log.last();
        drop(inner);
        self.tell(ReaderState::Finished);
        self.news.send_replace(last);
    }

    fn append_closed(&self, log: &mut TapLog, now: Duration) {
        let reason = closed_from(self.close_code.load(Ordering::Acquire)).unwrap_or(ClosedReason::Abandoned);
        let at_ns = self.close_ns.load(Ordering::Relaxed);
        let number = log.last() + 1;
        let mut bytes = Vec::new();
        TapRecord::Closed { reason, at_ns }.encode(number, &mut bytes);
        log.append(&bytes, now);
    }

    fn tell(&self, state: ReaderState) {
        self.reader_code.store(state as u8, Ordering::Relaxed);
        self.reader.send_if_modified(|known| std::mem::replace(known, state) != state);
    }
}

/// A reader's place in a Tap; dropping it detaches.
#[derive(Debug)]
pub(super) struct Attachment {
    tap: Arc<Tap>,
    registry: Arc<Registry>,
    generation: u64,
    cursor: u64,
    news: watch::Receiver<u64>,
}

/// What a reader gets next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Records,
    /// Everything up to the closing record was given.
    End,
    /// Another reader took the place, or this one was silent for too long.
    Replaced,
}

pub(super) struct Attach<'a> {
    pub registry: &'a Arc<Registry>,
    pub recorder: Fingerprint,
    pub hub: Option<Fingerprint>,
    pub remote: bool,
    pub resume_after: u64,
}

impl Attachment {
    /// Both forms come through here: the token named `tap`, now the certificates and the place are checked.
    pub(super) fn new(tap: Arc<Tap>, attach: &Attach<'_>) -> Result<Self, Refusal> {
        let hub_known = attach.hub.is_none_or(|hub| hub.matches(&tap.hub));
        if !hub_known || !attach.recorder.matches(&tap.recorder) {
            return Err(Refusal::Certificate);
        }
        let now = attach.registry.now();
        let mut inner = lock(&tap.inner);
        if attach.resume_after > inner.log.last() {
            return Err(Refusal::ResumeAhead);
        }
        if inner.session.state() == ReaderState::Gone {
            return Err(Refusal::Over);
        }
        let generation = inner.session.attach(now, attach.remote.then_some(tap.silence));
        let state = inner.session.state();
        let news = tap.news.subscribe();
        drop(inner);
        tap.tell(state);
        tap.news.send_modify(|_| ());
        let registry = Arc::clone(attach.registry);
        Ok(Self { tap, registry, generation, cursor: attach.resume_after, news })
    }

    /// Waits for records and puts up to `limit` of them into `out`. Cancel safe.
    pub(super) async fn next(&mut self, limit: usize, out: &mut Vec<Arc<[u8]>>) -> Next {
        loop {
            self.news.borrow_and_update();
            {
                let inner = lock(&self.tap.inner);
                if !inner.session.is_current(self.generation) {
                    return Next::Replaced;
                }
                let before = out.len();
                self.cursor = inner.log.read(self.cursor, limit, out);
                if out.len() > before {
                    return Next::Records;
                }
                if inner.log.is_closed() {
                    return Next::End;
                }
            }
            if self.news.changed().await.is_err() {
                return Next::End;
            }
        }
    }

    pub(super) fn hearing(&self) -> Hearing {
        let registry = Arc::clone(&self.registry);
        Hearing { tap: Arc::clone(&self.tap), registry, generation: self.generation }
    }
}

/// The reader's words, beside its reading.
#[derive(Debug)]
pub(super) struct Hearing {
    tap: Arc<Tap>,
    registry: Arc<Registry>,
    generation: u64,
}

impl Hearing {
    pub(super) fn heard(&self) {
        lock(&self.tap.inner).session.heard(self.generation, self.registry.now());
    }
    pub(super) fn is_current(&self) -> bool {
        lock(&self.tap.inner).session.is_current(self.generation)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let now = self.registry.now();
        let mut inner = lock(&self.tap.inner);
        inner.session.detach(self.generation, now);
        let state = inner.session.state();
        drop(inner);
        self.tap.tell(state);
    }
}
