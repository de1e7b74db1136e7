//! Quotas and bandwidth: who holds how much, until when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use stage::*;

fn limited(limits: QuotaLimits) -> Stage {
    Stage::with(|setup| setup.limits = limits)
}

#[test]
fn a_users_quota_is_held_until_the_allocation_is_really_gone() {
    let mut s = limited(QuotaLimits { allocations_per_user: 1, ..QuotaLimits::default() });
    let mut first = Client::by(tcp("5.5.5.5:1", 1), "alice", "sesame");
    first.allocated(&mut s);
    let mut second = Client::alice_at(2);
    assert_eq!(second.allocate(&mut s, |_| {}).code(), 486);
    assert_eq!(s.denied.last().unwrap().why, Denial::Request(Refused::Quota(QuotaError::User(1))));
    Client::new("5.5.5.6:1", "bob", "open").allocated(&mut s);
    s.advance(secs(599));
    assert_eq!(second.allocate(&mut s, |_| {}).code(), 486);
    s.command(Command::ClientClosed { path: first.path });
    second.allocated(&mut s);
}

/// Whoever asks call-control for credentials every second is still one user.
#[test]
fn new_rest_credentials_of_the_same_user_bring_no_new_quota() {
    let mut s = limited(QuotaLimits { allocations_per_user: 2, ..QuotaLimits::default() });
    let mut carol = |n: u64, user: &str| {
        let mut client = Client::rest(&format!("5.5.5.5:{}", n + 1), UNIX_S + 60 + n, user, b"north");
        client.allocate(&mut s, |_| {}).code()
    };
    assert_eq!((carol(0, "carol"), carol(1, "carol"), carol(2, "carol"), carol(3, "dave")), (0, 0, 486, 0));
    // A name that is only a time is a user of its own, as in coturn.
    assert_eq!((carol(4, ""), carol(5, ""), carol(6, "")), (0, 0, 0));
    s.command(revocation(&[("carol", u64::MAX)], &[]));
    assert_eq!(s.ended.iter().filter(|ended| ended.user.ends_with(":carol")).count(), 2);
    s.command(Command::EndAll { cause: EndCause::ServerStopped });
    s.expect_empty();
}

/// As call-control hands them out: each join of a call brings another name of the same account.
fn lodger(n: u32, expires: u64) -> Client {
    let name = format!("{expires}:bob");
    let password = offhook_wire_stun::credentials::password(b"north", &name);
    Client::new(&format!("5.5.6.{n}:1"), &name, &password)
}

#[test]
fn revoking_an_account_ends_what_it_has_under_whichever_credentials_and_keeps_it_out() {
    let mut s = Stage::new();
    let far = 4_000_000_000;
    lodger(1, far).allocated(&mut s);
    lodger(2, far + 1).allocated(&mut s);
    Client::alice().allocated(&mut s);
    s.command(revocation(&[("bob", far + 1)], &[("bob", far + 1)]));
    assert_eq!(s.ended.iter().map(|ended| ended.cause).collect::<Vec<_>>(), [EndCause::Revoked; 2]);
    assert_eq!(s.shard.gauges().allocations, 1);
    assert_eq!(lodger(1, far).allocate(&mut s, |_| {}).code(), 401);
    lodger(1, far + 2).allocated(&mut s);
}

/// Told again to a server that was away: what an account has begun since under later credentials is not meant.
#[test]
fn many_are_revoked_at_once_and_later_credentials_are_not_meant() {
    let mut s = Stage::new();
    let far = 4_000_000_000;
    let mut kept = lodger(1, far + 2);
    kept.allocated(&mut s);
    lodger(2, far).allocated(&mut s);
    Client::alice().allocated(&mut s);
    s.command(revocation(&[("bob", far + 1), ("alice", 1), ("nobody", far)], &[("bob", far + 1)]));
    assert_eq!(s.ended.iter().filter(|ended| ended.cause == EndCause::Revoked).count(), 2);
    assert_eq!((s.shard.gauges().allocations, kept.refresh(&mut s, 600).code()), (1, 0));
    assert_eq!(lodger(3, far + 1).allocate(&mut s, |_| {}).code(), 401);
    // New settings carry what is still revoked, and nothing else.
    s.reload(|settings| done(settings.users.revoke("bob", far)));
    lodger(4, far + 1).allocated(&mut s);
    assert_eq!(lodger(5, far).allocate(&mut s, |_| {}).code(), 401);
}

