//! Datagrams as long as they get, and clients by TCP.
use crate::rig::{Daemon, eventually};
use crate::tcp::ByTcp;
use offhook_testkit::TurnClient;
use offhook_wire_stun::{AttributeType, Method};
use std::net::UdpSocket;
use std::time::Duration;

/// Different in every place.
fn payload(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn peer() -> UdpSocket {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer
}

/// As coturn does: what UDP can carry with its header.
#[test]
fn a_datagram_of_any_length_is_relayed_whole() {
    let daemon = Daemon::open("");
    let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
    client.allocate().unwrap();
    let mut buffer = vec![0; 1 << 16];
    let peer = peer();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    for length in [4_092, 4_096, 4_097, 9_000, 60_001, 65_503] {
        let sent = payload(length);
        client.send(0x4000, &sent).unwrap();
        let (came, relay) = peer.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{length} up: {error}"));
        assert!(buffer[..came] == sent, "{length} up");
        peer.send_to(&sent, relay).unwrap();
        let came = client.socket().recv(&mut buffer).unwrap_or_else(|error| panic!("{length} down: {error}"));
        assert!(buffer[4..came] == sent, "{length} down");
    }
    // With four bytes more it is longer than any datagram: lost, and counted.
    let refused = || daemon.metric("offhook_turn_refused_datagrams_total ");
    let before = refused();
    client.send(0x4000, b"where").unwrap();
    let relay = peer.recv_from(&mut buffer).unwrap().1;
    peer.send_to(&payload(65_507), relay).unwrap();
    assert!(eventually(Duration::from_secs(5), || refused() == before + 1));
}

/// A stream's message may be longer than what UDP can carry.
#[test]
fn what_came_by_tcp_leaves_by_udp_however_long_it_is_or_is_counted() {
    let daemon = Daemon::open("");
    let mut client = ByTcp::log_in(daemon.at());
    client.allocate();
    let peer = peer();
    client.bind(0x4000, peer.local_addr().unwrap());
    let mut buffer = vec![0; 1 << 16];
    for length in [1, 2_000, 4_097, 20_001, 65_507] {
        let sent = payload(length);
        client.send(0x4000, &sent);
        let (came, relay) = peer.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{length} up: {error}"));
        assert!(buffer[..came] == sent, "{length} up");
        peer.send_to(&sent, relay).unwrap();
        assert!(client.receive() == sent, "{length} down");
    }
    let refused = || daemon.metric("offhook_turn_refused_datagrams_total ");
    let before = refused();
    client.send(0x4000, &payload(65_508));
    assert!(eventually(Duration::from_secs(5), || refused() == before + 1));
}

/// RFC 8656 §8: of two families one is given back.
#[test]
fn a_connection_holds_its_allocation_until_both_families_are_given_back() {
    let daemon = Daemon::open("relay-ip=127.0.0.1\nrelay-ip=::1\n");
    let mut client = ByTcp::log_in(daemon.at());
    client.request(Method::ALLOCATE, |b| {
        b.requested_transport(17).attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    let release = |client: &mut ByTcp, family: u8| {
        client.request(Method::REFRESH, |b| {
            b.lifetime_s(0).attr(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
        });
    };
    assert!(eventually(Duration::from_secs(5), || daemon.allocations("TCP") == 1));
    let relays = || daemon.metric("offhook_turn_relays ");
    assert!(eventually(Duration::from_secs(5), || relays() == 2));
    release(&mut client, 2);
    assert!(eventually(Duration::from_secs(5), || relays() == 1));
    assert_eq!((daemon.allocations("TCP"), daemon.allocations("UDP")), (1, 0));
    release(&mut client, 1);
    assert!(eventually(Duration::from_secs(5), || daemon.allocations("TCP") + relays() == 0));
}
