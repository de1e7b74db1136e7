//! The database, on SQLite and on PostgreSQL: the same SQL, the same answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod postgres;

use offhook_contract::fact::{ConsentKind, FileRow, SegmentRow};
use offhook_contract::*;
use offhook_control::store::*;
use offhook_control_core::*;
use postgres::Postgres;

struct Engines {
    stores: Vec<(&'static str, Store)>,
    _postgres: Postgres,
    _dir: tempfile::TempDir,
}

async fn engines() -> Engines {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Store::open(&Secret::default(), dir.path()).await.unwrap();
    let server = Postgres::start();
    let postgres = Store::open(&Secret::new(server.url()), dir.path()).await.unwrap();
    // A second opening finds everything up to date.
    Store::open(&Secret::new(server.url()), dir.path()).await.unwrap().close().await;
    Engines { stores: vec![("SQLite", sqlite), ("PostgreSQL", postgres)], _postgres: server, _dir: dir }
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}
fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

async fn two_tenants(store: &Store) {
    for name in ["a", "b"] {
        let row = TenantRow { id: tenant(name), name: name.to_uppercase(), recording: RecordingMode::OnDemand };
        store.add_tenant(&row, UnixMs(1)).await.unwrap();
        let user = NewUser {
            id: UserId::new("u1"),
            login: format!("alice@{name}"),
            name: "Alice".into(),
            extension: "101".into(),
            password_hash: None,
            admin: false,
            created: UnixMs(2),
        };
        store.add_user(&tenant(name), &user).await.unwrap();
    }
}

fn call(tenant_name: &str, name: &str, started: u64) -> CallRow {
    CallRow {
        tenant: tenant(tenant_name),
        id: id(name),
        direction: Direction::Outbound,
        state: CallWord::Active,
        caller: Some(UserId::new("u1")),
        callee: None,
        from_name: "Alice".into(),
        from_number: Some("101".into()),
        to_name: String::new(),
        to_number: Some("+4930123".into()),
        recording_mode: RecordingMode::OnDemand,
        started: UnixMs(started),
        answered: Some(UnixMs(started + 5_000)),
        ended: None,
        cause: None,
        ended_by: None,
        sfu: Some(id("sfu-1")),
    }
}

fn leg(tenant_name: &str, call: &str, name: &str) -> LegRow {
    LegRow {
        tenant: tenant(tenant_name),
        call: id(call),
        id: id(name),
        position: 1,
        kind: PartyKind::Telephone,
        state: LegWord::Held,
        user: None,
        session: None,
        name: "'; DROP TABLE leg; --".into(),
        number: Some("+4930123".into()),
        node: Some(id("sip-1")),
        trunk: Some(id("carrier")),
        sip_call_id: Some("x@y".into()),
        muted: true,
        held_by: Some(id("l0")),
        started: UnixMs(1),
        answered: Some(UnixMs(2)),
        ended: None,
        cause: None,
    }
}

fn batch(writes: Vec<Write>) -> Batch {
    Batch { writes, fact: None }
}

fn recording_write(name: &str, outcome: RecordingOutcome) -> Write {
    Write::Recording { tenant: tenant("a"), call: id("c1"), recording: id(name), at: UnixMs(7_000), outcome }
}

#[tokio::test]
async fn both_engines_keep_calls_facts_recordings_people_and_tokens_alike() {
    let engines = engines().await;
    for (engine, store) in &engines.stores {
        eprintln!("on {engine}");
        store.ping().await.unwrap();
        two_tenants(store).await;
        people(store).await;
        running_calls_come_back_whole(store).await;
        a_fact_counts_once(store).await;
        what_a_recorder_tells_again_under_a_new_number_counts_once(store).await;
        a_long_story_is_read_to_its_end(store).await;
        recordings_only_move_forward(store).await;
        the_log_is_paged_and_private(store).await;
        refresh_tokens_rotate(store).await;
        idempotency_keys(store).await;
        refused_statements_are_told_from_an_absent_database(store).await;
        retention(store).await;
    }
}

async fn people(store: &Store) {
    let row = TenantRow { id: tenant("a"), name: "again".into(), recording: RecordingMode::Off };
    assert!(matches!(store.add_tenant(&row, UnixMs(1)).await, Err(StoreError::Exists(_))));
    assert_eq!(store.tenants().await.unwrap().len(), 2);
    let (a, b) = (tenant("a"), tenant("b"));
    let alice = store.user_by_login("alice@a").await.unwrap().unwrap();
    assert_eq!((alice.tenant.clone(), alice.extension.as_str(), alice.admin), (a.clone(), "101", false));
    assert_eq!(store.user_by_extension(&b, "101").await.unwrap().unwrap().login, "alice@b");
    assert_eq!(store.user_by_extension(&b, "102").await.unwrap(), None);
    let twin = NewUser {
        id: UserId::new("u2"),
        login: "alice@b".into(),
        name: "x".into(),
        extension: "102".into(),
        password_hash: None,
        admin: false,
        created: UnixMs(1),
    };
    assert!(matches!(store.add_user(&a, &twin).await, Err(StoreError::Exists(_))), "logins are unique among all");
    assert!(matches!(store.add_user(&tenant("none"), &twin).await, Err(StoreError::Missing("tenant"))));
    let number = PhoneNumber::try_from("+4930555".to_owned()).unwrap();
    let new = NewNumber {
        number: number.clone(),
        user: alice.id.clone(),
        recording: NumberRecording::Set(RecordingMode::Off),
        created: UnixMs(3),
    };
    for (said, kept) in [
        (NumberRecording::Keep, None),
        (NumberRecording::Set(RecordingMode::OnAnswer), Some(RecordingMode::OnAnswer)),
        (NumberRecording::Set(RecordingMode::Off), Some(RecordingMode::Off)),
        (NumberRecording::Keep, Some(RecordingMode::Off)),
        (NumberRecording::Inherit, None),
        (NumberRecording::Set(RecordingMode::OnAnswer), Some(RecordingMode::OnAnswer)),
    ] {
        store.put_number(&a, &NewNumber { recording: said, ..new.clone() }).await.unwrap();
        assert_eq!(store.number(&a, &number).await.unwrap().unwrap().recording, kept, "after {said:?}");
    }
    assert_eq!(store.number(&b, &number).await.unwrap(), None, "another tenant's number");
    assert_eq!(store.numbers(&a).await.unwrap().len(), 1);
    store.set_recording_mode(&a, RecordingMode::Off).await.unwrap();
    assert_eq!(store.tenant(&a).await.unwrap().unwrap().recording, RecordingMode::Off);
    assert_eq!(store.tenant(&b).await.unwrap().unwrap().recording, RecordingMode::OnDemand);
    let key = ApiKeyRow { tenant: a.clone(), id: "k".into(), name: "crm".into() };
    store.add_api_key(&key, "ohk_abc", "hash-of-key", UnixMs(1)).await.unwrap();
    assert_eq!(store.api_key_by_hash("hash-of-key").await.unwrap(), Some(key));
    assert_eq!(store.api_key_by_hash("other").await.unwrap(), None);
    let listed = store.api_keys(&a).await.unwrap();
    assert_eq!((listed.len(), listed[0].id.as_str(), listed[0].prefix.as_str()), (1, "k", "ohk_abc"));
    assert!(store.api_keys(&b).await.unwrap().is_empty());
    assert!(matches!(store.revoke_api_key(&b, "k", UnixMs(2)).await, Err(StoreError::Missing(_))), "another tenant's");
    store.revoke_api_key(&a, "k", UnixMs(2)).await.unwrap();
    assert!(matches!(store.revoke_api_key(&a, "k", UnixMs(3)).await, Err(StoreError::Missing(_))));
    assert_eq!(store.api_key_by_hash("hash-of-key").await.unwrap(), None);
    assert!(store.api_keys(&a).await.unwrap().is_empty());
    let line = AuditRow {
        id: "1".into(),
        at: UnixMs(1),
        actor: "user:u1".into(),
        action: "sign_in",
        object: "x".into(),
        result: "ok",
        source: "::1".into(),
    };
    store.audit(&a, &line).await.unwrap();
    assert_eq!((store.audit_lines(&a).await.unwrap().len(), store.audit_lines(&b).await.unwrap().len()), (1, 0));
}

async fn running_calls_come_back_whole(store: &Store) {
    let (row, legs) = (call("a", "c1", 1_000), leg("a", "c1", "l1"));
    let writes = vec![Write::Call(Box::new(row.clone())), Write::Leg(Box::new(legs.clone()))];
    store.commit(&[batch(writes.clone()), batch(writes)]).await.unwrap();
    let asked = RecordingOutcome::Asked { recorder: Some(id("recorder-1")) };
    store.commit(&[batch(vec![recording_write("r1", asked)])]).await.unwrap();
    let running = store.running_calls().await.unwrap();
    let recording = Some((id("r1"), RecordingWord::Starting, Some(id("recorder-1"))));
    assert_eq!(running, [StoredCall { call: row.clone(), legs: vec![legs], recording }]);
    let ended = CallRow {
        state: CallWord::Ended,
        ended: Some(UnixMs(100_000)),
        cause: Some(HangupCause::Normal),
        ended_by: Some(id("l1")),
        sfu: None,
        ..row
    };
    store.commit(&[batch(vec![Write::Call(Box::new(ended.clone()))])]).await.unwrap();
    assert!(store.running_calls().await.unwrap().is_empty());
    assert_eq!(store.call(&tenant("a"), None, &id("c1")).await.unwrap(), Some(ended));
    assert_eq!(store.minutes_since(UnixMs(0)).await.unwrap(), [(tenant("a"), 2)]);
    assert!(store.minutes_since(UnixMs(200_000)).await.unwrap().is_empty());
}

async fn a_fact_counts_once(store: &Store) {
    let record = FactRecord {
        producer: "outbox".into(),
        sequence: 7,
        tenant: tenant("a"),
        call: id("c1"),
        at_ms: UnixMs(5),
        fact: Fact::LegAnswered { leg: id("l1") },
    };
    assert!(!store.has_fact(&record).await.unwrap());
    let line = CallEventRow {
        tenant: tenant("a"),
        call: id("c1"),
        id: "outbox:7".into(),
        at: UnixMs(5),
        kind: "leg_answered",
        leg: Some(id("l1")),
        data: serde_json::json!({ "n": 1 }),
    };
    let fact = Some(InboxFact { record: record.clone(), stored: UnixMs(6) });
    let batch = Batch { writes: vec![Write::Event(line)], fact };
    store.commit(std::slice::from_ref(&batch)).await.unwrap();
    store.commit(&[batch]).await.unwrap();
    assert!(store.has_fact(&record).await.unwrap());
    let events = story(store, "a", "c1").await;
    assert_eq!(
        (events.len(), events[0].kind.as_str(), &events[0].data["n"]),
        (1, "leg_answered", &serde_json::json!(1))
    );
    assert!(story(store, "b", "c1").await.is_empty());
}

/// All of a call's events, read in pages.
async fn story(store: &Store, owner: &str, call: &str) -> Vec<StoredEvent> {
    let (mut events, mut after) = (Vec::new(), None);
    loop {
        let page = store.call_events(&tenant(owner), &id(call), 700, after.as_ref()).await.unwrap();
        assert!(page.events.len() <= 700);
        events.extend(page.events);
        after = page.next;
        if after.is_none() {
            return events;
        }
    }
}

/// Three hours of beeps to two browsers.
async fn a_long_story_is_read_to_its_end(store: &Store) {
    let line = |n: u64, kind: &'static str| CallEventRow {
        tenant: tenant("a"),
        call: id("c3"),
        id: format!("r1:received:l{}:beep:{}", n % 3, n / 3),
        at: UnixMs(10_000 + n / 3 * 15_000),
        kind,
        leg: None,
        data: serde_json::json!({}),
    };
    let mut writes: Vec<_> = (0..2_160).map(|n| Write::Event(line(n, "announcement_received"))).collect();
    writes.push(Write::Event(line(2_163, "ended")));
    store.commit(&[Batch { writes, fact: None }]).await.unwrap();
    let events = story(store, "a", "c3").await;
    assert_eq!((events.len(), events[2_160].kind.as_str()), (2_161, "ended"));
    assert!(events.is_sorted_by_key(|event| (event.at, event.id.clone())));
    let first = store.call_events(&tenant("a"), &id("c3"), 2_000, None).await.unwrap();
    let cursor = first.next.expect("there is more");
    assert_eq!(EventCursor::parse(&cursor.to_string()), Some(cursor));
}

