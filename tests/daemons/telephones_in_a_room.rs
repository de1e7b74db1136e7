//! Two telephones meet in a room of the SFU: carrier, gateway, Link, SFU, Link, gateway, carrier.

use crate::world::carrier::Message;
use crate::world::room::{Phone, decoded};
use crate::world::{PATIENCE, World, trunk};
use offhook_bus::Target;
use offhook_contract::dial::{Destination, PhoneNumber};
use offhook_contract::gateway::{DialTelephone, HoldTelephone};
use offhook_contract::sfu::{ConnectLink, MuteLeg, OpenLink, OpenRoom, RoomKind};
use offhook_contract::{BootId, LegId, NodeId, Request, RoomId};
use offhook_media::tone::Sine;
use offhook_media::{detect, g711};
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use offhook_sfu::SfuDaemon;
use std::sync::Arc;
use tokio::net::UdpSocket;

struct Meeting {
    world: World,
    room: RoomId,
    _sfu: LifecycleSwitch,
    _folder: tempfile::TempDir,
}

const CALL: &str = "meeting";

impl Meeting {
    async fn new() -> Self {
        let world = World::new().await;
        let text = "[sfu]\nmedia_listen = [\"127.0.0.1:0\"]\nmedia_threads = 1\n";
        let file = ConfigFile::parse("sfu.toml", text, []).unwrap();
        let config = SfuDaemon::config(&file).unwrap();
        let (switch, folder) = (LifecycleSwitch::new(file), tempfile::tempdir().unwrap());
        let deps = Deps {
            node: NodeId::parse("sfu1").unwrap(),
            boot: BootId::parse("boot-sfu").unwrap(),
            bus: world.bus.clone(),
            taps: offhook_link::TapForm::Network,
            hosts: None,
            lifecycle: switch.lifecycle(),
            metrics: Metrics::new(),
            data_dir: folder.path().to_owned(),
            dev: true,
        };
        let sfu = SfuDaemon::build(config, deps).await.unwrap();
        tokio::spawn(sfu.run());
        let meeting = Self { world, room: RoomId::parse(CALL).unwrap(), _sfu: switch, _folder: folder };
        meeting.ask_sfu(OpenRoom { room: meeting.room.clone(), kind: RoomKind::Conversation }).await;
        meeting
    }

    async fn ask_sfu<R: Request>(&self, body: R) -> R::Reply {
        let sfu = Target::Node(NodeId::parse("sfu1").unwrap());
        self.world.bus.request(sfu, &World::context(CALL), &body, PATIENCE).await.unwrap()
    }

    /// A telephone joins the room: dialled, answered, linked.
    async fn join(&mut self, leg: &str, number: &str) -> Telephone {
        let leg = LegId::parse(leg).unwrap();
        let link = self.ask_sfu(OpenLink { room: self.room.clone(), leg: leg.clone(), emergency: false }).await;
        let dial = DialTelephone {
            leg: leg.clone(),
            trunk: trunk(),
            to: Destination::Number(PhoneNumber::try_from(number.to_owned()).unwrap()),
            caller_id: None,
            ring_timeout_ms: 30_000,
            max_duration_s: 600,
            link,
        };
        let reply = self.world.ask(CALL, &dial).await.unwrap();
        self.ask_sfu(ConnectLink { room: self.room.clone(), leg: leg.clone(), answer: reply.link }).await;
        let invite: Message = self.world.carrier.request("INVITE").await;
        let rtp = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = rtp.local_addr().unwrap().port();
        self.world.carrier.respond(&invite, "200 OK", "", &self.world.carrier.sdp_at(port)).await;
        self.world.carrier.request("ACK").await;
        self.world.control.fact().await;
        let phone = Phone::at(rtp, invite.audio_port());
        phone.hear().await;
        Telephone { leg, phone }
    }
}

struct Telephone {
    leg: LegId,
    phone: Phone,
}

/// Both speak for so many frames; what each hears.
async fn talk(one: &mut Telephone, two: &mut Telephone, frames: u32) -> [Vec<i16>; 2] {
    let mut voices = [Sine::new(500.0, -12.0, 8_000), Sine::new(1_100.0, -12.0, 8_000)];
    let mut heard = [Vec::new(), Vec::new()];
    for _ in 0..frames {
        for ((telephone, voice), heard) in [&mut *one, &mut *two].into_iter().zip(&mut voices).zip(&mut heard) {
            let (mut pcm, mut bytes) = ([0; 160], [0; 160]);
            voice.fill(&mut pcm);
            g711::encode_pcmu(&pcm, &mut bytes);
            telephone.phone.speak(&bytes).await;
            heard.extend(decoded(&telephone.phone.hear().await));
        }
    }
    heard
}

fn level(pcm: &[i16], hz: f32) -> f32 {
    detect::level_dbfs_of(pcm, 8_000, hz)
}

#[tokio::test]
async fn two_telephones_hear_each_other_through_the_sfu_and_not_themselves() {
    let mut meeting = Meeting::new().await;
    let mut one = meeting.join("one", "+15551230001").await;
    let mut two = meeting.join("two", "+15551230002").await;
    let [first, second] = talk(&mut one, &mut two, 150).await;
    let (first, second) = (&first[4_800..], &second[4_800..]);
    assert!(detect::presence(first, 8_000, 1_100.0) > 0.99, "{}", detect::presence(first, 8_000, 1_100.0));
    assert!(detect::presence(second, 8_000, 500.0) > 0.99, "{}", detect::presence(second, 8_000, 500.0));
    assert!(level(first, 500.0) < -52.0 && level(second, 1_100.0) < -52.0, "nobody hears itself");

    meeting.ask_sfu(MuteLeg { room: meeting.room.clone(), leg: one.leg.clone(), muted: true }).await;
    let [first, second] = talk(&mut one, &mut two, 75).await;
    assert!(level(&second[4_800..], 500.0) < -52.0, "the muted one is not heard");
    assert!(level(&first[4_800..], 1_100.0) > -14.0, "and hears on");
    meeting.ask_sfu(MuteLeg { room: meeting.room.clone(), leg: one.leg.clone(), muted: false }).await;

    meeting.world.ask(CALL, &HoldTelephone { leg: one.leg.clone(), held: true }).await.unwrap();
    let [first, second] = talk(&mut one, &mut two, 75).await;
    assert!(level(&second[4_800..], 500.0) < -52.0, "the held one is not heard");
    assert!(level(&first[4_800..], 1_100.0) < -52.0, "and hears music instead");
    meeting.world.stop().await;
}
