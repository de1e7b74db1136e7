//! One daemon on its own thread and tokio runtime: built, run, and after a failure built again with a growing pause.
//! Five failures within a minute end the process: something is wrong that starting again does not mend. A daemon without
//! which the others work ends nobody: it is tried again for ever, at most once a minute.
use crate::daemon::{Daemon, Deps, StartError, with_causes};
use crate::identity;
use crate::lifecycle::{Lifecycle, LifecycleSwitch};
use crate::metrics::Metrics;
use offhook_bus::Bus;
use offhook_link::{HostThreads, TapForm};
use std::collections::VecDeque;
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const FAILURES_THAT_END_THE_PROCESS: usize = 5;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
/// Between two starts of a daemon that the process can do without.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How long a daemon may take to end after it was told to end at once.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What one daemon's thread needs.
pub(crate) struct Slot {
    pub(crate) switch: Arc<LifecycleSwitch>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) bus: Bus,
    pub(crate) taps: TapForm,
    pub(crate) hosts: Option<HostThreads>,
    pub(crate) metrics: Metrics,
    pub(crate) dev: bool,
    /// The process goes on without it.
    pub(crate) optional: bool,
    /// Why it does not run; empty while it does.
    pub(crate) trouble: watch::Sender<String>,
}

/// How a daemon's thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was told to end, and did.
    Orderly,
    /// It failed while it should have ended.
    Failed,
    /// It failed too often.
    GaveUp,
    /// Its configuration is wrong in what only it could see.
    Misconfigured,
}

/// One line for the log.
struct Failure {
    reason: String,
    is_config: bool,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self { reason, is_config: false }
    }
}

/// When to start again.
#[derive(Default)]
struct Failures {
    recent: VecDeque<Instant>,
    optional: bool,
    /// Since it last lived for long.
    in_a_row: u32,
}

impl Failures {
    /// The pause before the next start, or `None` when there were too many.
    fn record(&mut self, now: Instant, lived: Duration) -> Option<Duration> {
        if self.optional {
            self.in_a_row = if lived > FAILURE_WINDOW { 0 } else { self.in_a_row.saturating_add(1) };
            let doublings = self.in_a_row.saturating_sub(1).min(16);
            return Some(LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.pow(doublings)));
        }
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > FAILURE_WINDOW) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() >= FAILURES_THAT_END_THE_PROCESS {
            return None;
        }
        let doublings = u32::try_from(self.recent.len()).unwrap_or(1) - 1;
        Some(FIRST_PAUSE * 2_u32.pow(doublings))
    }
}

/// Runs one daemon until it is told to end or fails too often. Blocks its thread.
pub(crate) fn supervise<D: Daemon>(slot: &Slot) -> End {
    let mut failures = Failures { optional: slot.optional, ..Failures::default() };
    let restarts = slot.metrics.counter("restarts_total", "Starts of the daemon after a failure.");
    loop {
        let began = Instant::now();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run_once::<D>(slot)));
        slot.lifecycle.set_ready(false);
        let Failure { reason, is_config } = match outcome {
            Ok(Ok(())) if slot.lifecycle.is_draining() => return End::Orderly,
            Ok(Ok(())) => "it ended without being asked to".to_owned().into(),
            Ok(Err(failure)) => failure,
            Err(_) => "it panicked".to_owned().into(),
        };
        if slot.lifecycle.is_draining() {
            tracing::error!(daemon = %D::KIND, reason, "daemon failed while ending");
            return End::Failed;
        }
        if is_config && !slot.optional {
            tracing::error!(daemon = %D::KIND, reason, "wrong configuration: the process ends");
            return End::Misconfigured;
        }
        let Some(pause) = failures.record(Instant::now(), began.elapsed()) else {
            tracing::error!(daemon = %D::KIND, reason, "daemon failed five times in a minute: the process ends");
            return End::GaveUp;
        };
        if slot.optional {
            tracing::error!(daemon = %D::KIND, reason, again_in = ?pause, "daemon failed; the others go on without it");
        } else {
            tracing::error!(daemon = %D::KIND, reason, again_in = ?pause, "daemon failed");
        }
        slot.trouble.send_replace(reason);
        restarts.increment();
        slot.metrics.clear_gauges();
        if wait(slot, pause) {
            return End::Orderly;
        }
    }
}

