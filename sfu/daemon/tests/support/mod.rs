//! A running SFU daemon on an in-process bus, and browsers that are not our code (str0m).
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_bus::{Bus, Events, Target};
use offhook_contract::envelope::Request;
use offhook_contract::sfu::*;
use offhook_contract::{BootId, CallId, Context, Event, LegId, NodeId, RequestError, RoomId, TenantId};
use offhook_link::{InProcessTaps, TapForm};
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use offhook_sfu::SfuDaemon;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpPacket, RtpWrite};
use str0m::{Candidate, Event as RtcEvent, Input, Output, Rtc};

pub struct Stand {
    pub bus: Bus,
    pub node: NodeId,
    pub switch: LifecycleSwitch,
    pub metrics: Metrics,
    pub taps: TapForm,
    pub running: tokio::task::JoinHandle<Result<(), offhook_runtime::RunError>>,
    _data: tempfile::TempDir,
}

impl Stand {
    pub async fn start() -> Self {
        let text = "[sfu]\nmedia_listen = [\"127.0.0.1:0\"]\nmedia_threads = 1\n";
        let file = ConfigFile::parse("test", text, []).unwrap();
        let data = tempfile::tempdir().unwrap();
        let bus = Bus::in_process("test").unwrap();
        let switch = LifecycleSwitch::new(file.clone());
        let metrics = Metrics::new();
        let node = NodeId::parse("sfu-1").unwrap();
        let taps = TapForm::InProcess(InProcessTaps::default());
        let deps = Deps {
            node: node.clone(),
            boot: BootId::parse("boot-1").unwrap(),
            bus: bus.clone(),
            taps: taps.clone(),
            hosts: None,
            lifecycle: switch.lifecycle(),
            metrics: metrics.clone(),
            data_dir: data.path().to_owned(),
            dev: true,
        };
        let daemon = SfuDaemon::build(SfuDaemon::config(&file).unwrap(), deps).await.unwrap();
        let running = tokio::spawn(daemon.run());
        Self { bus, node, switch, metrics, taps, running, _data: data }
    }

    pub fn context(&self) -> Context {
        Context {
            tenant: Some(TenantId::parse("tenant-1").unwrap()),
            call: Some(CallId::parse("call-1").unwrap()),
            epoch: None,
        }
    }

    pub async fn ask<R: Request>(&self, body: R) -> Result<R::Reply, RequestError> {
        let target = Target::Node(self.node.clone());
        match self.bus.request(target, &self.context(), &body, Duration::from_secs(10)).await {
            Ok(reply) => Ok(reply),
            Err(offhook_bus::BusError::Refused(refusal)) => Err(refusal),
            Err(other) => panic!("{}: {other}", R::NAME),
        }
    }

    pub async fn room(&self, name: &str, kind: RoomKind) -> RoomId {
        let room = RoomId::parse(name).unwrap();
        self.ask(OpenRoom { room: room.clone(), kind }).await.unwrap();
        room
    }

    /// Joins a browser with one microphone, `slots` slots and (if there is a slot) the Announcer.
    pub async fn join(&self, room: &RoomId, leg: &str, browser: BrowserPlan) -> Browser {
        let (mut browser, offer) = Browser::new(leg, browser);
        let leg = LegId::parse(leg).unwrap();
        let joined = self.ask(JoinPeer { room: room.clone(), leg, offer_sdp: offer, emergency: false }).await.unwrap();
        browser.accept(&joined);
        browser
    }

    pub async fn events(&self, kind: &str) -> Events {
        self.bus.subscribe(None, Some(kind)).await.unwrap()
    }
}

pub async fn next_event(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(10), events.next()).await.expect("no event came").unwrap().1
}

#[derive(Clone, Copy)]
pub struct BrowserPlan {
    pub slots: usize,
    pub announcer: bool,
    pub pcmu: bool,
}

impl Default for BrowserPlan {
    fn default() -> Self {
        Self { slots: 4, announcer: true, pcmu: true }
    }
}

/// One str0m peer on a socket of its own.
pub struct Browser {
    pub name: String,
    pub rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    /// Where its last datagram went.
    peer: Option<SocketAddr>,
    pending: Option<SdpPendingOffer>,
    pub microphone: Mid,
    pub joined: Option<PeerJoined>,
    /// What arrived, by line.
    pub heard: Vec<(String, RtpPacket)>,
    pub connected: bool,
    sent: u64,
}

