//! Calls with a SIP stack that is not ours: SIPp as carrier (digest, early media, echo) and as caller (recorded sound and
//! keys).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use offhook_contract::dial::{Destination, PhoneNumber};
use offhook_contract::gateway::{AnswerTelephone, DialTelephone, HangUpTelephone, RingTelephone};
use offhook_contract::{Event, Fact, HangupCause};
use offhook_media::tone::Sine;
use offhook_media::{detect, g711};
use world::room::{Room, SLOT, decoded};
use world::{Plan, World, free_port, leg, trunk};

/// A running SIPp, ended with the test.
struct Sipp(Child);

impl Drop for Sipp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sipp(folder: &Path, port: u16, more: &[&str]) -> Sipp {
    let media = free_port().to_string();
    let child = Command::new("sipp")
        .current_dir(folder)
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-m", "1", "-nostdin", "-p", &port.to_string(), "-mp", &media])
        .args(more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sipp is installed (package sip-tester)");
    Sipp(child)
}

const ECHO_BACK: &str = "[last_Via:]\n[last_From:]\n[last_To:];tag=sipp\n[last_Call-ID:]\n[last_CSeq:]\n\
     Contact: <sip:carrier@[local_ip]:[local_port]>\n";
const SDP: &str = "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=c 1 1 IN IP4 [local_ip]\ns=-\n\
     c=IN IP4 [media_ip]\nt=0 0\nm=audio [rtpstream_audio_port] RTP/AVP 0\na=rtpmap:0 PCMU/8000\n";

/// Demands digest, plays a tone for a second before the answer and another after it.
fn carrier_scenario(early: &Path, answered: &Path) -> String {
    let reply =
        |status: &str, rest: &str| format!("<send><![CDATA[\nSIP/2.0 {status}\n{ECHO_BACK}{rest}\n]]></send>\n");
    let play = |wav: &Path| format!("<nop><action><exec rtp_stream=\"{},-1,0\"/></action></nop>\n", wav.display());
    let empty = "Content-Length: 0\n";
    let challenge =
        format!("WWW-Authenticate: Digest realm=\"c\", nonce=\"5f2a\", algorithm=MD5, qop=\"auth\"\n{empty}");
    [
        "<?xml version=\"1.0\"?>\n<scenario name=\"carrier\">\n<recv request=\"INVITE\"/>\n",
        &reply("401 Unauthorized", &challenge),
        "<recv request=\"ACK\"/>\n<recv request=\"INVITE\"><action>\
         <verifyauth assign_to=\"fine\" username=\"me\" password=\"open sesame\"/></action></recv>\n\
         <nop next=\"yes\" test=\"fine\"/>\n",
        &reply("403 Forbidden", empty),
        "<recv request=\"ACK\" next=\"end\"/>\n<label id=\"yes\"/>\n",
        &reply("183 Session Progress", SDP),
        &play(early),
        "<pause milliseconds=\"2500\"/>\n",
        &reply("200 OK", SDP),
        "<recv request=\"ACK\"/>\n",
        &play(answered),
        "<recv request=\"BYE\"/>\n",
        &reply("200 OK", empty),
        "<label id=\"end\"/>\n</scenario>\n",
    ]
    .concat()
}

fn tone_file(folder: &Path, hz: f32) -> std::path::PathBuf {
    let (mut pcm, mut bytes) = (vec![0; 160_000], vec![0; 160_000]);
    Sine::new(hz, -10.0, 8_000).fill(&mut pcm);
    g711::encode_pcmu(&pcm, &mut bytes);
    let path = folder.join(format!("{hz}.ulaw"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn dial(room: &Room) -> DialTelephone {
    DialTelephone {
        leg: leg("leg-out"),
        trunk: trunk(),
        to: Destination::Number(PhoneNumber::try_from("+15551230000".to_owned()).unwrap()),
        caller_id: None,
        ring_timeout_ms: 30_000,
        max_duration_s: 600,
        link: room.offer(),
    }
}

async fn listen(room: &mut Room, frames: usize) -> Vec<i16> {
    let mut heard = Vec::new();
    for _ in 0..frames {
        heard.extend(decoded(&room.hear().await));
    }
    heard
}

#[tokio::test]
async fn sipp_demands_digest_and_is_heard_before_and_after_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let scenario = carrier_scenario(&tone_file(folder.path(), 1_000.0), &tone_file(folder.path(), 800.0));
    std::fs::write(folder.path().join("carrier.xml"), scenario).unwrap();
    let account = "username = \"me\"\npassword = \"open sesame\"\nkeep_alive_s = 0\n";
    let mut world = World::with(Plan { carrier_port: Some(port), trunk: account, ..Plan::default() }).await;
    let _sipp = sipp(folder.path(), port, &["-sf", "carrier.xml"]);
    let mut room = Room::new().await;
    let reply = world.ask("call-out", &dial(&room)).await.unwrap();
    room.connect(&reply.link);
    world.event("leg_early_media").await;
    let early = listen(&mut room, 60).await;
    assert!(detect::presence(&early, 8_000, 1_000.0) > 0.98, "{}", detect::presence(&early, 8_000, 1_000.0));
    assert_eq!(world.control.fact().await, Fact::LegAnswered { leg: leg("leg-out") });
    let mut after = listen(&mut room, 150).await;
    let onset = after.chunks_exact(160).position(|f| detect::is_present(f, 8_000, 800.0)).expect("the second tone");
    after.drain(..onset * 160);
    assert!(detect::presence(&after, 8_000, 800.0) > 0.98, "{}", detect::presence(&after, 8_000, 800.0));
    world.ask("call-out", &HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal }).await.unwrap();
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Normal, .. }));
    world.stop().await;
}

