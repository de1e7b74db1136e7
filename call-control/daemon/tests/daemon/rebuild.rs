//! Call-control dies in mid-call and comes back.
use crate::page::Page;
use crate::stage::Stage;
use offhook_contract::{Fact, HangupCause, LegId};
use serde_json::json;

async fn again(stage: &Stage, login: &str, session: &str) -> Page {
    let token = stage.token(login).await;
    Page::hello(stage.address, json!({ "op": "hello", "token": token, "session": session, "last_seq": 3 })).await
}

#[tokio::test]
async fn killed_in_mid_call_both_pages_see_it_again_hang_up_works_and_the_log_is_right() {
    let mut stage = Stage::new().await;
    let (mut alice, mut bob) = (stage.page("alice").await, stage.page("bob").await);
    let call = alice.dial("102").await;
    alice.join(&call).await;
    bob.ringing().await;
    bob.ok(json!({ "op": "answer", "call": call })).await;
    bob.join(&call).await;
    alice.state("active").await;
    // What was read was written: so the database has the answer.
    assert!(stage.log("alice").await[0]["answered_ms"].is_u64());
    let sessions = [alice.session(), bob.session()];
    stage.kill();
    let asked_before = stage.nodes.carried.lock().unwrap().rooms.len();
    stage.restart().await;
    let (mut alice, mut bob) = (again(&stage, "alice", &sessions[0]).await, again(&stage, "bob", &sessions[1]).await);
    for page in [&alice, &bob] {
        assert_eq!((&page.ready["resumed"], &page.ready["calls"][0]["id"]), (&json!(false), &json!(call)));
        assert_eq!(page.ready["calls"][0]["state"], "active");
    }
    assert_eq!(stage.nodes.carried.lock().unwrap().rooms.len(), asked_before, "nobody touched the room");
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    assert_eq!(bob.ended().await["cause"], "normal");
    stage.nodes.expect("close_room").await;
    for login in ["alice", "bob"] {
        let log = stage.log(login).await;
        assert_eq!((log.len(), &log[0]["cause"]), (1, &json!("normal")));
    }
    stage.wait_for_gauge("calls", 0).await;
    stage.wait_for_gauge("timers", 1).await;
}

#[tokio::test]
async fn facts_that_are_sent_again_after_the_death_count_once() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let call = alice.dial("+4930123456").await;
    alice.join(&call).await;
    let dialled = stage.nodes.expect("dial_telephone").await;
    let leg = LegId::parse(dialled.body["leg"].as_str().unwrap()).unwrap();
    stage.nodes.expect("connect_link").await;
    let answered = stage.nodes.fact(&call, Fact::LegAnswered { leg: leg.clone() }).await;
    alice.state("active").await;
    let session = alice.session();
    stage.kill();
    stage.restart().await;
    stage.nodes.store(&answered).await;
    stage.nodes.store(&answered).await;
    let mut alice = again(&stage, "alice", &session).await;
    assert_eq!(alice.ready["calls"][0]["parties"][0]["kind"], "telephone");
    let ended = Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None };
    let ended = stage.nodes.fact(&call, ended).await;
    stage.nodes.store(&ended).await;
    assert_eq!(alice.ended().await["cause_side"], "other");
    let (_, row) = stage.get(&stage.token("alice").await, &format!("/v1/calls/{call}")).await;
    let count = |kind: &str| row["events"].as_array().unwrap().iter().filter(|e| e["kind"] == kind).count();
    assert_eq!((count("leg_answered"), count("leg_ended"), count("ended")), (1, 1, 1));
    assert_eq!(row["answered_ms"], json!(answered.at_ms));
}

#[tokio::test]
async fn the_next_life_acts_under_a_newer_epoch() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    alice.dial("*43").await;
    let before = stage.nodes.expect("open_room").await.context.epoch.unwrap();
    stage.kill();
    stage.restart().await;
    let mut alice = stage.page("alice").await;
    alice.dial("*43").await;
    let after = stage.nodes.expect("open_room").await.context.epoch.unwrap();
    assert!(after > before, "{after:?} is not newer than {before:?}");
}
