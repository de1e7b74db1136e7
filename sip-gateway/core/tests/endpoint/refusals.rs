//! What is turned away: strangers, malformed messages, methods, loops, descriptions, floods.

use crate::carrier::*;
use crate::world::*;
use offhook_contract::HangupCause as Cause;
use offhook_sip_core::Command;
use offhook_sip_core::api::*;
use offhook_wire_sip::{Name, ParseError};

/// A request outside any dialog.
fn request(method: &str, branch: &str) -> String {
    invite(branch, "", EMPTY).replace("INVITE", method)
}

fn answer(world: &mut World, text: &str) -> String {
    let before = world.log.len();
    world.inject(CARRIER, text);
    assert!(world.log.len() <= before + 2, "100 and one more at most");
    world.log[before..].last().map(|flight| flight.text().lines().next().unwrap().to_owned()).unwrap_or_default()
}

#[test]
fn a_stranger_gets_no_word_and_creates_nothing() {
    let mut world = World::alone(|_| {});
    for text in [request("OPTIONS", "1"), request("REGISTER", "2"), invite("3", "", EMPTY), "garbage".into()] {
        for port in 0..50 {
            world.inject(&format!("203.0.113.7:{}", 5060 + port), &text);
        }
    }
    assert!(world.log.is_empty());
    let end = world.end(GATEWAY);
    assert_eq!((end.legs(), end.transactions(), end.timers(), end.stats().unknown_source), (0, 0, 0, 200));
    let told = world
        .told
        .iter()
        .filter(|(.., output)| matches!(output, Output::Refused { reason: Refusal::UnknownSource, .. }));
    assert_eq!(told.count(), 10, "told ten times a second at most");
}

