//! Allocate and Refresh: RFC 8656 §7 and §8.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::{AddressFamily, AttributeType, Method};
use stage::*;

#[test]
fn a_session_from_its_challenge_to_its_release_leaves_nothing() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    let relayed = alice.allocated(&mut s);
    assert_eq!(relayed.ip(), at("198.51.100.1:0").ip());
    assert!((49_152..=65_535).contains(&relayed.port()));
    assert_eq!(s.sockets.values().collect::<Vec<_>>(), [&relayed]);
    assert_eq!(s.started[0].relayed, [Some(relayed), None]);
    assert_eq!((s.shard.sessions().count(), s.ledger.0.lock().unwrap().allocations()), (1, 1));
    s.advance(secs(5));
    let gone = alice.refresh(&mut s, 0);
    assert_eq!((gone.code(), gone.lifetime()), (0, 0));
    s.expect_empty();
    assert_eq!((s.ended[0].cause, s.ended[0].duration, &*s.ended[0].user), (EndCause::Released, secs(5), "alice"));
    // The same port of the client is free at once.
    assert_ne!(alice.allocated(&mut s), relayed);
}

#[test]
fn an_allocation_that_is_not_refreshed_ends_with_its_lifetime() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    s.advance(secs(599));
    assert_eq!(s.shard.gauges().allocations, 1);
    assert_eq!(alice.refresh(&mut s, 1_200).lifetime(), 1_200);
    s.advance(secs(1_199));
    assert_eq!(s.shard.gauges().allocations, 1);
    s.advance(secs(2));
    s.expect_empty();
    assert_eq!(s.ended[0].cause, EndCause::Expired);
    assert_eq!(alice.refresh(&mut s, 600).code(), 437);
}

#[test]
fn lifetimes_stay_between_the_default_and_the_maximum() {
    let mut s = Stage::new();
    for (n, (asked, granted)) in
        [(Some(1), 600), (None, 600), (Some(700), 700), (Some(u32::MAX), 3_600)].into_iter().enumerate()
    {
        let answer = Client::alice_at(n as u32).allocate(&mut s, |builder| {
            asked.into_iter().for_each(|seconds| {
                builder.lifetime_s(seconds);
            });
        });
        assert_eq!((answer.code(), answer.lifetime()), (0, granted));
    }
}

#[test]
fn a_repeated_allocate_gets_its_answer_again_and_another_one_is_a_mismatch() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    alice.nonce = challenge(&mut s, &mut alice.clone()).nonce();
    let request = alice.sealed(Method::ALLOCATE, |b| {
        b.requested_transport(17);
    });
    let (first, again) = (s.answer(&alice.path, &request), s.answer(&alice.path, &request));
    assert_eq!((first.code(), &first.0), (0, &again.0));
    assert_eq!(alice.allocate(&mut s, |_| {}).code(), 437);
    assert_eq!((s.shard.gauges().allocations, s.binds), (1, 1));
}

fn challenge(s: &mut Stage, client: &mut Client) -> Answer {
    let datagram = client.plain(Method::ALLOCATE, |b| {
        b.requested_transport(17);
    });
    s.answer(&client.path, &datagram)
}

#[test]
fn each_step_refuses_with_its_own_code() {
    let mut s = Stage::with(|setup| setup.relays.truncate(1));
    let mut n = 0;
    let mut code = |write: &dyn Fn(&mut offhook_wire_stun::MessageBuilder<'_>)| {
        n += 1;
        Client::alice_at(n).request(&mut s, Method::ALLOCATE, |b| write(b)).code()
    };
    // Step 3.
    assert_eq!(code(&|_| {}), 400);
    assert_eq!(code(&|b| done(b.requested_transport(6))), 442);
    assert_eq!(code(&|b| done(b.attr(AttributeType::REQUESTED_TRANSPORT, &[17]))), 400);
    // Step 5.
    assert_eq!(code(&|b| done(b.requested_transport(17).reservation_token([9; 8]).even_port(false))), 400);
    assert_eq!(code(&|b| done(b.requested_transport(17).reservation_token([9; 8]))), 508);
    // Steps 6 to 8.
    let additional = AttributeType::ADDITIONAL_ADDRESS_FAMILY;
    assert_eq!(
        code(&|b| done(
            b.requested_transport(17).requested_address_family(AddressFamily::V4).attr(additional, &[2, 0, 0, 0])
        )),
        400
    );
    assert_eq!(code(&|b| done(b.requested_transport(17).requested_address_family(AddressFamily::V6))), 440);
    let strange = AttributeType::REQUESTED_ADDRESS_FAMILY;
    assert_eq!(code(&|b| done(b.requested_transport(17).attr(strange, &[9, 0, 0, 0]))), 440);
    assert_eq!(code(&|b| done(b.requested_transport(17).attr(additional, &[1, 0, 0, 0]))), 400);
    assert_eq!(code(&|b| done(b.requested_transport(17).even_port(true).attr(additional, &[2, 0, 0, 0]))), 400);
    // What we do not understand, and DONT-FRAGMENT, which we do.
    assert_eq!(code(&|b| done(b.requested_transport(17).attr(AttributeType(0x7FFF), &[]))), 420);
    assert_eq!(code(&|b| done(b.requested_transport(17).attr(AttributeType::DONT_FRAGMENT, &[]))), 0);
    assert_eq!(s.shard.gauges().allocations, 1);
}

