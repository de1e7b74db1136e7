//! Facts reach their store once, in order, whatever is away.
use super::*;
use crate::{BusCut, Server, Target};
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::{DaemonKind, ErrorCode, FactRecord, HangupCause, LegId, Request, RequestError};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch as signal;

type Rows = Arc<Mutex<BTreeMap<(String, u64), FactRecord>>>;

/// A store keyed as call-control's table is. `refuse` names a leg whose facts it does not take.
async fn store(bus: &Bus, rows: &Rows, refuse: Option<&'static str>) -> signal::Receiver<usize> {
    let server = bus.serve(DaemonKind::Control, Target::Any).await.unwrap();
    let (count, counted) = signal::channel(0);
    tokio::spawn(keep(server, rows.clone(), refuse, count));
    counted
}

async fn keep(mut server: Server, rows: Rows, refuse: Option<&'static str>, count: signal::Sender<usize>) {
    while let Some(incoming) = server.next().await {
        assert_eq!(incoming.name, StoreFact::NAME);
        let record = incoming.body::<StoreFact>().unwrap().record;
        if matches!(&record.fact, Fact::LegEnded { leg, .. } if Some(leg.as_str()) == refuse) {
            incoming.reply::<StoreFact>(Err(RequestError::new(ErrorCode::NotFound, "no such call")));
            continue;
        }
        rows.lock().unwrap().insert((record.producer.clone(), record.sequence), record);
        incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
        count.send_replace(rows.lock().unwrap().len());
    }
}

fn context() -> Context {
    Context { tenant: Some(TenantId::parse("t1").unwrap()), call: Some(CallId::parse("c1").unwrap()), epoch: None }
}
fn ended(leg: &str) -> Fact {
    Fact::LegEnded { leg: LegId::parse(leg).unwrap(), cause: HangupCause::Normal, sip_status: None }
}
fn bus() -> (Bus, BusCut) {
    Bus::in_process_with_cut("test").unwrap()
}
async fn until_stored(counted: &mut signal::Receiver<usize>, wanted: usize) {
    tokio::time::timeout(Duration::from_secs(30), counted.wait_for(|n| *n >= wanted)).await.unwrap().unwrap();
}
fn legs(rows: &Rows) -> Vec<(u64, String)> {
    let rows = rows.lock().unwrap();
    let leg = |record: &FactRecord| match &record.fact {
        Fact::LegEnded { leg, .. } => leg.to_string(),
        other => panic!("{other:?}"),
    };
    rows.values().map(|record| (record.sequence, leg(record))).collect()
}

#[tokio::test]
async fn facts_made_while_nobody_stores_them_arrive_in_order_when_someone_does() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, cut) = bus();
    let outbox = Outbox::open(&folder.path().join("outbox.redb"), &bus).await.unwrap();
    outbox.append(&context(), ended("a")).await.unwrap();
    cut.disconnect();
    outbox.append(&context(), ended("b")).await.unwrap();
    assert_eq!(outbox.pending(), 2);
    cut.reconnect();
    let rows = Rows::default();
    let mut counted = store(&bus, &rows, None).await;
    outbox.append(&context(), ended("c")).await.unwrap();
    until_stored(&mut counted, 3).await;
    assert_eq!(legs(&rows), [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
}

#[tokio::test]
async fn a_reopened_outbox_keeps_its_name_and_goes_on_counting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let (bus, _cut) = bus();
    let rows = Rows::default();
    {
        let mut counted = store(&bus, &rows, None).await;
        let outbox = Outbox::open(&path, &bus).await.unwrap();
        outbox.append(&context(), ended("a")).await.unwrap();
        until_stored(&mut counted, 1).await;
    }
    let outbox = Outbox::open(&path, &bus).await.unwrap();
    let mut counted = store(&bus, &rows, None).await;
    outbox.append(&context(), ended("b")).await.unwrap();
    until_stored(&mut counted, 2).await;
    assert_eq!(legs(&rows), [(1, "a".into()), (2, "b".into())]);
    let producers: std::collections::BTreeSet<_> = rows.lock().unwrap().keys().map(|k| k.0.clone()).collect();
    assert_eq!(producers.len(), 1);
}

