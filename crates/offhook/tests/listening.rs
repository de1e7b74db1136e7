//! What TURN must not relay to, held against what the daemons listen on when nothing is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_contract::DaemonKind;
use offhook_runtime::{ConfigFile, Daemon, health_port};
use std::net::SocketAddr;

#[test]
fn the_sockets_that_turn_keeps_shut_are_those_that_the_daemons_open() {
    let file = ConfigFile::parse("offhook.toml", "", []).unwrap();
    let closed = file.listening_sockets();
    let everywhere = |port: u16| ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
    let (sfu, sip) = (offhook_sfu::SfuDaemon::config(&file).unwrap(), offhook_sip::SipGateway::config(&file).unwrap());
    let mut open: Vec<SocketAddr> = Vec::new();
    open.extend(&sfu.tap_listen);
    open.extend(&offhook_recorder::Recorder::config(&file).unwrap().listen);
    open.extend(&offhook_control::Control::config(&file).unwrap().listen);
    open.extend(&sip.listen);
    // On the address that routes to each trunk.
    open.extend(everywhere(sip.port));
    open.extend([None].into_iter().chain(DaemonKind::ALL.map(Some)).map(health_port));
    for socket in &open {
        assert!(closed.contains(socket), "{socket} is open to TURN");
    }
    assert_eq!(file.listening_ports(), [sip.rtp_ports.0..=sip.rtp_ports.1]);
    let other = "[sip]\nlisten = [\"192.0.2.1:5070\"]\nrtp_ports = [30000, 30099]\n";
    let file = ConfigFile::parse("offhook.toml", other, []).unwrap();
    let sip = offhook_sip::SipGateway::config(&file).unwrap();
    for socket in sip.listen.iter().copied().chain(everywhere(sip.port)) {
        assert!(file.listening_sockets().contains(&socket), "{socket} is open to TURN");
    }
    assert_eq!(file.listening_ports(), [sip.rtp_ports.0..=sip.rtp_ports.1]);
}
