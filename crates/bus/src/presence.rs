//! Who is there. A node renews its row every 2 s; a reader calls it gone after 6 s on the reader's own clock, and
//! nobody is called gone while the bus is away or for one full time to live after it came back.
use crate::bus::Bus;
use crate::transport::{Bucket, Expect, KeyError, KeyValue, raised_or_dropped, until};
use offhook_contract::node::{PRESENCE_PERIOD_MS, PRESENCE_TTL_MS};
use offhook_contract::{DaemonKind, NodeId, NodeRow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

const PERIOD: Duration = Duration::from_millis(PRESENCE_PERIOD_MS);
const TTL: Duration = Duration::from_millis(PRESENCE_TTL_MS);
/// Between attempts to watch the bucket again.
const RETRY: Duration = Duration::from_millis(250);
/// Rows beyond this are ignored: a broken or hostile peer must not fill our memory.
const MAX_NODES: usize = 4_096;

/// Keeps a node's row alive. Dropping it removes the row.
#[must_use = "the node's row goes when this is dropped"]
pub struct Presence {
    withdraw: watch::Sender<bool>,
    done: watch::Receiver<bool>,
}

/// The nodes that are there, as this reader sees them. Clones share one view.
#[derive(Clone)]
pub struct NodeTable {
    rows: watch::Receiver<Arc<Vec<NodeRow>>>,
    _task: Arc<AbortOnDrop>,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bus {
    /// Announces a node, and again whenever its row changes. Must be called inside a tokio runtime: the daemon's own,
    /// so that a daemon that hangs is not announced for ever.
    pub fn announce(&self, row: watch::Receiver<NodeRow>) -> Presence {
        let (withdraw, withdrawn) = watch::channel(false);
        let (finished, done) = watch::channel(false);
        let bus = self.clone();
        tokio::spawn(async move {
            keep_row(bus, row, withdrawn).await;
            finished.send_replace(true);
        });
        Presence { withdraw, done }
    }

    /// A live table of nodes. Must be called inside a tokio runtime.
    pub fn nodes(&self) -> NodeTable {
        self.table(None)
    }

    /// The same of one kind alone, from what its nodes say: complete after one period. For daemons whose user on the bus
    /// may hear that kind's rows and nothing else of the bucket.
    pub fn nodes_of(&self, kind: DaemonKind) -> NodeTable {
        self.table(Some(kind))
    }

    fn table(&self, kind: Option<DaemonKind>) -> NodeTable {
        let (sender, rows) = watch::channel(Arc::new(Vec::new()));
        let task = tokio::spawn(follow(self.clone(), kind, sender));
        NodeTable { rows, _task: Arc::new(AbortOnDrop(task.abort_handle())) }
    }
}

impl Presence {
    /// Removes the row and waits until that is done (or cannot be done).
    pub async fn withdraw(mut self) {
        self.withdraw.send_replace(true);
        // An error means that the task has ended.
        let _ = self.done.wait_for(|done| *done).await;
    }
}

impl NodeTable {
    pub fn list(&self, kind: DaemonKind) -> Vec<NodeRow> {
        self.rows.borrow().iter().filter(|row| row.kind == kind).cloned().collect()
    }

    pub fn all(&self) -> Vec<NodeRow> {
        self.rows.borrow().to_vec()
    }

    pub fn get(&self, kind: DaemonKind, node: &NodeId) -> Option<NodeRow> {
        self.rows.borrow().iter().find(|row| row.kind == kind && row.node == *node).cloned()
    }

    /// Waits for the next change of any row.
    pub async fn changed(&mut self) {
        if self.rows.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until `condition` holds and returns the rows for which it did.
    pub async fn wait_for(&mut self, mut condition: impl FnMut(&[NodeRow]) -> bool) -> Vec<NodeRow> {
        match self.rows.wait_for(|rows| condition(rows)).await {
            Ok(rows) => rows.to_vec(),
            Err(_) => std::future::pending().await,
        }
    }
}

fn key_of(row: &NodeRow) -> String {
    format!("{}.{}", row.kind, row.node)
}

async fn keep_row(bus: Bus, mut row: watch::Receiver<NodeRow>, mut withdrawn: watch::Receiver<bool>) {
    let mut connected = bus.is_connected();
    let (mut changes_end, mut troubled) = (false, false);
    loop {
        let current = row.borrow_and_update().clone();
        let key = key_of(&current);
        connected.mark_unchanged();
        if *connected.borrow() {
            let trouble = write_row(&bus, &current).await.err();
            match &trouble {
                Some(trouble) if !troubled => {
                    tracing::warn!(node = %current.node, trouble, "others do not see this node yet")
                }
                Some(trouble) => tracing::debug!(node = %current.node, trouble, "presence not renewed"),
                None if troubled => tracing::info!(node = %current.node, "others see this node"),
                None => {}
            }
            troubled = trouble.is_some();
        }
        tokio::select! {
            () = raised_or_dropped(&mut withdrawn) => {
                if let Err(error) = bus.inner.transport.delete(Bucket::Nodes, key, Expect::Anything).await {
                    tracing::debug!(%error, "row not withdrawn; it expires by itself");
                }
                return;
            }
            changed = row.changed(), if !changes_end => changes_end = changed.is_err(),
            _ = connected.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

async fn write_row(bus: &Bus, row: &NodeRow) -> Result<(), String> {
    let value = serde_json::to_vec(row).map_err(|error| error.to_string())?;
    let write = bus.inner.transport.put(Bucket::Nodes, key_of(row), value, Expect::Anything);
    match tokio::time::timeout(PERIOD, write).await {
        Ok(written) => written.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PERIOD:?}")),
    }
}

/// The reader's view: rows, and when each was last heard of on our clock.
struct View {
    /// Rows of other kinds are none of this reader's business.
    kind: Option<DaemonKind>,
    rows: BTreeMap<String, (NodeRow, Instant)>,
    sender: watch::Sender<Arc<Vec<NodeRow>>>,
}

impl View {
    fn apply(&mut self, change: KeyValue) {
        let now = Instant::now();
        let Some(value) = change.value else {
            if self.rows.remove(&change.key).is_some() {
                self.publish();
            }
            return;
        };
        let row: NodeRow = match serde_json::from_slice(&value) {
            Ok(row) => row,
            Err(error) => {
                tracing::warn!(key = change.key, %error, "unreadable node row ignored");
                return;
            }
        };
        // A row speaks for the node whose key it stands under, and for no other.
        if self.kind.is_some_and(|kind| kind != row.kind) {
            return;
        }
        if key_of(&row) != change.key || (self.rows.len() >= MAX_NODES && !self.rows.contains_key(&change.key)) {
            tracing::warn!(key = change.key, "node row ignored: wrong key, or too many nodes");
            return;
        }
        let before = self.rows.insert(change.key, (row.clone(), now));
        if before.is_none_or(|(before, _)| before != row) {
            self.publish();
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.rows.values().map(|(_, heard)| *heard + TTL).min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let before = self.rows.len();
        self.rows.retain(|_, (row, heard)| {
            let alive = now < *heard + TTL;
            if !alive {
                tracing::warn!(node = %row.node, kind = %row.kind, "node is gone: not heard of for {TTL:?}");
            }
            alive
        });
        if self.rows.len() != before {
            self.publish();
        }
    }

    /// The bus is back: everyone gets one full time to live.
    fn grace(&mut self) {
        let now = Instant::now();
        for (_, heard) in self.rows.values_mut() {
            *heard = now;
        }
    }

    fn publish(&self) {
        self.sender.send_replace(Arc::new(self.rows.values().map(|(row, _)| row.clone()).collect()));
    }
}

async fn follow(bus: Bus, kind: Option<DaemonKind>, sender: watch::Sender<Arc<Vec<NodeRow>>>) {
    let mut view = View { kind, rows: BTreeMap::new(), sender };
    let mut connected = bus.is_connected();
    loop {
        until(&mut connected, true).await;
        view.grace();
        let watching = match kind {
            None => bus.inner.transport.watch(Bucket::Nodes).await,
            Some(kind) => bus.inner.transport.overhear(Bucket::Nodes, kind.as_str()).await,
        };
        match watching {
            Ok(changes) => read_changes(&mut view, changes, &mut connected).await,
            Err(KeyError::Transport(error)) => tracing::debug!(%error, "cannot watch the nodes yet"),
            Err(KeyError::Conflict) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Until the watch ends or the bus is away.
async fn read_changes(view: &mut View, mut changes: mpsc::Receiver<KeyValue>, connected: &mut watch::Receiver<bool>) {
    loop {
        let expiry = view.next_expiry();
        let expire = async {
            match expiry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => view.apply(change),
                None => return,
            },
            () = until(connected, false) => return,
            () = expire => view.expire(),
        }
    }
}
