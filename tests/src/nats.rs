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

    pub fn start_again(&mut self) {
        let mut command = Command::new("nats-server");
        command
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
            .arg(self.folder.join("jetstream"));
        self.process = Some(Process::start("nats-server", &self.folder, &mut command));
        let port = self.port;
        wait::until("nats-server", wait::secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|e| e.to_string())
        });
    }
}
