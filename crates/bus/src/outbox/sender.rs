//! Sends what the outbox holds, oldest first. A pause follows each failure and doubles; the bus coming back ends it.
//! A fact that call-control refuses, or that the bus cannot carry, does not hold up those behind it: it waits aside and is tried again later.
use super::{Order, Shared};
use crate::bus::Bus;
use crate::request::BusError;
use crate::subject::Target;
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::{Context, ErrorCode, FactRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between attempts with a fact that was refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);
const READ_AHEAD: usize = 64;

struct Sender {
    bus: Bus,
    orders: mpsc::WeakSender<Order>,
    shared: Arc<Shared>,
    /// Refused facts, and when each is tried again.
    parked: BTreeMap<u64, Instant>,
    /// Everything before this is stored or parked.
    next: u64,
}

/// Ends when the outbox is closed.
pub(super) async fn send_for_ever(bus: Bus, orders: mpsc::WeakSender<Order>, shared: Arc<Shared>) {
    let mut connected = bus.is_connected();
    let mut newest = shared.newest.subscribe();
    let mut sender = Sender { bus, orders, shared, parked: BTreeMap::new(), next: 0 };
    let mut pause = FIRST_PAUSE;
    loop {
        newest.mark_unchanged();
        match sender.send_pending().await {
            Progress::Closed => return,
            Progress::Done => {
                pause = FIRST_PAUSE;
                let again = sender.parked.values().min().copied();
                tokio::select! {
                    changed = newest.changed() => if changed.is_err() { return },
                    () = at(again) => {}
                }
            }
            Progress::Failed => {
                wait_to_retry(&mut connected, pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Progress {
    Done,
    Failed,
    Closed,
}

impl Sender {
    async fn send_pending(&mut self) -> Progress {
        let now = Instant::now();
        if let Some(due) = self.parked.iter().filter(|(_, again)| **again <= now).map(|(sequence, _)| *sequence).min() {
            // From the oldest that is due; the others parked behind it are passed over below.
            self.next = self.next.min(due);
        }
        loop {
            let Some(facts) = self.read().await else { return Progress::Closed };
            let Some(last) = facts.last().map(|f| f.sequence) else { return Progress::Done };
            for fact in facts {
                let sequence = fact.sequence;
                if self.parked.get(&sequence).is_some_and(|again| *again > Instant::now()) {
                    continue;
                }
                match self.send(fact).await {
                    Ok(()) => {
                        self.parked.remove(&sequence);
                        self.confirm(sequence).await;
                    }
                    Err(error) if is_final(&error) => {
                        tracing::warn!(sequence, %error, "a fact was refused; it is kept and tried again");
                        self.parked.insert(sequence, Instant::now() + REFUSED_PAUSE);
                    }
                    Err(error) => {
                        tracing::debug!(sequence, %error, "fact not stored yet");
                        self.next = sequence;
                        return Progress::Failed;
                    }
                }
                self.shared.parked.store(self.parked.len() as u64, Ordering::Relaxed);
            }
            self.next = last + 1;
        }
    }

    async fn send(&self, record: FactRecord) -> Result<(), BusError> {
        let context = Context { tenant: Some(record.tenant.clone()), call: Some(record.call.clone()), epoch: None };
        let request = StoreFact { record };
        let FactReceipt::Stored = self.bus.request(Target::Any, &context, &request, TIMEOUT).await?;
        Ok(())
    }

    async fn read(&self) -> Option<Vec<FactRecord>> {
        let (done, answer) = oneshot::channel();
        let order = Order::Read { from: self.next, count: READ_AHEAD, done };
        self.orders.upgrade()?.send(order).await.ok()?;
        match answer.await.ok()? {
            Ok(facts) => Some(facts),
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read; its facts wait");
                tokio::time::sleep(LONGEST_PAUSE).await;
                Some(Vec::new())
            }
        }
    }

    async fn confirm(&self, sequence: u64) {
        if let Some(orders) = self.orders.upgrade() {
            // Closed: the fact is sent again by the next life and counts once.
            let _ = orders.send(Order::Stored { sequences: vec![sequence] }).await;
        }
    }
}

/// What the same fact will meet again at once, while those behind it need not.
fn is_final(error: &BusError) -> bool {
    match error {
        BusError::Refused(refusal) => matches!(
            refusal.code,
            ErrorCode::Invalid
                | ErrorCode::Unsupported
                | ErrorCode::NotFound
                | ErrorCode::Conflict
                | ErrorCode::Refused
        ),
        BusError::TooLarge { .. } | BusError::Encode(_) => true,
        _ => false,
    }
}

async fn wait_to_retry(connected: &mut watch::Receiver<bool>, pause: Duration) {
    let away = !*connected.borrow_and_update();
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        changed = connected.changed(), if away => {
            if changed.is_err() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
