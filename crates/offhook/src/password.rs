//! A password from standard input, not shown where a person types it.
use anyhow::{Context, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Stdin};

/// One line; never an argument, which others could see in the list of processes.
pub fn read() -> Result<String> {
    let stdin = std::io::stdin();
    let silence = if stdin.is_terminal() { Some(Silence::begin(&stdin)?) } else { None };
    if silence.is_some() {
        eprintln!("Password (it is not shown):");
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line).context("cannot read the password")?;
    drop(silence);
    anyhow::ensure!(read > 0, "no password came on standard input: type one, or: offhook user add … < file");
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    anyhow::ensure!(password.chars().count() >= 8, "a password has at least 8 characters");
    Ok(password)
}

/// The terminal shows nothing that is typed, until this is dropped.
struct Silence<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a Stdin) -> Result<Self> {
        let doing = "cannot switch off the terminal's echo (or: offhook user add … < file)";
        let before = tcgetattr(terminal).context(doing)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        // What was typed before we asked is not the password.
        tcsetattr(terminal, OptionalActions::Flush, &silent).context(doing)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            eprintln!("offhook: the terminal's echo stays off ({error}); type: stty echo");
        }
    }
}
