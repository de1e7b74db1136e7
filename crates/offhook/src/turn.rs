//! `offhook turn credentials`: a pair to try the TURN server with.
use anyhow::{Context, Result, bail};
use offhook_runtime::ConfigFile;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// The user name on the first line, the password on the second.
pub fn credentials(path: Option<&Path>, user: &str, ttl_s: u64) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    let turn = config.turn()?;
    let kept = || turn.read_kept_secret().with_context(|| format!("cannot read {}", turn.kept_secret.display()));
    let secret = match turn.secrets.first() {
        Some(secret) => Some(secret.clone()),
        None => kept()?,
    };
    let Some(secret) = secret else {
        bail!("turn.secrets is not set, and no TURN server has made {} yet", turn.kept_secret.display());
    };
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let minted = offhook_wire_stun::credentials::mint(secret.expose().as_bytes(), now_s + ttl_s, user);
    println!("{}\n{}", minted.username, minted.password);
    Ok(ExitCode::SUCCESS)
}
