//! The command line. No logic of its own: each command calls the part that knows.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod admin;
mod cli;
mod password;
mod settings;
mod turn;
mod up;

use clap::Parser;
use cli::{Cli, Command, ConfigCommand, TurnCommand};
use offhook_runtime::run_alone;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Cli { command, config } = Cli::parse();
    let config = config.as_deref();
    let outcome = match command {
        Command::Up { dev } => up::up(config, dev),
        Command::Sfu { dev } => return run_alone(&offhook_sfu::SFU, config, dev),
        Command::Turn { command: Some(TurnCommand::Credentials { user, ttl }), .. } => {
            turn::credentials(config, &user, ttl)
        }
        Command::Turn { command: None, dev } => return run_alone(&offhook_turn::TURN, config, dev),
        Command::Sip { dev } => return run_alone(&offhook_sip::SIP_GATEWAY, config, dev),
        Command::Recorder { dev } => return run_alone(&offhook_recorder::RECORDER, config, dev),
        Command::Control { dev } => return run_alone(&offhook_control::CONTROL, config, dev),
        Command::Config { command: ConfigCommand::Check } => settings::check(config),
        Command::Config { command: ConfigCommand::Print } => settings::print(config),
        Command::Tenant { command } => admin::tenant(config, command),
        Command::User { command } => admin::user(config, command),
        Command::Number { command } => admin::number(config, command),
        Command::Token { command } => admin::token(config, command),
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
