//! Where a browser is, and who may say so: checks, consent, moves, floods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::Opus;
use offhook_contract::HangupCause;
use offhook_sfu_core::*;
use offhook_testkit::Rng;
use offhook_wire_stun::AttributeType;
use stage::*;
use std::net::SocketAddr;

fn ended(stage: &Stage) -> Vec<(String, HangupCause)> {
    let ended = |news: &News| match news {
        News::LegEnded { leg, cause, .. } => Some((leg.to_string(), *cause)),
        _ => None,
    };
    stage.news().filter_map(ended).collect()
}

#[test]
fn a_browser_without_a_check_for_thirty_seconds_is_gone_however_much_it_sends() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.consent = false;
    s.talk(ms(29_900), &[(alice, Opus, 1)]);
    assert!(ended(&s).is_empty());
    s.check(bob, false);
    s.talk(ms(200), &[(alice, Opus, 1)]);
    assert_eq!(ended(&s), [("alice".to_owned(), HangupCause::MediaLost)]);
    s.advance(secs(31));
    assert_eq!(ended(&s).len(), 2);
    let gauges = s.shard.gauges();
    assert_eq!((gauges.peers, gauges.timers, gauges.addresses), (0, 0, 0));
}

#[test]
fn a_browser_that_never_comes_is_given_up() {
    let mut s = Stage::conversation();
    s.consent = false;
    s.join("alice", Actor::browser(1));
    s.advance(ms(30_010));
    assert_eq!(ended(&s), [("alice".to_owned(), HangupCause::MediaLost)]);
}

#[test]
fn media_moves_only_after_an_authenticated_check_that_nominates() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(ms(100), &[(alice, Opus, 1), (bob, Opus, 2)]);
    let new: SocketAddr = "198.51.100.7:9999".parse().unwrap();
    let old = std::mem::replace(&mut s.actors[alice].address, new);

    // Media alone, from an address that nobody proved.
    let packet = s.actors[alice].frame(Opus, &[3; 30]);
    s.send_from(new, packet);
    assert_eq!(s.shard.counters().dropped_unknown_source, 1);
    // A check with a wrong password.
    let forged = s.actors[alice].check(true, Some("wrong-password-wrong-password"));
    s.send_from(new, forged);
    assert_eq!(s.actors[alice].stun_errors, [401]);
    s.speak(bob, Opus, &[4; 30]);
    assert_eq!(s.wire.last().unwrap().0, old);
    // An honest check that does not nominate: heard from there, not yet spoken to there.
    s.check(alice, false);
    s.speak(alice, Opus, &[5; 30]);
    assert_eq!(s.actors[bob].heard.last().unwrap().payload, [5; 30]);
    s.speak(bob, Opus, &[6; 30]);
    assert_eq!(s.wire.last().unwrap().0, old);
    s.check(alice, true);
    s.speak(bob, Opus, &[7; 30]);
    assert_eq!(s.wire.last().unwrap().0, new);
}

#[test]
fn dtls_is_taken_only_from_an_address_that_passed_a_check() {
    let mut s = Stage::conversation();
    let alice = s.join("alice", Actor::browser(1));
    s.handshake(alice);
    assert_eq!(s.shard.counters().dropped_unknown_source, 1);
    assert!(s.news().next().is_none());
    s.check(alice, true);
    s.handshake(alice);
    assert!(s.news().any(|news| matches!(news, News::PeerConnected(_))));
}

#[test]
fn another_certificate_than_the_one_announced_ends_the_leg() {
    let mut s = Stage::conversation();
    s.browser_with("mallory", |actor| actor.announced_fingerprint = [0; 32]);
    assert_eq!(ended(&s), [("mallory".to_owned(), HangupCause::MediaLost)]);
    assert_eq!(s.shard.counters().dtls_failed, 1);
    assert!(!s.news().any(|news| matches!(news, News::PeerConnected(_))));
}

