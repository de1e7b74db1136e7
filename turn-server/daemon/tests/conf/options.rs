//! Every option that acts, what it changes in the plan, and the test that sees it act; and the twelve files, in which
//! nothing stands that neither acts nor is named at start.
use offhook_turn::Plan;
use offhook_turn_core::conf::{Conf, Reading, Remark, acting};
use std::collections::BTreeMap;

/// What the lines below change.
const BASE: &str = "listening-ip=192.0.2.1\nrelay-ip=192.0.2.1\nrealm=example.org\nuse-auth-secret\nuserdb=/base.db\n\
                    prometheus\ncert=/base.pem\npkey=/base.key\n";

struct Effect {
    option: &'static str,
    /// A line that, behind [`BASE`], makes another plan; none where the server always does what the option asks for.
    line: Option<&'static str>,
    /// Of this folder: module and function.
    test: (&'static str, &'static str),
}

const fn acts(option: &'static str, line: &'static str, module: &'static str, test: &'static str) -> Effect {
    Effect { option, line: Some(line), test: (module, test) }
}

const fn always(option: &'static str, module: &'static str, test: &'static str) -> Effect {
    Effect { option, line: None, test: (module, test) }
}

const SERVED: &str = "every_port_on_every_address_is_served_by_udp_and_tcp";
const CARRIERS: &str = "carriers_can_be_left_out";
const RELAYS: &str = "relays_stand_where_they_are_told_and_are_called_as_clients_reach_them";
const METRICS: &str = "metrics_are_served_where_they_are_told_under_coturns_names";
const RANGE: &str = "ports_are_taken_from_the_range_until_there_is_none";
const SQLITE: &str = "users_of_sqlite_log_in_and_come_and_go_without_a_restart";
const SECRETS: &str = "secrets_of_sqlite_open_rest_credentials_beside_those_of_the_file";
const POSTGRES: &str = "users_of_postgresql_log_in_by_both_kinds_of_connection_strings";
const NO_AUTH: &str = "nobody_is_asked_if_the_file_says_so_and_names_no_way_to_log_in";
const REST: &str = "secrets_open_rest_credentials_and_several_do_at_once";
const SHARES: &str = "the_capacity_is_promised_in_shares_of_the_bandwidth";
const LASTS: &str = "permissions_and_channels_last_as_long_as_the_file_says";
const RARE: &str = "answers_to_who_has_not_logged_in_are_rare";
const HALVES: &str = "either_half_of_the_server_can_be_left_out";
const RANGES: &str = "ranges_are_denied_and_allowed_by_any_method";
const FAMILY: &str = "the_family_of_a_relay_is_the_files_choice";
const CARRY: &str = "answers_carry_a_fingerprint_if_wanted_and_a_name_unless_not_wanted";
const IDENTITY: &str = "every_thread_becomes_the_user_and_the_group_once_all_is_bound";
const LEVEL: &str = "the_level_is_the_files_and_changes_with_it";

