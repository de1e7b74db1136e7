//! The daemon: built from its configuration, answering the bus until it is drained.
use crate::clock::MediaClock;
use crate::config::SfuConfig;
use crate::dtls::{Certificate, DtlsServers};
use crate::engine::{Engine, Parts};
use crate::media::MediaThread;
use crate::metrics::Exported;
use crate::news::{FactWriter, publish, tell};
use crate::outputs::OutputReceiver;
use crate::prompts::Prompts;
use offhook_bus::{Bus, Incoming, Outbox, Server, Target, wall_now};
use offhook_contract::audio::{BeepPlan, PromptName};
use offhook_contract::envelope::Request;
use offhook_contract::sfu::*;
use offhook_contract::time::ClockPair;
use offhook_contract::{Context, DaemonKind, Event, HangupCause, MediaTime, NodeRow, NodeState};
use offhook_link::{Identity, TapHost, TapLimits};
use offhook_runtime::{ConfigError, ConfigFile, Daemon, Deps, Lifecycle, RunError, StartError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

const CLOCK_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub struct SfuDaemon {
    engine: Arc<Engine>,
    outputs: OutputReceiver,
    server: Server,
    outbox: Outbox,
    bus: Bus,
    lifecycle: Lifecycle,
    boot: offhook_contract::BootId,
    row: watch::Sender<NodeRow>,
    metrics: Exported,
}

impl Daemon for SfuDaemon {
    const KIND: DaemonKind = DaemonKind::Sfu;
    type Config = SfuConfig;

    fn config(file: &ConfigFile) -> Result<SfuConfig, ConfigError> {
        SfuConfig::read(file)
    }

    async fn build(config: SfuConfig, deps: Deps) -> Result<Self, StartError> {
        let clock = MediaClock::start();
        let certificate = Certificate::generate().map_err(|e| StartError::new("make the DTLS certificate", e))?;
        let dtls = DtlsServers::new(certificate, clock).map_err(|e| StartError::new("set DTLS up", e))?;
        let prompts = Prompts::default();
        let hold = load(&prompts).await.map_err(|e| StartError::new("load the shipped prompts", e))?;
        let identity = Identity::load_or_create(&deps.data_dir, "sfu")
            .map_err(|e| StartError::new("open the certificate for Taps", e))?;
        let host = TapHost {
            listen: config.tap_listen.clone(),
            advertised: config.tap_addresses.clone(),
            identity,
            limits: TapLimits::default(),
        };
        let taps = deps.taps.host(host).await.map_err(|e| StartError::new("open the Tap listener", e))?;
        let capacity = u32::try_from(config.legs_max * config.threads.len()).unwrap_or(u32::MAX);
        let parts =
            Parts { config, clock, boot: deps.boot.clone(), dtls, prompts, hold, taps, hosts: deps.hosts.clone() };
        let (engine, outputs) = Engine::start(parts).map_err(|e| StartError::new("start the media threads", e))?;
        let outbox = Outbox::open(&deps.data_dir.join("outbox.redb"), &deps.bus)
            .await
            .map_err(|e| StartError::new("open the outbox", e))?;
        let server = deps.bus.serve(DaemonKind::Sfu, Target::Node(deps.node.clone())).await;
        let server = server.map_err(|e| StartError::new("listen on the bus", e))?;
        let row = NodeRow {
            node: deps.node,
            kind: DaemonKind::Sfu,
            boot: deps.boot.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: wall_now(),
            state: NodeState::Ready,
            load: 0,
            capacity,
            media_addresses: engine.media_addresses(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        };
        for address in engine.threads().iter().flat_map(|thread| &thread.addresses) {
            tracing::info!(%address, "media");
        }
        Ok(Self {
            engine: Arc::new(engine),
            outputs,
            server,
            outbox,
            bus: deps.bus,
            lifecycle: deps.lifecycle,
            boot: deps.boot,
            row: watch::Sender::new(row),
            metrics: Exported::new(deps.metrics),
        })
    }

    async fn run(self) -> Result<(), RunError> {
        let Self { engine, mut outputs, mut server, outbox, bus, lifecycle, boot, row, metrics } = self;
        let facts = FactWriter::start(outbox.clone());
        let presence = bus.announce(row.subscribe());
        let mut clock = interval(CLOCK_EVERY);
        let mut look = interval(LOOK_EVERY);
        for timer in [&mut clock, &mut look] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        lifecycle.set_ready(true);
        let mut draining = false;
        loop {
            tokio::select! {
                incoming = server.next() => match incoming {
                    Some(incoming) => drop(tokio::spawn(answer(Arc::clone(&engine), incoming))),
                    None => return Err(RunError::new("listen on the bus", "the bus is gone for good")),
                },
                output = outputs.next() => tell(&engine, &bus, &facts, output).await,
                _ = clock.tick() => tell_clock(&engine, &bus, &boot).await,
                _ = look.tick() => {
                    let load = u32::try_from(engine.load()).unwrap_or(u32::MAX);
                    row.send_if_modified(|row| std::mem::replace(&mut row.load, load) != load);
                    metrics.update(&engine, outbox.pending());
                    if engine.threads().iter().any(MediaThread::is_lost) {
                        return Err(RunError::new("forward", "a media thread is gone"));
                    }
                    if draining && load == 0 {
                        break;
                    }
                }
                () = lifecycle.draining(), if !draining => {
                    draining = true;
                    engine.drain();
                    row.send_modify(|row| row.state = NodeState::Draining);
                }
                () = lifecycle.stop() => break,
            }
        }
        engine.end_all(HangupCause::Drained).await;
        while let Some(output) = outputs.try_next() {
            tell(&engine, &bus, &facts, output).await;
        }
        facts.finish().await;
        presence.withdraw().await;
        Ok(())
    }
}

/// Everything that a first call will want is encoded before it comes.
async fn load(prompts: &Prompts) -> Result<Arc<offhook_media::EncodedPrompt>, crate::prompts::LoadError> {
    let shipped = |name: &str| PromptName { name: name.to_owned(), language: "en".to_owned() };
    prompts.beep(&BeepPlan::default()).await?;
    prompts.prompt(&shipped("recorded")).await?;
    prompts.prompt(&shipped("hold")).await
}

async fn tell_clock(engine: &Engine, bus: &Bus, boot: &offhook_contract::BootId) {
    let wall = wall_now();
    engine.set_clock(wall).await;
    let media = MediaTime { clock: boot.clone(), ns: engine.clock().now().0 };
    publish(bus, &Context::default(), &Event::Clock(ClockPair { media, wall }));
}

async fn answer(engine: Arc<Engine>, incoming: Incoming) {
    macro_rules! answer {
        ($($request:ty => |$body:ident, $context:ident| $work:expr),+ $(,)?) => {
            match incoming.name.as_str() {
                $(<$request>::NAME => {
                    let $context = incoming.context.clone();
                    let outcome = match incoming.body::<$request>() {
                        Ok($body) => $work.await,
                        Err(error) => Err(error),
                    };
                    if let Err(refusal) = &outcome {
                        tracing::info!(request = <$request>::NAME, call = ?$context.call, %refusal, "request refused");
                    }
                    incoming.reply::<$request>(outcome);
                })+
                _ => incoming.unsupported(),
            }
        };
    }
    answer! {
        OpenRoom => |body, context| engine.open_room(&context, body, wall_now()),
        JoinPeer => |body, context| engine.join_peer(body),
        OpenLink => |body, context| engine.open_link(body),
        ConnectLink => |body, context| engine.connect_link(body),
        RemoveLeg => |body, context| engine.remove_leg(body),
        CloseRoom => |body, context| engine.close_room(body),
        MuteLeg => |body, context| engine.mute_leg(body),
        HoldLeg => |body, context| engine.hold_leg(body),
        OpenTap => |body, context| engine.open_tap(&context, body, wall_now()),
        CloseTap => |body, context| engine.close_tap(body),
        SfuInventoryRequest => |_body, context| engine.inventory(),
    }
}
