//! The WebSocket: hello, resuming, repeated commands, and abuse.
use crate::page::{Page, connect, next};
use crate::stage::Stage;
use futures_util::SinkExt;
use offhook_control::admin::UserEdit;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Says the first frame and returns what comes back: the refusal's code, and the close code after it.
async fn first_frame(stage: &Stage, frame: Message) -> (Value, u16) {
    let mut socket = connect(stage.address, None).await.unwrap();
    socket.send(frame).await.unwrap();
    match next(&mut socket).await {
        Ok(refused) => (refused["code"].clone(), next(&mut socket).await.unwrap_err()),
        Err(code) => (Value::Null, code),
    }
}

fn hello(token: &str) -> Message {
    Message::text(json!({ "op": "hello", "token": token }).to_string())
}

#[tokio::test]
async fn foreign_origins_do_not_get_a_websocket() {
    let stage = Stage::new().await;
    let own = format!("http://{}", stage.address);
    assert!(connect(stage.address, Some(&own)).await.is_ok());
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        assert_eq!(connect(stage.address, Some(origin)).await.err(), Some(403), "{origin}");
    }
}

#[tokio::test]
async fn whoever_does_not_say_a_right_hello_is_refused_by_name() {
    let stage = Stage::new().await;
    let dev = offhook_contract::TenantId::parse("dev").unwrap();
    let key = stage.admin().await.create_api_key(&dev, "crm").await.unwrap();
    let token = stage.token("alice").await;
    let unauthorized = (json!("unauthorized"), 4401);
    assert_eq!(first_frame(&stage, hello("nonsense")).await, unauthorized);
    assert_eq!(first_frame(&stage, hello(&format!("{token}x"))).await, unauthorized);
    assert_eq!(first_frame(&stage, hello(key.expose())).await, unauthorized, "a key is nobody who could be called");
    for garbage in ["", "{", "[]", "{\"op\":\"dial\"}", "{\"op\":\"hello\"}", "{\"op\":\"hello\",\"token\":1}"] {
        assert_eq!(first_frame(&stage, Message::text(garbage)).await, (json!("invalid"), 4401), "{garbage}");
    }
    assert_eq!(first_frame(&stage, Message::binary(vec![0; 10])).await.0, Value::Null);
    stage.wait_for_gauge("sessions", 0).await;
}

#[tokio::test]
async fn a_disabled_user_is_refused_at_every_door_and_shown_out_of_the_open_one() {
    let stage = Stage::new().await;
    let tenant = stage.other_tenant().await;
    let signed_in = stage.sign_in("mallory").await;
    let token = signed_in["access_token"].as_str().unwrap();
    let mut socket = connect(stage.address, None).await.unwrap();
    socket.send(hello(token)).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap()["type"], "ready");
    let mut bob = connect(stage.address, None).await.unwrap();
    bob.send(hello(&stage.token("bob").await)).await.unwrap();
    assert_eq!(next(&mut bob).await.unwrap()["type"], "ready");
    let admin = stage.admin().await;
    let disabled = |disabled| UserEdit { disabled: Some(disabled), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", disabled(true)).await.unwrap();
    assert_eq!(stage.get(token, "/v1/me").await.0, 401);
    let refresh = json!({ "refresh_token": signed_in["refresh_token"] });
    assert_eq!(stage.post("", "/v1/refresh", refresh.clone()).await.0, 401);
    let password = json!({ "login": "mallory", "password": "mallorymallory" });
    assert_eq!(stage.post("", "/v1/sign-in", password.clone()).await.0, 401);
    assert_eq!(first_frame(&stage, hello(token)).await, (json!("unauthorized"), 4401));
    assert_eq!(next(&mut socket).await, Err(4401));
    admin.change_user(&tenant, "mallory", disabled(false)).await.unwrap();
    assert_eq!(stage.post("", "/v1/refresh", refresh).await.0, 401, "the former sign-in stays ended");
    assert_eq!(stage.post("", "/v1/sign-in", password).await.0, 200);
    let other = UserEdit { password: Some("another password".into()), ..UserEdit::default() };
    admin.change_user(&tenant, "mallory", other).await.unwrap();
    let password = json!({ "login": "mallory", "password": "another password" });
    assert_eq!(stage.post("", "/v1/sign-in", password).await.0, 200);
    // Nobody else was shown out.
    stage.wait_for_gauge("websockets", 1).await;
}

#[tokio::test]
async fn a_silent_guest_is_shown_out_after_five_seconds() {
    let stage = Stage::new().await;
    let mut socket = connect(stage.address, None).await.unwrap();
    let refused = next(&mut socket).await.unwrap();
    assert_eq!((&refused["code"], next(&mut socket).await), (&json!("hello_timeout"), Err(4401)));
}

#[tokio::test]
async fn frames_too_large_too_deep_too_many_or_unreadable_end_the_connection() {
    let stage = Stage::new().await;
    for (what, frames, close) in [
        (
            "large",
            vec![Message::text(format!("{{\"id\":1,\"op\":\"dial\",\"to\":\"{}\"}}", "1".repeat(70_000)))],
            vec![0, 1009],
        ),
        ("deep", vec![Message::text("[".repeat(1_000))], vec![4400]),
        ("unreadable", vec![Message::text("{\"op\":\"dial\"}")], vec![4400]),
        ("binary", vec![Message::binary(vec![1, 2])], vec![1003]),
        ("many", vec![Message::text("{\"id\":1,\"op\":\"answer\",\"call\":\"x\"}"); 200], vec![4429]),
    ] {
        let mut page = stage.page("alice").await;
        for frame in frames {
            let _ = page.socket.send(frame).await;
        }
        let code = loop {
            match next(&mut page.socket).await {
                Ok(_) => {}
                Err(code) => break code,
            }
        };
        assert!(close.contains(&code), "{what}: {code}");
    }
    assert!(stage.page("alice").await.ready["calls"].as_array().unwrap().is_empty(), "and the next one is welcome");
}

