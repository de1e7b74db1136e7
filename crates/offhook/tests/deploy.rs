//! What stands in deploy/ fits the binaries and keeps its promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn units() -> Vec<(String, String)> {
    let folder = deploy().join("systemd");
    let mut units: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    units.sort();
    units
}

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    unit.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("{key} is missing"))
}

#[test]
fn there_is_a_unit_for_each_form_and_it_starts_a_binary_of_that_name() {
    let names: Vec<String> = units().into_iter().map(|(name, _)| name).collect();
    let forms = ["offhook-control", "offhook-recorder", "offhook-sfu", "offhook-sip", "offhook-turn", "offhook"];
    assert_eq!(names, forms.map(|form| format!("{form}.service")));
    for (name, unit) in units() {
        let binary = name.strip_suffix(".service").unwrap();
        // offhook-turn alone reads coturn's configuration.
        let command = match binary {
            "offhook" => "offhook up",
            "offhook-turn" => "offhook turn",
            binary => binary,
        };
        let expected = format!("/usr/bin/{command} --config /etc/offhook/{}.toml", sample_of(&name));
        assert_eq!(value(&unit, "ExecStart"), expected, "{name}");
        assert_eq!(value(&unit, "Type"), "notify", "{name}");
    }
}

/// The configuration of a unit: one for all daemons in one process, one for each that runs alone, for each is a user of
/// its own on the bus.
fn sample_of(unit: &str) -> &str {
    let binary = unit.strip_suffix(".service").unwrap();
    binary.strip_prefix("offhook-").unwrap_or(binary)
}

#[test]
fn every_unit_finds_its_sample_and_its_user_on_the_bus() {
    let configs = deploy().join("../configs");
    let nats = std::fs::read_to_string(configs.join("nats-server.conf")).unwrap();
    let mut users = Vec::new();
    for (name, unit) in units() {
        let sample = sample_of(&name);
        assert!(unit.contains(&format!("configs/{sample}.toml")), "{name} names no sample");
        let path = configs.join(format!("{sample}.toml"));
        let config = offhook_runtime::ConfigFile::load(Some(&path)).unwrap();
        let user = config.bus().unwrap().user;
        // Alone in one process they meet on no server.
        assert_eq!(user, if sample == "offhook" { "" } else { sample }, "{name}");
        assert!(user.is_empty() || nats.contains(&format!("user: \"{user}\", password:")), "{user} is no user");
        users.push(user);
    }
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 6);
}

/// One user for two daemons would let a broken SFU read the signing key of access tokens.
#[test]
fn every_unit_has_a_user_and_a_directory_of_its_own_and_its_sample_names_it() {
    for (name, unit) in units() {
        let own = name.strip_suffix(".service").unwrap();
        for (key, expected) in [("User", own), ("Group", own), ("StateDirectory", own)] {
            assert_eq!(value(&unit, key), expected, "{name}: {key}");
        }
        let directory = format!("/var/lib/{own}");
        assert_eq!(value(&unit, "WorkingDirectory"), directory, "{name}");
        // What the environment of the unit said, the command line would not know.
        assert!(!unit.contains("OFFHOOK__STORAGE"), "{name}");
        let path = deploy().join(format!("../configs/{}.toml", sample_of(&name)));
        let storage = offhook_runtime::ConfigFile::load(Some(&path)).unwrap().storage().unwrap();
        assert_eq!(storage.data_dir, Path::new(&directory), "{name}");
        assert!(unit.contains("#LoadCredential="), "{name} does not say how it gets at a secret");
    }
}

/// Without an error number systemd kills a process for a call that is not allowed.
#[test]
fn a_system_call_that_is_not_allowed_fails_and_the_recorder_may_lower_its_priority() {
    for (name, unit) in units() {
        assert_eq!(value(&unit, "SystemCallErrorNumber"), "EPERM", "{name}");
        let filters: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
        let mut expected = vec!["@system-service", "~@privileged @resources"];
        if ["offhook.service", "offhook-recorder.service"].contains(&name.as_str()) {
            expected.push("setpriority");
        }
        // The order matters: what is added last stays.
        assert_eq!(filters, expected, "{name}");
    }
}

