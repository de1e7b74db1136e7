//! What a carrier may do inside a call, and what a stranger may not.

use crate::carrier::*;
use crate::world::*;
use offhook_contract::HangupCause as Cause;
use offhook_sip_core::Command;
use offhook_sip_core::api::*;
use offhook_wire_sip::Message;

fn code(flight: &Flight) -> u16 {
    Message::parse(&flight.bytes).unwrap().code().unwrap()
}

/// The last thing sent, which must be a response.
fn reply(world: &World) -> Flight {
    world.log.last().unwrap().clone()
}

/// A call of the scripted carrier that the gateway answered and the carrier acknowledged.
fn answered(world: &mut World) -> (LegHandle, Partner) {
    world.inject(CARRIER, &invite("a1", "", &with_sdp(&sdp(4000, 1, ""))));
    let (leg, _) = world.incoming(GATEWAY);
    world.answer(GATEWAY, leg);
    let mut partner = Partner::calling(&world.last("SIP/2.0 200"));
    let ack = partner.request("ACK", EMPTY);
    world.inject(CARRIER, &ack);
    (leg, partner)
}

#[test]
fn hold_and_resume_by_re_invite() {
    let mut world = World::alone(|_| {});
    let mut partner = dialled(&mut world);
    let hold = partner.request("INVITE", &with_sdp(&sdp(4000, 2, "a=sendonly\r\n")));
    world.inject(CARRIER, &hold);
    let ok = reply(&world);
    assert_eq!(code(&ok), 200);
    assert!(ok.text().contains("a=recvonly\r\n"));
    let ack = partner.request("ACK", EMPTY);
    world.inject(CARRIER, &ack);
    assert!(matches!(world.events(GATEWAY).last(), Some(LegEvent::RemoteHeld(agreed)) if !agreed.direction.sends()));
    let resume = partner.request("INVITE", &with_sdp(&sdp(4000, 3, "")));
    world.inject(CARRIER, &resume);
    let ack = partner.request("ACK", EMPTY);
    world.inject(CARRIER, &ack);
    assert!(matches!(world.events(GATEWAY).last(), Some(LegEvent::RemoteResumed(agreed)) if agreed.direction.sends()));
    world.run(secs(60));
    assert_eq!(world.events(GATEWAY).len(), 3);
}

#[test]
fn a_re_invite_that_changes_nothing_gets_the_same_answer_and_version() {
    let mut world = World::alone(|_| {});
    let (_, mut partner) = answered(&mut world);
    let body = |flight: &Flight| flight.text().split("\r\n\r\n").nth(1).unwrap().to_owned();
    let first = body(&world.last("SIP/2.0 200"));
    for version in [1, 1, 2] {
        let again = partner.request("INVITE", &with_sdp(&sdp(4000, version, "")));
        world.inject(CARRIER, &again);
        assert_eq!(body(&reply(&world)), first);
        let ack = partner.request("ACK", EMPTY);
        world.inject(CARRIER, &ack);
    }
    let refresh = partner.request("UPDATE", EMPTY);
    world.inject(CARRIER, &refresh);
    assert_eq!(code(&reply(&world)), 200);
    assert_eq!(world.events(GATEWAY).len(), 2, "incoming and answered, nothing since");
    world.run(secs(120));
    assert_eq!(world.end(GATEWAY).live_legs(), 1);
}

#[test]
fn media_that_moves_is_told_and_media_that_does_not_fit_changes_nothing() {
    let mut world = World::alone(|_| {});
    let mut partner = dialled(&mut world);
    let update = partner.request("UPDATE", &with_sdp(&sdp(4700, 2, "")));
    world.inject(CARRIER, &update);
    assert_eq!(code(&reply(&world)), 200);
    assert!(
        matches!(world.events(GATEWAY).last(), Some(LegEvent::MediaChanged(agreed)) if agreed.remote.port() == 4700)
    );
    let g729 = sdp(4700, 3, "").replace("RTP/AVP 0 101", "RTP/AVP 18");
    let bad = partner.request("INVITE", &with_sdp(&g729));
    world.inject(CARRIER, &bad);
    assert_eq!(code(&reply(&world)), 488);
    assert_eq!((world.events(GATEWAY).len(), world.end(GATEWAY).live_legs()), (2, 1));
}

#[test]
fn an_invite_without_offer_gets_ours_and_the_ack_answers_it() {
    let mut world = World::alone(|_| {});
    world.inject(CARRIER, &invite("late", "", EMPTY));
    let (leg, incoming) = world.incoming(GATEWAY);
    assert!(!incoming.has_offer);
    let early = Command::Early { leg, media: media(GATEWAY) };
    assert_eq!(world.order(GATEWAY, early), Err(CommandError::NoOffer));
    world.answer(GATEWAY, leg);
    let ok = world.last("SIP/2.0 200");
    assert!(ok.text().contains("m=audio 30000 RTP/AVP 0 8 101\r\n"));
    assert_eq!(world.events(GATEWAY).len(), 1, "nothing is agreed yet");
    let ack = Partner::calling(&ok).request("ACK", &with_sdp(&sdp(4242, 1, "")));
    world.inject(CARRIER, &ack);
    assert_eq!(world.agreed(GATEWAY).remote.port(), 4242);
}

