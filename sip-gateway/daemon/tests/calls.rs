//! Calls through the whole gateway: the daemon as it is, its neighbours played by the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use offhook_bus::BusError;
use offhook_contract::control::IncomingRoute;
use offhook_contract::dial::{Destination, PhoneNumber};
use offhook_contract::gateway::{
    AnswerTelephone, DialTelephone, HangUpTelephone, HoldTelephone, RingTelephone, SendDigits, TelephoneState,
};
use offhook_contract::{ErrorCode, Event, Fact, HangupCause};
use offhook_media::tone::Sine;
use offhook_media::{detect, g711};
use offhook_wire_rtp::{RtpPacket, TelephoneEvent};
use world::carrier::Message;
use world::room::{ANNOUNCER, Phone, Room, SLOT, converse};
use world::{Plan, World, leg, trunk};

fn number(text: &str) -> Destination {
    Destination::Number(PhoneNumber::try_from(text.to_owned()).unwrap())
}

fn dial(room: &Room, to: Destination) -> DialTelephone {
    DialTelephone {
        leg: leg("leg-out"),
        trunk: trunk(),
        to,
        caller_id: None,
        ring_timeout_ms: 30_000,
        max_duration_s: 600,
        link: room.offer(),
    }
}

/// Dials, and gives the carrier's INVITE.
async fn dialled(world: &World, room: &mut Room) -> Message {
    let reply = world.ask("call-out", &dial(room, number("+15551230000"))).await.unwrap();
    room.connect(&reply.link);
    let invite = world.carrier.request("INVITE").await;
    assert_eq!(invite.header("call-id"), reply.sip_call_id);
    world.carrier.respond(&invite, "100 Trying", "", "").await;
    invite
}

fn refusal(error: &BusError) -> ErrorCode {
    match error {
        BusError::Refused(refusal) => refusal.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_telephone_is_called_heard_early_answers_and_hangs_up() {
    let mut world = World::new().await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    assert!(invite.start.starts_with("INVITE sip:+15551230000@127.0.0.1"), "{}", invite.start);
    assert!(invite.header("from").contains("+15550100"));
    world.carrier.respond(&invite, "180 Ringing", "", "").await;
    world.event("leg_ringing").await;
    assert_eq!(world.inventory().await.legs[0].state, TelephoneState::Ringing);

    let sdp = world.carrier.sdp();
    world.carrier.respond(&invite, "183 Session Progress", "", &sdp).await;
    let mut phone = Phone::new(&world.carrier, invite.audio_port());
    let early = converse(&mut phone, &mut room, 60, 400.0, 900.0).await;
    assert!(detect::presence(&early.room, 8_000, 400.0) > 0.99, "early media reaches the room");
    assert!(detect::presence(&early.telephone[1_600..], 8_000, 900.0) > 0.95, "and the other way");

    world.carrier.respond(&invite, "200 OK", "", &sdp).await;
    world.carrier.request("ACK").await;
    assert_eq!(world.control.fact().await, Fact::LegAnswered { leg: leg("leg-out") });
    let talk = converse(&mut phone, &mut room, 75, 600.0, 1_000.0).await;
    assert!(detect::presence(&talk.room, 8_000, 600.0) > 0.99);
    assert!(detect::presence(&talk.telephone, 8_000, 1_000.0) > 0.9);
    assert!(detect::level_dbfs_of(&talk.telephone[3_200..], 8_000, 600.0) < -52.0, "nobody hears itself");

    let hang_up = HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal };
    world.ask("call-out", &hang_up).await.unwrap();
    let bye = world.carrier.request("BYE").await;
    world.carrier.respond(&bye, "200 OK", "", "").await;
    let fact = world.control.fact().await;
    assert!(matches!(fact, Fact::LegEnded { cause: HangupCause::Normal, .. }), "{fact:?}");
    assert!(matches!(world.event("leg_early_media").await, Event::LegEarlyMedia(_)));
    world.ask("call-out", &hang_up).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_refused_call_tells_its_cause_and_leaves_nothing_behind() {
    let mut world = World::new().await;
    for (status, cause, code) in [
        ("486 Busy Here", HangupCause::Busy, 486),
        ("404 Not Found", HangupCause::NotFound, 404),
        ("603 Decline", HangupCause::Rejected, 603),
        ("503 Service Unavailable", HangupCause::Congestion, 503),
    ] {
        let mut room = Room::new().await;
        let invite = dialled(&world, &mut room).await;
        world.carrier.respond(&invite, status, "", "").await;
        world.carrier.request("ACK").await;
        let expected = Fact::LegEnded { leg: leg("leg-out"), cause, sip_status: Some(code) };
        assert_eq!(world.control.fact().await, expected);
        assert!(world.inventory().await.legs.is_empty());
    }
    for gauge in ["sip_legs", "sip_rtp_port_pairs", "sip_media_sockets", "sip_media_timers"] {
        world.until_metric(gauge, 0.0).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_call_given_up_before_the_answer_is_cancelled() {
    let mut world = World::new().await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    world.carrier.respond(&invite, "180 Ringing", "", "").await;
    world.event("leg_ringing").await;
    let hang_up = HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Cancelled };
    world.ask("call-out", &hang_up).await.unwrap();
    let cancel = world.carrier.request("CANCEL").await;
    world.carrier.respond(&cancel, "200 OK", "", "").await;
    world.carrier.respond(&invite, "487 Request Terminated", "", "").await;
    world.carrier.request("ACK").await;
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Cancelled, .. }));
    world.stop().await;
}

