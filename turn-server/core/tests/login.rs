//! Who is let in, and what strangers get: RFC 8489 §9.2 and the limits on answering strangers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_turn_core::*;
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, credentials};
use stage::*;

fn udp_request(b: &mut MessageBuilder<'_>) {
    b.requested_transport(17);
}

/// The answer to a request as it stands, without a second try.
fn code(s: &mut Stage, client: &mut Client) -> u16 {
    let datagram = client.sealed(Method::ALLOCATE, udp_request);
    s.answer(&client.path, &datagram).code()
}

fn with_nonce(s: &mut Stage, mut client: Client) -> Client {
    let datagram = client.plain(Method::ALLOCATE, udp_request);
    client.nonce = s.answer(&client.path, &datagram).nonce();
    client
}

#[test]
fn a_wrong_password_an_unknown_user_and_a_foreign_realm_are_401_and_the_log_says_which() {
    let mut s = Stage::new();
    let mut reasons = Vec::new();
    for (user, password) in [("alice", "guess"), ("nobody", "x"), ("-1:bob", "x"), ("", "x"), ("1\0:a%s%n", "x")] {
        let mut client = with_nonce(&mut s, Client::new("5.5.5.5:5", user, password));
        assert_eq!(code(&mut s, &mut client), 401);
        reasons.push(s.denied.pop().unwrap().why);
    }
    let unknown = Denial::Auth(AuthError::Unknown(UnknownUser::NoExpiry));
    assert_eq!(reasons, [Denial::Auth(AuthError::Password), unknown, unknown, unknown, unknown]);
    let mut elsewhere = with_nonce(&mut s, Client::alice());
    elsewhere.realm = "example.net".into();
    assert_eq!((code(&mut s, &mut elsewhere), s.denied.pop().unwrap().why), (401, Denial::Auth(AuthError::Realm)));
    assert_eq!(s.shard.gauges().allocations, 0);
}

#[test]
fn malformed_names_are_401_and_missing_parts_400() {
    let mut s = Stage::new();
    let mut client = with_nonce(&mut s, Client::alice());
    let (nonce, key) = (client.nonce.clone(), client.key());
    let mut answer = |write: &dyn Fn(&mut MessageBuilder<'_>)| {
        let datagram = client.plain(Method::ALLOCATE, |b| write(b));
        s.answer(&client.path, &datagram).code()
    };
    for name in [&[b'x'; 513][..], b"\xff\xfe", b""] {
        let sealed = |b: &mut MessageBuilder<'_>| {
            b.attr(AttributeType::USERNAME, name).realm(REALM).nonce(&nonce).integrity(&key);
        };
        assert_eq!(answer(&sealed), 401);
    }
    assert_eq!(answer(&|b| done(b.realm(REALM).nonce(&nonce).integrity(&key))), 400);
    assert_eq!(answer(&|b| done(b.username("alice").nonce(&nonce).integrity(&key))), 400);
    assert_eq!(answer(&|b| done(b.username("alice").realm(REALM).integrity(&key))), 400);
    assert_eq!(answer(&|b| done(b.username("alice").realm(REALM).nonce(&nonce))), 401);
    let cut = |b: &mut MessageBuilder<'_>| {
        b.username("alice").realm(REALM).nonce(&nonce).attr(AttributeType::MESSAGE_INTEGRITY, &[0; 4]);
    };
    assert_eq!(answer(&cut), 401);
}

