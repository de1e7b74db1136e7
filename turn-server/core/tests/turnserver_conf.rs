//! Files of real shapes: each names the public document whose shape it follows. Names, addresses and secrets are ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_turn_core::conf::{Conf, External, Family, Hidden, Reading, Remark};
use offhook_turn_core::{AddressRange, UserSecret};
use std::collections::BTreeSet;
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

/// Names of options of a reading that do nothing, and of unknown ones.
fn idle(reading: &Reading) -> Vec<&str> {
    reading.notes.iter().map(|note| note.option.as_str()).collect()
}

#[test]
fn synapse() {
    // matrix-org/element-hq synapse, docs/turn-howto.md and docs/setup/turn/coturn.md
    let reading = read(SYNAPSE);
    let conf = &reading.conf;
    assert!(conf.use_auth_secret && conf.no_tcp_relay && conf.no_multicast_peers);
    assert_eq!((&conf.static_auth_secrets, conf.realm.as_deref()), (&secret("north-star"), Some("turn.example.org")));
    assert_eq!((conf.user_quota, conf.total_quota), (12, 1_200));
    assert_eq!(conf.denied_peers.len(), 5);
    assert_eq!(conf.allowed_peers, [range("10.0.0.1")]);
    assert!(reading.notes.is_empty());
}

const SYNAPSE: &str = "use-auth-secret\nstatic-auth-secret=north-star\nrealm=turn.example.org\n\n# VoIP traffic is all UDP\n\
no-tcp-relay\n\n# do not let users reach inside\ndenied-peer-ip=10.0.0.0-10.255.255.255\n\
denied-peer-ip=192.168.0.0-192.168.255.255\ndenied-peer-ip=172.16.0.0-172.31.255.255\nno-multicast-peers\n\
denied-peer-ip=::1\ndenied-peer-ip=64:ff9b::-64:ff9b::ffff:ffff\n\nallowed-peer-ip=10.0.0.1\n\nuser-quota=12\ntotal-quota=1200\n";

