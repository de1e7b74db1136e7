//! How much and how long.
use crate::client::{Client, PATIENCE};
use crate::rig::{ALICE, Daemon, until};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const PAIR: &str = "lt-cred-mech\nuser=alice:sesame\nuser=bob:open\n";

fn client(daemon: &Daemon, user: &str) -> Client {
    let password = if user == "alice" { "sesame" } else { "open" };
    Client::udp(daemon.at(), user, password)
}

#[test]
fn quotas_hold_for_a_user_and_for_all() {
    let codes = |options: &str| {
        let daemon = Daemon::start(&format!("{PAIR}{options}"));
        ["alice", "alice", "bob", "bob"].map(|user| client(&daemon, user).allocate().code())
    };
    assert_eq!(codes("user-quota=1\n"), [0, 486, 0, 486]);
    assert_eq!(codes("total-quota=3\n"), [0, 0, 0, 486]);
    assert_eq!(codes(""), [0; 4]);
}

#[test]
fn the_capacity_is_promised_in_shares_of_the_bandwidth() {
    let daemon = Daemon::start(&format!("{PAIR}max-bps=4000\nbps-capacity=8000\n"));
    let codes = ["alice", "bob", "alice"].map(|user| client(&daemon, user).allocate().code());
    assert_eq!(codes, [0, 0, 486]);
    daemon.wait_for("bandwidth of 8000");
}

/// For an answer that is not to come.
const SHORT: Duration = Duration::from_millis(400);

/// Packets of 100 bytes that arrive of so many sent at once.
fn arrive(options: &str, sent: usize) -> usize {
    let daemon = Daemon::start(&format!("{PAIR}allow-loopback-peers\n{options}"));
    let mut alice = client(&daemon, "alice");
    assert_eq!(alice.allocate().code(), 0);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(alice.bind(0x4000, peer.local_addr().unwrap()), 0);
    (0..sent).for_each(|_| alice.send_on(0x4000, &[7; 100]));
    let mut buffer = [0; 128];
    std::iter::from_fn(|| peer.recv(&mut buffer).ok()).take(sent).count()
}

#[test]
fn what_is_over_the_bandwidth_of_a_session_or_of_all_is_dropped() {
    assert_eq!(arrive("", 200), 200);
    for options in ["max-bps=2000\n", "bps-capacity=2000\n"] {
        let count = arrive(options, 200);
        assert!((1..100).contains(&count), "{options}: {count}");
    }
}

#[test]
fn an_allocation_lasts_no_longer_than_the_file_allows() {
    let lifetime = |options: &str| {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let answer = client(&daemon, "alice").allocate_with(|builder| {
            builder.lifetime_s(3_000);
        });
        answer.lifetime()
    };
    assert_eq!((lifetime("max-allocate-lifetime=700\n"), lifetime("")), (700, 3_000));
}

/// Whether a peer's packets reach the client for longer than two seconds; `expected` says how patiently to look.
fn outlives(options: &str, by_channel: bool, expected: bool) -> bool {
    let daemon = Daemon::start(&format!("{ALICE}allow-loopback-peers\nverbose\n{options}"));
    let mut alice = client(&daemon, "alice");
    let relayed = alice.allocate().relayed();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = peer.local_addr().unwrap();
    let code = if by_channel { alice.bind(0x4000, address) } else { alice.permit(address) };
    assert_eq!(code, 0);
    if !expected {
        alice.wait_at_most(SHORT);
    }
    let until = Instant::now() + Duration::from_secs(2);
    let mut last = false;
    while !last {
        last = Instant::now() > until;
        peer.send_to(b"hello", relayed).unwrap();
        // A channel that ended leaves its permission, and its data come as indications.
        if !alice.receive().is_some_and(|bytes| !by_channel || bytes[0] == 0x40) {
            return false;
        }
        // The daemon's clock runs, and nothing else tells that it did.
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

#[test]
fn permissions_and_channels_last_as_long_as_the_file_says() {
    assert!(!outlives("permission-lifetime=1\n", false, false));
    assert!(!outlives("channel-lifetime=1\n", true, false));
    assert!(outlives("", false, true) && outlives("", true, true));
}

#[test]
fn answers_to_who_has_not_logged_in_are_rare() {
    let answered = |options: &str, patience: Duration| {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut stranger = client(&daemon, "alice");
        stranger.wait_at_most(patience);
        (0..20).filter(|_| stranger.challenge().is_some()).count()
    };
    let few = answered("unauthorized-ratelimit-rps=1\n", Duration::from_millis(100));
    assert!((1..15).contains(&few), "{few}");
    assert_eq!(answered("unauthorized-ratelimit-rps=1\nunauthorized-ratelimit=off\n", PATIENCE), 20);
}

#[test]
fn either_half_of_the_server_can_be_left_out() {
    for (options, binds, relays) in [("", true, true), ("stun-only\n", true, false), ("no-stun\n", false, true)] {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut alice = client(&daemon, "alice");
        let patience = |expected: bool| if expected { PATIENCE } else { SHORT };
        alice.wait_at_most(patience(binds));
        assert_eq!(alice.binding().is_some(), binds, "{options}");
        alice.wait_at_most(patience(relays));
        assert_eq!(alice.challenge().is_some_and(|answer| answer.code() == 401), relays, "{options}");
    }
}

#[test]
fn ports_are_taken_from_the_range_until_there_is_none() {
    let first = (0..).map(|_| crate::rig::free_port() & !1).find(|port| *port > 1_024).unwrap();
    let daemon = Daemon::start(&format!("{PAIR}min-port={first}\nmax-port={}\n", first + 1));
    let mut clients = ["alice", "bob", "alice"].map(|user| client(&daemon, user));
    let answers = clients.each_mut().map(|client| client.allocate());
    assert_eq!(answers.each_ref().map(|answer| answer.code()), [0, 0, 508]);
    let mut ports = [answers[0].relayed().port(), answers[1].relayed().port()];
    ports.sort_unstable();
    assert_eq!(ports, [first, first + 1]);
    until("a port is back", || {
        clients[0].ask_logged_in(offhook_wire_stun::Method::REFRESH, |builder| {
            builder.lifetime_s(0);
        });
        clients[2].allocate().code() == 0
    });
}