#[test]
fn stale_and_foreign_nonces_are_438_with_a_new_one() {
    let mut s = Stage::new();
    let mut alice = with_nonce(&mut s, Client::alice());
    assert_eq!(code(&mut s, &mut Client { path: udp("203.0.113.7:40001"), ..alice.clone() }), 438);
    let mut flipped = alice.clone();
    flipped.nonce.replace_range(6..7, if flipped.nonce.as_bytes()[6] == b'A' { "B" } else { "A" });
    assert_eq!(code(&mut s, &mut flipped), 438);
    s.advance(secs(640));
    let datagram = alice.sealed(Method::ALLOCATE, udp_request);
    let stale = s.answer(&alice.path, &datagram);
    assert_eq!((stale.code(), stale.message().has_integrity()), (438, false));
    alice.nonce = stale.nonce();
    assert_eq!(code(&mut s, &mut alice), 0);
    // A forged seal under a stale nonce costs no look-up either.
    let mut forged = Client::new("5.5.5.5:5", "alice", "guess");
    forged.nonce = alice.nonce.clone();
    assert_eq!(code(&mut s, &mut forged), 438);
    assert!(s.denied.is_empty());
}

#[test]
fn rest_credentials_of_either_secret_open_until_their_hour_and_sessions_outlive_it() {
    let mut s = Stage::with(|setup| done(setup.settings.users.add_rest_secret(b"south")));
    let mut north = Client::rest("5.5.5.5:1", UNIX_S + 60, "carol", b"north");
    let mut south = Client::rest("5.5.5.5:2", UNIX_S + 60, "dave", b"south");
    north.allocated(&mut s);
    south.allocated(&mut s);
    let mut other = Client::rest("5.5.5.5:3", UNIX_S + 60, "eve", b"west");
    assert_eq!(other.allocate(&mut s, |_| {}).code(), 401);
    s.advance(secs(100));
    let mut late = Client::rest("5.5.5.5:4", UNIX_S + 60, "carol", b"north");
    assert_eq!(late.allocate(&mut s, |_| {}).code(), 401);
    assert_eq!(s.denied.last().unwrap().why, Denial::Auth(AuthError::Unknown(UnknownUser::Expired(40))));
    assert_eq!(north.refresh(&mut s, 600).code(), 0);
}

/// Whoever has a secret that leaked has sessions under it, too.
#[test]
fn sessions_end_with_the_secret_of_their_credentials_and_no_others() {
    let mut s = Stage::with(|setup| done(setup.settings.users.add_rest_secret(b"south")));
    let mut north = Client::rest("5.5.5.5:1", UNIX_S + 60, "carol", b"north");
    let mut south = Client::rest("5.5.5.5:2", UNIX_S + 60, "dave", b"south");
    let mut alice = Client::alice_at(3);
    north.allocated(&mut s);
    south.allocated(&mut s);
    alice.allocated(&mut s);
    let (mut modern_north, list) = long_challenge(&mut s, Client::rest("5.5.5.5:5", UNIX_S + 60, "carol", b"north"));
    let datagram = modern(&mut modern_north, 2, &list, false);
    assert_eq!(s.answer(&modern_north.path, &datagram).code(), 0);
    let rotated = |settings: &mut Settings, secrets: &[&[u8]]| {
        settings.users = Users::new(REALM);
        settings.users.add("alice", UserSecret::Password("sesame".into()));
        secrets.iter().for_each(|secret| done(settings.users.add_rest_secret(secret)));
    };
    s.reload(|settings| rotated(settings, &[b"west", b"south", b"north"]));
    assert!(s.ended.is_empty(), "{:?}", s.ended);
    s.reload(|settings| rotated(settings, &[b"west", b"south"]));
    let mut ended: Vec<_> = s.ended.iter().map(|ended| (ended.path, ended.cause)).collect();
    ended.sort_by_key(|(path, _)| path.client);
    assert_eq!(ended, [(north.path, EndCause::SecretRemoved), (modern_north.path, EndCause::SecretRemoved)]);
    assert_eq!(north.refresh(&mut s, 600).code(), 401);
    assert_eq!((south.refresh(&mut s, 600).code(), alice.refresh(&mut s, 600).code()), (0, 0));
    let mut north_again = Client::rest("5.5.5.5:6", UNIX_S + 900, "carol", b"north");
    assert_eq!(north_again.allocate(&mut s, |_| {}).code(), 401);
    Client::rest("5.5.5.5:7", UNIX_S + 900, "carol", b"south").allocated(&mut s);
}

