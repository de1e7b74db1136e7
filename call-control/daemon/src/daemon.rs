//! The daemon: opens everything, takes the lease, rebuilds, serves, and leaves in order.
use crate::admin::{Admin, DevTenant, banner};
use crate::config::{Certificate, Config};
use crate::door::Door;
use crate::engine::{self, Engine, Message, Parts};
use crate::fetcher::Fetcher;
use crate::http::{App, Assets, Gate, Refused, Shared, application};
use crate::ice::IceServers;
use crate::secrets::random;
use crate::store::Store;
use crate::tokens::Tokens;
use crate::turn::Revocations;
use crate::writer::Writer;
use arc_swap::ArcSwap;
use offhook_bus::{Bus, Events, Incoming, Server, Target, wall_now};
use offhook_contract::control::{IncomingRoute, RouteIncoming};
use offhook_contract::fact::StoreFact;
use offhook_contract::node::NodeState;
use offhook_contract::{DaemonKind, Epoch, HangupCause, NodeRow, Request, TenantId, UnixMs};
use offhook_control_core::{RecordingMode, UserId};
use offhook_runtime::{Daemon, Deps, Lifecycle, Metrics, RunError, StartError};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// One call-control acts at a time; the next one waits for this long after the former was last heard of.
const LEASE: &str = "control";
const LEASE_TTL: Duration = Duration::from_secs(3);
const PURGE_PERIOD: Duration = Duration::from_secs(3_600);
/// How long a disabled user's page may stay open.
const DISABLED_PERIOD: Duration = Duration::from_secs(2);
/// TURN servers that were away for so long hear of new passwords; of disabled users they always do.
const REVOKED_MS: u64 = 30 * 24 * 3_600_000;
/// After the order to end at once.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// The events that concern calls; statistics of legs are for others.
const EVENTS: [&str; 5] = ["peer_connected", "slot_changed", "leg_ringing", "leg_early_media", "digit_received"];

pub struct Control {
    config: Config,
    node: offhook_contract::NodeId,
    boot: offhook_contract::BootId,
    bus: Bus,
    lifecycle: Lifecycle,
    metrics: Metrics,
    store: Store,
    tokens: Tokens,
    door: Door,
    dev: Option<TenantId>,
}

impl Daemon for Control {
    const KIND: DaemonKind = DaemonKind::Control;
    type Config = Config;

    fn config(file: &offhook_runtime::ConfigFile) -> Result<Config, offhook_runtime::ConfigError> {
        Config::read(file)
    }

    async fn build(config: Config, deps: Deps) -> Result<Self, StartError> {
        let Deps { node, boot, bus, lifecycle, metrics, data_dir, dev, .. } = deps;
        let store = Store::open(&config.database_url, &data_dir).await;
        let store = store.map_err(|e| StartError::new("open the database", e))?;
        let tokens = Tokens::open(&data_dir, config.access_token_s);
        let tokens = tokens.map_err(|e| StartError::new("open the signing key of access tokens", e))?;
        let dev = match dev {
            true => Some(seed(&store, &config).await.map_err(|e| StartError::new("make the users of --dev", e))?),
            false => None,
        };
        let emergency = &config.policy.dial.emergency_numbers;
        let hidden = Admin::over(store.clone()).hidden_users(emergency).await;
        for user in hidden.map_err(|e| StartError::new("read the users", e))? {
            tracing::warn!(
                tenant = %user.tenant, login = user.login, extension = user.extension,
                "this extension is an emergency number (dial.emergency_numbers): dialling it calls for help, not the user"
            );
        }
        let connections = metrics.gauge("http_connections", "Open connections to the API and the pages");
        let proxies = config.trusted_proxies.clone();
        let door = Door::bind(&config.listen, &config.certificate, &data_dir, config.limits, proxies, connections)?;
        for line in banner(&config, &door.addresses, dev.as_ref()) {
            lifecycle.say(line);
        }
        let dev = dev.map(|dev| dev.id);
        Ok(Self { config, node, boot, bus, lifecycle, metrics, store, tokens, door, dev })
    }

    async fn run(self) -> Result<(), RunError> {
        let lifecycle = self.lifecycle.clone();
        tokio::select! {
            outcome = self.serve() => outcome,
            () = async { lifecycle.stop().await; tokio::time::sleep(LAST_WORDS).await; } => Ok(()),
        }
    }
}

