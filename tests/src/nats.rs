//! A real nats-server in a folder of its own, to be stopped and started again.
use crate::process::Process;
use crate::{ports, wait};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug)]
pub struct NatsServer {
    pub port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

impl NatsServer {
    pub fn start(folder: &Path) -> Self {
        let mut server = Self { port: ports::free(), folder: folder.to_path_buf(), process: None };
        server.start_again();
        server
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill_9();
        }
    }

    /// With the users and rights of configs/nats-server.conf; only the address and the folder are the story's own.
    pub fn start_again(&mut self) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/nats-server.conf");
        let sample = std::fs::read_to_string(sample).unwrap();
        let jetstream = self.folder.join("jetstream").display().to_string();
        let config = sample
            .replace("listen: \"127.0.0.1:4222\"", &format!("listen: \"127.0.0.1:{}\"", self.port))
            .replace("/var/lib/nats/jetstream", &jetstream);
        assert!(config.contains(&self.port.to_string()) && config.contains(&jetstream), "the sample has changed");
        let file = self.folder.join("nats-server.conf");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("nats-server");
        command.arg("-c").arg(&file);
        for daemon in crate::stack::DAEMONS {
            command.env(format!("OFFHOOK_BUS_{}", daemon.to_uppercase()), password(daemon));
        }
        self.process = Some(Process::start("nats-server", &self.folder, &mut command));
        let port = self.port;
        wait::until("nats-server", wait::secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
    }

    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}

/// Of a daemon's user.
pub fn password(daemon: &str) -> String {
    format!("the-{daemon}-password")
}
