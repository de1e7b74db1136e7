//! What strangers are told by all threads of a server together, and what its log says of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::{AttributeType, Method, credentials};
use stage::*;

/// The threads of one server.
fn threads(count: u64, change: impl Fn(&mut Settings)) -> Vec<Stage> {
    let setup = |setup: &mut Setup| {
        setup.settings.shards = count;
        change(&mut setup.settings);
    };
    let first = Stage::with(setup);
    let others: Vec<Stage> = (1..count).map(|shard| first.thread(shard as u16, setup)).collect();
    std::iter::once(first).chain(others).collect()
}

/// Answers, and their bytes, to a flood in one victim's name that reaches every thread, for so many seconds.
fn answered(threads: &mut [Stage], seconds: u64) -> (u64, u64) {
    let mut stranger = Client::new("203.0.113.9:1", "alice", "guess");
    let (mut count, mut got) = (0, 0);
    for n in 0..seconds * 40 {
        for thread in &mut *threads {
            stranger.path = udp(&format!("203.0.113.9:{}", 1_024 + n));
            let asked = stranger.plain(Method::ALLOCATE, |b| done(b.requested_transport(17)));
            for _ in 0..4 {
                if let Some(answer) = thread.try_answer(&stranger.path, &asked) {
                    count += 1;
                    got += answer.0.len() as u64 + 28;
                }
            }
            thread.advance(std::time::Duration::from_millis(25));
        }
    }
    (count, got)
}

#[test]
fn a_limit_on_answers_holds_for_all_threads_however_small_it_is() {
    for (per_second, burst) in [(100, 400), (10, 10), (3, 4), (1, 1)] {
        for count in [1, 8] {
            let rate = Rate { per_second, burst };
            let mut all = threads(count, |settings| settings.unauthenticated = rate);
            let (answers, _) = answered(&mut all, 20);
            // One at once is every thread's.
            let most = burst.max(count) + per_second * 20 + count;
            let least = per_second * 20 * 9 / 10;
            assert!((least..=most).contains(&answers), "{rate:?} {count}: {answers}");
        }
    }
}

/// The realm is so long that no challenge is short enough.
#[test]
fn what_is_sent_beyond_measure_is_shared_by_all_threads_as_well() {
    let realm = "a-realm-of-which-nobody-would-have-thought-that-it-is-one.example.org";
    for count in [1, 8] {
        let mut all = threads(count, |settings| {
            settings.users = Users::new(realm);
            settings.users.add("alice", UserSecret::Password("sesame".into()));
            settings.unauthenticated = Rate::UNLIMITED;
        });
        let (answers, got) = answered(&mut all, 20);
        // Each of them is longer than what asked for it allows: 1.6 times 56.
        let excess = got - answers * 89;
        assert!(answers >= count, "nobody could log in");
        assert!(excess <= 4_096 + 256 * 21 + count * 100, "{count}: {excess}");
    }
}

#[test]
fn a_wrong_password_under_a_hashed_name_is_logged_with_the_name() {
    for (user, shown) in [("alice", Some("alice")), ("nobody", None)] {
        let mut s = Stage::new();
        let mut client = Client::new("5.5.5.5:1", user, "guess");
        let datagram = client.plain(Method::ALLOCATE, |b| {
            b.requested_transport(17).software(&"a client that knows RFC 8489".repeat(3));
        });
        client.nonce = s.answer(&client.path, &datagram).nonce();
        let (hash, nonce, key) = (credentials::userhash(user, REALM), client.nonce.clone(), client.key());
        let datagram = client.plain(Method::ALLOCATE, |b| {
            b.requested_transport(17).attr(AttributeType::USERHASH, &hash).realm(REALM).nonce(&nonce).integrity(&key);
        });
        assert_eq!(s.answer(&client.path, &datagram).code(), 401);
        let denied = s.denied.last().unwrap();
        let why = if shown.is_some() { AuthError::Password } else { AuthError::Unknown(UnknownUser::Hash) };
        assert_eq!((denied.why, denied.user.as_deref()), (Denial::Auth(why), shown));
    }
}
