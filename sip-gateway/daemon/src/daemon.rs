//! The gateway as a daemon: opens everything, then runs the gateway's task.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use offhook_bus::{Server, Target, wall_now};
use offhook_contract::DaemonKind;
use offhook_media::{Prompt, builtin, encode};
use offhook_runtime::{ConfigError, ConfigFile, Daemon, Deps, RunError, StartError};
use offhook_sip_core::SipEndpoint;
use offhook_sip_core::api::{EndpointConfig, SocketConfig};
use offhook_sip_core::random::Random;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::facts::Facts;
use crate::gate::Gate;
use crate::gateway::Gateway;
use crate::legs::Legs;
use crate::media::{MediaPool, PortRange};
use crate::report::{Introduction, Reporter};
use crate::sockets::Sockets;
use crate::trunks::{self, Health, Resolved};

/// Decisions and look-ups on their way back.
const WAITING: usize = 256;

/// The SIP gateway.
pub struct SipGateway {
    gateway: Gateway,
    server: Server,
}

impl Daemon for SipGateway {
    const KIND: DaemonKind = DaemonKind::Sip;
    type Config = Config;

    fn config(file: &ConfigFile) -> Result<Config, ConfigError> {
        Config::read(file)
    }

    async fn build(config: Config, deps: Deps) -> Result<Self, StartError> {
        let trunks = trunks::resolve(&config).await;
        let sockets = Sockets::bind(&trunks::wanted_sockets(&config, &trunks))
            .await
            .map_err(|e| StartError::new("open the SIP sockets", e))?;
        introduce(&deps, &config, &trunks);
        let epoch = Instant::now();
        let endpoint = SipEndpoint::new(endpoint_config(&config, &trunks, &sockets.addresses()))
            .map_err(|e| StartError::new("use the trunks of the configuration", e))?;
        let (media, news) =
            MediaPool::start(config.media_threads, epoch).map_err(|e| StartError::new("start the media threads", e))?;
        let facts =
            Facts::open(&deps.data_dir, &deps.bus).await.map_err(|e| StartError::new("open the outbox of facts", e))?;
        let server = deps
            .bus
            .serve(DaemonKind::Sip, Target::Node(deps.node.clone()))
            .await
            .map_err(|e| StartError::new("listen on the bus", e))?;
        let who = Introduction {
            node: deps.node.clone(),
            boot: deps.boot.clone(),
            started: wall_now(),
            capacity: config.max_legs,
        };
        let mut health = Health::default();
        health.replace(&trunks);
        let mut gateway = Gateway {
            node: deps.node,
            reporter: Reporter::new(&deps.metrics, &deps.bus, who),
            bus: deps.bus,
            lifecycle: deps.lifecycle,
            endpoint,
            sockets,
            media,
            news,
            ports: PortRange::new(config.rtp_ports.0, config.rtp_ports.1),
            legs: Legs::default(),
            asked: HashMap::new(),
            parked: Vec::new(),
            gate: Gate::new(config.rules.clone()),
            trunks,
            health,
            facts,
            decisions: mpsc::channel(WAITING),
            resolved: mpsc::channel(WAITING),
            hold_prompt: Arc::new(hold_prompt().map_err(|e| StartError::new("encode the hold prompt", e))?),
            unix_ns_at_zero: unix_ns(),
            epoch,
            config,
        };
        gateway.report();
        Ok(Self { gateway, server })
    }

    async fn run(self) -> Result<(), RunError> {
        self.gateway.run(self.server).await;
        Ok(())
    }
}

/// Tells the operator which trunks there are and where they reach us.
fn introduce(deps: &Deps, config: &Config, trunks: &[Resolved]) {
    let (first, last) = config.rtp_ports;
    for trunk in trunks {
        let name = &trunk.plan.name;
        match &trunk.place {
            Ok(place) => {
                let local = place.local;
                let rtp = local.ip();
                deps.lifecycle.say(format!("Trunk {name}: SIP on {local}, RTP on {rtp}, ports {first}-{last} (UDP)"));
            }
            Err(trouble) => tracing::warn!(trunk = %name, host = trunk.plan.host, %trouble, "trunk cannot be used"),
        }
    }
}

fn endpoint_config(config: &Config, trunks: &[Resolved], sockets: &[SocketAddr]) -> EndpointConfig {
    let sockets = sockets
        .iter()
        .map(|local| SocketConfig {
            local: *local,
            advertised: SocketAddr::new(config.net.announced(local.ip()), local.port()),
        })
        .collect();
    let sip = trunks.iter().filter_map(Resolved::sip).collect();
    EndpointConfig {
        max_legs: config.max_legs,
        max_ringing: config.max_ringing,
        silence_limit: config.carrier_silence,
        product: config.product.clone(),
        ..EndpointConfig::new(sockets, sip, Box::new(SystemRandom))
    }
}

fn hold_prompt() -> Result<offhook_media::EncodedPrompt, offhook_media::PromptError> {
    let wav = builtin::prompt("hold", builtin::FALLBACK_LANGUAGE).unwrap_or_default();
    encode(&Prompt::from_wav(wav)?)
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The kernel's randomness.
struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        // Only a kernel that has not gathered any yet fails here, and then only for moments after its start.
        while getrandom::fill(bytes).is_err() {
            std::thread::yield_now();
        }
    }
}
