//! A gateway between a carrier, an SFU and a call-control that the test plays: real sockets on loopback, the in-process
//! bus, the daemon as it is.
#![allow(dead_code)]

pub mod carrier;
pub mod control;
pub mod room;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use carrier::Carrier;
use control::Control;
use offhook_bus::{Bus, Events, Target};
use offhook_contract::gateway::{GatewayInventory, GatewayInventoryRequest};
use offhook_contract::node::NodeRow;
use offhook_contract::{BootId, CallId, Context, DaemonKind, LegId, NodeId, Request, TenantId, TrunkName};
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use offhook_sip::SipGateway;
use tokio::task::JoinHandle;

/// Nothing here takes this long; a test that waits longer fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct World {
    pub bus: Bus,
    pub switch: LifecycleSwitch,
    pub metrics: Metrics,
    pub carrier: Carrier,
    pub control: Control,
    pub events: Events,
    pub node: NodeId,
    pub sip_port: u16,
    pub daemon: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Ports that nobody has at this moment.
pub fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// What a test wants beside the defaults: lines for `[net]`, `[sip]`, `[dial]` and the trunk.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Where the carrier is, when it is not the one that the test plays.
    pub carrier_port: Option<u16>,
    pub net: &'static str,
    pub sip: &'static str,
    pub dial: &'static str,
    pub trunk: &'static str,
}

/// The configuration file of a plan.
pub fn config(plan: &Plan, carrier: &Carrier, sip_port: u16) -> String {
    let rtp = 21_000 + sip_port % 9_000 * 2;
    format!(
        "[net]\n{}\n[sip]\nlisten = [\"127.0.0.1:{sip_port}\"]\nrtp_ports = [{rtp}, {}]\nmedia_threads = 1\n{}\n\
         [dial]\nallowed_prefixes = [\"+1555\"]\n{}\n\
         [[trunk]]\nname = \"carrier\"\ntenant = \"acme\"\naddress = \"{}\"\nnumbers = [\"+15550100\"]\n{}\n",
        plan.net,
        rtp + 199,
        plan.sip,
        plan.dial,
        plan.carrier_port.map_or_else(|| carrier.address().to_string(), |port| format!("127.0.0.1:{port}")),
        plan.trunk,
    )
}

impl World {
    pub async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    pub async fn with(plan: Plan) -> Self {
        let carrier = Carrier::new().await;
        let sip_port = free_port();
        let text = config(&plan, &carrier, sip_port);
        let file = ConfigFile::parse("test.toml", &text, []).unwrap();
        let config = SipGateway::config(&file).unwrap();
        let bus = Bus::in_process("test").unwrap();
        let control = Control::start(&bus).await;
        let events = bus.subscribe(None, None).await.unwrap();
        let (switch, metrics) = (LifecycleSwitch::new(file), Metrics::new());
        let folder = tempfile::tempdir().unwrap();
        let node = NodeId::parse("gw1").unwrap();
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("boot1").unwrap(),
            bus: bus.clone(),
            taps: offhook_link::TapForm::Network,
            hosts: None,
            lifecycle: switch.lifecycle(),
            metrics: metrics.clone(),
            data_dir: folder.path().to_owned(),
            dev: false,
        };
        let gateway = SipGateway::build(config, deps).await.unwrap();
        let daemon = tokio::spawn(async move { gateway.run().await.unwrap() });
        Self { bus, switch, metrics, carrier, control, events, node, sip_port, daemon, _folder: folder }
    }

    pub fn context(call: &str) -> Context {
        Context {
            tenant: Some(TenantId::parse("acme").unwrap()),
            call: Some(CallId::parse(call).unwrap()),
            epoch: None,
        }
    }

    /// Asks the gateway as call-control does.
    pub async fn ask<R: Request>(&self, call: &str, body: &R) -> Result<R::Reply, offhook_bus::BusError> {
        self.bus.request(Target::Node(self.node.clone()), &Self::context(call), body, PATIENCE).await
    }

    pub async fn inventory(&self) -> GatewayInventory {
        self.ask("none", &GatewayInventoryRequest {}).await.unwrap()
    }

    /// The gateway's row, once `fine` holds for it.
    pub async fn row(&self, fine: impl Fn(&NodeRow) -> bool) -> NodeRow {
        let mut nodes = self.bus.nodes();
        let there = |rows: &[NodeRow]| rows.iter().any(|r| r.kind == DaemonKind::Sip && fine(r));
        let rows = tokio::time::timeout(PATIENCE, nodes.wait_for(there)).await.expect("the gateway's row");
        rows.into_iter().find(|r| r.kind == DaemonKind::Sip).unwrap()
    }

    /// The next event of a kind.
    pub async fn event(&mut self, kind: &str) -> offhook_contract::Event {
        let next = async {
            loop {
                let (_, event) = self.events.next().await.unwrap();
                if event.kind() == kind {
                    return event;
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("no event {kind}"))
    }

    /// One line of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.metrics.render();
        let lines = page.lines().filter(|l| l.starts_with(&format!("offhook_{name}")));
        lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric has a value: figures are shown once a second.
    pub async fn until_metric(&self, name: &str, value: f64) {
        let reached = async {
            while (self.metric(name) - value).abs() > f64::EPSILON {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{name} is {} and not {value}", self.metric(name));
        }
    }

    /// Ends the daemon and waits for it.
    pub async fn stop(self) {
        self.switch.stop();
        tokio::time::timeout(PATIENCE, self.daemon).await.expect("the daemon ends").unwrap();
    }
}

pub fn leg(name: &str) -> LegId {
    LegId::parse(name).unwrap()
}

pub fn trunk() -> TrunkName {
    TrunkName::parse("carrier").unwrap()
}
