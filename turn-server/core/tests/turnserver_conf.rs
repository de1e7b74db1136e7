//! Files of real shapes: each names the public document whose shape it follows. Names, addresses and secrets are ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_turn_core::conf::{Conf, External, Family, Hidden, Reading, Remark};
use offhook_turn_core::{AddressRange, UserSecret};
use std::net::IpAddr;

fn read(text: &str) -> Reading {
    let mut reading = Reading::default();
    reading.add_file(text);
    reading
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn range(text: &str) -> AddressRange {
    text.parse().unwrap()
}

fn secret(text: &str) -> Vec<Hidden> {
    vec![Hidden(text.into())]
}

/// Options that a reading says do nothing; nothing else is said of it.
fn idle(reading: &Reading) -> Vec<&str> {
    assert!(reading.notes.iter().all(|note| matches!(note.remark, Remark::Nothing(_))), "{:?}", reading.notes);
    reading.notes.iter().map(|note| note.option.as_str()).collect()
}

fn said(reading: &Reading) -> Vec<String> {
    reading.notes.iter().map(ToString::to_string).collect()
}

const CUT: &str = "has words behind its value, which do not count: only a whole line can be a comment";

#[test]
fn synapse() {
    let reading = read(include_str!("turnserver_conf/synapse.conf"));
    let conf = &reading.conf;
    assert!(conf.use_auth_secret && conf.no_tcp_relay && conf.no_multicast_peers && conf.log.syslog);
    assert_eq!((&conf.static_auth_secrets, conf.realm.as_deref()), (&secret("north-star"), Some("turn.example.org")));
    assert_eq!((conf.user_quota, conf.total_quota), (12, 1_200));
    assert_eq!(conf.denied_peers.len(), 10);
    assert_eq!(conf.allowed_peers, [range("10.0.0.1")]);
    assert_eq!(conf.external_ips, [External { announced: ip("198.51.100.9"), local: None }]);
    assert_eq!(said(&reading), [format!("line 26: user-quota {CUT}")]);
}

#[test]
fn matrix_docker_ansible_deploy() {
    let reading = read(include_str!("turnserver_conf/matrix-docker-ansible-deploy.conf"));
    let conf = &reading.conf;
    assert_eq!((conf.min_port, conf.max_port), (49_152, 49_172));
    assert_eq!(conf.external_ips, [External { announced: ip("198.51.100.4"), local: None }]);
    assert_eq!((conf.cert.as_deref(), conf.pkey.as_deref()), (Some("/fullchain.pem"), Some("/privkey.pem")));
    assert_eq!((conf.log.file.as_deref(), conf.pidfile.as_deref()), (Some("stdout"), Some("/var/tmp/turnserver.pid")));
    assert_eq!((conf.userdb.as_deref(), conf.prometheus.enabled), (Some("/var/tmp/turnserver.db"), false));
    assert_eq!(conf.denied_peers.last(), Some(&range("fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
    assert!(conf.no_software_attribute);
    assert_eq!(idle(&reading), ["no-cli", "no-tlsv1", "no-tlsv1_1"]);
}

#[test]
fn jitsi_meet() {
    let reading = read(include_str!("turnserver_conf/jitsi-meet.conf"));
    let conf = &reading.conf;
    assert!(conf.use_auth_secret && conf.no_tcp && conf.log.syslog && conf.no_multicast_peers);
    assert_eq!((conf.listening_port, conf.tls_listening_port), (3_478, 5_349));
    assert!(conf.cipher_list.as_deref().unwrap().starts_with("ECDHE-ECDSA-AES128-GCM-SHA256:"));
    assert_eq!((conf.realm.as_deref(), conf.denied_peers.len()), (Some("meet.example.org"), 4));
    assert_eq!(conf.default_family, Family::Keep);
    assert_eq!(idle(&reading), ["no-cli", "no-loopback-peers", "no-tlsv1", "no-tlsv1_1"]);
}

#[test]
fn bigbluebutton() {
    let mut reading = read(include_str!("turnserver_conf/bigbluebutton.conf"));
    reading.add_arguments(&[
        "--daemon",
        "--pidfile",
        "/run/turnserver/turnserver.pid",
        "--no-stdout-log",
        "--simple-log",
        "--log-file",
        "/var/log/turnserver/turnserver.log",
    ]);
    let conf = &reading.conf;
    let own = [ip("198.51.100.7")];
    assert_eq!((conf.listening_ips.as_slice(), conf.relay_ips.as_slice()), (own.as_slice(), own.as_slice()));
    assert_eq!((conf.tls_listening_port, conf.min_port, conf.max_port), (443, 32_769, 65_535));
    assert!(conf.fingerprint && conf.lt_cred_mech && conf.use_auth_secret && conf.log.verbose);
    assert!(conf.log.simple_log && conf.log.no_stdout_log);
    assert_eq!(conf.log.file.as_deref(), Some("/var/log/turnserver/turnserver.log"));
    assert_eq!(conf.pidfile.as_deref(), Some("/run/turnserver/turnserver.pid"));
    assert!(conf.cipher_list.as_deref().unwrap().ends_with("DHE-RSA-AES256-GCM-SHA384"));
    assert_eq!(idle(&reading), ["dh-file", "no-cli", "no-tlsv1", "no-tlsv1_1", "no-loopback-peers", "daemon"]);
}

#[test]
fn netbird() {
    let reading = read(include_str!("turnserver_conf/netbird.conf"));
    let conf = &reading.conf;
    assert_eq!((conf.users.len(), conf.users[0].name.as_str()), (1, "self"));
    assert_eq!(conf.users[0].secret, UserSecret::Password("p=ss word".into()));
    assert!(conf.lt_cred_mech && conf.fingerprint && conf.no_software_attribute && !conf.use_auth_secret);
    assert_eq!(
        (conf.realm.as_deref(), conf.pidfile.as_deref(), conf.max_port),
        (Some("vpn.example.org"), Some("/var/tmp/turnserver.pid"), 65_000)
    );
    assert_eq!(idle(&reading), ["no-cli"]);
}

#[test]
fn nixos() {
    let reading = read(include_str!("turnserver_conf/nixos.conf"));
    let conf = &reading.conf;
    assert_eq!((conf.alt_listening_port, conf.alt_tls_listening_port), (3_479, 5_350));
    assert_eq!((conf.listening_ips.len(), conf.relay_ips.len()), (2, 1));
    assert!(conf.no_tcp && conf.no_dtls && conf.no_tcp_relay && !conf.no_udp && !conf.no_auth);
    assert!(conf.log.no_stdout_log && conf.log.syslog && conf.log.verbose);
    assert_eq!(idle(&reading), ["secure-stun", "no-cli", "cli-ip", "cli-port"]);
}

#[test]
fn yunohost() {
    let reading = read(include_str!("turnserver_conf/yunohost.conf"));
    let conf = &reading.conf;
    assert_eq!((conf.tls_listening_port, conf.alt_tls_listening_port), (5_349, 5_350));
    assert!(conf.lt_cred_mech && !conf.use_auth_secret && conf.log.simple_log);
    assert_eq!(
        (&conf.static_auth_secrets, conf.userdb.as_deref()),
        (&secret("north-star"), Some("/var/lib/turn/turndb"))
    );
    assert_eq!(
        idle(&reading),
        ["dh-file", "no-cli", "cli-port", "no-sslv2", "no-sslv3", "no-tlsv1", "no-tlsv1_1", "no-tlsv1_2"]
    );
}

#[test]
fn nextcloud_talk() {
    let reading = read(include_str!("turnserver_conf/nextcloud-talk.conf"));
    let conf = &reading.conf;
    assert!(conf.fingerprint && conf.lt_cred_mech && conf.use_auth_secret && conf.no_multicast_peers);
    assert_eq!((conf.total_quota, conf.bps_capacity, conf.listening_port), (0, 0, 5_349));
    assert_eq!((conf.stale_nonce_s, conf.denied_peers.len()), (600, 3));
    assert_eq!(said(&reading)[0], format!("line 4: lt-cred-mech {CUT}"));
    assert_eq!((reading.notes.len(), reading.notes[1].option.as_str()), (2, "no-loopback-peers"));
}

#[test]
fn wire() {
    let reading = read(include_str!("turnserver_conf/wire.conf"));
    let conf = &reading.conf;
    assert_eq!((conf.max_allocate_lifetime_s, conf.prometheus.port, conf.prometheus.enabled), (1_800, 9_642, false));
    assert_eq!(conf.static_auth_secrets, [Hidden("old-star".into()), Hidden("north-star".into())]);
    let unknown = |note: &&offhook_turn_core::conf::Note| !matches!(note.remark, Remark::Nothing(_));
    let names: Vec<&str> = reading.notes.iter().filter(unknown).map(|note| note.option.as_str()).collect();
    assert_eq!(names, ["prometheus-ip", "prometheus-no-username-labels", "zrest"]);
    assert!(!reading.is_fatal());
}

#[test]
fn coturn_with_postgresql() {
    let reading = read(include_str!("turnserver_conf/coturn-postgresql.conf"));
    let conf = &reading.conf;
    let words = "host=localhost dbname=coturn user=turn password=turn connect_timeout=30";
    assert_eq!(conf.psql_userdb, Some(Hidden(words.into())));
    assert_eq!((conf.relay_threads, conf.max_bps, conf.min_port), (3, 3_000_000, 32_355));
    assert_eq!((conf.server_name.as_deref(), conf.cipher_list.as_deref()), (Some("turn.example.org"), Some("ALL")));
    assert!(reading.notes.is_empty());
}

#[test]
fn coturn_with_secrets_in_sqlite() {
    let reading = read(include_str!("turnserver_conf/coturn-sqlite-secrets.conf"));
    let conf = &reading.conf;
    assert!(conf.use_auth_secret && conf.static_auth_secrets.is_empty() && conf.allow_loopback_peers);
    assert_eq!(conf.userdb.as_deref(), Some("var/db/turndb"));
    assert_eq!(idle(&reading), ["cli-password"]);
}

#[test]
fn kolab() {
    let reading = read(include_str!("turnserver_conf/kolab.conf"));
    let conf = &reading.conf;
    assert!(conf.lt_cred_mech && conf.users.is_empty());
    assert_eq!((conf.min_port, conf.pidfile.as_deref()), (40_000, Some("/tmp/turnserver.pid")));
    assert_eq!(idle(&reading), ["redis-userdb"]);
}

#[test]
fn lines_are_read_by_coturns_rules() {
    let reading = read(
        "   # an indented comment\n\t\nmax-allocate-lifetime \t= 1800\nchannel-lifetime  700\n  permission-lifetime==400  \n\
         no-tls yes\nstun-only = TRUE\nno-stun 1\nfingerprint=f\npkey-pwd=\"half\nVerbose\nno-udp=off\n\
         user=ana:0x101112131415161718191a1b1c1d1e1f\nrest-api-separator=!\nallocation-default-address-family=ipv6\n\
         unauthorized-ratelimit-rps=7\naux-server=[2001:db8::9]:33478\n",
    );
    let conf = &reading.conf;
    assert_eq!((conf.max_allocate_lifetime_s, conf.channel_lifetime_s, conf.permission_lifetime_s), (1_800, 700, 400));
    assert!(conf.stun_only && conf.no_stun && conf.no_tls && conf.log.very_verbose);
    assert!(!conf.fingerprint && !conf.no_udp);
    assert_eq!(conf.pkey_pwd, Some(Hidden("half".into())));
    assert_eq!(conf.users[0].secret, UserSecret::from_hex("101112131415161718191a1b1c1d1e1f").unwrap());
    assert_eq!((conf.rest_api_separator, conf.default_family, conf.unauthorized_ratelimit_rps), ('!', Family::V6, 7));
    assert_eq!(conf.aux_servers, ["[2001:db8::9]:33478".parse().unwrap()]);
    assert!(reading.notes.is_empty());
}

#[test]
fn what_does_nothing_is_named_once() {
    let mut reading = read("alternate-server=192.0.2.1\nalternate-server=192.0.2.2\nno-cli\nfoo\nfoo\n");
    reading.add_arguments(&["--no-cli", "--alternate-server", "192.0.2.3"]);
    let named: Vec<&str> = reading.notes.iter().map(|note| note.option.as_str()).collect();
    assert_eq!(named, ["alternate-server", "no-cli", "foo", "foo"]);
}

#[test]
fn mistakes_are_named_with_their_line_and_pass() {
    let reading = read(
        "user-quota=ten\nlisten-port=1\nusr-quota=3\nfoo\nlog-file\nno-tls=maybe\nprod # yes\nmax-port=70000\n\
         denied-peer-ip=10.0.0.0-10.255.255.255\nserver-name=\"half\nmin-port=50000-60000\n",
    );
    let conf = &reading.conf;
    assert_eq!((conf.user_quota, conf.max_port, conf.log.file.as_deref(), conf.no_tls), (0, 65_535, None, false));
    assert_eq!((conf.server_name.as_deref(), conf.no_software_attribute, conf.min_port), (Some("half"), true, 50_000));
    assert_eq!(
        said(&reading),
        [
            "line 1: user-quota has a value that cannot be read, and is passed over: a number".to_owned(),
            "line 2: listen-port is no option of ours".to_owned(),
            "line 3: usr-quota is no option of ours; did you mean user-quota?".to_owned(),
            "line 4: foo is no option of ours".to_owned(),
            "line 5: log-file needs a value".to_owned(),
            "line 6: no-tls has a value that cannot be read, and is passed over: on or off".to_owned(),
            format!("line 7: prod {CUT}"),
            "line 8: max-port has a value that cannot be read, and is passed over: a port, 0 to 65535".to_owned(),
            format!("line 11: min-port {CUT}"),
        ]
    );
    assert!(!reading.is_fatal());
}

#[test]
fn a_range_or_an_address_that_cannot_be_read_stops_the_start() {
    for line in [
        "denied-peer-ip=10.0.0.0-10.255.255.255 # office",
        "allowed-peer-ip=10.0.0",
        "denied-peer-ip=::2-::1",
        "listening-ip=eth0",
        "external-ip=1.2.3.4/::1",
        "relay-ip=x",
        "aux-server=1.2.3.4",
    ] {
        let mut reading = read(&format!("realm=x\n{line}\n"));
        // `eth0` might be a host's name: nobody knows one.
        let resolved = reading.conf.resolve(|_| Err("nobody knows it".to_owned()));
        assert!(reading.is_fatal() || resolved.is_err(), "{line}");
        assert!(reading.notes.first().is_none_or(|note| note.line == Some(2)));
    }
}

#[test]
fn names_stand_for_addresses_once_they_were_looked_up() {
    let text = "listening-ip=turn.example.org\nlistening-ip=192.0.2.1\nrelay-ip=localhost\n\
        external-ip=turn.example.org/10.0.0.1\nexternal-ip=turn.example.org\n";
    let reading = read(text);
    assert!(reading.notes.is_empty(), "{:?}", reading.notes);
    let mut conf = reading.conf;
    let names = |name: &str| match name {
        "turn.example.org" => Ok(ip("198.51.100.5")),
        "localhost" => Ok(ip("127.0.0.1")),
        _ => Err("nobody knows it".to_owned()),
    };
    conf.resolve(names).unwrap();
    assert_eq!(conf.listening_ips, [ip("192.0.2.1"), ip("198.51.100.5")]);
    let external = |local: Option<&str>| External { announced: ip("198.51.100.5"), local: local.map(ip) };
    assert_eq!(
        (conf.relay_ips.as_slice(), conf.external_ips.as_slice()),
        ([ip("127.0.0.1")].as_slice(), [external(Some("10.0.0.1")), external(None)].as_slice())
    );
    assert!(conf.names.is_empty());
    for (line, words) in [
        ("relay-ip=relay.example", "relay-ip: \"relay.example\" is no IP address"),
        ("external-ip=turn.example.org/fd00::1", "mixes IPv4 and IPv6"),
    ] {
        let error = read(line).conf.resolve(names).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for wrong in
        ["external-ip=192.0.2.1/10.0.0", "relay-ip=192.0.2.300", "listening-ip=-a.example", "external-ip=a/b/c"]
    {
        assert!(read(wrong).is_fatal(), "{wrong}");
    }
}

#[test]
fn the_command_line_overrides_the_file_and_adds_to_its_lists() {
    let mut reading = read("realm=file\nlistening-port=1\nstatic-auth-secret=a\nno-tcp\n");
    reading.add_arguments(&[
        "--realm",
        "line",
        "-p",
        "2",
        "-L127.0.0.1",
        "-X",
        "198.51.100.1/10.0.0.1",
        "--static-auth-secret=b",
        "--no-tcp=off",
        "-v",
        "-az",
        "--stale-nonce",
        "10",
        "--min-port=5",
        "--frobnicate",
        "-u",
        "a:b",
    ]);
    let conf = &reading.conf;
    assert_eq!((conf.realm.as_deref(), conf.listening_port, conf.min_port), (Some("line"), 2, 5));
    assert_eq!((conf.listening_ips.as_slice(), conf.static_auth_secrets.len()), ([ip("127.0.0.1")].as_slice(), 2));
    // A space before an optional value leaves it at its default, as getopt has it.
    assert_eq!((conf.no_tcp, conf.log.verbose, conf.stale_nonce_s, conf.users.len()), (false, true, 600, 1));
    assert!(conf.lt_cred_mech && conf.no_auth);
    let said: Vec<String> = reading.notes.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["--10 is no option of ours", "--frobnicate is no option of ours"]);
}

#[test]
fn secrets_do_not_print() {
    let mut reading =
        read("static-auth-secret=north-star\nuser=a:sesame\npsql-userdb=password=zulu\npkey-pwd=yankee\n");
    reading.add_arguments(&["--static-auth-secret", "south-star"]);
    let shown = format!("{reading:?}");
    assert!(["star", "sesame", "zulu", "yankee"].iter().all(|word| !shown.contains(word)), "{shown}");
}

/// An option in the table that changes nothing is an error.
#[test]
fn every_acting_option_changes_something() {
    for name in offhook_turn_core::conf::acting() {
        let values = ["=off", "", "=1", "=77", "=!", "=keep", "=192.0.2.1", "=192.0.2.1:5", "=a:b", "=f"];
        let changes = |value: &&str| read(&format!("{name}{value}\n")).conf != Conf::default();
        assert!(values.iter().any(changes), "{name} changes nothing");
    }
}

/// As long as any may be, and nobody knows what its lines say. Seconds, also in a build that is not optimised, while every
/// line is compared with every option's name letter by letter: minutes.
#[test]
#[allow(clippy::disallowed_methods, reason = "how long it really takes is what is tested")]
fn a_file_as_long_as_may_be_is_read_in_time_in_proportion_to_its_lines() {
    const LINES: usize = 100_000;
    let text: String = (0..LINES).map(|n| format!("prometheus-username-labelled-{n}=x\nallowed-per-up=1\n")).collect();
    let begin = std::time::Instant::now();
    let reading = read(&text);
    assert_eq!(reading.notes.len(), LINES, "what is beyond the limit is not read");
    assert_eq!(reading.notes[1].remark, Remark::UnknownNearly("allowed-peer-ip"));
    assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
}
