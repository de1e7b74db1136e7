//! Every form of every forbidden address, by every method.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::AttributeType;
use stage::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of each kind, at both ends of its range where it has two.
const FORBIDDEN_V4: &[&str] = &[
    "0.0.0.0",
    "0.255.255.255",
    "127.0.0.1",
    "127.1.2.3",
    "127.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "198.51.100.77",
    "203.0.113.200",
    "192.0.0.8",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
];
const FORBIDDEN_V6: &[&str] = &[
    "::",
    "::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "2001:db8::1",
    "3fff::1",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff::8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:2f:ffff::1",
    "2001:1ff:ffff::1",
    "5f00::1",
    "5f00:ffff::1",
    "feff::1",
    "4000::5efe:7f00:1",
];
const OPEN: &[&str] = &[
    "8.8.8.8",
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "169.253.1.1",
    "223.255.255.255",
    "2a00:1450::1",
    "2606:4700::1111",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2001:0:808:808::f7f7:f7f7",
    "2001:200::1",
    "2a00::5efe:808:808",
];

/// Every way of hiding an IPv4 address in an IPv6 one.
fn hidden(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
    let bits = u128::from(v4.to_bits());
    let v6 = |high: u128| Ipv6Addr::from_bits(high | bits);
    let prefix = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
    vec![
        v6(prefix("::ffff:0:0")),
        v6(0),
        v6(prefix("::ffff:0:0:0")),
        v6(prefix("64:ff9b::")),
        v6(prefix("64:ff9b:1::")),
        Ipv6Addr::from_bits(prefix("64:ff9b:1::") | bits >> 16 << 64 | (bits & 0xffff) << 40),
        Ipv6Addr::from_bits(prefix("2002::1") | bits << 80),
        // Teredo with it as the server, and as the client.
        Ipv6Addr::from_bits(prefix("2001::") | bits << 64 | u128::from(!Ipv4Addr::new(8, 8, 8, 8).to_bits())),
        Ipv6Addr::from_bits(prefix("2001:0:808:808::") | u128::from(!v4.to_bits())),
        v6(prefix("2a00:1::5efe:0:0")),
        v6(prefix("2a00:1::200:5efe:0:0")),
    ]
}

struct Row {
    stage: Stage,
    client: Client,
    relays: [RelayKey; 2],
}

impl Row {
    fn new(change: impl FnOnce(&mut PeerPolicy)) -> Self {
        Self::with(|setup| change(&mut setup.settings.policy))
    }

    /// Relays stand at these addresses of ours, by both of their names.
    fn at_home(names: &[(&str, &str)], change: impl FnOnce(&mut PeerPolicy)) -> Self {
        let relay = |(local, announced): &(&str, &str)| RelayAddress {
            local: local.parse().unwrap(),
            announced: announced.parse().unwrap(),
        };
        Self::with(|setup| {
            setup.relays = names.iter().map(relay).collect();
            setup.settings.policy.own_addresses = setup.relays.iter().map(|relay| relay.local).collect();
            change(&mut setup.settings.policy);
        })
    }

    fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut stage = Stage::with(|setup| {
            setup.settings.new_peers = Rate::UNLIMITED;
            setup.settings.unauthenticated = Rate::UNLIMITED;
            setup.settings.permissions_max = 10_000;
            setup.settings.channels_max = 4_096;
            change(setup);
        });
        let mut client = Client::alice();
        let answer =
            client.allocate(&mut stage, |b| done(b.attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])));
        assert_eq!(answer.code(), 0);
        let relayed: Vec<SocketAddr> = stage.started[0].relayed.into_iter().flatten().collect();
        let key = |at: &SocketAddr| {
            let same_port =
                |(_, local): &(&u64, &SocketAddr)| (local.port(), local.is_ipv4()) == (at.port(), at.is_ipv4());
            Key::from_bits(*stage.sockets.iter().find(same_port).unwrap().0)
        };
        let relays = [key(&relayed[0]), key(relayed.get(1).unwrap_or(&relayed[0]))];
        Self { stage, client, relays }
    }

    /// Another client's relays, as that one is told of them.
    fn neighbour(&mut self, n: u32) -> (Client, Vec<SocketAddr>) {
        let mut other = Client::alice_at(n);
        let answer =
            other.allocate(&mut self.stage, |b| done(b.attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])));
        assert_eq!(answer.code(), 0);
        let relayed = self.stage.started.last().unwrap().relayed.into_iter().flatten().collect();
        (other, relayed)
    }

    /// Refused by every method, and nothing comes back from there either.
    fn refuses(&mut self, peer: SocketAddr) {
        let before = *self.stage.shard.counters();
        assert_eq!(self.client.permit(&mut self.stage, peer), 403, "CreatePermission {peer}");
        assert_eq!(self.client.bind(&mut self.stage, 0x4000, peer), 403, "ChannelBind {peer}");
        assert_eq!(self.client.send(&mut self.stage, peer, b"x"), None, "Send {peer}");
        assert_eq!(self.client.send_channel(&mut self.stage, 0x4000, b"x"), None, "ChannelData {peer}");
        for relay in self.relays {
            assert_eq!(self.stage.peer_sends(relay, peer, b"x"), None, "from {peer}");
        }
        let after = self.stage.shard.counters();
        assert_eq!(after.forbidden_peers - before.forbidden_peers, 2);
        assert_eq!(after.dropped_forbidden - before.dropped_forbidden, 1, "{peer}");
    }

    fn reaches(&mut self, peer: SocketAddr) -> SocketAddr {
        assert_eq!(self.client.permit(&mut self.stage, peer), 0, "CreatePermission {peer}");
        let number = 0x4100 + (self.stage.shard.counters().up_packets % 0xE00) as u16;
        assert_eq!(self.client.bind(&mut self.stage, number, peer), 0, "ChannelBind {peer}");
        let (to, _) = self.client.send(&mut self.stage, peer, b"x").expect("a Send");
        assert_eq!(self.client.send_channel(&mut self.stage, number, b"x").expect("ChannelData").0, to);
        to
    }
}

fn with_port(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 5_004)
}

#[test]
fn every_form_of_every_forbidden_address_is_refused_by_every_method() {
    let mut row = Row::new(|_| {});
    for text in FORBIDDEN_V4 {
        let v4: Ipv4Addr = text.parse().unwrap();
        row.refuses(with_port(v4));
        hidden(v4).into_iter().for_each(|form| row.refuses(with_port(form)));
    }
    FORBIDDEN_V6.iter().for_each(|text| row.refuses(with_port(text.parse::<Ipv6Addr>().unwrap())));
}

#[test]
fn the_open_internet_is_reached_by_every_method() {
    let mut row = Row::new(|_| {});
    for text in OPEN {
        let peer = with_port(text.parse::<IpAddr>().unwrap());
        assert_eq!(row.reaches(peer), peer);
    }
    // A mapped form is the IPv4 address itself.
    assert_eq!(row.reaches(at("[::ffff:9.9.9.9]:5004")), at("9.9.9.9:5004"));
}

