//! Permissions, channels and what passes through them: RFC 8656 §9 to §12.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method};
use stage::*;

fn allocated() -> (Stage, Client, RelayKey) {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    let relayed = alice.allocated(&mut s);
    let relay = s.relay_at(relayed);
    (s, alice, relay)
}

#[test]
fn indications_pass_both_ways_under_a_permission_and_not_without() {
    let (mut s, mut alice, relay) = allocated();
    assert_eq!(alice.send(&mut s, at(PEER), b"early"), None);
    assert_eq!(s.peer_sends(relay, at(PEER), b"early"), None);
    assert_eq!(alice.permit(&mut s, at(PEER)), 0);
    for length in [0, 1, 2, 3, 4, 172, 1_400] {
        let payload = vec![length as u8; length];
        assert_eq!(alice.send(&mut s, at(PEER), &payload), Some((at(PEER), payload.clone())));
        let (path, indication) = s.peer_sends(relay, at(PEER), &payload).unwrap();
        assert_eq!((path, read_data(&indication)), (alice.path, (at(PEER), payload)));
    }
    // A permission is for an address, whatever the port.
    assert!(s.peer_sends(relay, at("8.8.4.4:9"), b"x").is_some());
    assert_eq!(s.peer_sends(relay, at("8.8.4.5:5004"), b"x"), None);
    let counters = s.shard.counters();
    assert_eq!((counters.dropped_no_permission, counters.up_packets, counters.down_packets), (3, 7, 8));
}

#[test]
fn the_header_lies_directly_in_front_of_a_payload_that_never_moved() {
    let (mut s, mut alice, relay) = allocated();
    alice.permit(&mut s, at(PEER));
    let mut frame = vec![0xAA; HEAD_ROOM + 5 + TAIL_ROOM];
    let payload = HEAD_ROOM..HEAD_ROOM + 5;
    frame[payload.clone()].copy_from_slice(b"hello");
    let deliver = s.shard.handle_peer(s.now, relay, at(PEER), &mut frame, payload.clone()).unwrap();
    assert_eq!(deliver.message, HEAD_ROOM - 36..HEAD_ROOM + 8);
    assert_eq!((&frame[payload.clone()], &frame[HEAD_ROOM + 5..]), (&b"hello"[..], &[0, 0, 0][..]));
    alice.bind(&mut s, 0x4000, at(PEER));
    let deliver = s.shard.handle_peer(s.now, relay, at(PEER), &mut frame, payload.clone()).unwrap();
    assert_eq!((deliver.message, &frame[payload]), (HEAD_ROOM - 4..HEAD_ROOM + 5, &b"hello"[..]));
    // Without room in front nothing is written outside.
    assert_eq!(s.shard.handle_peer(s.now, relay, at(PEER), &mut [0; 8], 2..8), None);
}

#[test]
fn channels_carry_both_ways_and_only_for_their_peer() {
    let (mut s, mut alice, relay) = allocated();
    assert_eq!(alice.bind(&mut s, 0x4001, at(PEER)), 0);
    assert_eq!(alice.send_channel(&mut s, 0x4001, b"up"), Some((at(PEER), b"up".to_vec())));
    assert_eq!(s.peer_sends(relay, at(PEER), b"down").unwrap().1, channel_data(0x4001, b"down"));
    // From another port of the same address: permitted, but not on the channel.
    assert_eq!(read_data(&s.peer_sends(relay, at("8.8.4.4:1"), b"x").unwrap().1).0, at("8.8.4.4:1"));
    assert_eq!(alice.send_channel(&mut s, 0x4002, b"unbound"), None);
    assert_eq!(s.shard.counters().dropped_no_channel, 1);
    let mut stranger = Client::alice_at(3);
    assert_eq!(stranger.send_channel(&mut s, 0x4001, b"not mine"), None);
    assert_eq!(s.shard.counters().dropped_no_allocation, 1);
}

