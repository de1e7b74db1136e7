//! From start to end: ready, draining (first SIGTERM), stopping (second SIGTERM or the drain's deadline), reload (SIGHUP).
use crate::config::ConfigFile;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Draining,
    Stopping,
}

/// A daemon's view. Cheap to clone.
#[derive(Clone)]
pub struct Lifecycle {
    phase: watch::Receiver<Phase>,
    config: watch::Receiver<Arc<ConfigFile>>,
    ready: Arc<watch::Sender<bool>>,
    banner: Banner,
}

/// What the person who started the process should know, printed once all daemons are ready.
type Banner = Arc<Mutex<Vec<String>>>;

/// A banner is a screen, not a log.
const MAX_BANNER_LINES: usize = 64;

/// The side that gives the orders: the process's signal handler, or a test.
pub struct LifecycleSwitch {
    phase: watch::Sender<Phase>,
    config: watch::Sender<Arc<ConfigFile>>,
    banner: Banner,
}

/// New configurations, one after another.
pub struct Reloads {
    config: watch::Receiver<Arc<ConfigFile>>,
}

impl LifecycleSwitch {
    pub fn new(config: ConfigFile) -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            config: watch::Sender::new(Arc::new(config)),
            banner: Banner::default(),
        }
    }

    /// A view for one daemon, with a readiness of its own.
    pub fn lifecycle(&self) -> Lifecycle {
        Lifecycle {
            phase: self.phase.subscribe(),
            config: self.config.subscribe(),
            ready: Arc::new(watch::Sender::new(false)),
            banner: self.banner.clone(),
        }
    }

    /// Take no new work, finish what runs.
    pub fn drain(&self) {
        self.phase.send_if_modified(|phase| {
            *phase < Phase::Draining && {
                *phase = Phase::Draining;
                true
            }
        });
    }

    /// End now.
    pub fn stop(&self) {
        self.phase.send_if_modified(|phase| {
            *phase < Phase::Stopping && {
                *phase = Phase::Stopping;
                true
            }
        });
    }

    /// Hands a new configuration to whoever listens.
    pub fn reload(&self, config: ConfigFile) {
        self.config.send_replace(Arc::new(config));
    }

    /// What the daemons have said so far.
    pub fn banner(&self) -> Vec<String> {
        self.banner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn config(&self) -> Arc<ConfigFile> {
        self.config.borrow().clone()
    }
}

impl Lifecycle {
    /// Waits for the order to drain (or to stop).
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Waits for the order to end at once.
    pub async fn stop(&self) {
        self.reached(Phase::Stopping).await;
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    pub fn is_stopping(&self) -> bool {
        *self.phase.borrow() == Phase::Stopping
    }

    /// Configurations that arrive from now on.
    pub fn reload(&self) -> Reloads {
        let mut config = self.config.clone();
        config.mark_unchanged();
        Reloads { config }
    }

    /// Whether `/readyz` may call this daemon ready. False until set.
    pub fn set_ready(&self, ready: bool) {
        self.ready.send_replace(ready);
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow() && !self.is_draining()
    }

    /// One line for the person who started the process: an address to open, a port that is reachable from outside.
    /// Said again (after a restart) it still stands there once.
    pub fn say(&self, line: impl Into<String>) {
        let (line, mut banner) = (line.into(), self.banner.lock().unwrap_or_else(PoisonError::into_inner));
        if banner.len() < MAX_BANNER_LINES && !banner.contains(&line) {
            banner.push(line);
        }
    }

    /// Waits until the daemon has called itself ready.
    pub async fn ready(&self) {
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// A switch that is gone is a process that is ending.
    async fn reached(&self, wanted: Phase) {
        let _ = self.phase.clone().wait_for(|phase| *phase >= wanted).await;
    }
}

impl Reloads {
    /// The next new configuration; never returns when there will be none.
    pub async fn next(&mut self) -> Arc<ConfigFile> {
        if self.config.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.config.borrow_and_update().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_is_also_draining_and_neither_goes_back() {
        let switch = LifecycleSwitch::new(ConfigFile::default());
        let lifecycle = switch.lifecycle();
        lifecycle.set_ready(true);
        assert!(lifecycle.is_ready() && !lifecycle.is_draining());
        switch.stop();
        switch.drain();
        lifecycle.draining().await;
        lifecycle.stop().await;
        assert!(lifecycle.is_stopping() && !lifecycle.is_ready());
    }

    #[tokio::test]
    async fn a_reload_reaches_every_daemon_once() {
        let switch = LifecycleSwitch::new(ConfigFile::default());
        let mut reloads = switch.lifecycle().reload();
        let config = ConfigFile::parse("new.toml", "[runtime]\nlog = \"debug\"\n", []).unwrap();
        switch.reload(config);
        assert_eq!(reloads.next().await.runtime().unwrap().log, "debug");
        assert!(!reloads.config.has_changed().unwrap());
    }
}
