//! What the network says of packets that cannot arrive, and who may cut them into pieces: over a router of our own.
use crate::net::Namespace;
use crate::rig::{ALICE, Daemon, Place};
use offhook_testkit::TurnClient;
use offhook_wire_stun::{AttributeType, Message};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
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

/// Longer than both cables take at once, and more than a few of their packets.
#[test]
fn a_datagram_is_cut_where_it_must_be_and_arrives_whole() {
    let way = Way::new();
    let mut client = way.client();
    let (peer, address) = way.peer();
    client.bind(0x4000, address).unwrap();
    let long: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
    client.send(0x4000, &long).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let (length, relay) = peer.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length] == long);
    peer.send_to(&long, relay).unwrap();
    let length = client.socket().recv(&mut buffer).unwrap();
    assert!(buffer[4..length] == long);
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

/// The server, and everything beyond its cable in one namespace: what the server sends there is read with its header, and
/// answered by nobody but the test.
struct Beyond {
    far: Namespace,
    daemon: Daemon,
    _server: Namespace,
    /// UDP as it arrives; IPv4 with its header.
    wire: UdpSocket,
    icmp: UdpSocket,
    /// So that the kernel there does not complain of a closed port.
    _silent: UdpSocket,
    peer: SocketAddr,
}

impl Beyond {
    fn new(near: &str, far: &str, peer: &str, options: &str) -> Self {
        let (server, beyond) = (Namespace::new(), Namespace::new());
        let bits = if near.contains(':') { 64 } else { 24 };
        server.cable("wide", &format!("{near}/{bits}"), &beyond, &format!("{far}/{bits}"), 1_500);
        beyond.ip(&format!("addr add {peer}/{} dev lo", if bits == 64 { 128 } else { 32 }));
        let family = if bits == 64 { "-6 " } else { "" };
        server.ip(&format!("{family}route add default via {far}"));
        let place = Place::new();
        place.write(&format!("{ALICE}listening-ip={near}\nrelay-ip={near}\n{options}"));
        let mut command = server.command(env!("CARGO_BIN_EXE_offhook-turn"));
        command.arg("-c").arg(place.path("turnserver.conf"));
        let daemon = Daemon::spawn(place, command);
        let (domain, kind) = match peer.parse::<IpAddr>().unwrap() {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let raw = |protocol| {
            let socket = Socket::new(domain, Type::from(nix::libc::SOCK_RAW), Some(protocol)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            UdpSocket::from(socket)
        };
        let (silent, wire, icmp) =
            beyond.within(|| (UdpSocket::bind((peer, 0)).unwrap(), raw(Protocol::UDP), raw(kind)));
        let peer = silent.local_addr().unwrap();
        Self { far: beyond, daemon, _server: server, wire, icmp, _silent: silent, peer }
    }

    fn client(&self, server: &str) -> TurnClient {
        let server = SocketAddr::new(server.parse().unwrap(), self.daemon.place.port);
        self.far.within(|| {
            let mut client = TurnClient::log_in(server, "alice", "sesame").unwrap();
            client.allocate().unwrap();
            client
        })
    }

    /// The next packet that the server sends to the peer.
    fn packet(&self) -> Vec<u8> {
        let mut buffer = [0; 2_048];
        loop {
            let length = self.wire.recv(&mut buffer).unwrap();
            let header = if self.peer.is_ipv4() { 20 } else { 0 };
            if buffer[header + 2..header + 4] == self.peer.port().to_be_bytes() {
                return buffer[..length].to_vec();
            }
        }
    }

    /// Says to the server what a router would say that has no room for `packet`.
    fn complain(&self, server: SocketAddr, kind: u8, code: u8, packet: &[u8]) {
        let mut message = [&[kind, code, 0, 0][..], &NARROW.to_be_bytes(), packet].concat();
        if server.is_ipv4() {
            message.truncate(8 + 20 + 8);
            let sum = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
            let sum = !((sum & 0xFFFF) + (sum >> 16)) as u16;
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        self.icmp.send_to(&message, SocketAddr::new(server.ip(), 0)).unwrap();
    }
}

/// Whether an IPv4 packet bears the DF bit.
fn is_whole(packet: &[u8]) -> bool {
    packet[6] & 0x40 != 0
}

/// A router is far away: the socket has been used for others when it says that it had no room.
#[test]
fn what_a_router_says_of_dont_fragment_arrives_however_late() {
    let beyond = Beyond::new(SERVER, "9.9.1.2", PEER, "");
    let mut client = beyond.client(SERVER);
    client.bind(0x4000, beyond.peer).unwrap();
    for _ in 0..3 {
        client.indicate(beyond.peer, &LONG, true).unwrap();
        let packet = beyond.packet();
        assert!(is_whole(&packet));
        client.send(0x4000, &LONG).unwrap();
        assert!(!is_whole(&beyond.packet()), "which did not ask for it");
        // Answered by the thread that has sent them.
        client.refresh(600).unwrap();
        let relay = SocketAddr::new(SERVER.parse().unwrap(), 0);
        beyond.complain(relay, 3, 4, &packet);
        assert_eq!(icmp(&client), (beyond.peer, words(3, 4, NARROW)));
        // What may be cut on its way leaves as before.
        client.send(0x4000, &LONG).unwrap();
        let packet = beyond.packet();
        assert_eq!((is_whole(&packet), packet.len()), (false, 28 + LONG.len()));
    }
}

/// RFC 8656 §14, of packets that come together: each is its own.
#[test]
fn packets_of_one_batch_bear_dont_fragment_each_for_itself() {
    let beyond = Beyond::new(SERVER, "9.9.1.2", PEER, "");
    let mut client = beyond.client(SERVER);
    client.permit(beyond.peer).unwrap();
    // Two without it would arrive as one, which the network has not cut yet.
    let asks = [false, true, true, false, true, false];
    beyond.daemon.signal("STOP");
    for ask in asks {
        client.indicate(beyond.peer, &LONG[..900], ask).unwrap();
    }
    beyond.daemon.signal("CONT");
    assert_eq!(asks.map(|_| is_whole(&beyond.packet())), asks);
}

/// ICMPv6's packet too big, for which nobody asks: no router cuts anything into pieces (RFC 8200 §5).
#[test]
fn a_packet_too_big_for_a_router_of_ipv6_is_told_late_as_well_and_the_next_ones_are_cut() {
    let (near, peer) = ("2a00:1::1", "2a00:2::2");
    let options = "allocation-default-address-family=ipv6\n";
    let beyond = Beyond::new(near, "2a00:1::2", peer, options);
    let mut client = beyond.client(near);
    client.bind(0x4000, beyond.peer).unwrap();
    for ask in [true, false] {
        let client = &mut client;
        client.indicate(beyond.peer, &LONG, ask).unwrap();
        let udp = beyond.packet();
        client.refresh(600).unwrap();
        let (IpAddr::V6(from), IpAddr::V6(to)) = (near.parse().unwrap(), beyond.peer.ip()) else { panic!() };
        let length = (udp.len() as u16).to_be_bytes();
        let header = [&[0x60, 0, 0, 0, length[0], length[1], 17, 64][..], &from.octets(), &to.octets()].concat();
        beyond.complain(SocketAddr::new(from.into(), 0), 2, 0, &[&header[..], &udp[..40]].concat());
        assert_eq!(icmp(client), (beyond.peer, words(2, 0, NARROW)), "{ask}");
    }
    client.send(0x4000, &LONG).unwrap();
    assert_eq!(beyond.packet().len(), 8 + LONG.len());
}