#[test]
fn ipv6_is_relayed_when_asked_for_and_ipv4_otherwise() {
    let mut s = Stage::new();
    let v6 = Client::alice_at(1).allocate(&mut s, |b| {
        b.requested_address_family(AddressFamily::V6);
    });
    assert!(v6.relayed().is_ipv6());
    assert!(Client::alice_at(2).allocated(&mut s).is_ipv4());
    s.reload(|settings| settings.default_family = DefaultFamily::V6);
    assert!(Client::alice_at(3).allocated(&mut s).is_ipv6());
    s.reload(|settings| settings.default_family = DefaultFamily::AsClient);
    assert!(Client::alice_at(4).allocated(&mut s).is_ipv4());
    assert!(Client::new("[2a00::9]:4000", "alice", "sesame").allocated(&mut s).is_ipv6());
}

fn both(b: &mut offhook_wire_stun::MessageBuilder<'_>) {
    b.attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
}

#[test]
fn both_families_come_in_one_allocation_and_end_one_by_one() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    let answer = alice.allocate(&mut s, both);
    let names = attribute_names(&answer);
    assert_eq!(names.iter().filter(|name| **name == AttributeType::XOR_RELAYED_ADDRESS).count(), 2);
    assert_eq!((s.sockets.len(), s.shard.gauges().allocations), (2, 1));
    assert_eq!((alice.permit(&mut s, at(PEER)), alice.permit(&mut s, at(PEER6))), (0, 0));
    assert!(alice.send(&mut s, at(PEER6), b"six").is_some() && alice.send(&mut s, at(PEER), b"four").is_some());
    let released = alice.request(&mut s, Method::REFRESH, |b| {
        b.lifetime_s(0).requested_address_family(AddressFamily::V4);
    });
    assert_eq!((released.code(), s.sockets.len()), (0, 1));
    assert!(alice.send(&mut s, at(PEER6), b"six").is_some() && alice.send(&mut s, at(PEER), b"four").is_none());
    assert_eq!(alice.permit(&mut s, at(PEER)), 443);
    let wrong = alice.request(&mut s, Method::REFRESH, |b| {
        b.requested_address_family(AddressFamily::V4);
    });
    assert_eq!(wrong.code(), 443);
    s.advance(secs(601));
    s.expect_empty();
    // The number that the draft gave the attribute.
    let old = Client::alice_at(7).allocate(&mut s, |b| {
        b.attr(AttributeType(0x8032), &[2, 0, 0, 0]);
    });
    assert_eq!((old.code(), s.sockets.len()), (0, 2));
}

#[test]
fn a_family_that_is_not_here_is_told_beside_the_one_that_is() {
    let mut only_v4 = Stage::with(|setup| setup.relays.truncate(1));
    let answer = Client::alice().allocate(&mut only_v4, both);
    assert!(answer.relayed().is_ipv4());
    assert_eq!(answer.message().raw(AttributeType::ADDRESS_ERROR_CODE), Some(&[2, 0, 4, 40][..]));
    let mut only_v6 = Stage::with(|setup| done(setup.relays.remove(0)));
    let answer = Client::alice().allocate(&mut only_v6, both);
    assert!(answer.relayed().is_ipv6());
    assert_eq!(answer.message().raw(AttributeType::ADDRESS_ERROR_CODE), Some(&[1, 0, 4, 40][..]));
    assert_eq!(Client::alice_at(1).allocate(&mut only_v6, |_| {}).code(), 440);
}

