//! The TURN server as one of the stack's daemons: announced on the bus, told there whom to revoke, relaying to the SFUs
//! that it hears of. It relays without the bus, too (DESIGN.md §2).
use crate::addresses::own_addresses;
use crate::bus::{Desk, Revoked, answer};
use crate::carried::Carried;
use crate::database::{Kept, Poke};
use crate::exported::Exported;
use crate::log;
use crate::native::{Live, TurnConfig, keep_secret};
use crate::server::Server;
use crate::tls::Fetched;
use offhook_bus::{Bus, Target, wall_now};
use offhook_contract::{DaemonKind, NodeRow, NodeState, Secret};
use offhook_link::TapForm;
use offhook_runtime::config::TurnCertificate;
use offhook_runtime::{ConfigError, ConfigFile, Daemon, Deps, Lifecycle, RunError, StartError};
use offhook_turn_core::{Output, Users};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How soon a certificate is presented that call-control has fetched.
const FETCH_EVERY: Duration = Duration::from_secs(2);
/// How soon sockets of ours are shut on an address that the host is given while it runs (RFC 8981).
const OWN_ADDRESSES_EVERY: Duration = Duration::from_secs(3);
/// Where no quota says less.
const CAPACITY: u32 = 65_535;

pub struct TurnDaemon {
    server: Server,
    requests: offhook_bus::Server,
    state: State,
    bus: Bus,
    lifecycle: Lifecycle,
    row: watch::Sender<NodeRow>,
    exported: Exported,
}

/// What the settings of the threads are made from.
struct State {
    config: TurnConfig,
    live: Live,
    revoked: Revoked,
    users: Arc<Users>,
    /// The SFUs of this process are neighbours: their loopback is ours.
    together: bool,
    /// call-control finds the secret that was made where nobody chose one.
    shared: bool,
    database: Kept,
    own_addresses: Vec<IpAddr>,
    carried: Carried,
    /// What there was by ACME when the certificate was read that is presented.
    fetched: Fetched,
    /// Why there is none newer: said once.
    trouble: Option<String>,
}

impl Daemon for TurnDaemon {
    const KIND: DaemonKind = DaemonKind::Turn;
    type Config = TurnConfig;

    fn config(file: &ConfigFile) -> Result<TurnConfig, ConfigError> {
        TurnConfig::read(file)
    }

