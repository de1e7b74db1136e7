//! Logins that nobody here knows, and that may stand elsewhere since a moment ago: they are looked up off this thread
//! while their request waits. To its client that is a slow answer, and over UDP a retransmission or two, which get none of
//! their own.
//!
//! Only a request with a nonce that was made for its path waits, so that none does in another's name.
use crate::auth::AuthError;
use crate::path::ClientPath;
use crate::shard::{Shard, Timer};
use crate::users::{UnknownUser, Users};
use offhook_shard::{Moment, Rate, SourceBuckets};
use offhook_wire_stun::{Message, TransactionId};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Requests of one shard that wait, and the longest of them. What is more, or longer, is answered at once.
const WAITING_MAX: usize = 64;
const BYTES_MAX: usize = 1_024;
/// Of each /32 or /64.
const WAITING: Rate = Rate { per_second: 10, burst: 20 };
const SOURCES: usize = 4_096;
/// Whoever was not found by then is unknown.
const WAITS: Duration = Duration::from_secs(2);
/// Nobody tells the shard; while somebody waits, it looks.
const LOOKS_EVERY: Duration = Duration::from_millis(10);

/// Where names are looked up; shared by the shards of a server.
pub trait Elsewhere: fmt::Debug + Send + Sync {
    /// Has a name looked up, and returns at once. `None`: as many as may be are looked up already.
    fn look_up(&self, name: &str) -> Option<LookUp>;
}

/// Filled in by who looks, read by who waits.
#[derive(Debug, Clone, Default)]
pub struct LookUp(Arc<OnceLock<Option<Arc<Users>>>>);

impl LookUp {
    /// Whom the name, or a secret, belongs to; `None` if nobody was found, or nobody could be asked. The first answer
    /// counts.
    pub fn answer(&self, found: Option<Arc<Users>>) {
        let _ = self.0.set(found);
    }

    /// `None` as long as nobody answered.
    #[must_use]
    pub fn answered(&self) -> Option<Option<&Users>> {
        self.0.get().map(Option::as_deref)
    }
}

struct Held {
    path: ClientPath,
    transaction: TransactionId,
    datagram: Box<[u8]>,
    look_up: LookUp,
    until: Moment,
}

/// Requests that wait.
pub(crate) struct Waiting {
    held: Vec<Held>,
    sources: SourceBuckets,
}

impl Waiting {
    pub(crate) fn new(secret: u64) -> Self {
        Self { held: Vec::new(), sources: SourceBuckets::new(SOURCES, secret) }
    }

    /// Nobody is there any more to be answered.
    pub(crate) fn forget(&mut self, path: &ClientPath) {
        self.held.retain(|held| held.path != *path);
    }
}

impl Shard {
    /// `true`: the request was put aside, or is one that was.
    pub(crate) fn puts_aside(&mut self, now: Moment, path: &ClientPath, request: &Message<'_>, why: AuthError) -> bool {
        let Some(elsewhere) = &self.settings.elsewhere else { return false };
        let Some(name) = request.username().ok().flatten() else { return false };
        let may_have_come = match why {
            AuthError::Unknown(UnknownUser::Name | UnknownUser::NoExpiry) => true,
            // There may be one secret more.
            AuthError::Password => self.settings.users.is_rest_name(name),
            _ => false,
        };
        let waiting = &mut self.waiting;
        if let Some(held) = waiting.held.iter().find(|held| held.path == *path) {
            return held.transaction == request.transaction_id();
        }
        let datagram = request.as_bytes();
        if !may_have_come
            || waiting.held.len() >= WAITING_MAX
            || datagram.len() > BYTES_MAX
            || !waiting.sources.take(now, path.client.ip(), WAITING, 1)
        {
            return false;
        }
        let Some(look_up) = elsewhere.look_up(name) else { return false };
        if waiting.held.is_empty() {
            self.timers.set(now.after(LOOKS_EVERY), Timer::Waiting);
        }
        let transaction = request.transaction_id();
        waiting.held.push(Held {
            path: *path,
            transaction,
            datagram: datagram.into(),
            look_up,
            until: now.after(WAITS),
        });
        true
    }

    /// Takes up the requests whose look-up has ended, or takes too long.
    pub(crate) fn take_up_again(&mut self, now: Moment) {
        let is_over = |held: &mut Held| held.look_up.answered().is_some() || held.until <= now;
        let over: Vec<Held> = self.waiting.held.extract_if(.., is_over).collect();
        // Before anything that may go wrong with one of them.
        if !self.waiting.held.is_empty() {
            self.timers.set(now.after(LOOKS_EVERY), Timer::Waiting);
        }
        for held in over {
            if let Ok(request) = Message::parse(&held.datagram) {
                let found = held.look_up.answered().flatten();
                self.judge(now, &held.path, &request, found);
            }
        }
    }
}