#[tokio::test]
async fn a_command_that_is_not_right_is_answered_and_the_connection_lives() {
    let stage = Stage::new().await;
    let mut page = stage.page("alice").await;
    for bad in [
        json!({ "op": "dial" }),
        json!({ "op": "dial", "to": 5 }),
        json!({ "op": "nonsense" }),
        json!({ "op": "answer", "call": "../x" }),
        json!({ "op": "mute", "call": "x", "muted": "yes" }),
        json!({}),
    ] {
        assert_eq!(page.refused(bad).await["code"], "invalid");
    }
    let refused = page.refused(json!({ "op": "dial", "to": "x".repeat(5_000) })).await;
    assert_eq!(refused["cause"], "not_found");
    page.dial("*43").await;
}

#[tokio::test]
async fn a_page_that_resumes_gets_what_it_missed_and_keeps_its_call() {
    let stage = Stage::new().await;
    let (mut alice, mut bob) = (stage.page("alice").await, stage.page("bob").await);
    let token = stage.token("alice").await;
    let call = alice.dial("102").await;
    alice.join(&call).await;
    let (session, last) = (alice.session(), alice.last_seq);
    drop(alice);
    stage.wait_for_gauge("websockets", 1).await;
    bob.ringing().await;
    bob.ok(json!({ "op": "answer", "call": call })).await;
    let hello = json!({ "op": "hello", "token": token, "session": session, "last_seq": last });
    let mut alice = Page::hello(stage.address, hello).await;
    assert_eq!((&alice.ready["resumed"], &alice.ready["session"]), (&json!(true), &json!(session)));
    assert_eq!(alice.ready["calls"][0]["state"], "active");
    alice.last_seq = last;
    alice.state("active").await;
    alice.join(&call).await;
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    assert_eq!(bob.ended().await["cause"], "normal");
}

#[tokio::test]
async fn a_session_belongs_to_its_user_and_has_one_connection() {
    let stage = Stage::new().await;
    let mut first = stage.page("alice").await;
    let session = first.session();
    let bob = json!({ "op": "hello", "token": stage.token("bob").await, "session": session, "last_seq": 0 });
    let thief = Page::hello(stage.address, bob).await;
    assert_eq!(thief.ready["resumed"], false);
    assert_ne!(thief.session(), session);
    let again = json!({ "op": "hello", "token": stage.token("alice").await, "session": session, "last_seq": 0 });
    // The first page lives (it answers pings while it is read): the second one is a page of its own.
    let (second, kept) = tokio::join!(Page::hello(stage.address, again.clone()), first.expect_silence_for_a_ping());
    assert_ne!(second.session(), session);
    assert!(kept, "nobody took the first page's place");
    // The first one is stuck now and answers nothing: whoever has its session takes its place.
    let third = Page::hello(stage.address, again).await;
    assert_eq!(third.session(), session);
    assert_eq!(next(&mut first.socket).await, Err(4409), "the former connection is closed");
    stage.wait_for_gauge("websockets", 3).await;
}

#[tokio::test]
async fn a_repeated_command_id_is_answered_alike_and_done_once() {
    let stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    let dial = json!({ "id": 900, "op": "dial", "to": "*43" });
    alice.send(dial.clone()).await;
    let first = alice.reply(900).await;
    alice.send(dial.clone()).await;
    assert_eq!(alice.reply(900).await, first);
    assert_eq!(stage.gauge("calls"), 1);
    let (session, last) = (alice.session(), alice.last_seq);
    drop(alice);
    stage.wait_for_gauge("websockets", 0).await;
    let token = stage.token("alice").await;
    let hello = json!({ "op": "hello", "token": token, "session": session, "last_seq": last });
    let mut alice = Page::hello(stage.address, hello).await;
    let call = alice.ready["calls"][0]["id"].clone();
    alice.send(json!({ "id": 900, "op": "hangup", "call": call })).await;
    let reply = alice.reply(900).await;
    assert_eq!(reply["ok"]["call"]["state"], "ended", "a reloaded page counts its commands anew");
}

#[tokio::test]
async fn a_fresh_token_is_taken_on_the_open_socket_and_a_strangers_ends_it() {
    let stage = Stage::new().await;
    let mut alice = stage.page("alice").await;
    alice.ok(json!({ "op": "token", "token": stage.token("alice").await })).await;
    let bob = stage.token("bob").await;
    alice.send(json!({ "id": 77, "op": "token", "token": bob })).await;
    assert_eq!(next(&mut alice.socket).await, Err(4401));
}

#[tokio::test]
async fn a_user_has_only_so_many_pages() {
    let stage = Stage::new().await;
    let token = stage.token("alice").await;
    let mut pages = Vec::new();
    for _ in 0..16 {
        pages.push(Page::open(stage.address, &token).await);
    }
    assert_eq!(first_frame(&stage, hello(&token)).await, (json!("limit_reached"), 4401));
    stage.page("bob").await;
}
