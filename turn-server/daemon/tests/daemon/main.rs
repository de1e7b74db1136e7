//! The TURN server among the other daemons, on the in-process bus: whom it may relay to, what it tells, whom it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod certificates;
#[allow(dead_code, reason = "each story uses its part of the client")]
#[path = "../conf/client.rs"]
mod client;
mod reloads;

use client::Client;
use offhook_bus::{Bus, BusCut, Presence, Target, wall_now};
use offhook_contract::node::PRESENCE_TTL_MS;
use offhook_contract::turn::*;
use offhook_contract::{BootId, Context, DaemonKind, NodeId, NodeRow, NodeState, UnixMs};
use offhook_link::TapForm;
use offhook_runtime::{ConfigFile, Daemon, Deps, LifecycleSwitch, Metrics, StartError};
use offhook_testkit::TurnClient;
use offhook_turn::{TurnConfig, TurnDaemon};
use offhook_wire_stun::{AttributeType, credentials};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);
const CHANNEL: u16 = 0x4001;

/// One TURN server and the bus around it.
struct Stage {
    bus: Bus,
    cut: BusCut,
    switch: LifecycleSwitch,
    metrics: Metrics,
    address: SocketAddr,
    stream: Option<SocketAddr>,
    run: JoinHandle<()>,
    folder: tempfile::TempDir,
}

fn file(text: &str, folder: &tempfile::TempDir) -> ConfigFile {
    let storage = format!("[storage]\ndata_dir = \"{}\"\n", folder.path().display());
    ConfigFile::parse("test.toml", &format!("{storage}[turn]\nlisten = [\"127.0.0.1:0\"]\nthreads = 2\n{text}"), [])
        .unwrap()
}

fn deps(bus: &Bus, switch: &LifecycleSwitch, metrics: &Metrics, folder: &tempfile::TempDir, dev: bool) -> Deps {
    Deps {
        node: NodeId::parse("turn-1").unwrap(),
        boot: BootId::parse("boot-1").unwrap(),
        bus: bus.clone(),
        taps: TapForm::Network,
        hosts: None,
        lifecycle: switch.lifecycle(),
        metrics: metrics.for_daemon("turn"),
        data_dir: folder.path().to_owned(),
        dev,
    }
}

impl Stage {
    async fn with(text: &str) -> Self {
        Self::start(text, true).await
    }

    /// `shared`: beside call-control, which finds the secret that was made.
    async fn start(text: &str, shared: bool) -> Self {
        offhook_runtime::install_crypto_provider();
        let (bus, cut) = Bus::in_process_with_cut("test").unwrap();
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
        let file = file(text, &folder);
        let config = TurnConfig::read(&file).unwrap();
        let switch = LifecycleSwitch::new(file);
        let deps = deps(&bus, &switch, &metrics, &folder, shared);
        let lifecycle = deps.lifecycle.clone();
        let daemon = TurnDaemon::build(config, deps).await.unwrap();
        let stream = daemon.stream_addresses().first().copied();
        let address = daemon.addresses().first().copied().or(stream).unwrap();
        let run = tokio::spawn(async move { daemon.run().await.unwrap() });
        tokio::time::timeout(PATIENCE, lifecycle.ready()).await.unwrap();
        Self { bus, cut, switch, metrics, address, stream, run, folder }
    }

    fn secret(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("turn.secret")).unwrap().trim_end().to_owned()
    }

    /// Credentials as call-control gives them out.
    fn log_in(&self, user: &str, ttl_s: u64) -> io::Result<TurnClient> {
        self.log_in_under(&self.secret(), user, ttl_s)
    }

    fn log_in_under(&self, secret: &str, user: &str, ttl_s: u64) -> io::Result<TurnClient> {
        let minted = credentials::mint(secret.as_bytes(), wall_now().0 / 1_000 + ttl_s, user);
        TurnClient::log_in(self.address, &minted.username, &minted.password)
    }

    fn allocated(&self, user: &str) -> TurnClient {
        let mut client = self.log_in(user, 600).unwrap();
        client.allocate().unwrap();
        client
    }

    async fn sessions(&self, user: Option<&str>) -> TurnSessions {
        let list = ListTurnSessions { user: user.map(str::to_owned) };
        self.ask(&list).await
    }

    async fn ask<R: offhook_contract::Request>(&self, request: &R) -> R::Reply {
        let node = Target::Node(NodeId::parse("turn-1").unwrap());
        self.bus.request(node, &Context::default(), request, PATIENCE).await.unwrap()
    }

    fn announce_sfu(&self, media: SocketAddr) -> (watch::Sender<NodeRow>, Presence) {
        self.announce_sfu_at(&[media])
    }

    fn announce_sfu_at(&self, media: &[SocketAddr]) -> (watch::Sender<NodeRow>, Presence) {
        let row = NodeRow {
            node: NodeId::parse("sfu-1").unwrap(),
            kind: DaemonKind::Sfu,
            boot: BootId::parse("boot-1").unwrap(),
            version: String::new(),
            started_ms: UnixMs(1),
            state: NodeState::Ready,
            load: 0,
            capacity: 1,
            media_addresses: media.to_vec(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        };
        let (sender, followed) = watch::channel(row);
        (sender, self.bus.announce(followed))
    }

    async fn own_row(&self, what: &str, fits: impl Fn(&NodeRow) -> bool) {
        let mut table = self.bus.nodes();
        let there = table.wait_for(|rows| rows.iter().any(|row| row.kind == DaemonKind::Turn && fits(row)));
        tokio::time::timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("the row never showed {what}"));
    }
}

