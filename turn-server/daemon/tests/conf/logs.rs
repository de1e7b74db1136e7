//! `log-file`, `simple-log`, `no-stdout-log`, `syslog`, `verbose` and `Verbose`, and logrotate's way of doing things.
use crate::client::Client;
use crate::rig::{ALICE, Daemon, Place, until};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn start_with_log(options: &str) -> (Daemon, PathBuf) {
    let place = Place::new();
    let base = place.path("turn.log");
    (place.start(&format!("{ALICE}log-file={}\n{options}", base.display())), base)
}

/// `turn_2026-11-21.log` beside `turn.log`.
fn dated(base: &Path) -> Option<PathBuf> {
    let found = fs::read_dir(base.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_dated = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let middle = name.strip_prefix("turn_").and_then(|rest| rest.strip_suffix(".log"));
        middle.is_some_and(|date| date.len() == 10 && date.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
    };
    found.into_iter().find(is_dated)
}

#[test]
fn a_log_file_carries_the_date_and_standard_output_says_the_same() {
    let (daemon, base) = start_with_log("");
    let path = dated(&base).unwrap();
    assert!(!base.exists());
    until("it stands in the file", || text(&path).contains("listening by TCP"));
    daemon.wait_for("listening by TCP");
}

#[test]
fn a_simple_log_has_the_name_that_it_was_given() {
    let (_daemon, base) = start_with_log("simple-log\n");
    until("it stands in the file", || text(&base).contains("listening by TCP"));
    assert_eq!(dated(&base), None);
}

#[test]
fn nothing_is_written_to_standard_output_if_that_is_not_wanted() {
    let (mut daemon, base) = start_with_log("simple-log\nno-stdout-log\n");
    until("it stands in the file", || text(&base).contains("listening by TCP"));
    daemon.end();
    assert_eq!(daemon.lines(), Vec::<String>::new());
}

#[test]
fn without_any_place_the_log_goes_where_coturn_puts_it() {
    let place = Place::new();
    place.write(&format!("{ALICE}no-stdout-log\nsimple-log\n"));
    place.without("log-file=stdout\n");
    // In a root of its own, where the folders that are tried first are ours.
    let logs = place.path("logs");
    fs::create_dir(&logs).unwrap();
    let script = format!("mount --bind '{}' /var/log", logs.display());
    let daemon = Daemon::with_mounts(place, &script);
    until("it stands in the file", || text(&logs.join("turn.log")).contains("listening by TCP"));
    drop(daemon);
}

#[test]
fn a_log_file_that_cannot_be_had_stops_nobody() {
    let daemon = Daemon::start(&format!("{ALICE}log-file=/no/such/folder/turn.log\n"));
    daemon.reload(&format!("{ALICE}log-file=/no/such/folder/turn.log\n"));
    let line = daemon.wait_for("cannot open the log file");
    assert!(line.contains("/no/such/folder") && line.contains("go on to where they went"), "{line}");
}

#[test]
fn a_log_that_was_rotated_is_opened_again() {
    let (daemon, base) = start_with_log("simple-log\n");
    let old = base.with_extension("log.1");
    until("the first file", || text(&base).contains("listening by TCP"));
    fs::rename(&base, &old).unwrap();
    daemon.signal("HUP");
    until("the second file", || text(&base).contains("configuration read again"));
    assert!(!text(&old).contains("configuration read again"));
    // Even when the configuration has become unreadable.
    fs::rename(&base, &old).unwrap();
    daemon.reload("min-port=2\nmax-port=1\nsimple-log\n");
    until("the third file", || text(&base).contains("the old one stays"));
    // Where it cannot be opened the lines go on to where they went.
    daemon.reload(&format!("{ALICE}log-file=/no/such/folder/turn.log\nsimple-log\n"));
    until("the reason", || text(&base).contains("cannot open the log file /no/such/folder"));
}

#[test]
fn the_level_is_the_files_and_changes_with_it() {
    for (options, is_said) in [("", false), ("verbose\n", true), ("Verbose\n", true)] {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        assert_eq!(alice.allocate().code(), 0);
        daemon.signal("USR2");
        let mut said = String::new();
        while !said.contains("certificate read again") {
            said = format!("{said}{}\n", daemon.wait_for(" "));
        }
        assert_eq!(said.contains("allocation begins"), is_said, "{options}: {said}");
    }
    let daemon = Daemon::start(ALICE);
    daemon.reload(&format!("{ALICE}verbose\n"));
    daemon.wait_for("configuration read again");
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0);
    daemon.wait_for("allocation begins");
}

/// Needs root: the system's log is a socket in /dev, which is put there for the daemon alone.
fn logs_to_syslog(options: &str) {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("log")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    place.write(&format!("{ALICE}no-stdout-log\n{options}"));
    let at = place.folder.path().display().to_string();
    let script = format!(
        "mkdir -p '{at}/dev' && cd '{at}/dev' && touch log null urandom \
         && for name in null urandom; do mount --bind /dev/$name $name; done && mount --bind ../log log \
         && mount --rbind '{at}/dev' /dev && cd /"
    );
    let mut daemon = Daemon::with_mounts(place, &script);
    let mut said = Vec::new();
    let mut buffer = [0; 4_096];
    while !said.iter().any(|line: &String| line.contains("listening by TCP")) {
        let length = socket.recv(&mut buffer).unwrap();
        said.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    // Facility daemon: 30 is a notice of what happens, 28 a warning.
    assert!(
        said.iter().any(|line| line.starts_with("<30>offhook-turn: ") && line.contains("listening by UDP")),
        "{said:?}"
    );
    assert!(said.iter().any(|line| line.starts_with("<28>offhook-turn: ") && line.contains("private")), "{said:?}");
    daemon.end();
    assert_eq!(daemon.lines(), Vec::<String>::new());
}

#[test]
fn the_systems_log_gets_every_line_with_its_severity() {
    logs_to_syslog("syslog\n");
    logs_to_syslog("log-file=syslog\n");
}