/// What a name means may change while its allocation lives.
#[test]
fn quota_goes_back_to_the_account_that_it_was_taken_from() {
    let mut s = limited(QuotaLimits { allocations_per_user: 1, ..QuotaLimits::default() });
    let mut carol = Client::rest("5.5.5.5:1", UNIX_S + 60, "carol", b"north");
    carol.allocated(&mut s);
    s.reload(|settings| done(settings.users.set_separator('!')));
    s.advance(secs(601));
    s.expect_empty();
}

#[test]
fn a_refused_allocate_holds_no_quota() {
    let mut s = Stage::with(|setup| {
        setup.limits.allocations_per_user = 1;
        setup.ports = 50_000..=50_000;
    });
    s.taken.insert(at("198.51.100.1:50000"));
    let mut alice = Client::alice();
    for _ in 0..3 {
        assert_eq!(alice.allocate(&mut s, |_| {}).code(), 508);
    }
    s.expect_empty();
    s.taken.clear();
    alice.allocated(&mut s);
}

#[test]
fn the_total_quota_and_the_shards_own_cap_stop_everybody() {
    let mut s = limited(QuotaLimits { allocations: 3, ..QuotaLimits::default() });
    let codes: Vec<u16> = (0..4).map(|n| Client::alice_at(n).allocate(&mut s, |_| {}).code()).collect();
    assert_eq!(codes, [0, 0, 0, 486]);
    let mut s = Stage::with(|setup| setup.allocations_max = 2);
    let codes: Vec<u16> = (0..3).map(|n| Client::alice_at(n).allocate(&mut s, |_| {}).code()).collect();
    assert_eq!(codes, [0, 0, 508]);
}

fn through(s: &mut Stage, client: &mut Client, relay: RelayKey, packets: usize) -> (usize, usize) {
    let up = (0..packets).filter(|_| client.send(s, at(PEER), &[0; 100]).is_some()).count();
    let down = (0..packets).filter(|_| s.peer_sends(relay, at(PEER), &[0; 100]).is_some()).count();
    (up, down)
}

#[test]
fn max_bps_holds_for_each_allocation_and_each_direction() {
    let mut s = limited(QuotaLimits { bytes_per_second: 1_000, ..QuotaLimits::default() });
    let mut clients: Vec<(Client, RelayKey)> = (0..2)
        .map(|n| {
            let mut client = Client::alice_at(n);
            let relayed = client.allocated(&mut s);
            client.permit(&mut s, at(PEER));
            (client, s.relay_at(relayed))
        })
        .collect();
    for (client, relay) in &mut clients {
        assert_eq!(through(&mut s, client, *relay, 15), (10, 10));
    }
    assert_eq!(s.shard.counters().dropped_bandwidth, 20);
    s.advance(std::time::Duration::from_millis(500));
    let (client, relay) = &mut clients[0];
    assert_eq!(through(&mut s, client, *relay, 15), (5, 5));
    let (up, down) = {
        client.refresh(&mut s, 0);
        (s.ended[0].up, s.ended[0].down)
    };
    assert_eq!((up.packets, up.bytes, down.packets, down.bytes), (15, 1_500, 15, 1_500));
}

#[test]
fn the_capacity_is_promised_to_allocations_and_given_back() {
    let mut s =
        limited(QuotaLimits { bytes_per_second: 600, capacity_bytes_per_second: 1_000, ..QuotaLimits::default() });
    let mut clients: Vec<Client> = (0..3).map(Client::alice_at).collect();
    let codes: Vec<u16> = clients.iter_mut().map(|client| client.allocate(&mut s, |_| {}).code()).collect();
    assert_eq!(codes, [0, 0, 486]);
    clients[0].refresh(&mut s, 0);
    assert_eq!(clients[2].allocate(&mut s, |_| {}).code(), 0);
}

#[test]
fn without_max_bps_the_capacity_is_shared_by_all() {
    let mut s = Stage::with(|setup| setup.settings.shard_bytes_per_second = 1_500);
    let mut carried = 0;
    for n in 0..2 {
        let mut client = Client::alice_at(n);
        let relayed = client.allocated(&mut s);
        client.permit(&mut s, at(PEER));
        let relay = s.relay_at(relayed);
        carried += through(&mut s, &mut client, relay, 10).0;
    }
    assert_eq!(carried, 15);
}