#[tokio::test]
async fn a_telephone_calls_rings_is_answered_and_its_digits_are_told_once() {
    let mut world = World::new().await;
    let gateway = format!("127.0.0.1:{}", world.sip_port).parse().unwrap();
    let sdp = world.carrier.sdp();
    world.carrier.send_request(gateway, "INVITE", 1, "", &sdp).await;
    let question = world.control.question().await;
    assert_eq!((question.to.e164(), question.from.as_ref().unwrap().e164()), ("+15550100", "+15559999"));
    assert_eq!((question.from_name.as_deref(), question.sip_call_id.as_str()), (Some("Carl"), "incoming-1"));
    // The order may overtake the decision that it follows from.
    world.ask("call-in", &RingTelephone { leg: leg("leg-in") }).await.unwrap();
    world.carrier.response(180).await;
    let mut room = Room::new().await;
    let answer = AnswerTelephone { leg: leg("leg-in"), link: room.offer(), max_duration_s: 600 };
    let reply = world.ask("call-in", &answer).await.unwrap();
    room.connect(&reply.link);
    let ok = world.carrier.response(200).await;
    let tag = ok.header("to").split(";tag=").nth(1).unwrap().to_owned();
    world.carrier.send_request(gateway, "ACK", 1, &format!(";tag={tag}"), "").await;

    let mut phone = Phone::new(&world.carrier, ok.audio_port());
    let talk = converse(&mut phone, &mut room, 75, 600.0, 1_000.0).await;
    assert!(detect::presence(&talk.room, 8_000, 600.0) > 0.99);
    assert!(detect::presence(&talk.telephone[1_600..], 8_000, 1_000.0) > 0.95);
    for key in ['1', '#'] {
        phone.press(key).await;
        let Event::DigitReceived(digit) = world.event("digit_received").await else { panic!() };
        assert_eq!((digit.digit, digit.duration_ms), (key, 100));
    }
    world.carrier.send_request(gateway, "BYE", 2, &format!(";tag={tag}"), "").await;
    world.carrier.response(200).await;
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Normal, .. }));
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_call_control_rejects_gets_its_cause() {
    let mut world = World::new().await;
    world.control.route.send_replace(IncomingRoute::Reject { cause: HangupCause::NotFound });
    let gateway = format!("127.0.0.1:{}", world.sip_port).parse().unwrap();
    world.carrier.send_request(gateway, "INVITE", 1, "", &world.carrier.sdp()).await;
    world.carrier.response(404).await;
    world.control.question().await;
    world.stop().await;
}

