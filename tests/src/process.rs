//! A child process with its output kept, shown when a story fails.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::wait;

#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `folder/<name>.log` (appended: a restarted daemon keeps its story).
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} could not be started ({command:?}): {e}"));
        Self { name: name.into(), child: Some(child), log }
    }

    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// The number of open files and sockets of the process, beside those of its database's pool: bounded, and opened when
    /// two queries meet.
    pub fn open_files(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().map_while(Result::ok);
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets.filter(|path| !path.to_string_lossy().contains("control.sqlite")).count()
    }

    /// Connections at a TCP port of ours: clients keep them for later as they like, up to minutes.
    pub fn connections_at(&self, port: u16) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).unwrap_or_default();
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ours = format!(":{port:04X}");
        // State 1 is an established one.
        rows.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&ours)) && row.get(3) == Some(&"01")).count()
    }

    /// The UDP ports that the process has open, by the system's tables.
    pub fn udp_ports(&self) -> Vec<u16> {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().map_while(Result::ok);
        let targets = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let own: std::collections::HashSet<String> = targets
            .filter_map(|path| Some(path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = std::fs::read_to_string(format!("/proc/{}/net/udp", self.pid())).unwrap_or_default();
        let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.filter(|row| row.get(9).is_some_and(|inode| own.contains(*inode)))
            .filter_map(|row| u16::from_str_radix(row.get(1)?.rsplit(':').next()?, 16).ok())
            .collect()
    }

    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "{} could not be sent {signal}", self.name);
    }

    /// Waits for the end and returns whether it was a success.
    pub fn finish(&mut self, limit: Duration) -> bool {
        let name = self.name.clone();
        let Some(child) = self.child.as_mut() else { return false };
        let status = wait::until(&format!("{name} to end"), limit, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".into()),
            Err(e) => Err(e.to_string()),
        });
        self.child = None;
        status.success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(150).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("---- {} ----\n{}\n----", self.name, tail.join("\n"));
        }
    }
}
