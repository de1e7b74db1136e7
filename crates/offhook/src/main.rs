//! The command line. No logic of its own: each command calls the part that knows.
mod cli;
mod settings;
mod up;

use clap::Parser;
use cli::{Cli, Command, ConfigCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { command, config } = Cli::parse();
    let config = config.as_deref();
    let outcome = match command {
        Command::Up { dev } => up::up(config, dev),
        Command::Sfu { dev } => return offhook_runtime::run_alone::<offhook_sfu::SfuDaemon>(config, dev),
        Command::Sip { dev } => return offhook_runtime::run_alone::<offhook_sip::SipGateway>(config, dev),
        Command::Config { command: ConfigCommand::Check } => settings::check(config),
        Command::Config { command: ConfigCommand::Print } => settings::print(config),
        Command::Version => {
            println!("offhook {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("offhook: {error:#}");
        ExitCode::FAILURE
    })
}