/// Unlike REST credentials, which end by themselves, a static user is there until he is taken away.
#[test]
fn a_static_user_who_was_taken_away_refreshes_nothing_and_a_changed_password_counts_at_once() {
    let mut s = Stage::new();
    let (mut alice, mut bob) = (Client::alice(), Client::new("5.5.5.5:2", "bob", "open"));
    alice.allocated(&mut s);
    bob.allocated(&mut s);
    s.reload(|settings| {
        settings.users = Users::new(REALM);
        settings.users.add("bob", UserSecret::Password("changed".into())).add_rest_secret(b"north");
    });
    assert_eq!((alice.refresh(&mut s, 600).code(), alice.permit(&mut s, at(PEER))), (401, 401));
    assert_eq!(bob.refresh(&mut s, 600).code(), 401);
    bob.password = "changed".into();
    assert_eq!(bob.refresh(&mut s, 600).code(), 0);
    s.advance(secs(601));
    assert_eq!(s.ended.len(), 2);
}

#[test]
fn another_valid_user_on_the_same_5_tuple_is_441() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    let mut bob = Client::by(alice.path, "bob", "open");
    assert_eq!(bob.refresh(&mut s, 0).code(), 441);
    assert_eq!(bob.permit(&mut s, at(PEER)), 441);
    assert_eq!(bob.bind(&mut s, 0x4000, at(PEER)), 441);
    assert_eq!(bob.allocate(&mut s, |_| {}).code(), 437);
    let mut guess = Client::by(alice.path, "alice", "guess");
    assert_eq!(guess.refresh(&mut s, 0).code(), 401);
    assert_eq!(s.shard.gauges().allocations, 1);
}