#[test]
fn a_page_that_closes_dtls_is_silent_until_its_consent_ends() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.consent = false;
    s.send(alice, vec![21, 0]);
    s.talk(ms(100), &[(bob, Opus, 2)]);
    assert!(s.actors[alice].heard.is_empty());
    assert!(ended(&s).is_empty(), "it may be reloading");
    s.check(bob, false);
    s.advance(ms(30_000));
    assert_eq!(ended(&s)[0].0, "alice");
}

#[test]
fn each_broken_check_gets_the_answer_of_its_rfc() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let answered = s.actors[alice].checks_answered;
    // RFC 8445 §7.3.1.1: it shall take the controlling role.
    let controlled = s.actors[alice].check_with(
        |request| {
            request.ice_controlled(1);
        },
        None,
    );
    // RFC 8489 §6.3.1: an attribute that must be understood and is not.
    let unknown = s.actors[alice].check_with(
        |request| {
            request.attr(AttributeType(0x7777), &[0; 4]);
        },
        None,
    );
    for datagram in [controlled, unknown] {
        s.send(alice, datagram);
    }
    let stranger = Actor::browser(9).check(true, None);
    s.send(alice, stranger);
    assert_eq!(s.actors[alice].stun_errors, [487, 420, 401]);
    assert_eq!(s.actors[alice].checks_answered, answered);
    let mut no_fingerprint = s.actors[alice].check(true, None);
    let last = no_fingerprint.len() - 1;
    no_fingerprint[last] ^= 1;
    let before = s.wire.len();
    s.send(alice, no_fingerprint);
    assert_eq!((s.wire.len(), s.shard.counters().stun_malformed), (before, 1));
}

#[test]
fn an_address_proved_by_another_leg_carries_that_legs_media() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.browser("carol");
    // Bob's network gives him the address that was Alice's.
    s.actors[alice].address = "198.51.100.1:1".parse().unwrap();
    s.check(alice, true);
    s.actors[bob].address = "192.0.2.1:4000".parse().unwrap();
    s.check(bob, true);
    s.speak(bob, Opus, &[2; 30]);
    assert_eq!(s.actors[2].heard.last().unwrap().payload, [2; 30]);
    s.command(Command::RemoveLeg { room: room(), leg: leg("alice") });
    s.speak(bob, Opus, &[3; 30]);
    assert_eq!(s.actors[2].heard.last().unwrap().payload, [3; 30], "what Alice left behind was Bob's already");
}

#[test]
fn a_browser_that_wanders_keeps_no_more_than_eight_addresses() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    for port in 1..100 {
        s.actors[alice].address.set_port(port);
        s.check(alice, port % 3 == 0);
    }
    assert!(s.shard.gauges().addresses <= 8);
    s.command(Command::RemoveLeg { room: room(), leg: leg("alice") });
    assert_eq!(s.shard.gauges().addresses, 0);
}

#[test]
fn a_flood_of_garbage_and_forgeries_makes_no_state_and_few_answers_while_a_call_goes_on() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let before = s.shard.gauges();
    let mut rng = Rng::seeded(0x0ff0);
    let forged = Actor::browser(77).check(true, None);
    let answers = s.wire.len();
    for round in 0..200_u64 {
        s.speak(alice, Opus, &[1; 30]);
        for n in 0..50_u64 {
            let source = SocketAddr::from(([203, 0, 113, (n % 8) as u8], 1_024 + (round * 50 + n) as u16));
            let mut datagram: Vec<u8> = (0..rng.below(300)).map(|_| rng.below(256) as u8).collect();
            if n % 5 == 0 {
                datagram = forged.clone();
            } else if let Some(first) = datagram.first_mut() {
                *first = [0, 22, 128, 144, 255][n as usize % 5];
            }
            s.send_from(source, datagram);
        }
        s.advance(ms(20));
    }
    assert_eq!(s.shard.gauges(), before);
    assert_eq!(s.actors[bob].heard.len(), 200, "the call lost nothing");
    let refusals = s.wire.len() - answers - 200;
    assert!(refusals <= 8 * (5 + 5 * 4) + 10, "{refusals} answers in four seconds");
    let counters = s.shard.counters();
    assert!(counters.stun_throttled > 1_000 && counters.dropped_unknown_source > 1_000);
}