static EFFECTS: &[Effect] = &[
    acts("listening-port", "listening-port=1", "sockets", SERVED),
    acts("tls-listening-port", "tls-listening-port=1", "sockets", SERVED),
    acts("alt-listening-port", "alt-listening-port=1", "sockets", SERVED),
    acts("alt-tls-listening-port", "alt-tls-listening-port=1", "sockets", SERVED),
    acts("listening-ip", "listening-ip=192.0.2.2", "sockets", SERVED),
    acts("aux-server", "aux-server=192.0.2.2:1", "sockets", SERVED),
    acts("relay-ip", "relay-ip=192.0.2.2", "sockets", RELAYS),
    acts("external-ip", "external-ip=198.51.100.1/192.0.2.1", "sockets", RELAYS),
    acts("min-port", "min-port=50000", "limits", RANGE),
    acts("max-port", "max-port=50000", "limits", RANGE),
    acts("relay-threads", "relay-threads=33", "process", "there_are_as_many_relaying_threads_as_asked_for"),
    acts("no-udp", "no-udp", "sockets", CARRIERS),
    acts("no-tcp", "no-tcp", "sockets", CARRIERS),
    acts("no-tls", "no-tls", "sockets", CARRIERS),
    // DTLS is never spoken; beside no-tls it closes the port of both.
    always("no-dtls", "sockets", CARRIERS),
    acts("no-udp-relay", "no-udp-relay", "peers", "relays_by_udp_can_be_refused_and_by_tcp_are"),
    always("no-tcp-relay", "peers", "relays_by_udp_can_be_refused_and_by_tcp_are"),
    acts("realm", "realm=other.example", "credentials", "the_realm_is_the_files_or_the_servers_name"),
    acts("server-name", "server-name=b.example", "credentials", "the_realm_is_the_files_or_the_servers_name"),
    acts("lt-cred-mech", "lt-cred-mech", "credentials", NO_AUTH),
    acts("no-auth", "no-auth\nuse-auth-secret=off", "credentials", NO_AUTH),
    acts("user", "user=a:b", "credentials", "users_of_the_file_log_in_with_a_password_or_a_key"),
    acts("use-auth-secret", "use-auth-secret=off", "credentials", REST),
    acts("static-auth-secret", "static-auth-secret=x", "credentials", REST),
    acts("rest-api-separator", "rest-api-separator=!", "credentials", "the_separator_of_rest_names_is_the_files"),
    acts("userdb", "userdb=/other.db", "database", SQLITE),
    acts("db", "db=/other.db", "database", SECRETS),
    acts("psql-userdb", "psql-userdb=host=other", "database", POSTGRES),
    acts("sql-userdb", "sql-userdb=host=other", "database", POSTGRES),
    acts("stale-nonce", "stale-nonce=7", "credentials", "a_nonce_lives_as_long_as_the_file_says"),
    acts("user-quota", "user-quota=1", "limits", "quotas_hold_for_a_user_and_for_all"),
    acts("total-quota", "total-quota=1", "limits", "quotas_hold_for_a_user_and_for_all"),
    acts("max-bps", "max-bps=1", "limits", SHARES),
    acts("bps-capacity", "bps-capacity=1", "limits", SHARES),
    acts(
        "max-allocate-lifetime",
        "max-allocate-lifetime=7",
        "limits",
        "an_allocation_lasts_no_longer_than_the_file_allows",
    ),
    acts("channel-lifetime", "channel-lifetime=7", "limits", LASTS),
    acts("permission-lifetime", "permission-lifetime=7", "limits", LASTS),
    acts("unauthorized-ratelimit", "unauthorized-ratelimit=off", "limits", RARE),
    acts("unauthorized-ratelimit-rps", "unauthorized-ratelimit-rps=7", "limits", RARE),
    acts("allowed-peer-ip", "allowed-peer-ip=192.0.2.9", "peers", RANGES),
    acts("denied-peer-ip", "denied-peer-ip=192.0.2.9", "peers", RANGES),
    always("no-multicast-peers", "peers", "loopback_is_reached_if_allowed_and_multicast_never"),
    acts("allow-loopback-peers", "allow-loopback-peers", "peers", "loopback_is_reached_if_allowed_and_multicast_never"),
    acts("allocation-default-address-family", "allocation-default-address-family=ipv6", "peers", FAMILY),
    acts("keep-address-family", "keep-address-family", "peers", FAMILY),
    acts("stun-only", "stun-only", "limits", HALVES),
    acts("no-stun", "no-stun", "limits", HALVES),
    acts("fingerprint", "fingerprint", "credentials", CARRY),
    acts("no-software-attribute", "no-software-attribute", "credentials", CARRY),
    acts("prod", "prod", "credentials", CARRY),
    acts("cert", "cert=/other.pem", "tls", "certificate_and_key_make_tls_and_are_read_again"),
    acts("pkey", "pkey=/other.key", "tls", "certificate_and_key_make_tls_and_are_read_again"),
    acts("pkey-pwd", "pkey-pwd=x", "tls", "an_encrypted_key_is_opened_with_its_password_or_the_reason_is_told"),
    acts("cipher-list", "cipher-list=CHACHA20", "tls", "only_ciphers_of_the_list_are_agreed_on"),
    acts("log-file", "log-file=/x.log", "logs", "a_log_file_carries_the_date_and_standard_output_says_the_same"),
    acts("simple-log", "simple-log", "logs", "a_simple_log_has_the_name_that_it_was_given"),
    acts("no-stdout-log", "no-stdout-log", "logs", "nothing_is_written_to_standard_output_if_that_is_not_wanted"),
    acts("syslog", "syslog", "logs", "the_systems_log_gets_every_line_with_its_severity"),
    acts("verbose", "verbose", "logs", LEVEL),
    acts("Verbose", "Verbose", "logs", LEVEL),
    acts("pidfile", "pidfile=/x.pid", "process", "the_pid_is_written_and_taken_away"),
    acts("proc-user", "proc-user=x", "process", IDENTITY),
    acts("proc-group", "proc-group=x", "process", IDENTITY),
    acts("prometheus", "prometheus=off", "sockets", METRICS),
    acts("prometheus-port", "prometheus-port=1", "sockets", METRICS),
    acts("prometheus-address", "prometheus-address=192.0.2.1", "sockets", METRICS),
    acts("prometheus-path", "prometheus-path=/x", "sockets", METRICS),
    acts("prometheus-username-labels", "prometheus-username-labels", "sockets", METRICS),
];

