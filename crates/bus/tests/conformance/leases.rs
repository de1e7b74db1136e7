//! One holder at a time, and a number by which the former one is known.
use crate::fixture::{Fixture, within};
use offhook_bus::LeaseError;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(900);

pub async fn a_lease_has_one_holder_and_the_next_has_a_higher_epoch(fixture: impl Fixture) {
    let (one, two) = (fixture.peer().await, fixture.peer().await);
    let first = one.acquire_lease("room.t1.r1", LONG).await.unwrap();
    let held = two.acquire_lease("room.t1.r1", LONG).await.err();
    assert!(matches!(held, Some(LeaseError::Held { .. })), "{held:?}");
    let other = two.acquire_lease("room.t1.r2", LONG).await.unwrap();
    let before = first.epoch();
    within(first.release()).await;
    let second = within(two.wait_for_lease("room.t1.r1", LONG)).await.unwrap();
    assert!(second.epoch() > before && second.epoch().bucket == before.bucket);
    assert!(!second.is_lost() && !other.is_lost());
}

pub async fn the_lease_of_a_dead_holder_falls_to_the_one_who_waits(fixture: impl Fixture) {
    let (dying, waiting) = (fixture.peer().await, fixture.peer().await);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lease = doomed.spawn(async move { dying.acquire_lease("leader", SHORT).await.unwrap() });
    let lease = within(lease).await.unwrap();
    let held = waiting.acquire_lease("leader", SHORT).await.err();
    assert!(matches!(held, Some(LeaseError::Held { .. })), "{held:?}");
    doomed.shutdown_background();
    let began = Instant::now();
    let next = within(waiting.wait_for_lease("leader", SHORT)).await.unwrap();
    assert!(next.epoch() > lease.epoch());
    assert!(began.elapsed() < SHORT * 8, "{:?}", began.elapsed());
}

pub async fn contenders_at_the_same_moment_make_one_holder(fixture: impl Fixture) {
    let mut contenders = Vec::new();
    for _ in 0..6 {
        let bus = fixture.peer().await;
        contenders.push(tokio::spawn(async move { bus.acquire_lease("leader", LONG).await }));
    }
    let (mut holders, mut refused) = (Vec::new(), 0);
    for contender in contenders {
        match within(contender).await.unwrap() {
            Ok(lease) => holders.push(lease),
            Err(LeaseError::Held { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((holders.len(), refused), (1, 5));
}

pub async fn a_name_that_could_leave_its_bucket_is_refused(fixture: impl Fixture) {
    let bus = fixture.peer().await;
    for name in ["", ".", "a.", ".a", "a..b", "a>b", "*", "a b", "a/b"] {
        let refused = bus.acquire_lease(name, LONG).await.err();
        assert!(matches!(refused, Some(LeaseError::Name(_))), "{name:?}: {refused:?}");
    }
    let refused = bus.acquire_lease("a", Duration::ZERO).await.err();
    assert!(matches!(refused, Some(LeaseError::TimeToLive)), "{refused:?}");
}
