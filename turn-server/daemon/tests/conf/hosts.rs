//! Hosts with more addresses than one, or with less than a way out: a file that names none of them.
use crate::client::{Client, PATIENCE};
use crate::net::Namespace;
use crate::rig::{ALICE, Daemon, Place, page};
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// A file that leaves listening-ip and relay-ip to the server.
fn start(host: &Namespace, options: &str) -> Daemon {
    let place = Place::new();
    place.write(&format!("{ALICE}allow-loopback-peers\n{options}"));
    place.without("listening-ip=127.0.0.1\n");
    place.without("relay-ip=127.0.0.1\n");
    let mut command = host.command(env!("CARGO_BIN_EXE_offhook-turn"));
    command.arg("-c").arg(place.path("turnserver.conf"));
    Daemon::spawn(place, command)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// From where a peer at `by` hears a client that came to `by`, and what the client is told.
fn relay(daemon: &Daemon, by: &str) -> (IpAddr, IpAddr) {
    let mut alice = Client::udp(SocketAddr::new(ip(by), daemon.place.port), "alice", "sesame");
    let family =
        if ip(by).is_ipv6() { offhook_wire_stun::AddressFamily::V6 } else { offhook_wire_stun::AddressFamily::V4 };
    let relayed = alice.allocate_with(|builder| {
        builder.requested_address_family(family);
    });
    assert_eq!(relayed.code(), 0, "{by}");
    let peer = UdpSocket::bind((by, 0)).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(alice.bind(0x4000, peer.local_addr().unwrap()), 0, "{by}");
    alice.send_on(0x4000, b"x");
    let (_, from) = peer.recv_from(&mut [0; 8]).unwrap();
    (from.ip(), relayed.relayed().ip())
}

#[test]
fn a_host_without_a_way_out_relays_from_the_addresses_that_it_has() {
    let (host, other) = (Namespace::new(), Namespace::new());
    host.cable("eth", "10.3.0.1/24", &other, "10.3.0.2/24", 1_500);
    host.ip("addr add fd03::1/64 dev eth nodad");
    let daemon = start(&host, "");
    host.within(|| {
        for address in ["10.3.0.1", "fd03::1"] {
            assert_eq!(relay(&daemon, address), (ip(address), ip(address)));
        }
        // Nobody relays from loopback where there is anything else.
        assert_eq!(relay(&daemon, "127.0.0.1").1, ip("10.3.0.1"));
    });
}

#[test]
fn a_host_with_two_networks_relays_from_the_one_that_its_client_came_by() {
    let (host, wide, near) = (Namespace::new(), Namespace::new(), Namespace::new());
    host.cable("wan", "10.3.0.1/24", &wide, "10.3.0.2/24", 1_500);
    host.cable("lan", "10.2.0.1/24", &near, "10.2.0.2/24", 1_500);
    host.ip("addr add 169.254.7.7/16 dev lan");
    host.ip("route add default via 10.3.0.2");
    let pairs = "external-ip=198.51.100.3/10.3.0.1\nexternal-ip=198.51.100.2/10.2.0.1\n";
    let daemon = start(&host, pairs);
    host.within(|| {
        assert_eq!(relay(&daemon, "10.3.0.1"), (ip("10.3.0.1"), ip("198.51.100.3")));
        assert_eq!(relay(&daemon, "10.2.0.1"), (ip("10.2.0.1"), ip("198.51.100.2")));
        // Came by an address that relays nothing: out by the way out, each time.
        for _ in 0..8 {
            assert_eq!(relay(&daemon, "127.0.0.1").1, ip("198.51.100.3"));
        }
    });
    drop(daemon);
    let daemon = start(&host, "external-ip=198.51.100.9\n");
    daemon.signal("HUP");
    daemon.wait_for("198.51.100.9 is announced for each of 10.3.0.1, 10.2.0.1");
}

#[test]
fn a_host_of_nothing_but_loopback_relays_from_it() {
    let host = Namespace::new();
    let daemon = start(&host, "");
    host.within(|| assert_eq!(relay(&daemon, "127.0.0.1"), (ip("127.0.0.1"), ip("127.0.0.1"))));
}

/// The other network may lead nowhere.
#[test]
fn who_finds_no_port_is_not_sent_to_another_network() {
    let (host, other) = (Namespace::new(), Namespace::new());
    host.cable("eth", "10.3.0.1/24", &other, "10.3.0.2/24", 1_500);
    host.ip("addr add 10.4.0.1/32 dev eth");
    let daemon = start(&host, "min-port=50000\nmax-port=50000\n");
    host.within(|| {
        let code = |by: &str| {
            let mut client = Client::udp(SocketAddr::new(ip(by), daemon.place.port), "alice", "sesame");
            client.allocate().code()
        };
        assert_eq!(["10.3.0.1", "10.3.0.1", "10.4.0.1", "10.4.0.1"].map(code), [0, 508, 0, 508]);
    });
}

/// The word alone: coturn's port and path, on loopback.
#[test]
fn metrics_have_coturns_port_and_path_unless_told_otherwise() {
    let (host, other) = (Namespace::new(), Namespace::new());
    host.cable("eth", "10.3.0.1/24", &other, "10.3.0.2/24", 1_500);
    let place = Place::new();
    place.write(&format!("{ALICE}prometheus\n"));
    place.without(&format!("prometheus-port={}\n", place.metrics));
    let mut command = host.command(env!("CARGO_BIN_EXE_offhook-turn"));
    command.arg("-c").arg(place.path("turnserver.conf"));
    let _daemon = Daemon::spawn(place, command);
    host.within(|| {
        let at = |address: &str| SocketAddr::new(ip(address), 9_641);
        assert!(page(at("127.0.0.1"), "/metrics").contains("turn_total_allocations{type=\"UDP\"} 0"));
        assert!(std::net::TcpStream::connect(at("10.3.0.1")).is_err());
    });
}
