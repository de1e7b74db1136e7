//! The servers under test: processes of their own, on one core, with the same `turnserver.conf`.
use super::{PASSWORD, REALM, SERVER_IP, USER};
use crate::cpu;
use anyhow::{Context, bail, ensure};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// A STUN Binding request: what every server answers.
const BINDING: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Coturn,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Coturn];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Coturn => "coturn",
        }
    }

    /// Our binary lies beside the bench's own; coturn's comes from Debian's package.
    fn program(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Ours => program("offhook-turn"),
            Self::Coturn => {
                let path = PathBuf::from("/usr/bin/turnserver");
                ensure!(path.exists(), "{} is not there: apt-get install coturn", path.display());
                Ok(path)
            }
        }
    }

    /// What stands in front of the figures.
    pub fn describe(self) -> anyhow::Result<String> {
        let program = self.program()?;
        let said = match self {
            Self::Ours => format!("built {:?} ago", program.metadata()?.modified()?.elapsed().unwrap_or_default()),
            Self::Coturn => {
                let output = Command::new(&program).arg("--version").output()?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.lines().last().unwrap_or_default().trim().to_owned()
            }
        };
        Ok(format!("{}: taskset -c 0 {} -c turnserver.conf ({said})", self.name(), program.display()))
    }
}

/// A released program of ours, beside the bench's own.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is not there: make bench BENCH=turn builds it", path.display());
    Ok(path)
}

/// The options, the same for both; each ignores what only the other knows.
pub fn options(port: u16) -> String {
    let lines = [
        &format!("listening-ip={SERVER_IP}"),
        &format!("relay-ip={SERVER_IP}"),
        &format!("listening-port={port}"),
        "min-port=10000",
        "max-port=65000",
        "relay-threads=1",
        "lt-cred-mech",
        &format!("realm={REALM}"),
        &format!("user={USER}:{PASSWORD}"),
        "allow-loopback-peers",
        "unauthorized-ratelimit-rps=1000000",
        "no-tls",
        "no-dtls",
        "no-tcp",
        "no-cli",
        "no-rfc5780",
        "no-software-attribute",
        "no-stdout-log",
        "log-file=/dev/null",
    ];
    lines.join("\n") + "\n"
}

pub fn free_port() -> anyhow::Result<u16> {
    Ok(UdpSocket::bind((SERVER_IP, 0))?.local_addr()?.port())
}

/// Ends with its value.
pub struct Process {
    pub kind: Kind,
    pub address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Process {
    pub fn start(kind: Kind) -> anyhow::Result<Self> {
        Self::with(kind, options)
    }

    /// The same with other options, which are given the port to listen at.
    pub fn with(kind: Kind, options: impl FnOnce(u16) -> String) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let path = folder.path().join("turnserver.conf");
        let own = format!("pidfile={0}/pid\nuserdb={0}/turndb\n", folder.path().display());
        std::fs::write(&path, options(port) + &own)?;
        let child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(kind.program()?)
            .arg("-c")
            .arg(&path)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("taskset, of util-linux")?;
        let mut process = Self { kind, address: SocketAddr::from((SERVER_IP, port)), child, _folder: folder };
        process.wait_until_it_answers()?;
        Ok(process)
    }

    fn wait_until_it_answers(&mut self) -> anyhow::Result<()> {
        let socket = UdpSocket::bind("127.0.0.2:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let begun = Instant::now();
        while begun.elapsed() < STARTS_WITHIN {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once: {status}", self.kind.name());
            }
            socket.send_to(&BINDING, self.address)?;
            if socket.recv(&mut [0; 256]).is_ok() {
                return Ok(());
            }
        }
        bail!("{} does not answer within {STARTS_WITHIN:?}", self.kind.name())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads, kernel included.
    pub fn cpu(&self) -> Duration {
        cpu::time_of_process(self.child.id() as i32)
    }

    /// Resident memory, counted page by page.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("Rss in smaps_rollup")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1_024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
