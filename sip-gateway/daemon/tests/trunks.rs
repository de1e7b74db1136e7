//! Trunks at work: registration, addresses behind NAT, a new configuration, emergencies, and bad neighbours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use offhook_contract::control::IncomingRoute;
use offhook_contract::dial::{Destination, PhoneNumber};
use offhook_contract::gateway::{DialTelephone, HangUpTelephone};
use offhook_contract::{Event, Fact, HangupCause};
use offhook_media::detect;
use offhook_runtime::ConfigFile;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use world::carrier::Message;
use world::room::{Phone, Room, converse};
use world::{Plan, World, leg, trunk};

async fn dialled(world: &World, room: &mut Room, to: Destination) -> Message {
    let dial = DialTelephone {
        leg: leg("leg-out"),
        trunk: trunk(),
        to,
        caller_id: None,
        ring_timeout_ms: 30_000,
        max_duration_s: 600,
        link: room.offer(),
    };
    let reply = world.ask("call-out", &dial).await.unwrap();
    room.connect(&reply.link);
    world.carrier.request("INVITE").await
}

fn number() -> Destination {
    Destination::Number(PhoneNumber::try_from("+15551230000".to_owned()).unwrap())
}

#[tokio::test]
async fn a_trunk_registers_with_its_password_and_takes_it_back_at_the_end() {
    let account = "username = \"me\"\npassword = \"secret\"\nregister = true\nkeep_alive_s = 0\n";
    let mut world = World::with(Plan { trunk: account, ..Plan::default() }).await;
    let first = world.carrier.request("REGISTER").await;
    let challenge = "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    world.carrier.respond(&first, "401 Unauthorized", challenge, "").await;
    let second = world.carrier.request("REGISTER").await;
    let proof = second.header("authorization").to_owned();
    assert!(proof.contains("username=\"me\"") && proof.contains("response=") && !proof.contains("secret"), "{proof}");
    world
        .carrier
        .respond(&second, "200 OK", &format!("Contact: {};expires=300\r\n", second.header("contact")), "")
        .await;
    let Event::TrunkChanged(changed) = world.event("trunk_changed").await else { panic!() };
    assert!(changed.up && changed.trunk == trunk());
    world.row(|row| row.trunks.iter().all(|t| t.up)).await;
    world.switch.drain();
    let last = loop {
        let register = world.carrier.request("REGISTER").await;
        if register.header("expires") == "0" {
            break register;
        }
    };
    world.carrier.respond(&last, "200 OK", "", "").await;
    world.stop().await;
}

#[tokio::test]
async fn behind_nat_the_public_address_stands_in_every_place() {
    let net = "public_addresses = [{ public = \"203.0.113.5\", local = \"127.0.0.1\" }]";
    let world = World::with(Plan { net, trunk: "keep_alive_s = 0", ..Plan::default() }).await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room, number()).await;
    for header in ["via", "contact"] {
        assert!(invite.header(header).contains("203.0.113.5"), "{header}: {}", invite.header(header));
    }
    assert!(invite.body.contains("c=IN IP4 203.0.113.5"), "{}", invite.body);
    world.stop().await;
}

#[tokio::test]
async fn an_emergency_number_leaves_as_dialled_by_its_trunk_whatever_the_limits() {
    let plan = Plan { dial: "max_calls_per_minute = 0", trunk: "emergency = true\nmax_calls = 0", ..Plan::default() };
    let world = World::with(plan).await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room, Destination::Emergency("112".into())).await;
    assert!(invite.start.starts_with("INVITE sip:112@"), "{}", invite.start);
    world.stop().await;
}

