//! `main` of every daemon that runs as a process of its own.
use crate::config::{BusConfig, ConfigError, ConfigFile};
use crate::daemon::{Program, with_causes};
use crate::process::{Process, ProcessError};
use clap::Parser;
use offhook_bus::{Bus, ConnectError, NatsCredentials, NatsOptions};
use offhook_contract::DaemonKind;
use offhook_link::TapForm;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// As sysexits.h has it: a mistake in the configuration, which starting again does not mend.
pub(crate) const EX_CONFIG: u8 = 78;

#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("[bus]")]
    Bus(#[from] ConnectError),
}

/// One daemon of Offhook as a process of its own, over NATS.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration [default: offhook.toml in this directory, if there is one]
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG")]
    config: Option<PathBuf>,
    /// For trying things out on one machine: one-click sign-ins, secrets made on the first start
    #[arg(long)]
    dev: bool,
}

/// Reads the command line and runs one daemon until it is told to end.
pub fn main(program: &Program) -> ExitCode {
    let arguments = Arguments::parse();
    run_alone(program, arguments.config.as_deref(), arguments.dev)
}

/// The same with arguments that someone else has read.
pub fn run_alone(program: &Program, config: Option<&Path>, dev: bool) -> ExitCode {
    match try_run_alone(program, config, dev) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("offhook-{}: {}", program.kind, with_causes(&error));
            match error {
                AloneError::Config(_) | AloneError::Process(ProcessError::Config(_)) => ExitCode::from(EX_CONFIG),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn try_run_alone(program: &Program, config: Option<&Path>, dev: bool) -> Result<ExitCode, AloneError> {
    let file = ConfigFile::load(config)?;
    let bus_config = file.bus()?;
    let mut process = Process::new(file, health_port(Some(program.kind)), dev)?;
    let bus = process.block_on(connect_bus(bus_config, program.kind))?;
    process.add(program, &bus, &TapForm::Network)?;
    let code = process.run(&bus, |lines| {
        for line in lines {
            tracing::info!("{line}");
        }
    })?;
    Ok(code)
}

/// Where health and metrics are served unless the configuration says otherwise; `None` is `offhook up`.
pub const fn health_port(kind: Option<DaemonKind>) -> SocketAddr {
    let port = match kind {
        None => 9_600,
        Some(DaemonKind::Sfu) => 9_601,
        Some(DaemonKind::Sip) => 9_602,
        Some(DaemonKind::Recorder) => 9_603,
        Some(DaemonKind::Control) => 9_604,
        Some(DaemonKind::Turn) => 9_605,
    };
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Connects as `[bus]` says, and connects again for ever.
pub async fn connect_bus(config: BusConfig, kind: DaemonKind) -> Result<Bus, ConnectError> {
    let credentials = if !config.user.is_empty() {
        NatsCredentials::UserPassword { user: config.user, password: config.password }
    } else if !config.token.is_empty() {
        NatsCredentials::Token(config.token)
    } else if !config.nkey_seed.is_empty() {
        NatsCredentials::NkeySeed(config.nkey_seed)
    } else {
        NatsCredentials::None
    };
    Bus::connect_nats(NatsOptions {
        cluster: config.cluster,
        urls: config.url,
        kind,
        credentials,
        ca_file: config.ca_file,
        client_certificate: config.certificate.zip(config.key),
    })
    .await
}