async fn seed(store: &Store, config: &Config) -> Result<DevTenant, crate::admin::AdminError> {
    let admin = Admin::over(store.clone());
    let dev = admin.seed_dev().await?;
    admin.seed_dev_numbers(&dev.id, config.numbers_of(&dev.id)).await?;
    Ok(dev)
}

fn failed(doing: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> RunError {
    move |source| RunError::new(doing, source)
}

impl Control {
    /// The addresses that are bound.
    pub fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.door.addresses
    }

    async fn serve(self) -> Result<(), RunError> {
        let Self { config, node, boot, bus, lifecycle, metrics, store, tokens, door, dev } = self;
        let (epoch_sender, epoch) = watch::channel(None);
        let lease = tokio::select! {
            lease = bus.wait_for_lease(LEASE, LEASE_TTL) => lease.map_err(|e| failed("take the lease")(e.into()))?,
            () = lifecycle.draining() => return Ok(()),
        };
        epoch_sender.send_replace(Some(lease.epoch()));
        let read = |e: crate::store::StoreError| failed("read the running calls")(e.into());
        let calls = store.running_calls().await.map_err(read)?;
        let today = UnixMs(wall_now().0 / 86_400_000 * 86_400_000);
        let minutes = store.minutes_since(today).await.map_err(read)?;
        let (writer, writing) = Writer::start(store.clone(), &metrics);
        let seed = random::<16>().map_err(|e| failed("draw random bytes")(e.into()))?;
        let half = |range: std::ops::Range<usize>| {
            seed.get(range).and_then(|b| b.try_into().ok()).map_or(1, u64::from_le_bytes)
        };
        let ice = IceServers::new(config.turn.clone(), config.net.clone());
        let (engine, running, thinking) = engine::start(Parts {
            policy: config.policy.clone(),
            seed: [half(0..8), half(8..16)],
            bus: bus.clone(),
            epoch,
            writer: writer.clone(),
            ice: ice.clone(),
            metrics: metrics.clone(),
            pages_per_user: config.limits.websockets_per_user,
            calls,
            minutes,
        });
        // They end with this life of the daemon, whatever a connection still holds.
        let _ends = [EndsWith(thinking.abort_handle()), EndsWith(writing.abort_handle())];
        let reload_certificate = door.reloader();
        let handle = door.handle.clone();
        let revocations = Revocations::new(ice.clone());
        let (disabled_sender, disabled) = watch::channel(HashSet::new());
        let app: Shared = Arc::new(App {
            store: store.clone(),
            writer: writer.clone(),
            engine: engine.clone(),
            bus: bus.clone(),
            nodes: bus.nodes(),
            tokens,
            gate: Gate::new(config.limits),
            fetcher: Fetcher::default(),
            assets: Assets::default(),
            policy: ArcSwap::from_pointee(config.policy.clone()),
            ice: ice.clone(),
            revocations: revocations.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            allowed_origins: config.allowed_origins.clone(),
            commands_per_s: config.limits.commands_per_s,
            dev,
            disabled,
            tls: !matches!(config.certificate, Certificate::Plain),
            secure: !matches!(config.certificate, Certificate::Plain) || !config.trusted_proxies.is_empty(),
            auth_failures: metrics.counter("auth_failures_total", "Sign-ins and tokens that were refused"),
            refused: Refused::new(metrics.clone()),
            throttled: metrics.counter("requests_throttled_total", "Requests over a source's limit"),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_disabled(store.clone(), disabled_sender, revocations.clone()));
        let any =
            bus.serve(DaemonKind::Control, Target::Any).await.map_err(|e| failed("listen on the bus")(e.into()))?;
        tasks.spawn(answer_requests(any, app.clone()));
        for kind in EVENTS {
            let events = bus.subscribe(None, Some(kind)).await.map_err(|e| failed("listen on the bus")(e.into()))?;
            tasks.spawn(hear_events(events, engine.clone()));
        }
        tasks.spawn(watch_nodes(bus.clone(), engine.clone(), ice));
        tasks.spawn(revocations.keep_out(bus.clone()));
        tasks.spawn(keep_lease(bus.clone(), lease, epoch_sender));
        tasks.spawn(purge(store.clone()));
        let row = row(&node, &boot, &config, NodeState::Ready);
        tasks.spawn(reload(lifecycle.clone(), app.clone(), config, Box::new(reload_certificate)));
        let (row_sender, row_receiver) = watch::channel(row);
        tasks.spawn(show_load(running, row_sender.clone()));
        let _presence = bus.announce(row_receiver);
        tasks.spawn(async move {
            let ended = door.serve(application(app)).await;
            Err(failed("serve the API")(match ended {
                Ok(()) => "the listeners were closed".into(),
                Err(error) => error.into(),
            }))
        });
        lifecycle.set_ready(true);
        tokio::select! {
            ended = tasks.join_next() => match ended {
                Some(Ok(outcome)) => outcome,
                Some(Err(error)) => Err(failed("run a task")(error.into())),
                None => Ok(()),
            },
            () = leave(&lifecycle, &engine, &row_sender, &writer) => {
                handle.graceful_shutdown(Some(Duration::from_secs(1)));
                store.close().await;
                Ok(())
            }
        }
    }
}

struct EndsWith(tokio::task::AbortHandle);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn row(node: &offhook_contract::NodeId, boot: &offhook_contract::BootId, config: &Config, state: NodeState) -> NodeRow {
    NodeRow {
        node: node.clone(),
        kind: DaemonKind::Control,
        boot: boot.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: wall_now(),
        state,
        load: 0,
        capacity: u32::try_from(config.policy.max_calls).unwrap_or(u32::MAX),
        media_addresses: Vec::new(),
        certificate_fingerprint: None,
        trunks: Vec::new(),
    }
}

/// Drains: no new calls, until the last one ended or the order comes to end at once.
async fn leave(lifecycle: &Lifecycle, engine: &Engine, row: &watch::Sender<NodeRow>, writer: &Writer) {
    lifecycle.draining().await;
    row.send_modify(|row| row.state = NodeState::Draining);
    let (drained, all_ended) = oneshot::channel();
    if engine.send(Message::Drain(drained)).await.is_ok() {
        tokio::select! {
            _ = all_ended => {}
            () = lifecycle.stop() => {}
        }
        let (done, ended) = oneshot::channel();
        if engine.send(Message::EndAll(done)).await.is_ok() {
            // The engine ends with us.
            let _ = ended.await;
        }
    }
    if let Err(error) = writer.flushed(Duration::from_secs(2)).await {
        tracing::error!(%error, "the last changes were not written");
    }
}

pub(crate) type TaskEnd = Result<(), RunError>;

async fn answer_requests(mut server: Server, app: Shared) -> TaskEnd {
    while let Some(incoming) = server.next().await {
        let app = app.clone();
        match incoming.name.as_str() {
            RouteIncoming::NAME => {
                tokio::spawn(route(incoming, app));
            }
            StoreFact::NAME => match incoming.body::<StoreFact>() {
                Ok(StoreFact { record }) => {
                    app.engine
                        .send(Message::Fact { incoming, record })
                        .await
                        .map_err(|e| failed("store a fact")(e.into()))?;
                }
                Err(refusal) => incoming.refuse(&refusal),
            },
            _ => incoming.unsupported(),
        }
    }
    Err(failed("listen on the bus")("the bus is gone".into()))
}

/// Finds whose number was dialled. A database that is away is no reason to call a number unknown.
async fn route(incoming: Incoming, app: Shared) {
    let route = match incoming.body::<RouteIncoming>() {
        Ok(route) => route,
        Err(refusal) => return incoming.refuse(&refusal),
    };
    match find_callee(&app.store, &route).await {
        Ok((callee, recording)) => {
            // Without the engine nobody waits for a reply either.
            let _ = app.engine.send(Message::Route { incoming, route, callee, recording }).await;
        }
        Err(error) => {
            tracing::warn!(%error, "an incoming call could not be looked up");
            let cause = HangupCause::Congestion;
            incoming.reply::<RouteIncoming>(Ok(IncomingRoute::Reject { cause }));
        }
    }
}

async fn find_callee(
    store: &Store,
    route: &RouteIncoming,
) -> Result<(Option<offhook_control_core::User>, RecordingMode), crate::store::StoreError> {
    let Some(tenant) = store.tenant(&route.tenant).await? else { return Ok((None, RecordingMode::Off)) };
    let Some(number) = store.number(&route.tenant, &route.to).await? else { return Ok((None, tenant.recording)) };
    let user = store.user(&route.tenant, &number.user).await?;
    Ok((user.map(|u| u.user()), number.recording.unwrap_or(tenant.recording)))
}

async fn hear_events(mut events: Events, engine: Engine) -> TaskEnd {
    while let Some((context, event)) = events.next().await {
        engine.send(Message::Event { context, event }).await.map_err(|e| failed("pass on an event")(e.into()))?;
    }
    Err(failed("listen on the bus")("the bus is gone".into()))
}

async fn watch_nodes(bus: Bus, engine: Engine, ice: IceServers) -> TaskEnd {
    let mut table = bus.nodes();
    loop {
        let rows = table.all();
        ice.nodes_changed(&rows);
        engine.send(Message::Nodes(rows)).await.map_err(|e| failed("pass on the nodes")(e.into()))?;
        table.changed().await;
    }
}

async fn show_load(mut running: watch::Receiver<usize>, row: watch::Sender<NodeRow>) -> TaskEnd {
    while running.changed().await.is_ok() {
        let load = u32::try_from(*running.borrow_and_update()).unwrap_or(u32::MAX);
        row.send_modify(|row| row.load = load);
    }
    Err(failed("watch the engine")("the engine is gone".into()))
}

/// A lost lease ends nothing by itself: calls go on under the epoch they have. Taken back, the new epoch holds; when
/// another call-control has it, this one makes way.
async fn keep_lease(bus: Bus, lease: offhook_bus::Lease, epoch: watch::Sender<Option<Epoch>>) -> TaskEnd {
    let mut held = lease;
    loop {
        held.lost().await;
        tracing::warn!("the lease was lost; taking it back");
        held = loop {
            match bus.acquire_lease(LEASE, LEASE_TTL).await {
                Ok(lease) => break lease,
                Err(offhook_bus::LeaseError::Held { .. }) => {
                    return Err(failed("keep the lease")("another call-control has taken over".into()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        epoch.send_replace(Some(held.epoch()));
    }
}

/// The command line disables a user in the database, from another process, or gives him a new password. A database that is
/// away changes nothing.
async fn watch_disabled(
    store: Store,
    disabled: watch::Sender<HashSet<(TenantId, UserId)>>,
    revocations: Revocations,
) -> TaskEnd {
    let mut ticks = tokio::time::interval(DISABLED_PERIOD);
    let mut before = None;
    loop {
        ticks.tick().await;
        let now = wall_now();
        if let Ok(outcasts) = store.outcasts(UnixMs(now.0.saturating_sub(REVOKED_MS))).await {
            let users: HashSet<(TenantId, UserId)> =
                outcasts.iter().filter(|o| o.disabled).map(|o| (o.tenant.clone(), o.user.clone())).collect();
            if before.as_ref() != Some(&outcasts) {
                revocations.take(&outcasts, now);
                before = Some(outcasts);
            }
            disabled.send_if_modified(|known| {
                *known != users && {
                    *known = users;
                    true
                }
            });
        }
    }
}

async fn purge(store: Store) -> TaskEnd {
    let mut ticks = tokio::time::interval(PURGE_PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = store.purge(wall_now()).await {
            tracing::warn!(%error, "what has outlived its retention was not removed");
        }
    }
}

async fn reload(
    lifecycle: Lifecycle,
    app: Shared,
    started_with: Config,
    certificate: Box<dyn Fn(&Certificate) + Send + Sync>,
) -> TaskEnd {
    let mut reloads = lifecycle.reload();
    loop {
        let file = reloads.next().await;
        match Config::read(&file) {
            Ok(new) => {
                certificate(&new.certificate);
                app.ice.reload(new.turn.clone(), new.net.clone());
                app.policy.store(Arc::new(new.policy.clone()));
                let policy = Message::Policy(Box::new(new.policy.clone()));
                app.engine.send(policy).await.map_err(|e| failed("pass on the configuration")(e.into()))?;
                tracing::info!("certificate files, trunks, dialling rules and [turn] were read again");
                let waiting = started_with.waits_for_restart(&new);
                if !waiting.is_empty() {
                    tracing::warn!(?waiting, "what has changed here waits for a restart");
                }
            }
            Err(error) => tracing::error!(%error, "the new configuration is not right; the former stays"),
        }
    }
}