#[test]
fn systemd_waits_longer_than_the_drain_and_gives_the_process_no_more_than_it_needs() {
    let drain_s = offhook_runtime::config::Runtime::default().drain_timeout_s;
    for (name, unit) in units() {
        let stop_s: u64 = value(&unit, "TimeoutStopSec").parse().unwrap();
        assert!(stop_s > drain_s + 10, "{name}: {stop_s} s for a drain of {drain_s} s");
        for line in [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "DynamicUser=yes",
            "SystemCallFilter=@system-service",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "LimitNOFILE=65536",
            "UMask=0077",
        ] {
            assert!(unit.lines().any(|l| l == line), "{name}: {line} is missing");
        }
        let capabilities = value(&unit, "CapabilityBoundingSet");
        let low_ports = ["offhook.service", "offhook-control.service", "offhook-turn.service"];
        assert_eq!(
            capabilities,
            if low_ports.contains(&name.as_str()) { "CAP_NET_BIND_SERVICE" } else { "" },
            "{name}"
        );
        // An empty value takes back all that stood before it: what counts is what is left at the end.
        let ambient = unit.lines().filter_map(|line| line.strip_prefix("AmbientCapabilities="));
        let left = ambient.fold(Vec::new(), |mut left, value| {
            left.extend(value.split_whitespace());
            if value.is_empty() { Vec::new() } else { left }
        });
        assert_eq!(left.join(" "), capabilities, "{name}");
    }
}

/// systemd's own opinion, on machines that have systemd: 0 is closed, 10 open.
#[test]
fn systemd_calls_the_units_well_closed() {
    for (name, _) in units() {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=20"]).arg(deploy().join("systemd").join(&name));
        let done = command.output().expect("systemd-analyze is needed");
        let words = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}: {}", words.lines().last().unwrap_or_default());
    }
}

#[test]
fn the_compose_file_names_samples_and_commands_that_exist() {
    let compose = std::fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    let mut mounted = 0;
    for word in compose.split(['"', ' ', '[', ']']).filter_map(|w| w.strip_prefix("./configs/")) {
        let name = word.split(':').next().unwrap();
        assert!(deploy().join("../configs").join(name).exists(), "{name} is no sample");
        mounted += 1;
    }
    assert_eq!(mounted, 6);
    // No container has root, so none gets a capability that only root could use; the certificate must get in.
    assert!(!compose.contains("cap_add") && compose.contains("./tls:/etc/offhook/tls:ro"));
    // Who mints and who checks have one secret.
    assert_eq!(compose.matches("OFFHOOK__TURN__SECRETS: \"${OFFHOOK_TURN_SECRET:?}\"").count(), 2);
    let nats = std::fs::read_to_string(deploy().join("../configs/nats-server.conf")).unwrap();
    for daemon in ["sfu", "sip", "recorder", "control", "turn"] {
        assert!(compose.contains(&format!("command: [\"{daemon}\", ")), "{daemon}");
        let volume = format!("\"{daemon}:/var/lib/offhook-{daemon}\"");
        assert!(compose.contains(&volume), "{volume} is where the sample's data_dir is");
        let variable = format!("OFFHOOK_BUS_{}", daemon.to_uppercase());
        assert!(nats.contains(&format!("${variable}")) && compose.matches(&variable).count() >= 3, "{variable}");
        let help = Command::new(env!("CARGO_BIN_EXE_offhook")).args([daemon, "--help"]).output().unwrap();
        assert!(help.status.success(), "offhook {daemon}");
    }
}

#[test]
fn the_image_has_every_manifest_of_the_pages_before_they_are_installed() {
    let dockerfile = std::fs::read_to_string(deploy().join("Dockerfile")).unwrap();
    let web = std::fs::read_to_string(deploy().join("../web/package.json")).unwrap();
    let (before, _) = dockerfile.split_once("RUN npm ci").unwrap();
    let (_, list) = web.split_once("\"workspaces\": [").unwrap();
    let workspaces: Vec<&str> =
        list.split(']').next().unwrap().split(',').map(|w| w.trim().trim_matches('"')).collect();
    assert_eq!(workspaces.len(), 2);
    for workspace in workspaces {
        assert!(before.contains(&format!("COPY web/{workspace}/package.json {workspace}/\n")), "{workspace}");
    }
}
