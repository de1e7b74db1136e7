//! The server goes away and comes back.
use crate::fixture::{Fixture, context, node, until, within};
use crate::presence::{row, seen};
use offhook_bus::{Bus, BusError, LeaseError, Outbox, PublishError, Target};
use offhook_contract::event::LegProgress;
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::node::PRESENCE_TTL_MS;
use offhook_contract::sfu::{CloseRoom, Done};
use offhook_contract::{Context, DaemonKind, Event, Fact, HangupCause, LegId, RoomId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(2);

async fn connected(bus: &Bus, up: bool) {
    within(bus.is_connected().wait_for(|now| *now == up)).await.unwrap();
}

pub async fn requests_fail_while_the_bus_is_away_and_work_again_when_it_is_back(mut fixture: impl Fixture) {
    let (asking, serving) = (fixture.peer().await, fixture.peer().await);
    let mut server = serving.serve(DaemonKind::Sfu, Target::Node(node("sfu-1"))).await.unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            incoming.reply::<CloseRoom>(Ok(Done {}));
        }
    });
    let mut events = serving.subscribe(None, None).await.unwrap();
    let body = CloseRoom { room: RoomId::parse("r").unwrap() };
    let nobody = Context::default();
    let ask = || asking.request(Target::Node(node("sfu-1")), &nobody, &body, TIMEOUT);
    ask().await.unwrap();
    fixture.go_away().await;
    connected(&asking, false).await;
    let refused = ask().await;
    assert!(matches!(refused, Err(BusError::Disconnected)), "{refused:?}");
    let event = Event::LegRinging(LegProgress { leg: LegId::parse("l").unwrap() });
    let refused = asking.publish(&context("t1"), &event);
    assert!(matches!(refused, Err(PublishError::Disconnected)), "{refused:?}");
    fixture.come_back().await;
    connected(&asking, true).await;
    connected(&serving, true).await;
    until(|| async { ask().await.is_ok() }).await;
    asking.publish(&context("t1"), &event).unwrap();
    assert_eq!(within(events.next()).await.unwrap().1, event);
}

pub async fn nobody_is_called_dead_because_the_bus_was_away(mut fixture: impl Fixture) {
    let (announcing, reading) = (fixture.peer().await, fixture.peer().await);
    let mut table = reading.nodes();
    let (_own, followed) = watch::channel(row("sfu-1"));
    let presence = announcing.announce(followed);
    seen(&mut table, "sfu-1").await;
    fixture.go_away().await;
    connected(&reading, false).await;
    let began = Instant::now();
    let ttl = Duration::from_millis(PRESENCE_TTL_MS);
    let watched = table.clone();
    let lost = async {
        let mut watched = watched;
        watched.wait_for(|rows| rows.is_empty()).await;
    };
    assert!(tokio::time::timeout(ttl + TIMEOUT, lost).await.is_err(), "gone after {:?} of outage", began.elapsed());
    fixture.come_back().await;
    connected(&reading, true).await;
    connected(&announcing, true).await;
    let mut watched = table.clone();
    let lost = watched.wait_for(|rows| rows.is_empty());
    assert!(tokio::time::timeout(ttl + TIMEOUT, lost).await.is_err(), "gone although it announces itself again");
    // And it is really there again, for others too.
    seen(&mut fixture.peer().await.nodes(), "sfu-1").await;
    drop(presence);
}

pub async fn a_holder_cut_off_loses_its_lease_and_gets_it_back_with_a_new_epoch(mut fixture: impl Fixture) {
    let (holding, waiting) = (fixture.peer().await, fixture.peer().await);
    let ttl = Duration::from_millis(1_500);
    let mut lease = holding.acquire_lease("leader", ttl).await.unwrap();
    let before = lease.epoch();
    let held = waiting.acquire_lease("leader", ttl).await.err();
    assert!(matches!(held, Some(LeaseError::Held { .. })), "{held:?}");
    fixture.go_away().await;
    within(lease.lost()).await;
    let away = holding.acquire_lease("leader", ttl).await.err();
    assert!(matches!(away, Some(LeaseError::Disconnected)), "{away:?}");
    fixture.come_back().await;
    connected(&waiting, true).await;
    let again = within(holding.wait_for_lease("leader", ttl)).await.unwrap();
    assert!(again.epoch() > before);
}

pub async fn facts_made_while_the_bus_is_away_are_stored_once_it_is_back(mut fixture: impl Fixture) {
    let (producing, storing) = (fixture.peer().await, fixture.peer().await);
    let folder = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(&folder.path().join("outbox.redb"), &producing).await.unwrap();
    fixture.go_away().await;
    connected(&producing, false).await;
    for n in 0..20 {
        let leg = LegId::parse(format!("leg-{n}")).unwrap();
        let fact = Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None };
        outbox.append(&context("t1"), fact).await.unwrap();
    }
    let mut server = storing.serve(DaemonKind::Control, Target::Any).await.unwrap();
    let rows: Arc<Mutex<BTreeMap<(String, u64), u32>>> = Arc::default();
    let kept = rows.clone();
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            let record = incoming.body::<StoreFact>().unwrap().record;
            *kept.lock().unwrap().entry((record.producer, record.sequence)).or_default() += 1;
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
        }
    });
    assert_eq!(outbox.pending(), 20);
    fixture.come_back().await;
    until(|| async { outbox.pending() == 0 }).await;
    let sequences: Vec<u64> = rows.lock().unwrap().keys().map(|(_, sequence)| *sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
}