#[test]
fn attributes_behind_the_seal_do_not_count() {
    let mut s = Stage::new();
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    // A release smuggled in behind MESSAGE-INTEGRITY, as somebody on the path could do.
    let mut datagram = alice.sealed(Method::REFRESH, |_| {});
    datagram.extend([0x00, 0x0D, 0, 4, 0, 0, 0, 0]);
    let length = (datagram.len() - 20) as u16;
    datagram[2..4].copy_from_slice(&length.to_be_bytes());
    let answer = s.answer(&alice.path, &datagram);
    assert_eq!((answer.code(), answer.lifetime(), s.shard.gauges().allocations), (0, 600, 1));
    let mut datagram = alice.sealed(Method::CREATE_PERMISSION, |_| {});
    let mut peer = [0; 64];
    let id = Message::parse(&datagram).unwrap().transaction_id();
    let length = MessageBuilder::new(&mut peer, Class::Request, Method::REFRESH, id)
        .xor_peer_address(at(PEER))
        .finish()
        .unwrap();
    datagram.extend(&peer[20..length]);
    let length = (datagram.len() - 20) as u16;
    datagram[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(s.answer(&alice.path, &datagram).code(), 400);
    assert_eq!(alice.send(&mut s, at(PEER), b"x"), None);
}

/// A request with the SHA-256 algorithm and a hashed name (RFC 8489 §9.2.3).
fn modern(client: &mut Client, chosen: u8, list: &[u8], hashed: bool) -> Vec<u8> {
    let (user, realm, nonce) = (client.user.clone(), client.realm.clone(), client.nonce.clone());
    let key: Vec<u8> = match chosen {
        2 => credentials::long_term_key_sha256(&user, &realm, &client.password).to_vec(),
        _ => client.key().to_vec(),
    };
    let list = list.to_vec();
    client.plain(Method::ALLOCATE, |b| {
        b.requested_transport(17);
        if hashed {
            b.attr(AttributeType::USERHASH, &credentials::userhash(&user, &realm));
        } else {
            b.username(&user);
        }
        b.realm(&realm).nonce(&nonce).attr(AttributeType::PASSWORD_ALGORITHMS, &list);
        b.attr(AttributeType::PASSWORD_ALGORITHM, &[0, chosen, 0, 0]).integrity_sha256(&key);
    })
}

/// Asks with enough padding for the long challenge.
fn long_challenge(s: &mut Stage, mut client: Client) -> (Client, Vec<u8>) {
    let datagram = client.plain(Method::ALLOCATE, |b| {
        b.requested_transport(17).software(&"a client that knows RFC 8489".repeat(3));
    });
    let answer = s.answer(&client.path, &datagram);
    client.nonce = answer.nonce();
    let list = answer.message().raw(AttributeType::PASSWORD_ALGORITHMS).unwrap().to_vec();
    (client, list)
}

#[test]
fn sha256_and_hashed_names_open_and_the_answer_is_sealed_alike() {
    let mut s = Stage::new();
    for (n, (chosen, hashed)) in [(2, true), (2, false), (1, true)].into_iter().enumerate() {
        let (mut client, list) = long_challenge(&mut s, Client::new(&format!("5.5.5.5:{}", n + 1), "alice", "sesame"));
        // RFC 8489 §18.1: bits 0 and 1 of 24, the leftmost first.
        assert!(client.nonce.starts_with("obMatJos2wAAA"), "{}", client.nonce);
        let datagram = modern(&mut client, chosen, &list, hashed);
        let answer = s.answer(&client.path, &datagram);
        assert_eq!((answer.code(), answer.message().has_integrity()), (0, false));
        let key: Vec<u8> = match chosen {
            2 => credentials::long_term_key_sha256("alice", REALM, "sesame").to_vec(),
            _ => client.key().to_vec(),
        };
        answer.message().verify_integrity_sha256(&key).unwrap();
    }
}

#[test]
fn an_algorithm_that_was_not_offered_is_400_so_nobody_is_talked_down() {
    let mut s = Stage::new();
    let (mut client, list) = long_challenge(&mut s, Client::alice());
    for (chosen, list) in [(2, &list[..4]), (1, &[0, 1, 0, 0]), (3, &list[..]), (2, &[])] {
        let datagram = modern(&mut client, chosen, list, false);
        assert_eq!(s.answer(&client.path, &datagram).code(), 400);
    }
    // An old client that ignores the offer logs in by MD5.
    assert_eq!(code(&mut s, &mut client), 0);
    // The cookie's bits cannot be switched off: the nonce is no longer ours.
    let (mut client, list) = long_challenge(&mut s, Client::alice_at(4));
    client.nonce.replace_range(9..13, "AAAA");
    let datagram = modern(&mut client, 2, &list, false);
    assert_eq!(s.answer(&client.path, &datagram).code(), 438);
}

#[test]
fn a_binding_is_answered_with_the_address_and_nothing_more() {
    let mut s = Stage::new();
    let mut client = Client::alice();
    let datagram = client.plain(Method::BINDING, |_| {});
    let answer = s.answer(&client.path, &datagram);
    assert_eq!((datagram.len(), answer.0.len()), (20, 32));
    assert_eq!(answer.message().xor_mapped_address().unwrap(), Some(client.path.client));
    let datagram = client.plain(Method::BINDING, |b| done(b.fingerprint()));
    let answer = s.answer(&client.path, &datagram);
    assert_eq!((answer.0.len(), answer.message().verify_fingerprint()), (40, Ok(())));
    let strange = client.plain(Method::BINDING, |b| done(b.attr(AttributeType(0x7001), &[])));
    assert_eq!(s.answer(&client.path, &strange).code(), 420);
    s.reload(|settings| settings.stun = false);
    assert!(s.try_answer(&client.path, &datagram).is_none());
    s.reload(|settings| (settings.stun, settings.turn) = (true, false));
    assert_eq!(s.answer(&client.path, &datagram).code(), 0);
    let allocate = client.plain(Method::ALLOCATE, udp_request);
    assert!(s.try_answer(&client.path, &allocate).is_none());
}

/// On the wire, as whoever receives it counts.
fn grows_by(path: &ClientPath, request: usize, answer: usize) -> f64 {
    let headers = if path.client.is_ipv4() { 28 } else { 48 };
    (answer + headers) as f64 / (request + headers) as f64
}

/// Everything that a stranger may send and have an answer to, from the shortest on.
fn strangers_requests(client: &mut Client) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    for method in [Method::BINDING, Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND]
    {
        requests.push(client.plain(method, |_| {}));
        requests.push(client.plain(method, |b| done(b.fingerprint())));
        requests.push(client.plain(method, |b| done(b.requested_transport(17).fingerprint())));
        for padding in (0..300).step_by(4) {
            requests.push(client.plain(method, |b| {
                b.requested_transport(17);
                if padding > 0 {
                    b.attr(AttributeType::SOFTWARE, &vec![b'x'; padding - 4]);
                }
            }));
        }
        for unknown in 1..20u16 {
            requests.push(client.plain(method, |b| {
                (0..unknown).for_each(|n| done(b.attr(AttributeType(0x7000 + n), &[])));
            }));
        }
        for nonce in ["", "x", "obMatJos2AAAC", "f-_499k9"] {
            requests.push(client.plain(method, |b| done(b.username("").realm("").nonce(nonce).integrity(b"y"))));
        }
        requests.push(client.plain(method, |b| done(b.integrity(b"y"))));
        requests.push(client.plain(method, |b| done(b.username("x").integrity(b"y"))));
        requests.push(client.plain(method, |b| done(b.username("x").integrity_sha256(b"y").fingerprint())));
        // With a nonce of ours: the right name and the wrong password.
        requests.push(client.sealed(method, udp_request));
    }
    requests
}

