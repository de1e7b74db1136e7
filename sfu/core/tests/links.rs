//! Links: a telephone's media between the gateway and a room.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcma, Pcmu};
use offhook_sfu_core::*;
use stage::*;

#[test]
fn a_telephones_g711_reaches_a_browser_untouched_and_a_browsers_opus_the_telephone() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let phone = s.link("phone", &[Pcma]);
    s.talk(secs(1), &[(alice, Opus, 1), (phone, Pcma, 2)]);
    let (browser, gateway) = (&s.actors[alice], &s.actors[phone]);
    assert_eq!((browser.heard.len(), gateway.heard.len()), (50, 50));
    assert!(browser.on_slot(0).all(|h| h.codec == Pcma && h.payload == [2; 160] && h.csrc.is_none()));
    let speaker = Some(browser.source_id());
    assert!(gateway.on_slot(0).all(|h| h.codec == Opus && h.payload == [1; 30] && h.csrc == speaker));
    assert!(gateway.heard.iter().all(|h| h.level == Some(1)), "the sender's own level goes along");
}

#[test]
fn who_speaks_on_a_link_stands_in_the_csrc_of_each_slot() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let phone = s.link("phone", &[Pcmu]);
    s.talk(ms(200), &[(alice, Opus, 1), (bob, Pcmu, 2)]);
    let gateway = &s.actors[phone];
    for (slot, speaker) in [(0, alice), (1, bob)] {
        let id = Some(s.actors[speaker].source_id());
        assert_eq!(gateway.on_slot(slot).filter(|h| h.csrc == id).count(), 10);
    }
}

#[test]
fn two_links_from_one_socket_are_told_apart_by_their_ssrc() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let first = s.link("first", &[Pcmu]);
    let shared = s.actors[first].address;
    let second = s.link_at("second", &[Pcmu], Some(shared));
    for _ in 0..5 {
        s.speak(first, Pcmu, &[1; 160]);
        s.speak(second, Pcmu, &[2; 160]);
        s.advance(ms(20));
    }
    assert_eq!(s.actors[alice].on_slot(0).filter(|h| h.payload[0] == 1).count(), 5);
    assert_eq!(s.actors[alice].on_slot(1).filter(|h| h.payload[0] == 2).count(), 5);
    s.command(Command::RemoveLeg { room: room(), leg: leg("first") });
    s.speak(second, Pcmu, &[3; 160]);
    assert_eq!(s.actors[alice].heard.iter().filter(|h| h.payload[0] == 3).count(), 1);
    s.command(Command::RemoveLeg { room: room(), leg: leg("second") });
    assert_eq!(s.shard.gauges().addresses, 1);
}

#[test]
fn a_link_says_nothing_before_it_is_connected_and_connects_once() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let actor = Actor::link(50, &[Pcmu]);
    let (open, connect) = (actor.link_plan(), actor.connect_plan());
    s.actors.push(actor);
    s.command(Command::OpenLink { room: room(), leg: leg("phone"), plan: Box::new(open), emergency: false });
    s.talk(ms(100), &[(alice, Pcmu, 1), (1, Pcmu, 2)]);
    assert!(s.actors[1].heard.is_empty() && s.actors[alice].heard.is_empty());
    let command =
        |plan: &ConnectPlan| Command::ConnectLink { room: room(), leg: leg("phone"), plan: Box::new(plan.clone()) };
    s.command(command(&connect));
    s.command(command(&connect));
    let elsewhere = ConnectPlan { remote: "192.0.2.200:1".parse().unwrap(), ..connect.clone() };
    assert_eq!(s.try_command(command(&elsewhere)), Err(CommandError::LinkConnected(leg("phone"))));
    let to_alice = Command::ConnectLink { room: room(), leg: leg("alice"), plan: Box::new(connect.clone()) };
    assert_eq!(s.try_command(to_alice), Err(CommandError::NotALink(leg("alice"))));
    let other = Actor::link(51, &[Pcmu]);
    s.command(Command::OpenLink {
        room: room(),
        leg: leg("other"),
        plan: Box::new(other.link_plan()),
        emergency: false,
    });
    let stolen = Command::ConnectLink { room: room(), leg: leg("other"), plan: Box::new(connect.clone()) };
    assert_eq!(s.try_command(stolen), Err(CommandError::LinkAddressTaken(connect.remote)));
    let mute = ConnectPlan { codecs: Vec::new(), ssrc: 9, ..connect };
    let mute = Command::ConnectLink { room: room(), leg: leg("other"), plan: Box::new(mute) };
    assert_eq!(s.try_command(mute), Err(CommandError::NoCodec(leg("other"))));
    s.talk(ms(100), &[(alice, Pcmu, 1), (1, Pcmu, 2)]);
    assert_eq!((s.actors[1].heard.len(), s.actors[alice].heard.len()), (5, 5));
}

#[test]
fn a_browser_cannot_take_a_links_address_over() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let phone = s.link("phone", &[Pcmu]);
    let links = std::mem::replace(&mut s.actors[phone].address, "192.0.2.250:1".parse().unwrap());
    let check = s.actors[alice].check(true, None);
    s.send_from(links, check);
    s.actors[phone].address = links;
    s.speak(phone, Pcmu, &[2; 160]);
    assert_eq!(s.shard.gauges().links, 1);
    assert_eq!(s.shard.counters().dropped_unauthenticated, 0, "the link's packets still find the link");
}
