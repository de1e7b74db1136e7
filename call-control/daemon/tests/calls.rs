//! Calls from page to page, to and from telephones, over the real API and a scripted SFU and gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod common;
use common::Stage;
use serde_json::json;

#[tokio::test]
async fn the_echo_test_answers_at_once_joins_and_ends_in_the_log() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let ok = alice.ok(json!({ "op": "dial", "to": "*43" })).await;
    let call = ok["call"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&ok["call"]["direction"], &ok["call"]["state"]), (&json!("echo"), &json!("active")));
    let joined = alice.join(&call).await;
    assert_eq!((&joined["answer"], &joined["announcer_mid"]), (&json!("v=0 answer"), &json!("5")));
    assert_eq!(stage.nodes.expect("open_room").await.body["kind"], "echo");
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    assert_eq!(alice.ended().await["cause"], "normal");
    stage.nodes.expect("close_room").await;
    let log = stage.log("alice").await;
    assert_eq!((log.len(), &log[0]["cause"], &log[0]["to"]["name"]), (1, &json!("normal"), &json!("Echo test")));
    stage.wait_for_gauge("calls", 0).await;
    stage.wait_for_gauge("timers", 1).await;
}

#[tokio::test]
async fn extension_101_calls_102_both_talk_and_both_have_it_in_the_history() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = (stage.page("alice").await, stage.page("bob").await);
    let call = alice.dial("102").await;
    let ringing = bob.ringing().await;
    assert_eq!((&ringing["direction"], &ringing["parties"][0]["name"]), (&json!("internal"), &json!("Alice")));
    alice.join(&call).await;
    bob.ok(json!({ "op": "answer", "call": call })).await;
    bob.join(&call).await;
    assert_eq!(alice.state("active").await["parties"][0]["state"], "talking");
    bob.ok(json!({ "op": "hangup", "call": call })).await;
    let ended = alice.ended().await;
    assert_eq!((&ended["cause"], &ended["cause_side"]), (&json!("normal"), &json!("other")));
    for login in ["alice", "bob"] {
        let log = stage.log(login).await;
        assert_eq!((log.len(), &log[0]["id"], &log[0]["cause"]), (1, &json!(call), &json!("normal")));
        assert!(log[0]["answered_ms"].is_u64() && log[0]["ended_ms"].is_u64());
    }
    stage.wait_for_gauge("legs", 0).await;
}
