//! The daemon as a process of its own, started from a file, and how to look at it from outside.
#![allow(dead_code, reason = "no test needs all of it")]
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What a process may take to do something in its own time, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A port that nobody has now, by UDP and TCP, and that this process has not given out.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        let mut given = GIVEN.lock().unwrap();
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.push(port);
            return port;
        }
    }
}

/// A folder that others may enter, with a certificate in it, and two ports.
pub struct Place {
    pub folder: TempDir,
    pub port: u16,
    /// Where metrics are served, for files that want any.
    pub metrics: u16,
    /// Kept, so that no client of these tests comes from the number of a socket of the server: it would be taken for it.
    _held: UdpSocket,
}

/// Writes a certificate of its own and its key.
pub fn certify(chain: &Path, key: &Path) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(chain, certified.cert.pem()).unwrap();
    fs::write(key, certified.signing_key.serialize_pem()).unwrap();
}

/// A TCP port, and its number held by UDP: somebody else may have that.
fn free_for_both() -> (u16, UdpSocket) {
    let mut tries = std::iter::repeat_with(free_port).take(100);
    let both = tries.find_map(|port| Some((port, UdpSocket::bind(("127.0.0.1", port)).ok()?)));
    both.expect("a number that is free by TCP and by UDP")
}

impl Place {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        certify(&folder.path().join("cert.pem"), &folder.path().join("key.pem"));
        let (metrics, held) = free_for_both();
        Self { folder, port: free_port(), metrics, _held: held }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// One listener, one relay address and one thread, unless `options` say more.
    pub fn write(&self, options: &str) {
        let (port, metrics) = (self.port, self.metrics);
        let more = |name: &str, line: &str| {
            let is_there = options.lines().any(|option| option.starts_with(name));
            if is_there { String::new() } else { line.to_owned() }
        };
        let text = [
            more("listening-ip=", "listening-ip=127.0.0.1\n"),
            more("listening-port=", &format!("listening-port={port}\n")),
            more("tls-listening-port=", "tls-listening-port=0\n"),
            more("relay-ip=", "relay-ip=127.0.0.1\n"),
            more("realm=", "realm=example.org\n"),
            more("userdb=", "userdb=/dev/null\n"),
            more("log-file=", "log-file=stdout\n"),
            more("relay-threads=", "relay-threads=1\n"),
            if options.lines().any(|option| option == "prometheus") {
                more("prometheus-port=", &format!("prometheus-port={metrics}\n"))
            } else {
                String::new()
            },
            options.to_owned(),
        ];
        fs::write(self.path("turnserver.conf"), text.concat()).unwrap();
    }

    /// Takes out a line that [`Place::write`] put in.
    pub fn without(&self, line: &str) {
        let text = fs::read_to_string(self.path("turnserver.conf")).unwrap();
        assert!(text.contains(line));
        fs::write(self.path("turnserver.conf"), text.replace(line, "")).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offhook-turn"));
        command.arg("-c").arg(self.path("turnserver.conf"));
        command
    }

    /// A start that fails.
    pub fn refused(&self, options: &str) -> Output {
        self.write(options);
        self.command().output().unwrap()
    }

    pub fn start(self, options: &str) -> Daemon {
        self.write(options);
        let command = self.command();
        Daemon::spawn(self, command)
    }
}

pub struct Daemon {
    pub place: Place,
    pub child: Child,
    lines: Mutex<Receiver<String>>,
}

pub const ALICE: &str = "lt-cred-mech\nuser=alice:sesame\n";

impl Daemon {
    pub fn start(options: &str) -> Self {
        Place::new().start(options)
    }

    /// For Alice, with peers on this machine, TLS, metrics, and a thread for each processor.
    pub fn open(options: &str) -> Self {
        let base = "allow-loopback-peers\ncert=cert.pem\npkey=key.pem\nprometheus\nrelay-threads=0\n";
        Self::start(&format!("{ALICE}{base}{options}"))
    }

    pub fn spawn(place: Place, command: Command) -> Self {
        let daemon = Self::spawn_silent(place, command);
        if daemon.config().contains("no-stdout-log") {
            // It says nothing; that it answers must do.
            until("the listener is bound", || TcpStream::connect(daemon.at()).is_ok());
        } else {
            daemon.wait_for("listening");
        }
        daemon
    }

    /// Waits for nothing.
    pub fn spawn_silent(place: Place, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, lines) = channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Self { place, child, lines: Mutex::new(lines) }
    }

    /// With mounts of its own, made by a line of shell. Needs root.
    pub fn with_mounts(place: Place, script: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", &format!("{script} && exec \"$@\""), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_offhook-turn")).arg("-c").arg(place.path("turnserver.conf"));
        Self::spawn(place, command)
    }

    fn config(&self) -> String {
        fs::read_to_string(self.place.path("turnserver.conf")).unwrap()
    }

    pub fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port))
    }

    /// The next line with these words.
    pub fn wait_for(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.lock().unwrap().recv_timeout(PATIENCE) else {
                panic!("no line with {words:?} among\n{}", seen.join("\n"))
            };
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
    }

    /// The lines since the last look.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().try_iter().collect()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Writes the file anew and has it read.
    pub fn reload(&self, options: &str) {
        self.place.write(options);
        self.signal("HUP");
    }

    pub fn end(&mut self) {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
    }

    pub fn ended_within(&mut self, time: Duration) -> bool {
        eventually(time, || self.child.try_wait().unwrap().is_some())
    }

    pub fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join(name)).unwrap()
    }

    pub fn resident_kib(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn page(&self) -> String {
        page(SocketAddr::from(([127, 0, 0, 1], self.place.metrics)), "/metrics")
    }

    pub fn metric(&self, name: &str) -> u64 {
        let page = self.page();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// coturn's gauge for one kind of carrier.
    pub fn allocations(&self, carrier: &str) -> u64 {
        self.metric(&format!("turn_total_allocations{{type=\"{carrier}\"}} "))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends the others also when its holder fails.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What an HTTP server says.
pub fn page(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Asks again and again, for something that another process does in its own time.
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

pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(eventually(PATIENCE, is_so), "never: {what}");
}
