//! One process with one or several daemons: signals, health, restarts, drain and end.
use crate::config::{ConfigError, ConfigFile};
use crate::daemon::{Program, with_causes};
use crate::entry::EX_CONFIG;
use crate::health::{self, Health};
use crate::lifecycle::{Lifecycle, LifecycleSwitch};
use crate::logging::{set_log_level, start_logging};
use crate::metrics::{Counter, Metrics};
use crate::shown::show_full_addresses;
use crate::supervisor::{End, Slot};
use offhook_bus::Bus;
use offhook_contract::DaemonKind;
use offhook_link::{HostThreads, TapForm};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// After the order to end at once, threads that hang are left behind.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

const EX_FAILURE: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot serve [runtime] health_listen {address} (is it running already?)")]
    HealthListen { address: SocketAddr, source: std::io::Error },
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot start a tokio runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot start the thread of {kind}")]
    Thread { kind: DaemonKind, source: std::io::Error },
}

/// The one TLS provider of every crate. Later calls change nothing.
pub fn install_crypto_provider() {
    // An error means that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Everything that this process creates is its owner's alone: keys, databases, recordings.
pub fn restrict_new_files() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// A process before it runs.
pub struct Process {
    runtime: tokio::runtime::Runtime,
    switch: Arc<LifecycleSwitch>,
    metrics: Metrics,
    daemons: Vec<Member>,
    health_listen: Vec<SocketAddr>,
    drain_timeout: Duration,
    dev: bool,
    hosts: Option<HostThreads>,
}

struct Member {
    program: Program,
    lifecycle: Lifecycle,
    /// Why it does not run, of one that the process can do without.
    trouble: Option<watch::Receiver<String>>,
    slot: Slot,
}

impl Process {
    /// Reads `[runtime]`, starts the log. `default_health` serves when the configuration names no address.
    pub fn new(config: ConfigFile, default_health: SocketAddr, dev: bool) -> Result<Self, ProcessError> {
        let settings = config.runtime()?;
        start_logging(&settings.log, settings.log_format);
        show_full_addresses(settings.log_full_addresses);
        install_crypto_provider();
        restrict_new_files();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("process-tokio")
            .enable_all()
            .build()
            .map_err(ProcessError::Runtime)?;
        let health_listen =
            if settings.health_listen.is_empty() { vec![default_health] } else { settings.health_listen.clone() };
        Ok(Self {
            runtime,
            switch: Arc::new(LifecycleSwitch::new(config)),
            metrics: Metrics::new(),
            daemons: Vec::new(),
            health_listen,
            drain_timeout: settings.drain_timeout(),
            dev,
            hosts: None,
        })
    }

    /// The daemons added from now on may host each other's sockets in one thread.
    pub fn share_threads(&mut self) {
        self.hosts = Some(HostThreads::default());
    }

    /// The process's own runtime, which outlives every daemon: the bus connection lives here.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Adds a daemon. Its configuration is checked now, so that a mistake ends the process before anything starts.
    pub fn add(&mut self, program: &Program, bus: &Bus, taps: &TapForm) -> Result<(), ProcessError> {
        self.add_as(program, bus, taps, false)
    }

    /// The same for a daemon without which the others are of use: while it fails it is tried again, and nobody waits.
    pub fn add_optional(&mut self, program: &Program, bus: &Bus, taps: &TapForm) -> Result<(), ProcessError> {
        self.add_as(program, bus, taps, true)
    }

    fn add_as(&mut self, program: &Program, bus: &Bus, taps: &TapForm, optional: bool) -> Result<(), ProcessError> {
        (program.check)(&self.switch.config())?;
        let lifecycle = self.switch.lifecycle();
        let slot = Slot {
            switch: self.switch.clone(),
            lifecycle: lifecycle.clone(),
            bus: bus.clone(),
            taps: taps.clone(),
            hosts: self.hosts.clone(),
            metrics: self.metrics.for_daemon(program.kind.as_str()),
            dev: self.dev,
            optional,
            trouble: watch::Sender::default(),
        };
        self.daemons.push(Member {
            program: *program,
            lifecycle,
            trouble: optional.then(|| slot.trouble.subscribe()),
            slot,
        });
        Ok(())
    }

    /// Runs until SIGTERM, SIGINT or a daemon that fails too often. `on_ready` is called once, when all are ready, with
    /// what they said for the banner.
    pub fn run(self, bus: &Bus, on_ready: impl FnOnce(Vec<String>) + Send + 'static) -> Result<ExitCode, ProcessError> {
        let Self { runtime, switch, metrics, daemons, health_listen, drain_timeout, .. } = self;
        let programs: Vec<_> = daemons.iter().map(|d| d.program).collect();
        let members: Vec<_> =
            daemons.iter().map(|d| (d.program.kind, d.lifecycle.clone(), d.trouble.clone())).collect();
        let reloads = Reloads::counted(&metrics);
        let health = Arc::new(Health { daemons: members.clone(), bus_connected: bus.is_connected(), metrics });
        let code = runtime.block_on(async {
            let orders = Orders::listen()?;
            for address in health_listen {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(|source| ProcessError::HealthListen { address, source })?;
                tokio::spawn(health::serve(listener, health.clone()));
            }
            let ends = start_threads(daemons)?;
            let sayings = switch.clone();
            tokio::spawn(async move {
                for (kind, lifecycle, trouble) in members {
                    tokio::select! {
                        () = lifecycle.ready() => {}
                        why = failed(trouble) => lifecycle.say(format!("without {kind}, which is tried again: {why}")),
                    }
                }
                crate::systemd::notify("READY=1");
                on_ready(sayings.banner());
            });
            Ok(Conductor { switch, programs, drain_timeout, orders, ends, reloads, failed: None }.run().await)
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        code
    }
}

/// Why a daemon failed that nobody waits for; never returns while there is no such failure.
async fn failed(trouble: Option<watch::Receiver<String>>) -> String {
    if let Some(mut trouble) = trouble
        && let Ok(why) = trouble.wait_for(|why| !why.is_empty()).await
    {
        return why.clone();
    }
    std::future::pending().await
}

fn start_threads(daemons: Vec<Member>) -> Result<mpsc::Receiver<End>, ProcessError> {
    let (sender, ends) = mpsc::channel(daemons.len().max(1));
    for member in daemons {
        let (sender, program, slot) = (sender.clone(), member.program, member.slot);
        std::thread::Builder::new()
            .name(program.kind.as_str().to_owned())
            .spawn(move || {
                // The receiver is gone only when the process ends anyway.
                let _ = sender.blocking_send((program.supervise)(&slot));
            })
            .map_err(|source| ProcessError::Thread { kind: program.kind, source })?;
    }
    Ok(ends)
}

/// What the operating system asks of us.
struct Orders {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Orders {
    fn listen() -> Result<Self, ProcessError> {
        let on = |kind| signal(kind).map_err(ProcessError::Signals);
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

/// How often SIGHUP was obeyed, and how often the configuration was wrong.
struct Reloads {
    done: Counter,
    failed: Counter,
}

impl Reloads {
    fn counted(metrics: &Metrics) -> Self {
        Self {
            done: metrics.counter("config_reloads_total", "Configurations read again at SIGHUP."),
            failed: metrics.counter("config_reload_failures_total", "Configurations refused at SIGHUP."),
        }
    }
}

struct Conductor {
    switch: Arc<LifecycleSwitch>,
    programs: Vec<Program>,
    drain_timeout: Duration,
    orders: Orders,
    ends: mpsc::Receiver<End>,
    reloads: Reloads,
    /// How the process will end.
    failed: Option<u8>,
}

impl Conductor {
    async fn run(mut self) -> ExitCode {
        self.until_drain().await;
        self.until_all_ended().await;
        self.failed.map_or(ExitCode::SUCCESS, ExitCode::from)
    }

    /// Normal life: until the first order to end, or until a daemon has failed for good.
    async fn until_drain(&mut self) {
        loop {
            tokio::select! {
                _ = self.orders.terminate.recv() => break,
                _ = self.orders.interrupt.recv() => break,
                _ = self.orders.hang_up.recv() => self.reload(),
                end = self.ends.recv() => {
                    self.failed = match end {
                        Some(End::Orderly) => None,
                        Some(End::Misconfigured) => Some(EX_CONFIG),
                        Some(End::Failed | End::GaveUp) | None => Some(EX_FAILURE),
                    };
                    self.switch.stop();
                    return;
                }
            }
        }
        tracing::info!(deadline = ?self.drain_timeout, "draining: no new work; a second signal ends at once");
        crate::systemd::notify("STOPPING=1");
        self.switch.drain();
    }

    async fn until_all_ended(&mut self) {
        let drain_deadline = tokio::time::sleep(self.drain_timeout);
        tokio::pin!(drain_deadline);
        let stopping = self.switch.lifecycle();
        let give_up = async {
            stopping.stop().await;
            tokio::time::sleep(STOP_DEADLINE).await;
        };
        tokio::pin!(give_up);
        loop {
            tokio::select! {
                end = self.ends.recv() => match end {
                    Some(End::Orderly) => {}
                    Some(_) => self.failed = self.failed.or(Some(EX_FAILURE)),
                    None => return,
                },
                _ = self.orders.terminate.recv() => self.switch.stop(),
                _ = self.orders.interrupt.recv() => self.switch.stop(),
                () = &mut drain_deadline, if !stopping.is_stopping() => {
                    tracing::warn!("the drain's deadline has passed: ending what still runs");
                    self.switch.stop();
                }
                () = &mut give_up => {
                    tracing::error!("a daemon did not end in time; the process ends without it");
                    self.failed = self.failed.or(Some(EX_FAILURE));
                    return;
                }
            }
        }
    }

    /// A configuration with a mistake changes nothing.
    fn reload(&self) {
        let read = self.switch.config().reread().and_then(|config| {
            let settings = config.runtime()?;
            self.programs.iter().try_for_each(|program| (program.check)(&config))?;
            Ok((config, settings))
        });
        match read {
            Ok((config, settings)) => {
                set_log_level(&settings.log);
                show_full_addresses(settings.log_full_addresses);
                self.switch.reload(config);
                self.reloads.done.increment();
                tracing::info!("configuration read again");
            }
            Err(error) => {
                self.reloads.failed.increment();
                tracing::error!(error = with_causes(&error), "configuration not read again; the old one stays");
            }
        }
    }
}