#[test]
fn a_reserved_pair_is_taken_by_its_token_once_and_by_its_user_only() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    let answer = alice.allocate(&mut s, |b| {
        b.even_port(true);
    });
    let (even, token) = (answer.relayed(), answer.message().reservation_token().unwrap().unwrap());
    assert!(even.port() % 2 == 0 && s.shard.gauges().reservations == 1);
    let take = |s: &mut Stage, mut client: Client| {
        client.allocate(s, |b| {
            b.reservation_token(token);
        })
    };
    assert_eq!(take(&mut s, Client::new("5.5.5.5:5", "bob", "open")).code(), 508);
    let taken = take(&mut s, Client::alice_at(1));
    assert_eq!((taken.code(), taken.relayed().port()), (0, even.port() + 1));
    assert_eq!(take(&mut s, Client::alice_at(2)).code(), 508);
    assert_eq!((s.binds, s.shard.gauges().reservations), (3, 0));
}

#[test]
fn a_reservation_that_nobody_takes_is_freed_after_thirty_seconds_or_with_its_allocation() {
    let mut s = Stage::new();
    let free = s.shard.gauges().free_ports;
    let mut alice = Client::alice();
    let reserve = |b: &mut offhook_wire_stun::MessageBuilder<'_>| done(b.even_port(true));
    alice.allocate(&mut s, reserve);
    s.advance(secs(29));
    assert_eq!((s.sockets.len(), s.shard.gauges().reservations), (1, 1));
    s.advance(secs(2));
    assert_eq!((s.sockets.len(), s.shard.gauges().reservations), (1, 0));
    alice.refresh(&mut s, 0);
    for _ in 0..100 {
        assert_eq!(alice.allocate(&mut s, reserve).code(), 0);
        alice.refresh(&mut s, 0);
        s.expect_empty();
    }
    assert_eq!(s.shard.gauges().free_ports, free);
}

#[test]
fn a_token_is_good_at_another_thread_whose_draws_pass_the_kept_port_over() {
    let narrow = |setup: &mut Setup| setup.ports = 50_000..=50_003;
    let mut first = Stage::with(narrow);
    let mut second = first.thread(1, narrow);
    let answer = Client::alice().allocate(&mut first, |b| {
        b.even_port(true);
    });
    let (even, token) = (answer.relayed().port(), answer.message().reservation_token().unwrap().unwrap());
    let others: Vec<u16> = (1..=2).map(|n| Client::alice_at(n).allocated(&mut second).port()).collect();
    assert!(!others.contains(&(even + 1)), "{even} {others:?}");
    let taken = Client::alice_at(4).allocate(&mut second, |b| {
        b.reservation_token(token);
    });
    assert_eq!((taken.code(), taken.relayed().port()), (0, even + 1));
    // Its maker's timer finds nothing to end.
    first.advance(secs(40));
    assert_eq!((first.shard.gauges().reservations, second.sockets.len()), (0, 3));
    assert_eq!(first.ports.owner(taken.relayed()), Some(1));
    // Both addresses' ports, less the one of the first and the three of the second.
    assert_eq!((first.shard.gauges().free_ports, second.shard.gauges().free_ports), (7, 5));
}

#[test]
fn several_threads_allocate_the_whole_range_before_508_and_again_after_it_was_released() {
    let narrow = |setup: &mut Setup| {
        setup.ports = 50_000..=50_199;
        setup.settings.unauthenticated = Rate::UNLIMITED;
    };
    let first = Stage::with(narrow);
    let mut threads: Vec<Stage> = (1..4).map(|shard| first.thread(shard, narrow)).collect();
    threads.insert(0, first);
    for _ in 0..2 {
        let mut clients = Vec::new();
        for n in 0..200 {
            let thread = &mut threads[n as usize % 4];
            let mut client = Client::alice_at(n);
            client.allocated(thread);
            clients.push(client);
        }
        let binds: usize = threads.iter().map(|thread| thread.binds).sum();
        for thread in &mut threads {
            assert_eq!(Client::alice_at(999).allocate(thread, |_| {}).code(), 508);
        }
        assert_eq!(threads.iter().map(|thread| thread.binds).sum::<usize>(), binds, "what is ours is not tried");
        for (n, client) in clients.iter_mut().enumerate() {
            client.refresh(&mut threads[n % 4], 0);
        }
    }
}

/// Another thread would run into a socket of our own, and 64 of them are a 508.
#[test]
fn a_port_is_drawn_again_only_when_its_socket_is_closed() {
    let one = |setup: &mut Setup| setup.ports = 50_000..=50_000;
    let mut first = Stage::with(one);
    let mut second = first.thread(1, one);
    let mut alice = Client::alice();
    alice.allocated(&mut first);
    first.closes_late = true;
    assert_eq!(alice.refresh(&mut first, 0).code(), 0);
    assert_eq!((first.ended.len(), first.closing.len()), (1, 1));
    for stage in [&mut first, &mut second] {
        let before = stage.binds;
        assert_eq!(Client::alice_at(1).allocate(stage, |_| {}).code(), 508);
        assert_eq!(stage.binds, before, "nothing to be tried");
    }
    first.close();
    assert_eq!(Client::alice_at(1).allocate(&mut second, |_| {}).code(), 0);
    assert_eq!((first.shard.gauges().relays, first.sockets.len()), (0, 0));
}

