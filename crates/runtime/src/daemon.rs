//! The shape of a daemon: configuration read once, built with what it depends on, run until told to stop.
use crate::config::{ConfigError, ConfigFile};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::supervisor::{End, Slot, supervise};
use offhook_bus::Bus;
use offhook_contract::{BootId, DaemonKind, NodeId};
use offhook_link::{HostThreads, TapForm};
use std::future::Future;
use std::path::PathBuf;

/// The IO shell of one daemon.
pub trait Daemon: Sized + Send + 'static {
    const KIND: DaemonKind;
    type Config: Send + 'static;

    /// Reads and checks this daemon's part of the configuration.
    fn config(file: &ConfigFile) -> Result<Self::Config, ConfigError>;
    /// Opens sockets and files. What it returns is ready to run.
    fn build(config: Self::Config, deps: Deps) -> impl Future<Output = Result<Self, StartError>> + Send;
    /// Runs until drained or stopped. Returning before that, or with an error, is a failure: the daemon is restarted.
    fn run(self) -> impl Future<Output = Result<(), RunError>> + Send;
}

/// A daemon as a process runs it. Its crate keeps one in a `static`: whatever waits inside the daemon is compiled there,
/// once, and not again in every program that runs it.
#[derive(Clone, Copy)]
pub struct Program {
    pub(crate) kind: DaemonKind,
    /// Reads its part of a configuration, for the mistakes only.
    pub(crate) check: fn(&ConfigFile) -> Result<(), ConfigError>,
    pub(crate) supervise: fn(&Slot) -> End,
}

impl Program {
    #[must_use]
    pub const fn of<D: Daemon>() -> Self {
        Self { kind: D::KIND, check: |file| D::config(file).map(drop), supervise: supervise::<D> }
    }
}

/// What a daemon is given. It does not know whether it runs alone or with others in one process.
pub struct Deps {
    pub node: NodeId,
    /// This life of the node.
    pub boot: BootId,
    pub bus: Bus,
    /// How Taps travel: between machines, or inside this process.
    pub taps: TapForm,
    /// Media threads of this process that host other daemons' sockets; `None` where every daemon is a process.
    pub hosts: Option<HostThreads>,
    pub lifecycle: Lifecycle,
    pub metrics: Metrics,
    /// The daemon's own directory; exists, readable by its owner only.
    pub data_dir: PathBuf,
    /// `offhook up --dev`: one-click sign-ins and secrets made on the first start.
    pub dev: bool,
}

/// Why a daemon could not start: what it was doing, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub struct StartError {
    pub doing: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// Starting again does not mend it.
    pub is_config: bool,
}

impl StartError {
    /// `doing` completes "cannot …": `"bind [sip] listen 203.0.113.1:5060"`.
    pub fn new(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { doing: doing.into(), source: source.into(), is_config: false }
    }

    /// The same for a mistake in the configuration that shows only here: the process ends, and is not to be started again.
    pub fn config(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { is_config: true, ..Self::new(doing, source) }
    }
}

/// Why a running daemon ended.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing}")]
pub struct RunError {
    pub doing: String,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl RunError {
    /// `doing` completes "failed to …".
    pub fn new(doing: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { doing: doing.into(), source: source.into() }
    }
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
