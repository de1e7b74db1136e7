//! `cert`, `pkey`, `pkey-pwd` and `cipher-list`, as OpenSSL's client sees them.
use crate::client::Client;
use crate::rig::{ALICE, Daemon, Place, until};
use offhook_wire_stun::Method;
use std::fs;
use std::process::{Command, Stdio};

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is not installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// `Cipher is …` of a handshake with these switches, `None` when there is none.
fn handshake(port: u16, switches: &[&str]) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]).args(switches);
    let output = command.stdin(Stdio::null()).output().expect("openssl is not installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("Cipher is "))?;
    Some(line.rsplit(' ').next()?.to_owned()).filter(|cipher| cipher != "(NONE)")
}

fn files(place: &Place) -> String {
    format!("{ALICE}cert={}\npkey={}\n", place.shown("cert.pem"), place.shown("key.pem"))
}

fn start(options: &str) -> Daemon {
    let place = Place::new();
    let options = format!("{}{options}", files(&place));
    place.start(&options)
}

#[test]
fn certificate_and_key_make_tls_and_are_read_again() {
    let daemon = start("");
    assert!(handshake(daemon.place.port, &[]).is_some());
    let shown = |daemon: &Daemon| {
        let script = format!(
            "openssl s_client -connect 127.0.0.1:{} </dev/null | openssl x509 -noout -serial",
            daemon.place.port
        );
        String::from_utf8(Command::new("sh").args(["-c", &script]).output().unwrap().stdout).unwrap()
    };
    let first = shown(&daemon);
    let other = Place::new();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(other.path(name), daemon.place.path(name)).unwrap();
    }
    assert_eq!(shown(&daemon), first);
    daemon.signal("USR2");
    daemon.wait_for("certificate read again");
    assert!(shown(&daemon) != first && !first.is_empty());
    let plain = Daemon::start(ALICE);
    assert_eq!(handshake(plain.place.port, &[]), None);
}

#[test]
fn files_are_also_looked_for_beside_the_configuration() {
    let daemon = Daemon::start(&format!("{ALICE}cert=cert.pem\npkey=key.pem\n"));
    assert!(handshake(daemon.place.port, &[]).is_some());
}

