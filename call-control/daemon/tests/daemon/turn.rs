//! Our own TURN server as call-control sees it: told to pages while it is there, asked for a user's sessions, told whom to
//! show out.
use crate::nodes::{Script, ready};
use crate::stage::{PATIENCE, Stage, TRUNK};
use offhook_bus::{Bus, Presence, Target, wall_now};
use offhook_contract::turn::*;
use offhook_contract::{BootId, DaemonKind, NodeId, NodeRow, NodeState, Request, UnixMs};
use offhook_control::admin::{UserEdit, UserWish};
use serde_json::json;
use tokio::sync::{mpsc, watch};

const TURN: &str = "[turn]\nsecrets = [\"north\"]\n";

/// Answers that everybody has one session, and remembers whom it should end.
struct TurnNode {
    revoked: mpsc::UnboundedReceiver<Vec<RevokeTurnUser>>,
    row: watch::Sender<NodeRow>,
    _presence: Presence,
}

impl TurnNode {
    async fn start(bus: &Bus, name: &str) -> Self {
        Self::serving(bus, Self::announced(bus, name)).await
    }

    /// In the table, and deaf.
    fn announced(bus: &Bus, name: &str) -> (watch::Sender<NodeRow>, Presence) {
        let row = ready(NodeId::parse(name).unwrap(), DaemonKind::Turn);
        let (row, followed) = watch::channel(row);
        (row, bus.announce(followed))
    }

    async fn serving(bus: &Bus, (row, presence): (watch::Sender<NodeRow>, Presence)) -> Self {
        let node = row.borrow().node.clone();
        let mut server = bus.serve(DaemonKind::Turn, Target::Node(node)).await.unwrap();
        let (sender, revoked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(incoming) = server.next().await {
                match incoming.name.as_str() {
                    ListTurnSessions::NAME => {
                        let user = incoming.body::<ListTurnSessions>().unwrap().user.unwrap();
                        incoming.reply::<ListTurnSessions>(Ok(one_session(&user)));
                    }
                    RevokeTurnUser::NAME => {
                        sender.send(vec![incoming.body::<RevokeTurnUser>().unwrap()]).unwrap();
                        incoming.reply::<RevokeTurnUser>(Ok(TurnRevoked { ended: 1 }));
                    }
                    RevokeTurnUsers::NAME => {
                        sender.send(incoming.body::<RevokeTurnUsers>().unwrap().users).unwrap();
                        incoming.reply::<RevokeTurnUsers>(Ok(TurnRevoked { ended: 1 }));
                    }
                    _ => incoming.unsupported(),
                }
            }
        });
        Self { revoked, row, _presence: presence }
    }

    async fn told(&mut self) -> Vec<RevokeTurnUser> {
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
    TurnSessions { sessions: vec![session], total: 1, incomplete: false }
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
    assert_eq!((told.len(), told[0].user.as_str()), (1, id));
    let until = told[0].credentials_until_ms;
    assert!(until >= before.plus_ms(630_000), "credentials of ten minutes are refused, and of a moment later");
    // What he is given from now on is good.
    let (_, fresh) = stage.get(&bob, "/v1/ice-servers").await;
    let name = fresh["ice_servers"][0]["username"].as_str().unwrap();
    let ends: u64 = name.split(':').next().unwrap().parse().unwrap();
    assert!(ends * 1_000 > until.0, "{name} ends with what was taken back");
    // A server that starts again has forgotten, and one that does not answer is told later; neither spoils the answer.
    turn.row.send_modify(|row| row.boot = BootId::parse("second").unwrap());
    assert_eq!(turn.told().await, told);
    let mut later = told.clone();
    let deaf = TurnNode::announced(&stage.bus, "turn-2");
    stage.bus.nodes().wait_for(|rows| rows.iter().any(|row| row.node.as_str() == "turn-2")).await;
    let found = async {
        loop {
            let (status, found) = stage.get(&alice, "/v1/turn/sessions?user=bob").await;
            assert_eq!((status, &found["total"]), (200, &json!(1)), "{found}");
            if found["missing"] == json!(["turn-2"]) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the missing server is not named");
    let url = stage.url("/v1/turn/sessions?user=bob");
    let answer = stage.http.delete(url).bearer_auth(&alice).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer, json!({ "ended": 1, "missing": ["turn-2"] }));
    later[0] = turn.told().await.remove(0);
    let mut heard = TurnNode::serving(&stage.bus, deaf).await;
    assert_eq!(heard.told().await, later);
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
    assert_eq!((told.len(), told[0].user.as_str()), (1, id.as_str()));
    let mut second = TurnNode::start(&stage.bus, "turn-2").await;
    assert_eq!(second.told().await, told);
    // A server that starts again has forgotten; the other one is not told twice.
    first.row.send_modify(|row| row.boot = BootId::parse("second").unwrap());
    assert_eq!(first.told().await, told);
    assert!(second.revoked.try_recv().is_err());
}

#[tokio::test]
async fn a_new_password_takes_the_turn_credentials_of_former_sign_ins_back() {
    let stage = stage().await;
    let tenant = stage.other_tenant().await;
    let mut turn = TurnNode::start(&stage.bus, "turn-1").await;
    let admin = stage.admin().await;
    let id = admin.users(&tenant).await.unwrap()[0].id.to_string();
    let password = UserEdit { password: Some("another password".into()), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", password).await.unwrap();
    let told = turn.told().await;
    assert_eq!((told.len(), told[0].user.as_str()), (1, id.as_str()));
    let nothing = UserEdit { admin: Some(true), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", nothing).await.unwrap();
    assert!(turn.revoked.try_recv().is_err());
}

/// The bus was away from its node, or call-control was: an allocation outlives its credentials.
#[tokio::test]
async fn a_call_control_that_starts_tells_all_in_one_request_to_the_servers_that_were_there_before() {
    let mut stage = stage().await;
    let tenant = stage.other_tenant().await;
    let admin = stage.admin().await;
    let (login, extension) = ("eve".to_owned(), "102".to_owned());
    let eve = UserWish { name: login.clone(), login, extension, password: None, admin: false };
    admin.add_user(&tenant, eve).await.unwrap();
    let disabled = || UserEdit { disabled: Some(true), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", disabled()).await.unwrap();
    admin.change_user(&tenant, "eve", disabled()).await.unwrap();
    stage.kill();
    let row = TurnNode::announced(&stage.bus, "turn-1");
    row.0.send_modify(|row| row.started_ms = UnixMs(1));
    let late = TurnNode::announced(&stage.bus, "turn-2");
    late.0.send_modify(|row| row.started_ms = wall_now().plus_ms(2 * 3_600_000));
    let (mut turn, mut late) = (TurnNode::serving(&stage.bus, row).await, TurnNode::serving(&stage.bus, late).await);
    stage.restart().await;
    assert_eq!(turn.told().await.len(), 2);
    assert!(turn.revoked.try_recv().is_err() && late.revoked.try_recv().is_err());
}