#[test]
fn channel_data_that_lies_about_its_length_is_dropped() {
    let (mut s, mut alice, _) = allocated();
    alice.bind(&mut s, 0x4001, at(PEER));
    let mut long = channel_data(0x4001, b"four");
    long[3] = 5;
    assert_eq!(s.input(&alice.path, &long), None);
    long[3] = 3;
    assert_eq!(s.input(&alice.path, &long).unwrap().payload, 4..7);
    for broken in [&[0x40][..], &[0x40, 1, 0], &[0x50, 0, 0, 0], &[0x80; 20], &[]] {
        assert_eq!(s.input(&alice.path, broken), None);
    }
}

#[test]
fn over_a_stream_channel_data_is_padded_to_four() {
    let mut s = Stage::new();
    let mut alice = Client::by(tcp("203.0.113.7:40000", 1), "alice", "sesame");
    let relayed = alice.allocated(&mut s);
    alice.bind(&mut s, 0x4001, at(PEER));
    let relay = s.relay_at(relayed);
    let (_, message) = s.peer_sends(relay, at(PEER), b"hello").unwrap();
    assert_eq!(message, [&[0x40, 1, 0, 5][..], b"hello", &[0, 0, 0]].concat());
    assert_eq!(stream::next_message(&message, false), stream::Framed::Message { length: 9, next: 12 });
}

#[test]
fn numbers_outside_the_range_and_second_bindings_are_400() {
    let (mut s, mut alice, _) = allocated();
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF] {
        assert_eq!(alice.bind(&mut s, number, at(PEER)), 400, "{number:#x}");
    }
    assert_eq!(alice.bind(&mut s, 0x4FFF, at(PEER)), 0);
    assert_eq!(alice.bind(&mut s, 0x4FFF, at("8.8.8.8:1")), 400);
    assert_eq!(alice.bind(&mut s, 0x4000, at(PEER)), 400);
    assert_eq!(alice.bind(&mut s, 0x4FFF, at(PEER)), 0);
    assert_eq!(alice.bind(&mut s, 0x4000, at("8.8.4.4:5005")), 0);
    s.reload(|settings| settings.channel_numbers = 0x4000..=0x7FFF);
    assert_eq!(alice.bind(&mut s, 0x7FFF, at("8.8.8.8:9")), 0);
    assert!(alice.send_channel(&mut s, 0x7FFF, b"x").is_some());
    let half = alice.request(&mut s, Method::CHANNEL_BIND, |b| done(b.channel_number(0x4003)));
    let other = alice.request(&mut s, Method::CHANNEL_BIND, |b| done(b.xor_peer_address(at(PEER))));
    let none = alice.request(&mut s, Method::CREATE_PERMISSION, |_| {});
    assert_eq!((half.code(), other.code(), none.code()), (400, 400, 400));
}

#[test]
fn permissions_last_five_minutes_and_channels_ten_and_each_refresh_renews() {
    let (mut s, mut alice, relay) = allocated();
    alice.refresh(&mut s, 3_600);
    alice.bind(&mut s, 0x4001, at(PEER));
    s.advance(secs(299));
    assert!(s.peer_sends(relay, at(PEER), b"x").is_some());
    s.advance(secs(2));
    // The permission is over, the channel not yet (RFC 8656 §12).
    assert_eq!(s.peer_sends(relay, at(PEER), b"x"), None);
    assert!(alice.send_channel(&mut s, 0x4001, b"x").is_some());
    assert_eq!(alice.permit(&mut s, at(PEER)), 0);
    assert_eq!(s.peer_sends(relay, at(PEER), b"x").unwrap().1[0], 0x40);
    s.advance(secs(298));
    assert_eq!(alice.bind(&mut s, 0x4001, at(PEER)), 0);
    s.advance(secs(299));
    assert!(s.peer_sends(relay, at(PEER), b"x").is_some());
    s.advance(secs(302));
    assert_eq!(alice.send_channel(&mut s, 0x4001, b"x"), None);
    // Number and peer are free for others now.
    assert_eq!(alice.bind(&mut s, 0x4001, at("8.8.8.8:1")), 0);
}

