//! The command line of coturn.
use crate::database;
use crate::log::Log;
use crate::plan::Plan;
use crate::process::{Identity, IdentityError, PidFile};
use crate::run::{self, Running, Signals};
use crate::tls::Certificate;
use offhook_turn_core::conf::{CommandLine, NameError, NamedAddress, Reading};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A mistake in the configuration, which starting again does not mend (sysexits.h).
const EX_CONFIG: u8 = 78;
const VERSION: &str = concat!("offhook-turn ", env!("CARGO_PKG_VERSION"));
const OTHER_DATABASES: [&str; 3] = ["redis-userdb", "mysql-userdb", "mongo-userdb"];
const DEFAULT_FILES: [&str; 3] = ["turnserver.conf", "/etc/turnserver.conf", "/etc/coturn/turnserver.conf"];

/// What the process was told to do.
#[derive(Debug)]
pub(crate) struct Invocation(CommandLine);

impl Invocation {
    fn path(&self) -> Option<PathBuf> {
        if self.0.no_file {
            return None;
        }
        self.0
            .file
            .as_ref()
            .map(PathBuf::from)
            .or_else(|| DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.exists()))
    }

    /// Whatever is named is looked up.
    fn read(&self) -> Result<(Reading, Names), CliError> {
        let mut reading = self.parse()?;
        let names = RefCell::new(Names::new());
        reading.conf.resolve(|name| {
            let ip = look_up(name)?;
            names.borrow_mut().insert(name.to_owned(), ip);
            Ok(ip)
        })?;
        Ok((reading, names.into_inner()))
    }

    /// While the server runs nothing is looked up: where it listens and relays is decided. What else is named stays out,
    /// and comes second.
    pub(crate) fn read_again(&self, names: &Names) -> Result<(Reading, Vec<NamedAddress>), CliError> {
        let mut reading = self.parse()?;
        let is_known = |name: &String| name.parse::<IpAddr>().is_ok() || names.contains_key(name);
        let written = std::mem::take(&mut reading.conf.names);
        let (known, unknown) = written.into_iter().partition(|named| match named {
            NamedAddress::Listening(name) | NamedAddress::Relay(name) => is_known(name),
            NamedAddress::External { announced, local } => is_known(announced) && local.as_ref().is_none_or(is_known),
        });
        reading.conf.names = known;
        reading.conf.resolve(|name| names.get(name).copied().ok_or_else(|| "it waits for a restart".to_owned()))?;
        Ok((reading, unknown))
    }

    fn parse(&self) -> Result<Reading, CliError> {
        let mut reading = Reading::default();
        if let Some(path) = self.path() {
            let text = std::fs::read(&path).map_err(|source| CliError::Read { path: path.clone(), source })?;
            reading.add_file(&String::from_utf8_lossy(&text));
            beside(&path, [&mut reading.conf.cert, &mut reading.conf.pkey]);
        }
        reading.add_arguments(&self.0.rest);
        if let Some(fatal) = reading.notes.iter().find(|note| note.is_fatal()) {
            return Err(CliError::Option(fatal.to_string()));
        }
        // Users who stand in a database of a kind that is not read stand there, and not in coturn's default one.
        let is_elsewhere = reading.notes.iter().any(|note| OTHER_DATABASES.contains(&note.option.as_str()));
        if reading.conf.userdb.is_none() && reading.conf.psql_userdb.is_none() && !is_elsewhere {
            reading.conf.userdb = database::default_file().map(str::to_owned);
        }
        Ok(reading)
    }
}

/// What names stood for when the server was started.
pub(crate) type Names = HashMap<String, IpAddr>;

/// The first address of a name, as coturn takes it.
fn look_up(name: &str) -> Result<IpAddr, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| error.to_string())?;
    found.map(|address| address.ip()).next().ok_or_else(|| "it has none".to_owned())
}

/// As coturn: a file that is not in the working directory is looked for beside the configuration.
fn beside(file: &Path, named: [&mut Option<String>; 2]) {
    let Some(folder) = file.parent() else { return };
    for path in named.into_iter().flatten() {
        let there = folder.join(&*path);
        if !Path::new(path).exists() && there.exists() {
            *path = there.display().to_string();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Option(String),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Plan(#[from] crate::PlanError),
    #[error(transparent)]
    Start(#[from] crate::StartError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("a relaying thread is gone")]
    Lost,
    #[error("cannot {doing}: {source}")]
    System {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl CliError {
    pub(crate) const fn doing(doing: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

/// Reads the command line and runs the server until it is told to end.
#[must_use]
pub fn main() -> ExitCode {
    let invocation = Invocation(CommandLine::of(std::env::args().skip(1)));
    if invocation.0.help || invocation.0.version {
        let text = if invocation.0.help { CommandLine::help() } else { VERSION.to_owned() };
        // Whoever has read enough closes the pipe.
        let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
        return ExitCode::SUCCESS;
    }
    offhook_runtime::install_crypto_provider();
    let outcome = if invocation.0.check { check(&invocation) } else { run(&invocation) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offhook-turn: {error}");
            match error {
                CliError::Option(_)
                | CliError::Name(_)
                | CliError::Plan(_)
                | CliError::Read { .. }
                | CliError::Identity(_) => ExitCode::from(EX_CONFIG),
                CliError::Start(_) | CliError::Lost | CliError::System { .. } => ExitCode::FAILURE,
            }
        }
    }
}

/// `--check-config`: what would be said at start, and nothing else.
fn check(invocation: &Invocation) -> Result<(), CliError> {
    let (reading, _) = invocation.read()?;
    reading.notes.iter().for_each(|note| println!("{note}"));
    let plan = Plan::of(&reading.conf)?;
    plan.warnings.iter().for_each(|warning| println!("warning: {warning}"));
    Identity::of(&plan.process)?;
    if let Some(files) = plan.certificate.clone() {
        Certificate::load(files).map_err(crate::StartError::from)?;
    }
    if let Some(database) = &plan.database {
        println!("users in {}", database.source);
    }
    println!("{} UDP and {} TCP listeners, {} relay addresses", plan.udp.len(), plan.tcp.len(), plan.relays.len());
    Ok(())
}

fn run(invocation: &Invocation) -> Result<(), CliError> {
    let (reading, names) = invocation.read()?;
    let (log, lack) = Log::start(&reading.conf.log);
    if let Some(lack) = lack {
        tracing::warn!("{lack}; lines go to standard output");
    }
    say(&reading);
    let plan = Plan::of(&reading.conf)?;
    plan.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let identity = Identity::of(&plan.process)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::doing("start the runtime"))?;
    let _pid = PidFile::write(&plan.process);
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let running = Running::start((reading.conf, names), plan, log).await?;
        identity.take(running.log_file().as_deref())?;
        run::serve(running, signals, invocation).await
    })
}

/// Each option without effect once, each unknown one with its line.
pub(crate) fn say(reading: &Reading) {
    for note in &reading.notes {
        tracing::warn!("{note}");
    }
}
