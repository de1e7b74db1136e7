//! Requests, replies and events.
use crate::fixture::{Fixture, context, node, tenant, until, within};
use offhook_bus::{Bus, BusError, Server, Target, new_message_id, wall_now};
use offhook_contract::event::{DigitReceived, LegProgress};
use offhook_contract::sfu::{CloseRoom, Done, JoinPeer, MuteLeg, OpenRoom, RoomKind};
use offhook_contract::{Context, DaemonKind, Epoch, ErrorCode, Event, LegId, NodeId, Request, RequestError, RoomId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(10);

fn room(name: &str) -> OpenRoom {
    OpenRoom { room: RoomId::parse(name).unwrap(), kind: RoomKind::Echo }
}

/// Says yes to every `open_room` and counts them.
async fn count_rooms(mut server: Server, count: Arc<AtomicU32>) {
    while let Some(incoming) = server.next().await {
        match incoming.name.as_str() {
            OpenRoom::NAME => {
                let outcome = incoming.body::<OpenRoom>().map(|_| Done {});
                count.fetch_add(1, Ordering::Relaxed);
                incoming.reply::<OpenRoom>(outcome);
            }
            _ => incoming.unsupported(),
        }
    }
}

async fn sfu(bus: &Bus, name: &NodeId) -> Arc<AtomicU32> {
    let count = Arc::new(AtomicU32::new(0));
    let server = bus.serve(DaemonKind::Sfu, Target::Node(name.clone())).await.unwrap();
    tokio::spawn(count_rooms(server, count.clone()));
    count
}

pub async fn the_node_that_is_named_answers(fixture: impl Fixture) {
    let (asking, one, two) = (fixture.peer().await, fixture.peer().await, fixture.peer().await);
    let (first, second) = (sfu(&one, &node("sfu-1")).await, sfu(&two, &node("sfu-2")).await);
    for _ in 0..3 {
        asking.request(Target::Node(node("sfu-2")), &context("t1"), &room("r"), TIMEOUT).await.unwrap();
    }
    assert_eq!((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed)), (0, 3));
    let unknown = CloseRoom { room: RoomId::parse("r").unwrap() };
    let refused = asking.request(Target::Node(node("sfu-1")), &context("t1"), &unknown, TIMEOUT).await;
    assert!(
        matches!(&refused, Err(BusError::Refused(RequestError { code: ErrorCode::Unsupported, .. }))),
        "{refused:?}"
    );
}

pub async fn nobody_there_is_known_at_once(fixture: impl Fixture) {
    let bus = fixture.peer().await;
    let began = Instant::now();
    let refused = bus.request(Target::Node(node("sfu-9")), &context("t1"), &room("r"), TIMEOUT).await;
    assert!(matches!(refused, Err(BusError::NoResponders { .. })), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    let reserved = bus.request(Target::Node(node("any")), &context("t1"), &room("r"), TIMEOUT).await;
    assert!(matches!(reserved, Err(BusError::ReservedNode(_))), "{reserved:?}");
}

pub async fn a_silent_server_is_a_timeout(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let mut server = serving.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    let silent = tokio::spawn(async move { server.next().await });
    let body = room("r");
    let timeout = Duration::from_millis(300);
    let outcome = asking.request(Target::Node(node("sfu-1")), &context("t1"), &body, timeout).await;
    assert!(matches!(outcome, Err(BusError::Timeout { .. })), "{outcome:?}");
    assert!(outcome.unwrap_err().may_have_happened());
    assert_eq!(within(silent).await.unwrap().unwrap().name, "open_room");
}

pub async fn a_request_read_after_its_deadline_is_not_carried_out(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let server = serving.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    let (id, to, body) = (new_message_id(), Target::Node(node("sfu-1")), room("r"));
    let timeout = Duration::from_millis(10);
    let first = asking.request_as(id.clone(), to.clone(), &context("t1"), &body, timeout).await;
    assert!(matches!(first, Err(BusError::Timeout { .. })), "{first:?}");
    // The tolerance for clocks that differ passes before the server reads.
    let late = wall_now().plus_ms(1_200);
    until(|| async { wall_now() > late }).await;
    let count = Arc::new(AtomicU32::new(0));
    tokio::spawn(count_rooms(server, count.clone()));
    let repeated = asking.request_as(id, to.clone(), &context("t1"), &body, TIMEOUT).await;
    assert!(matches!(&repeated, Err(BusError::Refused(RequestError { code: ErrorCode::TooLate, .. }))), "{repeated:?}");
    assert_eq!(count.load(Ordering::Relaxed), 0);
    asking.request(to, &context("t1"), &body, TIMEOUT).await.unwrap();
}

pub async fn a_repeated_command_happens_once(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let count = sfu(&serving, &node("sfu-1")).await;
    let id = new_message_id();
    let body = room("r");
    let nobody = Context::default();
    let ask = || asking.request_as(id.clone(), Target::Node(node("sfu-1")), &nobody, &body, TIMEOUT);
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    let d = ask().await;
    assert!([a, b, c, d].into_iter().all(|reply| reply.unwrap() == Done {}));
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

pub async fn a_refusal_arrives_with_its_code_and_sentence(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let mut server = serving.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            // Asked as another request, the body is unreadable and named so.
            let unreadable = incoming.body::<MuteLeg>().unwrap_err();
            assert_eq!(unreadable.code, ErrorCode::Invalid);
            assert_eq!(incoming.context, context("t7"));
            let refusal = RequestError::new(ErrorCode::Exhausted, "500 rooms are open, the limit");
            incoming.reply::<OpenRoom>(Err(refusal));
        }
    });
    let to = Target::Node(node("sfu-1"));
    match asking.request(to, &context("t7"), &room("r"), TIMEOUT).await {
        Err(BusError::Refused(refusal)) => {
            assert_eq!(refusal, RequestError::new(ErrorCode::Exhausted, "500 rooms are open, the limit"));
        }
        other => panic!("{other:?}"),
    }
}