#[test]
fn one_forbidden_peer_spoils_the_whole_create_permission() {
    let (mut s, mut alice, _) = allocated();
    let mixed = alice.request(&mut s, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(at(PEER)).xor_peer_address(at("127.0.0.1:1"));
    });
    assert_eq!((mixed.code(), alice.send(&mut s, at(PEER), b"x")), (403, None));
    let two = alice.request(&mut s, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(at(PEER)).xor_peer_address(at("8.8.8.8:1"));
    });
    assert_eq!(two.code(), 0);
    assert!(alice.send(&mut s, at(PEER), b"x").is_some() && alice.send(&mut s, at("8.8.8.8:7"), b"x").is_some());
    assert_eq!(alice.permit(&mut s, at(PEER6)), 443);
    assert_eq!(alice.bind(&mut s, 0x4000, at(PEER6)), 443);
}

#[test]
fn one_peer_serves_any_number_of_allocations_each_by_its_own_socket() {
    let mut s = Stage::new();
    let mut clients: Vec<Client> = (0..50).map(Client::alice_at).collect();
    let relays: Vec<RelayKey> = clients
        .iter_mut()
        .map(|client| {
            let relayed = client.allocated(&mut s);
            assert_eq!(client.bind(&mut s, 0x4000, at(PEER)), 0);
            s.relay_at(relayed)
        })
        .collect();
    for (client, relay) in clients.iter_mut().zip(relays) {
        let up = channel_data(0x4000, b"x");
        assert_eq!(s.input(&client.path, &up).unwrap().relay, relay);
        assert_eq!(s.peer_sends(relay, at(PEER), b"y").unwrap().0, client.path);
    }
}

#[test]
fn dont_fragment_travels_with_a_send_and_strange_sends_are_dropped() {
    let (mut s, mut alice, _) = allocated();
    alice.permit(&mut s, at(PEER));
    let mut buffer = [0; 256];
    let id = alice.id();
    let mut send = |write: &dyn Fn(&mut MessageBuilder<'_>)| {
        let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, id);
        write(&mut builder);
        let length = builder.finish().unwrap();
        s.input(&alice.path, &buffer[..length])
    };
    let with_df = send(&|b| done(b.xor_peer_address(at(PEER)).attr(AttributeType::DONT_FRAGMENT, &[]).data(b"x")));
    assert!(with_df.unwrap().dont_fragment);
    assert!(!send(&|b| done(b.xor_peer_address(at(PEER)).data(b"x"))).unwrap().dont_fragment);
    assert_eq!(send(&|b| done(b.data(b"x"))), None);
    assert_eq!(send(&|b| done(b.xor_peer_address(at(PEER)))), None);
    assert_eq!(send(&|b| done(b.xor_peer_address(at(PEER)).data(b"x").attr(AttributeType(0x7FFE), &[]))), None);
    assert_eq!(send(&|b| done(b.xor_peer_address(at("8.8.4.4:0")).data(b"x"))), None);
}

#[test]
fn an_icmp_error_is_told_to_the_client_that_may_hear_of_the_peer() {
    let (mut s, mut alice, relay) = allocated();
    let unreachable = IcmpError { kind: 3, code: 3, data: 0 };
    let too_big = IcmpError { kind: 3, code: 4, data: 1_400 };
    s.shard.handle_icmp(s.now, relay, at(PEER), unreachable);
    assert_eq!(s.shard.transmits().len(), 0);
    alice.permit(&mut s, at(PEER));
    s.shard.handle_icmp(s.now, relay, at(PEER), IcmpError { kind: 0, ..unreachable });
    assert_eq!(s.shard.transmits().len(), 0);
    s.shard.handle_icmp(s.now, relay, at(PEER), too_big);
    let told: Vec<Vec<u8>> = s.shard.transmits().map(|t| t.bytes.to_vec()).collect();
    let message = Message::parse(&told[0]).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
    assert_eq!(message.xor_peer_address().unwrap(), Some(at(PEER)));
    // Seven bits of type, nine of code, then the data (RFC 8656 §18.13).
    assert_eq!(message.raw(AttributeType::ICMP), Some(&[0, 0, 0x06, 0x04, 0, 0, 0x05, 0x78][..]));
    assert_eq!(message.data(), None);
}