/// As the switchboard has it written.
fn writes_of(sequence: u64, fact: Fact) -> Batch {
    let now = Now { at: std::time::Duration::from_secs(1), wall: UnixMs(9_000) };
    let mut board = Switchboard::new(Policy::default(), IdMaker::seeded([1, 2]), now);
    let at_ms = UnixMs(8_000 + sequence * 86_400_000);
    let record = FactRecord { producer: "outbox".into(), sequence, tenant: tenant("a"), call: id("c2"), at_ms, fact };
    board.handle_input(now, Input::Fact(record.clone()));
    let mut writes = Vec::new();
    while let Some(output) = board.poll_output() {
        if let Output::Write(write) = output {
            writes.push(write);
        }
    }
    Batch { writes, fact: Some(InboxFact { record, stored: now.wall }) }
}

async fn what_a_recorder_tells_again_under_a_new_number_counts_once(store: &Store) {
    let file = FileRow { name: "dual.flac".into(), bytes: 1, sha256: "ab".into() };
    let row = SegmentRow { segment: 1, started_ms: UnixMs(8_000), ended_ms: UnixMs(9_000), gap_ms: 0 };
    let started = Fact::SegmentStarted { recording: id("r9"), segment: 1 };
    let finished =
        Fact::RecordingFinished { recording: id("r9"), files: vec![file], segments: vec![row], duration_ms: 1_000 };
    for (sequence, fact) in [(101, &started), (102, &finished), (103, &started), (104, &finished)] {
        store.commit(&[writes_of(sequence, fact.clone())]).await.unwrap();
    }
    let kinds: Vec<String> = story(store, "a", "c2").await.into_iter().map(|e| e.kind).collect();
    assert_eq!(kinds, ["segment_started", "recording_finished"]);
    let read = store.recording(&tenant("a"), &id("r9")).await.unwrap().unwrap();
    assert_eq!((read.state, read.segments.len(), read.files.len()), (RecordingWord::Stopped, 1, 1));
    assert_eq!(read.started, Some(UnixMs(8_000 + 101 * 86_400_000)));
}

