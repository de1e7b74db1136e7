//! SFU and TURN in this process as `offhook up` puts them together, so that what their threads do can be looked at from
//! inside.
use super::legs::{Legs, connect};
use super::{PASSWORD, REALM, USER};
use crate::cpu;
use crate::forward::client::ClientIdentity;
use crate::forward::daemon;
use anyhow::{Context as _, ensure};
use offhook_bus::Bus;
use offhook_contract::sfu::{JoinPeer, OpenRoom, RoomKind};
use offhook_contract::{BootId, LegId, NodeId, RoomId};
use offhook_link::{HostThreads, InProcessTaps, TapForm};
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use offhook_sfu::SfuDaemon;
use offhook_testkit::TurnClient;
use offhook_turn::{Plan, Server};
use offhook_turn_core::MediaPeer;
use offhook_turn_core::conf::Reading;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The next media thread takes the next port.
const MEDIA_PORT: u16 = 17_882;
const LEGS: usize = 100;

pub struct Hosted {
    pub legs: Legs,
    runtime: Runtime,
    sfu: tokio::task::JoinHandle<Result<(), offhook_runtime::RunError>>,
    switch: LifecycleSwitch,
    turn: Server,
    names: Vec<String>,
    _data: tempfile::TempDir,
}

impl Hosted {
    pub fn start(threads: u16) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let data = tempfile::tempdir()?;
        let sfu = format!("[sfu]\nmedia_listen = [\"127.0.0.1:{MEDIA_PORT}\"]\nmedia_threads = {threads}\n");
        let file = ConfigFile::parse("bench", &sfu, [])?;
        let switch = LifecycleSwitch::new(file.clone());
        let bus = Bus::in_process("bench")?;
        let node = NodeId::parse("sfu-bench")?;
        let hosts = HostThreads::default();
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("bench")?,
            bus: bus.clone(),
            taps: TapForm::InProcess(InProcessTaps::default()),
            hosts: Some(hosts.clone()),
            lifecycle: switch.lifecycle(),
            metrics: Metrics::new(),
            data_dir: data.path().to_owned(),
            dev: true,
        };
        let sfu = runtime.block_on(SfuDaemon::build(SfuDaemon::config(&file)?, deps))?;
        let sfu = runtime.spawn(sfu.run());
        let (turn, told) = runtime.block_on(Server::start_among(plan(threads)?, Some(hosts)))?;
        std::thread::spawn(move || told.iter().for_each(drop));
        let server = *turn.udp_addresses().first().context("a listener")?;
        let legs = join(&runtime, &bus, &node, server)?;
        let names = (0..threads).flat_map(|n| [format!("sfu-media-{n}"), format!("turn-{n}")]).collect();
        Ok(Self { legs, runtime, sfu, switch, turn, names, _data: data })
    }

    /// Media threads, and those that their guests came from.
    pub fn tids(&self) -> anyhow::Result<Vec<i32>> {
        let tids: Vec<i32> = self.names.iter().flat_map(|name| cpu::tids_by_name(name)).collect();
        ensure!(tids.len() == self.names.len(), "{} threads instead of {}", tids.len(), self.names.len());
        tids.iter().try_for_each(|tid| cpu::pin(*tid, 0))?;
        Ok(tids)
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.runtime.block_on(self.turn.stop());
        self.switch.stop();
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), self.sfu).await })???;
        Ok(())
    }
}

fn plan(threads: u16) -> anyhow::Result<Plan> {
    let mut reading = Reading::default();
    reading.add_file(&format!(
        "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nrealm={REALM}\nlt-cred-mech\nuser={USER}:{PASSWORD}\nno-tcp\nno-tls\n\
         no-dtls\nrelay-threads={threads}\nunauthorized-ratelimit-rps=100000\n"
    ));
    let mut plan = Plan::of(&reading.conf)?;
    plan.udp = vec!["127.0.0.1:0".parse()?];
    let media = (MEDIA_PORT..MEDIA_PORT + threads).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    plan.settings.policy.media = media.map(|media| MediaPeer { announced: media, local: media }).collect();
    Ok(plan)
}

fn join(runtime: &Runtime, bus: &Bus, node: &NodeId, server: SocketAddr) -> anyhow::Result<Legs> {
    let identity = ClientIdentity::new()?;
    let mut legs = Vec::new();
    for index in 0..LEGS {
        let room = RoomId::parse(format!("room-{}", index / 2))?;
        if index % 2 == 0 {
            let open = OpenRoom { room: room.clone(), kind: RoomKind::Conversation };
            runtime.block_on(daemon::ask(bus, node, &open))?;
        }
        let leg = LegId::parse(format!("leg-{index}"))?;
        let request = JoinPeer { room, leg, offer_sdp: identity.offer(&["sendonly", "recvonly"]), emergency: false };
        let joined = runtime.block_on(daemon::ask(bus, node, &request))?;
        legs.push(connect(&identity, &joined.answer_sdp, TurnClient::log_in(server, USER, PASSWORD)?)?);
    }
    Legs::new(legs)
}
