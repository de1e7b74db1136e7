//! Taps and Links of the daemon: the recorder's copy, the receipts, a gateway's media.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use offhook_contract::audio::{BeepPlan, CodecName, PromptName};
use offhook_contract::fact::{ConsentKind, Fact, TapCloseReason};
use offhook_contract::sfu::*;
use offhook_contract::{ErrorCode, LegId, LinkAnswer, LinkProfile, RecordingId, RoomId};
use offhook_link::{Identity, Party, TapRecord, generate_link_key, srtp_key};
use offhook_wire_rtp::{RtpHeader, RtpPacket};
use offhook_wire_srtp::{ReceiveContext, SendContext};
use std::net::UdpSocket;
use std::time::Duration;
use support::{Browser, BrowserPlan, Stand, connect, keep_facts, run};

fn tap(room: &RoomId, recorder: &Identity) -> OpenTap {
    OpenTap {
        room: room.clone(),
        recording: RecordingId::parse("recording-1").unwrap(),
        notice: PromptName { name: "recorded".into(), language: "en".into() },
        beep: BeepPlan::default(),
        recorder_fingerprint: recorder.fingerprint().to_string(),
    }
}

fn both_speak(all: &mut [Browser]) {
    all[0].speak(111, 960, &[0xf8, 1, 1]);
    all[1].speak(111, 960, &[0xf8, 2, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_carries_every_party_and_the_notice_and_the_browsers_reports_become_facts() {
    let stand = Stand::start().await;
    let mut facts = keep_facts(&stand);
    let room = stand.room("room-1", RoomKind::Conversation).await;
    let alice = stand.join(&room, "alice", BrowserPlan::default()).await;
    let bob = stand.join(&room, "bob", BrowserPlan::default()).await;
    let mut browsers = [alice, bob];
    connect(&mut browsers).await;

    let identity = Identity::generate().unwrap();
    let offer = stand.ask(tap(&room, &identity)).await.unwrap();
    assert_eq!(stand.ask(tap(&room, &identity)).await.unwrap(), offer, "asked again, the same Tap");
    let mut reader = stand.taps.dialer(identity).connect(&offer, 0).await.unwrap();
    let heard = |browser: &Browser| {
        let announcer = browser.joined.as_ref().and_then(|joined| joined.announcer_mid.clone()).unwrap();
        browser.heard.iter().filter(|(mid, _)| *mid == announcer).count()
    };
    // The notice and the first beep.
    run(&mut browsers, Duration::from_secs(20), both_speak, |all| all.iter().all(|b| heard(b) > 75)).await;
    let played = heard(&browsers[0]);
    run(&mut browsers, Duration::from_secs(20), both_speak, |_| !facts.is_empty()).await;
    match facts.recv().await.unwrap() {
        Fact::AnnouncementReceived { recording, kind, .. } => {
            assert_eq!((recording.as_str(), kind), ("recording-1", ConsentKind::Notice));
        }
        other => panic!("{other:?}"),
    }
    let recording = RecordingId::parse("recording-1").unwrap();
    stand.ask(CloseTap { room: room.clone(), recording }).await.unwrap();

    let (mut parties, mut tracks, mut counts, mut events) = (Vec::new(), Vec::new(), [0; 8], Vec::new());
    while let Some(frame) = reader.next().await.unwrap() {
        match frame.record().unwrap() {
            TapRecord::Track { track, party, .. } => {
                tracks.push(track);
                parties.push(party);
            }
            TapRecord::Packet(packet) => {
                counts[usize::from(packet.track.0)] += 1;
                assert_eq!(packet.codec, CodecName::Opus);
            }
            TapRecord::AnnouncementStarted { kind, .. } => events.push(kind),
            TapRecord::Gap { .. } => panic!("nothing may be missing"),
            TapRecord::Closed { reason, .. } => assert_eq!(reason, TapCloseReason::Requested.into()),
            _ => {}
        }
    }
    parties.sort_by_key(|party| format!("{party:?}"));
    let leg = |name: &str| Party::Leg(LegId::parse(name).unwrap());
    assert_eq!(parties, [Party::Announcer, leg("alice"), leg("bob")]);
    assert_eq!(events[..2], [ConsentKind::Notice, ConsentKind::Beep]);
    assert!(counts[0] >= played - 1 && counts[1] > 50 && counts[2] > 50, "{counts:?}, {played} played");

    stand.ask(CloseRoom { room }).await.unwrap();
    stand.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_carries_g711_between_a_gateways_socket_and_a_browser() {
    let stand = Stand::start().await;
    let room = stand.room("room-1", RoomKind::Conversation).await;
    let mut browsers = [stand.join(&room, "alice", BrowserPlan::default()).await];
    connect(&mut browsers).await;
    let leg = LegId::parse("phone").unwrap();
    let offer = stand.ask(OpenLink { room: room.clone(), leg: leg.clone(), emergency: false }).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let key = generate_link_key(LinkProfile::AeadAes128Gcm).unwrap();
    let mut outgoing = SendContext::new(&srtp_key(&key).unwrap()).unwrap();
    let mut incoming = ReceiveContext::new(&srtp_key(&offer.key).unwrap()).unwrap();
    let answer =
        LinkAnswer { addresses: vec![socket.local_addr().unwrap()], key, ssrc: 4_711, codecs: vec![CodecName::Pcmu] };
    stand.ask(ConnectLink { room: room.clone(), leg, answer }).await.unwrap();

    let (mut sequence, mut arrived) = (0_u16, Vec::new());
    let gateway = |all: &mut [Browser]| {
        all[0].speak(111, 960, &[0xf8, 9, 9]);
        sequence += 1;
        let mut packet = vec![7; 12 + 160 + 16];
        let timestamp = u32::from(sequence) * 160;
        let header = RtpHeader { marker: false, payload_type: 0, sequence, timestamp, ssrc: 4_711 };
        header.write(&mut packet).unwrap();
        let len = outgoing.protect_rtp(&mut packet, 172).unwrap();
        socket.send_to(&packet[..len], offer.addresses[0]).unwrap();
        let mut buffer = [0; 1_500];
        while let Ok(len) = socket.recv(&mut buffer) {
            if buffer[1] & 0x7f != 111 {
                continue;
            }
            let len = incoming.unprotect_rtp(&mut buffer[..len]).unwrap();
            let packet = RtpPacket::parse(&buffer[..len]).unwrap();
            arrived.push((packet.ssrc(), packet.csrcs().next(), packet.payload().to_vec()));
        }
    };
    run(&mut browsers, Duration::from_secs(10), gateway, |all| all[0].heard.len() >= 60).await;
    assert!(browsers[0].heard.iter().all(|(_, p)| p.payload[..] == [7; 160] && *p.header.payload_type == 0));
    assert!(arrived.len() > 40);
    assert!(arrived.iter().all(|(ssrc, csrc, payload)| {
        *ssrc == offer.slot_ssrcs[0] && csrc.is_some() && payload[..] == [0xf8, 9, 9]
    }));
    let rooms = stand.ask(SfuInventoryRequest {}).await.unwrap().rooms;
    let legs: Vec<(&str, LegTransport)> = rooms[0].legs.iter().map(|l| (l.leg.as_str(), l.transport)).collect();
    assert_eq!(legs, [("alice", LegTransport::Peer), ("phone", LegTransport::Link)]);
    stand.ask(CloseRoom { room }).await.unwrap();
    stand.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_refused_with_its_code() {
    let stand = Stand::start().await;
    let nowhere = RoomId::parse("nowhere").unwrap();
    let leg = LegId::parse("a").unwrap();
    let code = |refusal: offhook_contract::RequestError| refusal.code;
    let mute = MuteLeg { room: nowhere.clone(), leg: leg.clone(), muted: true };
    assert_eq!(code(stand.ask(mute).await.unwrap_err()), ErrorCode::NotFound);
    let room = stand.room("room-1", RoomKind::Conversation).await;
    let broken = JoinPeer { room: room.clone(), leg: leg.clone(), offer_sdp: "v=0\r\n".into(), emergency: false };
    assert_eq!(code(stand.ask(broken).await.unwrap_err()), ErrorCode::Invalid);
    let identity = Identity::generate().unwrap();
    for change in [
        |open: &mut OpenTap| open.beep.frequency_hz = 9,
        |open: &mut OpenTap| open.beep.period_ms = 10,
        |open: &mut OpenTap| open.recorder_fingerprint = "xyz".into(),
    ] {
        let mut open = tap(&room, &identity);
        change(&mut open);
        assert_eq!(code(stand.ask(open).await.unwrap_err()), ErrorCode::Invalid);
    }
    let mut unknown = tap(&room, &identity);
    unknown.notice.name = "no such prompt".into();
    assert_eq!(code(stand.ask(unknown).await.unwrap_err()), ErrorCode::NotFound);
    // A browser that left no line for the Announcer cannot hear the notice.
    let deaf = BrowserPlan { slots: 1, announcer: false, ..BrowserPlan::default() };
    let _browser = stand.join(&room, "deaf", deaf).await;
    let refusal = stand.ask(tap(&room, &identity)).await.unwrap_err();
    assert_eq!(refusal.code, ErrorCode::Refused);
    assert!(refusal.message.contains("deaf"), "{refusal}");
    stand.ask(RemoveLeg { room: nowhere, leg }).await.unwrap();
    stand.ask(CloseRoom { room }).await.unwrap();
    stand.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_sfu_takes_no_new_rooms_and_ends_when_its_last_leg_has_gone() {
    let mut stand = Stand::start().await;
    let room = stand.room("room-1", RoomKind::Echo).await;
    let mut browsers = [stand.join(&room, "alice", BrowserPlan::default()).await];
    connect(&mut browsers).await;
    // The presence row follows the threads' figures.
    run(&mut browsers, Duration::from_secs(10), |_| {}, |_| stand.figure("sfu_peers") == 1).await;
    stand.switch.drain();
    let mut refused = false;
    for _ in 0..100 {
        let next = OpenRoom { room: RoomId::parse("room-2").unwrap(), kind: RoomKind::Echo };
        if let Err(refusal) = stand.ask(next).await {
            assert_eq!(refusal.code, ErrorCode::Draining);
            refused = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused && !stand.running.is_finished());
    let heard = browsers[0].heard.len();
    let speak = |all: &mut [Browser]| all[0].speak(111, 960, &[0xf8, 1]);
    run(&mut browsers, Duration::from_secs(10), speak, |all| all[0].heard.len() > heard + 20).await;
    stand.ask(RemoveLeg { room, leg: LegId::parse("alice").unwrap() }).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), &mut stand.running).await;
    ended.expect("ends by itself").unwrap().unwrap();
}
