//! `userdb`, `db`, `psql-userdb` and `sql-userdb`: coturn's tables, written by coturn's own tool where it is SQLite.
use crate::client::Client;
use crate::postgres::Postgres;
use crate::rig::{Daemon, Place, until};
use offhook_wire_stun::credentials;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// As coturn makes them, for PostgreSQL.
pub const SCHEMA: &str = "
    CREATE TABLE turnusers_lt (realm varchar(127) DEFAULT '', name varchar(512), hmackey char(128), PRIMARY KEY (realm, name));
    CREATE TABLE turn_secret (realm varchar(127) DEFAULT '', value varchar(256), PRIMARY KEY (realm, value));
    CREATE TABLE allowed_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), PRIMARY KEY (realm, ip_range));
    CREATE TABLE denied_peer_ip (realm varchar(127) DEFAULT '', ip_range varchar(256), PRIMARY KEY (realm, ip_range));
    CREATE TABLE turn_origin_to_realm (origin varchar(127), realm varchar(127), PRIMARY KEY (origin));
    CREATE TABLE turn_realm_option (realm varchar(127) DEFAULT '', opt varchar(32), value varchar(128), PRIMARY KEY (realm, opt));";
const REALM: &str = "example.org";

/// coturn's `turnadmin`, from Debian's package.
fn turnadmin(place: &Place, arguments: &[&str]) {
    let output = Command::new("turnadmin").args(["-b", &place.shown("turndb")]).args(arguments).output();
    let output = output.expect("turnadmin is not installed (apt install coturn)");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sqlite(place: &Place, sql: &str) {
    let output = Command::new("sqlite3").arg(place.path("turndb")).arg(sql).output();
    let output = output.expect("sqlite3 is not installed (apt install sqlite3)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn add(place: &Place, user: &str, password: &str) {
    turnadmin(place, &["-a", "-u", user, "-r", REALM, "-p", password]);
}

fn lets_in(daemon: &Daemon, user: &str, password: &str) -> bool {
    Client::udp(daemon.at(), user, password).allocate().code() == 0
}

/// A REST username that is good for long, and its password.
fn rest(secret: &str) -> credentials::Credentials {
    credentials::mint(secret.as_bytes(), 4_000_000_000, "bob")
}

fn on_sqlite(option: &str, more: &str) -> Daemon {
    let place = Place::new();
    add(&place, "alice", "sesame");
    let option = format!("{option}={}\n{more}", place.shown("turndb"));
    place.start(&option)
}

#[test]
fn users_of_sqlite_log_in_and_come_and_go_without_a_restart() {
    let daemon = on_sqlite("userdb", "lt-cred-mech\nuser=carol:file\n");
    assert!(lets_in(&daemon, "alice", "sesame") && lets_in(&daemon, "carol", "file"));
    assert!(!lets_in(&daemon, "alice", "wrong") && !lets_in(&daemon, "dave", "later"));
    // By the first login, as from coturn: what else there is to read is read again later.
    add(&daemon.place, "dave", "later");
    assert!(lets_in(&daemon, "dave", "later"));
    assert!(!lets_in(&daemon, "dave", "wrong"));
    add(&daemon.place, "erin", "later");
    assert_eq!(Client::tcp(daemon.at(), "erin", "later").allocate().code(), 0);
    // Whose key is another now is read with everything, which each refusal makes happen soon.
    add(&daemon.place, "dave", "changed");
    until("dave's password is another", || lets_in(&daemon, "dave", "changed"));
    turnadmin(&daemon.place, &["-d", "-u", "alice", "-r", REALM]);
    until("alice is out", || !lets_in(&daemon, "alice", "sesame"));
    assert!(lets_in(&daemon, "carol", "file"));
}

#[test]
fn secrets_of_sqlite_open_rest_credentials_beside_those_of_the_file() {
    let place = Place::new();
    turnadmin(&place, &["-s", "north", "-r", REALM]);
    turnadmin(&place, &["-s", "elsewhere", "-r", "other.example"]);
    add(&place, "alice", "sesame");
    let option = format!("db={}\nuse-auth-secret\nstatic-auth-secret=south\n", place.shown("turndb"));
    let daemon = place.start(&option);
    for (secret, is_let_in) in [("north", true), ("south", true), ("elsewhere", false)] {
        let pair = rest(secret);
        assert_eq!(lets_in(&daemon, &pair.username, &pair.password), is_let_in, "{secret}");
    }
    turnadmin(&daemon.place, &["-s", "west", "-r", REALM]);
    let pair = rest("west");
    assert!(lets_in(&daemon, &pair.username, &pair.password));
    // Without lt-cred-mech the database's users are not asked for, as with coturn.
    assert!(!lets_in(&daemon, "alice", "sesame"));
}

#[test]
fn ranges_and_limits_of_the_database_act() {
    let place = Place::new();
    add(&place, "alice", "sesame");
    sqlite(
        &place,
        "INSERT INTO denied_peer_ip VALUES ('example.org', '9.9.8.0-9.9.8.255'), ('', '9.9.9.1');
         INSERT INTO denied_peer_ip VALUES ('other.example', '9.9.9.2');
         INSERT INTO allowed_peer_ip VALUES ('example.org', '9.9.8.9');
         INSERT INTO turn_realm_option VALUES ('example.org', 'user-quota', '1'), ('example.org', 'max-bps', '9000'),
             ('example.org', 'total-quota', '5'), ('example.org', 'colour', 'red');
         INSERT INTO turn_origin_to_realm VALUES ('https://a.example', 'other.example');",
    );
    let option = format!("userdb={}\nlt-cred-mech\nuser-quota=7\nbps-capacity=9000\n", place.shown("turndb"));
    let daemon = place.start(&option);
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    assert_eq!(alice.allocate().code(), 0);
    for (peer, code) in
        [("9.9.8.8:1", 403), ("9.9.8.9:1", 0), ("9.9.9.1:1", 403), ("9.9.9.2:1", 0), ("192.0.2.99:1", 403)]
    {
        assert_eq!(alice.permit(peer.parse().unwrap()), code, "{peer}");
    }
    assert_eq!(Client::udp(daemon.at(), "alice", "sesame").allocate().code(), 486);
    let line = daemon.wait_for("quota");
    assert!(line.contains("the quota of 1 allocations"), "{line}");
    add(&daemon.place, "bob", "open");
    // Not a user's quota now, but the bandwidth: max-bps fills bps-capacity.
    until("bob is known", || Client::udp(daemon.at(), "bob", "open").allocate().code() == 486);
    daemon.wait_for("bandwidth of 9000");
}

#[test]
fn what_the_database_says_in_vain_is_named_once() {
    let place = Place::new();
    add(&place, "alice", "sesame");
    sqlite(
        &place,
        "INSERT INTO turn_origin_to_realm VALUES ('https://a.example', 'other.example');
         INSERT INTO turn_realm_option VALUES ('example.org', 'colour', 'red');
         INSERT INTO turnusers_lt VALUES ('example.org', 'eve', 'not a key');
         DROP TABLE turn_secret;",
    );
    let option = format!("userdb={}\nlt-cred-mech\nuse-auth-secret\n", place.shown("turndb"));
    let daemon = place.start(&option);
    assert!(lets_in(&daemon, "alice", "sesame"));
    daemon.reload(&option);
    let said = ["eve", "turn_secret", "colour", "turn_origin_to_realm"].map(|words| daemon.wait_for(words));
    assert!(said[0].contains("32 hexadecimal digits") && said[3].contains("does nothing here"), "{said:?}");
}

#[test]
fn a_database_that_goes_away_leaves_known_users_and_comes_back() {
    let daemon = on_sqlite("userdb", "lt-cred-mech\n");
    let (here, away) = (daemon.place.path("turndb"), daemon.place.path("elsewhere"));
    std::fs::rename(&here, &away).unwrap();
    assert!(!lets_in(&daemon, "nobody", "x"));
    let line = daemon.wait_for("cannot be read");
    assert!(line.contains("known users go on") && line.contains("turndb"), "{line}");
    assert!(lets_in(&daemon, "alice", "sesame"));
    daemon.signal("HUP");
    daemon.wait_for("configuration read again");
    assert!(lets_in(&daemon, "alice", "sesame"));
    std::fs::rename(&away, &here).unwrap();
    add(&daemon.place, "dave", "later");
    until("dave is let in", || lets_in(&daemon, "dave", "later"));
}

#[test]
fn a_database_that_is_not_there_at_the_start_stops_nobody() {
    let place = Place::new();
    let option = format!("userdb={}\nlt-cred-mech\nuser=carol:file\n", place.shown("turndb"));
    let daemon = place.start(&option);
    assert!(lets_in(&daemon, "carol", "file"));
    add(&daemon.place, "alice", "sesame");
    until("alice is let in", || lets_in(&daemon, "alice", "sesame"));
}

#[test]
fn without_an_option_the_file_is_read_that_coturn_reads() {
    let start = |options: &str| {
        let place = Place::new();
        add(&place, "alice", "sesame");
        place.write(&format!("lt-cred-mech\n{options}"));
        place.without("userdb=/dev/null\n");
        let script = format!("mount --bind '{}' /var/lib/turn", place.folder.path().display());
        Daemon::with_mounts(place, &script)
    };
    assert!(lets_in(&start(""), "alice", "sesame"));
    // Who has his users elsewhere may have left some there.
    assert!(!lets_in(&start("redis-userdb=\"ip=127.0.0.1 dbname=2\"\n"), "alice", "sesame"));
}

#[test]
fn a_database_that_is_locked_delays_nobody() {
    let daemon = on_sqlite("userdb", "lt-cred-mech\n");
    let mut alice = Client::udp(daemon.at(), "alice", "sesame");
    assert_eq!(alice.allocate().code(), 0);
    let mut holder = Command::new("sqlite3");
    let mut holder =
        holder.arg(daemon.place.path("turndb")).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut hand = holder.stdin.take().unwrap();
    writeln!(hand, "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE held (x);").unwrap();
    until("it is locked", || {
        let output = Command::new("sqlite3").arg(daemon.place.path("turndb")).arg("SELECT 1 FROM turn_secret").output();
        !output.unwrap().status.success()
    });
    // The daemon reads it soon, waits for it, and gives up: all the while it serves.
    assert!(!lets_in(&daemon, "nobody", "x"));
    alice.wait_at_most(Duration::from_millis(500));
    let began = Instant::now();
    let mut rounds = 0;
    while !daemon.lines().iter().any(|line| line.contains("cannot be read")) {
        assert!(began.elapsed() < Duration::from_secs(20));
        assert_eq!(alice.permit("9.9.9.1:1".parse().unwrap()), 0);
        rounds += 1;
    }
    assert!(lets_in(&daemon, "alice", "sesame"));
    assert!(rounds > 10 && began.elapsed() > Duration::from_secs(1), "{rounds} in {:?}", began.elapsed());
    drop(hand);
    holder.wait().unwrap();
    daemon.wait_for("there again");
}

#[test]
fn a_range_that_cannot_be_read_takes_nothing_over() {
    let daemon = on_sqlite("userdb", "lt-cred-mech\n");
    sqlite(&daemon.place, "INSERT INTO denied_peer_ip VALUES ('example.org', '10.0.0.0-10.0');");
    assert!(!lets_in(&daemon, "nobody", "x"));
    let line = daemon.wait_for("cannot be read");
    assert!(line.contains("denied_peer_ip") && line.contains("10.0"), "{line}");
    assert!(lets_in(&daemon, "alice", "sesame"));
}

#[test]
fn users_of_postgresql_log_in_by_both_kinds_of_connection_strings() {
    let server = Postgres::start();
    let psql = |sql: &str| {
        let output = Command::new("psql").arg(server.url()).args(["-q", "-v", "ON_ERROR_STOP=1", "-c", sql]).output();
        let output = output.expect("psql is not installed (apt install postgresql-client)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let key = |user: &str, password: &str| {
        let key = credentials::long_term_key(user, REALM, password);
        key.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    psql(SCHEMA);
    psql(&format!("INSERT INTO turnusers_lt VALUES ('{REALM}', 'alice', '{}')", key("alice", "sesame")));
    psql(&format!("INSERT INTO turn_secret VALUES ('{REALM}', 'north')"));
    psql("INSERT INTO denied_peer_ip VALUES ('', '9.9.8.0-9.9.8.255')");
    let url = server.url();
    let port = url.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let words = format!("\"host=127.0.0.1 port={port} dbname=postgres user=offhook password=any connect_timeout=30\"");
    for option in [format!("psql-userdb={url}"), format!("sql-userdb={words}")] {
        let daemon = Daemon::start(&format!("lt-cred-mech\nuse-auth-secret\n{option}\n"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        assert_eq!(alice.allocate().code(), 0, "{option}");
        assert_eq!(alice.permit("9.9.8.1:1".parse().unwrap()), 403);
        let pair = rest("north");
        assert!(lets_in(&daemon, &pair.username, &pair.password));
        assert!(!lets_in(&daemon, "dave", "later"));
        psql(&format!("INSERT INTO turnusers_lt VALUES ('{REALM}', 'dave', '{}')", key("dave", "later")));
        assert!(lets_in(&daemon, "dave", "later"));
        psql(&format!("INSERT INTO turn_secret VALUES ('{REALM}', 'west')"));
        let pair = rest("west");
        assert!(lets_in(&daemon, &pair.username, &pair.password));
        psql("DELETE FROM turnusers_lt WHERE name = 'dave'");
        psql("DELETE FROM turn_secret WHERE value = 'west'");
    }
    // Enciphered, when the server can and the string asks for it.
    let place = Place::new();
    assert!(Command::new("chown").args(["postgres", &place.shown("key.pem")]).status().unwrap().success());
    assert!(Command::new("chmod").args(["600", &place.shown("key.pem")]).status().unwrap().success());
    psql(&format!("ALTER SYSTEM SET ssl_cert_file = '{}'", place.shown("cert.pem")));
    psql(&format!("ALTER SYSTEM SET ssl_key_file = '{}'", place.shown("key.pem")));
    let safe = format!("lt-cred-mech\npsql-userdb={}\n", words.replace("any", "any sslmode=require"));
    let daemon = Daemon::start(&safe);
    assert!(!lets_in(&daemon, "alice", "sesame"));
    psql("ALTER SYSTEM SET ssl = on");
    psql("SELECT pg_reload_conf()");
    until("alice is let in", || lets_in(&daemon, "alice", "sesame"));
    drop(server);
    let daemon = Daemon::start(&format!("lt-cred-mech\nuser=carol:file\npsql-userdb={words}\n"));
    assert!(lets_in(&daemon, "carol", "file") && !lets_in(&daemon, "alice", "sesame"));
}

#[test]
fn a_connection_string_that_cannot_be_read_is_refused() {
    let output = Place::new().refused("psql-userdb=host=x colour=red password=quiet\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78));
    assert!(said.contains("psql-userdb cannot be read: colour is not known") && !said.contains("quiet"), "{said}");
}