/// The lower port of a pair whose upper one is another program's.
#[test]
fn half_a_pair_is_drawn_again_only_when_its_socket_is_closed() {
    let pair = |setup: &mut Setup| {
        setup.ports = 50_000..=50_001;
        setup.relays.truncate(1);
    };
    let mut first = Stage::with(pair);
    let mut second = first.thread(1, pair);
    for stage in [&mut first, &mut second] {
        stage.taken.insert(at("198.51.100.1:50001"));
    }
    first.closes_late = true;
    let answer = Client::alice().allocate(&mut first, |b| done(b.even_port(true)));
    assert_eq!((answer.code(), first.closing.len()), (508, 1));
    assert_eq!(Client::alice_at(1).allocate(&mut second, |_| {}).code(), 508);
    first.close();
    assert_eq!(Client::alice_at(1).allocated(&mut second).port(), 50_000);
    assert_eq!((first.shard.gauges().relays, first.shard.gauges().free_ports), (0, 2));
}

/// A twentieth of the range is free, and half of that is other programs'.
#[test]
fn what_is_free_among_others_ports_is_found() {
    let mut s = Stage::with(|setup| {
        setup.ports = 50_000..=51_999;
        setup.settings.unauthenticated = Rate::UNLIMITED;
    });
    s.taken.extend((50_000..50_050).map(|port| at(&format!("198.51.100.1:{port}"))));
    for n in 0..1_950 {
        let answer = Client::alice_at(n).allocate(&mut s, |_| {});
        assert_eq!(answer.code(), 0, "{n}");
    }
    assert_eq!(Client::alice_at(9_999).allocate(&mut s, |_| {}).code(), 508);
}

#[test]
fn an_even_port_alone_is_even_and_none_is_lost_in_a_loop() {
    let mut s = Stage::with(|setup| setup.ports = 50_000..=50_009);
    let mut clients: Vec<Client> = (0..5).map(Client::alice_at).collect();
    for round in 0..20 {
        for client in &mut clients {
            let answer = client.allocate(&mut s, |b| {
                b.even_port(false);
            });
            assert_eq!((answer.code(), answer.relayed().port() % 2), (0, 0), "{round}");
        }
        let none = Client::alice_at(9 + round).allocate(&mut s, |b| {
            b.even_port(false);
        });
        assert_eq!(none.code(), 508);
        clients.iter_mut().for_each(|client| done(client.refresh(&mut s, 0)));
        s.expect_empty();
    }
    assert_eq!(s.shard.gauges().free_ports, 20);
}

#[test]
fn ports_that_another_process_holds_are_passed_over_and_stay_in_the_game() {
    let mut s = Stage::with(|setup| setup.ports = 50_000..=50_009);
    s.taken.extend((50_000..50_009).map(|port| at(&format!("198.51.100.1:{port}"))));
    let mut alice = Client::alice();
    assert_eq!(alice.allocated(&mut s).port(), 50_009);
    assert_eq!(Client::alice_at(1).allocate(&mut s, |_| {}).code(), 508);
    assert_eq!(Client::alice_at(2).allocate(&mut s, |b| done(b.even_port(true))).code(), 508);
    assert_eq!(s.denied.last().unwrap().why, Denial::Request(Refused::PortsExhausted));
    alice.refresh(&mut s, 0);
    s.expect_empty();
    assert_eq!(s.shard.gauges().free_ports, 20);
    // A pair whose upper half is another's is drawn again as a pair.
    s.taken = [50_001, 50_003, 50_005, 50_007].map(|port| at(&format!("198.51.100.1:{port}"))).into();
    let answer = alice.allocate(&mut s, |b| done(b.even_port(true)));
    assert_eq!((answer.code(), answer.relayed().port(), s.sockets.len()), (0, 50_008, 1));
}

#[test]
fn an_exhausted_range_is_508_and_the_others_go_on() {
    let mut s = Stage::with(|setup| setup.ports = 50_000..=50_003);
    let mut clients: Vec<Client> = (0..4).map(Client::alice_at).collect();
    for client in &mut clients {
        client.allocated(&mut s);
        assert_eq!(client.permit(&mut s, at(PEER)), 0);
    }
    let refused = Client::alice_at(5).allocate(&mut s, |_| {});
    assert_eq!(refused.code(), 508);
    assert!(clients.iter_mut().all(|client| client.send(&mut s, at(PEER), b"still here").is_some()));
    clients[2].refresh(&mut s, 0);
    Client::alice_at(5).allocated(&mut s);
}

