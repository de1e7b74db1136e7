//! What the network says of packets that cannot arrive, and who may cut them into pieces: over a router of our own.
use crate::net::Namespace;
use crate::rig::{ALICE, Daemon, Place};
use offhook_testkit::TurnClient;
use offhook_wire_stun::{AttributeType, Message};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const SERVER: &str = "9.9.1.1";
const PEER: &str = "9.9.2.2";
/// Of the last cable.
const NARROW: u32 = 1_000;
/// Fits the first cable, and not the last one.
const LONG: [u8; 1_200] = [0x5A; 1_200];

/// The server, a router that is its client as well, and a peer behind a cable that takes less.
struct Way {
    router: Namespace,
    peer: Namespace,
    daemon: Daemon,
    _server: Namespace,
}

impl Way {
    fn new() -> Self {
        let (server, router, peer) = (Namespace::new(), Namespace::new(), Namespace::new());
        server.cable("wide", "9.9.1.1/24", &router, "9.9.1.2/24", 1_500);
        router.cable("narrow", "9.9.2.1/24", &peer, "9.9.2.2/24", NARROW);
        server.ip("route add default via 9.9.1.2");
        peer.ip("route add default via 9.9.2.1");
        router.ip("route add unreachable 9.9.3.0/24");
        router.ip("route add prohibit 9.9.4.0/24");
        let forwards = router.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]).status();
        assert!(forwards.unwrap().success());
        let place = Place::new();
        place.write(&format!("{ALICE}listening-ip={SERVER}\nrelay-ip={SERVER}\n"));
        let mut command = server.command(env!("CARGO_BIN_EXE_offhook-turn"));
        command.arg("-c").arg(place.path("turnserver.conf"));
        Self { daemon: Daemon::spawn(place, command), _server: server, router, peer }
    }

    fn client(&self) -> TurnClient {
        let server = SocketAddr::new(SERVER.parse().unwrap(), self.daemon.place.port);
        self.router.within(|| {
            let mut client = TurnClient::log_in(server, "alice", "sesame").unwrap();
            client.allocate().unwrap();
            client
        })
    }

    fn peer(&self) -> (UdpSocket, SocketAddr) {
        let socket = self.peer.within(|| UdpSocket::bind((PEER, 0)).unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }
}

/// Of whom, and the eight bytes of RFC 8656 §18.13.
fn icmp(client: &TurnClient) -> (SocketAddr, Vec<u8>) {
    let bytes = client.receive_indication().unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.data(), None);
    (message.xor_peer_address().unwrap().unwrap(), message.raw(AttributeType::ICMP).unwrap().to_vec())
}

/// Seven bits of type, nine of code, what ICMP adds.
fn words(kind: u8, code: u8, data: u32) -> Vec<u8> {
    [&[0, 0, kind << 1, code][..], &data.to_be_bytes()].concat()
}

#[test]
fn what_icmp_says_of_a_peer_reaches_the_client_in_a_data_indication() {
    let way = Way::new();
    let mut client = way.client();
    let closed = way.peer().1;
    // Of type 3: port unreachable, host unreachable, prohibited.
    for (peer, code) in [(closed, 3), ("9.9.3.3:7".parse().unwrap(), 1), ("9.9.4.4:7".parse().unwrap(), 13)] {
        client.permit(peer).unwrap();
        client.indicate(peer, b"anybody?", false).unwrap();
        assert_eq!(icmp(&client), (peer, words(3, code, 0)));
    }
    // By a channel as well.
    client.bind(0x4000, closed).unwrap();
    client.send(0x4000, b"anybody?").unwrap();
    assert_eq!(icmp(&client), (closed, words(3, 3, 0)));
    // It cost the relay nothing.
    let (peer, address) = way.peer();
    client.indicate(address, b"you", false).unwrap();
    assert_eq!(peer.recv(&mut [0; 8]).unwrap(), 3);
}

/// ICMPv6: type 1, code 4.
#[test]
fn a_closed_port_is_told_by_ipv6_as_well() {
    let daemon = Daemon::open("relay-ip=::1\nallocation-default-address-family=ipv6\n");
    let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
    assert!(client.allocate().unwrap().is_ipv6());
    let closed = UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap();
    client.permit(closed).unwrap();
    client.indicate(closed, b"anybody?", false).unwrap();
    assert_eq!(icmp(&client), (closed, words(1, 4, 0)));
}

/// RFC 8656 §14: the router may cut into pieces what does not bear DONT-FRAGMENT, and nothing else.
#[test]
fn dont_fragment_is_the_packets_own_and_its_refusal_comes_back_with_the_narrow_links_size() {
    let way = Way::new();
    let mut client = way.client();
    let (peer, address) = way.peer();
    let mut buffer = [0; 2_048];
    let mut arrives = |what: &str| {
        let (length, from) = peer.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(from.ip().to_string(), SERVER);
        length
    };
    client.bind(0x4000, address).unwrap();
    client.send(0x4000, &LONG).unwrap();
    assert_eq!(arrives("by the channel"), LONG.len());
    client.indicate(address, &LONG, false).unwrap();
    assert_eq!(arrives("may be cut"), LONG.len());
    client.indicate(address, &LONG[..900], true).unwrap();
    assert_eq!(arrives("fits"), 900);
    client.indicate(address, &LONG, true).unwrap();
    assert_eq!(icmp(&client), (address, words(3, 4, NARROW)));
    // Only that one was lost.
    client.indicate(address, &LONG, false).unwrap();
    assert_eq!(arrives("may be cut again"), LONG.len());
    client.send(0x4000, &LONG).unwrap();
    assert_eq!(arrives("by the channel again"), LONG.len());
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(peer.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
}