async fn recordings_only_move_forward(store: &Store) {
    let state = |state, reason: Option<&str>| RecordingOutcome::State { state, reason: reason.map(Reason::from) };
    let consent = ConsentRow {
        tenant: tenant("a"),
        call: id("c1"),
        recording: id("r1"),
        segment: Some(1),
        kind: ConsentKind::Beep,
        played: UnixMs(8_000),
        status: ConsentStatus::Played,
        leg: None,
    };
    let received = ConsentRow { status: ConsentStatus::Received, leg: Some(id("l1")), ..consent.clone() };
    let finished = RecordingOutcome::Finished {
        files: vec![FileRow { name: "audio.flac".into(), bytes: 10, sha256: "ab".into() }],
        segments: vec![SegmentRow { segment: 1, started_ms: UnixMs(7_100), ended_ms: UnixMs(9_000), gap_ms: 0 }],
        duration_ms: 1_900,
    };
    let story = vec![
        recording_write("r1", RecordingOutcome::Segment { segment: 1 }),
        recording_write("r1", RecordingOutcome::Segment { segment: 1 }),
        Write::Consent(consent.clone()),
        Write::Consent(consent),
        Write::Consent(received),
        recording_write("r1", state(RecordingWord::Stopping, None)),
        recording_write("r1", finished.clone()),
        recording_write("r1", state(RecordingWord::Recording, None)),
    ];
    store.commit(&[batch(story)]).await.unwrap();
    let read = store.recording(&tenant("a"), &id("r1")).await.unwrap().unwrap();
    assert_eq!(
        (read.state, read.started, read.duration_ms),
        (RecordingWord::Stopped, Some(UnixMs(7_000)), Some(1_900))
    );
    assert_eq!((read.files.len(), read.consent.len(), read.segments.len()), (1, 1, 1));
    assert_eq!((read.segments[0].started, read.segments[0].ended), (UnixMs(7_100), Some(UnixMs(9_000))));
    assert_eq!(store.recording(&tenant("b"), &id("r1")).await.unwrap(), None);
    let trouble = RecordingTrouble::AnnouncerFailed;
    let unannounced = RecordingOutcome::State { state: RecordingWord::Failed, reason: Some(trouble.into()) };
    let failing = vec![
        recording_write("r2", unannounced),
        recording_write("r2", finished.clone()),
        recording_write("r2", state(RecordingWord::Failed, Some("something else"))),
    ];
    store.commit(&[batch(failing)]).await.unwrap();
    let read = store.recording(&tenant("a"), &id("r2")).await.unwrap().unwrap();
    assert_eq!((read.state, read.files.len()), (RecordingWord::Failed, 1));
    assert_eq!(read.reason_code.as_deref(), Some(trouble.as_str()));
    let retried = vec![
        recording_write("r3", RecordingOutcome::Segment { segment: 1 }),
        recording_write("r3", state(RecordingWord::Failed, Some("the disk is full"))),
        recording_write("r3", finished),
    ];
    store.commit(&[batch(retried)]).await.unwrap();
    let read = store.recording(&tenant("a"), &id("r3")).await.unwrap().unwrap();
    assert_eq!((read.state, read.reason, read.files.len()), (RecordingWord::Stopped, None, 1), "made at a later start");
    assert_eq!(store.recordings_of(&tenant("a"), &id("c1")).await.unwrap().len(), 3);
}

