//! Reads the database again: every few seconds, and soon after somebody could not log in.
use super::desk::{self, Desk};
use super::{AtDesk, DatabasePlan, Rows};
use offhook_turn_core::{AuthError, Denial, Output};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

const EVERY: Duration = Duration::from_secs(5);
/// Between two readings at least; and at least so many times what a reading takes that succeeds, up to a bound.
const GAP: Duration = Duration::from_millis(500);
const REST: u32 = 20;
const REST_MAX: Duration = Duration::from_secs(30);

/// A file that shows no write is read again all the same: two writes may fall into one tick of its clock.
const SURELY_EVERY: Duration = Duration::from_secs(60);

/// Told by whoever sees a failed login: the user may have come since.
#[derive(Clone, Default)]
pub(crate) struct Poke(Arc<Notify>);

impl Poke {
    /// After a failed login that a new user, or a new password, would explain.
    pub(crate) fn hear(&self, output: &Output) {
        if let Output::Denied(denied) = output
            && matches!(denied.why, Denial::Auth(AuthError::Unknown(_) | AuthError::Password))
        {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        self.0.notify_one();
    }
}

/// A database under watch; dropped, it is left alone.
pub(crate) struct Watch {
    pub(crate) plan: DatabasePlan,
    desk: Arc<Desk>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Watch {
    /// `known` was read before; what differs from it is sent.
    pub(crate) fn start(plan: DatabasePlan, known: Option<Rows>, poke: Poke, changes: mpsc::Sender<Rows>) -> Self {
        let (desk, serves) = desk::open(plan.clone(), poke.clone());
        let tasks = [tokio::spawn(watch(plan.clone(), known, poke, changes)), tokio::spawn(serves)];
        Self { plan, desk, tasks }
    }

    pub(super) fn desk(&self) -> AtDesk {
        AtDesk(Some((Arc::clone(&self.desk), self.plan.users)))
    }
}

async fn watch(plan: DatabasePlan, known: Option<Rows>, poke: Poke, changes: mpsc::Sender<Rows>) {
    let mut is_away = known.is_none();
    let mut known = known.unwrap_or_default();
    let mut rest = GAP;
    let mut seen = None;
    loop {
        sleep(rest).await;
        let _ = timeout(EVERY, poke.0.notified()).await;
        let began = Instant::now();
        // Taken before the reading: what is written meanwhile is another stamp.
        let stamp = plan.source.stamp();
        if stamp.is_some() && seen.is_some_and(|(last, at)| last == stamp && began.duration_since(at) < SURELY_EVERY) {
            continue;
        }
        let read = plan.read().await;
        seen = read.is_ok().then_some((stamp, began));
        // Who is away is asked again soon: waiting costs nothing.
        rest = if read.is_ok() { (began.elapsed() * REST).clamp(GAP, REST_MAX) } else { GAP };
        match read {
            Ok(rows) => {
                if is_away {
                    tracing::info!(database = %plan.source, "the user database is there again");
                }
                is_away = false;
                if rows != known {
                    rows.remarks.iter().filter(|remark| !known.remarks.contains(remark)).for_each(|remark| {
                        tracing::warn!(database = %plan.source, "{remark}");
                    });
                    known = rows.clone();
                    if changes.send(rows).await.is_err() {
                        return;
                    }
                }
            }
            // Once, not every few seconds.
            Err(error) => {
                if !is_away {
                    tracing::error!(database = %plan.source, %error, "the user database cannot be read: known users go on");
                }
                is_away = true;
            }
        }
    }
}
