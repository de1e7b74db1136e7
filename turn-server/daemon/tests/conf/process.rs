//! `pidfile`, `proc-user`, `proc-group`, `relay-threads` and systemd's word.
use crate::client::Client;
use crate::rig::{ALICE, Daemon, Place, until};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Of `Uid:` or `Gid:`: real, effective, saved and for files.
fn ids(daemon: &Daemon, name: &str) -> Vec<u32> {
    let status = daemon.proc_file("status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn id_of(file: &str, name: &str) -> u32 {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.split(':').next() == Some(name)).unwrap();
    line.split(':').nth(2).unwrap().parse().unwrap()
}

#[test]
fn the_pid_is_written_and_taken_away() {
    let place = Place::new();
    let path = place.path("turn.pid");
    let mut daemon = place.start(&format!("{ALICE}pidfile=\"{}\"\n", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap().trim(), daemon.child.id().to_string());
    daemon.end();
    assert!(!path.exists());
}

/// Needs root, as the daemon does to become somebody else.
#[test]
fn every_thread_becomes_the_user_and_the_group_once_all_is_bound() {
    let place = Place::new();
    let log = place.path("turn.log");
    let options =
        format!("{ALICE}proc-user=nobody\nproc-group=mail\nrelay-threads=2\nsimple-log\nlog-file={}\n", log.display());
    // A port that is root's alone shows that binding came first.
    let daemon = place.start(&format!("{options}aux-server=127.0.0.1:917\n"));
    let (uid, gid) = (id_of("/etc/passwd", "nobody"), id_of("/etc/group", "mail"));
    assert_eq!((ids(&daemon, "Uid:"), ids(&daemon, "Gid:")), (vec![uid; 4], vec![gid; 4]));
    assert!(ids(&daemon, "Groups:").is_empty());
    for task in fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}")), "{status}");
    }
    assert_eq!(Client::udp("127.0.0.1:917".parse().unwrap(), "alice", "sesame").allocate().code(), 0);
    // The log is the user's now, and can be opened again.
    daemon.signal("HUP");
    daemon.wait_for("configuration read again");
    until("the log goes on", || fs::read_to_string(&log).unwrap().contains("configuration read again"));
}

#[test]
fn a_user_without_a_group_takes_its_own() {
    let daemon = Daemon::start(&format!("{ALICE}proc-user=nobody\n"));
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let line = text.lines().find(|line| line.starts_with("nobody:")).unwrap();
    let gid: u32 = line.split(':').nth(3).unwrap().parse().unwrap();
    assert_eq!(ids(&daemon, "Gid:"), [gid; 4]);
}

#[test]
fn who_may_not_change_is_told_so_and_who_is_there_already_stays() {
    for (options, words) in [
        ("proc-user=nobody-of-this-name\n", "is no user of this system"),
        ("proc-group=no-group-of-this-name\n", "is no group of this system"),
    ] {
        let output = Place::new().refused(&format!("{ALICE}{options}"));
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words));
    }
    let as_nobody = |place: &Place| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
        command.arg(env!("CARGO_BIN_EXE_offhook-turn")).arg("-c").arg(place.path("turnserver.conf"));
        command
    };
    let place = Place::new();
    place.write(&format!("{ALICE}proc-user=mail\n"));
    let output = as_nobody(&place).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("may not become mail") && said.contains("start it as root, or remove"), "{said}");
    place.write(&format!("{ALICE}proc-user=nobody\nproc-group=mail\n"));
    let command = as_nobody(&place);
    let daemon = Daemon::spawn(place, command);
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0);
}

#[test]
fn there_are_as_many_relaying_threads_as_asked_for() {
    let daemon = Daemon::start(&format!("{ALICE}relay-threads=3\n"));
    let relaying = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", daemon.child.id())).unwrap();
        let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
        names.filter(|name| name.trim().strip_prefix("turn-").is_some_and(|n| n.parse::<u8>().is_ok())).count()
    };
    // A thread takes its name when it first runs.
    until("three threads run", || relaying() == 3);
}

#[test]
fn systemd_is_told_when_it_serves() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    place.write(ALICE);
    let mut command = place.command();
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let mut daemon = Daemon::spawn(place, command);
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    daemon.end();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"STOPPING=1");
}

#[test]
fn help_and_version_are_said_and_nothing_is_started() {
    let said = |argument: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_offhook-turn")).arg(argument).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{argument}");
        String::from_utf8(output.stdout).unwrap()
    };
    for argument in ["--help", "-h", "-nh"] {
        assert!(said(argument).contains("--static-auth-secret VALUE"), "{argument}");
    }
    assert_eq!(said("--version").trim(), concat!("offhook-turn ", env!("CARGO_PKG_VERSION")));
}

/// getopt's forms of one command line: the file in the same word, and switches in one.
#[test]
fn the_file_and_switches_may_stand_in_one_word() {
    let place = Place::new();
    place.write(ALICE);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_offhook-turn"));
    command.arg(format!("-fc{}", place.shown("turnserver.conf"))).arg("-J").arg("mongodb://elsewhere");
    let daemon = Daemon::spawn_silent(place, command);
    assert!(daemon.wait_for("mongo-userdb").contains("does nothing here"));
    daemon.wait_for("listening");
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0);
    let place = Place::new();
    place.write("min-port=2\nmax-port=1\n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_offhook-turn"));
    let words =
        ["-vnL127.0.0.1", "-E127.0.0.1", "-ualice:sesame", "-rexample.org", "--tls-listening-port=0", "-ax", "-m1"];
    command.args(words).arg(format!("-p{}", place.port)).arg(format!("-c{}", place.shown("turnserver.conf")));
    let daemon = Daemon::spawn(place, command);
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 0);
}
