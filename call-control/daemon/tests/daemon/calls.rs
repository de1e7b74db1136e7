//! Calls from page to page, to and from telephones, over the real API and a scripted SFU and gateway.
use crate::stage::{Stage, TRUNK};
use offhook_contract::*;
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

#[tokio::test]
async fn a_page_calls_a_telephone_with_early_media_and_keys() {
    let mut stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let call = alice.dial("030 123456").await;
    alice.join(&call).await;
    let dialled = stage.nodes.expect("dial_telephone").await;
    assert_eq!((&dialled.body["to"]["number"], &dialled.body["trunk"]), (&json!("+4930123456"), &json!("carrier")));
    assert_eq!(dialled.context.call.as_ref().unwrap().as_str(), call);
    let leg = LegId::parse(dialled.body["leg"].as_str().unwrap()).unwrap();
    stage.nodes.expect("connect_link").await;
    stage.nodes.publish("dev", &call, Event::LegRinging(event::LegProgress { leg: leg.clone() }));
    alice.state("ringing").await;
    stage.nodes.publish("dev", &call, Event::LegEarlyMedia(event::LegProgress { leg: leg.clone() }));
    alice.state("early").await;
    stage.nodes.fact(&call, Fact::LegAnswered { leg: leg.clone() }).await;
    alice.state("active").await;
    alice.ok(json!({ "op": "digits", "call": call, "digits": "42#" })).await;
    assert_eq!(stage.nodes.expect("send_digits").await.body["digits"], "42#");
    for digit in ['1', '2'] {
        let received = event::DigitReceived { leg: leg.clone(), digit, duration_ms: 100 };
        stage.nodes.publish("dev", &call, Event::DigitReceived(received));
        let heard = alice.event("a digit", |e| e["type"] == "call.digit").await;
        assert_eq!(heard["data"]["digit"], json!(digit));
    }
    stage.nodes.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None }).await;
    assert_eq!(alice.ended().await["cause"], "normal");
    let log = stage.log("alice").await;
    assert_eq!((&log[0]["direction"], &log[0]["to"]["number"]), (&json!("outbound"), &json!("+4930123456")));
}

fn route(to: &str) -> control::RouteIncoming {
    control::RouteIncoming {
        gateway: NodeId::parse("sip-1").unwrap(),
        trunk: TrunkName::parse("carrier").unwrap(),
        tenant: TenantId::parse("dev").unwrap(),
        to: PhoneNumber::try_from(to.to_owned()).unwrap(),
        from: Some(PhoneNumber::try_from("+4989777".to_owned()).unwrap()),
        from_name: Some("Caller".into()),
        sip_call_id: offhook_bus::new_message_id().to_string(),
    }
}

async fn ask(stage: &Stage, route: &control::RouteIncoming) -> control::IncomingRoute {
    let context = Context { tenant: Some(route.tenant.clone()), call: None, epoch: None };
    let patience = std::time::Duration::from_secs(5);
    stage.bus.request(offhook_bus::Target::Any, &context, route, patience).await.unwrap()
}

#[tokio::test]
async fn a_number_of_the_trunk_rings_its_user_who_answers() {
    let mut stage = Stage::new().await;
    let reject = |cause| control::IncomingRoute::Reject { cause };
    assert_eq!(ask(&stage, &route("+4930999")).await, reject(HangupCause::NotFound));
    assert_eq!(ask(&stage, &route("+4930555")).await, reject(HangupCause::Offline));
    let mut alice = stage.page("alice").await;
    let incoming = route("+4930555");
    let control::IncomingRoute::Accept { call, leg } = ask(&stage, &incoming).await else { panic!("rejected") };
    stage.nodes.expect("ring_telephone").await;
    let view = alice.ringing().await;
    assert_eq!((&view["direction"], &view["parties"][0]["name"]), (&json!("inbound"), &json!("Caller")));
    alice.ok(json!({ "op": "answer", "call": call })).await;
    alice.join(call.as_str()).await;
    stage.nodes.expect("answer_telephone").await;
    stage.nodes.expect("connect_link").await;
    alice.state("active").await;
    assert_eq!(ask(&stage, &route("+4930555")).await, reject(HangupCause::Busy));
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    let hung = stage.nodes.expect("hang_up_telephone").await;
    assert_eq!((&hung.body["leg"], &hung.body["cause"]), (&json!(leg), &json!("normal")));
    let causes: Vec<_> = stage.log("alice").await.iter().map(|c| c["cause"].clone()).collect();
    assert_eq!(causes, [json!("busy"), json!("normal"), json!("offline")], "what never rang for her is not hers");
}

#[tokio::test]
async fn what_may_not_be_dialled_is_refused_with_its_cause_and_logged() {
    let stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    for (to, cause) in
        [("+33123456789", "not_allowed"), ("112", "no_emergency_trunk"), ("199", "not_found"), ("102", "offline")]
    {
        assert_eq!(alice.refused(json!({ "op": "dial", "to": to })).await["cause"], cause, "{to}");
    }
    let causes: Vec<_> = stage.log("alice").await.iter().map(|c| c["cause"].clone()).collect();
    assert_eq!(causes, [json!("offline"), json!("not_found"), json!("no_emergency_trunk"), json!("not_allowed")]);
    alice.expect_silence().await;
}

#[tokio::test]
async fn a_page_that_closes_without_a_word_is_offline_at_once_and_its_call_waits_for_it() {
    let stage = Stage::new().await;
    let (mut alice, bob) = (stage.page("alice").await, stage.page("bob").await);
    drop(bob);
    stage.wait_for_gauge("websockets", 1).await;
    assert_eq!(alice.refused(json!({ "op": "dial", "to": "102" })).await["cause"], "offline");
    let call = alice.dial("*43").await;
    alice.join(&call).await;
    drop(alice);
    stage.wait_for_gauge("websockets", 0).await;
    let alice = stage.page("alice").await;
    assert_eq!(alice.ready["calls"][0]["id"], json!(call), "a page that was opened anew takes it up");
}

#[tokio::test]
async fn an_emergency_number_is_dialled_while_the_database_is_away() {
    let trunk = TRUNK.replace("numbers =", "emergency = true\nnumbers =");
    let mut stage = Stage::with(&trunk, crate::nodes::Script::default()).await;
    let mut alice = stage.page("alice").await;
    let database = format!("sqlite://{}", stage.data_dir().join("control.sqlite").display());
    let pool = sqlx::AnyPool::connect(&database).await.unwrap();
    sqlx::query("ALTER TABLE tenant RENAME TO away").execute(&pool).await.unwrap();
    assert_eq!(alice.refused(json!({ "op": "dial", "to": "102" })).await["code"], "unavailable");
    let call = alice.dial("112").await;
    let dialled = stage.nodes.expect("dial_telephone").await;
    assert_eq!(dialled.body["to"], json!({ "emergency": "112" }));
    alice.join(&call).await;
}