/// A realm may have 16 bytes: an Allocate of Chromium's is 28 bytes, 56 with its headers, and no 401 is shorter than 44, 72
/// with its headers, and the realm. Without the headers 1.6 could not hold under any realm.
#[test]
fn nothing_that_a_stranger_sends_comes_back_more_than_1_6_times_as_large() {
    for (realm, fingerprint) in [("r", true), (REALM, false), ("turn.example.org", true), ("turn.example.org", false)] {
        let mut s = Stage::with(|setup| {
            setup.settings.users = Users::new(realm);
            setup.settings.users.add("alice", UserSecret::Password("sesame".into())).add_rest_secret(b"north");
            setup.settings.unauthenticated = Rate::UNLIMITED;
            setup.settings.fingerprint = fingerprint;
        });
        for address in ["5.5.5.5:5", "[2a00::5]:5"] {
            let mut client = Client { realm: realm.into(), ..Client::new(address, "alice", "wrong") };
            client = with_nonce(&mut s, client);
            let mut codes = std::collections::BTreeSet::new();
            for request in strangers_requests(&mut client) {
                let Some(answer) = s.try_answer(&client.path, &request) else { continue };
                let ratio = grows_by(&client.path, request.len(), answer.0.len());
                assert!(ratio <= 1.6, "{realm}: {} to {}: {ratio}", request.len(), answer.0.len());
                codes.insert(answer.code());
            }
            assert!(codes.into_iter().eq([0, 400, 401, 420, 438]));
        }
    }
}

#[test]
fn under_a_long_realm_a_client_still_learns_how_to_log_in() {
    let mut s = Stage::with(|setup| {
        setup.settings.users = Users::new("turn.a-long-name.example.org");
        setup.settings.users.add("alice", UserSecret::Password("sesame".into()));
    });
    let mut client = Client { realm: "turn.a-long-name.example.org".into(), ..Client::alice() };
    client.allocated(&mut s);
    let shortest = client.plain(Method::REFRESH, |_| {});
    assert!(s.try_answer(&client.path, &shortest).is_none());
}

