//! A PostgreSQL cluster of our own, in a temporary directory, for as long as the test runs. Missing programs are a
//! failure, not a reason to skip.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct Postgres {
    server: Child,
    dir: TempDir,
    port: u16,
}

/// PostgreSQL refuses to run as root: then everything runs as its own user.
fn command(program: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0).unwrap();
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn programs() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is not installed (apt install postgresql)");
    let mut found: Vec<PathBuf> =
        versions.map(|v| v.unwrap().path().join("bin")).filter(|bin| bin.join("initdb").exists()).collect();
    found.sort();
    found.pop().expect("PostgreSQL's initdb is not installed (apt install postgresql)")
}

impl Postgres {
    pub fn start() -> Self {
        let bin = programs();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let data = dir.path().join("data");
        let made = command(&bin.join("initdb"))
            .args(["-U", "offhook", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data)
            .output()
            .expect("initdb cannot be run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let server = command(&bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k", "", "-F"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("postgres cannot be run");
        let started = Self { server, dir, port };
        started.wait(&bin);
        started
    }

    fn wait(&self, bin: &Path) {
        for _ in 0..600 {
            let ready = Command::new(bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .expect("pg_isready cannot be run");
            if ready.success() {
                return;
            }
            // A process outside: there is nothing to await but its own answer.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("PostgreSQL did not start: {}", std::fs::read_to_string(self.dir.path().join("log")).unwrap());
    }

    pub fn url(&self) -> String {
        format!("postgres://offhook@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Fast shutdown (SIGINT): no waiting for sessions.
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}