#[test]
fn matrix_docker_ansible_deploy() {
    // spantaleev/matrix-docker-ansible-deploy, roles/custom/matrix-coturn/templates/turnserver.conf.j2
    let reading = read(ANSIBLE);
    let conf = &reading.conf;
    assert_eq!((conf.min_port, conf.max_port), (49_152, 49_172));
    assert_eq!(conf.external_ips, [External { announced: ip("198.51.100.4"), local: None }]);
    assert_eq!((conf.cert.as_deref(), conf.pkey.as_deref()), (Some("/fullchain.pem"), Some("/privkey.pem")));
    assert_eq!((conf.log.file.as_deref(), conf.pidfile.as_deref()), (Some("stdout"), Some("/var/tmp/turnserver.pid")));
    assert_eq!((conf.userdb.as_deref(), conf.prometheus.enabled), (Some("/dev/null"), false));
    assert_eq!(conf.denied_peers.last(), Some(&range("fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
    assert_eq!(
        idle(&reading),
        [
            "no-cli",
            "no-rfc5780",
            "no-stun-backward-compatibility",
            "response-origin-only-with-rfc5780",
            "no-tlsv1",
            "no-tlsv1_1"
        ]
    );
}

const ANSIBLE: &str = "use-auth-secret\nstatic-auth-secret=north-star\nrealm=turn.matrix.example.org\n\nmin-port=49152\nmax-port=49172\n\
external-ip=198.51.100.4\n\nlog-file=stdout\npidfile=/var/tmp/turnserver.pid\nuserdb=/dev/null\n\nno-cli\nno-rfc5780\n\
no-stun-backward-compatibility\nresponse-origin-only-with-rfc5780\n\ncert=/fullchain.pem\npkey=/privkey.pem\nno-tlsv1\nno-tlsv1_1\n\n\
no-tcp-relay\nno-multicast-peers\ndenied-peer-ip=0.0.0.0-0.255.255.255\ndenied-peer-ip=100.64.0.0-100.127.255.255\n\
denied-peer-ip=fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff\n";

#[test]
fn jitsi_meet() {
    // jitsi/jitsi-meet, doc/debian/jitsi-meet-turn/turnserver.conf
    let reading = read(JITSI);
    let conf = &reading.conf;
    assert!(conf.use_auth_secret && conf.no_tcp && conf.log.syslog && conf.no_multicast_peers);
    assert_eq!((conf.listening_port, conf.tls_listening_port), (3_478, 5_349));
    assert!(conf.cipher_list.as_deref().unwrap().starts_with("ECDHE-ECDSA-AES128-GCM-SHA256:"));
    assert_eq!((conf.realm.as_deref(), conf.denied_peers.len()), (Some("meet.example.org"), 3));
    assert_eq!(idle(&reading), ["no-cli", "no-loopback-peers", "no-tlsv1", "no-tlsv1_1"]);
}

const JITSI: &str = "# this is jitsi's part\nuse-auth-secret\nkeep-address-family\nstatic-auth-secret=\"north-star\"\nrealm=meet.example.org\n\
cert=/etc/jitsi/meet/meet.example.org.crt\npkey=/etc/jitsi/meet/meet.example.org.key\nno-multicast-peers\nno-cli\n\
no-loopback-peers\nno-tcp-relay\nno-tcp\nlistening-port=3478\ntls-listening-port=5349\nno-tlsv1\nno-tlsv1_1\n\
cipher-list=ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256\ndenied-peer-ip=0.0.0.0-0.255.255.255\n\
denied-peer-ip=127.0.0.0-127.255.255.255\ndenied-peer-ip=192.88.99.0-192.88.99.255\nsyslog\n";

#[test]
fn bigbluebutton() {
    // bigbluebutton/bigbluebutton, docs/docs/administration/turn-server.md
    let reading = read(BBB);
    let conf = &reading.conf;
    assert_eq!(
        (conf.listening_ips.as_slice(), conf.relay_ips.as_slice()),
        ([ip("10.0.0.7")].as_slice(), [ip("10.0.0.7")].as_slice())
    );
    assert_eq!(conf.external_ips, [External { announced: ip("198.51.100.7"), local: Some(ip("10.0.0.7")) }]);
    assert_eq!((conf.tls_listening_port, conf.min_port, conf.max_port), (443, 32_769, 65_535));
    assert!(conf.fingerprint && conf.lt_cred_mech && conf.use_auth_secret && conf.log.verbose && conf.log.simple_log);
    assert_eq!(
        (conf.proc_user.as_deref(), conf.allowed_peers.as_slice()),
        (Some("turnserver"), [range("10.0.0.7")].as_slice())
    );
    assert_eq!(idle(&reading), ["dh-file", "no-tlsv1", "no-tlsv1_1"]);
}

const BBB: &str = "listening-port=3478\ntls-listening-port=443\nlistening-ip=10.0.0.7\nrelay-ip=10.0.0.7\nexternal-ip=198.51.100.7/10.0.0.7\n\
min-port=32769\nmax-port=65535\nverbose\nfingerprint\nlt-cred-mech\nuse-auth-secret\nstatic-auth-secret=north-star\n\
realm=example.org\ncert=/etc/turnserver/fullchain.pem\npkey=/etc/turnserver/privkey.pem\ncipher-list=\"ECDHE+AESGCM\"\n\
dh-file=/etc/turnserver/dhp.pem\nproc-user=turnserver\nproc-group=turnserver\nlog-file=/var/log/turnserver/turn.log\nsimple-log\n\
no-tlsv1\nno-tlsv1_1\ndenied-peer-ip=10.0.0.0-10.255.255.255\nallowed-peer-ip=10.0.0.7\n";

#[test]
fn netbird() {
    // netbirdio/netbird, infrastructure_files/turnserver.conf.tmpl
    let reading = read(NETBIRD);
    let conf = &reading.conf;
    assert_eq!(conf.users.len(), 1);
    assert_eq!(
        (conf.users[0].name.as_str(), &conf.users[0].secret),
        ("self", &UserSecret::Password("p=ss word".into()))
    );
    assert!(conf.lt_cred_mech && conf.fingerprint && conf.no_software_attribute && !conf.use_auth_secret);
    assert_eq!(
        (conf.realm.as_deref(), conf.pidfile.as_deref()),
        (Some("wiretrustee.example.org"), Some("/var/tmp/turnserver.pid"))
    );
    assert_eq!(idle(&reading), ["no-cli"]);
}

const NETBIRD: &str = "listening-port=3478\ntls-listening-port=5349\nmin-port=49152\nmax-port=65535\nfingerprint\nlt-cred-mech\n\
user=self:p=ss word\nrealm=wiretrustee.example.org\ncert=/etc/coturn/certs/cert.pem\npkey=/etc/coturn/private/privkey.pem\n\
log-file=stdout\nno-software-attribute\npidfile=\"/var/tmp/turnserver.pid\"\nno-cli\n";

#[test]
fn nixos() {
    // NixOS/nixpkgs, nixos/modules/services/networking/coturn.nix
    let reading = read(NIXOS);
    let conf = &reading.conf;
    assert_eq!((conf.alt_listening_port, conf.alt_tls_listening_port), (3_479, 5_350));
    assert_eq!((conf.listening_ips.len(), conf.relay_ips.len()), (2, 1));
    assert!(conf.no_udp && conf.no_dtls && conf.no_udp_relay && !conf.no_auth);
    assert_eq!(idle(&reading), ["secure-stun", "no-cli", "cli-ip", "cli-port"]);
}

const NIXOS: &str = "listening-port=3478\ntls-listening-port=5349\nalt-listening-port=3479\nalt-tls-listening-port=5350\n\
listening-ip=192.0.2.1\nlistening-ip=2001:db8::1\nrelay-ip=192.0.2.1\nmin-port=49152\nmax-port=65535\nlt-cred-mech\nno-auth=off\n\
use-auth-secret\nstatic-auth-secret=north-star\nrealm=example.org\nno-udp\nno-dtls\nno-udp-relay\nsecure-stun\nno-cli\ncli-ip=127.0.0.1\n\
cli-port=5766\n";

#[test]
fn yunohost() {
    // YunoHost-Apps/coturn_ynh, conf/turnserver.conf
    let reading = read(YUNOHOST);
    let conf = &reading.conf;
    assert_eq!((conf.tls_listening_port, conf.alt_tls_listening_port), (5_349, 5_350));
    assert!(conf.log.verbose && conf.log.no_stdout_log && conf.use_auth_secret);
    assert_eq!((conf.stale_nonce_s, conf.max_bps, conf.bps_capacity), (0, 3_000_000, 0));
    assert_eq!(conf.server_name.as_deref(), Some("turn.example.org"));
    assert_eq!(idle(&reading), ["no-cli", "no-ipv6"]);
}

const YUNOHOST: &str = "tls-listening-port=5349\nalt-tls-listening-port=5350\nuse-auth-secret\nstatic-auth-secret=north-star\n\
server-name=turn.example.org\nrealm=turn.example.org\ntotal-quota=0\nbps-capacity=0\nmax-bps=3000000\nstale-nonce=0\n\
cert=/etc/yunohost/certs/turn.example.org/crt.pem\npkey=/etc/yunohost/certs/turn.example.org/key.pem\nno-stdout-log\n\
log-file=/var/log/coturn/coturn.log\nverbose\nno-cli\nno-ipv6\n";

#[test]
fn docker_image() {
    // coturn/coturn, docker/coturn/turnserver.conf: what its own image ships, and what people put in front of it
    let reading = read(DOCKER);
    let conf = &reading.conf;
    assert!(conf.prometheus.enabled && conf.prometheus.username_labels && conf.no_auth);
    assert_eq!(
        (conf.prometheus.port, conf.prometheus.address, conf.prometheus.path.as_deref()),
        (9_999, Some(ip("127.0.0.1")), Some("/m"))
    );
    assert_eq!(conf.relay_threads, 4);
    assert!(reading.notes.iter().all(|note| matches!(note.remark, Remark::Nothing(_))));
}

const DOCKER: &str = "prometheus\nprometheus-port=9999\nprometheus-address=127.0.0.1\nprometheus-path=/m\nprometheus-username-labels\nno-auth\n\
relay-threads=4\nno-rfc5780\nno-stun-backward-compatibility\nresponse-origin-only-with-rfc5780\nudp-recvmmsg\ndrain-min-allocations=3\n";

#[test]
fn nextcloud_talk() {
    // nextcloud/spreed, docs/TURN.md
    let reading = read(NEXTCLOUD);
    let conf = &reading.conf;
    assert!(
        conf.fingerprint
            && conf.use_auth_secret
            && conf.no_multicast_peers
            && conf.log.file.as_deref() == Some("syslog")
    );
    assert_eq!((conf.total_quota, conf.bps_capacity, conf.listening_port), (0, 0, 5_349));
    assert!(reading.notes.is_empty());
}

const NEXTCLOUD: &str = "listening-port=5349\nfingerprint\nuse-auth-secret\nstatic-auth-secret=north-star\nrealm=cloud.example.org\n\
total-quota=0\nbps-capacity=0\nstale-nonce\nno-multicast-peers\nlog-file syslog\n";

#[test]
fn galene() {
    // galene.org's manual and the Debian package's sample: keys printed by turnadmin, both kinds of credentials
    let reading = read(GALENE);
    let conf = &reading.conf;
    let mut key = [0; 16];
    key.iter_mut().zip(0x10..).for_each(|(byte, n)| *byte = n);
    assert_eq!(conf.users[1].secret, UserSecret::Key(key));
    assert_eq!(
        (conf.users[0].name.as_str(), conf.static_auth_secrets.len(), conf.rest_api_separator),
        ("galene", 2, '!')
    );
    assert_eq!(
        (conf.default_family, conf.unauthorized_ratelimit, conf.unauthorized_ratelimit_rps),
        (Family::V6, true, 7)
    );
    assert!(reading.notes.is_empty());
}

const GALENE: &str = "lt-cred-mech\nuser=galene:sesame\nuser=ana:0x101112131415161718191a1b1c1d1e1f\nuse-auth-secret\nstatic-auth-secret=old\n\
static-auth-secret=new\nrealm=galene.example.org\nrest-api-separator=!\nallocation-default-address-family=ipv6\nunauthorized-ratelimit\n\
unauthorized-ratelimit-rps=7\n";

#[test]
fn debian_sample() {
    // Debian's coturn package, /etc/turnserver.conf: nearly all of it a comment, indented and with tabs
    let reading = read(DEBIAN);
    let conf = &reading.conf;
    assert_eq!((conf.max_allocate_lifetime_s, conf.channel_lifetime_s, conf.permission_lifetime_s), (1_800, 700, 400));
    assert_eq!(
        (conf.psql_userdb.clone(), conf.pkey_pwd.clone()),
        (Some(Hidden("host=db dbname=turn user=turn password=x".into())), Some(Hidden("y".into())))
    );
    assert_eq!(conf.aux_servers, ["192.0.2.9:33478".parse().unwrap(), "[2001:db8::9]:33478".parse().unwrap()]);
    assert!(conf.stun_only && conf.no_stun && conf.no_tls && conf.allow_loopback_peers && conf.log.very_verbose);
    assert_eq!(conf.proc_group.as_deref(), Some("turnserver"));
    assert_eq!(idle(&reading), ["syslog-facility"]);
}

const DEBIAN: &str = "# Coturn TURN SERVER configuration file\n#\n#listening-port=3478\n   # indented comment\n\t\n\
psql-userdb=\"host=db dbname=turn user=turn password=x\"\naux-server=192.0.2.9:33478\naux-server=[2001:db8::9]:33478\n\
max-allocate-lifetime \t= 1800\nchannel-lifetime  700\n  permission-lifetime==400  \nno-tls yes\nstun-only = TRUE\nno-stun 1\n\
allow-loopback-peers\npkey-pwd=y\nproc-group=turnserver\nVerbose\nsyslog-facility=LOG_LOCAL1\n";

#[test]
fn element_server_suite_with_the_mistakes_that_people_make() {
    // coturn/coturn issues and the wikis that grew from them: inline comments, misspelt names, options of no version
    let reading = read(
        "user-quota=10 # per user\nlisten-port=1\nusr-quota=3\nfoo\nlog-file\nno-tls=maybe\nprod\nmax-port=70000\n\
        denied-peer-ip=10.0.0.0-10.255.255.255\nserver-name=\"half\n",
    );
    let conf = &reading.conf;
    assert_eq!((conf.user_quota, conf.max_port, conf.log.file.as_deref(), conf.no_tls), (0, 65_535, None, false));
    assert_eq!((conf.server_name.as_deref(), conf.no_software_attribute), (Some("half"), true));
    let said: Vec<String> = reading.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "line 1: user-quota has a value that cannot be read, and is passed over: a number",
            "line 2: listen-port is no option of ours",
            "line 3: usr-quota is no option of ours; did you mean user-quota?",
            "line 4: foo is no option of ours",
            "line 5: log-file needs a value",
            "line 6: no-tls has a value that cannot be read, and is passed over: on or off",
            "line 8: max-port has a value that cannot be read, and is passed over: a port, 0 to 65535",
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
        let reading = read(&format!("realm=x\n{line}\n"));
        assert!(reading.is_fatal(), "{line}");
        assert_eq!(reading.notes[0].line, Some(2));
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

/// An option in the table that changes nothing, or that no file above shows, is an error.
#[test]
fn every_acting_option_stands_in_a_file_above_and_changes_something() {
    let files = [SYNAPSE, ANSIBLE, JITSI, BBB, NETBIRD, NIXOS, YUNOHOST, DOCKER, NEXTCLOUD, GALENE, DEBIAN].join("\n");
    let lines: Vec<&str> = files.lines().map(str::trim).collect();
    let shown: BTreeSet<&str> = lines.iter().filter_map(|line| line.split([' ', '\t', '=']).next()).collect();
    // Other names of options that do stand there.
    let alias = ["db", "sql-userdb", "prod"];
    for name in offhook_turn_core::conf::acting() {
        assert!(shown.contains(name) || alias.contains(&name), "{name} stands in no file");
        let values = ["=off", "", "=1", "=77", "=!", "=keep", "=192.0.2.1", "=192.0.2.1:5", "=a:b", "=f"];
        let changes = |value: &&str| read(&format!("{name}{value}\n")).conf != Conf::default();
        assert!(values.iter().any(changes), "{name} changes nothing");
    }
}
