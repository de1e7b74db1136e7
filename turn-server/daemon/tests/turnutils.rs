//! coturn's own clients, as Debian ships them, against the daemon started from a `turnserver.conf`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod rig;

use rig::{Daemon, free_port};
use std::fs;
use std::process::{Child, Command, Output, Stdio};

/// A password, a secret, relays of both families.
fn start(options: &str) -> Daemon {
    Daemon::open(&format!(
        "use-auth-secret\nstatic-auth-secret=north\nrelay-ip=127.0.0.1\nrelay-ip=::1\nverbose\n{options}"
    ))
}

const ALICE: [&str; 4] = ["-u", "alice", "-w", "sesame"];
/// The secret, from which the client makes a REST password.
const REST: [&str; 4] = ["-u", "bob", "-W", "north"];

/// Between clients of one server.
fn carries(server: &Daemon, switches: &[&str]) {
    carries_to(server.place.port, &[&["-y"], switches].concat());
}

/// All of these at the same time, as Alice.
fn carries_each(server: &Daemon, modes: &[&[&str]]) {
    let port = server.place.port;
    std::thread::scope(|scope| {
        for mode in modes {
            scope.spawn(move || carries_to(port, &[&["-y"], &ALICE[..], *mode].concat()));
        }
    });
}

fn tool(server: &Daemon, tool: &str, arguments: &[&str]) -> Output {
    run(server.place.port, tool, arguments)
}

