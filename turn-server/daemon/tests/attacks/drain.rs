//! SIGUSR1 under load.
use crate::rig::Daemon;
use offhook_testkit::TurnClient;
use std::net::UdpSocket;
use std::time::Duration;

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
    let mut daemon = Daemon::start("");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut clients: Vec<TurnClient> =
        (0..20).map(|_| TurnClient::log_in(daemon.address, "alice", "sesame").unwrap()).collect();
    for client in &mut clients {
        client.allocate().unwrap();
        client.bind(0x4000, peer.local_addr().unwrap()).unwrap();
        relayed(client, &peer, b"before");
    }
    daemon.signal("USR1");
    daemon.wait_for("draining");
    for round in 0..20 {
        let refused = TurnClient::log_in(daemon.address, "alice", "sesame").unwrap().allocate().unwrap_err();
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