#[test]
fn turnserver_conf_opens_private_peers_and_nothing_else() {
    let mut row = Row::new(|policy| policy.allow_private = true);
    for text in ["10.1.2.3", "172.20.1.1", "192.168.1.1", "100.100.1.1", "fd00::1", "fc00::1", "fec0::1"] {
        row.reaches(with_port(text.parse::<IpAddr>().unwrap()));
    }
    for text in ["127.0.0.1", "169.254.169.254", "fd00:ec2::254", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1", "239.1.1.1"]
    {
        row.refuses(with_port(text.parse::<IpAddr>().unwrap()));
    }
    let mut row = Row::new(|policy| policy.allow_loopback = true);
    row.reaches(with_port(Ipv4Addr::LOCALHOST));
    row.refuses(with_port(Ipv4Addr::new(10, 0, 0, 1)));
}

#[test]
fn allowed_beats_denied_and_denied_beats_the_open_internet() {
    let mut row = Row::new(|policy| {
        policy.denied = vec!["8.8.0.0/16".parse().unwrap(), "2a00:1450::5-2a00:1450::1:3".parse().unwrap()];
        policy.allowed =
            vec!["8.8.4.4".parse().unwrap(), "10.0.0.8-10.0.0.9".parse().unwrap(), "::/0".parse().unwrap()];
    });
    row.refuses(with_port(Ipv4Addr::new(8, 8, 8, 8)));
    row.refuses(with_port("64:ff9b::808:808".parse::<Ipv6Addr>().unwrap()));
    row.reaches(with_port(Ipv4Addr::new(8, 8, 4, 4)));
    row.reaches(with_port(Ipv4Addr::new(10, 0, 0, 9)));
    row.refuses(with_port(Ipv4Addr::new(10, 0, 0, 10)));
    // All of IPv6 allowed does not open what it hides.
    row.refuses(with_port("2002:7f00:1::".parse::<Ipv6Addr>().unwrap()));
    row.reaches(with_port("2a00:1450::6".parse::<Ipv6Addr>().unwrap()));
}

#[test]
fn denied_ipv6_ranges_have_exact_borders() {
    let mut row = Row::new(|policy| policy.denied = vec!["2a00:1450::5-2a00:1450::1:3".parse().unwrap()]);
    for (text, forbidden) in [
        ("2a00:1450::4", false),
        ("2a00:1450::5", true),
        ("2a00:1450::ffff", true),
        ("2a00:1450::1:3", true),
        ("2a00:1450::1:4", false),
    ] {
        let peer = with_port(text.parse::<Ipv6Addr>().unwrap());
        if forbidden { row.refuses(peer) } else { done(row.reaches(peer)) }
    }
}

#[test]
fn our_own_sockets_are_out_of_reach_whatever_is_allowed() {
    let mut row = Row::new(|policy| {
        policy.allowed = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        policy.own_sockets = vec![at("0.0.0.0:3478"), at("5.5.5.5:9641"), at("[::]:3478")];
        policy.own_addresses = vec!["5.5.5.5".parse().unwrap(), "2a00::5".parse().unwrap()];
    });
    for peer in [
        "127.0.0.1:3478",
        "5.5.5.5:3478",
        "5.5.5.5:9641",
        "[::1]:3478",
        "[2a00::5]:3478",
        "0.0.0.0:3478",
        "[::ffff:5.5.5.5]:3478",
    ] {
        assert_eq!(row.client.permit(&mut row.stage, at(peer)), 403, "{peer}");
        assert_eq!(row.client.bind(&mut row.stage, 0x4000, at(peer)), 403, "{peer}");
    }
    // A permission by another port opens the address, not our sockets on it.
    row.reaches(at("5.5.5.5:40000"));
    assert_eq!(row.client.send(&mut row.stage, at("5.5.5.5:3478"), b"x"), None);
    assert_eq!(row.client.send(&mut row.stage, at("5.5.5.5:9641"), b"x"), None);
    assert_eq!(row.stage.peer_sends(row.relays[0], at("5.5.5.5:3478"), b"x"), None);
    row.reaches(at("6.6.6.6:3478"));
}

/// A gateway outside turns each of these forms back into our own address.
#[test]
fn our_own_sockets_are_out_of_reach_under_every_other_name() {
    let mut row = Row::new(|policy| {
        policy.allowed = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        policy.own_sockets = vec![at("5.5.5.5:3478"), at("127.0.0.1:9641"), at("[::1]:9641"), at("0.0.0.0:53")];
        policy.own_addresses = vec!["5.5.5.5".parse().unwrap()];
    });
    for form in hidden(Ipv4Addr::new(5, 5, 5, 5)) {
        for port in [3_478, 53] {
            let own = SocketAddr::new(form.into(), port);
            assert_eq!(row.client.permit(&mut row.stage, own), 403, "{own}");
            assert_eq!(row.client.bind(&mut row.stage, 0x4000, own), 403, "{own}");
            // A permission by another port opens the address, not our sockets on it.
            assert_eq!(row.client.permit(&mut row.stage, SocketAddr::new(form.into(), 40_000)), 0, "{form}");
            assert_eq!(row.client.send(&mut row.stage, own, b"x"), None, "{own}");
            for relay in row.relays {
                assert_eq!(row.stage.peer_sends(relay, own, b"x"), None, "{own}");
            }
        }
    }
    // A packet to the unspecified address stays on this host.
    for nowhere in ["0.0.0.0:9641", "[::]:9641", "[::ffff:0.0.0.0]:9641", "0.0.0.0:3478"] {
        assert_eq!(row.client.permit(&mut row.stage, at(nowhere)), 403, "{nowhere}");
    }
}

/// As if behind NAT: what stands on our address beside the relays is nobody's peer, whether a firewall closes it or not.
#[test]
fn on_our_own_address_only_relays_and_media_are_peers() {
    let names = [("5.5.5.5", "5.5.5.5"), ("2a00::5", "2a00::5")];
    let own = |policy: &mut PeerPolicy| {
        policy.media = vec![MediaPeer { announced: at("5.5.5.5:7882"), local: at("5.5.5.5:7882") }];
    };
    let mut row = Row::at_home(&names, own);
    for peer in ["5.5.5.5:53", "5.5.5.5:49151", "[2a00::5]:161", "[::ffff:5.5.5.5]:53", "[64:ff9b::505:505]:53"] {
        row.refuses(at(peer));
    }
    let (_, relays) = row.neighbour(1);
    // A port in the range of relays where another of our programs may have a socket, such as a Link's end.
    let beside = (49_152..).map(|port| SocketAddr::new(relays[0].ip(), port));
    let is_used = |at: &SocketAddr| row.stage.sockets.values().any(|local| local.port() == at.port());
    let nobodys: Vec<SocketAddr> = beside.filter(|at| !is_used(at)).take(20).collect();
    for peer in nobodys {
        row.refuses(peer);
        row.refuses(SocketAddr::new("2a00::5".parse().unwrap(), peer.port()));
        row.refuses(SocketAddr::new("64:ff9b::505:505".parse().unwrap(), peer.port()));
    }
    assert_eq!(relays.len(), 2);
    for peer in [at("5.5.5.5:7882"), relays[0], relays[1]] {
        assert_eq!(row.reaches(peer), peer);
    }
    // The permission is for the address; each datagram is judged by its port.
    assert_eq!(row.client.send(&mut row.stage, at("5.5.5.5:53"), b"x"), None);
    assert_eq!(row.stage.peer_sends(row.relays[0], at("5.5.5.5:53"), b"x"), None);
    // coturn's installations have their SFU on the same host.
    let mut row = Row::at_home(&names, |policy| {
        own(policy);
        policy.allow_private = true;
    });
    row.reaches(at("5.5.5.5:10000"));
    let mut row = Row::at_home(&names, |policy| {
        own(policy);
        policy.allowed = vec!["5.5.5.5".parse().unwrap()];
    });
    row.reaches(at("5.5.5.5:10000"));
}

/// Its port may be anybody's by then.
#[test]
fn a_relay_is_a_peer_for_as_long_as_it_stands() {
    let names = [("5.5.5.5", "5.5.5.5"), ("2a00::5", "2a00::5")];
    let mut row = Row::at_home(&names, |_| {});
    let (mut first, relays) = row.neighbour(1);
    for (number, peer) in (0x4000..).zip(&relays) {
        assert_eq!(row.client.bind(&mut row.stage, number, *peer), 0);
        assert!(row.client.send_channel(&mut row.stage, number, b"x").is_some());
    }
    assert_eq!(first.refresh(&mut row.stage, 0).code(), 0);
    let before = row.stage.shard.counters().dropped_forbidden;
    for (number, peer) in (0x4000..).zip(&relays) {
        assert_eq!(row.client.send_channel(&mut row.stage, number, b"x"), None);
        assert_eq!(row.client.send(&mut row.stage, *peer, b"x"), None);
        assert_eq!(row.client.permit(&mut row.stage, *peer), 403);
        row.relays.iter().for_each(|relay| assert_eq!(row.stage.peer_sends(*relay, *peer, b"x"), None));
    }
    assert_eq!(row.stage.shard.counters().dropped_forbidden - before, 4);
    // A port that is kept for a token has no socket of ours.
    let mut second = Client::alice_at(2);
    assert_eq!(second.allocate(&mut row.stage, |b| done(b.even_port(true))).code(), 0);
    let lower = row.stage.started.last().unwrap().relayed[0].unwrap();
    assert_eq!(row.reaches(lower), lower);
    assert_eq!(row.client.permit(&mut row.stage, SocketAddr::new(lower.ip(), lower.port() + 1)), 403);
}

/// Whatever a client was allowed, a reload may take away, and at once.
#[test]
fn what_a_reload_denies_is_closed_to_live_permissions_and_channels() {
    type Change = fn(&mut PeerPolicy);
    let denials: [(&str, Change); 4] = [
        ("a range", |policy| policy.denied = vec!["8.8.0.0/16".parse().unwrap()]),
        ("a socket of ours", |policy| policy.own_sockets = vec![with_port(Ipv4Addr::new(8, 8, 8, 8))]),
        ("our RTP", |policy| {
            policy.own_ports = vec![5_004..=5_004];
            policy.own_addresses = vec![Ipv4Addr::new(8, 8, 8, 8).into()];
        }),
        ("an address of ours", |policy| policy.own_addresses = vec![Ipv4Addr::new(8, 8, 8, 8).into()]),
    ];
    for (what, deny) in denials {
        let mut row = Row::new(|_| {});
        let (peer, other) = (with_port(Ipv4Addr::new(8, 8, 8, 8)), with_port(Ipv4Addr::new(1, 1, 1, 1)));
        let mapped = with_port(Ipv4Addr::new(8, 8, 8, 8).to_ipv6_mapped());
        assert_eq!(row.client.bind(&mut row.stage, 0x4000, peer), 0);
        row.reaches(other);
        assert!(row.client.send(&mut row.stage, peer, b"x").is_some());
        assert!(row.stage.peer_sends(row.relays[0], peer, b"x").is_some());
        row.stage.reload(|settings| deny(&mut settings.policy));
        for name in [peer, mapped] {
            let dropped = row.stage.shard.counters().dropped_forbidden;
            assert_eq!(row.client.send(&mut row.stage, name, b"x"), None, "{what}");
            assert_eq!(row.stage.shard.counters().dropped_forbidden - dropped, 1, "{what}");
            assert_eq!(row.client.permit(&mut row.stage, name), 403, "{what}");
        }
        assert_eq!(row.client.send_channel(&mut row.stage, 0x4000, b"x"), None, "{what}");
        assert_eq!(row.stage.peer_sends(row.relays[0], peer, b"x"), None, "{what}");
        assert!(row.client.send(&mut row.stage, other, b"x").is_some(), "{what}");
    }
}

/// RFC 8656 §9: a permission is for an address. Some clients write port 0 into it.
#[test]
fn a_permission_may_come_without_a_port_and_opens_no_more_for_it() {
    let names = [("10.0.0.5", "5.5.5.5"), ("2a00::5", "2a00::5")];
    let mut row = Row::at_home(&names, |policy| {
        policy.mapped =
            vec![MappedAddress { announced: "5.5.5.5".parse().unwrap(), local: "10.0.0.5".parse().unwrap() }];
        policy.media = vec![MediaPeer { announced: at("6.6.6.6:7882"), local: at("127.0.0.1:7882") }];
    });
    let (_, relays) = row.neighbour(1);
    assert_eq!(relays[0].ip(), at("5.5.5.5:1").ip());
    for peer in ["5.5.5.5:0", "6.6.6.6:0", "8.8.8.8:0", "[::ffff:5.5.5.5]:0"] {
        assert_eq!(row.client.permit(&mut row.stage, at(peer)), 0, "{peer}");
        assert_eq!(row.client.send(&mut row.stage, at(peer), b"x"), None, "{peer}");
    }
    for peer in ["127.0.0.2:0", "10.0.0.6:0", "10.0.0.5:0", "[fe80::1]:0", "[::ffff:10.0.0.6]:0"] {
        assert_eq!(row.client.permit(&mut row.stage, at(peer)), 403, "{peer}");
    }
    let local = SocketAddr::new("10.0.0.5".parse().unwrap(), relays[0].port());
    assert_eq!(row.client.send(&mut row.stage, relays[0], b"x").unwrap().0, local);
    assert_eq!(row.client.send(&mut row.stage, at("6.6.6.6:7882"), b"x").unwrap().0, at("127.0.0.1:7882"));
    for near in ["5.5.5.5:22", "10.0.0.5:22", "127.0.0.1:7882"] {
        let reached = row.client.send(&mut row.stage, at(near), b"x");
        assert!(reached.is_none(), "{near}: {reached:?}");
    }
}

#[test]
fn an_sfus_media_port_is_reached_by_its_local_address_and_nothing_beside_it() {
    let mut row = Row::new(|policy| {
        policy.media = vec![
            MediaPeer { announced: at("5.5.5.5:7882"), local: at("10.0.0.5:7882") },
            MediaPeer { announced: at("127.0.0.1:7883"), local: at("127.0.0.1:7883") },
        ];
        policy.own_sockets = vec![at("5.5.5.5:7882"), at("10.0.0.5:3478")];
    });
    assert_eq!(row.reaches(at("5.5.5.5:7882")), at("10.0.0.5:7882"));
    assert_eq!(row.reaches(at("127.0.0.1:7883")), at("127.0.0.1:7883"));
    let mapped = row.client.send(&mut row.stage, at("[::ffff:5.5.5.5]:7882"), b"x");
    assert_eq!(mapped.unwrap().0, at("10.0.0.5:7882"));
    for near in ["127.0.0.1:7884", "10.0.0.5:22", "10.0.0.5:3478"] {
        assert_eq!(row.client.permit(&mut row.stage, at(near)), 403, "{near}");
        assert_eq!(row.client.send(&mut row.stage, at(near), b"x"), None, "{near}");
        assert_eq!(row.stage.peer_sends(row.relays[0], at(near), b"x"), None, "{near}");
    }
    // What comes back carries the name that the client knows.
    let (_, message) = row.stage.peer_sends(row.relays[0], at("10.0.0.5:7882"), b"x").unwrap();
    assert_eq!(message[0], 0x41);
}

/// An SFU announces what it is bound to beside its public address: as itself, wherever that stands in the list.
#[test]
fn what_an_sfu_behind_nat_sends_back_carries_its_public_address() {
    let mapped = MediaPeer { announced: at("5.5.5.5:7882"), local: at("10.0.0.5:7882") };
    let itself = MediaPeer { announced: at("10.0.0.5:7882"), local: at("10.0.0.5:7882") };
    for media in [[itself, mapped], [mapped, itself]] {
        let mut row = Row::new(|policy| policy.media = media.to_vec());
        assert_eq!(row.reaches(at("5.5.5.5:7882")), at("10.0.0.5:7882"));
        let back = row.stage.peer_sends(row.relays[0], at("10.0.0.5:7882"), b"x");
        assert!(back.is_some(), "{media:?}");
    }
}

/// Announced under two addresses, and bound to a third: whichever name the client has chosen, it is answered under that.
#[test]
fn a_media_port_answers_under_the_name_by_which_the_client_knows_it() {
    let local = at("10.0.0.5:7882");
    for named in ["5.5.5.5:7882", "6.6.6.6:7882", "10.0.0.5:7882"] {
        let mut row = Row::new(|policy| {
            policy.media =
                ["5.5.5.5:7882", "6.6.6.6:7882"].map(|name| MediaPeer { announced: at(name), local }).to_vec();
        });
        assert_eq!(row.client.permit(&mut row.stage, at(named)), 0, "{named}");
        assert_eq!(row.client.send(&mut row.stage, at(named), b"x").unwrap().0, local);
        let (_, message) = row.stage.peer_sends(row.relays[0], local, b"x").unwrap();
        assert_eq!(read_data(&message).0, at(named));
        assert_eq!(row.client.bind(&mut row.stage, 0x4000, at(named)), 0, "{named}");
        let (_, message) = row.stage.peer_sends(row.relays[0], local, b"x").unwrap();
        assert_eq!(message[..2], [0x40, 0]);
    }
}

/// RTP's ports are as much ours as a listener, however much is allowed.
#[test]
fn our_own_ports_are_out_of_reach_on_each_of_our_addresses() {
    let mut row = Row::new(|policy| {
        policy.allowed = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        policy.own_ports = vec![20_000..=20_999];
        policy.own_addresses = vec!["5.5.5.5".parse().unwrap()];
    });
    for ip in ["5.5.5.5", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:5.5.5.5]", "[64:ff9b::505:505]", "0.0.0.0"] {
        for port in [20_000, 20_999] {
            assert_eq!(row.client.permit(&mut row.stage, at(&format!("{ip}:{port}"))), 403, "{ip}:{port}");
        }
    }
    for fine in ["5.5.5.5:19999", "5.5.5.5:21000", "6.6.6.6:20000"] {
        row.reaches(at(fine));
    }
}