/// What a long realm costs is paid out of a purse: who claims another's address gains 4 KiB, and 256 bytes a second.
#[test]
fn under_any_realm_a_victim_is_sent_little_more_than_1_6_times_what_was_sent_in_its_name() {
    for length in [17, 20, 28, 64, 127] {
        let realm = "r".repeat(length);
        let mut s = Stage::with(|setup| {
            setup.settings.users = Users::new(&realm);
            setup.settings.users.add("alice", UserSecret::Password("sesame".into()));
            setup.settings.unauthenticated = Rate::UNLIMITED;
            setup.settings.fingerprint = true;
        });
        let mut client = Client { realm: realm.clone(), ..Client::new("5.5.5.5:5", "alice", "wrong") };
        let requests = strangers_requests(&mut client);
        let (mut sent, mut got, mut answered) = (0, 0, 0);
        for round in 0..100 {
            for request in &requests {
                sent += request.len() + 28;
                let answer = s.try_answer(&client.path, request);
                answered += usize::from(answer.is_some());
                got += answer.map_or(0, |answer| answer.0.len() + 28);
            }
            s.advance(std::time::Duration::from_millis(100));
            let seconds = f64::from(round) * 0.1;
            assert!(got as f64 <= 1.6 * sent as f64 + 4_096.0 + 256.0 * seconds, "{length}: {sent} to {got}");
        }
        assert!(answered > 5_000, "{answered}");
        // Somebody else has a purse of his own, and this one its next second.
        s.advance(secs(1));
        Client { realm: realm.clone(), ..Client::alice() }.allocated(&mut s);
        Client { realm, ..Client::new("5.5.5.5:6", "alice", "sesame") }.allocated(&mut s);
    }
}

/// A line a second for each cause, of each thread, and every cause has its line.
#[test]
fn guesses_at_passwords_do_not_hide_what_else_is_refused() {
    let mut s = Stage::with(|setup| {
        setup.settings.unauthenticated = Rate::UNLIMITED;
        setup.limits.allocations_per_user = 1;
    });
    let mut guess = with_nonce(&mut s, Client::new("5.5.5.5:5", "alice", "guess"));
    Client::alice().allocated(&mut s);
    for second in 0..60 {
        (0..200).for_each(|_| done(code(&mut s, &mut guess)));
        if second == 30 {
            assert_eq!(Client::alice_at(3).allocate(&mut s, |_| {}).code(), 486);
        }
        s.advance(secs(1));
    }
    let (guesses, others): (Vec<_>, Vec<_>) =
        s.denied.iter().partition(|denied| denied.why == Denial::Auth(AuthError::Password));
    assert!((60..=66).contains(&guesses.len()), "{}", guesses.len());
    assert_eq!(guesses.len() as u64 + guesses.iter().map(|denied| denied.left_out).sum::<u64>(), 60 * 200 - 199);
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].why, Denial::Request(Refused::Quota(QuotaError::User(1))));
}

#[test]
fn a_flood_of_strangers_makes_no_state_and_few_answers() {
    let mut s = Stage::with(|setup| setup.settings.unauthenticated = Rate { per_second: 10, burst: 20 });
    let mut alice = Client::alice();
    alice.allocated(&mut s);
    alice.permit(&mut s, at(PEER));
    let before = s.shard.gauges();
    s.replies.clear();
    for n in 0..100_000u32 {
        // Half from one source, half from everywhere; a third with forged seals.
        let address =
            if n % 2 == 0 { "9.9.9.9:9".to_owned() } else { format!("7.{}.{}.{}:9", n >> 16, n >> 8 & 0xFF, n & 0xFF) };
        let mut stranger = Client::new(&address, "alice", "guess");
        stranger.nonce = "f//499k954d6".into();
        let datagram = if n % 3 == 0 {
            stranger.sealed(Method::ALLOCATE, udp_request)
        } else {
            stranger.plain(Method::ALLOCATE, udp_request)
        };
        assert_eq!(s.input(&stranger.path, &datagram), None);
        if n % 1_000 == 0 {
            assert!(alice.send(&mut s, at(PEER), b"through").is_some());
        }
    }
    assert_eq!((s.shard.gauges(), s.binds), (before, 1));
    let to_one = s.replies.iter().filter(|(path, _)| path.client == at("9.9.9.9:9")).count();
    // Others may share its bucket.
    assert!(to_one <= 20, "{to_one}");
    assert!(s.denied.len() <= 5);
    let mut newcomer = Client::alice_at(3);
    s.advance(secs(3));
    newcomer.allocated(&mut s);
}

