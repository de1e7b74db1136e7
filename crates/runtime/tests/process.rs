//! A process as the operating system sees it: signals, exit codes, restarts, health. The daemon inside does what its
//! configuration says; the process under test is this test's own binary, started again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_bus::Bus;
use offhook_contract::DaemonKind;
use offhook_link::TapForm;
use offhook_runtime::{ConfigError, ConfigFile, Daemon, Deps, Process, Program, RunError, StartError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "OFFHOOK_TEST_PROCESS";
const PATIENCE: Duration = Duration::from_secs(30);

/// Says what happens to it on standard output.
struct Probe {
    config: ProbeConfig,
    deps: Deps,
}

#[derive(Clone, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ProbeConfig {
    /// `run`, `fail`, `panic`, `end`, or `work` (which keeps a call for ever).
    behaviour: String,
    word: String,
}

fn say(line: &str) {
    println!("probe: {line}");
    std::io::stdout().flush().unwrap();
}

impl Daemon for Probe {
    const KIND: DaemonKind = DaemonKind::Sfu;
    type Config = ProbeConfig;

    fn config(file: &ConfigFile) -> Result<ProbeConfig, ConfigError> {
        file.section("sfu")
    }

    async fn build(config: ProbeConfig, deps: Deps) -> Result<Self, StartError> {
        say(&format!("built {} {}", config.word, deps.node));
        deps.lifecycle.say("Probe  http://nowhere");
        Ok(Self { config, deps })
    }

    async fn run(self) -> Result<(), RunError> {
        let lifecycle = self.deps.lifecycle.clone();
        self.deps.metrics.counter("probe_total", "Lives of the probe.").increment();
        match self.config.behaviour.as_str() {
            "fail" => return Err(RunError::new("keep the disk", std::io::Error::other("it is full"))),
            "panic" => panic!("a probe may panic"),
            "end" => return Ok(()),
            _ => {}
        }
        say("ready");
        lifecycle.set_ready(true);
        let mut reloads = lifecycle.reload();
        loop {
            tokio::select! {
                config = reloads.next() => say(&format!("reloaded {}", Self::config(&config).unwrap().word)),
                () = lifecycle.draining() => break,
            }
        }
        say("draining");
        if self.config.behaviour == "work" {
            lifecycle.stop().await;
            say("stopped");
        }
        Ok(())
    }
}

/// Finds its port taken.
struct Beside;

impl Daemon for Beside {
    const KIND: DaemonKind = DaemonKind::Turn;
    type Config = bool;

    fn config(file: &ConfigFile) -> Result<bool, ConfigError> {
        Ok(file.section::<toml::Table>("turn")?.contains_key("listen"))
    }

    async fn build(_: bool, _: Deps) -> Result<Self, StartError> {
        say("tried");
        Err(StartError::new("listen on 0.0.0.0:3478", std::io::Error::from(std::io::ErrorKind::AddrInUse)))
    }

    async fn run(self) -> Result<(), RunError> {
        Ok(())
    }
}

/// The process under test.
#[test]
fn the_process() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let config = ConfigFile::load(Some(path.as_ref())).unwrap();
    let bus = Bus::in_process("test").unwrap();
    let unused: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut process = Process::new(config, unused, false).unwrap();
    process.add(&Program::of::<Probe>(), &bus, &TapForm::Network).unwrap();
    if Beside::config(&ConfigFile::load(Some(path.as_ref())).unwrap()).unwrap() {
        process.add_optional(&Program::of::<Beside>(), &bus, &TapForm::Network).unwrap();
    }
    let code = process.run(&bus, |lines| say(&format!("banner {}", lines.join("|")))).unwrap();
    // ExitCode cannot be read; the harness would say 0 in any case.
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 70 });
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    folder: tempfile::TempDir,
    health: u16,
}

impl Running {
    fn start(behaviour: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let health = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let text = Self::config(folder.path(), behaviour, "one", health, more);
        let path = folder.path().join("offhook.toml");
        std::fs::write(&path, text).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_process", "--exact", "--nocapture"])
            .env(CHILD, path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, folder, health }
    }

    fn config(folder: &std::path::Path, behaviour: &str, word: &str, health: u16, more: &str) -> String {
        format!(
            "[storage]\ndata_dir = \"{}/data\"\n[sfu]\nbehaviour = \"{behaviour}\"\nword = \"{word}\"\n[runtime]\nnode = \"host\"\nhealth_listen = \"127.0.0.1:{health}\"\n{more}\n",
            folder.display()
        )
    }

