//! Digest, registration, keep-alive, reload and drain.

use crate::carrier::*;
use crate::world::*;
use offhook_contract::dial::NumberingPlan;
use offhook_contract::{HangupCause as Cause, PhoneNumber, TenantId};
use offhook_sip_core::Command;
use offhook_sip_core::api::*;
use offhook_sip_core::trunk::{AssertedIdentity, Credentials, TrunkConfig};

fn challenge(code: u16, nonce: &str, more: &str) -> (String, String) {
    let (status, header) = match code {
        401 => ("401 Unauthorized", "WWW-Authenticate"),
        _ => ("407 Proxy Authentication Required", "Proxy-Authenticate"),
    };
    let value = format!("{header}: Digest realm=\"carrier\", nonce=\"{nonce}\", qop=\"auth\"{more}\r\n{EMPTY}");
    (status.to_owned(), value)
}

fn challenged(world: &mut World, with: &str, code: u16, nonce: &str, more: &str) {
    let (status, rest) = challenge(code, nonce, more);
    world.inject(CARRIER, &respond(&world.last(with), &status, "c", &rest));
}

fn trunk_events(world: &World) -> Vec<String> {
    let events = world.told.iter().filter_map(|(.., output)| match output {
        Output::TrunkUp { .. } => Some("up".to_owned()),
        Output::TrunkDown { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    events.collect()
}

#[test]
fn a_challenged_invite_is_sent_again_with_credentials() {
    for (code, header) in [(401, "\r\nAuthorization: Digest "), (407, "\r\nProxy-Authorization: Digest ")] {
        let mut world = World::alone(|_| {});
        let leg = world.dial();
        challenged(&mut world, "INVITE", code, "n1", ", algorithm=MD5");
        let (first, second) = (world.sent("INVITE")[0].text(), world.sent("INVITE")[1].text());
        assert!(!first.contains("uthorization") && second.contains(header), "{second}");
        assert!(second.contains("CSeq: 2 INVITE") && second.contains("nc=00000001"));
        assert_eq!(world.sent("ACK").len(), 1, "the refusal was acknowledged");
        world.inject(CARRIER, &respond(&world.last("INVITE"), "200 OK", "t", &with_sdp(&sdp(4000, 1, ""))));
        assert!(matches!(world.events(GATEWAY)[..], [LegEvent::Answered(_)]));
        let ack = world.last("ACK").text();
        assert!(ack.contains("CSeq: 2 ACK") && ack.contains(header), "RFC 3261 §22.1");
        world.hang_up(GATEWAY, leg);
        assert!(world.last("BYE").text().contains("nc=00000002"), "the BYE needs no challenge of its own");
    }
}

#[test]
fn a_wrong_password_ends_the_call_after_one_try() {
    let mut world = World::alone(|_| {});
    world.dial();
    challenged(&mut world, "INVITE", 401, "n1", "");
    challenged(&mut world, "INVITE", 401, "n2", "");
    assert_eq!(world.sent("INVITE").len(), 2);
    assert_eq!((world.ended(GATEWAY).cause, world.ended(GATEWAY).sip_code), (Cause::CarrierAuthFailed, Some(401)));
    world.assert_empty();
}

#[test]
fn forbidden_means_the_password_until_it_was_right_once() {
    let mut world = World::alone(|_| {});
    let mut refused_with = |status: &str| {
        world.told.clear();
        world.dial();
        challenged(&mut world, "INVITE", 401, "n1", "");
        world.inject(CARRIER, &respond(&world.last("INVITE"), status, "t", EMPTY));
        world.ended(GATEWAY).cause
    };
    assert_eq!(refused_with("403 Forbidden"), Cause::CarrierAuthFailed);
    assert_eq!(refused_with("486 Busy Here"), Cause::Busy);
    assert_eq!(refused_with("403 Forbidden"), Cause::Rejected);
}

#[test]
fn a_stale_nonce_is_replaced_once() {
    let mut world = World::alone(|_| {});
    world.dial();
    challenged(&mut world, "INVITE", 407, "n1", "");
    challenged(&mut world, "INVITE", 407, "n2", ", stale=true");
    assert!(world.last("INVITE").text().contains("nonce=\"n2\"") && world.last("INVITE").text().contains("CSeq: 3 "));
    challenged(&mut world, "INVITE", 407, "n3", ", stale=true");
    assert_eq!((world.sent("INVITE").len(), world.ended(GATEWAY).cause), (3, Cause::CarrierAuthFailed));
}

#[test]
fn a_challenge_is_answered_only_to_its_own_trunk() {
    let pinned = |config: &mut EndpointConfig| {
        let credentials = config.trunks[0].credentials.take().unwrap();
        config.trunks[0].credentials = Some(Credentials { realm: Some("the-carrier".into()), ..credentials });
        config.trunks.push(TrunkConfig { name: name("other"), ..trunk(GATEWAY, "203.0.113.5:5060") });
    };
    // Another realm than the pinned one.
    let mut world = World::alone(pinned);
    world.dial();
    challenged(&mut world, "INVITE", 401, "n1", "");
    assert_eq!((world.sent("INVITE").len(), world.ended(GATEWAY).cause), (1, Cause::CarrierAuthFailed));
    // The right realm, from another trunk's address and from a stranger.
    let mut world = World::alone(pinned);
    world.dial();
    let (status, rest) = challenge(401, "n1", "");
    let forged = respond(&world.last("INVITE"), &status, "c", &rest.replace("\"carrier\"", "\"the-carrier\""));
    world.inject("203.0.113.5:5060", &forged);
    world.inject("198.51.100.9:5060", &forged);
    assert_eq!(world.sent("INVITE").len(), 1);
    assert!(world.log.iter().all(|flight| !flight.text().contains("uthorization")));
    world.inject(CARRIER, &forged);
    assert!(world.last("INVITE").text().contains("realm=\"the-carrier\""));
}

#[test]
fn a_bye_is_not_authenticated_for_a_trunk_that_never_asked() {
    let mut world = World::alone(|_| {});
    let mut leg = None;
    world.dial();
    let ok = respond(&world.last("INVITE"), "200 OK", "t", &with_sdp(&sdp(4000, 1, "")));
    world.inject(CARRIER, &ok);
    for (.., output) in &world.told {
        if let Output::Leg { leg: handle, .. } = output {
            leg = Some(*handle);
        }
    }
    world.hang_up(GATEWAY, leg.unwrap());
    challenged(&mut world, "BYE", 407, "n", "");
    assert_eq!(world.sent("BYE").len(), 1);
    assert_eq!(world.end(GATEWAY).legs(), 0);
}

#[test]
fn a_redirect_is_never_followed() {
    let mut world = World::alone(|_| {});
    world.dial();
    let moved = respond(&world.last("INVITE"), "302 Moved Temporarily", "t", EMPTY);
    world.inject(CARRIER, &moved.replace("sip:trunk@198.51.100.1:5060", "sip:+979premium@198.51.100.1"));
    assert_eq!((world.ended(GATEWAY).cause, world.sent("INVITE").len()), (Cause::Redirected, 1));
    world.assert_empty();
}

#[test]
fn the_caller_is_shown_as_the_trunk_wants_it() {
    let mut world = World::alone(|config| {
        config.trunks[0].from = Some("\"Acme\" <sip:{user}@{domain}>".into());
        config.trunks[0].asserted = AssertedIdentity::Preferred;
    });
    world.order(GATEWAY, Command::Dial(Dial { caller: Some("+15557777".into()), ..dial() })).unwrap();
    let text = world.last("INVITE").text();
    assert!(text.contains("From: \"Acme\" <sip:account@carrier.example>;tag="));
    assert!(text.contains("P-Preferred-Identity: <sip:+15557777@carrier.example>\r\n"));
    assert!(text.contains("Contact: <sip:account@192.0.2.1:5060>\r\n"));
    assert!(text.starts_with("INVITE sip:+15551230000@carrier.example SIP/2.0\r\n"));
}

#[test]
fn behind_nat_the_advertised_address_is_written_everywhere() {
    let mut world = World::alone(|config| {
        config.sockets[0].advertised = addr("203.0.113.99:15060");
    });
    world.dial();
    let text = world.last("INVITE").text();
    assert!(text.contains("Via: SIP/2.0/UDP 203.0.113.99:15060;branch=") && text.contains(";rport\r\n"));
    assert!(text.contains("Contact: <sip:account@203.0.113.99:15060>\r\n"));
    assert_eq!(world.last("INVITE").from, addr(GATEWAY), "sent from the socket as bound");
}

fn registering(expires: u64) -> World {
    World::alone(|config| config.trunks[0].registration = Some(secs(expires)))
}

fn registered(world: &mut World, rest: &str) {
    let rest = format!("{rest}{EMPTY}");
    let ok = respond(&world.last("REGISTER"), "200 OK", "r", &rest);
    let ok = ok.replace("Contact: <sip:trunk@198.51.100.1:5060>\r\n", "");
    world.inject(CARRIER, &ok);
}

#[test]
fn a_trunk_registers_with_digest_and_refreshes_in_time() {
    let mut world = registering(300);
    assert!(trunk_events(&world).is_empty());
    challenged(&mut world, "REGISTER", 401, "n1", ", algorithm=SHA-256");
    let text = world.last("REGISTER").text();
    assert!(text.contains("algorithm=SHA-256") && text.contains("Expires: 300\r\n"));
    assert!(text.starts_with("REGISTER sip:carrier.example SIP/2.0\r\n"));
    registered(&mut world, "Contact: <sip:x@10.9.9.9>;expires=9, <sip:account@192.0.2.1:5060>;expires=100\r\n");
    assert_eq!(trunk_events(&world), ["up"]);
    assert!(world.end(GATEWAY).is_trunk_up(&name("carrier")));
    let done = world.now;
    world.run(secs(91));
    let refresh = world.last("REGISTER");
    let waited = (refresh.at - done).as_secs();
    assert!((70..=90).contains(&waited), "refreshed after {waited} of 100 s");
    assert!(refresh.text().contains("CSeq: 3 REGISTER") && refresh.text().contains("nc=00000002"));
    registered(&mut world, "Expires: 100\r\n");
    assert_eq!(trunk_events(&world), ["up"]);
}

#[test]
fn a_registrar_that_wants_longer_times_gets_them() {
    let mut world = registering(60);
    world.inject(
        CARRIER,
        &respond(&world.last("REGISTER"), "423 Interval Too Brief", "r", &format!("Min-Expires: 600\r\n{EMPTY}")),
    );
    assert!(world.last("REGISTER").text().contains("Expires: 600\r\n"));
    registered(&mut world, "");
    assert_eq!(trunk_events(&world), ["up"]);
}

#[test]
fn a_wrong_password_is_told_and_tried_again_only_after_minutes() {
    let mut world = registering(300);
    challenged(&mut world, "REGISTER", 401, "n1", "");
    challenged(&mut world, "REGISTER", 401, "n2", "");
    assert_eq!(trunk_events(&world), ["the registrar refused the user name or password"]);
    world.run(secs(200));
    assert_eq!(world.sent("REGISTER").len(), 2);
    world.run(secs(200));
    assert!(world.sent("REGISTER").len() > 2);
}

#[test]
fn a_silent_registrar_is_asked_again_with_growing_pauses() {
    let mut world = registering(300);
    world.weather = Box::new(|_| Fate::Lost);
    world.run(secs(1800));
    assert_eq!(trunk_events(&world), ["no answer to REGISTER"]);
    // Of each question only its first transmission.
    let number = |flight: &Flight| flight.text().split("CSeq: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let mut questions = world.sent("REGISTER");
    questions.dedup_by_key(|flight| number(flight));
    let pauses: Vec<u64> = questions.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs() - 32).collect();
    assert!((3..=7).contains(&pauses[0]) && *pauses.last().unwrap() > 200, "{pauses:?}");
    world.weather = Box::new(|_| Fate::Arrive);
    let asked = number(&world.last("REGISTER"));
    while number(&world.last("REGISTER")) == asked {
        world.run(secs(1));
    }
    registered(&mut world, "");
    assert_eq!(trunk_events(&world), ["no answer to REGISTER", "up"]);
}

#[test]
fn options_tell_a_trunk_down_after_three_misses_and_up_after_two_answers() {
    let mut world = World::alone(|config| config.trunks[0].keep_alive = Some(secs(30)));
    let reply = |world: &mut World, status: &str| {
        let text = respond(&world.last("OPTIONS"), status, "o", EMPTY);
        world.inject(CARRIER, &text);
    };
    assert!(!world.end(GATEWAY).is_trunk_up(&name("carrier")));
    reply(&mut world, "405 Method Not Allowed");
    assert_eq!(trunk_events(&world), ["up"]);
    world.run(secs(34));
    reply(&mut world, "200 OK");
    world.run(secs(34));
    world.run(secs(30));
    assert_eq!(trunk_events(&world), ["up"], "two misses are not enough");
    world.run(secs(30));
    assert_eq!(trunk_events(&world), ["up", "no answer to OPTIONS"]);
    world.run(secs(12));
    reply(&mut world, "200 OK");
    assert_eq!(trunk_events(&world).len(), 2, "one answer is not enough");
    world.run(secs(12));
    reply(&mut world, "200 OK");
    assert_eq!(trunk_events(&world).last().unwrap(), "up");
    for _ in 0..3 {
        world.run(secs(34));
        reply(&mut world, "503 Service Unavailable");
    }
    assert_eq!(trunk_events(&world).last().unwrap(), "OPTIONS was answered with 503");
}

#[test]
fn a_reload_keeps_calls_and_unchanged_registrations() {
    let mut world = registering(300);
    registered(&mut world, "");
    let mut partner = dialled(&mut world);
    let same = TrunkConfig { registration: Some(secs(300)), caller_id: None, ..trunk(GATEWAY, CARRIER) };
    world.order(GATEWAY, Command::SetTrunks(vec![same])).unwrap();
    world.run(secs(5));
    assert_eq!((world.sent("REGISTER").len(), trunk_events(&world).len()), (1, 1), "nothing that matters changed");
    world.order(GATEWAY, Command::SetTrunks(vec![])).unwrap();
    assert!(world.last("REGISTER").text().contains("Expires: 0\r\n"), "taken back");
    assert_eq!(world.order(GATEWAY, Command::Dial(dial())), Err(CommandError::UnknownTrunk(name("carrier"))));
    let before = world.log.len();
    world.inject(CARRIER, &invite("new", "", &with_sdp(&sdp(4000, 1, ""))));
    assert_eq!(world.log.len(), before, "the source is a stranger's now");
    let bye = partner.request("BYE", EMPTY);
    world.inject(CARRIER, &bye);
    assert_eq!(world.ended(GATEWAY).by, Side::Them);
    let broken = TrunkConfig { domain: "a b".into(), ..trunk(GATEWAY, CARRIER) };
    assert!(matches!(world.order(GATEWAY, Command::SetTrunks(vec![broken])), Err(CommandError::Trunk(_))));
    let elsewhere = TrunkConfig { local: addr("0.0.0.0:9"), ..trunk(GATEWAY, CARRIER) };
    assert_eq!(
        world.order(GATEWAY, Command::SetTrunks(vec![elsewhere])),
        Err(CommandError::UnknownSocket(name("carrier")))
    );
}

#[test]
fn a_drained_endpoint_takes_its_registration_back_and_refuses_new_calls() {
    let mut world = registering(300);
    registered(&mut world, "");
    dialled(&mut world);
    world.order(GATEWAY, Command::Drain).unwrap();
    assert_eq!(trunk_events(&world), ["up", "shutting down"]);
    challenged(&mut world, "REGISTER", 401, "n", "");
    assert!(world.last("REGISTER").text().contains("Expires: 0\r\n"));
    registered(&mut world, "");
    assert_eq!(world.order(GATEWAY, Command::Dial(dial())), Err(CommandError::Draining));
    world.inject(CARRIER, &invite("new", "", &with_sdp(&sdp(4000, 1, ""))));
    assert_eq!(world.sent("SIP/2.0 503").len(), 1);
    assert_eq!(world.end(GATEWAY).live_legs(), 1, "running calls go on");
}

#[test]
fn two_trunks_of_one_carrier_are_told_apart() {
    let mut world = World::alone(|config| {
        let second =
            Credentials { username: "second".into(), password: offhook_contract::Secret::new("x"), realm: None };
        config.trunks.push(TrunkConfig {
            name: name("second"),
            credentials: Some(second),
            ..trunk(GATEWAY, "198.51.100.1:5062")
        });
    });
    let offer = with_sdp(&sdp(4000, 1, ""));
    let trunk_of = |world: &mut World, from: &str, text: &str| {
        world.inject(from, text);
        world.incoming(GATEWAY).1.trunk
    };
    let to_second = invite("a", "", &offer).replace("INVITE sip:+15550100@", "INVITE sip:second@");
    assert_eq!(trunk_of(&mut world, CARRIER, &to_second), name("second"), "its account is called");
    assert_eq!(
        trunk_of(&mut world, "198.51.100.1:5062", &invite("b", "", &offer)),
        name("second"),
        "its proxy sent it"
    );
    assert_eq!(
        trunk_of(&mut world, "198.51.100.1:9", &invite("c", "", &offer)),
        name("carrier"),
        "the first otherwise"
    );
}

#[test]
fn a_called_number_finds_the_trunk_that_has_it_whatever_the_source() {
    let number = |text: &str| PhoneNumber::try_from(text.to_owned()).unwrap();
    let german = NumberingPlan { country_code: Some("49".into()), ..NumberingPlan::default() };
    let mut world = World::alone(|config| {
        // Two tenants at one address of one carrier, without accounts that would tell them apart.
        let first = &mut config.trunks[0];
        (first.credentials, first.numbers) = (None, vec![number("+15550100")]);
        config.trunks.push(TrunkConfig {
            name: name("second"),
            tenant: TenantId::parse("other").unwrap(),
            credentials: None,
            caller_id: None,
            numbers: vec![number("+493012345")],
            numbering: german,
            ..trunk(GATEWAY, CARRIER)
        });
        config.trunks.push(TrunkConfig {
            name: name("elsewhere"),
            numbers: vec![number("+15550999")],
            ..trunk(GATEWAY, "203.0.113.5:5060")
        });
    });
    let offer = with_sdp(&sdp(4000, 1, ""));
    let mut calls = 0;
    let mut trunk_of = |called: &str| {
        calls += 1;
        let text = invite(&format!("call{calls}"), "", &offer);
        world.inject(CARRIER, &text.replace("INVITE sip:+15550100@", &format!("INVITE sip:{called}@")));
        world.incoming(GATEWAY).1.trunk
    };
    for (called, expected) in [
        ("+493012345", "second"),
        ("493012345", "second"),
        ("00493012345", "second"),
        ("03012345", "second"),
        ("+15550100", "carrier"),
        ("15550100", "carrier"),
        // Nobody's number, and one of a trunk that does not admit this source: the first that does.
        ("+4999", "carrier"),
        ("+15550999", "carrier"),
    ] {
        assert_eq!(trunk_of(called), name(expected), "{called}");
    }
}

#[test]
fn a_registrar_that_calls_a_shared_account_names_the_number_in_to() {
    let mut world = World::alone(|config| {
        let number = |text: &str| vec![PhoneNumber::try_from(text.to_owned()).unwrap()];
        config.trunks[0].numbers = number("+15550111");
        config.trunks.push(TrunkConfig {
            name: name("second"),
            numbers: number("+15550100"),
            ..trunk(GATEWAY, CARRIER)
        });
    });
    let text = invite("a", "", &with_sdp(&sdp(4000, 1, ""))).replace("INVITE sip:+15550100@", "INVITE sip:account@");
    world.inject(CARRIER, &text);
    let (_, incoming) = world.incoming(GATEWAY);
    assert_eq!((incoming.trunk, incoming.number.as_str()), (name("second"), "+15550100"));
}
