//! Where clients are heard, and from where is relayed.
use crate::client::{Client, PATIENCE};
use crate::rig::{ALICE, Daemon, Place, free_port, page, until};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

/// `expected` says how patiently to wait.
fn by_udp(at: SocketAddr, expected: bool) -> bool {
    let mut client = Client::udp(at, "alice", "sesame");
    client.wait_at_most(if expected { PATIENCE } else { Duration::from_millis(400) });
    client.binding().is_some()
}

fn by_tcp(at: SocketAddr) -> bool {
    TcpStream::connect(at).is_ok() && Client::tcp(at, "alice", "sesame").binding().is_some()
}

fn by_tls(at: SocketAddr) -> bool {
    let mut command = Command::new("openssl");
    let output = command.args(["s_client", "-connect", &at.to_string()]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("BEGIN CERTIFICATE")
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[test]
fn every_port_on_every_address_is_served_by_udp_and_tcp() {
    let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
    let place = Place::new();
    let options = format!(
        "listening-ip=127.0.0.1\nlistening-ip=127.0.0.2\nlistening-port={}\ntls-listening-port={}\nalt-listening-port={}\n\
         alt-tls-listening-port={}\naux-server=127.0.0.3:{}\ncert=cert.pem\npkey=key.pem\n",
        ports[0], ports[1], ports[2], ports[3], ports[4]
    );
    let daemon = place.start(&format!("{ALICE}{options}"));
    for ip in ["127.0.0.1", "127.0.0.2"] {
        for port in &ports[..4] {
            assert!(by_udp(at(ip, *port), true) && by_tcp(at(ip, *port)), "{ip}:{port}");
        }
    }
    assert!(by_udp(at("127.0.0.3", ports[4]), true) && by_tcp(at("127.0.0.3", ports[4])));
    assert!(!by_udp(at("127.0.0.3", ports[0]), false));
    drop(daemon);
}

#[test]
fn carriers_can_be_left_out() {
    let tls = free_port();
    // UDP, TCP and TLS on the first port, UDP on the port of TLS.
    for (options, expected) in [
        ("", [true, true, true, true]),
        ("no-udp\n", [false, true, true, false]),
        ("no-tcp\n", [true, false, true, true]),
        ("no-tls\n", [true, true, false, true]),
        // Neither TLS nor DTLS: nobody listens at their port.
        ("no-tls\nno-dtls\n", [true, true, false, false]),
    ] {
        let daemon = Daemon::start(&format!("{ALICE}tls-listening-port={tls}\ncert=cert.pem\npkey=key.pem\n{options}"));
        let plain = daemon.at();
        let found =
            [by_udp(plain, expected[0]), by_tcp(plain), by_tls(plain), by_udp(at("127.0.0.1", tls), expected[3])];
        assert_eq!(found, expected, "{options}");
    }
}

#[test]
fn relays_stand_where_they_are_told_and_are_called_as_clients_reach_them() {
    let relay = |options: &str| {
        let daemon = Daemon::start(&format!("{ALICE}allow-loopback-peers\n{options}"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        let relayed = alice.allocate().relayed();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(alice.bind(0x4000, peer.local_addr().unwrap()), 0);
        alice.send_on(0x4000, b"x");
        let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(from.port(), relayed.port());
        (from.ip(), relayed.ip())
    };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(relay("relay-ip=127.0.0.4\n"), (ip("127.0.0.4"), ip("127.0.0.4")));
    assert_eq!(relay("relay-ip=127.0.0.4\nexternal-ip=198.51.100.7\n"), (ip("127.0.0.4"), ip("198.51.100.7")));
    let pairs = "relay-ip=127.0.0.4\nexternal-ip=198.51.100.9/127.0.0.9\nexternal-ip=198.51.100.4/127.0.0.4\n";
    assert_eq!(relay(pairs), (ip("127.0.0.4"), ip("198.51.100.4")));
}

/// A session of three packets of 100 bytes to a peer and two of 40 back, from its first request to its end.
fn session(daemon: &Daemon, user: &str, password: &str) {
    let mut client = Client::udp(daemon.at(), user, password);
    let relayed = client.allocate().relayed();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.bind(0x4000, peer.local_addr().unwrap()), 0);
    let mut buffer = [0; 128];
    for _ in 0..3 {
        client.send_on(0x4000, &[7; 100]);
        assert_eq!(peer.recv(&mut buffer).unwrap(), 100);
    }
    for _ in 0..2 {
        peer.send_to(&[8; 40], relayed).unwrap();
        assert_eq!(client.receive().unwrap().len(), 44);
    }
    let released = client.ask_logged_in(offhook_wire_stun::Method::REFRESH, |builder| {
        builder.lifetime_s(0);
    });
    assert_eq!(released.code(), 0);
    daemon.wait_for("allocation ended");
}

/// A sample of the page: `name{labels}`.
fn sample(page: &str, name: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn metrics_are_served_where_they_are_told_under_coturns_names() {
    let port = free_port();
    let options = format!(
        "{ALICE}use-auth-secret\nstatic-auth-secret=north\nallow-loopback-peers\nprometheus\nprometheus-port={port}\n\
         prometheus-address=127.0.0.5\nprometheus-path=/turn\n"
    );
    let daemon = Daemon::start(&format!("{options}prometheus-username-labels\n"));
    let metrics = at("127.0.0.5", port);
    assert!(page(metrics, "/").ends_with("ok") && page(metrics, "/metrics").contains("404"));
    assert!(page(metrics, "/turn").contains("turn_total_allocations{type=\"UDP\"} 0"));
    let pairs = ["bob", "bob", "eve"].map(|user| offhook_wire_stun::credentials::mint(b"north", 4_000_000_000, user));
    pairs.iter().for_each(|pair| session(&daemon, &pair.username, &pair.password));
    session(&daemon, "alice", "sesame");
    let shown = page(metrics, "/turn");
    for (user, sessions) in [("bob", 2), ("eve", 1), ("alice", 1)] {
        let of = |name: &str| sample(&shown, &format!("turn_traffic_{name}{{realm=\"example.org\",user=\"{user}\"}}"));
        let packets = ["rcvp", "peer_sentp", "sentp", "peer_rcvp"].map(of);
        assert_eq!(packets, [3 * sessions, 3 * sessions, 2 * sessions, 2 * sessions], "{user}");
        let bytes = ["rcvb", "peer_sentb", "sentb", "peer_rcvb"].map(of);
        assert_eq!(bytes, [300 * sessions, 300 * sessions, 80 * sessions, 80 * sessions], "{user}");
    }
    assert!(!shown.contains("4000000000"));
    // The totals run with the sessions, and are taken over a few times a second.
    until("all four are counted", || {
        let shown = page(metrics, "/turn");
        ["rcvp", "peer_sentp", "sentp", "peer_rcvp", "rcvb", "sentb"]
            .map(|name| sample(&shown, &format!("turn_total_traffic_{name}")))
            == [12, 12, 8, 8, 1_200, 320]
    });
    drop(daemon);
    let daemon = Daemon::start(&options);
    session(&daemon, "alice", "sesame");
    let shown = page(metrics, "/turn");
    assert_eq!(sample(&shown, "turn_traffic_sentb{realm=\"example.org\"}"), 80);
    assert!(!shown.contains("user="), "{shown}");
}

/// coturn's docs/Prometheus.md: by UDP alone, 401 alone, and dropped by the limit alone.
#[test]
fn refusals_are_counted_under_coturns_names_as_coturn_counts_them() {
    let daemon = Daemon::start(&format!("{ALICE}prometheus\nunauthorized-ratelimit-rps=1\n"));
    let counted = || {
        ["requests", "responses", "dropped_responses"]
            .map(|name| daemon.metric(&format!("turn_unauthenticated_401_{name} ")))
    };
    let ours = |name: &str| daemon.metric(&format!("offhook_turn_{name}_total "));
    let mut stranger = Client::tcp(daemon.at(), "alice", "sesame");
    assert_eq!(stranger.challenge().unwrap().code(), 401);
    // An empty nonce is none of ours: 438.
    let mut stranger = Client::udp(daemon.at(), "alice", "sesame");
    assert_eq!(stranger.ask(offhook_wire_stun::Method::REFRESH, true, |_| {}).unwrap().code(), 438);
    until("all are counted", || ours("challenges") == 1 && ours("stale_nonces") == 1);
    assert_eq!(counted(), [0, 0, 0]);
    stranger.wait_at_most(Duration::from_millis(50));
    (0..20).for_each(|_| drop(stranger.challenge()));
    until("all are counted", || ours("challenges") == 21);
    let [requests, responses, dropped] = counted();
    assert!(requests == 20 && responses > 0 && dropped > 0, "{requests} = {responses} + {dropped}");
    assert_eq!(responses + dropped, requests);
    let page = daemon.page();
    assert!(!page.contains("401_sent") && !page.contains("401_ratelimited"), "{page}");
}

/// `localhost` is known to every machine, without a name server.
#[test]
fn names_are_looked_up_at_start_as_coturn_does() {
    let daemon = Daemon::start(&format!("{ALICE}listening-ip=localhost\nrelay-ip=localhost\nexternal-ip=localhost\n"));
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    let relayed = alice.allocate().relayed();
    assert!(relayed.ip().is_loopback(), "{relayed}");
    let output = Place::new().refused(&format!("{ALICE}relay-ip=no.such.invalid\n"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("relay-ip: \"no.such.invalid\"") && output.status.code() == Some(78), "{said}");
}
