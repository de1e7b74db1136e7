//! Who is there, as others see it.
use crate::fixture::{Fixture, node, within};
use offhook_bus::NodeTable;
use offhook_contract::node::{NodeRow, NodeState, PRESENCE_TTL_MS};
use offhook_contract::{BootId, DaemonKind, UnixMs};
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub fn row(name: &str) -> NodeRow {
    NodeRow {
        node: node(name),
        kind: DaemonKind::Sfu,
        boot: BootId::parse("boot-1").unwrap(),
        version: "0.1.0".into(),
        started_ms: UnixMs(1),
        state: NodeState::Ready,
        load: 0,
        capacity: 100,
        media_addresses: vec!["127.0.0.1:7882".parse().unwrap()],
        certificate_fingerprint: None,
        trunks: Vec::new(),
    }
}

pub async fn seen(table: &mut NodeTable, name: &str) -> NodeRow {
    let wanted = node(name);
    let rows = within(table.wait_for(|rows| rows.iter().any(|r| r.node == wanted))).await;
    rows.into_iter().find(|r| r.node == wanted).unwrap()
}

pub async fn gone(table: &mut NodeTable, name: &str) {
    let wanted = node(name);
    within(table.wait_for(|rows| rows.iter().all(|r| r.node != wanted))).await;
}

pub async fn a_node_is_seen_while_it_announces_itself(fixture: impl Fixture) {
    let (one, two) = (fixture.peer().await, fixture.peer().await);
    let mut table = two.nodes();
    let (own, followed) = watch::channel(row("sfu-1"));
    let presence = one.announce(followed);
    assert_eq!(seen(&mut table, "sfu-1").await, row("sfu-1"));
    own.send_modify(|row| row.state = NodeState::Draining);
    within(table.wait_for(|rows| rows.iter().any(|r| r.state == NodeState::Draining))).await;
    // Someone who comes later sees it, too.
    seen(&mut two.nodes(), "sfu-1").await;
    let began = Instant::now();
    within(presence.withdraw()).await;
    gone(&mut table, "sfu-1").await;
    assert!(began.elapsed() < Duration::from_secs(3), "a withdrawn row does not wait for its expiry");
    assert!(table.list(DaemonKind::Sfu).is_empty());
}

pub async fn a_reader_of_one_kind_hears_it_come_and_go_and_no_other(fixture: impl Fixture) {
    let (one, two) = (fixture.peer().await, fixture.peer().await);
    let (_stranger, followed) = watch::channel(NodeRow { kind: DaemonKind::Sip, ..row("sip-1") });
    let _other = one.announce(followed);
    let (_own, followed) = watch::channel(row("sfu-1"));
    let presence = one.announce(followed);
    let mut table = two.nodes_of(DaemonKind::Sfu);
    assert_eq!(seen(&mut table, "sfu-1").await, row("sfu-1"));
    // Every node has spoken by then.
    seen(&mut two.nodes(), "sip-1").await;
    assert_eq!(table.all().len(), 1);
    let began = Instant::now();
    within(presence.withdraw()).await;
    gone(&mut table, "sfu-1").await;
    assert!(began.elapsed() < Duration::from_secs(3), "a withdrawn row does not wait for its expiry");
}

pub async fn a_node_that_dies_is_gone_after_its_time_to_live(fixture: impl Fixture) {
    let (dying, reading) = (fixture.peer().await, fixture.peer().await);
    let mut table = reading.nodes();
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_own, followed) = watch::channel(row("sfu-1"));
    let presence = doomed.block_on_in_place(async move { dying.announce(followed) });
    seen(&mut table, "sfu-1").await;
    // As by SIGKILL: nothing is withdrawn.
    doomed.shutdown_background();
    let began = Instant::now();
    gone(&mut table, "sfu-1").await;
    let ttl = Duration::from_millis(PRESENCE_TTL_MS);
    assert!(began.elapsed() > ttl / 2 && began.elapsed() < ttl * 2, "{:?}", began.elapsed());
    drop(presence);
}

trait BlockInPlace {
    fn block_on_in_place<F: Future>(&self, future: F) -> F::Output;
}

impl BlockInPlace for tokio::runtime::Runtime {
    fn block_on_in_place<F: Future>(&self, future: F) -> F::Output {
        tokio::task::block_in_place(|| self.block_on(future))
    }
}
