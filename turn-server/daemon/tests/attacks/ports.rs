//! The end of the ports, and thousands of allocations that come and go.
use crate::rig::{Daemon, eventually};
use offhook_testkit::TurnClient;
use std::collections::HashSet;
use std::net::UdpSocket;
use std::time::Duration;

#[test]
fn an_exhausted_range_is_508_and_the_others_go_on() {
    let daemon = Daemon::open("min-port=47000\nmax-port=47049\n");
    let mut clients = Vec::new();
    let mut ports = HashSet::new();
    let refused = loop {
        let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
        match client.allocate() {
            Ok(relayed) => ports.insert(relayed.port()),
            Err(refused) => break refused,
        };
        clients.push(client);
        assert!(clients.len() <= 50);
    };
    assert!(refused.to_string().contains("508"), "{refused}");
    // Every port but those that somebody else on this machine holds.
    assert!(clients.len() >= 48 && ports.len() == clients.len(), "{}", clients.len());
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for client in &mut clients {
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        client.send(0x4000, b"on").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 2);
        client.refresh(600).unwrap();
    }
    // One goes, one comes.
    clients.pop().unwrap().refresh(0).unwrap();
    let mut newcomer = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
    newcomer.allocate().unwrap();
    newcomer.refresh(0).unwrap();
    clients.iter_mut().for_each(|client| client.refresh(0).unwrap());
    assert!(eventually(Duration::from_secs(5), || free_ports(&daemon) == 50));
    assert!(daemon.wait_for("refused").contains("no free relay port"));
}

fn free_ports(daemon: &Daemon) -> u64 {
    daemon.metric("offhook_turn_free_ports ")
}

/// All of them live at once.
const WAVE: usize = 10_000;

#[test]
fn ten_thousand_allocations_come_and_go_and_leave_memory_sockets_and_ports_as_they_were() {
    // Before memory is measured, and altogether.
    let (warm, waves) = (offhook_testkit::length(2, 3), offhook_testkit::length(3, 8));
    raise_limit();
    let daemon = Daemon::open("unauthorized-ratelimit=off\nmin-port=20000\nmax-port=32700\n");
    let run = || {
        let mut clients: Vec<TurnClient> = (0..WAVE)
            .map(|_| {
                let mut client = TurnClient::log_in(daemon.at(), "alice", "sesame").unwrap();
                client.allocate().unwrap();
                client.bind(0x4000, "127.0.0.1:9".parse().unwrap()).unwrap();
                client
            })
            .collect();
        let held = daemon.descriptors();
        clients.iter_mut().for_each(|client| client.refresh(0).unwrap());
        held
    };
    let idle = daemon.descriptors();
    // What the first waves leave is buffers that the next ones use again.
    let before = (0..warm).map(|_| (run(), daemon.resident_kib()).1).max().unwrap_or_default();
    for _ in warm..waves {
        assert!(run() >= WAVE);
    }
    assert!(eventually(Duration::from_secs(5), || daemon.metric("offhook_turn_relays ") == 0));
    assert!(
        eventually(Duration::from_secs(5), || daemon.descriptors() <= idle + 1),
        "{} of {idle}",
        daemon.descriptors()
    );
    assert!(eventually(Duration::from_secs(5), || free_ports(&daemon) == 12_701));
    let grown = daemon.resident_kib().saturating_sub(before);
    // A fifth of a KiB for each would be seen.
    assert!(grown < 2_048, "{grown} KiB more than after {warm} times {WAVE}");
    let created = || daemon.metric("offhook_turn_allocations_created_total ");
    assert!(eventually(Duration::from_secs(5), || created() == (WAVE * waves) as u64), "{}", created());
}

/// As the daemon does for itself.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let held = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: held.maximum, ..held }).unwrap();
}