impl Browser {
    fn new(name: &str, plan: BrowserPlan) -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let local = socket.local_addr().unwrap();
        let builder = Rtc::builder().set_rtp_mode(true).clear_codecs().enable_opus(true, false);
        let builder = if plan.pcmu { builder.enable_pcmu(true, false).enable_pcma(true, false) } else { builder };
        let mut rtc = builder.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp").unwrap());
        let mut change = rtc.sdp_api();
        let microphone = change.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        for _ in 0..plan.slots + usize::from(plan.announcer) {
            change.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        }
        let (offer, pending) = change.apply().unwrap();
        let browser = Self {
            name: name.to_owned(),
            rtc,
            socket,
            local,
            peer: None,
            pending: Some(pending),
            microphone,
            joined: None,
            heard: Vec::new(),
            connected: false,
            sent: 0,
        };
        (browser, offer.to_sdp_string())
    }

    fn accept(&mut self, joined: &PeerJoined) {
        let answer = SdpAnswer::from_sdp_string(&joined.answer_sdp).expect("str0m reads our answer");
        self.rtc.sdp_api().accept_answer(self.pending.take().unwrap(), answer).expect("str0m accepts our answer");
        self.joined = Some(joined.clone());
    }

    /// Sends one frame from the microphone.
    pub fn speak(&mut self, payload_type: u8, step: u32, payload: &[u8]) {
        let sequence = self.sent;
        self.sent += 1;
        let time = (sequence as u32).wrapping_mul(step);
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.microphone, None).expect("the microphone has a stream");
        stream.write_rtp(RtpWrite::new(payload_type.into(), sequence.into(), time, Instant::now(), payload.to_vec()));
    }

    /// Sends these bytes as they are, from its own socket to where its media goes.
    pub fn throw(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.peer.expect("it has sent something")).unwrap();
    }

    /// Moves everything that waits, once.
    pub fn turn(&mut self) {
        let now = Instant::now();
        self.drain();
        let mut buffer = [0; 2_000];
        while let Ok((len, source)) = self.socket.recv_from(&mut buffer) {
            let Ok(contents) = buffer[..len].try_into() else { continue };
            let receive = Receive { proto: Protocol::Udp, source, destination: self.local, contents };
            self.rtc.handle_input(Input::Receive(now, receive)).unwrap();
            self.drain();
        }
        self.rtc.handle_input(Input::Timeout(now)).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(t) => {
                    self.socket.send_to(&t.contents, t.destination).unwrap();
                    self.peer = Some(t.destination);
                }
                Output::Event(RtcEvent::Connected) => self.connected = true,
                Output::Event(RtcEvent::RtpPacket(packet)) => {
                    let mut api = self.rtc.direct_api();
                    let mid = api.stream_rx(&packet.header.ssrc).map(|s| s.mid().to_string()).unwrap_or_default();
                    self.heard.push((mid, packet));
                }
                Output::Event(_) => {}
            }
        }
    }
}

/// Turns all browsers every millisecond until `done`, and calls `each_frame` every 20 ms.
pub async fn run(
    browsers: &mut [Browser],
    limit: Duration,
    mut each_frame: impl FnMut(&mut [Browser]),
    mut done: impl FnMut(&[Browser]) -> bool,
) {
    let start = Instant::now();
    let mut frame = start;
    while !done(browsers) {
        assert!(start.elapsed() < limit, "not done after {limit:?}");
        if Instant::now() >= frame {
            frame += Duration::from_millis(20);
            each_frame(browsers);
        }
        browsers.iter_mut().for_each(Browser::turn);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub async fn connect(browsers: &mut [Browser]) {
    run(browsers, Duration::from_secs(10), |_| {}, |all| all.iter().all(|b| b.connected)).await;
}

/// Stands in for call-control: stores every fact and keeps it.
pub fn keep_facts(stand: &Stand) -> tokio::sync::mpsc::UnboundedReceiver<offhook_contract::Fact> {
    use offhook_contract::fact::{FactReceipt, StoreFact};
    let (sender, facts) = tokio::sync::mpsc::unbounded_channel();
    let bus = stand.bus.clone();
    tokio::spawn(async move {
        let mut server = bus.serve(offhook_contract::DaemonKind::Control, Target::Any).await.unwrap();
        while let Some(incoming) = server.next().await {
            let stored = incoming.body::<StoreFact>().unwrap();
            let _ = sender.send(stored.record.fact);
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
        }
    });
    facts
}

impl Stand {
    /// One figure of the metrics text.
    pub fn figure(&self, name: &str) -> i64 {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(&format!("offhook_{name}")) && !line.starts_with('#'));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until all gauges of the SFU that count calls are zero.
    pub async fn settled(&self) {
        let names = ["sfu_rooms", "sfu_peers", "sfu_links", "sfu_taps", "sfu_timers", "sfu_addresses"];
        let begun = Instant::now();
        loop {
            let figures: Vec<i64> = names.iter().map(|name| self.figure(name)).collect();
            if figures.iter().all(|figure| *figure == 0) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "{names:?} = {figures:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