fn run(port: u16, tool: &str, arguments: &[&str]) -> Output {
    let port = port.to_string();
    let output = Command::new("timeout").arg("60").arg(tool).args(["-p", &port]).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{tool} (Debian's package coturn): {error}"))
}

/// Runs `turnutils_uclient`; everything that it sends must come back.
fn carries_to(port: u16, switches: &[&str]) {
    let output = run(port, "turnutils_uclient", &[&["-n", "4", "-m", "2"], switches, &["127.0.0.1"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Total lost packets 0 (0.000000%)"), "{switches:?}: {text}");
    assert!(output.status.success(), "{switches:?}: {text}");
    // Four messages of two clients; twice as many with RTCP beside RTP.
    let count = |name: &str| -> u32 {
        let (_, after) = text.rsplit_once(name).unwrap_or_else(|| panic!("{switches:?}: no {name} in {text}"));
        after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap()
    };
    let (sent, received) = (count("tot_send_msgs="), count("tot_recv_msgs="));
    assert!(sent == received && sent >= 8, "{switches:?}: {received} of {sent}");
}

/// Debian's own peer, which is no client and returns what comes.
struct Peer(Child, String);

impl Peer {
    fn start() -> Self {
        let port = free_port().to_string();
        let child = Command::new("turnutils_peer")
            .args(["-p", &port, "-L", "127.0.0.1", "-L", "::1"])
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("turnutils_peer (Debian's package coturn)"), port)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// RTP with RTCP and without, Send indications, DONT-FRAGMENT, relays by IPv6, by both families, each alone and some
/// together, long messages, and REST credentials: between clients, and to a peer that is none.
fn passes_in_every_mode(carrier: &[&str]) {
    let (server, peer) = (start(""), Peer::start());
    let (port, echo) = (server.place.port, ["-e", "127.0.0.1", "-r", &peer.1]);
    let modes: [&[&str]; 11] = [
        &[],
        &["-c"],
        &["-s"],
        &["-g"],
        &["-x"],
        &["-Z"],
        &["-X"],
        &["-s", "-g"],
        &["-c", "-x", "-s"],
        &["-l", "1400"],
        &["-s", "-l", "1400"],
    ];
    let to_peer: [&[&str]; 4] = [&[], &["-c", "-g"], &["-s"], &["-s", "-g"]];
    std::thread::scope(|scope| {
        let run = |words: Vec<&str>| {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            scope.spawn(move || carries_to(port, &words.iter().map(String::as_str).collect::<Vec<_>>()));
        };
        modes.iter().for_each(|mode| run([&["-y"], &ALICE[..], carrier, mode].concat()));
        to_peer.iter().for_each(|mode| run([&ALICE[..], &echo, carrier, mode].concat()));
        run([&["-y"], &REST[..], carrier].concat());
        run([&REST[..], &echo, carrier, &["-s"]].concat());
    });
    let created = server.metric("offhook_turn_allocations_created_total ");
    assert!(created >= 17 * 2, "{created} allocations");
}

#[test]
fn uclient_passes_in_every_mode_by_udp() {
    passes_in_every_mode(&[]);
}

#[test]
fn uclient_passes_in_every_mode_by_tcp() {
    passes_in_every_mode(&["-t"]);
}

/// On the same port.
#[test]
fn uclient_passes_in_every_mode_by_tls() {
    passes_in_every_mode(&["-t", "-S"]);
}

/// Padded ChannelData, requests more than need be, requests that are wrong, clients that leave and come.
#[test]
fn uclient_passes_when_it_misbehaves_and_is_counted() {
    let server = start("");
    carries_each(&server, &[&["-D"], &["-G"], &["-N"], &["-B"], &["-t", "-G"], &["-t", "-S", "-N"]]);
    assert!(server.metric("turn_total_traffic_rcvp ") >= 48 && server.metric("turn_total_traffic_sentp ") >= 48);
    assert!(server.metric("turn_unauthenticated_401_responses ") >= 6);
}

/// RFC 6062 is not spoken: 442. DTLS, which is what `-S` means without `-t`, is not either: no answer, and no harm.
#[test]
fn uclient_is_told_what_is_not_spoken() {
    let server = start("");
    let refused =
        tool(&server, "turnutils_uclient", &[&ALICE[..], &["-T", "-n", "1", "-m", "1", "127.0.0.1"]].concat());
    assert!(String::from_utf8_lossy(&refused.stdout).contains("442") && !refused.status.success());
    let port = server.place.port.to_string();
    let dtls = Command::new("timeout")
        .args(["3", "turnutils_uclient", "-S", "-y", "-p", &port, "127.0.0.1"])
        .stdout(Stdio::null())
        .status();
    assert_eq!(dtls.unwrap().code(), Some(124));
    carries(&server, &[&ALICE[..], &["-c"]].concat());
}

#[test]
fn uclient_with_another_secret_is_refused_and_the_log_says_why() {
    let server = start("");
    let refused = tool(&server, "turnutils_uclient", &["-y", "-u", "bob", "-W", "south", "-m", "1", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("Total lost packets 0"));
    let line = server.wait_for("refused");
    assert!(line.contains("the password is wrong") && line.contains("127.0.0.1"), "{line}");
}

#[test]
fn stunclient_and_natdiscovery_learn_their_address() {
    let server = start("");
    for (name, arguments) in
        [("turnutils_stunclient", &["127.0.0.1"][..]), ("turnutils_natdiscovery", &["-m", "127.0.0.1"])]
    {
        let output = tool(&server, name, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{name}: {text}");
    }
}

#[test]
fn a_quota_is_held_and_the_log_says_whose() {
    let server = start("user-quota=1\n");
    let output = tool(
        &server,
        "turnutils_uclient",
        &["-c", "-y", "-n", "2", "-m", "2", "-u", "alice", "-w", "sesame", "127.0.0.1"],
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("486"));
    let line = server.wait_for("quota");
    assert!(line.contains("refused") && line.contains("alice"), "{line}");
}

#[test]
fn a_session_leaves_one_line_when_its_connection_closes() {
    let server = start("");
    carries(&server, &["-t", "-c", "-u", "alice", "-w", "sesame"]);
    let line = server.wait_for("allocation ended");
    assert!(line.contains("alice") && line.contains("up_packets") && line.contains("connection was closed"), "{line}");
}

#[test]
fn reload_takes_new_users_and_draining_refuses_new_ones_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let pidfile = folder.path().join("turn.pid");
    let mut server = start(&format!("pidfile={}\n", pidfile.display()));
    let text = fs::read_to_string(server.place.path("turnserver.conf")).unwrap();
    fs::write(server.place.path("turnserver.conf"), format!("{text}user=carol:later\n")).unwrap();
    server.signal("HUP");
    server.wait_for("configuration read again");
    server.wait_for("certificate read again");
    carries(&server, &["-c", "-u", "carol", "-w", "later"]);
    server.signal("USR2");
    server.wait_for("certificate read again");
    let pid = fs::read_to_string(&pidfile).unwrap();
    assert_eq!(pid.trim(), server.child.id().to_string());
    server.signal("USR1");
    server.wait_for("draining");
    let refused = tool(&server, "turnutils_uclient", &["-y", "-u", "alice", "-w", "sesame", "-m", "1", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("Total lost packets 0"));
    // What carol's client left behind ends with the process.
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    assert!(!pidfile.exists());
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnserver.conf");
    fs::write(&path, "realm=x\ndenied-peer-ip=10.0.0.0-10.255 # office\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_offhook-turn")).arg("-c").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("line 2: denied-peer-ip"));
    fs::write(&path, "realm=x\nlistening-ip=127.0.0.1\nno-cli\nusr-quota=1\n").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_offhook-turn")).args(["--check-config", "-c"]).arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("did you mean user-quota?") && text.contains("no-cli does nothing"),
        "{text}"
    );
}