#[tokio::test]
async fn a_full_gateway_calls_for_help_even_over_a_caller_id_that_is_not_the_trunks() {
    let plan = Plan { sip: "max_legs = 1", trunk: "emergency = true", ..Plan::default() };
    let world = World::with(plan).await;
    let mut room = Room::new().await;
    dialled(&world, &mut room, number()).await;
    let mut dial = DialTelephone {
        leg: leg("leg-2"),
        trunk: trunk(),
        to: number(),
        caller_id: None,
        ring_timeout_ms: 30_000,
        max_duration_s: 600,
        link: room.offer(),
    };
    assert!(world.ask("call-2", &dial).await.is_err(), "it is full");
    dial.to = Destination::Emergency("112".into());
    dial.caller_id = Some(PhoneNumber::try_from("+15557777".to_owned()).unwrap());
    world.ask("call-2", &dial).await.unwrap();
    let invite = loop {
        let invite = world.carrier.request("INVITE").await;
        if invite.start.starts_with("INVITE sip:112@") {
            break invite;
        }
    };
    assert!(!invite.header("from").contains("5557777"), "{}", invite.header("from"));
    world.stop().await;
}

#[tokio::test]
async fn a_new_configuration_changes_rules_and_trunks_while_calls_go_on() {
    let mut world = World::with(Plan { trunk: "keep_alive_s = 0", ..Plan::default() }).await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room, number()).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    let plan = Plan { trunk: "keep_alive_s = 0", dial: "denied_prefixes = [\"+1555123\"]", ..Plan::default() };
    let text = world::config(&plan, &world.carrier, world.sip_port)
        + "[[trunk]]\nname = \"second\"\ntenant = \"acme\"\naddress = \"127.0.0.1:9\"\nkeep_alive_s = 0\n";
    world.switch.reload(ConfigFile::parse("new.toml", &text, []).unwrap());
    let row = world.row(|row| row.trunks.len() == 2).await;
    assert!(row.trunks.iter().all(|t| t.up));
    let mut again = DialTelephone {
        leg: leg("leg-2"),
        trunk: trunk(),
        to: number(),
        caller_id: None,
        ring_timeout_ms: 1_000,
        max_duration_s: 60,
        link: room.offer(),
    };
    assert!(world.ask("call-2", &again).await.is_err(), "the prefix is denied now");
    again.to = Destination::Number(PhoneNumber::try_from("+15559990000".to_owned()).unwrap());
    world.ask("call-2", &again).await.unwrap();
    let mut phone = Phone::new(&world.carrier, invite.audio_port());
    let talk = converse(&mut phone, &mut room, 40, 600.0, 1_000.0).await;
    assert!(detect::presence(&talk.room, 8_000, 600.0) > 0.99, "the call that was goes on");
    world.stop().await;
}

#[tokio::test]
async fn a_telephone_that_falls_silent_for_good_is_hung_up() {
    let mut world =
        World::with(Plan { sip: "media_timeout_s = 5", trunk: "keep_alive_s = 0", ..Plan::default() }).await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room, number()).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    let bye = world.carrier.request("BYE").await;
    assert!(bye.header("reason").contains("cause=27"), "{}", bye.header("reason"));
    world.carrier.respond(&bye, "200 OK", "", "").await;
    assert!(matches!(world.control.fact().await, Fact::LegEnded { cause: HangupCause::MediaLost, .. }));
    world.stop().await;
}

