//! RFC 8489's own ways of logging in, SHA-256 and hashed names, by every carrier.
use crate::client::{Answer, Client};
use crate::rig::{ALICE, Daemon, Place};
use offhook_wire_stun::{AttributeType, MessageBuilder, Method, credentials};

const REALM: &str = "example.org";
const SHA256: [u8; 4] = [0, 2, 0, 0];

fn allocate(builder: &mut MessageBuilder<'_>, length: usize) {
    builder.requested_transport(17);
    // A header, REQUESTED-TRANSPORT, and a name that a client says of itself.
    if let Some(name) = length.checked_sub(20 + 8 + 4) {
        builder.software(&"x".repeat(name));
    }
}

/// What a first request of so many bytes is told.
fn challenged(client: &mut Client, length: usize) -> Answer {
    let answer = client.ask(Method::ALLOCATE, false, |builder| allocate(builder, length)).unwrap();
    assert_eq!(answer.code(), 401);
    answer
}

fn log_in(client: &mut Client, challenge: &Answer, hashed: bool, password: &str) -> Answer {
    let key = credentials::long_term_key_sha256("alice", REALM, password);
    let told = challenge.message();
    let (nonce, list) = (told.nonce().unwrap().unwrap(), told.raw(AttributeType::PASSWORD_ALGORITHMS).unwrap());
    let asked = client.ask(Method::ALLOCATE, false, |builder| {
        builder.requested_transport(17);
        if hashed {
            builder.attr(AttributeType::USERHASH, &credentials::userhash("alice", REALM));
        } else {
            builder.username("alice");
        }
        builder.realm(REALM).nonce(nonce);
        builder.attr(AttributeType::PASSWORD_ALGORITHMS, list).attr(AttributeType::PASSWORD_ALGORITHM, &SHA256);
        builder.integrity_sha256(&key);
    });
    asked.unwrap()
}

#[test]
fn sha256_and_hashed_names_log_in_by_udp_tcp_and_tls() {
    let place = Place::new();
    let options = format!("{ALICE}cert={}\npkey={}\n", place.shown("cert.pem"), place.shown("key.pem"));
    let daemon = place.start(&options);
    let chain = daemon.place.path("cert.pem");
    let key = credentials::long_term_key_sha256("alice", REALM, "sesame");
    for hashed in [false, true] {
        let carriers = [
            Client::udp(daemon.at(), "alice", "sesame"),
            Client::tcp(daemon.at(), "alice", "sesame"),
            Client::tls(daemon.at(), &chain, &["stun.turn"]).unwrap(),
        ];
        for (mut client, length) in carriers.into_iter().zip([44, 28, 28]) {
            let challenge = challenged(&mut client, length);
            assert_eq!(log_in(&mut client, &challenge, hashed, "guess").code(), 401);
            let answer = log_in(&mut client, &challenge, hashed, "sesame");
            assert_eq!(answer.code(), 0, "{length}, {hashed}");
            answer.message().verify_integrity_sha256(&key).unwrap();
        }
    }
}

/// 1.6 times the request, both with their headers: the offer has no room in the answer to the shortest request by UDP.
#[test]
fn by_udp_sha256_is_offered_to_requests_of_40_bytes_and_more() {
    for (realm, first) in [("example", 40), (REALM, 44), ("turn.example.org", 48)] {
        let daemon = Daemon::start(&format!("{ALICE}realm={realm}\n"));
        let mut alice = Client::udp(daemon.at(), "alice", "sesame");
        for (length, offered) in [(28, false), (first - 4, false), (first, true), (100, true)] {
            let challenge = challenged(&mut alice, length);
            assert_eq!(challenge.has(AttributeType::PASSWORD_ALGORITHMS), offered, "{realm}, {length}");
        }
        // Whoever is not offered it logs in as ever.
        assert_eq!(alice.allocate().code(), 0);
    }
}
