//! Leases: compare-and-set with a time to live. The fencing number is (bucket creation, revision at acquisition);
//! renewals keep it. An expired lease only stops new placement, so losing one never ends a call.
//!
//! Expiry is judged without comparing clocks: a contender takes a lease over when its revision has not moved for the
//! whole time to live on the contender's own clock, counted anew whenever the bus was away.
use crate::bus::Bus;
use crate::transport::{Bucket, Expect, KeyError, TransportError, raised_or_dropped, until};
use offhook_contract::Epoch;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const MIN_TTL: Duration = Duration::from_millis(100);
const MAX_TTL: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Someone else holds it; asking again after `retry_after` may succeed.
    #[error("the lease {name:?} is held; try again in {retry_after:?}")]
    Held { name: String, retry_after: Duration },
    #[error("{0:?} is no name for a lease: words of a-z, A-Z, 0-9, '-' and '_', with '.' between them")]
    Name(String),
    #[error("a lease lives between {MIN_TTL:?} and {MAX_TTL:?}")]
    TimeToLive,
    #[error("the bus is not connected, or does not answer")]
    Disconnected,
    #[error("the bus server refused: {0}")]
    Server(String),
}

/// A lease that this process holds; renewed until dropped, and then given back.
#[must_use = "the lease is given back when this is dropped"]
pub struct Lease {
    epoch: Epoch,
    lost: watch::Receiver<bool>,
    release: watch::Sender<bool>,
}

#[derive(Serialize, Deserialize)]
struct LeaseRow {
    ttl_ms: u64,
}

/// Names remembered; beyond this the memory starts anew, which only makes contenders wait once more.
const MAX_NAMES: usize = 16_384;

/// What this process knows about leases: when it saw which revision, and which expired ones were its own.
#[derive(Default)]
pub(crate) struct LeaseMemory {
    names: Mutex<HashMap<String, Seen>>,
}

struct Seen {
    revision: u64,
    since: Instant,
    /// The last revision is ours: nobody has taken it since we lost it.
    ours: bool,
}

impl LeaseMemory {
    fn names(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the lease at this revision must still be left alone.
    fn wait(&self, name: &str, revision: u64, ttl: Duration, connected_since: Instant) -> Duration {
        let mut names = self.names();
        let now = Instant::now();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        let seen = names.entry(name.to_owned()).or_insert(Seen { revision, since: now, ours: false });
        if seen.revision != revision {
            *seen = Seen { revision, since: now, ours: false };
        }
        if seen.ours { Duration::ZERO } else { ttl.saturating_sub(now.duration_since(seen.since.max(connected_since))) }
    }

    fn lapsed(&self, name: &str, revision: u64) {
        self.names().insert(name.to_owned(), Seen { revision, since: Instant::now(), ours: true });
    }

    fn forget(&self, name: &str) {
        self.names().remove(name);
    }
}

impl Bus {
    /// Takes a lease now, or says who must be waited for. Renewed every third of `ttl` by a task of the calling runtime.
    pub async fn acquire_lease(&self, name: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        check_name(name)?;
        if !(MIN_TTL..=MAX_TTL).contains(&ttl) {
            return Err(LeaseError::TimeToLive);
        }
        let transport = &self.inner.transport;
        let value = row(ttl);
        // The holder must believe in its lease for no longer than anyone else: from before the write.
        let began = Instant::now();
        let expect = match transport.get(Bucket::Leases, name.to_owned()).await.map_err(name_error)? {
            None => Expect::Absent,
            Some(found) => {
                let ttl = found.value.as_deref().map_or(ttl, their_ttl);
                let wait = self.inner.leases.wait(name, found.revision, ttl, transport.connected_since());
                if !wait.is_zero() {
                    return Err(LeaseError::Held { name: name.to_owned(), retry_after: wait });
                }
                Expect::Revision(found.revision)
            }
        };
        let revision = match transport.put(Bucket::Leases, name.to_owned(), value, expect).await {
            Ok(revision) => revision,
            Err(KeyError::Conflict) => return Err(LeaseError::Held { name: name.to_owned(), retry_after: ttl }),
            Err(error) => return Err(name_error(error)),
        };
        let bucket = transport.created_ns(Bucket::Leases).await.map_err(name_error)?;
        self.inner.leases.forget(name);
        Ok(self.hold(name.to_owned(), ttl, Epoch { bucket, revision }, began))
    }