#[test]
fn a_re_invite_without_offer_gets_ours_too_and_glare_gets_491() {
    let mut world = World::alone(|_| {});
    let mut partner = dialled(&mut world);
    let open = partner.request("INVITE", EMPTY);
    world.inject(CARRIER, &open);
    let ok = reply(&world);
    assert!(code(&ok) == 200 && ok.text().contains("m=audio 30000"));
    let ack = partner.request("ACK", &with_sdp(&sdp(4001, 2, "")));
    let crossing = partner.request("INVITE", &with_sdp(&sdp(4002, 3, "")));
    world.inject(CARRIER, &crossing);
    assert_eq!(code(&reply(&world)), 491);
    world.inject(CARRIER, &ack);
    assert!(
        matches!(world.events(GATEWAY).last(), Some(LegEvent::MediaChanged(agreed)) if agreed.remote.port() == 4001)
    );
}

#[test]
fn an_offer_before_the_answer_of_ours_is_glare() {
    let mut world = World::alone(|_| {});
    world.dial();
    let sent = world.last("INVITE");
    let ringing = respond(&sent, "180 Ringing", "theirs", EMPTY);
    world.inject(CARRIER, &ringing);
    let mut partner = Partner::called(&ringing);
    let early = partner.request("INVITE", &with_sdp(&sdp(4000, 1, "")));
    world.inject(CARRIER, &early);
    assert_eq!(code(&reply(&world)), 491);
    let refresh = partner.request("UPDATE", EMPTY);
    world.inject(CARRIER, &refresh);
    assert_eq!(code(&reply(&world)), 200);
}

#[test]
fn an_ack_without_the_answer_it_owes_ends_the_call() {
    let mut world = World::alone(|_| {});
    world.inject(CARRIER, &invite("late", "", EMPTY));
    let (leg, _) = world.incoming(GATEWAY);
    world.answer(GATEWAY, leg);
    let ack = Partner::calling(&world.last("SIP/2.0 200")).request("ACK", EMPTY);
    world.inject(CARRIER, &ack);
    assert_eq!(world.ended(GATEWAY).cause, Cause::MediaIncompatible);
    assert_eq!(world.sent("BYE").len(), 1);
}