/// Modules of this folder, to look the tests up.
static MODULES: [(&str, &str); 8] = [
    ("credentials", include_str!("credentials.rs")),
    ("database", include_str!("database.rs")),
    ("limits", include_str!("limits.rs")),
    ("logs", include_str!("logs.rs")),
    ("peers", include_str!("peers.rs")),
    ("process", include_str!("process.rs")),
    ("sockets", include_str!("sockets.rs")),
    ("tls", include_str!("tls.rs")),
];

macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../core/tests/turnserver_conf/", $name, ".conf")))
    };
}

static FILES: [(&str, &str); 12] = [
    file!("bigbluebutton"),
    file!("coturn-postgresql"),
    file!("coturn-sqlite-secrets"),
    file!("jitsi-meet"),
    file!("kolab"),
    file!("matrix-docker-ansible-deploy"),
    file!("netbird"),
    file!("nextcloud-talk"),
    file!("nixos"),
    file!("synapse"),
    file!("wire"),
    file!("yunohost"),
];

/// What stands in the file of this name.
pub fn file_of(name: &str) -> &'static str {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, text)| *text).unwrap()
}

pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// Where a line counts: in its file; or once what implies it there is gone, as a secret implies `use-auth-secret`, and
/// that a user `lt-cred-mech`.
static SETTINGS: [(&[&str], &str); 3] =
    [(&[], ""), (&["static-auth-secret"], "\nuserdb=/base.db\n"), (&["user="], "\nno-auth\n")];

/// What acts elsewhere and does nothing beside the rest of this file, and how the start says so.
static IDLE: [(&str, &str, &str); 2] = [
    ("coturn-postgresql", "server-name", "server-name does nothing beside realm"),
    ("wire", "prometheus-port", "options of prometheus do nothing without prometheus itself"),
];

fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    reading.add_file(text);
    assert!(!reading.is_fatal(), "{:?}", reading.notes);
    reading
}

/// All that the daemon goes by, written out; what it says is not. Passwords are not in it, that there are some is.
fn plan(conf: &Conf) -> String {
    Plan::of(conf).map_or_else(
        |error| format!("refused: {error}"),
        |plan| format!("{:#?}", Plan { warnings: Vec::new(), ..plan }),
    )
}

fn plan_of(text: &str) -> String {
    plan(&read(text).conf)
}

fn effects() -> BTreeMap<&'static str, &'static Effect> {
    EFFECTS.iter().map(|effect| (effect.option, effect)).collect()
}

#[test]
fn every_option_that_acts_changes_the_plan_and_has_its_test() {
    let effects = effects();
    assert_eq!(effects.len(), EFFECTS.len(), "an option stands twice");
    let named: Vec<&str> = acting().filter(|option| !effects.contains_key(option)).collect();
    assert!(named.is_empty(), "no test sees these act: {named:?}");
    for effect in EFFECTS {
        let Effect { option, line, test: (module, test) } = effect;
        assert!(acting().any(|name| name == *option), "{option} is no option that acts");
        let (_, source) = MODULES.iter().find(|(name, _)| name == module).unwrap();
        assert!(source.contains(&format!("#[test]\nfn {test}() {{")), "there is no test {module}::{test}");
        assert!(writes(&reach_of(source, test), option), "{module}::{test} does not write {option} into its file");
        let Some(line) = line else { continue };
        // server-name counts only where there is no realm.
        let base = if *option == "server-name" { BASE.replace("realm=example.org\n", "") } else { BASE.to_owned() };
        assert!(counts(&format!("{base}{line}\n"), line, ""), "{line} changes nothing");
    }
}

/// A test's own text, and that of every constant and function which it calls by name, of its module and the rig.
fn reach_of(source: &str, test: &str) -> String {
    let whole = format!("{source}\n{}", include_str!("../rig/mod.rs"));
    let items: Vec<(&str, &str)> = whole.split("\n\n").filter_map(|item| Some((name_of(item)?, item))).collect();
    let mut reached = vec![test];
    let mut text = String::new();
    while let Some(name) = reached.get(text.matches('\u{0}').count()).copied() {
        let item = items.iter().find(|(item, _)| *item == name).map_or("", |(_, item)| *item);
        text.push_str(item);
        text.push('\u{0}');
        let words = item.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let calls = words.filter(|word| items.iter().any(|(item, _)| item == word));
        for call in calls.collect::<Vec<_>>() {
            if !reached.contains(&call) {
                reached.push(call);
            }
        }
    }
    text
}

