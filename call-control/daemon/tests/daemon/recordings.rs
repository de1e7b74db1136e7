//! Recordings from the button to the file, streamed through from the recorder.
use crate::nodes::{FILES, Script};
use crate::stage::{Stage, TRUNK, Talk};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use offhook_contract::fact::{ConsentKind, FileRow, SegmentRow, TapCloseReason};
use offhook_contract::{ErrorCode, Fact, RecordingId, UnixMs};
use serde_json::json;

const AUDIO: &[u8] = b"fLaC not really, but bytes enough for ranges";

/// The recorder's private listener: one file, with ranges.
async fn serve_files() {
    let file = async |headers: HeaderMap| {
        let range = headers.get(header::RANGE).and_then(|r| r.to_str().ok()).and_then(|r| r.strip_prefix("bytes="));
        let range = range.and_then(|r| r.split_once('-'));
        match range.map(|(from, to)| (from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap_or(AUDIO.len() - 1))) {
            Some((from, _)) if from >= AUDIO.len() => StatusCode::RANGE_NOT_SATISFIABLE.into_response(),
            Some((from, to)) => {
                let named = [("content-range", format!("bytes {from}-{to}/{}", AUDIO.len()))];
                (StatusCode::PARTIAL_CONTENT, named, AUDIO[from..=to].to_vec()).into_response()
            }
            None => ([("x-internal", "secret")], AUDIO.to_vec()).into_response(),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    *FILES.lock().unwrap() = format!("http://{}/files/token", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(file)).await.unwrap() });
}

/// alice and bob talked and were recorded; the call has ended and the recording is finished.
pub async fn a_recorded_call(stage: &mut Stage) -> (String, String) {
    let Talk { mut alice, mut bob, call, caller } = stage.talking().await;
    bob.ok(json!({ "op": "record", "call": call, "on": true })).await;
    let start = stage.nodes.expect("start_recording").await;
    assert_eq!(start.body["caller_legs"], json!([caller]), "the caller goes left");
    let recording = start.body["recording"].as_str().unwrap().to_owned();
    let id = RecordingId::parse(&recording).unwrap();
    stage.nodes.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 }).await;
    alice.event("recording", |e| e["data"]["recording"]["state"] == "recording").await;
    let played_ms = UnixMs(1_900_000_000_000);
    let notice = Fact::ConsentPlayed { recording: id.clone(), segment: 1, kind: ConsentKind::Notice, played_ms };
    stage.nodes.fact(&call, notice).await;
    alice.ok(json!({ "op": "hangup", "call": call })).await;
    stage.nodes.expect("stop_recording").await;
    let finished = Fact::RecordingFinished {
        recording: id,
        files: vec![FileRow { name: "audio.flac".into(), bytes: AUDIO.len() as u64, sha256: "ab".repeat(32) }],
        segments: vec![SegmentRow { segment: 1, started_ms: UnixMs(1), ended_ms: UnixMs(2_000), gap_ms: 0 }],
        duration_ms: 2_000,
    };
    stage.nodes.fact(&call, finished).await;
    (call, recording)
}

