//! SIGUSR1 under load.
use crate::rig::{Daemon, Ends};
use offhook_testkit::TurnClient;
use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn relayed(client: &TurnClient, peer: &UdpSocket, payload: &[u8]) {
    client.send(0x4000, payload).unwrap();
    let mut buffer = [0; 2_048];
    let (length, from) = peer.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], payload);
    peer.send_to(payload, from).unwrap();
    assert_eq!(client.receive().unwrap(), (0x4000, payload.to_vec()));
}

#[test]
fn running_relays_finish_and_refresh_new_ones_are_508_and_the_last_one_ends_the_process() {
    let mut daemon = Daemon::open("");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut clients: Vec<TurnClient> =
        (0..20).map(|_| TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap()).collect();
    for client in &mut clients {
        client.allocate().unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        relayed(client, &peer, b"before");
    }
    daemon.signal("USR1");
    daemon.wait_for("draining");
    for round in 0..20 {
        let refused = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap().allocate().unwrap_err();
        assert!(refused.to_string().contains("508"), "{refused}");
        for (n, client) in clients.iter_mut().enumerate() {
            client.refresh(600).unwrap();
            client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
            relayed(client, &peer, format!("round {round} of {n}").as_bytes());
        }
    }
    assert!(daemon.lines().iter().any(|line| line.contains("the server is draining")));
    let last = clients.pop().unwrap();
    clients.iter_mut().for_each(|client| client.refresh(0).unwrap());
    relayed(&last, &peer, b"alone");
    assert!(daemon.child.try_wait().unwrap().is_none());
    let mut last = last;
    last.refresh(0).unwrap();
    assert!(daemon.ended_within(Duration::from_secs(10)));
    assert!(daemon.child.wait().unwrap().success());
}

const RELAYS: usize = 10;
/// Of each relay in each direction: 5,000 packets a second of all of them.
const TICK: Duration = Duration::from_millis(4);
/// Packets between two Refreshes of one relay.
const REFRESH_EVERY: u64 = 40;

/// One relay in use: what it sent up, what its peer saw of it and sent down, what came back.
struct Flow {
    client: TurnClient,
    peer: UdpSocket,
}

impl Flow {
    fn begin(server: SocketAddr) -> Self {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut client = TurnClient::log_in(server, "alice", "sesame").unwrap();
        client.allocate().unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        Self { client, peer }
    }

    /// Returns what comes, each packet under the number that it came with, and says which numbers came.
    fn echo(peer: &UdpSocket, end: &AtomicBool) -> HashSet<u64> {
        peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (mut seen, mut buffer) = (HashSet::new(), [0; 256]);
        loop {
            match peer.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    assert!(seen.insert(number(&buffer[..length])), "twice at the peer");
                    peer.send_to(&buffer[..length], from).unwrap();
                }
                Err(_) if end.load(Ordering::Relaxed) => return seen,
                Err(_) => {}
            }
        }
    }

    /// Sends by the clock, and refreshes, until `until` is set; gives the relay back when everything came back.
    fn run(self, until: &AtomicBool, carried: &AtomicU64) {
        let Self { mut client, peer } = self;
        let end = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ends = Ends(&end);
            let echo = scope.spawn(|| Self::echo(&peer, &end));
            let (begin, mut sent, mut back) = (Instant::now(), 0, HashSet::new());
            while !until.load(Ordering::Relaxed) {
                client.send(0x4000, &packet(sent)).unwrap();
                sent += 1;
                if sent % REFRESH_EVERY == 0 {
                    client.refresh(600).unwrap();
                }
                let next = begin + TICK * u32::try_from(sent).unwrap();
                while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                    client.socket().set_read_timeout(Some(left)).unwrap();
                    take(&client, &mut back);
                }
            }
            client.socket().set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            while back.len() < sent as usize && take(&client, &mut back) {}
            drop(ends);
            let up = echo.join().unwrap();
            assert_eq!((up.len() as u64, back.len() as u64), (sent, sent), "of {sent}, up and down");
            carried.fetch_add(2 * sent, Ordering::Relaxed);
        });
        client.socket().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.refresh(0).unwrap();
    }
}

fn packet(number: u64) -> [u8; 172] {
    let mut packet = [0x5A; 172];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    packet
}

fn number(packet: &[u8]) -> u64 {
    let number = u64::from_be_bytes(packet[..8].try_into().unwrap());
    assert_eq!(packet, self::packet(number));
    number
}

/// `false` when nothing came in time.
fn take(client: &TurnClient, back: &mut HashSet<u64>) -> bool {
    let Ok((channel, payload)) = client.receive() else { return false };
    assert_eq!(channel, 0x4000);
    assert!(back.insert(number(&payload)), "twice at the client");
    true
}

#[test]
fn five_thousand_packets_a_second_lose_none_to_a_drain() {
    let mut daemon = Daemon::open("");
    let server = daemon.at();
    let flows: Vec<Flow> = (0..RELAYS).map(|_| Flow::begin(server)).collect();
    let (end, carried) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for flow in flows {
            scope.spawn(|| flow.run(&end, &carried));
        }
        let ends = Ends(&end);
        std::thread::park_timeout(Duration::from_millis(500));
        daemon.signal("USR1");
        daemon.wait_for("draining");
        // RFC 8656 §19: Insufficient Capacity. Whoever is told so goes to another server.
        for _ in 0..20 {
            let refused = TurnClient::log_in(server, "alice", "sesame").unwrap().allocate().unwrap_err();
            assert!(refused.to_string().contains("508"), "{refused}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        assert!(daemon.child.try_wait().unwrap().is_none(), "it ended before its relays");
        drop(ends);
    });
    let (carried, took) = (carried.into_inner(), begin.elapsed());
    println!("{carried} packets in {took:?}");
    assert!(carried as f64 > 2_500.0 * took.as_secs_f64().min(1.5), "{carried} in {took:?}: too few to show anything");
    assert!(daemon.ended_within(Duration::from_secs(10)), "it goes on without relays");
    assert!(daemon.child.wait().unwrap().success());
    daemon.wait_for("drained");
}
