//! SIGHUP: everything that can change does, and what cannot is named.
use crate::client::Client;
use crate::net::Namespace;
use crate::rig::{ALICE, Daemon, Place, free_port, until};
use offhook_wire_stun::Method;

#[test]
fn users_ranges_quotas_and_lifetimes_change_while_it_runs() {
    let daemon = Daemon::start(ALICE);
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    assert_eq!(alice.allocate().code(), 0);
    assert_eq!(alice.permit("9.9.9.1:1".parse().unwrap()), 0);
    daemon.reload(
        "lt-cred-mech\nuser=bob:open\ndenied-peer-ip=9.9.9.0-9.9.9.255\nuser-quota=1\nmax-allocate-lifetime=700\nfingerprint\n",
    );
    daemon.wait_for("configuration read again");
    // Who is no user any more keeps nothing alive.
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 401);
    assert_eq!(alice.permit("9.9.9.1:1".parse().unwrap()), 401);
    let mut bob = Client::udp(daemon.at(), "bob", "open");
    let answer = bob.allocate_with(|builder| {
        builder.lifetime_s(3_000);
    });
    assert_eq!((answer.code(), answer.lifetime()), (0, 700));
    assert!(answer.has(offhook_wire_stun::AttributeType::FINGERPRINT));
    assert_eq!(Client::udp(daemon.at(), "bob", "open").allocate().code(), 486);
    // Who is one stays in, under the new ranges.
    daemon.reload(&format!("{ALICE}user=bob:open\ndenied-peer-ip=9.9.7.0-9.9.7.255\n"));
    daemon.wait_for("configuration read again");
    assert_eq!(["9.9.7.1:1", "9.9.9.1:1"].map(|peer| bob.permit(peer.parse().unwrap())), [403, 0]);
}

#[test]
fn what_waits_for_a_restart_is_named_once_each_and_stays_as_it_was() {
    let daemon = Daemon::start(ALICE);
    let other = free_port();
    daemon.reload(&format!(
        "{ALICE}user=bob:open\naux-server=127.0.0.1:{other}\nrelay-ip=127.0.0.9\nmin-port=40000\nmax-port=50000\n\
         external-ip=198.51.100.1\nrelay-threads=2\nno-tcp\ntls-listening-port={other}\nprometheus\npidfile=/tmp/x\n\
         proc-user=nobody\n"
    ));
    for option in [
        "tls-listening-port",
        "aux-server",
        "relay-ip",
        "external-ip",
        "min-port",
        "max-port",
        "relay-threads",
        "no-tcp",
        "pidfile",
        "proc-user",
        "prometheus",
    ] {
        let line = daemon.wait_for("waits for a restart");
        assert!(line.contains(&format!("{option} was changed")), "{option}: {line}");
    }
    daemon.wait_for("configuration read again");
    let mut bob = Client::tcp(daemon.at(), "bob", "open");
    let relayed = bob.allocate().relayed();
    assert_eq!(relayed.ip(), daemon.at().ip());
    // Nothing new is said when nothing more changes.
    daemon.reload(&format!("{ALICE}user=bob:open\n"));
    daemon.wait_for("configuration read again");
}

#[test]
fn sessions_that_end_after_a_reload_are_counted_under_the_new_realm_and_its_users() {
    let options = format!("{ALICE}prometheus\n");
    let daemon = Daemon::start(&options);
    let session = || {
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        assert_eq!(alice.allocate().code(), 0);
        alice.ask_logged_in(Method::REFRESH, |builder| {
            builder.lifetime_s(0);
        });
    };
    session();
    until("one sum", || daemon.page().contains("turn_traffic_rcvp{realm=\"example.org\"} "));
    daemon.reload(&format!("{options}realm=example.net\nprometheus-username-labels\n"));
    daemon.wait_for("configuration read again");
    session();
    until("one of the user", || daemon.page().contains("turn_traffic_rcvp{realm=\"example.net\",user=\"alice\"} "));
    assert!(!daemon.page().contains("example.org"));
}

/// A name server that is away, or slow, holds up neither the reload nor the signals behind it.
#[test]
fn names_are_not_looked_up_again_where_nothing_can_change() {
    let place = Place::new();
    let hosts = place.shown("hosts");
    std::fs::write(&hosts, "127.0.0.1 relay.offhook.test\n").unwrap();
    let named = "listening-ip=relay.offhook.test\nrelay-ip=relay.offhook.test\nexternal-ip=relay.offhook.test\n";
    place.write(&format!("{ALICE}user=bob:open\n{named}"));
    let daemon = Daemon::with_mounts(place, &format!("mount --bind {hosts} /etc/hosts"));
    assert_eq!(Client::udp(daemon.at(), "bob", "open").allocate().code(), 0);
    std::fs::write(&hosts, "").unwrap();
    daemon.reload(&format!("{ALICE}{named}"));
    daemon.wait_for("configuration read again");
    assert_eq!(Client::udp(daemon.at(), "bob", "open").allocate().code(), 401);
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0);
    // A name that was not there at the start waits as any address would.
    daemon.reload(&format!("{ALICE}user=bob:open\n{named}listening-ip=other.offhook.test\n"));
    assert!(daemon.wait_for("waits for a restart").contains("other.offhook.test"));
    daemon.wait_for("configuration read again");
    assert_eq!(Client::udp(daemon.at(), "bob", "open").allocate().code(), 0);
}

#[test]
fn a_file_that_cannot_work_changes_nothing() {
    let daemon = Daemon::start(ALICE);
    for wrong in ["min-port=2\nmax-port=1\n", "denied-peer-ip=10.0.0\n", "psql-userdb=colour=red\n"] {
        daemon.reload(wrong);
        daemon.wait_for("the old one stays");
        assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0, "{wrong}");
    }
}

/// RFC 8981 gives a host another address every day.
#[test]
fn an_address_that_the_host_is_given_later_leads_to_no_socket_of_ours() {
    let host = Namespace::with_addresses(["10.3.0.1"]);
    let place = Place::new();
    place.write(&format!("{ALICE}listening-ip=0.0.0.0\n"));
    let mut command = host.command(env!("CARGO_BIN_EXE_offhook-turn"));
    command.arg("-c").arg(place.path("turnserver.conf"));
    let daemon = Daemon::spawn(place, command);
    host.within(|| {
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        assert_eq!(alice.allocate().code(), 0);
        let later = format!("10.3.0.7:{}", daemon.place.port).parse().unwrap();
        assert_eq!(alice.bind(0x4000, later), 0);
        host.ip("addr add 10.3.0.7/32 dev card");
        until("the new address is shut", || alice.bind(0x4000, later) == 403);
        // As it was: whom coturn relays to.
        assert_eq!(alice.bind(0x4001, "10.3.0.7:9".parse().unwrap()), 0);
    });
}
