//! Strangers in great number: no memory, no sockets, few lines, and calls go on.
use crate::net::Namespace;
use crate::rig::{ALICE, Daemon, Ends, Place, eventually};
use offhook_net::{Datagram, SendBatch, UdpOptions};
use offhook_testkit::{Rng, TurnClient};
use offhook_wire_stun::{AttributeType, Class, MessageBuilder, Method, TransactionId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// All of it is the namespace's own, and so is 127/8.
const PREFIX: &str = "2a00:9::/32";
const SERVER6: &str = "2a00:9::1";
/// Sent at once, and so often before the server has to have read it.
const BATCH: usize = 64;
const BATCHES: usize = 8;
/// Packets of a call, 20 ms apart.
const PACE: Duration = Duration::from_millis(20);

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

/// Where nobody has been before.
fn source(rng: &mut Rng, server: SocketAddr) -> IpAddr {
    let mut part = || rng.below(0xFFFE) as u16 + 1;
    match server {
        SocketAddr::V4(_) => {
            let ([b, c], d) = (part().to_be_bytes(), part() % 254 + 1);
            Ipv4Addr::new(127, b, c, d as u8).into()
        }
        SocketAddr::V6(_) => Ipv6Addr::new(0x2a00, 9, part(), part(), 0, 0, 0, part()).into(),
    }
}

/// Sends to both listeners until told to end, each batch from an address. No more at once than a listener's
/// buffer holds: what the kernel drops before the server sees it is nobody's fault here.
fn flood(servers: [SocketAddr; 2], end: &AtomicBool, sent: &AtomicU64) {
    let mut rng = Rng::seeded(1);
    let words: Vec<Vec<u8>> = (0..2_000).map(|_| garbage(&mut rng)).collect();
    let mut batch = SendBatch::new(BATCH);
    let options = UdpOptions { receive_buffer_bytes: 0, send_buffer_bytes: 0, ..UdpOptions::default() };
    while !end.load(Ordering::Relaxed) {
        for to in servers {
            // One of them is the same again and again, and has its answers limited.
            let same = std::iter::once(source(&mut Rng::seeded(2), to));
            let others: Vec<IpAddr> = (1..BATCHES).map(|_| source(&mut rng, to)).collect();
            for from in same.chain(others) {
                let from = SocketAddr::new(from, 0);
                let socket = offhook_net::UdpSocket::bind(from, options).unwrap();
                let at = rng.below(words.len() as u64) as usize;
                let said = words.iter().cycle().skip(at).take(BATCH);
                let datagrams = said.map(|bytes| Datagram { to, from: None, flow: 0, bytes });
                sent.fetch_add(socket.send(&mut batch, datagrams).datagrams as u64, Ordering::Relaxed);
            }
            catch_up(&mut rng, to);
        }
    }
}

/// Waits until a listener has read what was sent to it: a Binding from yet another address is answered behind it.
fn catch_up(rng: &mut Rng, server: SocketAddr) {
    let mut request = [0; 20];
    MessageBuilder::new(&mut request, Class::Request, Method::BINDING, TransactionId([9; 12])).finish().unwrap();
    let is_answered = |_| {
        let socket = UdpSocket::bind((source(rng, server), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket.send_to(&request, server).unwrap();
        // Its bucket may be one of those that have given all they had.
        socket.recv(&mut [0; 64]).is_ok()
    };
    assert!((0..40).any(is_answered), "{server} answers nobody");
}

/// A client with a channel, and its peer.
struct Call {
    client: TurnClient,
    peer: UdpSocket,
    carried: u64,
}

impl Call {
    fn begin(server: SocketAddr) -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut client = TurnClient::log_in(server, "alice", "sesame").unwrap();
        client.allocate().unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        Self { client, peer, carried: 0 }
    }

    fn payload(&self) -> [u8; 172] {
        let mut payload = [0x5A; 172];
        payload[..8].copy_from_slice(&self.carried.to_be_bytes());
        payload
    }

    /// What was sent arrives as the very next packet, and so does its echo: none is lost and none comes twice.
    fn echo(&mut self) {
        let (payload, number) = (self.payload(), self.carried);
        let mut buffer = [0; 256];
        let came = self.peer.recv_from(&mut buffer);
        let (length, from) = came.unwrap_or_else(|error| panic!("packet {number} up: {error}"));
        assert_eq!(&buffer[..length], &payload, "packet {number} up");
        self.peer.send_to(&payload, from).unwrap();
        let down = self.client.receive().unwrap_or_else(|error| panic!("packet {number} down: {error}"));
        assert_eq!(down, (0x4000, payload.to_vec()), "packet {number} down");
        self.carried += 1;
    }
}

/// Goes on with all calls at their pace for so many packets, and until as many strangers have spoken.
fn talk(calls: &mut [Call], packets: u64, sent: &AtomicU64, strangers: u64) {
    let (begin, until) = (calls[0].carried, sent.load(Ordering::Relaxed) + strangers);
    while calls[0].carried - begin < packets || sent.load(Ordering::Relaxed) < until {
        for call in &*calls {
            call.client.send(0x4000, &call.payload()).unwrap();
        }
        calls.iter_mut().for_each(Call::echo);
        std::thread::park_timeout(PACE);
    }
}

#[test]
fn strangers_leave_no_memory_sockets_or_long_log_and_calls_lose_nothing() {
    let (packets, strangers) = (offhook_testkit::length(150, 6_000), offhook_testkit::length(200_000, 5_000_000));
    let world = Namespace::new();
    world.ip(&format!("-6 route add local {PREFIX} dev lo"));
    world.ip(&format!("-6 addr add {SERVER6}/128 dev lo nodad"));
    let any = world.command("sysctl").args(["-q", "-w", "net.ipv6.ip_nonlocal_bind=1"]).status();
    assert!(any.unwrap().success());
    let place = Place::new();
    let base = "relay-ip=127.0.0.1\nallow-loopback-peers\nprometheus\nrelay-threads=1\n";
    place.write(&format!("{ALICE}listening-ip=127.0.0.1\nlistening-ip={SERVER6}\n{base}"));
    let mut command = world.command(env!("CARGO_BIN_EXE_offhook-turn"));
    command.arg("-c").arg(place.path("turnserver.conf"));
    let daemon = world.within(|| Daemon::spawn(place, command));
    let servers = [daemon.at(), SocketAddr::new(SERVER6.parse().unwrap(), daemon.place.port)];
    world.within(|| {
        let mut calls: Vec<Call> = (0..6).map(|n| Call::begin(servers[n % 2])).collect();
        let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let ends = Ends(&end);
            let flooding = scope.spawn(|| flood(servers, &end, &sent));
            // Warm: tables and buffers have the size that they need.
            talk(&mut calls, packets / 4, &sent, strangers / 4);
            daemon.lines();
            let (kib, descriptors, begin) = (daemon.resident_kib(), daemon.descriptors(), Instant::now());
            talk(&mut calls, packets, &sent, strangers);
            let (lines, seconds) = (daemon.lines(), begin.elapsed().as_secs());
            let grown = daemon.resident_kib().saturating_sub(kib);
            drop(ends);
            flooding.join().unwrap();
            println!("{sent:?} from strangers in {seconds} s and a quarter more, {grown} KiB, {} lines", lines.len());
            assert!(grown < 1_024, "{grown} KiB more");
            assert_eq!(daemon.descriptors(), descriptors);
            // A line a second for each cause, and a burst of five.
            assert!((lines.len() as u64) < 3 * (seconds + 2 + 5), "{lines:#?}");
        });
        assert!(eventually(Duration::from_secs(5), || daemon.allocations("UDP") == calls.len() as u64));
        assert!(daemon.metric("offhook_turn_bad_credentials_total ") > 0);
        assert!(daemon.metric("offhook_turn_stale_nonces_total ") > 0);
        assert!(daemon.metric("offhook_turn_refusals_throttled_total ") > 0);
        assert_eq!(daemon.metric("offhook_turn_refused_datagrams_total "), 0);
    });
}
