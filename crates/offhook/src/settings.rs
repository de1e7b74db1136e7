//! `offhook config check|print`.
use anyhow::Result;
use offhook_runtime::{ConfigError, ConfigFile, Daemon};
use std::path::Path;
use std::process::ExitCode;

/// One line for each mistake; all of them, not only the first.
pub fn check(path: Option<&Path>) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    let mistakes = mistakes(&config);
    for mistake in &mistakes {
        eprintln!("{mistake}");
    }
    if mistakes.is_empty() {
        println!("{}: fine", config.name());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

pub fn print(path: Option<&Path>) -> Result<ExitCode> {
    print!("{}", ConfigFile::load(path)?.redacted());
    Ok(ExitCode::SUCCESS)
}

type Check = fn(&ConfigFile) -> Result<(), ConfigError>;

/// Every section as the one who needs it reads it.
const CHECKS: [Check; 9] = [
    |c| c.runtime().map(drop),
    |c| c.net().map(drop),
    |c| c.tls().map(drop),
    |c| c.storage().map(drop),
    |c| c.bus().map(drop),
    |c| offhook_sfu::SfuDaemon::config(c).map(drop),
    |c| offhook_sip::SipGateway::config(c).map(drop),
    |c| offhook_recorder::Recorder::config(c).map(drop),
    |c| offhook_control::Control::config(c).map(drop),
];

fn mistakes(config: &ConfigFile) -> Vec<ConfigError> {
    let mut mistakes: Vec<ConfigError> = Vec::new();
    for mistake in CHECKS.iter().filter_map(|check| check(config).err()) {
        // Several daemons read the shared sections.
        if mistakes.iter().all(|known| known.to_string() != mistake.to_string()) {
            mistakes.push(mistake);
        }
    }
    mistakes
}
