//! Building and running the recorder: what was unfinished goes on first, then the bus is served until the drain ends.
use crate::config::Config;
use crate::disk::Disk;
use crate::finalise::Finalisers;
use crate::http::{self, FileServer, Grants};
use crate::serve::Desk;
use crate::session::{Command, Figures, Shared};
use crate::store::{Active, Store, with_source};
use offhook_bus::{Bus, Outbox, Target, wall_now};
use offhook_contract::node::NodeState;
use offhook_contract::{BootId, DaemonKind, NodeId, NodeRow};
use offhook_link::{Identity, TapDialer};
use offhook_recorder_core::Recording;
use offhook_recorder_core::recover::Recovered;
use offhook_runtime::{ConfigError, ConfigFile, Daemon, Deps, Gauge, Lifecycle, RunError, StartError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often ended sessions are let go and figures brought up to date.
const TICK: Duration = Duration::from_millis(200);
/// For the last writes when the process ends.
const LAST_WRITES: Duration = Duration::from_millis(2_500);

pub struct Recorder {
    desk: Desk,
    bus: Bus,
    node: NodeId,
    row: watch::Sender<NodeRow>,
    lifecycle: Lifecycle,
    outbox_pending: Gauge,
    _files: FileServer,
}

impl Daemon for Recorder {
    const KIND: DaemonKind = DaemonKind::Recorder;
    type Config = Config;

    fn config(file: &ConfigFile) -> Result<Config, ConfigError> {
        Config::read(file)
    }

    async fn build(config: Config, deps: Deps) -> Result<Self, StartError> {
        let data_dir = deps.data_dir.clone();
        let identity = Identity::load_or_create(&data_dir, "recorder")
            .map_err(|error| StartError::new("open the recorder's certificate", error))?;
        let root = config.directory.clone().unwrap_or_else(|| data_dir.join("recordings"));
        let doing = format!("open the recordings in {}", root.display());
        let opened = tokio::task::spawn_blocking(move || Store::open(root)).await;
        let opened = opened.map_err(|error| StartError::new(doing.clone(), error))?;
        let store = opened.map_err(|error| StartError::new(doing, error))?;
        let outbox = Outbox::open(&data_dir.join("outbox.redb"), &deps.bus)
            .await
            .map_err(|error| StartError::new("open the recorder's outbox", error))?;
        let threads = |error| StartError::new("start the recorder's threads", error);
        let finalisers = Finalisers::start(config.finaliser_threads, &store).map_err(threads)?;
        let disk = Disk::start(&store.claim()).map_err(threads)?;
        let grants = Grants::new(config.grant_ttl, &deps.metrics);
        let files = http::listen(&config.listen, &identity, &grants)
            .await
            .map_err(|error| StartError::new("serve finished files", error))?;
        let bound = files.bound.first().or(config.listen.first()).copied();
        let address = config
            .advertised
            .or(bound)
            .ok_or_else(|| StartError::new("serve finished files", "recorder.listen names no address"))?;
        let dialer: TapDialer = deps.taps.dialer(identity);
        let fingerprint = dialer.fingerprint().to_string();
        let figures = Figures::register(&deps.metrics);
        let shared = Shared { store, disk, dialer, outbox, finalisers, figures, started: Instant::now() };
        let row = first_row(&deps.node, &deps.boot, &config, &fingerprint);
        let mut desk = Desk {
            shared: Arc::new(shared),
            config,
            grants,
            address,
            fingerprint,
            sessions: HashMap::new(),
            refused: deps.metrics.counter("recordings_refused_total", "Recordings that were not begun."),
            draining: false,
        };
        go_on(&mut desk).await;
        Ok(Self {
            desk,
            bus: deps.bus,
            node: deps.node,
            row: watch::Sender::new(row),
            lifecycle: deps.lifecycle,
            outbox_pending: deps.metrics.gauge("outbox_pending", "Facts that call-control has not stored yet."),
            _files: files,
        })
    }

    async fn run(mut self) -> Result<(), RunError> {
        let target = Target::Node(self.node.clone());
        let failed = |error| RunError::new("listen on the bus", error);
        let mut server = self.bus.serve(DaemonKind::Recorder, target).await.map_err(failed)?;
        let presence = self.bus.announce(self.row.subscribe());
        self.lifecycle.set_ready(true);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lifecycle = self.lifecycle.clone();
        loop {
            tokio::select! {
                incoming = server.next() => match incoming {
                    Some(incoming) => self.desk.handle(incoming).await,
                    None => return Err(RunError::new("stay on the bus", "the bus ended")),
                },
                () = lifecycle.draining(), if !self.desk.draining => {
                    tracing::info!(recordings = self.desk.sessions.len(), "draining: running recordings are finished");
                    self.desk.draining = true;
                }
                () = lifecycle.stop() => break,
                _ = ticks.tick() => {}
            }
            self.bring_up_to_date();
            if self.desk.draining && self.desk.sessions.is_empty() && self.desk.shared.outbox.pending() == 0 {
                break;
            }
        }
        self.lifecycle.set_ready(false);
        self.shut_down().await;
        presence.withdraw().await;
        Ok(())
    }
}

fn first_row(node: &NodeId, boot: &BootId, config: &Config, fingerprint: &str) -> NodeRow {
    NodeRow {
        node: node.clone(),
        kind: DaemonKind::Recorder,
        boot: boot.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_ms: wall_now(),
        state: NodeState::Ready,
        load: 0,
        capacity: config.max_recordings,
        media_addresses: Vec::new(),
        certificate_fingerprint: Some(fingerprint.to_owned()),
        trunks: Vec::new(),
    }
}

/// Every recording that the last life left unfinished is resumed, or finished if its Tap is over. Failed ones are tried
/// again when there is room for them: on a full disk they would fail once more. Nothing here keeps the recorder from
/// starting.
async fn go_on(desk: &mut Desk) {
    for active in desk.shared.store.unfinished() {
        if active.is_deadly() {
            let recording = deadly(active, desk.shared.started.elapsed());
            desk.run(recording);
            continue;
        }
        let recording = match recovered(desk, &active).await {
            Ok(recovered) => recover(active, recovered, desk.shared.started.elapsed()),
            Err(reason) => unrecoverable(active, &reason, desk.shared.started.elapsed()),
        };
        desk.run(recording);
    }
    let free = desk.shared.store.check_free(desk.config.min_free_bytes, desk.config.min_free_percent);
    if let Err(full) = free {
        tracing::warn!(%full, "failed recordings are not tried again at this start");
        return;
    }
    for active in desk.shared.store.take_up_failed() {
        match recovered(desk, &active).await {
            Ok(recovered) if recovered.packets > 0 => {
                tracing::info!(call = %active.plan.call, recording = %active.plan.recording, "a failed recording is tried again");
                desk.run(Recording::retry(active.plan, recovered, desk.shared.started.elapsed()));
            }
            // Its failure was told; without audio there is nothing to try.
            Ok(_) => {
                if let Err(error) = desk.shared.store.put_aside(&active.plan.recording, None) {
                    tracing::error!(recording = %active.plan.recording, error = %with_source(&error), "a failed recording cannot be put back");
                }
            }
            Err(reason) => desk.run(unrecoverable(active, &reason, desk.shared.started.elapsed())),
        }
    }
}

/// Its files put in order, or why that cannot be.
async fn recovered(desk: &Desk, active: &Active) -> Result<Recovered, String> {
    let (store, mut active) = (desk.shared.store.clone(), active.clone());
    let work = tokio::task::spawn_blocking(move || store.recover(&mut active)).await;
    let recovered = work.map_err(|panic| with_source(&panic))?;
    recovered.map_err(|error| with_source(&error))
}

fn recover(active: Active, recovered: Recovered, now: Duration) -> Recording {
    let Active { plan, deaths, .. } = active;
    let (segment, resume_after, deaths) = (recovered.segment, recovered.resume_after, deaths + 1);
    tracing::warn!(call = %plan.call, recording = %plan.recording, segment, resume_after, deaths, "an unfinished recording goes on");
    Recording::recover(plan, recovered, now)
}

/// It ends like any other: the fact is kept first, then it lies among the failed ones.
fn unrecoverable(active: Active, reason: &str, now: Duration) -> Recording {
    let plan = active.plan;
    tracing::error!(call = %plan.call, recording = %plan.recording, reason, "an unfinished recording cannot go on");
    let reason = format!("the recorder died and could not go on; what was recorded is kept: {reason}");
    Recording::unrecoverable(plan, &reason, now)
}

/// Not even looked into: that may be what kills.
fn deadly(active: Active, now: Duration) -> Recording {
    let Active { plan, finalising, .. } = active;
    tracing::error!(call = %plan.call, recording = %plan.recording, finalising, "the recorder died of a recording's final files too often");
    let reason = format!(
        "the final files could not be made; the originals are kept: the recorder died {finalising} times while it made them"
    );
    Recording::unrecoverable(plan, &reason, now)
}

impl Recorder {
    fn bring_up_to_date(&mut self) {
        self.desk.sessions.retain(|_, session| !session.task.is_finished());
        self.outbox_pending.set(i64::try_from(self.desk.shared.outbox.pending()).unwrap_or(i64::MAX));
        let load = u32::try_from(self.desk.sessions.len()).unwrap_or(u32::MAX);
        let state = if self.desk.draining { NodeState::Draining } else { NodeState::Ready };
        self.row.send_if_modified(|row| {
            let changed = row.load != load || row.state != state;
            (row.load, row.state) = (load, state);
            changed
        });
    }

    /// What still runs is written and left for the next life.
    async fn shut_down(&mut self) {
        for session in self.desk.sessions.values() {
            let _ = session.commands.try_send(Command::Shutdown);
        }
        let ends = async {
            for (_, session) in self.desk.sessions.drain() {
                let _ = session.task.await;
            }
        };
        if tokio::time::timeout(LAST_WRITES, ends).await.is_err() {
            tracing::warn!("some recordings did not end in time; they go on at the next start");
        }
        self.outbox_pending.set(0);
    }
}
