//! The system under test: `offhook up`, or every daemon as a process of its own over NATS.
use crate::nats::NatsServer;
use crate::process::Process;
use crate::{api, ports, wait};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The tenant of `--dev`.
pub const TENANT: &str = "dev";

pub const DAEMONS: [&str; 5] = ["sfu", "sip", "recorder", "control", "turn"];

/// What a story needs beside the defaults.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// More lines for the configuration: `[[trunk]]`, `[dial]`, `[turn]`.
    pub config: String,
    /// Lines for sections that the harness writes itself, for example ("recorder", "…").
    pub sections: BTreeMap<&'static str, String>,
    /// Another `[turn]` section than that of a server of our own.
    pub turn: Option<String>,
    /// Where browsers reach everything, when not on loopback; then by TLS.
    pub address: Option<IpAddr>,
    /// `off`, `on_answer` or `on_demand`.
    pub recording: Option<&'static str>,
    pub log: Option<&'static str>,
}

#[derive(Debug)]
pub struct Stack {
    // Ended before their folder goes, so that their logs can still be shown.
    processes: BTreeMap<String, Process>,
    pub nats: Option<NatsServer>,
    pub folder: tempfile::TempDir,
    pub web_port: u16,
    pub sfu_port: u16,
    pub tap_port: u16,
    pub recorder_port: u16,
    pub sip_port: u16,
    pub turn_port: u16,
    pub turn_tls_port: u16,
    address: Option<IpAddr>,
    health: BTreeMap<String, u16>,
    config: PathBuf,
    log: &'static str,
}

/// Where `cargo build` put the binaries: the profile folder that this test runs from.
pub fn binary(name: &str) -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let profile = me.ancestors().nth(2).unwrap();
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built: run `make e2e`, or cargo build --workspace --bins", path.display());
    path
}

impl Stack {
    /// One process with everything, as `make run` starts it.
    pub fn up(plan: &Plan) -> Self {
        let mut stack = Self::prepare(plan, None);
        stack.start("offhook");
        stack
    }

    /// Each daemon as its own process over a real nats-server.
    pub fn split(plan: &Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(folder.path());
        let mut stack = Self::prepare(plan, Some((folder, nats)));
        for daemon in DAEMONS {
            stack.start(daemon);
        }
        stack
    }

    fn prepare(plan: &Plan, split: Option<(tempfile::TempDir, NatsServer)>) -> Self {
        let (folder, nats) = match split {
            Some((folder, nats)) => (folder, Some(nats)),
            None => (tempfile::tempdir().unwrap(), None),
        };
        let names: Vec<&str> = if nats.is_some() { DAEMONS.to_vec() } else { vec!["offhook"] };
        let health = names.iter().map(|name| ((*name).to_owned(), ports::free())).collect();
        let mut stack = Self {
            config: folder.path().join("offhook.toml"),
            folder,
            web_port: ports::free(),
            sfu_port: ports::free(),
            tap_port: ports::free(),
            recorder_port: ports::free(),
            sip_port: ports::free(),
            turn_port: ports::free(),
            turn_tls_port: ports::free(),
            address: plan.address,
            nats,
            health,
            processes: BTreeMap::new(),
            log: plan.log.unwrap_or("info"),
        };
        stack.write_config(plan);
        stack
    }

    /// How full the disk is that the tests run on is not what they ask about, so the recorder's thresholds are off.
    fn write_config(&mut self, plan: &Plan) {
        let more = |section: &str| plan.sections.get(section).cloned().unwrap_or_default();
        let (rtp, relays) = (ports::free_range(200), ports::free_range(100));
        let here = self.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let certificate = self.certificate();
        let mut text = format!(
            "[storage]\ndata_dir = \"{}\"\n{}\n[control]\nlisten = [\"{here}:{}\"]\n{}\n[sfu]\nmedia_listen = [\"{here}:{}\"]\ntap_listen = [\"127.0.0.1:{}\"]\n{}\n[recorder]\nlisten = \"127.0.0.1:{}\"\nmin_free_mib = 0\nmin_free_percent = 0\n{}\n[sip]\nlisten = [\"127.0.0.1:{}\"]\nrtp_ports = [{}, {}]\n{}\n",
            self.folder.path().join("data").display(),
            more("storage"),
            self.web_port,
            more("control"),
            self.sfu_port,
            self.tap_port,
            more("sfu"),
            self.recorder_port,
            more("recorder"),
            self.sip_port,
            rtp,
            rtp + 199,
            more("sip"),
        );
        if let Some(nats) = &self.nats {
            text += &format!("[bus]\nurl = \"{}\"\n", nats.url());
        }
        let own = format!(
            "listen = [\"{here}:{}\"]\ntls_listen = [\"{here}:{}\"]\nrelay_ports = [{relays}, {}]\n{certificate}{}",
            self.turn_port,
            self.turn_tls_port,
            relays + 99,
            more("turn")
        );
        text += &format!("[turn]\n{}\n", plan.turn.as_deref().unwrap_or(&own));
        if self.address.is_some() {
            text += &format!("[tls]\n{certificate}");
        }
        text += &plan.config;
        std::fs::write(&self.config, text).unwrap();
    }

