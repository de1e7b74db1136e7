//! What can be typed.
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Self-hosted telephony: browsers, SIP trunks, recording with consent.
///
/// `offhook up --dev` starts everything on this machine, with data and secrets under ./data, and prints the softphone's
/// address.
#[derive(Debug, Parser)]
#[command(name = "offhook", disable_version_flag = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// The configuration [default: offhook.toml in this directory, if there is one]
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG", global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs every daemon in this one process
    Up {
        /// For trying things out: two users with one-click sign-in
        #[arg(long)]
        dev: bool,
    },
    /// Runs the SFU alone, over NATS
    Sfu {
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Runs the SIP gateway alone, over NATS
    Sip {
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Checks or prints the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints the version
    Version,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reads everything as the daemons would, and names every mistake
    Check,
    /// Prints what is set by file and environment, secrets as ***
    Print,
}
