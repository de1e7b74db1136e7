//! The command line of coturn, the signals of coturn.
use crate::plan::Plan;
use crate::server::Server;
use crate::{log, metrics};
use offhook_turn_core::conf::Reading;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A mistake in the configuration, which starting again does not mend (sysexits.h).
const EX_CONFIG: u8 = 78;
const DEFAULT_FILES: [&str; 3] = ["turnserver.conf", "/etc/turnserver.conf", "/etc/coturn/turnserver.conf"];
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What stands on the command line besides options of the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Invocation {
    file: Option<PathBuf>,
    no_file: bool,
    check: bool,
    rest: Vec<String>,
}

impl Invocation {
    fn of(arguments: impl Iterator<Item = String>) -> Self {
        let mut invocation = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-c" | "--config" => invocation.file = arguments.next().map(PathBuf::from),
                "-n" => invocation.no_file = true,
                "--check-config" => invocation.check = true,
                _ => invocation.rest.push(argument),
            }
        }
        invocation
    }

    fn path(&self) -> Option<PathBuf> {
        if self.no_file {
            return None;
        }
        self.file.clone().or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()))
    }

    fn read(&self) -> Result<Reading, CliError> {
        let mut reading = Reading::default();
        if let Some(path) = self.path() {
            let text = std::fs::read(&path).map_err(|source| CliError::Read { path: path.clone(), source })?;
            reading.add_file(&String::from_utf8_lossy(&text));
        }
        reading.add_arguments(&self.rest);
        if let Some(fatal) = reading.notes.iter().find(|note| note.is_fatal()) {
            return Err(CliError::Option(fatal.to_string()));
        }
        Ok(reading)
    }
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Option(String),
    #[error(transparent)]
    Plan(#[from] crate::PlanError),
    #[error(transparent)]
    Start(#[from] crate::StartError),
    #[error("cannot {doing}: {source}")]
    System {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl CliError {
    const fn doing(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// Reads the command line and runs the server until it is told to end.
#[must_use]
pub fn main() -> ExitCode {
    offhook_runtime::install_crypto_provider();
    let invocation = Invocation::of(std::env::args().skip(1));
    let outcome = if invocation.check { check(&invocation) } else { run(&invocation) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offhook-turn: {error}");
            match error {
                CliError::Option(_) | CliError::Plan(_) | CliError::Read { .. } => ExitCode::from(EX_CONFIG),
                CliError::Start(_) | CliError::System { .. } => ExitCode::FAILURE,
            }
        }
    }
}

/// `--check-config`: what would be said at start, and nothing else.
fn check(invocation: &Invocation) -> Result<(), CliError> {
    let reading = invocation.read()?;
    reading.notes.iter().for_each(|note| println!("{note}"));
    let plan = Plan::of(&reading.conf)?;
    plan.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    println!("{} UDP and {} TCP listeners, {} relay addresses", plan.udp.len(), plan.tcp.len(), plan.relays.len());
    Ok(())
}

fn run(invocation: &Invocation) -> Result<(), CliError> {
    let reading = invocation.read()?;
    log::start(&reading.conf).map_err(CliError::doing("open the log"))?;
    say(&reading);
    let plan = Plan::of(&reading.conf)?;
    plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::doing("start the runtime"))?;
    if let Some(path) = &reading.conf.pidfile {
        write_pid(Path::new(path));
    }
    let outcome = runtime.block_on(serve(plan, invocation));
    if let Some(path) = &reading.conf.pidfile {
        let _ = std::fs::remove_file(path);
    }
    outcome
}

/// Each option without effect once, each unknown one with its line.
fn say(reading: &Reading) {
    for note in &reading.notes {
        tracing::warn!("{note}");
    }
    let unused = [
        (reading.conf.userdb.as_deref().is_some_and(|path| path != "/dev/null"), "userdb"),
        (reading.conf.psql_userdb.is_some(), "psql-userdb"),
        (reading.conf.proc_user.is_some() || reading.conf.proc_group.is_some(), "proc-user and proc-group"),
        (reading.conf.pkey_pwd.is_some(), "pkey-pwd"),
        (reading.conf.cipher_list.is_some(), "cipher-list"),
    ];
    for (_, name) in unused.iter().filter(|(is_set, _)| *is_set) {
        tracing::warn!("{name} is not acted upon yet");
    }
}

/// As coturn: a pid that cannot be written is no reason not to serve.
fn write_pid(path: &Path) {
    if let Err(error) = std::fs::write(path, format!("{}\n", std::process::id())) {
        tracing::warn!(%error, path = %path.display(), "pid not written");
    }
}

async fn serve(plan: Plan, invocation: &Invocation) -> Result<(), CliError> {
    let metrics = plan.metrics.clone();
    let (server, told) = Server::start(plan).await?;
    std::thread::Builder::new()
        .name("turn-log".into())
        .spawn(move || told.iter().for_each(|output| log::write(&output)))
        .map_err(CliError::doing("start the log's thread"))?;
    if let Some((address, path)) = metrics {
        let listener = metrics::bind(address).await.map_err(CliError::doing("serve metrics"))?;
        let snapshots = server.snapshots();
        tokio::spawn(async move {
            if let Err(error) = metrics::serve(listener, &path, snapshots).await {
                tracing::error!(%error, "metrics ended");
            }
        });
    }
    for address in server.udp_addresses() {
        tracing::info!(%address, "listening by UDP");
    }
    for address in server.tcp_addresses() {
        tracing::info!(%address, "listening by TCP and TLS");
    }
    obey_signals(&server, invocation).await.map_err(CliError::doing("listen for signals"))?;
    server.stop().await;
    Ok(())
}

/// TERM and INT end, USR1 drains, HUP reads the configuration and the certificate again, USR2 the certificate.
async fn obey_signals(server: &Server, invocation: &Invocation) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut draining = false;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = user1.recv() => {
                tracing::info!(allocations = server.allocations(), "draining: new allocations are refused");
                draining = true;
                server.drain().await;
            }
            _ = hang_up.recv() => {
                reload(server, invocation).await;
                reload_certificate(server);
            }
            _ = user2.recv() => reload_certificate(server),
            _ = look.tick(), if draining => {
                if server.allocations() == 0 {
                    tracing::info!("drained");
                    return Ok(());
                }
            }
        }
    }
}

async fn reload(server: &Server, invocation: &Invocation) {
    let plan = invocation.read().and_then(|reading| {
        say(&reading);
        Ok(Plan::of(&reading.conf)?)
    });
    match plan {
        Ok(plan) => {
            server.reload(&plan).await;
            tracing::info!("configuration read again; listeners and relay addresses stay until a restart");
        }
        Err(error) => tracing::error!(%error, "configuration not read again: the old one stays"),
    }
}

fn reload_certificate(server: &Server) {
    match server.reload_certificate() {
        Ok(()) => tracing::info!("certificate read again"),
        Err(error) => tracing::error!(%error, "certificate not read again: the old one stays"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_coturns() {
        let words = ["-c", "/etc/x.conf", "-v", "--realm", "r", "--check-config", "-n"];
        let invocation = Invocation::of(words.map(String::from).into_iter());
        assert_eq!(invocation.file.as_deref(), Some(Path::new("/etc/x.conf")));
        assert!(invocation.no_file && invocation.check && invocation.path().is_none());
        assert_eq!(invocation.rest, ["-v", "--realm", "r"]);
    }
}