/// What an item that stands by itself is called.
fn name_of(item: &str) -> Option<&str> {
    let head = item.lines().find(|line| !line.starts_with("//") && !line.starts_with('#'))?;
    let head = head.strip_prefix("pub ").unwrap_or(head);
    let name = head.strip_prefix("fn ").or_else(|| head.strip_prefix("const "))?;
    name.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

/// Whether an option stands there as a line of a file begins: at the start of a text or behind a line's end or what is
/// put in its place, and alone or before its value.
fn writes(text: &str, option: &str) -> bool {
    let begins = |before: &str| {
        let before = before.trim_end_matches(' ');
        ["\"", "\\n", "\\n\\\n", "}"].iter().any(|end| before.ends_with(end))
    };
    text.match_indices(option).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + option.len()..]);
        begins(before) && ["=", "\\n", "\""].iter().any(|start| behind.starts_with(start))
    })
}

#[test]
fn an_option_is_written_where_it_stands_as_one() {
    let text = r#"start("cert=x\ndb={}\n\
                  no-udp\n{more}prod\n")"#;
    assert!(["cert", "db", "no-udp", "prod"].iter().all(|option| writes(text, option)));
    assert!(!["udp", "no", "start", "userdb", "x"].iter().any(|option| writes(text, option)));
    assert!(!writes("userdb=x", "db") && !writes("a db=x", "db"));
}

/// Whether the text means something else with `other` in the place of `line`.
fn counts(text: &str, line: &str, other: &str) -> bool {
    let text = format!("\n{text}");
    plan_of(&text) != plan_of(&text.replacen(&format!("\n{line}\n"), &format!("\n{other}\n"), 1))
}

#[test]
fn no_option_in_the_twelve_files_is_idle_without_being_named() {
    let effects = effects();
    for (name, text) in FILES {
        assert!(text.contains("The shape of "), "{name} cites no document");
        let has_relay = text.contains("relay-ip=") || text.contains("listening-ip=");
        let text = if has_relay { text.to_owned() } else { format!("{text}relay-ip=192.0.2.77\n") };
        let reading = read(&text);
        let said = Plan::of(&reading.conf).unwrap().warnings;
        let whole = plan(&reading.conf);
        assert!(!whole.starts_with("refused"), "{name}: {whole}");
        for (at, line) in text.lines().enumerate().filter(|(_, line)| is_option(line)) {
            let option = line.trim().split([' ', '\t', '=']).next().unwrap();
            let is_of_line = |note: &&offhook_turn_core::conf::Note| note.line == Some(at + 1);
            let is_named = reading.notes.iter().filter(is_of_line).any(|note| note.remark != Remark::Cut);
            let effect = effects.get(option);
            assert!(is_named != effect.is_some(), "{name}: {option} neither acts nor is named, or both");
            let Some(Effect { line: Some(other), .. }) = effect else { continue };
            let changes = |(dropped, added): &(&[&str], &str)| {
                let is_kept = |line: &&str| !dropped.iter().any(|option| line.trim_start().starts_with(option));
                let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
                let text = format!("{kept}{added}");
                counts(&text, line, "") || counts(&text, line, other)
            };
            match IDLE.iter().find(|(file, idle, _)| (*file, *idle) == (name, option)) {
                Some((.., words)) => {
                    assert!(!SETTINGS.iter().any(changes), "{name}: {line} does something");
                    assert!(said.iter().any(|said| said.contains(words)), "{name}: nobody says that {line} is idle");
                }
                None => assert!(SETTINGS.iter().any(changes), "{name}: {line} changes nothing"),
            }
        }
    }
}

fn is_option(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim().starts_with('#')
}

/// Each once, in the words that the log has at start.
#[test]
fn what_does_nothing_is_named_at_start() {
    let daemon = crate::rig::Place::new();
    let idle = "oauth\nno-cli\ncli-password=x\nweb-admin\nredis-userdb=ip=x\nredis-statsdb=ip=x\nsecure-stun\nmobility\n\
                dh-file=/x\nrfc5780\nno-rfc5780\nresponse-origin-only-with-rfc5780\nno-loopback-peers\nno-tlsv1\nne=1\n";
    let output = {
        daemon.write(&format!("{}{idle}zrest\n", crate::rig::ALICE));
        daemon.command().arg("--check-config").output().unwrap()
    };
    let said = String::from_utf8_lossy(&output.stdout);
    for line in idle.lines() {
        let option = line.split('=').next().unwrap();
        let times = said.lines().filter(|line| line.contains(&format!(": {option} does nothing here: "))).count();
        assert_eq!(times, 1, "{option}: {said}");
    }
    assert!(said.contains("zrest is no option of ours"), "{said}");
}
