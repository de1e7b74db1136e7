//! SIGKILL in the middle of appending: what was promised is there, once, without a hole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_bus::{Bus, Outbox, Target};
use offhook_contract::fact::{FactReceipt, StoreFact};
use offhook_contract::{CallId, Context, DaemonKind, Fact, HangupCause, LegId, TenantId};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const CHILD: &str = "OFFHOOK_TEST_OUTBOX";

/// Which legs arrived under which producer and sequence.
type Rows = Arc<Mutex<BTreeMap<(String, u64), Vec<String>>>>;

fn context() -> Context {
    Context { tenant: Some(TenantId::parse("t1").unwrap()), call: Some(CallId::parse("c1").unwrap()), epoch: None }
}

/// The producer's life: appends, and says after each that it is kept. Runs as a process of its own.
async fn append_for_ever(path: &Path, life: &str) {
    let bus = Bus::in_process("test").unwrap();
    let outbox = Outbox::open(path, &bus).await.unwrap();
    for n in 0.. {
        let leg = LegId::parse(format!("{life}-{n}")).unwrap();
        let fact = Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None };
        outbox.append(&context(), fact).await.unwrap();
        println!("kept {life}-{n}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test]
async fn the_producer() {
    if let Some(path) = std::env::var_os(CHILD) {
        let life = std::env::var("OFFHOOK_TEST_LIFE").unwrap();
        append_for_ever(Path::new(&path), &life).await;
    }
}

/// Starts a producer, kills it after `after` promises, and returns what it had promised.
fn live_and_die(path: &Path, life: &str, after: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_producer", "--exact", "--nocapture"])
        .env(CHILD, path)
        .env("OFFHOOK_TEST_LIFE", life)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut promised: Vec<String> = Vec::new();
    for line in lines {
        // The test harness writes in front of the first line.
        if let Some((_, leg)) = line.unwrap().split_once("kept ") {
            promised.push(leg.to_owned());
        }
        if promised.len() == after {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    promised
}

#[tokio::test]
async fn what_was_kept_before_a_sigkill_is_stored_once_and_in_order_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let mut promised = live_and_die(&path, "first", 40);
    promised.extend(live_and_die(&path, "second", 25));

    let bus = Bus::in_process("test").unwrap();
    let mut server = bus.serve(DaemonKind::Control, Target::Any).await.unwrap();
    let rows = Rows::default();
    let kept = rows.clone();
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            let record = incoming.body::<StoreFact>().unwrap().record;
            let Fact::LegEnded { leg, .. } = record.fact else { panic!("another fact") };
            kept.lock().unwrap().entry((record.producer, record.sequence)).or_default().push(leg.to_string());
            incoming.reply::<StoreFact>(Ok(FactReceipt::Stored));
        }
    });
    let outbox = Outbox::open(&path, &bus).await.unwrap();
    let drained = async {
        while outbox.pending() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), drained).await.unwrap();

    let rows = rows.lock().unwrap();
    let producers: std::collections::BTreeSet<&String> = rows.keys().map(|(producer, _)| producer).collect();
    assert_eq!(producers.len(), 1);
    let sequences: Vec<u64> = rows.keys().map(|(_, sequence)| *sequence).collect();
    assert_eq!(sequences, (1..=rows.len() as u64).collect::<Vec<_>>(), "a hole, or a number given twice");
    assert!(rows.values().all(|legs| legs.len() == 1), "delivered twice to a store that answered at once");
    let stored: Vec<&String> = rows.values().flatten().collect();
    // The last fact of a life may be on disk before its promise was heard.
    assert!(promised.iter().all(|leg| stored.contains(&leg)), "a promised fact is lost");
    assert!(stored.len() <= promised.len() + 2, "{} stored, {} promised", stored.len(), promised.len());
}
