//! Calls whose every packet goes through the TURN server to the SFU of the same process and back: what the process
//! spends with the hand-over between the two, and without it, over their sockets. With one thread of each, and with two,
//! where half of the calls' packets have their browser's allocation in one thread and their room in the other.
use super::{CHANNELS_FROM, PASSWORD, REALM, USER, median};
use crate::forward::client::{Client, ClientIdentity, Wire};
use crate::forward::ground::{self, Pace};
use crate::forward::{PAYLOAD_BYTES, daemon, payload};
use crate::{cpu, result};
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
use offhook_wire_rtp::{RtpHeader, RtpPacket};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Two to a room, each with its packet every 20 ms.
const LEGS: usize = 100;
const PACKETS_PER_SECOND: u32 = 50 * LEGS as u32;
const ROUND_S: u32 = 4;

pub fn run(quick: bool) -> anyhow::Result<()> {
    eprintln!(
        "in-process: {LEGS} legs in rooms of two, PCMU over DTLS-SRTP, all through TURN channels; SFU and TURN in this \
         process, their threads pinned to core 0; CPU time of all of them for every packet that arrived"
    );
    let rounds = if quick { 1 } else { 3 };
    let (with, without) = compare(1, 17_882, rounds)?;
    result("turn.inprocess_ns_per_packet", with, "ns");
    result("turn.inprocess_sockets_ns_per_packet", without, "ns");
    result("turn.inprocess_cpu_ratio", with / without, "ratio");
    let (with, without) = compare(2, 17_884, rounds)?;
    result("turn.inprocess_ns_per_packet_2_threads", with, "ns");
    result("turn.inprocess_sockets_ns_per_packet_2_threads", without, "ns");
    result("turn.inprocess_cpu_ratio_2_threads", with / without, "ratio");
    Ok(())
}

/// So many media threads from a port on; what a packet costs handed over, and by sockets.
fn compare(threads: u16, port: u16, rounds: usize) -> anyhow::Result<(f64, f64)> {
    let mut handed = Stack::start(true, port, threads)?;
    let mut sockets = Stack::start(false, port + threads, threads)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (a, b) = (handed.round()?, sockets.round()?);
        eprintln!("in-process round {round}, threads {threads}: {a:.0} ns handed over, {b:.0} ns over sockets");
        with.push(a);
        without.push(b);
    }
    handed.stop()?;
    sockets.stop()?;
    Ok((median(with), median(without)))
}

struct Stack {
    runtime: Runtime,
    sfu: tokio::task::JoinHandle<Result<(), offhook_runtime::RunError>>,
    switch: LifecycleSwitch,
    turn: Server,
    legs: Vec<Client>,
    sockets: Vec<UdpSocket>,
    tids: Vec<i32>,
    sent: u32,
    _data: tempfile::TempDir,
}

