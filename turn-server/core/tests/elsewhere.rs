//! Logins that nobody knows here, and that are looked up elsewhere while their request waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::{MessageBuilder, Method, credentials};
use stage::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What was asked for, to be answered by the test; no more than so many at once.
#[derive(Debug, Default)]
struct Clerk {
    asked: Mutex<Vec<(String, LookUp)>>,
    room: Mutex<usize>,
}

impl Elsewhere for Clerk {
    fn look_up(&self, name: &str) -> Option<LookUp> {
        let mut room = self.room.lock().unwrap();
        *room = room.checked_sub(1)?;
        let look_up = LookUp::default();
        self.asked.lock().unwrap().push((name.to_owned(), look_up.clone()));
        Some(look_up)
    }
}

impl Clerk {
    fn with_room(room: usize) -> Arc<Self> {
        Arc::new(Self { room: Mutex::new(room), ..Self::default() })
    }

    fn names(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Answers everything with the same users.
    fn answer(&self, found: Option<&Users>) {
        for (_, look_up) in self.asked.lock().unwrap().drain(..) {
            look_up.answer(found.cloned().map(Arc::new));
        }
    }
}

const A_LOOK: Duration = Duration::from_millis(10);

fn stage(clerk: &Arc<Clerk>) -> Stage {
    let clerk: Arc<dyn Elsewhere> = Arc::clone(clerk) as _;
    Stage::with(|setup| setup.settings.elsewhere = Some(clerk))
}

fn dave() -> Users {
    let mut users = Users::new(REALM);
    users.add("dave", UserSecret::from_hex(&hex(&credentials::long_term_key("dave", REALM, "later"))).unwrap());
    users
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn udp_request(b: &mut MessageBuilder<'_>) {
    b.requested_transport(17);
}

/// Knows its nonce; the next request is its login.
fn challenged(s: &mut Stage, mut client: Client) -> Client {
    let datagram = client.plain(Method::ALLOCATE, udp_request);
    client.nonce = s.answer(&client.path, &datagram).nonce();
    client
}

fn login(s: &mut Stage, client: &mut Client) -> Vec<u8> {
    let datagram = client.sealed(Method::ALLOCATE, udp_request);
    assert!(s.try_answer(&client.path, &datagram).is_none(), "answered at once");
    datagram
}

/// The codes of the answers that came since; 0 is success.
fn codes(s: &mut Stage) -> Vec<u16> {
    s.replies
        .drain(..)
        .map(|(_, bytes)| {
            let message = offhook_wire_stun::Message::parse(&bytes).unwrap();
            message.error_code().unwrap().map_or(0, |error| error.code)
        })
        .collect()
}

#[test]
fn who_has_come_since_is_let_in_at_the_first_login_and_its_retransmissions_get_no_answer_of_their_own() {
    for path in [udp("5.5.5.5:5"), tcp("5.5.5.5:5", 7)] {
        let clerk = Clerk::with_room(9);
        let mut s = stage(&clerk);
        let mut client = challenged(&mut s, Client::by(path, "dave", "later"));
        let datagram = login(&mut s, &mut client);
        s.advance(Duration::from_millis(500));
        assert!(s.try_answer(&path, &datagram).is_none());
        assert_eq!(clerk.names(), ["dave"]);
        clerk.answer(Some(&dave()));
        s.advance(A_LOOK);
        assert_eq!((codes(&mut s), s.denied.len()), (vec![0], 0));
        // Until the whole of it is read again, each of its requests is looked up.
        let permit =
            client.sealed(Method::CREATE_PERMISSION, |b| done(b.xor_peer_address("8.8.8.8:9".parse().unwrap())));
        assert!(s.try_answer(&path, &permit).is_none());
        clerk.answer(Some(&dave()));
        s.advance(A_LOOK);
        assert_eq!(codes(&mut s), [0]);
        s.reload(|settings| settings.users = dave());
        let refresh = client.sealed(Method::REFRESH, |b| done(b.lifetime_s(0)));
        assert_eq!(s.answer(&path, &refresh).code(), 0);
        s.expect_empty();
    }
}

#[test]
fn who_is_not_found_or_not_in_time_is_refused_as_ever() {
    let clerk = Clerk::with_room(9);
    let mut s = stage(&clerk);
    let mut client = challenged(&mut s, Client::new("5.5.5.5:5", "nobody", "x"));
    login(&mut s, &mut client);
    assert!(s.denied.is_empty());
    clerk.answer(None);
    s.advance(A_LOOK);
    assert_eq!(
        (codes(&mut s), s.denied.pop().unwrap().why),
        (vec![401], Denial::Auth(AuthError::Unknown(UnknownUser::NoExpiry)))
    );
    let mut client = challenged(&mut s, Client::new("5.5.5.5:6", "dave", "guess"));
    login(&mut s, &mut client);
    clerk.answer(Some(&dave()));
    s.advance(A_LOOK);
    assert_eq!((codes(&mut s), s.denied.pop().unwrap().why), (vec![401], Denial::Auth(AuthError::Password)));
    let mut client = challenged(&mut s, Client::new("5.5.5.5:7", "dave", "later"));
    login(&mut s, &mut client);
    s.advance(Duration::from_millis(1_980));
    assert!(codes(&mut s).is_empty());
    s.advance(Duration::from_millis(20));
    assert_eq!(codes(&mut s), [401]);
    assert_eq!(s.shard.poll_timeout(), None, "nobody waits, and nothing is due");
    s.expect_empty();
}

#[test]
fn a_secret_that_came_since_opens_its_credentials() {
    let clerk = Clerk::with_room(9);
    let mut s = stage(&clerk);
    let mut client = challenged(&mut s, Client::rest("5.5.5.5:5", UNIX_S + 600, "bob", b"south"));
    login(&mut s, &mut client);
    let mut found = Users::new(REALM);
    found.add_rest_secret(b"south");
    clerk.answer(Some(&found));
    s.advance(A_LOOK);
    assert_eq!(codes(&mut s), [0]);
}

/// Nobody who forges an address has a nonce for it; static users and expired credentials are looked up nowhere.
#[test]
fn only_what_may_have_come_is_looked_up_and_only_for_whom_showed_where_he_is() {
    let clerk = Clerk::with_room(9);
    let mut s = stage(&clerk);
    let mut forged = Client::new("6.6.6.6:6", "dave", "later");
    forged.nonce = challenged(&mut s, Client::new("5.5.5.5:5", "dave", "later")).nonce;
    let datagram = forged.sealed(Method::ALLOCATE, udp_request);
    assert_eq!(s.answer(&forged.path, &datagram).code(), 438);
    let mut known = challenged(&mut s, Client::new("5.5.5.5:7", "alice", "guess"));
    let datagram = known.sealed(Method::ALLOCATE, udp_request);
    assert_eq!(s.answer(&known.path, &datagram).code(), 401);
    let mut late = challenged(&mut s, Client::rest("5.5.5.5:8", UNIX_S - 1, "bob", b"north"));
    let datagram = late.sealed(Method::ALLOCATE, udp_request);
    assert_eq!(s.answer(&late.path, &datagram).code(), 401);
    assert!(clerk.names().is_empty());
}

#[test]
fn few_wait_at_once_and_of_one_address_fewer() {
    let clerk = Clerk::with_room(usize::MAX);
    let mut s = stage(&clerk);
    let waits = |s: &mut Stage, address: &str, user: &str| {
        let mut client = challenged(s, Client::new(address, user, "x"));
        let datagram = client.sealed(Method::ALLOCATE, udp_request);
        match s.try_answer(&client.path, &datagram) {
            None => true,
            Some(answer) => {
                assert_eq!(answer.code(), 401);
                false
            }
        }
    };
    let of_one = (0..40).filter(|n| waits(&mut s, &format!("5.5.5.5:{}", 1_000 + n), &format!("u{n}"))).count();
    assert_eq!(of_one, 20);
    let of_many = (0..200).filter(|n| waits(&mut s, &format!("6.6.6.{n}:7"), &format!("u{n}"))).count();
    assert_eq!((of_one + of_many, clerk.names().len()), (64, 64));
    // One path has one place, and a long request none.
    s.advance(secs(3));
    clerk.answer(None);
    let mut client = challenged(&mut s, Client::new("7.7.7.7:7", "dave", "later"));
    login(&mut s, &mut client);
    let datagram = client.sealed(Method::ALLOCATE, udp_request);
    assert_eq!(s.answer(&client.path, &datagram).code(), 401);
    let mut client = challenged(&mut s, Client::new("7.7.7.8:7", "dave", "later"));
    let datagram = client.sealed(Method::ALLOCATE, |b| {
        done(b.requested_transport(17).attr(offhook_wire_stun::AttributeType(0x8055), &[0; 1_000]))
    });
    assert_eq!(s.answer(&client.path, &datagram).code(), 401);
    // Nor does anybody wait for a clerk who has too much to do.
    let clerk = Clerk::with_room(0);
    let mut s = stage(&clerk);
    assert!(!waits(&mut s, "5.5.5.5:5", "dave"));
}

#[test]
fn who_hangs_up_while_it_waits_leaves_nothing() {
    let clerk = Clerk::with_room(9);
    let mut s = stage(&clerk);
    let path = tcp("5.5.5.5:5", 7);
    let mut client = challenged(&mut s, Client::by(path, "dave", "later"));
    login(&mut s, &mut client);
    s.command(Command::ClientClosed { path });
    clerk.answer(Some(&dave()));
    s.advance(secs(3));
    assert!(codes(&mut s).is_empty());
    s.expect_empty();
}