    fn change_config(&self, text: &str) {
        std::fs::write(self.folder.path().join("offhook.toml"), text).unwrap();
    }

    /// The probe's next word.
    fn next(&mut self) -> Option<String> {
        for line in self.lines.by_ref() {
            if let Some((_, word)) = line.unwrap().split_once("probe: ") {
                return Some(word.to_owned());
            }
        }
        None
    }

    fn hear(&mut self, expected: &[&str]) {
        for word in expected {
            assert_eq!(self.next().as_deref(), Some(*word));
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn wait_for_metric(&self, line: &str) {
        let began = Instant::now();
        while !self.get("/metrics").1.lines().any(|l| l == line) {
            assert!(began.elapsed() < PATIENCE, "{line}");
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "the process does not end");
            std::thread::yield_now();
        }
    }

    /// Status and body of one of the health pages.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.health)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ALIVE: [&str; 3] = ["built one host-sfu", "ready", "banner Probe  http://nowhere"];

#[test]
fn sigterm_drains_and_an_idle_daemon_ends_with_success() {
    let mut running = Running::start("run", "");
    running.hear(&ALIVE);
    assert_eq!(running.get("/healthz").0, 200);
    assert_eq!(running.get("/readyz"), (200, "ready\n".into()));
    let metrics = running.get("/metrics").1;
    assert!(metrics.contains("offhook_probe_total{daemon=\"sfu\"} 1"), "{metrics}");
    assert!(metrics.contains("offhook_process_open_files "), "{metrics}");
    running.signal("TERM");
    running.hear(&["draining"]);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_work_at_once_and_meanwhile_the_process_is_not_ready() {
    let mut running = Running::start("work", "");
    running.hear(&ALIVE);
    running.signal("TERM");
    running.hear(&["draining"]);
    assert_eq!(running.get("/readyz"), (503, "sfu is draining\n".into()));
    assert_eq!(running.get("/healthz").0, 200);
    running.signal("TERM");
    running.hear(&["stopped"]);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn the_drains_deadline_ends_what_still_runs() {
    let mut running = Running::start("work", "drain_timeout_s = 1");
    running.hear(&ALIVE);
    let began = Instant::now();
    running.signal("TERM");
    running.hear(&["draining", "stopped"]);
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn sighup_hands_over_a_good_configuration_and_keeps_the_old_one_when_it_is_bad() {
    let mut running = Running::start("run", "");
    running.hear(&ALIVE);
    let folder = running.folder.path().to_owned();
    running.change_config("[sfu]\nwrod = \"misspelt\"\n");
    running.signal("HUP");
    running.wait_for_metric("offhook_config_reload_failures_total 1");
    running.change_config(&Running::config(&folder, "run", "two", running.health, ""));
    running.signal("HUP");
    running.hear(&["reloaded two"]);
    running.wait_for_metric("offhook_config_reloads_total 1");
    running.signal("TERM");
    running.hear(&["draining"]);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_daemon_that_the_others_can_do_without_ends_nobody_and_is_tried_again() {
    let mut running = Running::start("run", "[turn]\nlisten = \"0.0.0.0:3478\"\n");
    let mut heard: Vec<String> = std::iter::from_fn(|| running.next()).take(8).collect();
    heard.sort();
    let banner = "banner Probe  http://nowhere|without turn, which is tried again: cannot listen on 0.0.0.0:3478";
    assert!(heard[0].starts_with(banner) && heard[0].contains("in use"), "{heard:?}");
    assert_eq!((heard[1].as_str(), heard[2].as_str()), ("built one host-sfu", "ready"));
    assert!(heard[3..].iter().all(|word| word == "tried"), "{heard:?}");
    let (status, page) = running.get("/readyz");
    assert!(status == 200 && page.starts_with("ready\nwithout turn: ") && page.contains("in use"), "{page}");
    running.wait_for_metric("offhook_ready{daemon=\"turn\"} 0");
    running.signal("TERM");
    running.hear(&["draining"]);
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_daemon_that_fails_is_started_again_and_the_fifth_failure_in_a_minute_ends_the_process() {
    let running = ["fail", "panic", "end"].map(|behaviour| (behaviour, Running::start(behaviour, "")));
    for (behaviour, mut running) in running {
        let lives = std::iter::from_fn(|| running.next()).filter(|word| word.starts_with("built")).count();
        assert_eq!((lives, running.exit_code()), (5, Some(70)), "{behaviour}");
    }
}