#[test]
fn relay_addresses_behind_nat_are_announced_and_the_local_ones_bound() {
    let mut s = Stage::with(|setup| {
        setup.relays =
            vec![RelayAddress { local: "10.0.0.5".parse().unwrap(), announced: "198.51.100.9".parse().unwrap() }];
    });
    let relayed = Client::alice().allocated(&mut s);
    assert_eq!(relayed.ip(), at("198.51.100.9:0").ip());
    assert_eq!(s.sockets.values().next(), Some(&at(&format!("10.0.0.5:{}", relayed.port()))));
}

#[test]
fn a_draining_server_keeps_its_sessions_and_refuses_new_ones_with_508() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    s.command(Command::Drain);
    let refused = Client::alice_at(1).allocate(&mut s, |_| {});
    assert_eq!((refused.code(), s.denied.last().unwrap().why), (508, Denial::Request(Refused::Draining)));
    s.advance(secs(500));
    assert_eq!(alice.refresh(&mut s, 600).code(), 0);
    assert_eq!(alice.permit(&mut s, at(PEER)), 0);
    assert!(alice.send(&mut s, at(PEER), b"on").is_some());
}

#[test]
fn a_closed_connection_and_a_revoked_user_end_what_was_theirs() {
    let mut s = Stage::new();
    let mut by_tcp = Client::by(tcp("203.0.113.7:40000", 1), "alice", "sesame");
    by_tcp.allocated(&mut s);
    // The same addresses over another protocol are another 5-tuple.
    let mut by_udp = Client::alice();
    by_udp.allocated(&mut s);
    s.command(Command::ClientClosed { path: by_tcp.path });
    assert_eq!((s.ended[0].cause, s.shard.gauges().allocations), (EndCause::ConnectionClosed, 1));
    let mut bob = Client::by(tcp("203.0.113.8:40000", 2), "bob", "open");
    bob.allocated(&mut s);
    s.command(revocation(&[("alice", u64::MAX)], &[]));
    assert_eq!((s.ended[1].cause, s.shard.gauges().allocations), (EndCause::Revoked, 1));
    s.command(Command::EndAll { cause: EndCause::ServerStopped });
    assert_eq!((s.ended[2].cause, s.closed[0]), (EndCause::ServerStopped, bob.path));
    s.expect_empty();
}

#[test]
fn ten_thousand_allocations_come_and_go_and_leave_no_port_timer_or_place_behind() {
    let mut s = Stage::with(|setup| setup.settings.unauthenticated = Rate::UNLIMITED);
    let free = s.shard.gauges().free_ports;
    for round in 0..3 {
        let mut clients: Vec<Client> = (0..10_000).map(Client::alice_at).collect();
        clients.iter_mut().for_each(|client| done(client.allocated_fast(&mut s)));
        assert_eq!(s.shard.gauges().allocations, 10_000, "{round}");
        clients.iter_mut().for_each(|client| done(client.refresh(&mut s, 0)));
        s.expect_empty();
        let gauges = s.shard.gauges();
        assert!(gauges.free_ports == free && gauges.timers < 2_100, "{gauges:?}");
        s.ended.clear();
        s.started.clear();
    }
}

trait Fast {
    fn allocated_fast(&mut self, s: &mut Stage) -> u16;
}

impl Fast for Client {
    fn allocated_fast(&mut self, s: &mut Stage) -> u16 {
        let answer = self.allocate(s, |_| {});
        assert_eq!(answer.code(), 0);
        answer.relayed().port()
    }
}

/// A shell that binds later than it is asked: the connection may be gone by then.
#[test]
fn a_client_that_leaves_while_its_pair_is_opened_leaves_no_port_behind() {
    for even_pair in [false, true] {
        let mut s = Stage::new();
        let free = s.shard.gauges().free_ports;
        let mut alice = Client::by(tcp("203.0.113.7:40000", 1), "alice", "sesame");
        alice.nonce = challenge(&mut s, &mut alice.clone()).nonce();
        let request = alice.sealed(Method::ALLOCATE, |b| {
            b.requested_transport(17).even_port(even_pair);
        });
        assert_eq!(s.shard.handle_input(s.now, &alice.path, &request), None);
        s.shard.handle_command(s.now, Command::ClientClosed { path: alice.path });
        s.command(Command::SetClock { unix_s: UNIX_S });
        s.expect_empty();
        assert_eq!(s.shard.gauges().free_ports, free, "pair: {even_pair}");
    }
}