#[test]
fn permissions_channels_and_new_peers_are_capped_for_each_allocation() {
    let mut s = Stage::with(|setup| {
        setup.settings.permissions_max = 30;
        setup.settings.channels_max = 10;
        setup.settings.new_peers = Rate { per_second: 2, burst: 20 };
    });
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    let peer = |n: u32| at(&format!("8.8.{}.{}:7", n / 250, n % 250 + 1));
    let codes: Vec<u16> = (0..25).map(|n| alice.permit(&mut s, peer(n))).collect();
    assert_eq!(codes, [[0; 20].as_slice(), &[508; 5]].concat());
    assert_eq!(s.denied.last().unwrap().why, Denial::Request(Refused::NewPeersTooFast));
    // Who is known may always be named again.
    assert_eq!(alice.permit(&mut s, peer(3)), 0);
    s.advance(secs(10));
    let codes: Vec<u16> = (20..40).map(|n| alice.permit(&mut s, peer(n))).collect();
    assert_eq!(codes, [[0; 10].as_slice(), &[508; 10]].concat());
    assert_eq!(s.denied.last().unwrap().why, Denial::Request(Refused::TooManyPeers));
    let codes: Vec<u16> = (0..12).map(|n| alice.bind(&mut s, 0x4000 + n, peer(u32::from(n)))).collect();
    assert_eq!(codes, [[0; 10].as_slice(), &[508; 2]].concat());
    // What has ended makes room.
    s.advance(secs(400));
    assert_eq!(alice.permit(&mut s, peer(41)), 0);
}

#[test]
fn a_reload_takes_away_the_peers_that_are_forbidden_now() {
    let (mut s, mut alice, relay) = allocated();
    alice.bind(&mut s, 0x4001, at(PEER));
    alice.permit(&mut s, at("8.8.8.8:1"));
    s.reload(|settings| settings.policy.denied.push("8.8.4.0/24".parse().unwrap()));
    assert_eq!(alice.send_channel(&mut s, 0x4001, b"x"), None);
    assert_eq!(s.peer_sends(relay, at(PEER), b"x"), None);
    assert!(alice.send(&mut s, at("8.8.8.8:1"), b"x").is_some());
}

#[test]
fn what_broke_an_invariant_ends_by_itself() {
    let mut stage = Stage::new();
    let (mut broken, mut whole, mut other) = (Client::alice_at(1), Client::alice_at(2), Client::alice_at(3));
    for client in [&mut broken, &mut whole, &mut other] {
        client.allocated(&mut stage);
        assert_eq!(client.permit(&mut stage, at(PEER)), 0);
    }
    stage.shard.quarantine(stage.now, &broken.path);
    stage.command(Command::Drain);
    let relay = stage.relay_at(*stage.sockets.values().next().unwrap());
    assert_eq!((stage.shard.gauges().allocations, stage.sockets.len()), (2, 2));
    assert!(broken.send(&mut stage, at(PEER), b"gone").is_none());
    stage.shard.quarantine_relay(stage.now, relay);
    stage.command(Command::Drain);
    assert_eq!((stage.shard.gauges().allocations, stage.sockets.len()), (1, 1));
    let left = [&mut whole, &mut other].map(|client| client.send(&mut stage, at(PEER), b"on").is_some());
    assert_eq!(left.iter().filter(|goes_on| **goes_on).count(), 1);
    assert_eq!(stage.shard.counters().panics, 2);
    assert!(stage.ended.iter().all(|ended| ended.cause == EndCause::Broken) && stage.ended.len() == 2);
}
