//! Strangers in great number: no memory, no sockets, few lines, and a call goes on.
use crate::rig::{Daemon, Ends, eventually};
use offhook_testkit::{Rng, TurnClient};
use offhook_wire_stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What somebody sends who has no credentials, or has guessed them.
fn garbage(rng: &mut Rng) -> Vec<u8> {
    let mut id = [0; 12];
    rng.fill(&mut id);
    let mut buffer = vec![0; 1_500];
    let kind = rng.below(8);
    let method =
        [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND][rng.below(4) as usize];
    let mut request = |method, class, write: &dyn Fn(&mut MessageBuilder<'_>)| {
        let mut builder = MessageBuilder::new(&mut buffer, class, method, TransactionId(id));
        write(&mut builder);
        let length = builder.finish().unwrap();
        buffer.truncate(length);
    };
    match kind {
        0 | 1 => request(Method::ALLOCATE, Class::Request, &|b| {
            b.requested_transport(17);
        }),
        2 => request(method, Class::Request, &|b| {
            b.requested_transport(17).username("alice").realm("example.org").nonce("AAAAAAAA").integrity(b"guess");
        }),
        3 => request(method, Class::Request, &|b| {
            b.requested_transport(17).username("alice").realm("example.org").integrity(b"guess");
        }),
        4 => request(Method::BINDING, Class::Request, &|b| {
            b.attr(AttributeType(0x7000), &id[..4]);
        }),
        5 => request(Method::SEND, Class::Indication, &|b| {
            b.xor_peer_address("127.0.0.1:9".parse().unwrap()).data(&id);
        }),
        6 => {
            let length = 4 + rng.below(200) as usize;
            buffer.truncate(length);
            rng.fill(&mut buffer);
            buffer[0] = 0x40;
            buffer[2..4].copy_from_slice(&((length - 4) as u16).to_be_bytes());
        }
        _ => {
            let length = rng.below(300) as usize;
            buffer.truncate(length);
            rng.fill(&mut buffer);
        }
    }
    buffer
}

/// Sends from many addresses and ports of 127/8 until told to end.
fn flood(server: SocketAddr, seed: u64, end: &AtomicBool, sent: &AtomicU64) {
    let mut rng = Rng::seeded(seed);
    let mut sockets: Vec<UdpSocket> = (0..64).map(|_| stranger(&mut rng)).collect();
    while !end.load(Ordering::Relaxed) {
        // Others come all the time.
        let place = rng.below(64) as usize;
        sockets[place] = stranger(&mut rng);
        for _ in 0..32 {
            let socket = &sockets[rng.below(64) as usize];
            if socket.send_to(&garbage(&mut rng), server).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Two processors: the server and its clients want to run as well.
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn stranger(rng: &mut Rng) -> UdpSocket {
    let ip = Ipv4Addr::new(127, rng.below(200) as u8 + 1, rng.below(256) as u8, rng.below(254) as u8 + 1);
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A call's worth of packets there and back, none lost and none twice. Says how many.
fn call(client: &TurnClient, peer: &UdpSocket, until: Instant) -> u64 {
    let mut buffer = [0; 256];
    let mut number = 0u64;
    while Instant::now() < until {
        let mut payload = [0x5A; 172];
        payload[..8].copy_from_slice(&number.to_be_bytes());
        client.send(0x4000, &payload).unwrap();
        let (length, from) = peer.recv_from(&mut buffer).unwrap_or_else(|error| panic!("packet {number} up: {error}"));
        assert_eq!(&buffer[..length], &payload, "packet {number} up");
        peer.send_to(&payload, from).unwrap();
        let down = client.receive().unwrap_or_else(|error| panic!("packet {number} down: {error}"));
        assert_eq!(down, (0x4000, payload.to_vec()), "packet {number} down");
        number += 1;
        std::thread::park_timeout(Duration::from_millis(2));
    }
    number
}

#[test]
fn strangers_leave_no_memory_sockets_or_long_log_and_a_call_loses_nothing() {
    let seconds = offhook_testkit::length(4, 120);
    // As with a listener whose buffer is full: what the kernel drops before the server sees it is nobody's fault here.
    let daemon = Daemon::open("");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
    client.allocate().unwrap();
    client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
    let server = daemon.at();
    let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let ends = Ends(&end);
        let flooding = scope.spawn(|| flood(server, 1, &end, &sent));
        // Warm: tables and buffers have the size that they need.
        call(&client, &peer, Instant::now() + Duration::from_secs(1));
        daemon.lines();
        let (kib, descriptors, already) = (daemon.resident_kib(), daemon.descriptors(), sent.load(Ordering::Relaxed));
        let carried = call(&client, &peer, Instant::now() + Duration::from_secs(seconds));
        let (flooded, lines) = (sent.load(Ordering::Relaxed) - already, daemon.lines());
        let grown = daemon.resident_kib().saturating_sub(kib);
        drop(ends);
        flooding.join().unwrap();
        println!("{flooded} from strangers, {carried} of the call there and back, {grown} KiB, {} lines", lines.len());
        assert!(carried > 50 * seconds && flooded > 2_000 * seconds, "{carried} beside {flooded}");
        assert!(grown < 1_024, "{grown} KiB more");
        assert_eq!(daemon.descriptors(), descriptors);
        // A line a second for each cause and each thread, and a burst of five.
        let causes = 3 * std::thread::available_parallelism().unwrap().get() as u64;
        assert!((lines.len() as u64) < causes * (seconds + 2 + 5), "{lines:#?}");
    });
    assert!(eventually(Duration::from_secs(5), || daemon.allocations("UDP") == 1));
    assert!(daemon.metric("offhook_turn_bad_credentials_total ") > 0);
    assert!(daemon.metric("offhook_turn_stale_nonces_total ") > 0);
}
