//! The one task that writes what the switchboard decides: in order, several batches in one transaction, again and
//! again while the database is away. Calls go on meanwhile.
use crate::store::{Batch, Store, StoreError};
use offhook_runtime::{Counter, Gauge, Metrics};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Batches that may wait for a database that is away; beyond this, new work is refused before it starts.
const QUEUE: usize = 20_000;
/// New calls and facts are refused from here on, so that running calls can still end.
const BACKLOG: usize = 10_000;
const TOGETHER: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What happens once a batch is committed. The flag says whether its fact was new.
pub type Committed = Box<dyn FnOnce() + Send>;

enum Job {
    Write(Box<Batch>, Option<Committed>),
    Barrier(oneshot::Sender<()>),
}

/// The queue's entrance. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    jobs: mpsc::Sender<Job>,
    lost: Counter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer")]
pub struct NotFlushed;

impl Writer {
    /// Starts the task. It ends when every clone of the writer is gone and the queue is empty.
    pub fn start(store: Store, metrics: &Metrics) -> (Self, tokio::task::JoinHandle<()>) {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let lost = metrics.counter("writes_lost_total", "Batches the database refused or that found the queue full");
        let waiting = metrics.gauge("writes_waiting", "Batches that wait for the database");
        let task = Task { store, queue, lost: lost.clone(), waiting };
        (Self { jobs, lost }, tokio::spawn(task.run()))
    }

    /// Whether the database is so far behind that no new work should begin.
    pub fn is_behind(&self) -> bool {
        QUEUE - self.jobs.capacity() >= BACKLOG
    }

    pub fn write(&self, batch: Batch, then: Option<Committed>) {
        if self.jobs.try_send(Job::Write(Box::new(batch), then)).is_err() {
            self.lost.increment();
            tracing::error!("the queue to the database is full: a change was lost");
        }
    }

    /// Waits until everything written before is committed: a reader then sees what a page has been told.
    pub async fn flushed(&self, patience: Duration) -> Result<(), NotFlushed> {
        let (done, flushed) = oneshot::channel();
        let wait = async {
            self.jobs.send(Job::Barrier(done)).await.map_err(|_| NotFlushed)?;
            flushed.await.map_err(|_| NotFlushed)
        };
        tokio::time::timeout(patience, wait).await.map_err(|_| NotFlushed)?
    }
}

struct Task {
    store: Store,
    queue: mpsc::Receiver<Job>,
    lost: Counter,
    waiting: Gauge,
}

impl Task {
    async fn run(mut self) {
        let mut jobs = Vec::with_capacity(TOGETHER);
        while self.queue.recv_many(&mut jobs, TOGETHER).await > 0 {
            self.waiting.set(i64::try_from(jobs.len() + self.queue.len()).unwrap_or(i64::MAX));
            let mut batches = Vec::with_capacity(jobs.len());
            let mut afterwards = Vec::new();
            let mut barriers = Vec::new();
            for job in jobs.drain(..) {
                match job {
                    Job::Write(batch, then) => {
                        batches.push(*batch);
                        afterwards.extend(then);
                    }
                    Job::Barrier(done) => barriers.push(done),
                }
            }
            if !batches.is_empty() {
                self.commit(&batches).await;
            }
            for then in afterwards {
                then();
            }
            for done in barriers {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
            self.waiting.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        }
    }

    /// Commits all, or one by one when the database refuses something among them.
    async fn commit(&self, batches: &[Batch]) {
        match self.persist(batches).await {
            Ok(()) => {}
            Err(error) if batches.len() == 1 => self.give_up(&error, batches).await,
            Err(_) => {
                for batch in batches {
                    if let Err(error) = self.persist(std::slice::from_ref(batch)).await {
                        self.give_up(&error, std::slice::from_ref(batch)).await;
                    }
                }
            }
        }
    }

    /// Tries until the database takes or refuses it.
    async fn persist(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.store.commit(batches).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, batches = batches.len(), "the database is away; changes wait");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    /// A batch that the database will never take. Its fact still counts as seen: repeating it would not help.
    async fn give_up(&self, error: &StoreError, batches: &[Batch]) {
        self.lost.increment();
        tracing::error!(%error, batch = ?batches, "the database refuses a change; it is lost");
        let facts: Vec<Batch> = batches
            .iter()
            .filter(|b| b.fact.is_some())
            .map(|b| Batch { writes: Vec::new(), fact: b.fact.clone() })
            .collect();
        if !facts.is_empty() && self.persist(&facts).await.is_err() {
            tracing::error!("nor can its fact be marked as seen");
        }
    }
}
