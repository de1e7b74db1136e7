//! The SFU daemon itself, driven over its bus and its sockets.
use super::client::{Client, ClientIdentity};
use super::ground::Pace;
use super::{PAYLOAD_BYTES, RECEIVERS, Round, ground, payload};
use crate::cpu;
use anyhow::{Context as _, ensure};
use offhook_bus::{Bus, Target};
use offhook_contract::envelope::Request;
use offhook_contract::sfu::{JoinPeer, OpenRoom, RoomKind};
use offhook_contract::{BootId, CallId, Context, LegId, NodeId, RoomId, TenantId};
use offhook_link::{InProcessTaps, TapForm};
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics, RunError};
use offhook_sfu::SfuDaemon;
use offhook_testkit::CountingAllocator;
use offhook_wire_rtp::{RtpHeader, RtpPacket};
use std::net::UdpSocket;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

const CONFIG: &str = "[sfu]\nmedia_listen = [\"127.0.0.1:0\"]\nmedia_threads = 1\nlegs_max = 2000\n";

pub struct Ours {
    runtime: Runtime,
    running: JoinHandle<Result<(), RunError>>,
    switch: LifecycleSwitch,
    sender: Client,
    sockets: Vec<UdpSocket>,
    receivers: Vec<Client>,
    tid: i32,
    sequence: u32,
    _data: tempfile::TempDir,
}

pub async fn ask<R: Request>(bus: &Bus, node: &NodeId, body: &R) -> anyhow::Result<R::Reply> {
    let context =
        Context { tenant: Some(TenantId::parse("bench")?), call: Some(CallId::parse("forward")?), epoch: None };
    let reply = bus.request(Target::Node(node.clone()), &context, body, Duration::from_secs(10)).await;
    reply.with_context(|| R::NAME.to_owned())
}

impl Ours {
    pub fn start() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let data = tempfile::tempdir()?;
        let file = ConfigFile::parse("bench", CONFIG, [])?;
        let switch = LifecycleSwitch::new(file.clone());
        let bus = Bus::in_process("bench")?;
        let node = NodeId::parse("sfu-bench")?;
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("bench")?,
            bus: bus.clone(),
            taps: TapForm::InProcess(InProcessTaps::default()),
            hosts: None,
            lifecycle: switch.lifecycle(),
            metrics: Metrics::new(),
            data_dir: data.path().to_owned(),
            dev: true,
        };
        let daemon = runtime.block_on(SfuDaemon::build(SfuDaemon::config(&file)?, deps))?;
        let running = runtime.spawn(daemon.run());
        let tid = cpu::tid_by_name("sfu-media-0")?;
        let identity = ClientIdentity::new()?;
        let room = RoomId::parse("forward")?;
        runtime.block_on(ask(&bus, &node, &OpenRoom { room: room.clone(), kind: RoomKind::Conversation }))?;
        let join = |name: String, direction: &str| -> anyhow::Result<Client> {
            let offer_sdp = identity.offer(&[direction]);
            let request = JoinPeer { room: room.clone(), leg: LegId::parse(name)?, offer_sdp, emergency: false };
            let joined = runtime.block_on(ask(&bus, &node, &request))?;
            Client::connect(&identity, &joined.answer_sdp)
        };
        let sender = join("sender".into(), "sendonly")?;
        let receivers = (0..RECEIVERS)
            .map(|n| join(format!("receiver-{n}"), "recvonly"))
            .collect::<anyhow::Result<Vec<Client>>>()?;
        let sockets = receivers.iter().map(|client| client.wire.socket().try_clone()).collect::<Result<_, _>>()?;
        cpu::pin(tid, 0)?;
        cpu::pin(cpu::own_tid(), 1)?;
        Ok(Self { runtime, running, switch, sender, sockets, receivers, tid, sequence: 0, _data: data })
    }

    /// Sends `packets` packets and has every one of them arrive at every receiver.
    pub fn round(&mut self, packets: u32) -> anyhow::Result<Round> {
        self.sender.check()?;
        self.receivers.iter().try_for_each(Client::check)?;
        // The first packet of all fills the slots; what the daemon then has to tell is not forwarding.
        let warm_up = if self.sequence == 0 { 50 } else { 10 };
        self.drive(warm_up)?;
        let (before, allocations) = (cpu::time_of(self.tid), CountingAllocator::count_of(self.tid));
        let received = self.drive(packets)?;
        let spent = cpu::time_of(self.tid) - before;
        Ok(Round {
            ns_per_packet: spent.as_nanos() as f64 / received as f64,
            allocations: CountingAllocator::count_of(self.tid) - allocations,
            packets: received,
        })
    }

    fn drive(&mut self, packets: u32) -> anyhow::Result<u64> {
        let Self { sender, sockets, receivers, sequence, .. } = self;
        let first = *sequence;
        *sequence += packets;
        let send = |number: u32| {
            let number = first + number;
            let mut datagram = [0; 12 + PAYLOAD_BYTES + 16];
            let (sequence, timestamp) = ((number & 0xffff) as u16, number.wrapping_mul(160));
            RtpHeader { marker: false, payload_type: 0, sequence, timestamp, ssrc: 77 }.write(&mut datagram)?;
            datagram[12..12 + PAYLOAD_BYTES].copy_from_slice(&payload(number));
            let len = sender.send.protect_rtp(&mut datagram, 12 + PAYLOAD_BYTES)?;
            sender.wire.send(&datagram[..len])
        };
        let mut counts = vec![0_u32; RECEIVERS];
        let took = |index: usize, datagram: &mut [u8]| {
            let number = first + counts[index];
            counts[index] += 1;
            if (number as usize + index).is_multiple_of(50) {
                let len = receivers[index].receive.unprotect_rtp(datagram)?;
                let packet = RtpPacket::parse(&datagram[..len])?;
                ensure!(packet.payload() == payload(number), "a payload of the SFU is wrong");
            }
            Ok(())
        };
        ground::drive(sockets, &Pace::of_forwarding(packets), send, took)
    }

    pub fn stop(self) -> anyhow::Result<()> {
        self.switch.stop();
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), self.running).await })???;
        Ok(())
    }
}
