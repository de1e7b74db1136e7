//! Debian's coturn with a shared secret, relaying on loopback.
use crate::ports;
use crate::process::Process;
use crate::wait;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

#[derive(Debug)]
pub struct Coturn {
    pub port: u16,
    pub secret: &'static str,
    process: Process,
}

impl Coturn {
    pub fn start(folder: &Path) -> Self {
        let (port, secret) = (ports::free(), "coturn and we share this");
        let relays = ports::free_range(40);
        let mut command = Command::new("turnserver");
        command.args(["-n", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "--realm", "offhook"]);
        command.args(["--listening-port", &port.to_string(), "--no-tls", "--no-dtls", "--no-cli", "-v"]);
        command.args(["--min-port", &relays.to_string(), "--max-port", &(relays + 39).to_string()]);
        command.args(["--use-auth-secret", "--static-auth-secret", secret, "--allow-loopback-peers"]);
        command.args(["--log-file", "stdout", "--simple-log", "--pidfile"]).arg(folder.join("turnserver.pid"));
        command.arg("--userdb").arg(folder.join("turndb"));
        let process = Process::start("turnserver", folder, &mut command);
        wait::until("coturn", wait::secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
        Self { port, secret, process }
    }

    /// The lines of `[turn]`.
    pub fn config(&self) -> String {
        format!("urls = [\"turn:127.0.0.1:{}?transport=udp\"]\nsecret = \"{}\"\n", self.port, self.secret)
    }

    pub fn log(&self) -> String {
        self.process.log()
    }
}