#[tokio::test]
async fn digits_and_hold_reach_the_telephone() {
    let mut world = World::new().await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    let early = SendDigits { leg: leg("leg-out"), digits: "1".into(), duration_ms: 100 };
    assert_eq!(refusal(&world.ask("call-out", &early).await.unwrap_err()), ErrorCode::Conflict);
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    let digits = SendDigits { leg: leg("leg-out"), digits: "5*".into(), duration_ms: 100 };
    world.ask("call-out", &digits).await.unwrap();
    let wrong = SendDigits { leg: leg("leg-out"), digits: "5x".into(), duration_ms: 100 };
    assert_eq!(refusal(&world.ask("call-out", &wrong).await.unwrap_err()), ErrorCode::Invalid);
    let phone = Phone::new(&world.carrier, invite.audio_port());
    let (mut keys, mut ends) = (String::new(), 0);
    while ends < 6 {
        let packet = phone.hear().await;
        let packet = RtpPacket::parse(&packet).unwrap();
        if packet.payload_type() == 101 {
            let event = TelephoneEvent::parse(packet.payload()).unwrap();
            if packet.marker() {
                keys.push(event.key().unwrap());
            }
            ends += u32::from(event.end);
        }
    }
    assert_eq!(keys, "5*");

    world.ask("call-out", &HoldTelephone { leg: leg("leg-out"), held: true }).await.unwrap();
    assert_eq!(world.inventory().await.legs[0].state, TelephoneState::Held);
    let mut music = Vec::new();
    for _ in 0..75 {
        music.extend(world::room::decoded(&phone.hear().await));
    }
    assert!(detect::level_dbfs_of(&music[1_600..8_000], 8_000, 392.0) > -40.0, "the first note of the hold loop");
    world.stop().await;
}

