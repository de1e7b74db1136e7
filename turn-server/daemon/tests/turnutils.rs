//! coturn's own clients, as Debian ships them, against the daemon started from a `turnserver.conf`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The daemon, and where it was told to be.
struct Server {
    child: Child,
    port: u16,
    metrics: u16,
    folder: tempfile::TempDir,
    lines: std::sync::mpsc::Receiver<String>,
}

/// A port that nobody has now, by UDP and TCP.
fn free_port() -> u16 {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    TcpListener::bind(("127.0.0.1", port)).map_or_else(|_| free_port(), |_| port)
}

const USERS: &str = "lt-cred-mech\nuser=alice:sesame\nuse-auth-secret\nstatic-auth-secret=north\n";

impl Server {
    fn start(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, metrics) = (free_port(), free_port());
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let at = folder.path().display();
        let text = format!(
            "listening-ip=127.0.0.1\nlistening-port={port}\ntls-listening-port=0\nrelay-ip=127.0.0.1\nrelay-ip=::1\n\
             realm=example.org\nallow-loopback-peers\ncert={at}/cert.pem\npkey={at}/key.pem\npidfile={at}/pid\n\
             prometheus\nprometheus-port={metrics}\nlog-file=stdout\nverbose\n{options}"
        );
        fs::write(folder.path().join("turnserver.conf"), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_offhook-turn"))
            .arg("-c")
            .arg(folder.path().join("turnserver.conf"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let server = Self { child, port, metrics, folder, lines };
        server.wait_for("listening by TCP and TLS");
        server
    }

    fn wait_for(&self, words: &str) -> String {
        loop {
            let line =
                self.lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("no line with {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    fn tool(&self, tool: &str, arguments: &[&str]) -> Output {
        run(self.port, tool, arguments)
    }

    /// Runs a client with these switches; everything that it sends must come back.
    /// Between clients of this server.
    fn carries(&self, switches: &[&str]) {
        self.carries_to(&[&["-y"], switches].concat());
    }

    fn carries_to(&self, switches: &[&str]) {
        carries(self.port, switches);
    }

    /// All of these at the same time.
    fn carries_each(&self, modes: &[&[&str]]) {
        let port = self.port;
        std::thread::scope(|scope| {
            for mode in modes {
                scope.spawn(move || carries(port, &[&["-y"], &ALICE[..], *mode].concat()));
            }
        });
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn page(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("turnserver.conf")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(port: u16, tool: &str, arguments: &[&str]) -> Output {
    let port = port.to_string();
    let output = Command::new("timeout").arg("60").arg(tool).args(["-p", &port]).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{tool} (Debian's package coturn): {error}"))
}

/// Runs `turnutils_uclient`; everything that it sends must come back.
fn carries(port: u16, switches: &[&str]) {
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

const ALICE: [&str; 4] = ["-u", "alice", "-w", "sesame"];

#[test]
fn uclient_passes_in_its_udp_modes() {
    let server = Server::start(USERS);
    server.carries_each(&[&[], &["-c"], &["-s"], &["-g"], &["-x"], &["-Z"], &["-X"], &["-s", "-g"]]);
    // Padded ChannelData, requests more than need be, requests that are wrong, clients that leave and come, long messages.
    server.carries_each(&[&["-D"], &["-G"], &["-N"], &["-B"], &["-l", "1400"], &["-s", "-l", "1400"]]);
    let page = server.page();
    let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap();
    assert!(value("turn_total_traffic_rcvp ") >= 48 && value("turn_total_traffic_sentp ") >= 48, "{page}");
    assert!(value("turn_unauthenticated_401_sent ") >= 6);
}

#[test]
fn uclient_passes_by_tcp_and_by_tls_on_the_same_port() {
    let server = Server::start(USERS);
    server.carries_each(&[&["-t"], &["-t", "-c"], &["-t", "-s"], &["-t", "-g"], &["-t", "-x"], &["-t", "-Z"]]);
    server.carries_each(&[&["-t", "-S"], &["-t", "-S", "-s"], &["-t", "-S", "-c"], &["-t", "-S", "-l", "1400"]]);
}

/// A peer that is no client: what Debian's own one returns.
#[test]
fn uclient_reaches_a_peer_that_echoes() {
    let server = Server::start(USERS);
    let port = free_port().to_string();
    let mut peer = Command::new("turnutils_peer").args(["-p", &port, "-L", "127.0.0.1"]).spawn().unwrap();
    for mode in [&[][..], &["-s"], &["-c", "-t"]] {
        server.carries_to(&[&ALICE[..], &["-e", "127.0.0.1", "-r", &port], mode].concat());
    }
    peer.kill().unwrap();
    peer.wait().unwrap();
}

/// RFC 6062 is not spoken: 442. DTLS, which is what `-S` means without `-t`, is not either: no answer, and no harm.
#[test]
fn uclient_is_told_what_is_not_spoken() {
    let server = Server::start(USERS);
    let refused = server.tool("turnutils_uclient", &[&ALICE[..], &["-T", "-n", "1", "-m", "1", "127.0.0.1"]].concat());
    assert!(String::from_utf8_lossy(&refused.stdout).contains("442") && !refused.status.success());
    let port = server.port.to_string();
    let dtls = Command::new("timeout")
        .args(["3", "turnutils_uclient", "-S", "-y", "-p", &port, "127.0.0.1"])
        .stdout(Stdio::null())
        .status();
    assert_eq!(dtls.unwrap().code(), Some(124));
    server.carries(&[&ALICE[..], &["-c"]].concat());
}

#[test]
fn uclient_passes_with_rest_credentials() {
    let server = Server::start(USERS);
    server.carries(&["-u", "bob", "-W", "north"]);
    server.carries(&["-u", "bob", "-W", "north", "-t", "-S"]);
    let refused = server.tool("turnutils_uclient", &["-y", "-u", "bob", "-W", "south", "-m", "1", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("Total lost packets 0"));
    let line = server.wait_for("refused");
    assert!(line.contains("the password is wrong") && line.contains("127.0.0.1"), "{line}");
}

#[test]
fn stunclient_and_natdiscovery_learn_their_address() {
    let server = Server::start(USERS);
    for (tool, arguments) in
        [("turnutils_stunclient", &["127.0.0.1"][..]), ("turnutils_natdiscovery", &["-m", "127.0.0.1"])]
    {
        let output = server.tool(tool, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("UDP reflexive addr: 127.0.0.1:"), "{tool}: {text}");
    }
}

#[test]
fn a_quota_is_held_and_the_log_says_whose() {
    let server = Server::start(&format!("{USERS}user-quota=1\n"));
    let output = server
        .tool("turnutils_uclient", &["-c", "-y", "-n", "2", "-m", "2", "-u", "alice", "-w", "sesame", "127.0.0.1"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("486"));
    let line = server.wait_for("quota");
    assert!(line.contains("refused") && line.contains("alice"), "{line}");
}

#[test]
fn a_session_leaves_one_line_when_its_connection_closes() {
    let server = Server::start(USERS);
    server.carries(&["-t", "-c", "-u", "alice", "-w", "sesame"]);
    let line = server.wait_for("allocation ended");
    assert!(line.contains("alice") && line.contains("up_packets") && line.contains("connection was closed"), "{line}");
}

#[test]
fn reload_takes_new_users_and_draining_refuses_new_ones_and_ends() {
    let mut server = Server::start(USERS);
    let text = fs::read_to_string(server.config()).unwrap();
    fs::write(server.config(), format!("{text}user=carol:later\n")).unwrap();
    server.signal("HUP");
    server.wait_for("configuration read again");
    server.wait_for("certificate read again");
    server.carries(&["-c", "-u", "carol", "-w", "later"]);
    server.signal("USR2");
    server.wait_for("certificate read again");
    let pid = fs::read_to_string(server.folder.path().join("pid")).unwrap();
    assert_eq!(pid.trim(), server.child.id().to_string());
    server.signal("USR1");
    server.wait_for("draining");
    let refused = server.tool("turnutils_uclient", &["-y", "-u", "alice", "-w", "sesame", "-m", "1", "127.0.0.1"]);
    assert!(!String::from_utf8_lossy(&refused.stdout).contains("Total lost packets 0"));
    // What carol's client left behind ends with the process.
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    assert!(!server.folder.path().join("pid").exists());
}

#[test]
fn other_protocols_are_closed_without_an_answer() {
    let server = Server::start(USERS);
    for hello in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0, 1, 0, 0, 1, 2, 3, 4]] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(hello).unwrap();
        let mut answer = Vec::new();
        // Closed, by either way of closing; a time-out would be an error of another kind.
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        assert!(answer.is_empty());
    }
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