/// One life.
fn run_once<D: Daemon>(slot: &Slot) -> Result<(), Failure> {
    let file = slot.switch.config();
    let config = D::config(&file).map_err(|e| with_causes(&e))?;
    let data_dir = make_data_dir::<D>(slot)?;
    let runtime_config = file.runtime().map_err(|e| with_causes(&e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(format!("{}-tokio", D::KIND))
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start a tokio runtime: {error}"))?;
    let deps = Deps {
        node: identity::node_id(runtime_config.node.as_deref(), D::KIND),
        boot: identity::new_boot(),
        bus: slot.bus.clone(),
        taps: slot.taps.clone(),
        hosts: slot.hosts.clone(),
        lifecycle: slot.lifecycle.clone(),
        metrics: slot.metrics.clone(),
        data_dir,
        dev: slot.dev,
    };
    tracing::info!(daemon = %D::KIND, node = %deps.node, boot = %deps.boot, "starting");
    let outcome = runtime.block_on(live::<D>(config, deps, &slot.lifecycle));
    runtime.shutdown_timeout(STOP_GRACE);
    outcome
}

async fn live<D: Daemon>(config: D::Config, deps: Deps, lifecycle: &Lifecycle) -> Result<(), Failure> {
    let life = async {
        let wrong = |error: StartError| Failure { reason: with_causes(&error), is_config: error.is_config };
        let daemon = D::build(config, deps).await.map_err(wrong)?;
        daemon.run().await.map_err(|e| Failure::from(with_causes(&e)))
    };
    let overdue = async {
        lifecycle.stop().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        outcome = life => outcome,
        () = overdue => Err(format!("still running {STOP_GRACE:?} after the order to end").into()),
    }
}

/// Each daemon has a directory of its own that only its owner may read.
fn make_data_dir<D: Daemon>(slot: &Slot) -> Result<PathBuf, String> {
    let storage = slot.switch.config().storage().map_err(|e| with_causes(&e))?;
    let dir = storage.data_dir.join(D::KIND.as_str());
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|error| format!("cannot make the directory {}: {error}", dir.display()))?;
    Ok(dir)
}

/// Waits before the next start; true when the order to end came meanwhile.
fn wait(slot: &Slot, pause: Duration) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(_) => return false,
    };
    runtime.block_on(async { tokio::time::timeout(pause, slot.lifecycle.draining()).await.is_ok() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, ConfigFile};
    use crate::daemon::RunError;
    use offhook_contract::DaemonKind;

    struct Wrong;

    impl Daemon for Wrong {
        const KIND: DaemonKind = DaemonKind::Turn;
        type Config = ();

        fn config(_: &ConfigFile) -> Result<(), ConfigError> {
            Ok(())
        }

        async fn build((): (), _: Deps) -> Result<Self, StartError> {
            Err(StartError::config("serve", "nobody could log in"))
        }

        async fn run(self) -> Result<(), RunError> {
            Ok(())
        }
    }

    #[test]
    fn a_mistake_in_the_configuration_that_shows_at_the_start_ends_the_process_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[storage]\ndata_dir = \"{}\"\n", folder.path().display());
        let switch = Arc::new(LifecycleSwitch::new(ConfigFile::parse("test.toml", &text, []).unwrap()));
        let metrics = Metrics::new();
        let slot = Slot {
            lifecycle: switch.lifecycle(),
            switch,
            bus: Bus::in_process("test").unwrap(),
            taps: TapForm::Network,
            hosts: None,
            metrics: metrics.for_daemon("turn"),
            dev: false,
            optional: false,
            trouble: watch::Sender::default(),
        };
        assert_eq!(supervise::<Wrong>(&slot), End::Misconfigured);
        assert!(metrics.render().contains("restarts_total{daemon=\"turn\"} 0\n"), "{}", metrics.render());
    }

    #[test]
    fn the_fifth_failure_in_a_minute_is_one_too_many_and_slow_failures_go_on_for_ever() {
        let (start, mut fast, mut slow) = (Instant::now(), Failures::default(), Failures::default());
        let pauses: Vec<_> = (0..5).map(|n| fast.record(start + Duration::from_secs(n), Duration::ZERO)).collect();
        let expected = [500, 1_000, 2_000, 4_000].map(|ms| Some(Duration::from_millis(ms)));
        assert_eq!(pauses.get(..4).unwrap(), expected);
        assert_eq!(pauses.last().unwrap(), &None);
        assert!((0..50).all(|n| slow.record(start + Duration::from_secs(n * 20), Duration::ZERO).is_some()));
    }

    #[test]
    fn what_the_process_can_do_without_is_tried_for_ever_with_pauses_that_grow_to_a_minute() {
        let mut failures = Failures { optional: true, ..Failures::default() };
        let mut record = |lived| failures.record(Instant::now(), lived).unwrap().as_millis();
        let pauses: Vec<_> = (0..40).map(|_| record(Duration::ZERO)).collect();
        assert_eq!(pauses[..9], [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(pauses.last(), Some(&60_000));
        assert_eq!((record(Duration::from_secs(61)), record(Duration::ZERO)), (500, 500));
    }
}