    /// Waits until the lease is ours, through holders, conflicts and a bus that is away.
    pub async fn wait_for_lease(&self, name: &str, ttl: Duration) -> Result<Lease, LeaseError> {
        let mut connected = self.is_connected();
        loop {
            let pause = match self.acquire_lease(name, ttl).await {
                Err(LeaseError::Held { retry_after, .. }) => retry_after.clamp(MIN_TTL, Duration::from_secs(1)),
                Err(LeaseError::Disconnected | LeaseError::Server(_)) => Duration::from_millis(500),
                outcome => return outcome,
            };
            let up = *connected.borrow_and_update();
            if !up {
                until(&mut connected, true).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn hold(&self, name: String, ttl: Duration, epoch: Epoch, began: Instant) -> Lease {
        let (lost_sender, lost) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let bus = self.clone();
        tokio::spawn(async move {
            let held = Held { name, ttl, revision: epoch.revision, valid_until: began + ttl };
            renew(&bus, held, released).await;
            lost_sender.send_replace(true);
        });
        Lease { epoch, lost, release }
    }
}

impl Lease {
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Resolves when the lease has expired or was taken. Running work goes on; only new placement stops.
    pub async fn lost(&mut self) {
        raised_or_dropped(&mut self.lost).await;
    }

    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Gives the lease back and waits until the next one can have it (or the bus is away, and it expires).
    pub async fn release(mut self) {
        self.release.send_replace(true);
        self.lost().await;
    }
}

struct Held {
    name: String,
    ttl: Duration,
    revision: u64,
    valid_until: Instant,
}

/// Until the lease is lost or released.
async fn renew(bus: &Bus, mut held: Held, mut released: watch::Receiver<bool>) {
    let transport = &bus.inner.transport;
    loop {
        let pause = held.ttl / 3;
        tokio::select! {
            () = raised_or_dropped(&mut released) => {
                let delete = transport.delete(Bucket::Leases, held.name.clone(), Expect::Revision(held.revision));
                if let Err(error) = delete.await {
                    tracing::debug!(lease = held.name, %error, "lease not given back; it expires by itself");
                }
                return;
            }
            () = tokio::time::sleep_until((Instant::now() + pause).min(held.valid_until)) => {}
        }
        let began = Instant::now();
        if began < held.valid_until {
            let expect = Expect::Revision(held.revision);
            let write = transport.put(Bucket::Leases, held.name.clone(), row(held.ttl), expect);
            match tokio::time::timeout_at(held.valid_until, write).await {
                Ok(Ok(revision)) => {
                    held.revision = revision;
                    held.valid_until = began + held.ttl;
                    continue;
                }
                Ok(Err(KeyError::Conflict)) => {
                    tracing::warn!(lease = held.name, "lease taken by another node");
                    return;
                }
                Ok(Err(KeyError::Transport(error))) => {
                    tracing::debug!(lease = held.name, %error, "lease not renewed yet");
                    continue;
                }
                Err(_) => {}
            }
        }
        tracing::warn!(lease = held.name, "lease expired: not renewed for {:?}", held.ttl);
        bus.inner.leases.lapsed(&held.name, held.revision);
        return;
    }
}

fn row(ttl: Duration) -> Vec<u8> {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    serde_json::to_vec(&LeaseRow { ttl_ms }).unwrap_or_default()
}

fn their_ttl(value: &[u8]) -> Duration {
    let row = serde_json::from_slice::<LeaseRow>(value);
    row.map_or(MAX_TTL, |row| Duration::from_millis(row.ttl_ms)).clamp(MIN_TTL, MAX_TTL)
}

fn check_name(name: &str) -> Result<(), LeaseError> {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if name.len() <= 200 && name.split('.').all(word) { Ok(()) } else { Err(LeaseError::Name(name.to_owned())) }
}

fn name_error(error: KeyError) -> LeaseError {
    match error {
        KeyError::Transport(TransportError::Server(reason)) => LeaseError::Server(reason),
        KeyError::Conflict => LeaseError::Server("the bucket's revisions do not fit".into()),
        KeyError::Transport(_) => LeaseError::Disconnected,
    }
}
