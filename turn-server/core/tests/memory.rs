//! A relayed packet allocates nothing, and an allocation is small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_testkit::CountingAllocator;
use offhook_turn_core::*;
use stage::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_relayed_packet_allocates_nothing_either_way() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    let relayed = alice.allocated(&mut s);
    let relay = s.relay_at(relayed);
    alice.bind(&mut s, 0x4000, at(PEER));
    alice.permit(&mut s, at("8.8.8.8:1"));
    let by_channel = channel_data(0x4000, &[7; 172]);
    let by_indication = alice.send_indication(at("8.8.8.8:1"), &[7; 172]);
    let forbidden = alice.send_indication(at("127.0.0.1:1"), &[7; 172]);
    let mut frame = vec![0; HEAD_ROOM + 172 + TAIL_ROOM];
    let payload = HEAD_ROOM..HEAD_ROOM + 172;
    let (now, path) = (s.now, alice.path);
    let (carried, allocations) = CountingAllocator::during(|| {
        let mut carried = 0;
        for _ in 0..1_000 {
            carried += usize::from(s.shard.handle_input(now, &path, &by_channel).is_some());
            carried += usize::from(s.shard.handle_input(now, &path, &by_indication).is_some());
            carried += usize::from(s.shard.handle_input(now, &path, &forbidden).is_some());
            for peer in [PEER, "8.8.8.8:1", "1.1.1.1:1"] {
                let peer = peer.parse().unwrap();
                carried += usize::from(s.shard.handle_peer(now, relay, peer, &mut frame, payload.clone()).is_some());
            }
        }
        carried
    });
    assert_eq!((carried, allocations), (4_000, 0));
}

#[test]
fn an_allocation_weighs_less_than_2_3_kib_and_gives_it_back() {
    const COUNT: u32 = 10_000;
    let mut s = Stage::with(|setup| setup.settings.unauthenticated = Rate::UNLIMITED);
    let mut clients: Vec<Client> = (0..COUNT)
        .map(|n| {
            let Client { path, .. } = Client::alice_at(n);
            // A user of its own for each, as REST credentials make them.
            let minted = offhook_wire_stun::credentials::mint(b"north", UNIX_S + 9_999, &format!("user{n}"));
            Client::by(path, &minted.username, &minted.password)
        })
        .collect();
    // The scripts' own memory is in place before the weighing: nonces and lists are as long as they get.
    let work = |s: &mut Stage, clients: &mut [Client]| {
        for client in clients {
            client.nonce.clear();
            client.nonce.reserve(32);
            let relayed = client.allocate(s, |_| {});
            assert_eq!(relayed.code(), 0);
            assert_eq!(client.bind(s, 0x4000, at(PEER)), 0);
        }
    };
    work(&mut s, &mut clients[..100]);
    clients[..100].iter_mut().for_each(|client| done(client.refresh(&mut s, 0)));
    s.started.clear();
    s.ended.clear();
    let before = CountingAllocator::bytes();
    work(&mut s, &mut clients);
    let stages_own = s.sockets.capacity() * 48 + s.started.capacity() * size_of::<Started>() + COUNT as usize * 32;
    let each = (CountingAllocator::bytes() - before - stages_own as i64) / i64::from(COUNT);
    assert!(each < 2_355, "{each} bytes");
    clients.iter_mut().for_each(|client| done(client.refresh(&mut s, 0)));
    s.expect_empty();
    s.sockets.shrink_to_fit();
    s.started = Vec::new();
    s.ended = Vec::new();
    let left = (CountingAllocator::bytes() - before) / i64::from(COUNT);
    assert!(left < 200, "{left} bytes of each are left; one weighed {each}");
    println!("{each} bytes an allocation with a channel, {left} left of each");
}
