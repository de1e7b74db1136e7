//! Whom a client may reach, and by what.
use crate::client::{Client, TCP};
use crate::rig::{ALICE, Daemon};
use offhook_wire_stun::{AddressFamily, Method};
use std::net::{SocketAddr, UdpSocket};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn allocated(options: &str) -> (Daemon, Client) {
    let daemon = Daemon::start(&format!("{ALICE}{options}"));
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    assert_eq!(alice.allocate().code(), 0);
    (daemon, alice)
}

#[test]
fn ranges_are_denied_and_allowed_by_any_method() {
    let (_daemon, mut alice) = allocated(
        "denied-peer-ip=9.9.8.0-9.9.8.255\ndenied-peer-ip=9.9.9.7\nallowed-peer-ip=9.9.8.9\n\
         allowed-peer-ip=169.254.1.1\ndenied-peer-ip=10.0.0.0-10.255.255.255\n",
    );
    for (peer, code) in [
        ("9.9.8.8:1", 403),
        ("9.9.8.9:1", 0),
        ("9.9.9.7:1", 403),
        ("9.9.9.8:1", 0),
        ("169.254.1.1:1", 0),
        ("169.254.1.2:1", 403),
        ("10.1.1.1:1", 403),
        ("172.16.0.1:1", 0),
        ("127.0.0.1:1", 403),
    ] {
        assert_eq!(alice.permit(at(peer)), code, "{peer}");
    }
    assert_eq!((alice.bind(0x4000, at("9.9.8.8:1")), alice.bind(0x4001, at("9.9.8.9:1"))), (403, 0));
}

#[test]
fn loopback_is_reached_if_allowed_and_multicast_never() {
    let (_daemon, mut alice) = allocated("allow-loopback-peers\nno-multicast-peers\n");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(crate::client::PATIENCE)).unwrap();
    assert_eq!(alice.bind(0x4000, peer.local_addr().unwrap()), 0);
    alice.send_on(0x4000, b"there");
    let mut buffer = [0; 64];
    let (length, relay) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"there");
    peer.send_to(b"back", relay).unwrap();
    assert_eq!(&alice.receive().unwrap()[4..8], b"back");
    for multicast in ["224.0.0.1:1", "239.255.255.250:1900"] {
        assert_eq!(alice.permit(at(multicast)), 403);
    }
    let (_daemon, mut alice) = allocated("no-multicast-peers=off\n");
    assert_eq!((alice.permit(at("127.0.0.2:1")), alice.permit(at("224.0.0.1:1"))), (403, 403));
}

#[test]
fn relays_by_udp_can_be_refused_and_by_tcp_are() {
    let allocate = |options: &str, protocol: u8| {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut alice = Client::tcp(daemon.at(), "alice", "sesame");
        let answer = alice.ask_logged_in(Method::ALLOCATE, |builder| {
            builder.requested_transport(protocol);
        });
        answer.code()
    };
    assert_eq!((allocate("no-udp-relay\n", 17), allocate("", 17)), (442, 0));
    assert_eq!((allocate("no-tcp-relay\n", TCP), allocate("", TCP)), (442, 442));
}

#[test]
fn the_family_of_a_relay_is_the_files_choice() {
    let is_v6 = |options: &str, from: &str| {
        let port = crate::rig::free_port();
        let daemon = Daemon::start(&format!(
            "{ALICE}listening-ip=127.0.0.1\nlistening-ip=::1\nrelay-ip=127.0.0.1\nrelay-ip=::1\naux-server=[::1]:{port}\n{options}"
        ));
        let server = if from == "v6" { SocketAddr::new(at("[::1]:0").ip(), port) } else { daemon.at() };
        let mut alice = Client::udp(server, "alice", "sesame");
        let answer = alice.allocate();
        assert_eq!(answer.code(), 0, "{options}");
        answer.relayed().is_ipv6()
    };
    assert_eq!((is_v6("", "v4"), is_v6("", "v6")), (false, false));
    assert!(is_v6("allocation-default-address-family=ipv6\n", "v4"));
    assert!(!is_v6("allocation-default-address-family=ipv4\n", "v6"));
    for keep in ["keep-address-family\n", "allocation-default-address-family=keep\n"] {
        assert_eq!((is_v6(keep, "v4"), is_v6(keep, "v6")), (false, true), "{keep}");
    }
    let daemon =
        Daemon::start(&format!("{ALICE}allocation-default-address-family=ipv6\nrelay-ip=::1\nrelay-ip=127.0.0.1\n"));
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    let asked = alice.allocate_with(|builder| {
        builder.requested_address_family(AddressFamily::V4);
    });
    assert!(asked.relayed().is_ipv4());
}
