//! A nats-server with a configuration of the test's.
use offhook_bus::{Bus, NatsCredentials, NatsOptions};
use offhook_contract::DaemonKind;
use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct NatsServer {
    pub port: u16,
    /// Kept until the server has ended.
    _folder: tempfile::TempDir,
    process: Child,
}

impl NatsServer {
    /// With a configuration; `{STORE}` in it becomes a folder of the test's.
    pub async fn with_config(config: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nats-server.conf");
        std::fs::write(&path, config.replace("{STORE}", folder.path().to_str().unwrap())).unwrap();
        Self::start(folder, &["-c", path.to_str().unwrap()], variables).await
    }

    pub async fn with_arguments(arguments: &[&str]) -> Self {
        Self::start(tempfile::tempdir().unwrap(), arguments, &[]).await
    }

    async fn start(folder: tempfile::TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]).args(arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().expect("nats-server is not installed: apt-get install nats-server");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "nats-server did not accept its configuration");
            assert!(began.elapsed() < PATIENCE, "nats-server did not start");
            tokio::task::yield_now().await;
        }
        Self { port, _folder: folder, process }
    }

    pub fn options(&self, kind: DaemonKind, credentials: NatsCredentials) -> NatsOptions {
        NatsOptions {
            cluster: "main".into(),
            urls: vec![format!("nats://127.0.0.1:{}", self.port)],
            kind,
            credentials,
            ca_file: None,
            client_certificate: None,
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Connects, or says that it did not within `patience`.
pub async fn connect(options: NatsOptions, patience: Duration) -> Option<Bus> {
    let bus = Bus::connect_nats(options).await.unwrap();
    let mut connected = bus.is_connected();
    let up = tokio::time::timeout(patience, connected.wait_for(|up| *up)).await.is_ok();
    up.then_some(bus)
}

pub async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}
