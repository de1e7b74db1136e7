//! A recorder on an in-process bus, with a call-control that only keeps facts and a node that asks.
use offhook_bus::{Bus, BusError, Target};
use offhook_contract::envelope::Request;
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::recorder::{FileGrant, GrantFile, RecordingFile, StartRecording};
use offhook_contract::sfu::TapOffer;
use offhook_contract::{
    BootId, CallId, Context, DaemonKind, Fact, FactRecord, LegId, NodeId, RecordingId, TenantId, UnixMs,
};
use offhook_link::TapForm;
use offhook_recorder::Recorder;
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics, RunError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything takes, so that a story fails instead of hanging.
pub const A_WHILE: Duration = Duration::from_secs(60);
/// 2026-11-21 00:00 UTC, the day of every recording here.
pub const ANSWERED: UnixMs = UnixMs(1_795_219_200_000);

pub struct Rig {
    pub bus: Bus,
    pub node: NodeId,
    pub metrics: Metrics,
    pub switch: LifecycleSwitch,
    pub facts: watch::Receiver<Vec<FactRecord>>,
    pub run: JoinHandle<Result<(), RunError>>,
    pub fingerprint: String,
}

pub fn context() -> Context {
    Context {
        tenant: Some(TenantId::parse("acme").unwrap()),
        call: Some(CallId::parse("call-1").unwrap()),
        epoch: None,
    }
}

pub fn recording(name: &str) -> RecordingId {
    RecordingId::parse(name).unwrap()
}

pub fn leg(name: &str) -> LegId {
    LegId::parse(name).unwrap()
}

/// Where the recording lies below the data directory.
pub fn directory_of(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join("recordings/rec/acme/2026/11/21/call-1").join(name)
}

/// Keeps facts until the bus ends; each counts once by producer and sequence.
pub async fn keep_facts(bus: &Bus) -> watch::Receiver<Vec<FactRecord>> {
    let mut server = bus.serve(DaemonKind::Control, Target::Any).await.unwrap();
    let (kept, facts) = watch::channel(Vec::<FactRecord>::new());
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            assert_eq!(incoming.name, StoreFact::NAME);
            let record = incoming.body::<StoreFact>().unwrap().record;
            kept.send_modify(|all| {
                if !all.iter().any(|old| (&old.producer, old.sequence) == (&record.producer, record.sequence)) {
                    all.push(record);
                }
            });
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
        }
    });
    facts
}

impl Rig {
    pub async fn start(data_dir: &Path, taps: &TapForm) -> Self {
        Self::start_with(data_dir, taps, "").await
    }

    pub async fn start_with(data_dir: &Path, taps: &TapForm, settings: &str) -> Self {
        let base = "[recorder]\nlisten = \"127.0.0.1:0\"\nmin_free_mib = 0\nmin_free_percent = 0\n";
        Self::start_raw(data_dir, taps, &format!("{base}{settings}")).await
    }

    pub async fn start_raw(data_dir: &Path, taps: &TapForm, text: &str) -> Self {
        offhook_runtime::install_crypto_provider();
        let bus = Bus::in_process("test").unwrap();
        let facts = keep_facts(&bus).await;
        let file = ConfigFile::parse("offhook.toml", text, []).unwrap();
        let config = Recorder::config(&file).unwrap();
        let switch = LifecycleSwitch::new(file);
        let metrics = Metrics::new();
        let node = NodeId::parse("recorder-1").unwrap();
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("boot").unwrap(),
            bus: bus.clone(),
            taps: taps.clone(),
            hosts: None,
            lifecycle: switch.lifecycle(),
            metrics: metrics.clone(),
            data_dir: data_dir.to_owned(),
            dev: false,
        };
        let recorder = Recorder::build(config, deps).await.unwrap();
        let run = tokio::spawn(recorder.run());
        let mut nodes = bus.nodes();
        let wait = nodes.wait_for(|rows| rows.iter().any(|row| row.kind == DaemonKind::Recorder));
        let rows = timeout(A_WHILE, wait).await.unwrap();
        let row = rows.into_iter().find(|row| row.kind == DaemonKind::Recorder).unwrap();
        let fingerprint = row.certificate_fingerprint.unwrap();
        Self { bus, node, metrics, switch, facts, run, fingerprint }
    }

    pub async fn ask<R: Request>(&self, body: &R) -> Result<R::Reply, BusError> {
        self.ask_as(&context(), body).await
    }

    pub async fn ask_as<R: Request>(&self, context: &Context, body: &R) -> Result<R::Reply, BusError> {
        self.bus.request(Target::Node(self.node.clone()), context, body, Duration::from_secs(10)).await
    }

    pub async fn record(&self, tap: TapOffer, caller: &str) -> Result<(), BusError> {
        let start = StartRecording {
            recording: tap.recording.clone(),
            tap,
            caller_legs: vec![leg(caller)],
            answered_ms: ANSWERED,
        };
        self.ask(&start).await.map(drop)
    }

    /// Waits until a fact is kept that the picker takes.
    pub async fn fact<T>(&mut self, pick: impl Fn(&Fact) -> Option<T>) -> T {
        let found = |all: &Vec<FactRecord>| all.iter().find_map(|record| pick(&record.fact));
        let waited = timeout(A_WHILE, self.facts.wait_for(|all| found(all).is_some())).await;
        let all = waited.unwrap_or_else(|_| panic!("the fact did not come")).unwrap();
        found(&all).unwrap()
    }

    pub fn all_facts(&self) -> Vec<Fact> {
        self.facts.borrow().iter().map(|record| record.fact.clone()).collect()
    }

    pub async fn granted(&self, name: &str, file: RecordingFile) -> FileGrant {
        self.ask(&GrantFile { recording: recording(name), file }).await.unwrap()
    }

    /// Waits until the gauge has the value; it is brought up to date five times a second.
    pub async fn gauge_becomes(&self, name: &str, value: i64) {
        let gauge = self.metrics.gauge(name, "");
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let reached = async {
            while gauge.get() != value {
                tick.tick().await;
            }
        };
        timeout(A_WHILE, reached).await.unwrap_or_else(|_| panic!("{name} is {}", gauge.get()));
    }
}

pub fn finished(fact: &Fact) -> Option<Fact> {
    matches!(fact, Fact::RecordingFinished { .. }).then(|| fact.clone())
}

pub fn failed(fact: &Fact) -> Option<String> {
    if let Fact::RecordingFailed { reason, .. } = fact { Some(reason.clone()) } else { None }
}
