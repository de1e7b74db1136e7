//! The daemon as a process of its own, and how to look at it from outside.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

pub struct Daemon {
    pub child: Child,
    pub address: SocketAddr,
    metrics: u16,
    lines: Receiver<String>,
    _folder: tempfile::TempDir,
    /// Kept, so that no client of these tests comes from the number of a socket of the server: it would be taken for it.
    _held: UdpSocket,
}

/// A port that nobody has now, by UDP and TCP.
fn free_port() -> u16 {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    TcpListener::bind(("127.0.0.1", port)).map_or_else(|_| free_port(), |_| port)
}

impl Daemon {
    pub fn start(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, metrics) = (free_port(), free_port());
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        let at = folder.path().display();
        let text = format!(
            "listening-ip=127.0.0.1\nlistening-port={port}\ntls-listening-port=0\nrelay-ip=127.0.0.1\nrealm=example.org\n\
             lt-cred-mech\nuser=alice:sesame\nallow-loopback-peers\ncert={at}/cert.pem\npkey={at}/key.pem\n\
             prometheus\nprometheus-port={metrics}\nlog-file=stdout\n{options}"
        );
        fs::write(folder.path().join("turnserver.conf"), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_offhook-turn"))
            .arg("-c")
            .arg(folder.path().join("turnserver.conf"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let address = ([127, 0, 0, 1], port).into();
        let held = UdpSocket::bind(("127.0.0.1", metrics)).unwrap();
        let daemon = Self { child, address, metrics, lines, _folder: folder, _held: held };
        daemon.wait_for("listening by TCP and TLS");
        daemon
    }

    pub fn wait_for(&self, words: &str) -> String {
        loop {
            let line =
                self.lines.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("no line with {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The lines since the last look.
    pub fn lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn ended_within(&mut self, time: Duration) -> bool {
        eventually(time, || self.child.try_wait().unwrap().is_some())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn eventually(time: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    loop {
        if is_so() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