#[test]
fn an_encrypted_key_is_opened_with_its_password_or_the_reason_is_told() {
    for switches in [&["pkcs8", "-topk8", "-v2", "aes-256-cbc"][..], &["ec", "-aes128"]] {
        let place = Place::new();
        let (key, locked) = (place.shown("key.pem"), place.shown("locked.pem"));
        openssl(&[switches, &["-in", &key, "-out", &locked, "-passout", "pass:open sesame"]].concat());
        let files = format!("{ALICE}cert={}\npkey={locked}\n", place.shown("cert.pem"));
        for (password, words) in
            [("", "it is encrypted: set pkey-pwd, or"), ("pkey-pwd=wrong\n", "pkey-pwd does not open it")]
        {
            let output = place.refused(&format!("{files}{password}"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(words) && said.contains("locked.pem"), "{said}");
            let checked = place.command().arg("--check-config").output().unwrap();
            assert!(!checked.status.success() && String::from_utf8_lossy(&checked.stderr).contains(words));
        }
        let daemon = place.start(&format!("{files}pkey-pwd=\"open sesame\"\n"));
        assert!(handshake(daemon.place.port, &[]).is_some());
        daemon.signal("USR2");
        daemon.wait_for("certificate read again");
    }
}

#[test]
fn only_ciphers_of_the_list_are_agreed_on() {
    let daemon =
        start("cipher-list=ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256\n");
    let port = daemon.place.port;
    let old = |list: &str| handshake(port, &["-tls1_2", "-cipher", list]);
    // The server's order counts.
    assert_eq!(old("ALL").as_deref(), Some("ECDHE-ECDSA-CHACHA20-POLY1305"));
    assert_eq!(old("ECDHE-ECDSA-AES128-GCM-SHA256").as_deref(), Some("ECDHE-ECDSA-AES128-GCM-SHA256"));
    assert_eq!(old("ECDHE-ECDSA-AES256-GCM-SHA384"), None);
    assert!(handshake(port, &["-tls1_3"]).is_some());
}

#[test]
fn other_files_and_ciphers_serve_who_comes_after_the_reload_and_nobody_is_thrown_out() {
    let daemon = start("cipher-list=ECDHE-ECDSA-CHACHA20-POLY1305\n");
    let place = &daemon.place;
    let mut alice = Client::tls(daemon.at(), &place.path("cert.pem"), &[]).unwrap();
    assert_eq!(alice.allocate().code(), 0);
    let (chain, key, locked) = (place.path("other.pem"), place.shown("other-key.pem"), place.shown("locked.pem"));
    crate::rig::certify(&chain, key.as_ref());
    openssl(&["ec", "-aes128", "-in", &key, "-out", &locked, "-passout", "pass:open sesame"]);
    let old = |list: &str| handshake(place.port, &["-tls1_2", "-cipher", list]);
    let others = format!("{ALICE}cert={}\npkey={locked}\ncipher-list=ECDHE-ECDSA-AES256-GCM-SHA384\n", chain.display());
    // Without its password the new key opens nothing: all stays as it was.
    daemon.reload(&others);
    let line = daemon.wait_for("certificate not read again");
    assert!(line.contains("it is encrypted"), "{line}");
    assert_eq!(old("ALL").as_deref(), Some("ECDHE-ECDSA-CHACHA20-POLY1305"));
    daemon.reload(&format!("{others}pkey-pwd=\"open sesame\"\n"));
    daemon.wait_for("certificate read again");
    assert_eq!(old("ALL").as_deref(), Some("ECDHE-ECDSA-AES256-GCM-SHA384"));
    assert_eq!(old("ECDHE-ECDSA-CHACHA20-POLY1305"), None);
    assert!(Client::tls(daemon.at(), &place.path("cert.pem"), &[]).is_err());
    assert_eq!(Client::tls(daemon.at(), &chain, &[]).unwrap().allocate().code(), 0);
    let refreshed = alice.ask_logged_in(Method::REFRESH, |builder| {
        builder.lifetime_s(600);
    });
    assert_eq!(refreshed.code(), 0);
    // Whether there is TLS at all is decided at start.
    daemon.reload(ALICE);
    let line = daemon.wait_for("waits for a restart");
    assert!(line.contains("cert was changed"), "{line}");
    assert!(old("ALL").is_some());
}

#[test]
fn ciphers_that_are_not_spoken_are_named_once() {
    let daemon = start("cipher-list=AES128-SHA:DHE-RSA-AES128-GCM-SHA256:!RC4\n");
    daemon.signal("HUP");
    let line = daemon.wait_for("cipher-list: not spoken here");
    assert!(line.contains("AES128-SHA, DHE-RSA-AES128-GCM-SHA256") && !line.contains("RC4"), "{line}");
    daemon.wait_for("leaves no suite of TLS 1.2");
    assert_eq!(handshake(daemon.place.port, &["-tls1_2"]), None);
    assert!(handshake(daemon.place.port, &["-tls1_3"]).is_some());
}

/// RFC 7443 §3 names the protocol; RFC 7301 §3.2: who offers none is served, who offers others only is told so and closed.
#[test]
fn the_protocol_is_stun_turn_for_who_offers_it_and_others_alone_are_refused() {
    let daemon = start("");
    let chain = daemon.place.path("cert.pem");
    for (offered, agreed) in
        [(&["stun.turn"][..], Some("stun.turn")), (&["h2", "stun.turn", "http/1.1"], Some("stun.turn")), (&[], None)]
    {
        let mut alice = Client::tls(daemon.at(), &chain, offered).unwrap();
        assert_eq!((alice.allocate().code(), alice.protocol()), (0, agreed), "{offered:?}");
    }
    let refused = Client::tls(daemon.at(), &chain, &["h2", "http/1.1"]).err();
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol);
    assert_eq!(refused, Some(alert));
}

/// coturn's `type` is what carries the client.
#[test]
fn running_allocations_are_counted_by_what_carries_them() {
    let daemon = Daemon::open("max-allocate-lifetime=5\n");
    let count = |daemon: &Daemon| ["UDP", "TCP", "TLS/TCP"].map(|carrier| daemon.allocations(carrier));
    let over_tls = || Client::tls(daemon.at(), &daemon.place.path("cert.pem"), &[]).unwrap();
    let mut clients = [
        Client::udp(daemon.at(), "alice", "sesame"),
        Client::tcp(daemon.at(), "alice", "sesame"),
        Client::tcp(daemon.at(), "alice", "sesame"),
        over_tls(),
        over_tls(),
        over_tls(),
    ];
    clients.iter_mut().for_each(|client| assert_eq!(client.allocate().code(), 0));
    until("one, two and three run", || count(&daemon) == [1, 2, 3]);
    clients[1].ask_logged_in(Method::REFRESH, |builder| {
        builder.lifetime_s(0);
    });
    until("one was given back", || count(&daemon) == [1, 1, 3]);
    let [_udp, _tcp, _other, left, ..] = clients;
    drop(left);
    until("one was left", || count(&daemon)[2] <= 2);
    // The others' time runs out while their connections stay.
    until("they are over", || count(&daemon) == [0, 0, 0]);
}
