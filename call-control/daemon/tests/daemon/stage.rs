//! A call-control over the in-process bus and a loopback listener, with scripted nodes around it.
use crate::nodes::{Nodes, Script};
use crate::page::Page;
use offhook_bus::Bus;
use offhook_contract::{BootId, NodeId};
use offhook_control::{Config, Control, admin::Admin, admin::UserWish};
use offhook_control_core::RecordingMode;
use offhook_link::TapForm;
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use tempfile::TempDir;
use tokio::runtime::Runtime;
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
    /// One life of the daemon: its own threads, as in a process of its own.
    life: Option<(Runtime, JoinHandle<()>)>,
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
        Self::build(config, script, true).await
    }

    /// As an operator runs it: no users but those that he makes.
    pub async fn without_dev(config: &str) -> Self {
        Self::build(config, Script::default(), false).await
    }

    async fn build(config: &str, script: Script, dev: bool) -> Self {
        offhook_runtime::install_crypto_provider();
        let bus = Bus::in_process("test").unwrap();
        let nodes = Nodes::start(&bus, script).await;
        let dir = tempfile::tempdir().unwrap();
        let limits =
            "[control.limits]\nrequests_per_s = 10000\nrequests_burst = 10000\nauth_failures_per_minute = 1000\n";
        let limits = if config.contains("[control.limits]") { "" } else { limits };
        let config = format!("[control]\nlisten = [\"127.0.0.1:0\"]\n{limits}{config}");
        let mut stage = Self {
            bus,
            nodes,
            dir,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics: Metrics::new(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            switch: LifecycleSwitch::new(ConfigFile::default()),
            life: None,
            config,
            dev,
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
            hosts: None,
            lifecycle: self.switch.lifecycle(),
            metrics: self.metrics.for_daemon("control"),
            data_dir: self.dir.path().to_owned(),
            dev: self.dev,
        };
        let lifecycle = deps.lifecycle.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let control = runtime.spawn(Control::build(config, deps)).await.unwrap().unwrap();
        self.address = control.addresses()[0];
        let run = runtime.spawn(async move { control.run().await.unwrap() });
        self.life = Some((runtime, run));
        tokio::time::timeout(PATIENCE, lifecycle.ready()).await.expect("call-control is not ready");
        self.nodes.wait_until_seen(&self.bus).await;
        // It has asked every node what it carries: so it knows them all.
        self.wait_for_gauge("nodes", self.nodes.count()).await;
    }

    /// As `kill -9` leaves it: nothing is said, nothing is flushed.
    pub fn kill(&mut self) {
        if let Some((runtime, _)) = self.life.take() {
            runtime.shutdown_background();
        }
    }

    pub async fn restart(&mut self) {
        // The port of the former life would answer nobody.
        self.start().await;
    }

    pub async fn restart_as_dev(&mut self) {
        self.dev = true;
        self.restart().await;
    }

    /// What this life said to the person at the terminal.
    pub fn banner(&self) -> Vec<String> {
        self.switch.banner()
    }

    pub fn drain(&self) {
        self.switch.drain();
    }
    /// As SIGHUP does: the configuration is read again, and what it names.
    pub fn reload(&self) {
        self.switch.reload(ConfigFile::parse("test.toml", &self.config, []).unwrap());
    }
    pub fn stop(&self) {
        self.switch.stop();
    }
    pub async fn ended(&mut self) {
        let (runtime, run) = self.life.take().unwrap();
        tokio::time::timeout(PATIENCE, run).await.expect("did not end").unwrap();
        runtime.shutdown_background();
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
            admin: false,
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

    /// alice has called bob, both are heard, and the call is theirs to end.
    pub async fn talking(&self) -> Talk {
        let (mut alice, mut bob) = (self.page("alice").await, self.page("bob").await);
        let call = alice.dial("102").await;
        let joined = alice.join(&call).await;
        assert!(joined["answer"].is_string(), "{joined}");
        bob.ringing().await;
        let answered = bob.ok(json!({ "op": "answer", "call": call })).await;
        bob.join(&call).await;
        let word = |leg: &Value| leg.as_str().unwrap().to_owned();
        let (caller, callee) = (word(&answered["call"]["parties"][0]["leg"]), word(&answered["leg"]));
        [&callee, &caller].iter().for_each(|leg| self.nodes.connected(&call, leg));
        Talk { alice, bob, call, caller }
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
            let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
            while self.gauge(name) != value {
                look.tick().await;
            }
        };
        let now = || format!("{name} is {} and not {value}", self.gauge(name));
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{}", now()));
    }
}

/// Two pages in one call.
pub struct Talk {
    pub alice: Page,
    pub bob: Page,
    pub call: String,
    /// The caller's leg.
    pub caller: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill();
    }
}
