//! configs/nats-server.conf, loaded by the server itself: each daemon can do its work, and not another's.
use crate::server::{NatsServer, connect, within};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt;
use offhook_bus::{Bus, Events, NatsCredentials, Outbox, Server, Target};
use offhook_contract::event::LegProgress;
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::node::{NodeRow, NodeState};
use offhook_contract::sfu::{CloseRoom, Done};
use offhook_contract::turn::{ListTurnSessions, TurnSessions};
use offhook_contract::{
    BootId, CallId, Context, DaemonKind, Event, Fact, HangupCause, LegId, NodeId, RoomId, Secret, TenantId, UnixMs,
};
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough for a message that is on its way to arrive.
const SILENCE: Duration = Duration::from_millis(500);

const PASSWORDS: [(&str, &str); 5] = [
    ("OFFHOOK_BUS_CONTROL", "control-password"),
    ("OFFHOOK_BUS_SFU", "sfu-password"),
    ("OFFHOOK_BUS_SIP", "sip-password"),
    ("OFFHOOK_BUS_RECORDER", "recorder-password"),
    ("OFFHOOK_BUS_TURN", "turn-password"),
];

async fn sample() -> NatsServer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/nats-server.conf");
    let sample = std::fs::read_to_string(path).unwrap();
    let store = "/var/lib/nats/jetstream";
    assert_eq!(sample.matches(store).count(), 1);
    NatsServer::with_config(&sample.replace(store, "{STORE}"), &PASSWORDS).await
}

async fn bus(server: &NatsServer, kind: DaemonKind) -> Bus {
    let password = Secret::new(format!("{kind}-password"));
    let credentials = NatsCredentials::UserPassword { user: kind.to_string(), password };
    connect(server.options(kind, credentials), TIMEOUT * 2).await.expect("the sample knows every kind of daemon")
}

/// The same user with a client that does what it likes.
async fn intruder(server: &NatsServer, kind: DaemonKind) -> Client {
    let options = ConnectOptions::with_user_and_password(kind.to_string(), format!("{kind}-password"));
    let prefix = format!("_INBOX.{kind}");
    options.custom_inbox_prefix(prefix).connect(format!("nats://127.0.0.1:{}", server.port)).await.unwrap()
}

fn context() -> Context {
    Context { tenant: Some(TenantId::parse("t1").unwrap()), call: Some(CallId::parse("c1").unwrap()), epoch: None }
}

fn node(name: &str) -> NodeId {
    NodeId::parse(name).unwrap()
}

fn row(kind: DaemonKind) -> NodeRow {
    NodeRow {
        node: node("one"),
        kind,
        boot: BootId::parse("b").unwrap(),
        version: "0.1.0".into(),
        started_ms: UnixMs(1),
        state: NodeState::Ready,
        load: 0,
        capacity: 1,
        media_addresses: Vec::new(),
        certificate_fingerprint: None,
        trunks: Vec::new(),
    }
}

async fn answer_rooms(mut server: Server) {
    while let Some(incoming) = server.next().await {
        incoming.reply::<CloseRoom>(Ok(Done {}));
    }
}

