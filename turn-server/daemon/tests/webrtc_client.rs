//! A TURN client that others wrote, `turn` of webrtc-rs, against the daemon: allocate, permission, channel, data both ways,
//! refresh and release.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod rig;

use rig::{Daemon, eventually};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

async fn client(server: &str, user: &str, password: &str) -> Client {
    let conn = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let config = ClientConfig {
        stun_serv_addr: server.to_owned(),
        turn_serv_addr: server.to_owned(),
        username: user.to_owned(),
        password: password.to_owned(),
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(conn),
        vnet: None,
    };
    let client = Client::new(config).await.unwrap();
    client.listen().await.unwrap();
    client
}

async fn within<T>(what: &str, task: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), task)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing in five seconds"))
}

#[tokio::test]
async fn a_session_carries_both_ways_lives_by_its_refreshes_and_ends_with_its_release() {
    // The allocation lasts two seconds, so that five take two refreshes at least.
    let daemon = Daemon::open("max-allocate-lifetime=2\n");
    let client = client(&daemon.at().to_string(), "alice", "sesame").await;
    let mapped = within("Binding", client.send_binding_request()).await.unwrap();
    assert!(mapped.ip().is_loopback());
    let relay = within("Allocate", client.allocate()).await.unwrap();
    let relayed = relay.local_addr().unwrap();
    assert_ne!(relayed.port(), daemon.at().port());
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = peer.local_addr().unwrap();
    let mut buffer = [0; 2_048];
    let begin = Instant::now();
    let mut carried = 0u64;
    while begin.elapsed() < Duration::from_secs(5) {
        let payload = vec![carried as u8; 1 + carried as usize * 7 % 1_200];
        within("up", relay.send_to(&payload, address)).await.unwrap();
        let (length, from) = within("at the peer", peer.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..length], from), (&payload[..], relayed));
        peer.send_to(&payload, relayed).await.unwrap();
        let (length, from) = within("at the client", relay.recv_from(&mut buffer)).await.unwrap();
        assert_eq!((&buffer[..length], from), (&payload[..], address));
        carried += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(carried > 100, "{carried}");
    assert!(eventually(Duration::from_secs(3), || daemon.metric("turn_total_traffic_rcvp ") == carried));
    assert!(eventually(Duration::from_secs(3), || daemon.allocations("UDP") == 1));
    within("release", relay.close()).await.unwrap();
    client.close().await.unwrap();
    assert!(eventually(Duration::from_secs(3), || daemon.allocations("UDP") == 0));
}

#[tokio::test]
async fn a_wrong_password_is_told_and_a_forbidden_peer_is_not_reached() {
    let daemon = Daemon::open("denied-peer-ip=127.0.0.9\n");
    let server = daemon.at().to_string();
    let refused = within("Allocate", client(&server, "alice", "guess").await.allocate()).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
    let client = client(&server, "alice", "sesame").await;
    let relay = within("Allocate", client.allocate()).await.unwrap();
    let refused = within("permission", relay.send_to(b"x", "127.0.0.9:9".parse().unwrap())).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}
