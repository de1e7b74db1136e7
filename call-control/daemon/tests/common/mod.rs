//! A call-control over the in-process bus and a loopback listener, with scripted nodes around it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub mod nodes;
pub mod page;

use nodes::{Nodes, Script};
use offhook_bus::Bus;
use offhook_contract::{BootId, DaemonKind, NodeId};
use offhook_control::{Config, Control, admin::Admin, admin::UserWish};
use offhook_control_core::RecordingMode;
use offhook_link::TapForm;
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use page::Page;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

pub struct Stage {
    pub bus: Bus,
    pub nodes: Nodes,
    pub dir: TempDir,
    pub address: SocketAddr,
    pub metrics: Metrics,
    pub http: reqwest::Client,
    switch: LifecycleSwitch,
    run: Option<JoinHandle<()>>,
    config: String,
    dev: bool,
}

pub const TRUNK: &str = "[dial]\nallowed_prefixes = [\"+49\"]\ncountry_code = \"49\"\n\
    [[trunk]]\nname = \"carrier\"\ntenant = \"dev\"\naddress = \"192.0.2.9\"\nnumbers = [\"+4930555\"]\n";

impl Stage {
    pub async fn new() -> Self {
        Self::with(TRUNK, Script::default()).await
    }

    pub async fn with(config: &str, script: Script) -> Self {
        offhook_runtime::install_crypto_provider();
        let bus = Bus::in_process("test").unwrap();
        let nodes = Nodes::start(&bus, script).await;
        let dir = tempfile::tempdir().unwrap();
        let limits = "[control]\nlisten = [\"127.0.0.1:0\"]\n[control.limits]\nrequests_per_s = 10000\n\
            requests_burst = 10000\nauth_failures_per_minute = 1000\n";
        let config = if config.contains("[control]") { config.to_owned() } else { format!("{limits}{config}") };
        let mut stage = Self {
            bus,
            nodes,
            dir,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics: Metrics::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            switch: LifecycleSwitch::new(ConfigFile::default()),
            run: None,
            config,
            dev: true,
        };
        stage.start().await;
        stage
    }

    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    async fn start(&mut self) {
        let file = ConfigFile::parse("test.toml", &self.config, []).unwrap();
        let config = Config::read(&file).unwrap();
        self.switch = LifecycleSwitch::new(file);
        self.metrics = Metrics::new();
        let deps = Deps {
            node: NodeId::parse("control-1").unwrap(),
            boot: BootId::parse(offhook_bus::new_message_id().as_str()).unwrap(),
            bus: self.bus.clone(),
            taps: TapForm::Network,
            lifecycle: self.switch.lifecycle(),
            metrics: self.metrics.for_daemon("control"),
            data_dir: self.dir.path().to_owned(),
            dev: self.dev,
        };
        let lifecycle = deps.lifecycle.clone();
        let control = Control::build(config, deps).await.unwrap();
        self.address = control.addresses()[0];
        self.run = Some(tokio::spawn(async move {
            control.run().await.unwrap();
        }));
        tokio::time::timeout(PATIENCE, lifecycle.ready()).await.expect("call-control is not ready");
        self.nodes.wait_until_seen(&self.bus).await;
    }

    /// As `kill -9` leaves it: nothing is said, nothing is flushed.
    pub async fn kill(&mut self) {
        let run = self.run.take().unwrap();
        run.abort();
        let _ = run.await;
    }

    pub async fn restart(&mut self) {
        // The port of the former life would answer nobody.
        self.start().await;
    }

    pub fn drain(&self) {
        self.switch.drain();
    }
    pub fn stop(&self) {
        self.switch.stop();
    }
    pub async fn ended(&mut self) {
        tokio::time::timeout(PATIENCE, self.run.take().unwrap()).await.expect("did not end").unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn admin(&self) -> Admin {
        Admin::open(&offhook_contract::Secret::default(), self.dir.path()).await.unwrap()
    }

    /// A second tenant with one user, whose password is his login twice.
    pub async fn other_tenant(&self) -> offhook_contract::TenantId {
        let admin = self.admin().await;
        let tenant = admin.add_tenant("other", "Other", RecordingMode::Off).await.unwrap().id;
        let wish = UserWish {
            login: "mallory".into(),
            name: "Mallory".into(),
            extension: "101".into(),
            password: Some("mallorymallory".into()),
        };
        admin.add_user(&tenant, wish).await.unwrap();
        tenant
    }

    pub async fn token(&self, login: &str) -> String {
        self.sign_in(login).await["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn sign_in(&self, login: &str) -> Value {
        let (path, body) = match login {
            "mallory" => ("/v1/sign-in", json!({ "login": login, "password": "mallorymallory" })),
            _ => ("/v1/dev/sign-in", json!({ "login": login })),
        };
        let response = self.http.post(self.url(path)).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub async fn page(&self, login: &str) -> Page {
        Page::open(self.address, &self.token(login).await).await
    }

    pub async fn get(&self, token: &str, path: &str) -> (u16, Value) {
        let response = self.http.get(self.url(path)).bearer_auth(token).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }
    pub async fn post(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.http.post(self.url(path)).bearer_auth(token).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or(Value::Null))
    }

    /// The caller's log, newest first.
    pub async fn log(&self, login: &str) -> Vec<Value> {
        let (status, page) = self.get(&self.token(login).await, "/v1/calls").await;
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().unwrap().clone()
    }

    pub fn gauge(&self, name: &str) -> i64 {
        self.metrics.for_daemon("control").gauge(name, "").get()
    }

    pub async fn wait_for_gauge(&self, name: &str, value: i64) {
        let reached = async {
            while self.gauge(name) != value {
                tokio::task::yield_now().await;
            }
        };
        let now = || format!("{name} is {} and not {value}", self.gauge(name));
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{}", now()));
    }
}

pub fn kind_word(kind: DaemonKind) -> &'static str {
    kind.as_str()
}
