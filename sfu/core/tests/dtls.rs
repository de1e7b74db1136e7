//! DTLS from an address that passed a check: it wakes the shard when it must, and floods cost nothing that stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::Opus;
use offhook_contract::HangupCause;
use offhook_sfu_core::*;
use offhook_testkit::Rng;
use stage::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn ended(stage: &Stage) -> Vec<HangupCause> {
    let causes = stage.news().filter_map(|news| match news {
        News::LegEnded { cause, .. } => Some(*cause),
        _ => None,
    });
    causes.collect()
}

#[test]
fn ten_thousand_datagrams_after_the_handshake_leave_no_timer_and_end_nothing() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.advance(ms(500));
    let settled = s.shard.gauges().timers;
    let (mut rng, from) = (Rng::seeded(3), s.actors[alice].address);
    for n in 0..10_000_u32 {
        let mut datagram = vec![0; 1 + rng.below(99) as usize];
        rng.fill(&mut datagram);
        datagram[0] = 20 + datagram[0] % 44;
        if datagram != [21, 0] {
            s.send_from(from, datagram);
        }
        assert!(s.shard.gauges().timers <= settled + 2, "after {n}: {:?}", s.shard.gauges());
        if n % 50 == 0 {
            s.talk(ms(20), &[(bob, Opus, 7)]);
        }
    }
    assert!(ended(&s).is_empty());
    let counters = s.shard.counters();
    assert!(counters.dropped_dtls_rate > 9_000 && counters.dropped_dtls_unusable > 20, "{counters:?}");
    assert_eq!(counters.dtls_failed, 0);
    assert_eq!(s.actors[alice].on_slot(0).count(), 200, "speech goes on");
    // Neither does a second handshake take over: the keys stay.
    s.advance(secs(2));
    s.handshake(alice);
    s.speak(alice, Opus, &[1; 30]);
    assert_eq!(s.actors[bob].on_slot(0).last().unwrap().payload, [1; 30]);
    s.command(Command::CloseRoom { room: room() });
    assert_eq!(s.shard.gauges(), Gauges::default());
}

#[test]
fn a_handshake_that_breaks_ends_its_leg() {
    let mut s = Stage::conversation();
    let alice = s.join("alice", Actor::browser(1));
    s.check(alice, true);
    s.send(alice, vec![22, 3, 3, 0]);
    assert_eq!((ended(&s), s.shard.counters().dtls_failed), (vec![HangupCause::MediaLost], 1));
}

/// A session that waits as it is told, and notes when it was woken.
struct Waiting {
    dues: Arc<Mutex<VecDeque<Option<MediaNs>>>>,
    woken: Arc<Mutex<Vec<MediaNs>>>,
    due: Option<MediaNs>,
}

impl DtlsSession for Waiting {
    fn handle_packet(&mut self, _: MediaNs, _: &[u8]) -> Result<(), DtlsFailure> {
        self.due = self.dues.lock().unwrap().pop_front().flatten();
        Ok(())
    }
    fn handle_timeout(&mut self, now: MediaNs) -> Result<(), DtlsFailure> {
        self.woken.lock().unwrap().push(now);
        self.due = None;
        Ok(())
    }
    fn poll(&mut self, _: &mut [u8]) -> Result<DtlsEvent, DtlsFailure> {
        Ok(DtlsEvent::Idle(self.due))
    }
}

/// One datagram for each moment that DTLS then waits for; when it was woken, from the first datagram on.
fn woken_at(dues: &[Option<Duration>]) -> Vec<Duration> {
    let mut s = Stage::conversation();
    let begun = s.now;
    let (queue, woken) = (Arc::new(Mutex::new(VecDeque::new())), Arc::new(Mutex::new(Vec::new())));
    queue.lock().unwrap().extend(dues.iter().map(|due| due.map(|due| begun.after(due))));
    let actor = Actor::browser(1);
    let dtls = Box::new(Waiting { dues: queue, woken: Arc::clone(&woken), due: None });
    let (room, leg, plan) = (room(), leg("alice"), Box::new(actor.peer_plan()));
    s.command(Command::AddPeer { room, leg, plan, dtls, emergency: false });
    s.actors.push(actor);
    s.check(0, true);
    let settled = s.shard.gauges().timers;
    for _ in dues {
        s.send(0, vec![22, 1]);
        assert!(s.shard.gauges().timers <= settled + 1, "one timer, whatever it waits for");
    }
    s.advance(secs(35));
    assert!(s.shard.gauges().timers <= settled);
    let woken = woken.lock().unwrap();
    woken.iter().map(|at| at.since(begun)).collect()
}

#[test]
fn dtls_is_woken_once_at_the_moment_that_it_named_last() {
    let in_ms = |n| Some(ms(n));
    assert_eq!(woken_at(&[in_ms(200)]), [ms(200)]);
    assert_eq!(woken_at(&[in_ms(200), in_ms(400), in_ms(6_400)]), [ms(6_400)], "later each time");
    assert_eq!(woken_at(&[in_ms(6_400), in_ms(200)]), [ms(200)], "sooner");
    assert_eq!(woken_at(&[in_ms(6_400), in_ms(200), in_ms(900)]), [ms(900)]);
    assert!(woken_at(&[in_ms(200), None]).is_empty(), "nothing any more");
    assert_eq!(woken_at(&[in_ms(30_000)]), [secs(30)], "the handshake's own limit");
    assert!(woken_at(&[in_ms(200), Some(secs(315_360_000))]).is_empty(), "ten years are never");
}