async fn store_facts(mut server: Server) {
    while let Some(incoming) = server.next().await {
        incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_daemon_can_do_its_work_with_its_own_user() {
    let server = sample().await;
    let control = bus(&server, DaemonKind::Control).await;
    let mut table = control.nodes();
    let mut lease = control.acquire_lease("leader", Duration::from_secs(2)).await.unwrap();
    let facts = control.serve(DaemonKind::Control, Target::Any).await.unwrap();
    tokio::spawn(store_facts(facts));
    let mut events: Events = control.subscribe(None, None).await.unwrap();

    for kind in [DaemonKind::Sfu, DaemonKind::Sip, DaemonKind::Recorder] {
        let daemon = bus(&server, kind).await;
        let (_own, followed) = watch::channel(row(kind));
        let presence = daemon.announce(followed);
        within(table.wait_for(|rows| rows.iter().any(|r| r.kind == kind))).await;
        within(presence.withdraw()).await;
        within(table.wait_for(|rows| rows.iter().all(|r| r.kind != kind))).await;
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&folder.path().join("outbox.redb"), &daemon).await.unwrap();
        let leg = LegId::parse("l").unwrap();
        let fact = Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None };
        outbox.append(&context(), fact).await.unwrap();
        within(async {
            while outbox.pending() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let sfu = bus(&server, DaemonKind::Sfu).await;
    let rooms = sfu.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    tokio::spawn(answer_rooms(rooms));
    let close = CloseRoom { room: RoomId::parse("r").unwrap() };
    control.request(Target::Node(node("sfu-1")), &context(), &close, TIMEOUT).await.unwrap();
    let sip = bus(&server, DaemonKind::Sip).await;
    let ringing = Event::LegRinging(LegProgress { leg: LegId::parse("l").unwrap() });
    sip.publish(&context(), &ringing).unwrap();
    assert_eq!(within(events.next()).await.unwrap().1, ringing);
    assert!(tokio::time::timeout(SILENCE, lease.lost()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorders_credential_cannot_command_the_gateway_or_listen_to_others() {
    let server = sample().await;
    let control = bus(&server, DaemonKind::Control).await;
    let sip = bus(&server, DaemonKind::Sip).await;
    let mut gateway = sip.serve(DaemonKind::Sip, Target::Node(node("sip-1"))).await.unwrap();
    let sfu = bus(&server, DaemonKind::Sfu).await;
    let rooms = sfu.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    tokio::spawn(answer_rooms(rooms));
    let recorder = intruder(&server, DaemonKind::Recorder).await;

    let mut overheard = Vec::new();
    for pattern in ["offhook.main.v1.sfu.*.*", "offhook.main.v1.event.>", "_INBOX.control.>", ">"] {
        overheard.push(recorder.subscribe(pattern).await.unwrap());
    }
    let commands = ["offhook.main.v1.sip.sip-1.dial_telephone", "$KV.offhook_main_leases.leader"];
    for subject in commands {
        recorder.publish(subject, "{}".into()).await.unwrap();
    }
    // A stream or a consumer would deliver what its user may not publish.
    let stream = r#"{"name":"KV_offhook_main_x","subjects":["$KV.offhook_main_x.>"]}"#;
    for (subject, body) in [
        ("$JS.API.STREAM.CREATE.KV_offhook_main_x", stream),
        ("$JS.API.CONSUMER.CREATE.KV_offhook_main_nodes", "{}"),
        ("offhook.main.v1.sip.sip-1.dial_telephone", "{}"),
    ] {
        let asked = tokio::time::timeout(SILENCE, recorder.request(subject, body.into())).await;
        assert!(!matches!(asked, Ok(Ok(_))), "{subject} was answered");
    }
    let close = CloseRoom { room: RoomId::parse("r").unwrap() };
    control.request(Target::Node(node("sfu-1")), &context(), &close, TIMEOUT).await.unwrap();
    assert!(tokio::time::timeout(SILENCE, gateway.next()).await.is_err(), "the gateway received a command");
    for mut subscription in overheard {
        assert!(tokio::time::timeout(SILENCE / 4, subscription.next()).await.is_err(), "overheard");
    }
    // What it may do, it still can.
    let row = r#"{}"#;
    recorder.publish("$KV.offhook_main_nodes.recorder.one", row.into()).await.unwrap();
    recorder.flush().await.unwrap();
    assert!(control.acquire_lease("leader", TIMEOUT).await.is_ok(), "the lease was written by the recorder");
}

async fn answer_sessions(mut server: Server) {
    while let Some(incoming) = server.next().await {
        incoming.reply::<ListTurnSessions>(Ok(TurnSessions::default()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_server_hears_the_sfus_and_answers_call_control_and_may_do_nothing_else() {
    let server = sample().await;
    let control = bus(&server, DaemonKind::Control).await;
    let mut everybody = control.nodes();
    let turn = bus(&server, DaemonKind::Turn).await;
    let (_own, followed) = watch::channel(row(DaemonKind::Turn));
    let _presence = turn.announce(followed);
    within(everybody.wait_for(|rows| rows.iter().any(|r| r.kind == DaemonKind::Turn))).await;
    let sessions = turn.serve(DaemonKind::Turn, Target::Node(node("turn-1"))).await.unwrap();
    tokio::spawn(answer_sessions(sessions));
    let list = ListTurnSessions { user: None };
    control.request(Target::Node(node("turn-1")), &Context::default(), &list, TIMEOUT).await.unwrap();

    let mut sfus = turn.nodes_of(DaemonKind::Sfu);
    let sfu = bus(&server, DaemonKind::Sfu).await;
    let (_own, followed) = watch::channel(row(DaemonKind::Sfu));
    let _announced = sfu.announce(followed);
    within(sfus.wait_for(|rows| rows.iter().any(|r| r.kind == DaemonKind::Sfu))).await;

    let intruder = intruder(&server, DaemonKind::Turn).await;
    let mut overheard = Vec::new();
    for pattern in ["offhook.main.v1.sfu.*.*", "$KV.offhook_main_nodes.control.*", "$KV.offhook_main_leases.*", ">"] {
        overheard.push(intruder.subscribe(pattern).await.unwrap());
    }
    intruder.publish("$KV.offhook_main_nodes.sfu.one", "{}".into()).await.unwrap();
    intruder.publish("$KV.offhook_main_leases.leader", "{}".into()).await.unwrap();
    let asked = intruder.request("$JS.API.CONSUMER.CREATE.KV_offhook_main_nodes", "{}".into());
    assert!(!matches!(tokio::time::timeout(SILENCE, asked).await, Ok(Ok(_))), "a consumer was made");
    assert!(control.acquire_lease("leader", TIMEOUT).await.is_ok(), "the lease was written by the TURN server");
    assert_eq!(sfus.all(), [row(DaemonKind::Sfu)], "it spoke for an SFU");
    for mut subscription in overheard {
        assert!(tokio::time::timeout(SILENCE / 4, subscription.next()).await.is_err(), "overheard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_never_connected() {
    let server = sample().await;
    let password = Secret::new("sfu-password");
    let credentials = NatsCredentials::UserPassword { user: "control".into(), password };
    assert!(connect(server.options(DaemonKind::Control, credentials), SILENCE * 2).await.is_none());
    assert!(connect(server.options(DaemonKind::Control, NatsCredentials::None), SILENCE * 2).await.is_none());
}