#[tokio::test]
async fn a_held_telephone_hears_notice_and_beeps_and_only_those_are_acknowledged() {
    let world = World::new().await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.ask("call-out", &HoldTelephone { leg: leg("leg-out"), held: true }).await.unwrap();
    let phone = Phone::new(&world.carrier, invite.audio_port());
    let (mut talk, mut notice) = (Sine::new(1_000.0, -12.0, 8_000), Sine::new(1_400.0, -12.0, 8_000));
    let (mut heard, mut last) = (Vec::new(), 0);
    phone.hear().await;
    for frame in 0..100 {
        for (ssrc, tone) in [(SLOT, &mut talk), (ANNOUNCER, &mut notice)] {
            let (mut pcm, mut bytes) = ([0; 160], [0; 160]);
            tone.fill(&mut pcm);
            g711::encode_pcmu(&pcm, &mut bytes);
            last = room.send(ssrc, frame, &bytes).await;
        }
        heard.extend(world::room::decoded(&phone.hear().await));
    }
    let notice = &heard[1_600..];
    assert!(detect::presence(notice, 8_000, 1_400.0) > 0.9, "{}", detect::presence(notice, 8_000, 1_400.0));
    assert!(detect::level_dbfs_of(notice, 8_000, 1_000.0) < -50.0, "nothing of the conversation");
    loop {
        let report = room.report().await;
        assert!(report.iter().all(|(ssrc, _)| *ssrc == ANNOUNCER), "{report:?}");
        if report == [(ANNOUNCER, u32::from(last))] {
            break;
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn the_last_gate_refuses_what_call_control_should_not_have_asked() {
    let world = World::with(Plan { dial: "max_concurrent_calls = 1", ..Plan::default() }).await;
    let mut room = Room::new().await;
    let refused = |error: BusError| refusal(&error);
    let not_allowed = dial(&room, number("+4930123456"));
    assert_eq!(refused(world.ask("c", &not_allowed).await.unwrap_err()), ErrorCode::Refused);
    let emergency = dial(&room, Destination::Emergency("112".into()));
    assert_eq!(refused(world.ask("c", &emergency).await.unwrap_err()), ErrorCode::Refused);
    let mut elsewhere = dial(&room, number("+15551230000"));
    elsewhere.trunk = offhook_contract::TrunkName::parse("other").unwrap();
    assert_eq!(refused(world.ask("c", &elsewhere).await.unwrap_err()), ErrorCode::NotFound);
    let mut forged = dial(&room, number("+15551230000"));
    forged.caller_id = Some(PhoneNumber::try_from("+15557777".to_owned()).unwrap());
    assert_eq!(refused(world.ask("c", &forged).await.unwrap_err()), ErrorCode::Refused);
    dialled(&world, &mut room).await;
    let mut second = dial(&room, number("+15551230001"));
    second.leg = leg("leg-2");
    assert_eq!(refused(world.ask("c", &second).await.unwrap_err()), ErrorCode::Exhausted);
    world.until_metric("sip_rtp_port_pairs", 1.0).await;
    world.stop().await;
}

#[tokio::test]
async fn another_tenants_leg_does_not_exist() {
    let world = World::new().await;
    let mut room = Room::new().await;
    dialled(&world, &mut room).await;
    let mut stranger = World::context("call-out");
    stranger.tenant = Some(offhook_contract::TenantId::parse("other").unwrap());
    let to = offhook_bus::Target::Node(world.node.clone());
    let digits = SendDigits { leg: leg("leg-out"), digits: "1".into(), duration_ms: 100 };
    let refused = world.bus.request(to.clone(), &stranger, &digits, world::PATIENCE).await.unwrap_err();
    assert_eq!(refusal(&refused), ErrorCode::NotFound);
    let hang_up = HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal };
    world.bus.request(to, &stranger, &hang_up, world::PATIENCE).await.unwrap();
    assert_eq!(world.inventory().await.legs.len(), 1, "and cannot be ended");
    world.stop().await;
}

#[tokio::test]
async fn a_caller_that_the_carrier_puts_on_hold_hears_and_sends_nothing_until_it_comes_back() {
    let mut world = World::new().await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    let phone = Phone::new(&world.carrier, invite.audio_port());
    phone.hear().await;
    let held = world.carrier.sdp() + "a=inactive\r\n";
    world.carrier.reinvite(&invite, 1, &held).await;
    let ok = world.carrier.response(200).await;
    assert!(ok.body.contains("a=inactive"), "{}", ok.body);
    world.carrier.ack(&invite, 1).await;
    while let Ok(Ok(_)) = tokio::time::timeout(std::time::Duration::from_millis(200), phone.try_hear()).await {}
    world.carrier.reinvite(&invite, 2, &world.carrier.sdp()).await;
    let ok = world.carrier.response(200).await;
    assert!(ok.body.contains("a=sendrecv"), "{}", ok.body);
    world.carrier.ack(&invite, 2).await;
    let mut phone = phone;
    let back = converse(&mut phone, &mut room, 40, 600.0, 1_000.0).await;
    assert!(detect::presence(&back.room, 8_000, 600.0) > 0.99);
    world.stop().await;
}

#[tokio::test]
async fn a_foreign_source_is_counted_and_creates_nothing() {
    let world = World::new().await;
    let gateway: std::net::SocketAddr = format!("127.0.0.1:{}", world.sip_port).parse().unwrap();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let us = stranger.local_addr().unwrap();
    let invite = format!(
        "INVITE sip:+15550100@{gateway} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
         From: <sip:x@y>;tag=1\r\nTo: <sip:+15550100@z>\r\nCall-ID: foreign\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@{us}>\r\nContent-Length: 0\r\n\r\n"
    );
    stranger.send_to(invite.as_bytes(), gateway).await.unwrap();
    stranger.send_to(&[0xff; 300], gateway).await.unwrap();
    world.until_metric("sip_dropped_total{reason=\"unknown_source\"}", 2.0).await;
    assert!(world.inventory().await.legs.is_empty());
    assert_eq!(world.metric("sip_rtp_port_pairs"), 0.0);
    let mut buffer = [0; 100];
    assert!(stranger.try_recv(&mut buffer).is_err(), "a stranger gets no answer");
    world.stop().await;
}

#[tokio::test]
async fn twenty_calls_leave_no_port_socket_or_timer_behind() {
    let mut world = World::new().await;
    for _ in 0..20 {
        let mut room = Room::new().await;
        let invite = dialled(&world, &mut room).await;
        world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
        world.carrier.request("ACK").await;
        world.control.fact().await;
        let mut phone = Phone::new(&world.carrier, invite.audio_port());
        converse(&mut phone, &mut room, 5, 600.0, 1_000.0).await;
        world.ask("call-out", &HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal }).await.unwrap();
        let bye = world.carrier.request("BYE").await;
        world.carrier.respond(&bye, "200 OK", "", "").await;
        world.control.fact().await;
    }
    for gauge in ["sip_legs", "sip_rtp_port_pairs", "sip_media_sockets", "sip_media_timers", "sip_facts_pending"] {
        world.until_metric(gauge, 0.0).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_trunk_that_answers_options_is_up_and_draining_ends_with_its_calls() {
    let mut world = World::new().await;
    let options = world.carrier.request("OPTIONS").await;
    world.carrier.respond(&options, "200 OK", "", "").await;
    let row = world.row(|r| r.trunks.iter().any(|t| t.up)).await;
    assert_eq!(row.trunks.len(), 1);
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    world.switch.drain();
    world.row(|r| r.state == offhook_contract::NodeState::Draining).await;
    let another = dial(&room, number("+15551230000"));
    assert_eq!(refusal(&world.ask("c", &another).await.unwrap_err()), ErrorCode::Draining);
    world.switch.stop();
    let bye = world.carrier.request("BYE").await;
    world.carrier.respond(&bye, "200 OK", "", "").await;
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::Drained, .. }));
    world.stop().await;
}
