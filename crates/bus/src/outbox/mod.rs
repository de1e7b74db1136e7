//! Facts survive here until call-control has stored them: written durably before `append` returns, sent again and again
//! with growing pauses, numbered from 1 without holes, bounded.
mod sender;
mod store;
#[cfg(test)]
mod tests;

use crate::bus::Bus;
use crate::message::wall_now;
use offhook_contract::{CallId, Context, Fact, TenantId, UnixMs};
use sender::send_for_ever;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Entry, Store};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// How much an outbox holds before it refuses.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    pub max_facts: u64,
    /// Of the encoded facts, not of the file.
    pub max_bytes: u64,
}

impl Default for OutboxLimits {
    /// Hours of a busy node.
    fn default() -> Self {
        Self { max_facts: 100_000, max_bytes: 256 * 1024 * 1024 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("the outbox {} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("the outbox {} cannot be used", path.display())]
    Storage { path: PathBuf, source: redb::Error },
    #[error("the outbox {} holds what is not a fact", path.display())]
    Content { path: PathBuf, source: serde_json::Error },
    #[error("the outbox holds {facts} facts of {bytes} bytes that nobody has stored yet and takes no more")]
    Full { facts: u64, bytes: u64 },
    /// It would never arrive.
    #[error("a fact of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("a fact needs its tenant and its call")]
    NoCall,
    #[error("the outbox is closed")]
    Closed,
}

impl OutboxError {
    /// Whether the same fact will be refused again, whatever time passes.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::NoCall)
    }
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutboxFigures {
    /// Facts that nobody has confirmed yet.
    pub pending: u64,
    /// Of these, facts that call-control or the bus refused for what they are; they are tried again more slowly.
    pub refused_by_consumer: u64,
    /// Facts that were not taken because the outbox was full, since the start.
    pub refused_full: u64,
    /// Facts that were stored by call-control, since the start.
    pub stored: u64,
}

/// Where a daemon puts its facts. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    _sender: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Shared {
    pending: AtomicU64,
    parked: AtomicU64,
    refused_full: AtomicU64,
    stored: AtomicU64,
    newest: watch::Sender<u64>,
}

/// What the writer's thread is asked to do.
enum Order {
    Append {
        entry: Entry,
        done: oneshot::Sender<Result<(), OutboxError>>,
    },
    /// Facts from `from` on, at most `count`.
    Read {
        from: u64,
        count: usize,
        done: oneshot::Sender<Result<Vec<offhook_contract::FactRecord>, OutboxError>>,
    },
    Stored {
        sequences: Vec<u64>,
    },
}

impl Outbox {
    /// Opens or creates the file and begins to send. Must be called inside a tokio runtime.
    pub async fn open(path: &Path, bus: &Bus) -> Result<Self, OutboxError> {
        Self::open_with(path, bus, OutboxLimits::default()).await
    }

    pub async fn open_with(path: &Path, bus: &Bus, limits: OutboxLimits) -> Result<Self, OutboxError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Store::open(&path, limits)).await;
        let store = opened.map_err(|_| OutboxError::Closed)??;
        let shared = Arc::new(Shared::default());
        shared.pending.store(store.pending(), Ordering::Relaxed);
        shared.newest.send_replace(store.newest());
        let (orders, received) = mpsc::channel(256);
        let writer = shared.clone();
        std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || store.obey(received, &writer))
            .map_err(|_| OutboxError::Closed)?;
        let task = tokio::spawn(send_for_ever(bus.clone(), orders.clone().downgrade(), shared.clone()));
        Ok(Self { orders, shared, _sender: Arc::new(AbortOnDrop(task.abort_handle())) })
    }

    /// Keeps a fact. When this returns, the fact outlives the process and the machine's power.
    pub async fn append(&self, context: &Context, fact: Fact) -> Result<(), OutboxError> {
        let (tenant, call) = named(context)?;
        self.append_at(tenant, call, wall_now(), fact).await
    }

    /// The same for a fact that happened earlier.
    pub async fn append_at(
        &self,
        tenant: TenantId,
        call: CallId,
        at_ms: UnixMs,
        fact: Fact,
    ) -> Result<(), OutboxError> {
        let (done, answer) = oneshot::channel();
        let order = Order::Append { entry: Entry { tenant, call, at_ms, fact }, done };
        self.orders.send(order).await.map_err(|_| OutboxError::Closed)?;
        answer.await.map_err(|_| OutboxError::Closed)?
    }

    /// The same from a thread without a runtime.
    pub fn append_blocking(&self, context: &Context, fact: Fact) -> Result<(), OutboxError> {
        let (tenant, call) = named(context)?;
        let (done, answer) = oneshot::channel();
        let order = Order::Append { entry: Entry { tenant, call, at_ms: wall_now(), fact }, done };
        self.orders.blocking_send(order).map_err(|_| OutboxError::Closed)?;
        answer.blocking_recv().map_err(|_| OutboxError::Closed)?
    }

    pub fn figures(&self) -> OutboxFigures {
        OutboxFigures {
            pending: self.shared.pending.load(Ordering::Relaxed),
            refused_by_consumer: self.shared.parked.load(Ordering::Relaxed),
            refused_full: self.shared.refused_full.load(Ordering::Relaxed),
            stored: self.shared.stored.load(Ordering::Relaxed),
        }
    }

    /// Facts that nobody has confirmed yet.
    pub fn pending(&self) -> u64 {
        self.shared.pending.load(Ordering::Relaxed)
    }
}

fn named(context: &Context) -> Result<(TenantId, CallId), OutboxError> {
    match (&context.tenant, &context.call) {
        (Some(tenant), Some(call)) => Ok((tenant.clone(), call.clone())),
        _ => Err(OutboxError::NoCall),
    }
}