#[tokio::test]
async fn a_burst_of_calls_does_not_pass_the_trunks_limit_while_call_control_thinks() {
    let mut world = World::with(Plan { trunk: "max_calls = 2\nkeep_alive_s = 0", ..Plan::default() }).await;
    let gateway = SocketAddr::new("127.0.0.1".parse().unwrap(), world.sip_port);
    world.control.thinking.send_replace(true);
    world.control.route.send_replace(IncomingRoute::Reject { cause: HangupCause::Busy });
    let calls: Vec<String> = (0..10).map(|n| format!("burst-{n}")).collect();
    for call in &calls {
        world.carrier.send_call(gateway, call).await;
    }
    let mut refused = BTreeSet::new();
    while refused.len() < 8 {
        let response = world.carrier.receive().await;
        if response.status() >= 200 {
            assert_eq!(response.status(), 503, "{}", response.start);
            refused.insert(response.header("call-id").to_owned());
        }
    }
    let dial = DialTelephone {
        leg: leg("leg-out"),
        trunk: trunk(),
        to: number(),
        caller_id: None,
        ring_timeout_ms: 30_000,
        max_duration_s: 600,
        link: Room::new().await.offer(),
    };
    assert!(world.ask("call-out", &dial).await.is_err(), "nor does a call the other way");
    let asked: BTreeSet<String> = world.control.questions_left().into_iter().map(|q| q.sip_call_id).collect();
    assert_eq!(asked.len(), 2);
    assert!(asked.is_disjoint(&refused));
    // Decided about, they make room again.
    world.control.thinking.send_replace(false);
    let mut busy = BTreeSet::new();
    while busy.len() < 2 {
        let response = world.carrier.receive().await;
        if response.status() == 486 {
            busy.insert(response.header("call-id").to_owned());
        }
    }
    assert_eq!(busy, asked);
    world.carrier.send_call(gateway, "afterwards").await;
    loop {
        if world.control.question().await.sip_call_id == "afterwards" {
            break;
        }
    }
    world.stop().await;
}

/// Garbage of many lengths to every port of the gateway, from elsewhere and from the carrier's own host.
async fn flood(targets: Vec<SocketAddr>, more: tokio::sync::watch::Receiver<bool>) -> u64 {
    let sockets = [UdpSocket::bind("127.0.0.3:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap()];
    let (mut state, mut sent) = (1u32, 0);
    while *more.borrow() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut bytes: Vec<u8> = (0..state % 900).map(|n| (state.rotate_left(n % 32) >> 3) as u8).collect();
        if let Some(first) = bytes.first_mut().filter(|_| state & 1 == 0) {
            *first = 0x80;
        }
        for (socket, target) in sockets.iter().zip(targets.iter().cycle().skip(sent as usize % targets.len())) {
            let _ = socket.send_to(&bytes, target).await;
            sent += 1;
        }
        tokio::task::yield_now().await;
    }
    sent
}

#[tokio::test]
async fn garbage_at_every_port_does_not_disturb_a_call() {
    let mut world = World::with(Plan { trunk: "keep_alive_s = 0", ..Plan::default() }).await;
    let mut room = Room::new().await;
    let invite = dialled(&world, &mut room, number()).await;
    world.carrier.respond(&invite, "200 OK", "", &world.carrier.sdp()).await;
    world.carrier.request("ACK").await;
    world.control.fact().await;
    let mut phone = Phone::new(&world.carrier, invite.audio_port());
    converse(&mut phone, &mut room, 5, 600.0, 1_000.0).await;
    let at = |port| SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let targets = vec![at(world.sip_port), at(invite.audio_port()), at(invite.audio_port() + 1), room.gateway()];
    let (go_on, more) = tokio::sync::watch::channel(true);
    let flooding = tokio::spawn(flood(targets, more));
    let talk = converse(&mut phone, &mut room, 100, 600.0, 1_000.0).await;
    go_on.send_replace(false);
    assert!(flooding.await.unwrap() > 200);
    assert!(detect::presence(&talk.room, 8_000, 600.0) > 0.99, "{}", detect::presence(&talk.room, 8_000, 600.0));
    let telephone = &talk.telephone[1_600..];
    assert!(detect::presence(telephone, 8_000, 1_000.0) > 0.97, "{}", detect::presence(telephone, 8_000, 1_000.0));
    world.ask("call-out", &HangUpTelephone { leg: leg("leg-out"), cause: HangupCause::Normal }).await.unwrap();
    let bye = world.carrier.request("BYE").await;
    world.carrier.respond(&bye, "200 OK", "", "").await;
    assert!(world.metric("sip_dropped_total") > 0.0 && world.metric("sip_trunk_packets_dropped_total") > 0.0);
    world.stop().await;
}