#[tokio::test]
async fn a_recording_stands_in_the_history_and_is_heard_in_ranges_by_its_parties() {
    serve_files().await;
    let mut stage = Stage::new().await;
    let (call, recording) = a_recorded_call(&mut stage).await;
    let token = stage.token("bob").await;
    let (_, row) = stage.get(&token, &format!("/v1/calls/{call}")).await;
    let shown = &row["recordings"][0];
    assert_eq!(
        (&shown["id"], &shown["state"], &shown["duration_ms"]),
        (&json!(recording), &json!("stopped"), &json!(2_000))
    );
    assert_eq!(shown["consent"][0], json!({ "kind": "notice", "played_ms": 1_900_000_000_000_u64, "segment": 1 }));
    assert_eq!(shown["segments"][0], json!({ "segment": 1, "started_ms": 1, "ended_ms": 2_000, "gap_ms": 0 }));
    assert_eq!(shown["files"][0]["name"], "audio.flac");
    let kinds: Vec<&str> = row["events"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    for kind in
        ["dialled", "answered", "recording_asked", "segment_started", "consent_played", "ended", "recording_finished"]
    {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    let url = stage.url(&format!("/v1/recordings/{recording}/audio"));
    let whole = stage.http.get(&url).bearer_auth(&token).send().await.unwrap();
    assert_eq!((whole.status().as_u16(), whole.headers()["content-type"].to_str().unwrap()), (200, "audio/flac"));
    assert!(whole.headers().get("x-internal").is_none(), "only what a player needs is passed on");
    assert_eq!(whole.bytes().await.unwrap(), AUDIO);
    let part = stage.http.get(&url).bearer_auth(&token).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!(part.status().as_u16(), 206);
    assert_eq!(part.headers()["content-range"].to_str().unwrap(), format!("bytes 5-9/{}", AUDIO.len()));
    assert_eq!(part.bytes().await.unwrap(), AUDIO[5..=9]);
    let beyond = stage.http.get(&url).bearer_auth(&token).header("range", "bytes=9999-").send().await.unwrap();
    assert_eq!(beyond.status().as_u16(), 416);
    let store =
        offhook_control::store::Store::open(&offhook_contract::Secret::default(), stage.data_dir()).await.unwrap();
    let lines = store.audit_lines(&offhook_contract::TenantId::parse("dev").unwrap()).await.unwrap();
    let listened = lines.iter().filter(|l| l.0 == "listen_to_recording" && l.1 == recording).count();
    assert_eq!(listened, 1, "an access, not each of its ranges");
}

#[tokio::test]
async fn the_story_of_a_long_call_is_told_page_by_page_to_its_end() {
    use offhook_contract::{TenantId, UnixMs};
    use offhook_control::store::{Batch, Store};
    let mut stage = Stage::new().await;
    let (call, _) = a_recorded_call(&mut stage).await;
    let token = stage.token("bob").await;
    let (_, row) = stage.get(&token, &format!("/v1/calls/{call}")).await;
    let short = row["events"].as_array().unwrap().len();
    assert!(row.get("events_next").is_none(), "these are all");
    let store = Store::open(&offhook_contract::Secret::default(), stage.data_dir()).await.unwrap();
    let line = |n: u64| offhook_control_core::CallEventRow {
        tenant: TenantId::parse("dev").unwrap(),
        call: offhook_contract::CallId::parse(call.as_str()).unwrap(),
        id: format!("beep:{n}"),
        at: UnixMs(4_000_000_000_000 + n / 3),
        kind: "announcement_received",
        leg: None,
        data: json!({}),
    };
    let writes = (0..2_160).map(|n| offhook_control_core::Write::Event(line(n))).collect();
    store.commit(&[Batch { writes, fact: None }]).await.unwrap();
    let (_, row) = stage.get(&token, &format!("/v1/calls/{call}")).await;
    let mut told = row["events"].as_array().unwrap().len();
    assert_eq!(told, 2_000);
    let mut next = row["events_next"].as_str().map(str::to_owned);
    while let Some(after) = next {
        let (status, page) = stage.get(&token, &format!("/v1/calls/{call}/events?limit=100&after={after}")).await;
        assert_eq!(status, 200);
        told += page["data"].as_array().unwrap().len();
        next = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(told, short + 2_160);
    for query in ["limit=0", "limit=2001", "after=yesterday"] {
        assert_eq!(stage.get(&token, &format!("/v1/calls/{call}/events?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(stage.get(&token, "/v1/calls/nobodys/events").await.0, 404);
}

#[tokio::test]
async fn a_browsers_player_hears_it_by_a_ticket_for_this_recording_alone() {
    serve_files().await;
    let mut stage = Stage::new().await;
    let (call, recording) = a_recorded_call(&mut stage).await;
    let token = stage.token("bob").await;
    let asked = stage.http.post(stage.url(&format!("/v1/recordings/{recording}/ticket"))).bearer_auth(&token);
    let ticket: serde_json::Value = asked.send().await.unwrap().json().await.unwrap();
    assert_eq!(ticket["expires_in_s"], 600);
    let address = stage.url(ticket["url"].as_str().unwrap());
    let part = stage.http.get(&address).header("range", "bytes=5-9").send().await.unwrap();
    assert_eq!((part.status().as_u16(), part.bytes().await.unwrap().as_ref()), (206, &AUDIO[5..=9]));
    // It is no token, opens nothing else, and none is given to who may not listen.
    let words = address.split_once("ticket=").unwrap().1.to_owned();
    let status = async |request: reqwest::RequestBuilder| request.send().await.unwrap().status().as_u16();
    let refused = [
        stage.http.get(stage.url("/v1/calls")).bearer_auth(&words),
        stage.http.get(stage.url(&format!("/v1/recordings/{recording}/manifest?ticket={words}"))),
        stage.http.get(stage.url(&format!("/v1/recordings/{}/audio?ticket={words}", call))),
        stage.http.get(stage.url(&format!("/v1/recordings/{recording}/audio?ticket={words}x"))),
        stage.http.get(stage.url(&format!("/v1/recordings/{recording}/audio?ticket="))).bearer_auth("e30.e30.e30"),
        stage.http.post(stage.url(&format!("/v1/recordings/{recording}/ticket"))),
    ];
    for request in refused {
        assert_eq!(status(request).await, 401);
    }
}

#[tokio::test]
async fn a_failing_announcer_is_said_to_the_page_and_stands_in_the_history() {
    let mut stage = Stage::new().await;
    let Talk { mut alice, mut bob, call, .. } = stage.talking().await;
    alice.ok(json!({ "op": "record", "call": call, "on": true })).await;
    let start = stage.nodes.expect("start_recording").await;
    let recording = RecordingId::parse(start.body["recording"].as_str().unwrap()).unwrap();
    stage.nodes.fact(&call, Fact::TapClosed { recording, reason: TapCloseReason::AnnouncerFailed }).await;
    let view = alice.event("failed", |e| e["data"]["recording"]["state"] == "failed").await;
    assert!(view["data"]["recording"]["reason"].as_str().unwrap().contains("could not be played"));
    assert_eq!(view["data"]["recording"]["reason_code"], "announcer_failed");
    bob.ok(json!({ "op": "hangup", "call": call })).await;
    let log = stage.log("alice").await;
    assert_eq!((&log[0]["cause"], &log[0]["recordings"][0]["state"]), (&json!("normal"), &json!("failed")));
    assert_eq!(log[0]["recordings"][0]["reason_code"], "announcer_failed");
}

#[tokio::test]
async fn a_refused_notice_is_said_in_words() {
    let script = Script::refusing("open_tap", ErrorCode::Refused, "bob cannot hear the notice");
    let stage = Stage::with(TRUNK, script).await;
    let Talk { mut alice, call, .. } = stage.talking().await;
    alice.ok(json!({ "op": "record", "call": call, "on": true })).await;
    let view = alice.event("failed", |e| e["data"]["recording"]["state"] == "failed").await;
    assert_eq!(view["data"]["recording"]["reason"], "bob cannot hear the notice");
    assert_eq!(view["data"]["recording"]["reason_code"], json!(null), "the SFU's words are all there is");
}