#[test]
fn only_requests_are_answered_and_nothing_goes_to_ourselves_or_nowhere() {
    let mut s = Stage::with(|setup| setup.settings.policy.own_sockets = vec![at("198.51.100.1:3478")]);
    let mut client = Client::alice();
    let binding = client.plain(Method::BINDING, |_| {});
    for source in ["198.51.100.1:3478", "5.5.5.5:0", "0.0.0.0:5", "224.0.0.1:5"] {
        assert!(s.try_answer(&udp(source), &binding).is_none(), "{source}");
    }
    assert_eq!(s.shard.counters().dropped_looping, 4);
    let mut silent: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 20], b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xFF; 60]];
    // Without the cookie (RFC 3489), cut off, longer than it says, with a wrong FINGERPRINT, not a request.
    let mut old = binding.clone();
    old[4] = 0;
    silent.push(old);
    silent.push(binding[..19].to_vec());
    silent.push([&binding[..], &[0; 4]].concat());
    let mut torn = client.plain(Method::BINDING, |b| done(b.fingerprint()));
    *torn.last_mut().unwrap() ^= 1;
    silent.push(torn);
    for class in [Class::Indication, Class::Success, Class::Error] {
        let mut buffer = [0; 20];
        let id = client.id();
        MessageBuilder::new(&mut buffer, class, Method::ALLOCATE, id).finish().unwrap();
        silent.push(buffer.to_vec());
    }
    // Connect (RFC 6062) and a method that nobody knows.
    silent.push(client.plain(Method::CONNECT, |_| {}));
    silent.push(client.plain(Method::new(0x0FF), |_| {}));
    for datagram in silent {
        assert!(s.try_answer(&client.path, &datagram).is_none(), "{datagram:02x?}");
    }
}

#[test]
fn without_authentication_nobody_is_asked() {
    let mut s = Stage::with(|setup| done(setup.settings.users.admit_anyone()));
    let mut client = Client::alice();
    let datagram = client.plain(Method::ALLOCATE, udp_request);
    let answer = s.answer(&client.path, &datagram);
    assert_eq!((answer.code(), answer.message().has_integrity(), &*s.started[0].user), (0, false, ""));
}

#[test]
fn a_user_secret_that_is_a_key_opens_by_md5() {
    let mut s = Stage::with(|setup| {
        let key = credentials::long_term_key("carol", REALM, "secret");
        setup.settings.users.add("carol", UserSecret::Key(key));
    });
    Client::new("5.5.5.5:1", "carol", "secret").allocated(&mut s);
    // A client that knows RFC 8489 would choose SHA-256, and may not try again by MD5 (§9.2.5): it is not offered.
    let mut modern_client = Client::new("5.5.5.5:2", "carol", "secret");
    let datagram = modern_client.plain(Method::ALLOCATE, |b| {
        b.requested_transport(17).software(&"a client that knows RFC 8489".repeat(3));
    });
    let challenge = s.answer(&modern_client.path, &datagram);
    assert!(!challenge.message().has(AttributeType::PASSWORD_ALGORITHMS));
    // USERHASH alone.
    assert!(challenge.nonce().starts_with("obMatJos2QAAA"), "{}", challenge.nonce());
    modern_client.nonce = challenge.nonce();
    assert_eq!(code(&mut s, &mut modern_client), 0);
}

/// A user that comes while a nonce is good under which SHA-256 was offered.
#[test]
fn sha256_for_a_user_of_whom_an_md5_key_is_known_is_401_and_the_log_says_so() {
    let mut s = Stage::new();
    let (mut client, list) = long_challenge(&mut s, Client::new("5.5.5.5:2", "carol", "secret"));
    s.reload(|settings| {
        let key = credentials::long_term_key("carol", REALM, "secret");
        settings.users.add("carol", UserSecret::Key(key));
    });
    let datagram = modern(&mut client, 2, &list, false);
    assert_eq!(s.answer(&client.path, &datagram).code(), 401);
    assert_eq!(s.denied.last().unwrap().why, Denial::Auth(AuthError::Unknown(UnknownUser::Md5Only)));
}

