//! A server under the signals of coturn: TERM and INT end it, USR1 drains, HUP reads everything again, USR2 the
//! certificate. The user database is read beside it.
use crate::addresses::own_addresses;
use crate::cli::{CliError, Invocation, Names, say};
use crate::database::{Kept, Poke};
use crate::log::{self, Log};
use crate::metrics;
use crate::plan::Plan;
use crate::reload::keep_fixed;
use crate::server::Server;
use crate::traffic::Traffic;
use offhook_runtime::systemd;
use offhook_turn_core::Output;
use offhook_turn_core::conf::Conf;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How soon sockets of ours are shut on an address that the host is given while it runs (RFC 8981).
const OWN_ADDRESSES_EVERY: Duration = Duration::from_secs(3);

/// The server, and what it was made from.
pub(crate) struct Running {
    server: Server,
    /// As it acts: what waits for a restart is not in it.
    conf: Conf,
    /// Of that, without what the user database says.
    plan: Plan,
    names: Names,
    own_addresses: Vec<IpAddr>,
    traffic: Arc<Traffic>,
    log: Log,
    database: Kept,
}

impl Running {
    /// Reads the user database and binds everything.
    pub(crate) async fn start((conf, names): (Conf, Names), plan: Plan, log: Log) -> Result<Self, CliError> {
        let database = Kept::open(&plan).await;
        let metrics = plan.metrics.clone();
        let traffic =
            Arc::new(Traffic::new(plan.settings.users.realm(), conf.rest_api_separator, plan.username_labels));
        let mut admitted = plan.clone();
        admitted.admit(database.rows());
        let (server, told) = Server::start(admitted).await?;
        let (write, count) = (database.poke(), Arc::clone(&traffic));
        std::thread::Builder::new()
            .name("turn-log".into())
            .spawn(move || told.iter().for_each(|output| hear(&output, &count, &write)))
            .map_err(CliError::doing("start the log's thread"))?;
        if let Some((address, path)) = metrics {
            serve_metrics(address, path, &server, Arc::clone(&traffic)).await?;
        }
        Ok(Self { server, conf, plan, names, own_addresses: own_addresses(), traffic, log, database })
    }

    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        self.log.path()
    }

    /// The configuration again, with the database again.
    async fn reload(&mut self, invocation: &Invocation) {
        let read = invocation.read_again(&self.names).and_then(|(mut reading, unknown)| {
            say(&reading);
            for named in unknown {
                tracing::warn!("{named} was not there at start, and waits for a restart");
            }
            // What would not start is not taken over in part.
            Plan::of(&reading.conf)?;
            let kept = keep_fixed(&self.conf, &mut reading.conf);
            Ok((Plan::of(&reading.conf)?, reading.conf, kept))
        });
        // Whatever else is wrong: a log file that was renamed is left.
        self.log.reopen(read.as_ref().map_or(&self.conf.log, |(_, conf, _)| &conf.log));
        let (plan, conf, kept) = match read {
            Ok(read) => read,
            Err(error) => return tracing::error!(%error, "configuration not read again: the old one stays"),
        };
        for option in kept {
            tracing::warn!("{option} was changed and waits for a restart");
        }
        plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.database.reopen(&plan).await;
        self.traffic.reload(plan.settings.users.realm(), conf.rest_api_separator, plan.username_labels);
        (self.conf, self.plan, self.own_addresses) = (conf, plan, own_addresses());
        self.apply().await;
        tracing::info!("configuration read again");
    }

    async fn apply(&self) {
        let mut plan = self.plan.clone();
        plan.admit(self.database.rows());
        self.server.reload(&plan).await;
    }

    /// The host was given an address, or lost one.
    async fn take_own_addresses(&mut self) {
        let own = own_addresses();
        if own == self.own_addresses {
            return;
        }
        let listed = &mut self.plan.settings.policy.own_addresses;
        listed.retain(|ip| !self.own_addresses.contains(ip));
        listed.extend(&own);
        tracing::info!(addresses = own.len(), "this host's addresses changed");
        self.own_addresses = own;
        self.apply().await;
    }

    /// The database changed while everything else stayed.
    async fn take_rows(&self) {
        let rows = self.database.rows();
        self.apply().await;
        tracing::info!(users = rows.users.len(), secrets = rows.secrets.len(), "user database changed");
    }

    /// As the configuration names it by now.
    fn take_certificate(&self) {
        match self.server.replace_certificate(self.plan.certificate.as_ref()) {
            Ok(()) => tracing::info!("certificate read again"),
            Err(error) => tracing::error!(%error, "certificate not read again: the old one stays"),
        }
    }
}

/// What the relaying threads tell.
fn hear(output: &Output, traffic: &Traffic, poke: &Poke) {
    if let Output::Ended(ended) = output {
        traffic.count(ended);
    }
    poke.hear(output);
    log::write(output);
}

async fn serve_metrics(
    address: std::net::SocketAddr,
    path: String,
    server: &Server,
    traffic: Arc<Traffic>,
) -> Result<(), CliError> {
    let listener = metrics::bind(address).await.map_err(CliError::doing("serve metrics"))?;
    let snapshots = server.snapshots();
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, &path, snapshots, traffic).await {
            tracing::error!(%error, "metrics ended");
        }
    });
    Ok(())
}

/// Listened to before anything else, so that none of them ends a process that is about to serve.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::doing("listen for signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            user2: listen(SignalKind::user_defined2())?,
        })
    }
}

pub(crate) async fn serve(mut running: Running, signals: Signals, invocation: &Invocation) -> Result<(), CliError> {
    for address in running.server.udp_addresses() {
        tracing::info!(%address, "listening by UDP");
    }
    for address in running.server.tcp_addresses() {
        tracing::info!(%address, "listening by TCP and TLS");
    }
    // As coturn's own unit has it: Type=notify.
    systemd::notify("READY=1");
    let outcome = obey(&mut running, signals, invocation).await;
    systemd::notify("STOPPING=1");
    running.server.stop().await;
    outcome
}

async fn obey(running: &mut Running, signals: Signals, invocation: &Invocation) -> Result<(), CliError> {
    let Signals { mut terminate, mut interrupt, mut hang_up, mut user1, mut user2 } = signals;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut own = tokio::time::interval(OWN_ADDRESSES_EVERY);
    own.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = user1.recv() => {
                draining = true;
                // Said when it is so: who reads the line and tries is refused.
                running.server.drain().await;
                tracing::info!(allocations = running.server.allocations(), "draining: new allocations are refused");
            }
            _ = hang_up.recv() => {
                running.reload(invocation).await;
                running.take_certificate();
            }
            _ = user2.recv() => running.take_certificate(),
            () = running.server.lost() => return Err(CliError::Lost),
            () = running.database.changed() => running.take_rows().await,
            _ = own.tick() => running.take_own_addresses().await,
            _ = look.tick(), if draining => {
                if running.server.allocations() == 0 {
                    tracing::info!("drained");
                    return Ok(());
                }
            }
        }
    }
}