    async fn build(mut config: TurnConfig, deps: Deps) -> Result<Self, StartError> {
        if !config.turn.enabled {
            return Err(StartError::config("serve TURN", "turn.enabled is false, or turn.urls names another server"));
        }
        let together = matches!(deps.taps, TapForm::InProcess(_));
        let shared = together || deps.dev;
        let secrets = secrets(&config, shared)?;
        let live = Live { secrets, media: config.media(&[], together), revoked: Vec::new() };
        let mut plan = config.plan(&live).map_err(|e| StartError::config("use [turn]", e))?;
        plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let database = Kept::open(&plan).await;
        plan.admit(database.rows());
        let users = Arc::new(plan.settings.users.clone());
        let (server, told) =
            Server::start_among(plan, deps.hosts).await.map_err(|e| StartError::new("serve TURN", e))?;
        config.bound = server.udp_addresses().iter().chain(server.tcp_addresses()).copied().collect();
        let carried = Carried::new(&deps.metrics, &config.turn.realm, config.turn.user_labels);
        write_log(told, database.poke(), carried.clone())?;
        let requests = deps.bus.serve(DaemonKind::Turn, Target::Node(deps.node.clone())).await;
        let requests = requests.map_err(|e| StartError::new("listen on the bus", e))?;
        say(&server, &config, &deps.lifecycle);
        let row = NodeRow {
            node: deps.node,
            kind: DaemonKind::Turn,
            boot: deps.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: wall_now(),
            state: NodeState::Ready,
            load: 0,
            capacity: match config.turn.quotas.allocations {
                0 => CAPACITY,
                most => most,
            },
            media_addresses: Vec::new(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        };
        Ok(Self {
            server,
            requests,
            state: State {
                config,
                live,
                revoked: Revoked::default(),
                users,
                together,
                shared,
                database,
                own_addresses: own_addresses(),
                carried,
                fetched: Fetched::new(),
                trouble: None,
            },
            bus: deps.bus,
            lifecycle: deps.lifecycle,
            row: watch::Sender::new(row),
            exported: Exported::new(deps.metrics),
        })
    }

    async fn run(self) -> Result<(), RunError> {
        let Self { server, mut requests, mut state, bus, lifecycle, row, exported } = self;
        let presence = bus.announce(row.subscribe());
        let mut sfus = bus.nodes_of(DaemonKind::Sfu);
        let mut reloads = lifecycle.reload();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fetch = interval(FETCH_EVERY);
        fetch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut own = interval(OWN_ADDRESSES_EVERY);
        own.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Also which ports the listeners were given.
        state.live.media = state.config.media(&sfus.all(), state.together);
        state.apply(&server).await;
        lifecycle.set_ready(true);
        let mut draining = false;
        let outcome = loop {
            tokio::select! {
                incoming = requests.next() => match incoming {
                    Some(incoming) => state.answer(&server, incoming).await,
                    None => break Err(RunError::new("listen on the bus", "the bus is gone for good")),
                },
                () = sfus.changed() => state.take_media(&server, &sfus.all()).await,
                () = state.database.changed() => state.apply(&server).await,
                _ = fetch.tick(), if state.config.waits_for_acme() => state.take_certificate(&server),
                _ = own.tick() => state.take_own_addresses(&server, &sfus.all()).await,
                file = reloads.next() => state.reload(&server, &file, &sfus.all()).await,
                () = server.lost() => break Err(RunError::new("relay", "a relaying thread is gone")),
                _ = look.tick() => {
                    let load = server.allocations();
                    row.send_if_modified(|row| std::mem::replace(&mut row.load, load) != load);
                    exported.update(&server);
                    if draining && load == 0 {
                        break Ok(());
                    }
                }
                () = lifecycle.draining(), if !draining => {
                    draining = true;
                    server.drain().await;
                    row.send_modify(|row| row.state = NodeState::Draining);
                }
                () = lifecycle.stop() => break Ok(()),
            }
        };
        server.stop().await;
        presence.withdraw().await;
        outcome
    }
}

impl TurnDaemon {
    /// The UDP listeners that are bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.udp_addresses()
    }

    /// The TCP listeners that are bound, for TLS too.
    #[must_use]
    pub fn stream_addresses(&self) -> &[SocketAddr] {
        self.server.tcp_addresses()
    }
}

/// Chosen ones, or the one that is kept where call-control finds it, too.
fn secrets(config: &TurnConfig, shared: bool) -> Result<Vec<Secret>, StartError> {
    let turn = &config.turn;
    let has_others = !turn.users.is_empty() || !turn.database_url.is_empty();
    if !turn.secrets.is_empty() || (has_others && !shared) {
        return Ok(turn.secrets.clone());
    }
    if !shared {
        let why = "nobody could log in: set turn.secrets to what call-control has, or turn.users, or turn.database_url";
        return Err(StartError::config("serve TURN", why));
    }
    let doing = || format!("keep TURN's secret in {}", turn.kept_secret.display());
    keep_secret(&turn.kept_secret).map_err(|e| StartError::new(doing(), e))?;
    let kept = turn.read_kept_secret().map_err(|e| StartError::new(doing(), e))?;
    kept.map(|secret| vec![secret]).ok_or_else(|| StartError::new(doing(), "it is empty"))
}

/// Lines of sessions are written by a thread of their own, which ends with the server's.
fn write_log(told: Receiver<Output>, poke: Poke, carried: Carried) -> Result<(), StartError> {
    let thread = std::thread::Builder::new().name("turn-log".into());
    let hear = move |output: Output| {
        if let Output::Ended(ended) = &output {
            carried.count(ended);
        }
        poke.hear(&output);
        log::write(&output);
    };
    let spawned = thread.spawn(move || told.iter().for_each(hear));
    spawned.map(drop).map_err(|e| StartError::new("start the log's thread", e))
}