impl Stack {
    fn start(is_handed_over: bool, port: u16, threads: u16) -> anyhow::Result<Self> {
        let names: Vec<String> = (0..threads).flat_map(|n| [format!("sfu-media-{n}"), format!("turn-{n}")]).collect();
        let others: Vec<i32> = names.iter().flat_map(|name| cpu::tids_by_name(name)).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let data = tempfile::tempdir()?;
        let file = ConfigFile::parse(
            "bench",
            &format!("[sfu]\nmedia_listen = [\"127.0.0.1:{port}\"]\nmedia_threads = {threads}\n"),
            [],
        )?;
        let switch = LifecycleSwitch::new(file.clone());
        let bus = Bus::in_process("bench")?;
        let node = NodeId::parse("sfu-bench")?;
        let hosts = is_handed_over.then(HostThreads::default);
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("bench")?,
            bus: bus.clone(),
            taps: TapForm::InProcess(InProcessTaps::default()),
            hosts: hosts.clone(),
            lifecycle: switch.lifecycle(),
            metrics: Metrics::new(),
            data_dir: data.path().to_owned(),
            dev: true,
        };
        let sfu = runtime.block_on(SfuDaemon::build(SfuDaemon::config(&file)?, deps))?;
        let sfu = runtime.spawn(sfu.run());
        let (turn, told) = runtime.block_on(Server::start_among(plan(port, threads)?, hosts))?;
        std::thread::spawn(move || told.iter().for_each(drop));
        let server = *turn.udp_addresses().first().context("a listener")?;
        let legs = join(&runtime, &bus, &node, server)?;
        let found = names.iter().flat_map(|name| cpu::tids_by_name(name));
        let tids: Vec<i32> = found.filter(|tid| !others.contains(tid)).collect();
        ensure!(tids.len() == names.len(), "{} threads instead of {}", tids.len(), names.len());
        let sockets = legs.iter().map(|leg| leg.wire.socket().try_clone()).collect::<Result<_, _>>()?;
        tids.iter().try_for_each(|tid| cpu::pin(*tid, 0))?;
        Ok(Self { runtime, sfu, switch, turn, legs, sockets, tids, sent: 0, _data: data })
    }

    /// CPU time of the threads for every packet.
    fn round(&mut self) -> anyhow::Result<f64> {
        self.legs.iter().try_for_each(Client::check)?;
        self.drive(LEGS as u32 * 25)?;
        let spent = || self.tids.iter().map(|tid| cpu::time_of(*tid)).sum::<Duration>();
        let before = spent();
        let packets = self.drive_counted()?;
        Ok((self.tids.iter().map(|tid| cpu::time_of(*tid)).sum::<Duration>() - before).as_nanos() as f64 / packets)
    }

    fn drive_counted(&mut self) -> anyhow::Result<f64> {
        Ok(self.drive(PACKETS_PER_SECOND * ROUND_S)? as f64)
    }

    /// Every leg sends in its turn, and hears the other one of its room.
    fn drive(&mut self, packets: u32) -> anyhow::Result<u64> {
        let first = self.sent;
        self.sent += packets / LEGS as u32;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            self.legs.iter_mut().map(|leg| ((&leg.wire, &mut leg.send), &mut leg.receive)).unzip();
        let (mut senders, mut receivers) = (senders, receivers);
        let send = |number: u32| {
            let index = number as usize % LEGS;
            let count = first + number / LEGS as u32;
            let mut datagram = [0; 12 + PAYLOAD_BYTES + 16];
            let (sequence, timestamp) = ((count & 0xffff) as u16, count.wrapping_mul(160));
            let ssrc = 1_000 + index as u32;
            RtpHeader { marker: false, payload_type: 0, sequence, timestamp, ssrc }.write(&mut datagram)?;
            datagram[12..12 + PAYLOAD_BYTES].copy_from_slice(&payload(count << 8 | index as u32));
            let (wire, context) = &mut senders[index];
            let length = context.protect_rtp(&mut datagram, 12 + PAYLOAD_BYTES)?;
            wire.send(&datagram[..length])
        };
        let mut counts = [first; LEGS];
        let took = |index: usize, datagram: &mut [u8]| {
            let length = receivers[index].unprotect_rtp(datagram)?;
            let expected = payload(counts[index] << 8 | (index ^ 1) as u32);
            ensure!(RtpPacket::parse(&datagram[..length])?.payload() == expected, "leg {index} heard something else");
            counts[index] += 1;
            Ok(())
        };
        let pace = Pace { packets, per_second: PACKETS_PER_SECOND, fan_out: 1, header: 4 };
        ground::drive(&self.sockets, &pace, send, took)
    }

    fn stop(self) -> anyhow::Result<()> {
        self.runtime.block_on(self.turn.stop());
        self.switch.stop();
        self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), self.sfu).await })???;
        Ok(())
    }
}

fn plan(port: u16, threads: u16) -> anyhow::Result<Plan> {
    let mut reading = Reading::default();
    reading.add_file(&format!(
        "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nrealm={REALM}\nlt-cred-mech\nuser={USER}:{PASSWORD}\nno-tcp\nno-tls\n\
         no-dtls\nrelay-threads={threads}\nunauthorized-ratelimit-rps=100000\n"
    ));
    let mut plan = Plan::of(&reading.conf)?;
    plan.udp = vec!["127.0.0.1:0".parse()?];
    let media = (port..port + threads).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    plan.settings.policy.media = media.map(|media| MediaPeer { announced: media, local: media }).collect();
    Ok(plan)
}

fn join(runtime: &Runtime, bus: &Bus, node: &NodeId, server: SocketAddr) -> anyhow::Result<Vec<Client>> {
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
        let mut client = TurnClient::log_in(server, USER, PASSWORD)?;
        client.allocate()?;
        client.bind(CHANNELS_FROM, candidate(&joined.answer_sdp)?)?;
        legs.push(Client::connect_by(&identity, &joined.answer_sdp, Wire::Relayed(client, CHANNELS_FROM))?);
    }
    Ok(legs)
}

/// Where the room's thread is reached.
fn candidate(answer: &str) -> anyhow::Result<SocketAddr> {
    let words: Option<Vec<&str>> =
        answer.lines().find_map(|line| Some(line.strip_prefix("a=candidate:")?.split(' ').collect()));
    let words = words.context("a candidate in the answer")?;
    let (ip, port) = words.get(4).zip(words.get(5)).context("a candidate's address")?;
    Ok(format!("{ip}:{port}").parse()?)
}