    /// A certificate that nobody knows, and the lines that name it.
    fn certificate(&self) -> String {
        let names = vec!["localhost".to_owned(), self.address.map_or("127.0.0.1".into(), |ip| ip.to_string())];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let (chain, key) = (self.folder.path().join("chain.pem"), self.folder.path().join("key.pem"));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        format!("certificate = \"{}\"\nkey = \"{}\"\n", chain.display(), key.display())
    }

    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Starts a daemon (again) and waits until it is ready.
    pub fn start(&mut self, name: &str) {
        let health = self.health[name];
        let mut command = Command::new(binary("offhook"));
        command.current_dir(self.folder.path()).env("OFFHOOK__RUNTIME__HEALTH_LISTEN", format!("127.0.0.1:{health}"));
        command.env("OFFHOOK__RUNTIME__LOG", self.log).env("RUST_BACKTRACE", "1");
        if self.nats.is_some() {
            command.env("OFFHOOK__BUS__USER", name).env("OFFHOOK__BUS__PASSWORD", crate::nats::password(name));
        }
        command.args([if name == "offhook" { "up" } else { name }, "--dev", "--config"]).arg(&self.config);
        self.processes.insert(name.into(), Process::start(name, self.folder.path(), &mut command));
        let log = |stack: &Self| stack.processes[name].log();
        wait::until(&format!("{name} to be ready"), wait::secs(30), || {
            if !self.processes.get_mut(name).is_some_and(Process::is_running) {
                panic!("{name} ended at its start:\n{}", log(self));
            }
            match api::get_plain(&format!("http://127.0.0.1:{health}/readyz")) {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(e) => Err(e),
            }
        });
    }

    pub fn process(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("{name} was not started"))
    }

    pub fn kill_9(&mut self, name: &str) {
        self.process(name).kill_9();
    }

    pub fn url(&self) -> String {
        match self.address {
            None => format!("http://127.0.0.1:{}", self.web_port),
            Some(ip) => format!("https://{ip}:{}", self.web_port),
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Everything that the daemons logged.
    pub fn logs(&self) -> String {
        self.processes.values().map(Process::log).collect()
    }

    /// One of our numbers rings a user.
    #[track_caller]
    pub fn give_number(&self, number: &str, login: &str) {
        let (fine, words) = self.offhook(&["number", "add", number, "--user", login, "--tenant", TENANT]);
        assert!(fine, "{words}");
    }

    /// Runs the command line against this stack's configuration.
    pub fn offhook(&self, arguments: &[&str]) -> (bool, String) {
        self.offhook_saying(arguments, "")
    }

    /// The same with something typed.
    pub fn offhook_saying(&self, arguments: &[&str], typed: &str) -> (bool, String) {
        let mut command = Command::new(binary("offhook"));
        command.current_dir(self.folder.path()).args(arguments).arg("--config").arg(&self.config);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Who asks for nothing reads nothing.
        let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        (done.status.success(), text)
    }

    /// The API with a key of a tenant that is made for it.
    #[track_caller]
    pub fn key_of_new_tenant(&self, tenant: &str) -> api::Api {
        let (fine, words) = self.offhook(&["tenant", "add", tenant]);
        assert!(fine, "{words}");
        let (fine, words) = self.offhook(&["token", "key", "--tenant", tenant, "--name", "story"]);
        assert!(fine, "{words}");
        let token = words.split_whitespace().find(|word| word.len() >= 32).unwrap_or_else(|| panic!("no key: {words}"));
        api::Api { base: self.url(), token: token.into() }
    }

    /// A daemon's figure, summed over its series; `label` such as `kind="malformed"` narrows it.
    pub fn figure(&self, daemon: &str, name: &str, label: &str) -> f64 {
        let (name, daemon) = (format!("offhook_{name}{{"), format!("daemon=\"{daemon}\""));
        let fits = |series: &str| series.starts_with(&name) && series.contains(&daemon) && series.contains(label);
        let lines = self.metrics_text();
        lines
            .lines()
            .filter_map(|l| l.rsplit_once(' '))
            .filter(|(s, _)| fits(s))
            .filter_map(|(_, v)| v.parse::<f64>().ok())
            .sum()
    }

    fn metrics_text(&self) -> String {
        let get = |port: &u16| api::get_plain(&format!("http://127.0.0.1:{port}/metrics")).unwrap_or_default().1;
        self.health.values().map(get).collect()
    }

    /// What the daemons hold now: every gauge that stands for something in use. Memory is kept by the allocator, and
    /// the process's files are asked of the system by [`Self::open_files`].
    pub fn gauges(&self) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        for (daemon, port) in &self.health {
            let (_, text) = api::get_plain(&format!("http://127.0.0.1:{port}/metrics")).unwrap_or_default();
            let kinds = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" gauge"));
            let names: std::collections::HashSet<&str> = kinds.collect();
            for line in text.lines().filter(|l| !l.starts_with('#')) {
                let Some((series, value)) = line.rsplit_once(' ') else { continue };
                let held = !series.contains("_process_");
                if held && names.contains(series.split('{').next().unwrap_or_default()) {
                    all.insert(format!("{daemon} {series}"), value.parse().unwrap_or(f64::NAN));
                }
            }
        }
        all
    }

    /// The UDP ports that a daemon has open.
    #[track_caller]
    pub fn udp_ports(&self, daemon: &str) -> Vec<u16> {
        self.processes[daemon].udp_ports()
    }

    /// Beside the connections that browsers keep to the pages' server.
    pub fn open_files(&self) -> usize {
        let kept = self.processes.values().next().map_or(0, |any| any.connections_at(self.web_port));
        self.processes.values().map(Process::open_files).sum::<usize>().saturating_sub(kept)
    }
}