fn say(server: &Server, config: &TurnConfig, lifecycle: &Lifecycle) {
    if let Some(TurnCertificate::Acme { folder, .. }) = &config.turn.certificate
        && config.fetched_certificates().is_ok_and(|fetched| fetched.is_empty())
    {
        tracing::info!(folder = %folder.display(), "TLS waits for the certificate that call-control fetches by ACME");
    }
    for address in server.udp_addresses() {
        tracing::info!(%address, "TURN over UDP");
    }
    for address in server.tcp_addresses() {
        tracing::info!(%address, plain = config.turn.protocol.tcp, tls = config.turn.certificate.is_some(), "TURN over TCP");
    }
    let protocol = config.turn.protocol;
    let spoken = [("UDP", protocol.udp), ("TCP", protocol.tcp), ("TLS", config.turn.certificate.is_some())];
    let over = spoken.iter().filter(|(_, is_spoken)| *is_spoken).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let addresses = if server.udp_addresses().is_empty() { server.tcp_addresses() } else { server.udp_addresses() };
    for address in addresses {
        lifecycle.say(format!("TURN for browsers behind firewalls: {address} ({over})"));
    }
}

impl State {
    /// Brings what has changed to the threads.
    async fn apply(&mut self, server: &Server) {
        match self.config.plan(&self.live) {
            Ok(mut plan) => {
                plan.admit(self.database.rows());
                self.users = Arc::new(plan.settings.users.clone());
                server.reload(&plan).await;
            }
            Err(error) => tracing::error!(%error, "settings stay as they were"),
        }
    }

    /// An SFU that is gone keeps its ports until its lease is over; while the bus is away none is.
    async fn take_media(&mut self, server: &Server, sfus: &[NodeRow]) {
        let media = self.config.media(sfus, self.together);
        if media != self.live.media {
            tracing::info!(ports = media.len(), "media ports of SFUs changed");
            self.live.media = media;
            self.apply(server).await;
        }
    }

    /// The host was given an address, or lost one.
    async fn take_own_addresses(&mut self, server: &Server, sfus: &[NodeRow]) {
        let own = own_addresses();
        if own != self.own_addresses {
            tracing::info!(addresses = own.len(), "this host's addresses changed");
            self.own_addresses = own;
            self.live.media = self.config.media(sfus, self.together);
            self.apply(server).await;
        }
    }

    /// call-control fetched another certificate. What cannot be read is tried again, until it can.
    fn take_certificate(&mut self, server: &Server) {
        let found = self.config.fetched_certificates();
        if found.as_ref().is_ok_and(|found| *found == self.fetched) {
            return;
        }
        match found.and_then(|found| server.reload_certificate().map(|()| found)) {
            Ok(found) => {
                (self.fetched, self.trouble) = (found, None);
                tracing::info!("the certificate that was fetched by ACME serves TURN, too");
            }
            Err(error) => {
                let why = error.to_string();
                if self.trouble.as_ref() != Some(&why) {
                    tracing::error!(%error, "no new certificate by ACME");
                    self.trouble = Some(why);
                }
            }
        }
    }

    async fn answer(&mut self, server: &Server, incoming: offhook_bus::Incoming) {
        let users = Arc::clone(&self.users);
        answer(Desk { server, users: &users, live: &mut self.live, revoked: &mut self.revoked }, incoming).await;
    }

    async fn reload(&mut self, server: &Server, file: &ConfigFile, sfus: &[NodeRow]) {
        match TurnConfig::read(file) {
            Ok(mut config) => {
                for key in config.keep_fixed(&self.config) {
                    tracing::warn!(key, "changed, and waits for a restart");
                }
                match secrets(&config, self.shared) {
                    Ok(secrets) => self.live.secrets = secrets,
                    Err(error) => tracing::error!(%error, why = %error.source, "the old secrets stay"),
                }
                self.carried.reload(&config.turn.realm, config.turn.user_labels);
                config.bound.clone_from(&self.config.bound);
                self.config = config;
                self.live.media = self.config.media(sfus, self.together);
                match self.config.plan(&self.live) {
                    Ok(plan) => self.database.reopen(&plan).await,
                    Err(error) => tracing::error!(%error, "the user database is not read again"),
                }
                self.apply(server).await;
                tracing::info!("users, secrets, quotas and peer ranges were read again");
            }
            Err(error) => tracing::error!(%error, "[turn] not read again: the old one stays"),
        }
        match server.replace_certificate(self.config.certificate().as_ref()) {
            Ok(()) => tracing::info!("certificate read again"),
            Err(error) => tracing::error!(%error, "certificate not read again: the old one stays"),
        }
    }
}