async fn the_log_is_paged_and_private(store: &Store) {
    let more = (0..5).map(|n| call("a", &format!("p{n}"), 10_000 + n / 2));
    let foreign = [call("b", "p0", 10_000), CallRow { caller: Some(UserId::new("u9")), ..call("a", "p9", 20_000) }];
    let writes = more.chain(foreign).map(|c| Write::Call(Box::new(c))).collect();
    store.commit(&[batch(writes)]).await.unwrap();
    let (a, user) = (tenant("a"), UserId::new("u1"));
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = store.calls(&a, Some(&user), 2, after.as_ref()).await.unwrap();
        seen.extend(page.calls.iter().map(|c| c.id.as_str().to_owned()));
        match page.next {
            Some(next) => after = Some(Cursor::parse(&next.to_string()).unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, ["p4", "p3", "p2", "p1", "p0", "c1"]);
    assert_eq!(store.calls(&a, None, 100, None).await.unwrap().calls.len(), 7, "a key sees all of its tenant");
    assert_eq!(store.calls(&tenant("b"), None, 100, None).await.unwrap().calls.len(), 1);
    assert_eq!(store.call(&a, Some(&user), &id("p9")).await.unwrap(), None, "another user's call");
    assert_eq!(store.call(&tenant("b"), None, &id("c1")).await.unwrap(), None, "another tenant's call");
    assert!(Cursor::parse("x").is_none() && Cursor::parse("1.../").is_none());
}

async fn refresh_tokens_rotate(store: &Store) {
    let (a, user) = (tenant("a"), UserId::new("u1"));
    store.add_refresh_token(&a, &user, "h1", "f", UnixMs(0), UnixMs(1_000_000)).await.unwrap();
    let fresh = RefreshUse::Fresh { tenant: a.clone(), user: user.clone(), family: "f".into() };
    assert_eq!(store.use_refresh_token("h1", UnixMs(10), 20).await.unwrap(), fresh);
    store.add_refresh_token(&a, &user, "h2", "f", UnixMs(10), UnixMs(1_000_000)).await.unwrap();
    assert_eq!(store.use_refresh_token("h1", UnixMs(20), 20).await.unwrap(), fresh, "two pages at one moment");
    assert_eq!(store.use_refresh_token("h1", UnixMs(100), 20).await.unwrap(), RefreshUse::Reused);
    assert_eq!(
        store.use_refresh_token("h2", UnixMs(101), 20).await.unwrap(),
        RefreshUse::Unknown,
        "its family is dead"
    );
    store.add_refresh_token(&a, &user, "h3", "g", UnixMs(0), UnixMs(50)).await.unwrap();
    assert_eq!(store.use_refresh_token("h3", UnixMs(51), 20).await.unwrap(), RefreshUse::Unknown, "expired");
    store.add_refresh_token(&a, &user, "h4", "h", UnixMs(0), UnixMs(1_000)).await.unwrap();
    store.revoke_refresh_family(&tenant("b"), "h4", UnixMs(1)).await.unwrap();
    store.revoke_refresh_family(&a, "h4", UnixMs(1)).await.unwrap();
    assert_eq!(store.use_refresh_token("h4", UnixMs(2), 20).await.unwrap(), RefreshUse::Unknown, "signed out");
}

async fn idempotency_keys(store: &Store) {
    let a = tenant("a");
    let claim = async |actor: &str, body: &str| store.claim_key(&a, actor, "k", body, UnixMs(1)).await.unwrap();
    assert_eq!(claim("x", "body").await, Claimed::New);
    assert_eq!(claim("x", "body").await, Claimed::InProgress);
    assert_eq!(claim("x", "other").await, Claimed::OtherBody);
    assert_eq!(claim("y", "other").await, Claimed::New, "another actor's key");
    store.finish_key(&a, "x", "k", 201, "{}").await.unwrap();
    assert_eq!(claim("x", "body").await, Claimed::Done { status: 201, response: "{}".into() });
}

async fn refused_statements_are_told_from_an_absent_database(store: &Store) {
    let nobody = store.add_refresh_token(&tenant("none"), &UserId::new("u"), "h9", "f", UnixMs(0), UnixMs(1)).await;
    assert!(!nobody.unwrap_err().is_transient(), "a foreign key");
}

async fn retention(store: &Store) {
    let ended = |mut row: CallRow| {
        (row.ended, row.state) = (Some(UnixMs(row.started.0 + 1)), CallWord::Ended);
        row
    };
    store.commit(&[batch(vec![Write::Call(Box::new(ended(call("a", "p0", 10_000))))])]).await.unwrap();
    store.purge(UnixMs(40 * 86_400_000)).await.unwrap();
    assert!(store.call(&tenant("a"), None, &id("p0")).await.unwrap().is_some(), "kept for ever unless told otherwise");
    assert_eq!(store.claim_key(&tenant("a"), "x", "k", "other", UnixMs(1)).await.unwrap(), Claimed::New);
    what_is_recorded_outlives_the_retention_of_its_call(store).await;
}

async fn what_is_recorded_outlives_the_retention_of_its_call(store: &Store) {
    let a = tenant("a");
    store.set_call_retention(&a, Some(30)).await.unwrap();
    let recorded = |call: &str, recording: &str, outcome| {
        let (tenant, call) = (tenant("a"), id(call));
        Write::Recording { tenant, call, recording: id(recording), at: UnixMs(7_000), outcome }
    };
    let file = FileRow { name: "dual.flac".into(), bytes: 10, sha256: "ab".into() };
    let finished = RecordingOutcome::Finished { files: vec![file], segments: Vec::new(), duration_ms: 1 };
    let trouble = Some(RecordingTrouble::RecorderGone.into());
    let failed = RecordingOutcome::State { state: RecordingWord::Failed, reason: trouble };
    let consent = |call: &str, recording: &str| {
        Write::Consent(ConsentRow {
            tenant: tenant("a"),
            call: id(call),
            recording: id(recording),
            segment: Some(1),
            kind: ConsentKind::Notice,
            played: UnixMs(7_500),
            status: ConsentStatus::Played,
            leg: None,
        })
    };
    let ended = |name: &str| {
        let mut row = call("a", name, 10_000);
        (row.ended, row.state) = (Some(UnixMs(11_000)), CallWord::Ended);
        Write::Call(Box::new(row))
    };
    let story = vec![
        ended("k1"),
        recorded("k1", "rk1", RecordingOutcome::Segment { segment: 1 }),
        consent("k1", "rk1"),
        recorded("k1", "rk1", finished),
        ended("k2"),
        recorded("k2", "rk2", RecordingOutcome::Segment { segment: 1 }),
        ended("k3"),
        recorded("k3", "rk3", RecordingOutcome::Segment { segment: 1 }),
        consent("k3", "rk3"),
        recorded("k3", "rk3", failed.clone()),
        ended("k4"),
        ended("k5"),
        recorded("k5", "rk5", failed),
    ];
    store.commit(&[batch(story)]).await.unwrap();
    let shown = store.recording(&a, &id("rk3")).await.unwrap().unwrap();
    assert_eq!(shown.reason_code.as_deref(), Some("recorder_gone"));
    let kept = async |name: &str| store.call(&a, None, &id(name)).await.unwrap().is_some();
    store.purge(UnixMs(29 * 86_400_000)).await.unwrap();
    assert!(kept("k4").await, "not yet");
    store.purge(UnixMs(31 * 86_400_000)).await.unwrap();
    assert!(kept("p0").await, "began before there was a limit");
    assert!(kept("k1").await, "its recording has files");
    assert!(kept("k2").await, "its recorder has not said the last word");
    assert!(kept("k3").await, "it had begun: its recorder may come back and make the files");
    assert!(!kept("k4").await && !kept("k5").await, "nothing is left to hear, and nothing will be");
    store.purge(UnixMs(119 * 86_400_000)).await.unwrap();
    assert!(kept("k3").await);
    store.purge(UnixMs(121 * 86_400_000)).await.unwrap();
    assert!(kept("k1").await && kept("k2").await && !kept("k3").await);
    let recording = store.recording(&a, &id("rk1")).await.unwrap().unwrap();
    assert_eq!((recording.segments.len(), recording.consent.len()), (1, 1), "whole, with its consent");
    assert_eq!(store.recording(&a, &id("rk3")).await.unwrap(), None);
    store.commit(&[batch(vec![recorded("k3", "rk3", RecordingOutcome::Asked { recorder: None })])]).await.unwrap();
    let again = store.recording(&a, &id("rk3")).await.unwrap().unwrap();
    assert!(again.segments.is_empty() && again.consent.is_empty(), "and nothing of it was left behind");
}

#[tokio::test]
async fn sqlite_is_opened_with_wal_patience_and_foreign_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Secret::default(), dir.path()).await.unwrap();
    two_tenants(&store).await;
    assert!(dir.path().join("control.sqlite-wal").exists());
    // A second process (the command line) writes beside the first.
    let other = Store::open(&Secret::default(), dir.path()).await.unwrap();
    let mut both = tokio::task::JoinSet::new();
    for (n, store) in [store.clone(), other.clone()].into_iter().enumerate() {
        both.spawn(async move {
            for i in 0..50 {
                store
                    .audit(
                        &tenant("a"),
                        &AuditRow {
                            id: format!("{n}-{i}"),
                            at: UnixMs(i),
                            actor: String::new(),
                            action: "x",
                            object: String::new(),
                            result: "ok",
                            source: String::new(),
                        },
                    )
                    .await
                    .unwrap();
            }
        });
    }
    both.join_all().await;
    assert_eq!(store.audit_lines(&tenant("a")).await.unwrap().len(), 100);
}