#[tokio::test]
async fn sipp_returns_the_rooms_tone_as_an_echo() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut world =
        World::with(Plan { carrier_port: Some(port), trunk: "keep_alive_s = 0\n", ..Plan::default() }).await;
    let _sipp = sipp(folder.path(), port, &["-sn", "uas", "-rtp_echo"]);
    let mut room = Room::new().await;
    let reply = world.ask("call-out", &dial(&room)).await.unwrap();
    room.connect(&reply.link);
    world.control.fact().await;
    let mut source = Sine::new(700.0, -12.0, 8_000);
    let mut heard = Vec::new();
    for n in 0..120 {
        let (mut pcm, mut bytes) = ([0; 160], [0; 160]);
        source.fill(&mut pcm);
        g711::encode_pcmu(&pcm, &mut bytes);
        room.send(SLOT, n, &bytes).await;
        heard.extend(decoded(&room.hear().await));
    }
    let settled = &heard[3_200..];
    assert!(detect::presence(settled, 8_000, 700.0) > 0.95, "{}", detect::presence(settled, 8_000, 700.0));
    world.ask("call-out", &HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal }).await.unwrap();
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Normal, .. }));
    world.stop().await;
}

fn caller_scenario() -> String {
    let headers = |method: &str, cseq: u32, tag: &str| {
        format!(
            "Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]\n\
             From: <sip:+15557654321@[local_ip]>;tag=caller[call_number]\nTo: <sip:+15550100@[remote_ip]>{tag}\n\
             Call-ID: [call_id]\nCSeq: {cseq} {method}\nContact: <sip:caller@[local_ip]:[local_port]>\nMax-Forwards: 70\n"
        )
    };
    let keys: String = ["1", "5", "star"]
        .map(|key| {
            format!(
                "<nop><action><exec play_pcap_audio=\"/usr/share/sip-tester/dtmf_2833_{key}.pcap\"/></action></nop>\n\
                 <pause milliseconds=\"1000\"/>\n"
            )
        })
        .concat();
    format!(
        "<?xml version=\"1.0\"?>\n<scenario name=\"caller\">\n<send retrans=\"500\"><![CDATA[\n\
         INVITE sip:+15550100@[remote_ip]:[remote_port] SIP/2.0\n{}Content-Type: application/sdp\nContent-Length: [len]\n\n\
         v=0\no=c 1 1 IN IP4 [local_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\nm=audio [auto_media_port] RTP/AVP 8 101\n\
         a=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\n]]></send>\n\
         <recv response=\"100\" optional=\"true\"/>\n<recv response=\"180\" optional=\"true\"/>\n<recv response=\"200\" rrs=\"true\"/>\n\
         <send><![CDATA[\nACK [next_url] SIP/2.0\n{}Content-Length: 0\n\n]]></send>\n{keys}\
         <send retrans=\"500\"><![CDATA[\nBYE [next_url] SIP/2.0\n{}Content-Length: 0\n\n]]></send>\n\
         <recv response=\"200\"/>\n</scenario>\n",
        headers("INVITE", 1, ""),
        headers("ACK", 1, "[peer_tag_param]"),
        headers("BYE", 2, "[peer_tag_param]"),
    )
}

#[tokio::test]
async fn sipp_calls_presses_keys_and_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    std::fs::write(folder.path().join("caller.xml"), caller_scenario()).unwrap();
    let mut world =
        World::with(Plan { carrier_port: Some(port), trunk: "keep_alive_s = 0\n", ..Plan::default() }).await;
    let gateway = format!("127.0.0.1:{}", world.sip_port);
    let mut caller = sipp(folder.path(), port, &["-sf", "caller.xml", &gateway]);
    assert_eq!(world.control.question().await.to.e164(), "+15550100");
    world.ask("call-in", &RingTelephone { leg: leg("leg-in") }).await.unwrap();
    let mut room = Room::new().await;
    let answer = AnswerTelephone { leg: leg("leg-in"), link: room.offer(), max_duration_s: 600 };
    let reply = world.ask("call-in", &answer).await.unwrap();
    room.connect(&reply.link);
    for key in ['1', '5', '*'] {
        let Event::DigitReceived(digit) = world.event("digit_received").await else { panic!() };
        assert_eq!(digit.digit, key);
    }
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Normal, .. }));
    assert!(caller.0.wait().unwrap().success(), "SIPp saw every message it expected");
    world.stop().await;
}
