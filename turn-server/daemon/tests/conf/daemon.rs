//! The daemon as a process of its own, started from a file.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

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

/// A folder that others may enter, with a certificate in it.
pub struct Place {
    pub folder: TempDir,
    pub port: u16,
}

impl Place {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
        Self { folder, port: free_port() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// One listener, one relay address and one user, unless `options` say more.
    pub fn write(&self, options: &str) {
        let port = self.port;
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
    lines: Receiver<String>,
}

pub const ALICE: &str = "lt-cred-mech\nuser=alice:sesame\n";

impl Daemon {
    pub fn start(options: &str) -> Self {
        Place::new().start(options)
    }

    pub fn spawn(place: Place, mut command: Command) -> Self {
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
        let daemon = Self { place, child, lines };
        if daemon.config().contains("no-stdout-log") {
            // It says nothing; that it answers must do.
            daemon.wait_until_bound();
        } else {
            daemon.wait_for("listening");
        }
        daemon
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

    fn wait_until_bound(&self) {
        until("the listener is bound", || TcpStream::connect(self.at()).is_ok());
    }

    pub fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port))
    }

    /// The next line with these words.
    pub fn wait_for(&self, words: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(Duration::from_secs(20)) else {
                panic!("no line with {words:?} among\n{}", seen.join("\n"))
            };
            if line.contains(words) {
                return line;
            }
            seen.push(line);
        }
    }

    /// All lines that came so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.try_iter().collect()
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

    pub fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join(name)).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
