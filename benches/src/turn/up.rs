//! `offhook up` as an operator starts it: the released program, its configuration, its users, its calls.
use super::SERVER_IP;
use super::legs::{Legs, connect};
use super::pages::Page;
use super::process::{Process, program};
use crate::cpu;
use crate::forward::client::ClientIdentity;
use anyhow::{Context as _, bail, ensure};
use offhook_testkit::TurnClient;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const TENANT: &str = "bench";
pub const SECRET: &str = "shared by call-control and TURN";

/// Users, one for each leg at most, in a folder that every stack begins with a copy of.
pub struct People {
    folder: TempDir,
    tokens: Vec<String>,
}

fn extension(index: usize) -> String {
    (1_000 + index).to_string()
}

impl People {
    pub fn make(count: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("offhook.toml");
        std::fs::write(&config, format!("{}\n[control]\naccess_token_s = 900\n", storage(folder.path())))?;
        let offhook = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = Command::new(program("offhook")?).args(arguments).arg("--config").arg(&config).output()?;
            let words = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "offhook {}: {words}", arguments.join(" "));
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        offhook(&["tenant", "add", TENANT])?;
        let mut tokens = Vec::new();
        for index in 0..count {
            let login = format!("leg{index}");
            offhook(&["user", "add", "--tenant", TENANT, &login, "--extension", &extension(index), "--no-password"])?;
            tokens.push(offhook(&["token", "user", &login])?);
        }
        Ok(Self { folder, tokens })
    }
}

fn storage(folder: &Path) -> String {
    format!("[storage]\ndata_dir = \"{}\"", folder.join("data").display())
}

/// The running program, and calls that it carries.
pub struct Up {
    child: Child,
    /// TURN as a process of its own; without it, TURN runs inside and hands over.
    beside: Option<Process>,
    health: SocketAddr,
    legs: Legs,
    _folder: TempDir,
}

impl Up {
    /// `count` legs stand in their calls when it returns. `ports`: one for each media thread.
    pub fn start(
        people: &People,
        count: usize,
        ports: RangeInclusive<u16>,
        beside: Option<Process>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let copied = Command::new("cp").arg("-a").arg(people.folder.path().join("data")).arg(folder.path()).status()?;
        ensure!(copied.success(), "the users' folder cannot be copied");
        // Below those that the system gives away.
        let at = |place: u16| SocketAddr::from((SERVER_IP, ports.start() + 100 * place));
        let (web, health, turn) = (at(1), at(2), at(3));
        let (turn, turn_lines) = match &beside {
            None => (turn, format!("listen = [\"{turn}\"]")),
            Some(process) => {
                let url = format!("turn:{}?transport=udp", process.address);
                (process.address, format!("urls = [\"{url}\"]\nsecrets = [\"{SECRET}\"]"))
            }
        };
        let text = format!(
            "{}\n[control]\nlisten = [\"{web}\"]\n[control.limits]\nrequests_per_s = 10000\nrequests_burst = 10000\n\
             connections = 1000\n[sfu]\nmedia_listen = [\"{SERVER_IP}:{}\"]\nmedia_threads = {}\ntap_listen = [\"{}\"]\n\
             [recorder]\nlisten = \"{}\"\n[turn]\n{turn_lines}\n[runtime]\nhealth_listen = \"{health}\"\nlog = \"warn\"\n",
            storage(folder.path()),
            ports.start(),
            ports.len(),
            at(4),
            at(5),
        );
        let config = folder.path().join("offhook.toml");
        std::fs::write(&config, text)?;
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program("offhook")?)
            .args(["up", "--config"])
            .arg(&config)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("taskset, of util-linux")?;
        let legs = wait_until_ready(&mut child, health).and_then(|()| call(&people.tokens[..count], web, turn));
        let legs = legs.inspect_err(|_| end(&mut child))?;
        Ok(Self { child, beside, health, legs, _folder: folder })
    }

    /// CPU time of all threads of all processes for every packet that arrived, while the calls talk for so long.
    pub fn ns_per_packet(&mut self, lasts: Duration) -> anyhow::Result<f64> {
        self.legs.check()?;
        self.legs.drive(Duration::from_millis(500))?;
        let (before, handed_before) = (self.cpu(), self.handed_over()?);
        let packets = self.legs.drive(lasts)?;
        let spent = self.cpu() - before;
        let handed = self.handed_over()? - handed_before;
        // Up and down; the counters are read a little later than the packets.
        let expected = if self.beside.is_none() { 1.9 * packets as f64 } else { 0.0 };
        ensure!(handed >= expected, "{handed} datagrams were handed over for {packets} packets");
        Ok(spent.as_nanos() as f64 / packets as f64)
    }

    /// The same while nobody talks: a second of it.
    pub fn idle_share(&self) -> f64 {
        let before = self.cpu();
        std::thread::sleep(Duration::from_secs(1));
        (self.cpu() - before).as_secs_f64()
    }

    fn cpu(&self) -> Duration {
        let beside = self.beside.as_ref().map_or(Duration::ZERO, Process::cpu);
        cpu::time_of_process(self.child.id() as i32) + beside
    }

    fn handed_over(&self) -> anyhow::Result<f64> {
        let (_, text) = get(self.health, "/metrics")?;
        let of_turn = text.lines().filter(|line| line.starts_with("offhook_turn_handed_over_total"));
        Ok(of_turn.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// CPU time of each thread by its name, in the order of what they spent: for whoever wants to know where it goes.
    pub fn threads(&self) -> Vec<(String, Duration)> {
        let pids = [Some(self.child.id()), self.beside.as_ref().map(Process::id)];
        let mut all: Vec<_> = pids.into_iter().flatten().flat_map(cpu::threads_of).collect();
        all.sort_by_key(|(_, spent)| std::cmp::Reverse(*spent));
        all
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn wait_until_ready(child: &mut Child, health: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("offhook up ended at once: {status}");
        }
        let answer = get(health, "/readyz");
        match answer {
            Ok((200, words)) if !words.contains("without") => return Ok(()),
            answer => ensure!(begun.elapsed() < STARTS_WITHIN, "offhook up is not ready: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Status and body.
fn get(server: SocketAddr, path: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an answer by HTTP")?;
    Ok((status, answer))
}

/// Everybody opens a page; each even one calls the next, who answers; both join the call through TURN.
fn call(tokens: &[String], web: SocketAddr, turn: SocketAddr) -> anyhow::Result<Legs> {
    let runtime = runtime()?;
    let identity = ClientIdentity::new()?;
    let mut legs = Vec::new();
    for (number, both) in tokens.chunks_exact(2).enumerate() {
        let [caller, callee] = both else { bail!("two legs for each call") };
        let (mut caller, mut callee) =
            runtime.block_on(async { anyhow::Ok((Page::open(web, caller).await?, Page::open(web, callee).await?)) })?;
        let call = runtime.block_on(async {
            let call = caller.dial(&extension(2 * number + 1)).await?;
            callee.answer().await?;
            anyhow::Ok(call)
        })?;
        for page in [&mut caller, &mut callee] {
            let answer = runtime.block_on(page.join(&call, &identity.offer(&["sendonly", "recvonly"])))?;
            let (user, password) = &page.turn;
            legs.push(connect(&identity, &answer, TurnClient::log_in(turn, user, password)?)?);
        }
        runtime.spawn(caller.stay());
        runtime.spawn(callee.stay());
    }
    Legs::new(legs)
}

/// Lives as long as the process: the pages are to stay open.
fn runtime() -> anyhow::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _ = RUNTIME.set(runtime);
    }
    RUNTIME.get().context("a runtime")
}