#[test]
fn a_connection_that_guesses_on_and_on_is_cut_off_and_one_with_an_allocation_is_not() {
    let mut stage = Stage::new();
    let rate = stage.settings.unauthenticated;
    let mut honest = Client::by(tcp("203.0.113.9:5000", 1), "alice", "sesame");
    honest.allocated(&mut stage);
    let mut guesser = Client::by(tcp("203.0.113.9:6000", 2), "alice", "guess");
    guesser.nonce = honest.nonce.clone();
    let answered = (0..rate.burst + 50)
        .filter(|_| {
            let guess = guesser.sealed(Method::ALLOCATE, |b| done(b.requested_transport(17)));
            stage.try_answer(&guesser.path, &guess).is_some()
        })
        .count();
    assert!(answered as u64 <= rate.burst, "{answered} guesses were answered");
    assert!(stage.closed.contains(&guesser.path), "the connection stays open");
    // The same address: who has an allocation is answered as ever.
    let plain = honest.plain(Method::BINDING, |_| {});
    assert!(stage.try_answer(&honest.path, &plain).is_some());
    assert!(!stage.closed.contains(&honest.path));
    assert_eq!(honest.refresh(&mut stage, 600).code(), 0);
}

#[test]
fn a_flood_in_a_clients_name_costs_it_neither_its_allocation_nor_its_connections() {
    let mut stage = Stage::new();
    let rate = stage.settings.unauthenticated;
    let mut alice = Client::new("203.0.113.9:5000", "alice", "sesame");
    alice.allocated(&mut stage);
    let nonce_lifetime = stage.settings.nonce_lifetime.unwrap();
    alice.refresh(&mut stage, 3_000);
    stage.advance(nonce_lifetime + secs(1));
    // Forged, from every port of her address.
    let mut stranger = Client::new("203.0.113.9:1", "alice", "guess");
    let answered = (1..=rate.burst as u16 + 200)
        .filter(|port| {
            stranger.path = udp(&format!("203.0.113.9:{}", 10_000 + port));
            let asked = stranger.plain(Method::ALLOCATE, udp_request);
            stage.try_answer(&stranger.path, &asked).is_some()
        })
        .count();
    assert!(answered as u64 <= rate.burst, "{answered} strangers were answered");
    // Her nonce is stale, and she is told the new one.
    assert_eq!(alice.refresh(&mut stage, 600).code(), 0);
    // Whoever comes by a connection has forged nothing.
    Client::by(tcp("203.0.113.9:6000", 2), "alice", "sesame").allocated(&mut stage);
    assert!(stage.closed.is_empty());
    // In the name of her very port there is a limit, too.
    let forged = alice.plain(Method::ALLOCATE, udp_request);
    let answered = (0..100).filter(|_| stage.try_answer(&alice.path, &forged).is_some()).count();
    assert!((1..=20).contains(&answered), "{answered}");
}

#[test]
fn a_request_of_too_many_words_is_dropped_before_anything_is_computed_over_it() {
    let mut stage = Stage::new();
    let mut alice = Client::by(tcp("203.0.113.9:5000", 1), "alice", "sesame");
    alice.allocated(&mut stage);
    let mut buffer = vec![0; 10_000];
    let id = alice.id();
    let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::REFRESH, id);
    for _ in 0..10 {
        builder.attr(AttributeType::SOFTWARE, &[b'x'; 700]);
    }
    builder.username("alice").realm(REALM).nonce(&alice.nonce).integrity(&alice.key());
    let length = builder.finish().unwrap();
    let dropped = stage.shard.counters().dropped_oversized;
    assert!(stage.try_answer(&alice.path, &buffer[..length]).is_none());
    assert_eq!(stage.shard.counters().dropped_oversized, dropped + 1);
}