#[tokio::test]
async fn whoever_is_disabled_or_has_a_new_password_has_his_turn_credentials_taken_back() {
    for (engine, store) in &engines().await.stores {
        two_tenants(store).await;
        let (a, b, user) = (tenant("a"), tenant("b"), UserId::new("u1"));
        assert_eq!(store.outcasts(UnixMs(0)).await.unwrap(), [], "{engine}");
        let disabled = |disabled| UserChange { disabled: Some(disabled), ..UserChange::default() };
        store.change_user(&a, &user, &disabled(true), UnixMs(50)).await.unwrap();
        let password = UserChange { password_hash: Some("x".into()), ..UserChange::default() };
        store.change_user(&b, &user, &password, UnixMs(60)).await.unwrap();
        let row = |tenant: &TenantId, at, disabled| Outcast {
            tenant: tenant.clone(),
            user: user.clone(),
            at: UnixMs(at),
            disabled,
        };
        let read = async |since| {
            let mut read = store.outcasts(UnixMs(since)).await.unwrap();
            read.sort_by(|x, y| x.tenant.as_str().cmp(y.tenant.as_str()));
            read
        };
        assert_eq!(read(0).await, [row(&a, 50, true), row(&b, 60, false)], "{engine}");
        assert_eq!(read(1_000).await, [row(&a, 50, true)], "{engine}: a disabled one is always named");
        store.change_user(&a, &user, &disabled(false), UnixMs(70)).await.unwrap();
        store.revoke_turn(&b, &user, UnixMs(80)).await.unwrap();
        assert_eq!(read(0).await, [row(&a, 50, false), row(&b, 80, false)], "{engine}");
    }
}