pub async fn an_older_epoch_is_refused(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let count = sfu(&serving, &node("sfu-1")).await;
    let under = |bucket, revision| Context { epoch: Some(Epoch { bucket, revision }), ..context("t1") };
    let body = room("r");
    let ask = async |context: Context| asking.request(Target::Node(node("sfu-1")), &context, &body, TIMEOUT).await;
    ask(under(1, 7)).await.unwrap();
    ask(under(1, 9)).await.unwrap();
    let stale = ask(under(1, 8)).await;
    assert!(matches!(&stale, Err(BusError::Refused(RequestError { code: ErrorCode::StaleEpoch, .. }))), "{stale:?}");
    ask(Context { epoch: None, ..context("t1") }).await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

pub async fn any_node_shares_the_work(fixture: impl Fixture) {
    let (asking, one, two) = (fixture.peer().await, fixture.peer().await, fixture.peer().await);
    let mut counts = Vec::new();
    for bus in [&one, &two] {
        let count = Arc::new(AtomicU32::new(0));
        let server = bus.serve(DaemonKind::Sfu, Target::Any).await.unwrap();
        tokio::spawn(count_rooms(server, count.clone()));
        counts.push(count);
    }
    for _ in 0..40 {
        asking.request(Target::Any, &context("t1"), &room("r"), TIMEOUT).await.unwrap();
    }
    let done: Vec<u32> = counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    assert!(done.iter().sum::<u32>() == 40 && done.iter().all(|n| *n > 0), "{done:?}");
}

pub async fn work_that_ends_without_a_reply_is_an_internal_error(fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let mut server = serving.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    tokio::spawn(async move { while server.next().await.is_some() {} });
    let refused = asking.request(Target::Node(node("sfu-1")), &context("t1"), &room("r"), TIMEOUT).await;
    assert!(matches!(&refused, Err(BusError::Refused(RequestError { code: ErrorCode::Internal, .. }))), "{refused:?}");
}

pub async fn a_message_over_the_limit_is_refused_before_it_is_sent(fixture: impl Fixture) {
    let bus = fixture.peer().await;
    let body = JoinPeer {
        room: RoomId::parse("r").unwrap(),
        leg: LegId::parse("l").unwrap(),
        offer_sdp: "v".repeat(2 * 1024 * 1024),
        emergency: false,
    };
    let refused = bus.request(Target::Node(node("sfu-1")), &context("t1"), &body, TIMEOUT).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
}

pub async fn an_event_reaches_its_tenants_listeners_and_no_others(fixture: impl Fixture) {
    let (telling, listening) = (fixture.peer().await, fixture.peer().await);
    let leg = LegId::parse("l").unwrap();
    let digit = Event::DigitReceived(DigitReceived { leg: leg.clone(), digit: '5', duration_ms: 100 });
    let ringing = Event::LegRinging(LegProgress { leg });
    let mut own = listening.subscribe(Some(&tenant("t1")), None).await.unwrap();
    let mut digits = listening.subscribe(None, Some("digit_received")).await.unwrap();
    telling.publish(&context("t2"), &digit).unwrap();
    telling.publish(&context("t2"), &ringing).unwrap();
    telling.publish(&context("t1"), &ringing).unwrap();
    telling.publish(&context("t1"), &digit).unwrap();
    assert_eq!(within(own.next()).await.unwrap(), (context("t1"), ringing));
    assert_eq!(within(own.next()).await.unwrap(), (context("t1"), digit.clone()));
    assert_eq!(within(digits.next()).await.unwrap(), (context("t2"), digit.clone()));
    assert_eq!(within(digits.next()).await.unwrap(), (context("t1"), digit));
    assert!(
        telling.publish(&context("-"), &Event::LegRinging(LegProgress { leg: LegId::parse("l").unwrap() })).is_err()
    );
}
