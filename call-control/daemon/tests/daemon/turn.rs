//! Our own TURN server as call-control sees it: told to pages while it is there, asked for a user's sessions, told whom to
//! show out.
use crate::nodes::Script;
use crate::stage::{PATIENCE, Stage, TRUNK};
use offhook_bus::{Bus, Presence, Target, wall_now};
use offhook_contract::turn::*;
use offhook_contract::{BootId, DaemonKind, NodeId, NodeRow, NodeState, Request, UnixMs};
use offhook_control::admin::UserEdit;
use serde_json::json;
use tokio::sync::{mpsc, watch};

const TURN: &str = "[turn]\nsecrets = [\"north\"]\n";

/// Answers that everybody has one session, and remembers whom it should end.
struct TurnNode {
    revoked: mpsc::UnboundedReceiver<RevokeTurnUser>,
    row: watch::Sender<NodeRow>,
    _presence: Presence,
}

impl TurnNode {
    async fn start(bus: &Bus, name: &str) -> Self {
        let node = NodeId::parse(name).unwrap();
        let mut server = bus.serve(DaemonKind::Turn, Target::Node(node.clone())).await.unwrap();
        let (sender, revoked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                match incoming.name.as_str() {
                    ListTurnSessions::NAME => {
                        let user = incoming.body::<ListTurnSessions>().unwrap().user.unwrap();
                        incoming.reply::<ListTurnSessions>(Ok(one_session(&user)));
                    }
                    RevokeTurnUser::NAME => {
                        sender.send(incoming.body::<RevokeTurnUser>().unwrap()).unwrap();
                        incoming.reply::<RevokeTurnUser>(Ok(TurnRevoked { ended: 1 }));
                    }
                    _ => incoming.unsupported(),
                }
            }
        });
        let row = NodeRow {
            node,
            kind: DaemonKind::Turn,
            boot: BootId::parse("first").unwrap(),
            version: "test".into(),
            started_ms: wall_now(),
            state: NodeState::Ready,
            load: 0,
            capacity: 100,
            media_addresses: Vec::new(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        };
        let (row, followed) = watch::channel(row);
        Self { revoked, row, _presence: bus.announce(followed) }
    }

    async fn told(&mut self) -> RevokeTurnUser {
        tokio::time::timeout(PATIENCE, self.revoked.recv()).await.expect("nobody was to be ended").unwrap()
    }
}

fn one_session(user: &str) -> TurnSessions {
    let session = TurnSession {
        user: format!("1790000600:{user}"),
        client: "203.0.113.7:50000".parse().unwrap(),
        transport: TurnTransport::Udp,
        relayed: vec!["198.51.100.1:49152".parse().unwrap()],
        began_ms: UnixMs(1_790_000_000_000),
        up: TurnCarried { packets: 3, bytes: 516 },
        down: TurnCarried::default(),
    };
    TurnSessions { sessions: vec![session], total: 1 }
}

async fn stage() -> Stage {
    Stage::with(&format!("{TURN}{TRUNK}"), Script::default()).await
}

/// Until the page's ICE servers are as many.
async fn told_of(stage: &Stage, token: &str, servers: usize) -> serde_json::Value {
    let asked = async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(5));
        loop {
            let (_, answer) = stage.get(token, "/v1/ice-servers").await;
            if answer["ice_servers"].as_array().unwrap().len() == servers {
                return answer["ice_servers"].clone();
            }
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the ICE servers never changed")
}

#[tokio::test]
async fn pages_are_told_of_our_own_server_while_it_takes_sessions() {
    let stage = stage().await;
    let token = stage.token("alice").await;
    told_of(&stage, &token, 0).await;
    let turn = TurnNode::start(&stage.bus, "turn-1").await;
    let servers = told_of(&stage, &token, 1).await;
    assert_eq!(servers[0]["urls"], json!(["turn:127.0.0.1:3478?transport=udp", "turn:127.0.0.1:3478?transport=tcp"]));
    let username = servers[0]["username"].as_str().unwrap();
    assert_eq!(servers[0]["credential"], offhook_wire_stun::credentials::password(b"north", username));
    // In the calls of a page as well, by the host that it was reached under.
    let mut alice = stage.page("alice").await;
    assert_eq!(alice.ready["ice_servers"][0]["urls"], servers[0]["urls"]);
    let placed = alice.ok(json!({ "op": "dial", "to": "*43" })).await;
    assert_eq!(placed["ice_servers"][0]["urls"], servers[0]["urls"]);
    turn.row.send_modify(|row| row.state = NodeState::Draining);
    told_of(&stage, &token, 0).await;
}

#[tokio::test]
async fn an_admin_sees_and_ends_a_users_sessions_and_nobody_elses() {
    let stage = stage().await;
    let mut turn = TurnNode::start(&stage.bus, "turn-1").await;
    let (alice, bob) = (stage.token("alice").await, stage.token("bob").await);
    told_of(&stage, &alice, 1).await;
    let (_, me) = stage.get(&bob, "/v1/me").await;
    let id = me["user"]["id"].as_str().unwrap();
    for whose in ["bob", "102", id] {
        let (status, found) = stage.get(&alice, &format!("/v1/turn/sessions?user={whose}")).await;
        assert_eq!((status, &found["total"]), (200, &json!(1)), "{found}");
        let row = &found["data"][0];
        assert_eq!((&row["node"], &row["client"]), (&json!("turn-1"), &json!("203.0.113.7:50000")));
        assert_eq!((&row["transport"], &row["up"]), (&json!("udp"), &json!({ "packets": 3, "bytes": 516 })));
    }
    let end = async |token: &str, whose: &str| {
        let url = stage.url(&format!("/v1/turn/sessions{whose}"));
        stage.http.delete(url).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    // Bob is no admin, mallory another tenant's.
    stage.other_tenant().await;
    assert_eq!((end(&bob, "?user=alice").await, end(&alice, "?user=mallory").await), (403, 404));
    assert_eq!((end(&alice, "").await, stage.get(&bob, "/v1/turn/sessions?user=bob").await.0), (400, 403));
    let before = wall_now();
    assert_eq!(end(&alice, "?user=bob").await, 200);
    let told = turn.told().await;
    assert_eq!(told.user, id);
    assert!(told.credentials_until_ms >= before.plus_ms(600_000), "credentials of ten minutes are refused");
    assert!(turn.revoked.try_recv().is_err());
}

#[tokio::test]
async fn a_disabled_user_is_shown_out_of_every_turn_server_also_one_that_comes_later() {
    let stage = stage().await;
    let tenant = stage.other_tenant().await;
    let mut first = TurnNode::start(&stage.bus, "turn-1").await;
    let admin = stage.admin().await;
    let id = admin.users(&tenant).await.unwrap()[0].id.to_string();
    let disabled = |disabled| UserEdit { disabled: Some(disabled), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", disabled(true)).await.unwrap();
    let told = first.told().await;
    assert_eq!(told.user, id);
    let mut second = TurnNode::start(&stage.bus, "turn-2").await;
    assert_eq!(second.told().await, told);
    // A server that starts again has forgotten; the other one is not told twice.
    first.row.send_modify(|row| row.boot = BootId::parse("second").unwrap());
    assert_eq!(first.told().await, told);
    assert!(second.revoked.try_recv().is_err());
}