#[test]
fn digits_by_info_are_told_once_each() {
    let mut world = World::alone(|_| {});
    let mut partner = dialled(&mut world);
    let relay = |signal: &str| {
        let body = format!("Signal={signal}\r\nDuration=250\r\n");
        format!("Content-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for (signal, answer) in [("5", 200), ("*", 200), ("11", 200), ("d", 200), ("x", 400), ("", 400)] {
        let info = partner.request("INFO", &relay(signal));
        world.inject(CARRIER, &info);
        world.inject(CARRIER, &info);
        assert_eq!(code(&reply(&world)), answer, "{signal}");
    }
    let strange = partner.request("INFO", "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi");
    world.inject(CARRIER, &strange);
    assert_eq!(code(&reply(&world)), 415);
    let digits: String = world
        .events(GATEWAY)
        .iter()
        .filter_map(|event| match event {
            LegEvent::Digit { digit, duration_ms: 250 } => Some(*digit),
            _ => None,
        })
        .collect();
    assert_eq!(digits, "5*#D");
}

#[test]
fn requests_out_of_order_and_extensions_are_refused() {
    let mut world = World::alone(|_| {});
    let mut partner = dialled(&mut world);
    let (first, second) = (partner.request("OPTIONS", EMPTY), partner.request("OPTIONS", EMPTY));
    world.inject(CARRIER, &second);
    assert_eq!(code(&reply(&world)), 200);
    world.inject(CARRIER, &first);
    assert_eq!(code(&reply(&world)), 500);
    let required = partner.request("INVITE", &format!("Require: timer, precondition\r\n{EMPTY}"));
    world.inject(CARRIER, &required);
    assert!(
        reply(&world).text().contains("420 Bad Extension")
            && reply(&world).text().contains("Unsupported: timer, precondition")
    );
    for (method, answer) in
        [("REFER", 405), ("SUBSCRIBE", 405), ("NOTIFY", 405), ("MESSAGE", 405), ("STRANGE", 501), ("PRACK", 200)]
    {
        let request = partner.request(method, EMPTY);
        world.inject(CARRIER, &request);
        assert_eq!(code(&reply(&world)), answer, "{method}");
    }
    assert_eq!(world.end(GATEWAY).live_legs(), 1);
}

#[test]
fn a_dialog_cannot_be_taken_over() {
    let mut world = World::alone(|config| {
        let other = "203.0.113.5:5060";
        config.trunks.push(offhook_sip_core::trunk::TrunkConfig { name: name("other"), ..trunk(GATEWAY, other) });
    });
    let (_, mut partner) = answered(&mut world);
    let sent = world.log.len();
    // The right Call-ID and our tag, but another From tag.
    let bye = partner.request("BYE", EMPTY);
    world.inject(CARRIER, &bye.replace("tag=theirs", "tag=mine"));
    assert_eq!(code(&reply(&world)), 481);
    // The right Call-ID, another To tag.
    let bye = partner.request("BYE", EMPTY);
    let cut = bye.find("\r\nCall-ID").unwrap();
    world.inject(CARRIER, &format!("{}x{}", &bye[..cut], &bye[cut..]));
    assert_eq!(code(&reply(&world)), 481);
    assert_eq!(world.log.len(), sent + 2);
    // Everything right, but from another trunk's address and from nowhere.
    for from in ["203.0.113.5:5060", "198.51.100.2:5060"] {
        world.inject(from, &partner.request("BYE", EMPTY));
    }
    assert_eq!(world.log.len(), sent + 2, "no answer");
    let stats = world.end(GATEWAY).stats();
    assert_eq!((stats.foreign_dialog, stats.unknown_source, stats.no_dialog), (1, 1, 2));
    assert_eq!(world.end(GATEWAY).live_legs(), 1);
    let bye = partner.request("BYE", EMPTY);
    world.inject(CARRIER, &bye);
    assert_eq!((code(&reply(&world)), world.ended(GATEWAY).by), (200, Side::Them));
    world.assert_empty();
}

#[test]
fn a_second_callee_of_a_forking_proxy_is_acknowledged_and_ended() {
    let mut world = World::alone(|_| {});
    world.dial();
    let sent = world.last("INVITE");
    for tag in ["one", "two", "two", "one"] {
        world.inject(CARRIER, &respond(&sent, "200 OK", tag, &with_sdp(&sdp(4000, 1, ""))));
    }
    let acks: Vec<String> = world.sent("ACK").iter().map(Flight::text).collect();
    assert_eq!(acks.len(), 4);
    assert!(acks[0].contains("tag=one") && acks[1].contains("tag=two"));
    assert_eq!((&acks[1], &acks[0]), (&acks[2], &acks[3]), "repeated 2xx get the same ACK");
    assert_eq!(world.sent("BYE").len(), 1);
    assert!(world.last("BYE").text().contains("tag=two"));
    assert_eq!(world.events(GATEWAY).len(), 1);
    assert_eq!(world.end(GATEWAY).live_legs(), 1);
}

#[test]
fn requests_of_a_call_leave_only_towards_the_trunk() {
    for (contact, routes, to) in [
        ("sip:b@198.51.100.1:5070", "", "198.51.100.1:5070"),
        ("sip:b@10.0.0.1", "", CARRIER),
        ("sip:b@name.example", "", CARRIER),
        ("sip:b@10.0.0.1", "Record-Route: <sip:198.51.100.1:5080;lr>\r\n", "198.51.100.1:5080"),
        ("sip:b@198.51.100.1", "Record-Route: <sip:169.254.169.254;lr>\r\n", CARRIER),
    ] {
        let mut world = World::alone(|_| {});
        let leg = world.dial();
        let ok = respond(&world.last("INVITE"), "200 OK", "t", &format!("{routes}{}", with_sdp(&sdp(4000, 1, ""))));
        world.inject(CARRIER, &ok.replace("sip:trunk@198.51.100.1:5060", contact));
        world.hang_up(GATEWAY, leg);
        let (ack, bye) = (world.last("ACK"), world.last("BYE"));
        assert!(bye.starts(&format!("BYE {contact} SIP/2.0\r\n")));
        assert_eq!((ack.to, bye.to), (addr(to), addr(to)), "{contact} {routes}");
        assert_eq!(bye.text().contains("Route: "), !routes.is_empty());
    }
}

#[test]
fn an_answer_that_does_not_fit_is_acknowledged_and_ended() {
    for body in [with_sdp("v=0\r\nrubbish"), EMPTY.to_owned(), with_sdp(&sdp(4000, 1, "").replace("AVP 0", "AVP 18"))] {
        let mut world = World::alone(|_| {});
        world.dial();
        world.inject(CARRIER, &respond(&world.last("INVITE"), "200 OK", "t", &body));
        assert_eq!(world.ended(GATEWAY).cause, Cause::MediaIncompatible);
        assert_eq!((world.sent("ACK").len(), world.sent("BYE").len()), (1, 1));
    }
}

#[test]
fn an_answer_without_description_takes_that_of_the_183() {
    let mut world = World::alone(|_| {});
    world.dial();
    let sent = world.last("INVITE");
    world.inject(CARRIER, &respond(&sent, "183 Session Progress", "t", &with_sdp(&sdp(4000, 1, ""))));
    world.inject(CARRIER, &respond(&sent, "180 Ringing", "t", EMPTY));
    world.inject(CARRIER, &respond(&sent, "200 OK", "t", EMPTY));
    assert_eq!(world.agreed(GATEWAY).remote.port(), 4000);
    assert_eq!(world.events(GATEWAY).len(), 2, "early media and the answer; ringing came too late to matter");
}