#[test]
fn two_clients_of_one_server_behind_nat_reach_each_others_relays_only() {
    let names = [("10.0.0.5", "5.5.5.5"), ("2a00::5", "2a00::5")];
    let mut row = Row::at_home(&names, |policy| {
        policy.mapped =
            vec![MappedAddress { announced: "5.5.5.5".parse().unwrap(), local: "10.0.0.5".parse().unwrap() }];
        policy.relay_ports = 49_152..=65_535;
    });
    let (_, first) = row.neighbour(1);
    let (_, second) = row.neighbour(2);
    let local = |announced: SocketAddr| SocketAddr::new("10.0.0.5".parse().unwrap(), announced.port());
    assert_eq!(row.reaches(first[0]), local(first[0]));
    // What stands beside them in their range is none of them.
    let is_used = |port: &u16| row.stage.sockets.values().any(|local| local.port() == *port);
    let free = (49_152..).find(|port| !is_used(port)).unwrap();
    row.refuses(SocketAddr::new(first[0].ip(), free));
    assert_eq!(row.client.permit(&mut row.stage, at("5.5.5.5:22")), 403);
    assert_eq!(row.client.send(&mut row.stage, at("5.5.5.5:22"), b"x"), None);
    assert_eq!(row.client.permit(&mut row.stage, at("10.0.0.5:50000")), 403);
    assert_eq!(row.stage.peer_sends(row.relays[0], at("10.0.0.5:22"), b"x"), None);
    let (_, message) = row.stage.peer_sends(row.relays[0], local(second[0]), b"x").unwrap();
    assert_eq!(read_data(&message).0, second[0]);
}
