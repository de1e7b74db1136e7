//! Who is let in, and what answers carry.
use crate::client::Client;
use crate::rig::{ALICE, Daemon, Place, until};
use offhook_wire_stun::{AttributeType, credentials};

fn code(daemon: &Daemon, user: &str, password: &str) -> u16 {
    Client::udp(daemon.at(), user, password).allocate().code()
}

#[test]
fn users_of_the_file_log_in_with_a_password_or_a_key() {
    let key = credentials::long_term_key("ana", "example.org", "secret");
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let daemon = Daemon::start(&format!("lt-cred-mech\nuser=alice:se=sa me\nuser=ana:0x{key}\n"));
    assert_eq!((code(&daemon, "alice", "se=sa me"), code(&daemon, "ana", "secret")), (0, 0));
    assert_eq!((code(&daemon, "alice", "secret"), code(&daemon, "bob", "secret")), (401, 401));
}

#[test]
fn secrets_open_rest_credentials_and_several_do_at_once() {
    let daemon = Daemon::start("use-auth-secret\nstatic-auth-secret=old\nstatic-auth-secret=new\n");
    for (secret, expected) in [("old", 0), ("new", 0), ("other", 401)] {
        let pair = credentials::mint(secret.as_bytes(), 4_000_000_000, "bob");
        assert_eq!(code(&daemon, &pair.username, &pair.password), expected, "{secret}");
    }
    let late = credentials::mint(b"new", 1_000_000_000, "bob");
    assert_eq!(code(&daemon, &late.username, &late.password), 401);
}

#[test]
fn the_separator_of_rest_names_is_the_files() {
    let name = "4000000000!bob";
    let password = credentials::password(b"north", name);
    let secret = "use-auth-secret\nstatic-auth-secret=north\n";
    assert_eq!(code(&Daemon::start(&format!("{secret}rest-api-separator=!\n")), name, &password), 0);
    assert_eq!(code(&Daemon::start(secret), name, &password), 401);
}

#[test]
fn nobody_is_asked_if_the_file_says_so_and_names_no_way_to_log_in() {
    let open = Daemon::start("no-auth\n");
    assert_eq!(Client::udp(open.at(), "", "").challenge().unwrap().code(), 0);
    for line in ["lt-cred-mech\n", "use-auth-secret\n", "user=a:b\n", "static-auth-secret=x\n"] {
        let daemon = Daemon::start(&format!("no-auth\n{line}"));
        assert_eq!(Client::udp(daemon.at(), "", "").challenge().unwrap().code(), 401, "{line}");
    }
    let none = Daemon::start("");
    assert_eq!(Client::udp(none.at(), "", "").challenge().unwrap().code(), 401);
    none.signal("HUP");
    none.wait_for("nobody can log in");
}

#[test]
fn the_realm_is_the_files_or_the_servers_name() {
    let realm = |daemon: &Daemon| Client::udp(daemon.at(), "", "").challenge().unwrap().realm();
    assert_eq!(realm(&Daemon::start(&format!("{ALICE}realm=a.example\nserver-name=b.example\n"))), "a.example");
    let place = Place::new();
    place.write(&format!("{ALICE}server-name=b.example\n"));
    place.without("realm=example.org\n");
    let command = place.command();
    assert_eq!(realm(&Daemon::spawn(place, command)), "b.example");
}

#[test]
fn answers_carry_a_fingerprint_if_wanted_and_a_name_unless_not_wanted() {
    let carries = |options: &str| {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        let answer = alice.allocate();
        assert_eq!(answer.code(), 0);
        (answer.has(AttributeType::FINGERPRINT), answer.has(AttributeType::SOFTWARE))
    };
    assert_eq!(carries(""), (false, true));
    assert_eq!(carries("fingerprint\nno-software-attribute\n"), (true, false));
    assert_eq!(carries("prod\n"), (false, false));
}

#[test]
fn a_nonce_lives_as_long_as_the_file_says() {
    let stale = |options: &str| {
        let daemon = Daemon::start(&format!("{ALICE}{options}"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        assert_eq!(alice.allocate().code(), 0);
        (daemon, alice)
    };
    let refresh = |alice: &mut Client| alice.ask(offhook_wire_stun::Method::REFRESH, true, |_| {}).unwrap().code();
    let (_short, mut alice) = stale("stale-nonce=1\n");
    until("the nonce is stale", || refresh(&mut alice) == 438);
    let (_long, mut alice) = stale("stale-nonce\n");
    assert_eq!(refresh(&mut alice), 0);
}