#[test]
fn methods_that_are_not_served_are_refused_by_code() {
    let mut world = World::alone(|_| {});
    for (method, status) in [
        ("OPTIONS", "SIP/2.0 200 OK"),
        ("REGISTER", "SIP/2.0 405 Method Not Allowed"),
        ("MESSAGE", "SIP/2.0 405 Method Not Allowed"),
        ("SUBSCRIBE", "SIP/2.0 405 Method Not Allowed"),
        ("NOTIFY", "SIP/2.0 405 Method Not Allowed"),
        ("REFER", "SIP/2.0 405 Method Not Allowed"),
        ("PUBLISH", "SIP/2.0 405 Method Not Allowed"),
        ("BREW", "SIP/2.0 501 Not Implemented"),
        ("BYE", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("CANCEL", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("UPDATE", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("INFO", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("PRACK", "SIP/2.0 481 Call/Transaction Does Not Exist"),
        ("ACK", ""),
    ] {
        assert_eq!(answer(&mut world, &request(method, method)), status);
    }
    assert!(world.last("SIP/2.0 405").text().contains("Allow: INVITE, ACK, CANCEL, BYE, OPTIONS"));
    assert_eq!(world.end(GATEWAY).legs(), 0);
    world.assert_empty();
}

#[test]
fn an_invite_is_checked_before_anything_rings() {
    let offer = with_sdp(&sdp(4000, 1, ""));
    let long = format!("Require: 100rel\r\n{offer}");
    for (text, status) in [
        (invite("a", "Require: 100rel, timer\r\n", &offer), "SIP/2.0 420 Bad Extension"),
        (invite("b", "", &offer).replace("Forwards: 70", "Forwards: 0"), "SIP/2.0 483 Too Many Hops"),
        (invite("c", "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\n", &offer), "SIP/2.0 482 Loop Detected"),
        (
            invite("d", "", &offer).replace("sip:+15550100@192.0.2.1:5060 SIP", "http://x SIP"),
            "SIP/2.0 416 Unsupported URI Scheme",
        ),
        (invite("e", "Content-Encoding: gzip\r\n", &offer), "SIP/2.0 415 Unsupported Media Type"),
        (invite("f", "", &offer.replace("application/sdp", "text/plain")), "SIP/2.0 415 Unsupported Media Type"),
        (invite("g", "", &with_sdp("v=0\r\nx")), "SIP/2.0 488 Not Acceptable Here"),
        (invite("h", "", &offer.replace("RTP/AVP", "RTP/SVP")), "SIP/2.0 488 Not Acceptable Here"),
        (invite("i", "", &offer.replace("AVP 0 101", "AVP 9 101")), "SIP/2.0 488 Not Acceptable Here"),
        (invite("j", "", &offer).replace("Contact: <sip:bob@198.51.100.1:5060>\r\n", ""), "SIP/2.0 400 Bad Request"),
        (invite("k", "", &long.replace("Content-Length: ", "Content-Length: 9")), "SIP/2.0 400 Bad Request"),
        (invite("l", "", &offer).replace("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), "SIP/2.0 505 Version Not Supported"),
        (invite("m", "", &offer).replace("10 INVITE", "10 BYE"), "SIP/2.0 400 Bad Request"),
    ] {
        let mut world = World::alone(|_| {});
        assert_eq!(answer(&mut world, &text), status, "{text}");
        assert_eq!(world.end(GATEWAY).legs(), 0);
        assert!(world.events(GATEWAY).is_empty());
        world.assert_empty();
    }
}

#[test]
fn a_refused_description_says_why_in_a_warning() {
    let mut world = World::alone(|_| {});
    let offer = with_sdp(&sdp(4000, 1, "").replace("RTP/AVP", "RTP/SAVP")).replace("RTP/AVP", "RTP/SAVP");
    assert_eq!(answer(&mut world, &invite("a", "", &offer)), "SIP/2.0 488 Not Acceptable Here");
    let text = world.last("SIP/2.0 488").text();
    assert!(text.contains("Warning: 302 offhook \"the audio line asks for RTP/SAVP"), "{text}");
}

#[test]
fn malformed_messages_are_counted_and_told_with_their_fault() {
    let mut world = World::alone(|_| {});
    world.inject(CARRIER, &invite("a", "CSeq: 11 INVITE\r\n", EMPTY));
    world.inject(CARRIER, "\r\n\r\n");
    world.inject(CARRIER, "\u{1}\u{2}");
    let faults: Vec<&Refusal> = world
        .told
        .iter()
        .filter_map(|(.., output)| match output {
            Output::Refused { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(
        faults,
        [&Refusal::Malformed(ParseError::Duplicate(Name::CSeq)), &Refusal::Malformed(ParseError::NoEndOfHeaders)]
    );
    assert_eq!((world.sent("SIP/2.0 400").len(), world.log.len()), (1, 1));
    assert_eq!(world.end(GATEWAY).stats().malformed, 2);
}

#[test]
fn a_repeated_invite_is_absorbed_and_a_merged_one_refused() {
    let mut world = World::alone(|_| {});
    let text = invite("a", "", &with_sdp(&sdp(4000, 1, "")));
    for _ in 0..3 {
        world.inject(CARRIER, &text);
    }
    assert_eq!(world.sent("SIP/2.0 100").len(), 3);
    assert_eq!(world.events(GATEWAY).len(), 1);
    // RFC 3261 §8.2.2.2: the same request over another path.
    world.inject(CARRIER, &text.replace("z9hG4bKa", "z9hG4bKother"));
    assert_eq!(world.sent("SIP/2.0 482").len(), 1);
    assert_eq!(world.end(GATEWAY).legs(), 1);
}

#[test]
fn a_cancel_of_the_carrier_ends_a_ringing_call_only() {
    let mut world = World::alone(|_| {});
    let text = invite("a", "", &with_sdp(&sdp(4000, 1, "")));
    let cancel = request("CANCEL", "a");
    world.inject(CARRIER, &text);
    world.inject(CARRIER, &cancel);
    assert_eq!((world.sent("SIP/2.0 200").len(), world.sent("SIP/2.0 487").len()), (1, 1));
    assert_eq!((world.ended(GATEWAY).cause, world.ended(GATEWAY).by), (Cause::Cancelled, Side::Them));
    world.assert_empty();

    let mut world = World::alone(|_| {});
    world.inject(CARRIER, &text);
    let (leg, _) = world.incoming(GATEWAY);
    world.answer(GATEWAY, leg);
    world.inject(CARRIER, &cancel);
    assert!(world.sent("SIP/2.0 487").is_empty());
    assert_eq!(world.end(GATEWAY).live_legs(), 1);
}

#[test]
fn a_caller_may_give_up_with_bye_before_the_answer() {
    let mut world = World::alone(|_| {});
    world.inject(CARRIER, &invite("a", "", &with_sdp(&sdp(4000, 1, ""))));
    let (leg, _) = world.incoming(GATEWAY);
    world.order(GATEWAY, Command::Ring { leg }).unwrap();
    let bye = Partner::calling(&world.last("SIP/2.0 180")).request("BYE", EMPTY);
    world.inject(CARRIER, &bye);
    assert_eq!((world.sent("SIP/2.0 200").len(), world.sent("SIP/2.0 487").len()), (1, 1));
    assert_eq!(world.ended(GATEWAY).cause, Cause::Cancelled);
}

#[test]
fn an_old_peer_without_branches_and_tags_can_call() {
    let mut world = World::alone(|_| {});
    let text = invite("a", "", &with_sdp(&sdp(4000, 1, ""))).replace(";branch=z9hG4bKa", "").replace(";tag=theirs", "");
    world.inject(CARRIER, &text);
    world.inject(CARRIER, &text);
    assert_eq!(world.events(GATEWAY).len(), 1);
    let (leg, _) = world.incoming(GATEWAY);
    world.answer(GATEWAY, leg);
    let mut partner = Partner::calling(&world.last("SIP/2.0 200"));
    let ack = partner.request("ACK", EMPTY);
    world.inject(CARRIER, &ack);
    world.run(secs(60));
    let bye = partner.request("BYE", EMPTY);
    world.inject(CARRIER, &bye);
    assert_eq!(world.ended(GATEWAY).by, Side::Them);
}

#[test]
fn a_flood_is_bounded_and_leaves_running_calls_alone() {
    let mut world = World::alone(|config| {
        config.max_legs = 100;
        config.max_transactions = 300;
    });
    let mut partner = dialled(&mut world);
    for i in 0..5_000 {
        let method = ["INVITE", "OPTIONS", "REGISTER", "WEIRD"][i % 4];
        world.inject(CARRIER, &request(method, &format!("flood{i}")));
    }
    let end = world.end(GATEWAY);
    assert!(end.legs() <= 100 && end.transactions() <= 300 && end.timers() < 2_000);
    assert!(end.stats().overload > 4_000);
    world.run(secs(33));
    let bye = partner.request("BYE", EMPTY);
    world.inject(CARRIER, &bye);
    assert!(
        world.events(GATEWAY).iter().any(|event| matches!(event, LegEvent::Ended(ended) if ended.by == Side::Them))
    );
    world.run(secs(200));
    world.run(secs(70));
    let end = world.end(GATEWAY);
    assert_eq!((end.legs(), end.transactions(), end.timers()), (0, 0, 0));
}

#[test]
fn responses_to_nothing_and_from_elsewhere_change_nothing() {
    let mut world = World::alone(|config| {
        config
            .trunks
            .push(offhook_sip_core::trunk::TrunkConfig { name: name("other"), ..trunk(GATEWAY, "203.0.113.5:5060") });
    });
    world.dial();
    let ok = respond(&world.last("INVITE"), "200 OK", "t", &with_sdp(&sdp(4000, 1, "")));
    world.inject("203.0.113.5:5060", &ok);
    world.inject(CARRIER, &ok.replace("branch=z9hG4bK", "branch=z9hG4bKx"));
    world.inject(CARRIER, &ok.replace("1 INVITE", "1 BYE"));
    assert_eq!(world.end(GATEWAY).stats().stray_responses, 3);
    assert!(world.events(GATEWAY).is_empty() && world.sent("ACK").is_empty());
}

#[test]
fn what_the_caller_says_about_itself_is_cleaned() {
    let who = |change: &dyn Fn(String) -> String| {
        let mut world = World::alone(|_| {});
        world.inject(CARRIER, &change(invite("a", "", &with_sdp(&sdp(4000, 1, "")))));
        world.incoming(GATEWAY).1
    };
    let plain = who(&|text| text);
    assert_eq!((plain.caller.as_deref(), plain.caller_name.as_deref()), (Some("+15559999"), Some("Bob")));
    assert_eq!(plain.number, "+15550100");
    let with = |line: &str| who(&|text| text.replace("Max-Forwards", &format!("{line}\r\nMax-Forwards")));
    assert_eq!(with("P-Asserted-Identity: <tel:+1-555-7777>").caller.as_deref(), Some("+15557777"));
    assert_eq!(with("Privacy: header; id").caller, None);
    let anonymous = who(&|text| text.replace("sip:+15559999@carrier", "sip:Anonymous@anonymous"));
    assert_eq!(anonymous.caller, None);
    let long = who(&|text| text.replace("\"Bob\"", &format!("\"\\\u{1b}[31m{}\"", "x".repeat(500))));
    assert_eq!(long.caller_name.unwrap(), format!("[31m{}", "x".repeat(60)));
    // A registrar calls our account; the number is in To.
    let account = who(&|text| text.replace("INVITE sip:+15550100@", "INVITE sip:account@"));
    assert_eq!(account.number, "+15550100");
}
