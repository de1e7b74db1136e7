//! The two buses under test, each with a server that can go away and come back.
use offhook_bus::{Bus, BusCut, NatsCredentials, NatsOptions};
use offhook_contract::{CallId, Context, DaemonKind, NodeId, TenantId};
use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub trait Fixture: Send + Sync + 'static {
    /// A connection of its own, as another process would have.
    fn peer(&self) -> impl Future<Output = Bus> + Send;
    fn go_away(&mut self) -> impl Future<Output = ()> + Send;
    fn come_back(&mut self) -> impl Future<Output = ()> + Send;
}

pub struct InProcess {
    bus: Bus,
    cut: BusCut,
}

impl InProcess {
    pub async fn start() -> Self {
        let (bus, cut) = Bus::in_process_with_cut("test").unwrap();
        Self { bus, cut }
    }
}

impl Fixture for InProcess {
    async fn peer(&self) -> Bus {
        self.bus.clone()
    }
    async fn go_away(&mut self) {
        self.cut.disconnect();
    }
    async fn come_back(&mut self) {
        self.cut.reconnect();
    }
}

/// Debian's nats-server with a store of its own.
pub struct Nats {
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
}

impl Nats {
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut nats = Self { folder: tempfile::tempdir().unwrap(), port, server: None };
        nats.come_back().await;
        nats
    }
}

impl Fixture for Nats {
    async fn peer(&self) -> Bus {
        let options = NatsOptions {
            cluster: "test".into(),
            urls: vec![format!("nats://127.0.0.1:{}", self.port)],
            kind: DaemonKind::Control,
            credentials: NatsCredentials::None,
            ca_file: None,
            client_certificate: None,
        };
        let bus = Bus::connect_nats(options).await.unwrap();
        within(bus.is_connected().wait_for(|up| *up)).await.unwrap();
        bus
    }

    async fn go_away(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    async fn come_back(&mut self) {
        let server = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is not installed: apt-get install nats-server");
        self.server = Some(server);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "nats-server did not start");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Waits for something that must happen.
pub async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen in time")
}

/// Asks again until the answer is yes.
pub async fn until<F: Future<Output = bool>>(mut ask: impl FnMut() -> F) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    within(async {
        while !ask().await {
            tick.tick().await;
        }
    })
    .await;
}

pub fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}
pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}
pub fn context(name: &str) -> Context {
    Context { tenant: Some(tenant(name)), call: Some(CallId::parse("call-1").unwrap()), epoch: None }
}