#[tokio::test]
async fn a_full_outbox_refuses_by_name_and_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, _cut) = bus();
    let limits = OutboxLimits { max_facts: 2, ..OutboxLimits::default() };
    let outbox = Outbox::open_with(&folder.path().join("outbox.redb"), &bus, limits).await.unwrap();
    outbox.append(&context(), ended("a")).await.unwrap();
    outbox.append(&context(), ended("b")).await.unwrap();
    let refused = outbox.append(&context(), ended("lost")).await;
    assert!(matches!(refused, Err(OutboxError::Full { facts: 2, .. })), "{refused:?}");
    assert_eq!(outbox.figures().refused_full, 1);
    let rows = Rows::default();
    let mut counted = store(&bus, &rows, None).await;
    until_stored(&mut counted, 2).await;
    while outbox.pending() > 0 {
        tokio::task::yield_now().await;
    }
    outbox.append(&context(), ended("c")).await.unwrap();
    until_stored(&mut counted, 3).await;
    assert_eq!(legs(&rows), [(1, "a".into()), (2, "b".into()), (3, "c".into())]);
}

#[tokio::test]
async fn a_fact_that_call_control_refuses_does_not_hold_up_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, _cut) = bus();
    let rows = Rows::default();
    let mut counted = store(&bus, &rows, Some("bad")).await;
    let outbox = Outbox::open(&folder.path().join("outbox.redb"), &bus).await.unwrap();
    for leg in ["a", "bad", "c"] {
        outbox.append(&context(), ended(leg)).await.unwrap();
    }
    until_stored(&mut counted, 2).await;
    assert_eq!(legs(&rows), [(1, "a".into()), (3, "c".into())]);
    let figures = outbox.figures();
    assert_eq!((figures.refused_by_consumer, figures.refused_full), (1, 0));
}

fn failed(reason_bytes: usize) -> Fact {
    let recording = offhook_contract::RecordingId::parse("r").unwrap();
    Fact::RecordingFailed { recording, reason: "x".repeat(reason_bytes) }
}

#[tokio::test]
async fn a_fact_that_no_message_can_carry_is_refused_by_name_and_leaves_no_hole() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, _cut) = bus();
    let rows = Rows::default();
    let mut counted = store(&bus, &rows, None).await;
    let outbox = Outbox::open(&folder.path().join("outbox.redb"), &bus).await.unwrap();
    outbox.append(&context(), ended("a")).await.unwrap();
    let refused = outbox.append(&context(), failed(1_100_000)).await;
    assert!(matches!(refused, Err(OutboxError::TooLarge { bytes, .. }) if bytes > 1_100_000), "{refused:?}");
    outbox.append(&context(), ended("c")).await.unwrap();
    until_stored(&mut counted, 2).await;
    assert_eq!(legs(&rows), [(1, "a".into()), (2, "c".into())]);
    // The largest that is taken also arrives.
    outbox.append(&context(), failed(store::MAX_FACT_BYTES - 512)).await.unwrap();
    until_stored(&mut counted, 3).await;
}

#[tokio::test]
async fn a_fact_in_the_outbox_that_no_message_can_carry_does_not_hold_up_those_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let (bus, _cut) = bus();
    {
        let outbox = Outbox::open(&path, &bus).await.unwrap();
        outbox.append(&context(), failed(10)).await.unwrap();
        outbox.append(&context(), ended("b")).await.unwrap();
    }
    // As a former release kept it, which took facts of any size.
    store::tests::replace_fact(&path, 1, &failed(1_100_000)).await;
    let rows = Rows::default();
    let mut counted = store(&bus, &rows, None).await;
    let outbox = Outbox::open(&path, &bus).await.unwrap();
    until_stored(&mut counted, 1).await;
    assert_eq!(legs(&rows), [(2, "b".into())]);
    assert_eq!(outbox.figures().refused_by_consumer, 1);
}

#[tokio::test]
async fn a_fact_without_a_call_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(&folder.path().join("outbox.redb"), &bus().0).await.unwrap();
    assert!(matches!(outbox.append(&Context::default(), ended("a")).await, Err(OutboxError::NoCall)));
}