/// A peer that returns everything in capitals.
fn sfu() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            buffer[..length].make_ascii_uppercase();
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    address
}

fn echo(client: &TurnClient) -> Vec<u8> {
    client.send(CHANNEL, b"hello").unwrap();
    client.receive().unwrap().1
}

/// Until `probe` holds; what is announced takes a moment to arrive.
async fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + PATIENCE;
    while !probe() {
        assert!(tokio::time::Instant::now() < limit, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sfus_media_port_is_a_peer_from_its_presence_on_until_it_withdraws() {
    let stage = Stage::with("").await;
    let media = sfu();
    let mut client = stage.allocated("alice");
    assert!(client.bind(CHANNEL, media).unwrap_err().to_string().contains("403"));
    let (_row, presence) = stage.announce_sfu(media);
    until("the media port stays closed", || client.bind(CHANNEL, media).is_ok()).await;
    assert_eq!(echo(&client), b"HELLO");
    // Its neighbour's ports stay shut, and so does the server itself.
    let beside = SocketAddr::new(media.ip(), media.port() ^ 1);
    for closed in [beside, stage.address] {
        assert!(client.bind(CHANNEL + 1, closed).unwrap_err().to_string().contains("403"), "{closed}");
    }
    presence.withdraw().await;
    let mut late = stage.allocated("alice");
    until("the media port stays open", || late.bind(CHANNEL, media).is_err()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sfu_behind_the_same_nat_is_heard_under_its_public_address() {
    let stage = Stage::with("[net]\npublic_addresses = [{ public = \"198.51.100.5\", local = \"127.0.0.1\" }]\n").await;
    let local = sfu();
    let public = SocketAddr::new("198.51.100.5".parse().unwrap(), local.port());
    // As an SFU lists them: announced and bound, sorted.
    let (_row, _presence) = stage.announce_sfu_at(&[local, public]);
    let mut client = stage.allocated("alice");
    until("the media port stays closed", || client.bind(CHANNEL, public).is_ok()).await;
    assert_eq!(echo(&client), b"HELLO");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_listed_by_account_counted_and_revoked_with_their_credentials() {
    let stage = Stage::with("").await;
    let media = sfu();
    let (_row, _presence) = stage.announce_sfu(media);
    let mut bob = stage.allocated("bob");
    until("the media port stays closed", || bob.bind(CHANNEL, media).is_ok()).await;
    assert_eq!(echo(&bob), b"HELLO");
    let _alice = stage.allocated("alice");
    stage.own_row("two sessions", |row| row.load == 2 && row.capacity == 10_000).await;
    let found = stage.sessions(Some("bob")).await;
    let session = &found.sessions[0];
    assert_eq!((found.total, found.sessions.len(), session.transport), (1, 1, TurnTransport::Udp));
    assert_eq!(session.client, bob.socket().local_addr().unwrap());
    assert!(session.user.ends_with(":bob") && session.relayed.len() == 1, "{session:?}");
    assert_eq!((session.up.packets, session.down.packets, session.up.bytes), (1, 1, 5));
    assert!(session.began_ms <= wall_now() && session.began_ms > UnixMs(1_600_000_000_000));
    assert_eq!((stage.sessions(None).await.total, stage.sessions(Some("carol")).await.total), (2, 0));
    until("coturn's gauge", || {
        stage.metrics.render().contains("\nturn_total_allocations{daemon=\"turn\",type=\"UDP\"} 2\n")
    })
    .await;

    let credentials_until_ms = wall_now().plus_ms(600_000);
    let revoked = stage.ask(&RevokeTurnUser { user: "bob".into(), credentials_until_ms }).await;
    assert_eq!((revoked.ended, stage.sessions(Some("bob")).await.total), (1, 0));
    assert!(stage.log_in("bob", 590).unwrap().allocate().unwrap_err().to_string().contains("401"));
    stage.log_in("bob", 700).unwrap().allocate().unwrap();
    assert_eq!(stage.sessions(Some("alice")).await.total, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_revoked_in_one_request_which_may_be_told_again_and_reloads_nothing() {
    let stage = Stage::with("").await;
    let (media, other) = (sfu(), sfu());
    let (row, _presence) = stage.announce_sfu(media);
    let _bob = stage.allocated("bob");
    let mut carol = stage.allocated("carol");
    let _dave = stage.allocated("dave");
    until("the media port stays closed", || carol.bind(CHANNEL, media).is_ok()).await;
    let credentials_until_ms = wall_now().plus_ms(630_000);
    let revoke = |user: &str| RevokeTurnUser { user: user.into(), credentials_until_ms };
    let all = RevokeTurnUsers { users: (0..TURN_REVOKED_MAX - 2).map(|n| revoke(&format!("u{n}"))).collect() };
    assert_eq!(stage.ask(&all).await.ended, 0);
    let two = RevokeTurnUsers { users: vec![revoke("bob"), revoke("dave")] };
    assert_eq!(stage.ask(&two).await.ended, 2);
    assert_eq!((stage.sessions(None).await.total, echo(&carol)), (1, b"HELLO".to_vec()));
    for user in ["bob", "u17"] {
        assert!(stage.log_in(user, 600).unwrap().allocate().unwrap_err().to_string().contains("401"), "{user}");
    }
    // Under credentials from after the revocation; told again, it does not mean them.
    let mut later = stage.log_in("bob", 700).unwrap();
    later.allocate().unwrap();
    assert_eq!((stage.ask(&two).await.ended, stage.sessions(Some("bob")).await.total), (0, 1));
    // New settings are made with what was revoked before.
    row.send_modify(|row| row.media_addresses.push(other));
    until("the other port stays closed", || later.bind(CHANNEL, other).is_ok()).await;
    assert!(stage.log_in("dave", 600).unwrap().allocate().unwrap_err().to_string().contains("401"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_server_lets_sessions_end_takes_no_new_ones_and_frees_its_port() {
    let stage = Stage::with("").await;
    let media = sfu();
    let (_row, _presence) = stage.announce_sfu(media);
    let mut client = stage.allocated("alice");
    until("the media port stays closed", || client.bind(CHANNEL, media).is_ok()).await;
    stage.own_row("a session", |row| row.load == 1).await;
    stage.switch.drain();
    stage.own_row("that it drains", |row| row.state == NodeState::Draining).await;
    assert!(stage.log_in("bob", 600).unwrap().allocate().unwrap_err().to_string().contains("508"));
    assert_eq!(echo(&client), b"HELLO");
    client.refresh(0).unwrap();
    tokio::time::timeout(PATIENCE, stage.run).await.unwrap().unwrap();
    UdpSocket::bind(stage.address).unwrap();
    assert!(stage.bus.nodes_of(DaemonKind::Turn).all().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_bus_it_relays_to_the_sfus_that_it_knew_for_longer_than_they_would_live() {
    let stage = Stage::with("").await;
    let media = sfu();
    let (_row, _presence) = stage.announce_sfu(media);
    let mut client = stage.allocated("alice");
    until("the media port stays closed", || client.bind(CHANNEL, media).is_ok()).await;
    stage.cut.disconnect();
    tokio::time::sleep(Duration::from_millis(PRESENCE_TTL_MS + 500)).await;
    assert_eq!(echo(&client), b"HELLO");
    let mut late = stage.allocated("bob");
    late.bind(CHANNEL, media).unwrap();
    stage.cut.reconnect();
    stage.own_row("itself", |row| row.state == NodeState::Ready).await;
    assert_eq!(echo(&late), b"HELLO");
}

#[tokio::test]
async fn alone_without_a_secret_it_does_not_start_and_says_what_to_set() {
    let (bus, folder) = (Bus::in_process("test").unwrap(), tempfile::tempdir().unwrap());
    let start = async |text: &str| -> Option<StartError> {
        let file = file(text, &folder);
        let config = TurnConfig::read(&file).unwrap();
        let switch = LifecycleSwitch::new(file);
        TurnDaemon::build(config, deps(&bus, &switch, &Metrics::new(), &folder, false)).await.err()
    };
    let words = |error: StartError| {
        assert!(error.is_config, "starting again does not mend it");
        format!("{error}: {}", error.source)
    };
    assert!(words(start("").await.unwrap()).contains("turn.secrets"));
    assert!(words(start("enabled = false\n").await.unwrap()).contains("turn.enabled"));
    assert!(start("users = [{ name = \"a\", password = \"b\" }]\n").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wildcards_of_both_families_share_a_port_over_udp_and_tcp() {
    // Free for both at this moment; another program's connection may have it a moment later, as any port.
    let port = loop {
        let tcp = std::net::TcpListener::bind("[::]:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("::", port)).is_ok() {
            break port;
        }
    };
    let (bus, folder, metrics) = (Bus::in_process("test").unwrap(), tempfile::tempdir().unwrap(), Metrics::new());
    let listen = format!("listen = [\"0.0.0.0:{port}\", \"[::]:{port}\"]\nrelay_addresses = [\"127.0.0.1\"]\n");
    let text = format!("[storage]\ndata_dir = \"{}\"\n[turn]\n{listen}", folder.path().display());
    let file = ConfigFile::parse("test.toml", &text, []).unwrap();
    let config = TurnConfig::read(&file).unwrap();
    let switch = LifecycleSwitch::new(file);
    let daemon = TurnDaemon::build(config, deps(&bus, &switch, &metrics, &folder, true)).await.unwrap();
    for ip in ["127.0.0.1", "::1"] {
        let server = SocketAddr::new(ip.parse().unwrap(), port);
        std::net::TcpStream::connect(server).unwrap();
        let secret = std::fs::read_to_string(folder.path().join("turn.secret")).unwrap();
        let minted = credentials::mint(secret.trim_end().as_bytes(), wall_now().0 / 1_000 + 60, "u");
        TurnClient::log_in(server, &minted.username, &minted.password).unwrap().allocate().unwrap();
    }
    drop(daemon);
}

fn sqlite(path: &std::path::Path, sql: &str) {
    let output = std::process::Command::new("sqlite3").arg(path).arg(sql).output();
    let output = output.expect("sqlite3 is not installed (apt install sqlite3)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn md5_key(user: &str, password: &str) -> String {
    credentials::long_term_key(user, "offhook", password).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_with_a_key_and_those_of_the_database_log_in_and_come_without_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turndb");
    let add = |user: &str, password: &str| {
        let key = md5_key(user, password);
        sqlite(&path, &format!("INSERT INTO turnusers_lt VALUES ('offhook', '{user}', '{key}')"));
    };
    sqlite(
        &path,
        "CREATE TABLE turnusers_lt (realm varchar(127), name varchar(512), hmackey char(128), PRIMARY KEY (realm, name));
         CREATE TABLE turn_secret (realm varchar(127), value varchar(256), PRIMARY KEY (realm, value));
         INSERT INTO turn_secret VALUES ('offhook', 'west');",
    );
    add("dave", "stored");
    let users = format!("users = [{{ name = \"carol\", md5_key = \"0x{}\" }}]\n", md5_key("carol", "sesame"));
    let stage = Stage::with(&format!("{users}database_url = \"{}\"\n", path.display())).await;
    let lets_in = |user: &str, password: &str| Client::udp(stage.address, user, password).allocate().code();
    assert_eq!((lets_in("carol", "sesame"), lets_in("dave", "stored")), (0, 0));
    assert_eq!((lets_in("carol", "wrong"), lets_in("eve", "later")), (401, 401));
    let minted = credentials::mint(b"west", wall_now().0 / 1_000 + 600, "u");
    assert_eq!(lets_in(&minted.username, &minted.password), 0);
    add("eve", "later");
    // Rarely enough to be answered.
    let mut pause = tokio::time::interval(Duration::from_millis(100));
    let limit = tokio::time::Instant::now() + PATIENCE;
    while lets_in("eve", "later") != 0 {
        assert!(tokio::time::Instant::now() < limit, "eve is not let in");
        pause.tick().await;
    }
    assert_eq!(stage.sessions(None).await.total, 4);
    // With the secret its sessions go, and with the database its users.
    stage.switch.reload(file("secrets = [\"north\"]\n", &stage.folder));
    while stage.sessions(Some("u")).await.total != 0 {
        assert!(tokio::time::Instant::now() < limit, "the session goes on");
        pause.tick().await;
    }
    assert_eq!(lets_in("dave", "stored"), 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sessions_carried_is_counted_when_they_end_for_each_user_if_that_is_wanted() {
    let stage = Stage::with("").await;
    let media = sfu();
    let (_row, _presence) = stage.announce_sfu(media);
    let session = async || {
        let mut bob = stage.allocated("bob");
        until("the media port stays closed", || bob.bind(CHANNEL, media).is_ok()).await;
        assert_eq!(echo(&bob), b"HELLO");
        bob.refresh(0).unwrap();
    };
    let shows = async |line: &str| until(line, || stage.metrics.render().contains(&format!("\n{line}\n"))).await;
    session().await;
    shows("turn_traffic_rcvp{daemon=\"turn\",realm=\"offhook\"} 1").await;
    stage.switch.reload(file("user_labels = true\n", &stage.folder));
    until("the label", || {
        let mut bob = stage.allocated("bob");
        bob.refresh(0).unwrap();
        stage.metrics.render().contains("realm=\"offhook\",user=\"bob\"")
    })
    .await;
    session().await;
    shows("turn_traffic_peer_sentb{daemon=\"turn\",realm=\"offhook\",user=\"bob\"} 5").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_switch_takes_away_what_it_names() {
    const USER: &str = "users = [{ name = \"a\", password = \"b\" }]\n";
    let start = async |line: &str| Stage::with(&format!("{USER}{line}\n")).await;
    let udp = |stage: &Stage| Client::udp(stage.address, "a", "b");
    let stage = start("").await;
    let answer = udp(&stage).allocate();
    assert_eq!((answer.code(), answer.has(AttributeType::SOFTWARE)), (0, true));
    assert!(!answer.has(AttributeType::FINGERPRINT) && udp(&stage).binding().is_some());
    assert_eq!(Client::tcp(stage.stream.unwrap(), "a", "b").allocate().code(), 0);

    let stage = start("udp = false").await;
    assert_eq!(Client::tcp(stage.address, "a", "b").allocate().code(), 0);
    UdpSocket::bind(stage.address).unwrap();
    let stage = start("tcp = false").await;
    assert_eq!((udp(&stage).allocate().code(), stage.stream), (0, None));
    assert_eq!(udp(&start("udp_relay = false").await).allocate().code(), 442);
    assert!(udp(&start("fingerprint = true").await).allocate().has(AttributeType::FINGERPRINT));
    assert!(!udp(&start("software = false").await).allocate().has(AttributeType::SOFTWARE));

    let v6 = "relay_addresses = [\"127.0.0.1\", \"::1\"]\n";
    for (family, is_v6) in [("ipv4", false), ("ipv6", true), ("client", false)] {
        let stage = start(&format!("{v6}default_family = \"{family}\"")).await;
        assert_eq!(udp(&stage).allocate().relayed().is_ipv6(), is_v6, "{family}");
    }
    let moment = Duration::from_millis(300);
    let stage = start("strangers_per_second = 1").await;
    assert!(udp(&stage).challenge().is_some());
    // Four at once and one a second on each thread: they would have to take half a minute to be answered all.
    let answered = (0..100).filter(|_| {
        let mut client = udp(&stage);
        client.wait_at_most(Duration::from_millis(10));
        client.challenge().is_some()
    });
    assert!(answered.count() < 100);

    let stage = start("stun_only = true").await;
    assert!(udp(&stage).binding().is_some());
    let mut client = udp(&stage);
    client.wait_at_most(moment);
    assert!(client.challenge().is_none());
    let stage = start("stun = false").await;
    assert_eq!(udp(&stage).allocate().code(), 0);
    let mut client = udp(&stage);
    client.wait_at_most(moment);
    assert!(client.binding().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ours_stays_shut_however_much_is_allowed() {
    let stage = Stage::with("allowed_peers = [\"0.0.0.0/0\", \"::/0\"]\n").await;
    let peer = sfu();
    let mut client = stage.allocated("alice");
    client.bind(CHANNEL, peer).unwrap();
    assert_eq!(echo(&client), b"HELLO");
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    // TURN's own under the ports that the system chose, SIP's, RTP's, the API, the page of metrics.
    for own in [stage.address, stage.stream.unwrap(), at(5_060), at(20_000), at(20_999), at(8_080), at(9_605)] {
        assert!(client.bind(CHANNEL + 1, own).unwrap_err().to_string().contains("403"), "{own}");
    }
    let address = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Any address of this host, though nobody has written it down.
    if address.connect("8.8.8.8:9").is_ok() {
        let own = SocketAddr::new(address.local_addr().unwrap().ip(), 5_060);
        assert!(client.permit(own).unwrap_err().to_string().contains("403"), "{own}");
    }
}
