//! Facts on their way into the outbox: written by a task of their own, so that a slow disk does not hold up signalling.

use std::path::Path;
use std::time::Duration;

use offhook_bus::{Bus, Outbox, OutboxError, wall_now};
use offhook_contract::{CallId, Fact, TenantId, UnixMs};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::legs::Identity;

/// Facts that may wait for the disk; then the gateway's task waits as well: facts are not lost.
const WAITING: usize = 1_024;
/// At the end, how long call-control may take to store the last facts.
const FAREWELL: Duration = Duration::from_secs(1);

struct Waiting {
    tenant: TenantId,
    call: CallId,
    at: UnixMs,
    fact: Fact,
}

pub struct Facts {
    queue: mpsc::Sender<Waiting>,
    writer: JoinHandle<()>,
    outbox: Outbox,
}

impl Facts {
    /// Opens the outbox in the daemon's directory.
    pub async fn open(directory: &Path, bus: &Bus) -> Result<Self, OutboxError> {
        let outbox = Outbox::open(&directory.join("outbox.redb"), bus).await?;
        let (queue, waiting) = mpsc::channel(WAITING);
        let writer = tokio::spawn(write(outbox.clone(), waiting));
        Ok(Self { queue, writer, outbox })
    }

    /// Takes a fact. Waits only when a thousand others wait for the disk.
    pub async fn tell(&self, identity: &Identity, fact: Fact) {
        let (tenant, call) = (identity.tenant.clone(), identity.call.clone());
        if self.queue.send(Waiting { tenant, call, at: wall_now(), fact }).await.is_err() {
            tracing::error!(call = %identity.call, leg = %identity.leg, "a fact is lost: its writer has ended");
        }
    }

    /// Facts that call-control has not stored yet.
    pub fn pending(&self) -> u64 {
        self.outbox.pending()
    }

    /// Waits until everything told is on disk, and a moment longer for call-control to store it; what it has not stored
    /// by then goes out with the next start.
    pub async fn close(self) {
        drop(self.queue);
        if let Err(error) = self.writer.await {
            tracing::error!(%error, "the facts' writer failed");
        }
        let stored = async {
            while self.outbox.pending() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(FAREWELL, stored).await.is_err() {
            tracing::info!(facts = self.outbox.pending(), "facts wait in the outbox for the next start");
        }
    }
}

async fn write(outbox: Outbox, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some(Waiting { tenant, call, at, fact }) = waiting.recv().await {
        let kind = format!("{fact:?}");
        if let Err(error) = outbox.append_at(tenant, call.clone(), at, fact).await {
            tracing::error!(%call, fact = kind, %error, "a fact is lost");
        }
    }
}
