//! The same requests to us and to a TURN server that others wrote, `turn-server-proto`: answers and relayed bytes agree, or
//! the difference is one that is written down here with the section which asks for ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod oracle;
mod stage;

use offhook_testkit::Rng;
use offhook_wire_stun::{AddressFamily, AttributeType, Method};
use oracle::*;
use stage::{PEER, PEER6, at, done};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Where they are allowed to differ without going separate ways afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// RFC 8489 §6.3.1: what is not understood is refused before the method is looked at. Theirs looks for the allocation
    /// first.
    UnknownBeforeMethod,
    /// RFC 8656 §5: only requests other than Allocate are 441; a second Allocate is 437, whoever sends it (§7.2 step 2).
    AllocateByAnother,
    /// RFC 8656 §7.2 step 3, by a server without RFC 6062: any other transport is 442. Theirs knows TCP, and that it
    /// cannot be asked for by UDP.
    TcpTransport,
    /// RFC 8656 §7.2 step 7: a family that is not supported is 440, whichever number it has.
    StrangeFamily,
    /// RFC 8656 §12.2: a ChannelBind without a number, or with one out of range, is 400 before its peer is looked at.
    NumberBeforeFamily,
    /// RFC 8656 §12.6 asks ChannelData for a binding and nothing more; theirs for a permission too.
    ChannelOutlivesPermission,
    /// RFC 8656 §15, §11.2: DONT-FRAGMENT is understood in a Send. Theirs discards it.
    DontFragment,
    /// RFC 8489 §6.3: a method that is not known is not answered.
    StrangeMethod,
    /// RFC 8489 §14: USERNAME in a Binding is understood, and means nothing.
    UsernameInBinding,
}

/// One step of a script.
#[derive(Debug, Clone)]
enum Step {
    Binding { username: bool, unknown: bool },
    Allocate { transport: Option<u8>, family: Option<u8>, additional: bool, lifetime: Option<u32>, unknown: bool },
    Refresh { lifetime: Option<u32>, family: Option<AddressFamily>, unknown: bool },
    Permit { peers: Vec<SocketAddr>, unknown: bool },
    Bind { number: Option<u16>, peer: Option<SocketAddr>, unknown: bool },
    Strange,
    Send { peer: Option<SocketAddr>, payload: Vec<u8>, dont_fragment: bool },
    ChannelData { number: u16, payload: Vec<u8>, claimed: usize },
    FromPeer { peer: SocketAddr, payload: Vec<u8> },
    Wait(Duration),
}

fn known(step: &Step, ours: &Seen, theirs: &Seen) -> Option<Known> {
    let codes = (ours.code(), theirs.code());
    match step {
        Step::Refresh { unknown: true, .. }
        | Step::Permit { unknown: true, .. }
        | Step::Bind { unknown: true, .. }
        | Step::Allocate { unknown: true, .. }
            if codes.0 == Some(420) && matches!(codes.1, Some(400 | 437 | 441)) =>
        {
            Some(Known::UnknownBeforeMethod)
        }
        Step::Allocate { .. } if codes == (Some(437), Some(441)) => Some(Known::AllocateByAnother),
        Step::Allocate { transport: Some(6), .. } if codes == (Some(442), Some(400)) => Some(Known::TcpTransport),
        Step::Allocate { family: Some(family), .. } if *family > 2 && codes == (Some(440), Some(400)) => {
            Some(Known::StrangeFamily)
        }
        Step::Bind { .. } if codes == (Some(400), Some(443)) => Some(Known::NumberBeforeFamily),
        Step::ChannelData { .. } if matches!((ours, theirs), (Seen::ToPeer { .. }, Seen::Nothing)) => {
            Some(Known::ChannelOutlivesPermission)
        }
        Step::Send { dont_fragment: true, .. } if matches!((ours, theirs), (Seen::ToPeer { .. }, Seen::Nothing)) => {
            Some(Known::DontFragment)
        }
        Step::Strange if *ours == Seen::Nothing => Some(Known::StrangeMethod),
        Step::Binding { username: true, .. } if codes.1 == Some(420) => Some(Known::UsernameInBinding),
        _ => None,
    }
}

/// Takes a step with both and compares.
fn take(twins: &mut Twins, who: usize, step: &Step) -> Option<Known> {
    let unknown = |b: &mut offhook_wire_stun::MessageBuilder<'_>, is: bool| {
        if is {
            b.attr(AttributeType(0x7ABC), b"?");
        }
    };
    let (ours, theirs) = match step {
        Step::Binding { username, unknown: strange } => twins.plain(who, Method::BINDING, |b| {
            if *username {
                b.username("alice");
            }
            unknown(b, *strange);
        }),
        Step::Allocate { transport, family, additional, lifetime, unknown: strange } => {
            twins.sealed(who, Method::ALLOCATE, |b| {
                transport.iter().copied().for_each(|transport| done(b.requested_transport(transport)));
                family.iter().copied().for_each(|family| {
                    b.attr(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0]);
                });
                if *additional {
                    b.attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
                }
                lifetime.iter().copied().for_each(|lifetime| done(b.lifetime_s(lifetime)));
                unknown(b, *strange);
            })
        }
        Step::Refresh { lifetime, family, unknown: strange } => twins.sealed(who, Method::REFRESH, |b| {
            lifetime.iter().copied().for_each(|lifetime| done(b.lifetime_s(lifetime)));
            family.iter().copied().for_each(|family| done(b.requested_address_family(family)));
            unknown(b, *strange);
        }),
        Step::Permit { peers, unknown: strange } => twins.sealed(who, Method::CREATE_PERMISSION, |b| {
            peers.iter().for_each(|peer| done(b.xor_peer_address(*peer)));
            unknown(b, *strange);
        }),
        Step::Bind { number, peer, unknown: strange } => twins.sealed(who, Method::CHANNEL_BIND, |b| {
            number.iter().copied().for_each(|number| done(b.channel_number(number)));
            peer.iter().copied().for_each(|peer| done(b.xor_peer_address(peer)));
            unknown(b, *strange);
        }),
        Step::Strange => twins.sealed(who, Method::new(0x0FF), |_| {}),
        Step::Send { peer, payload, dont_fragment } => twins.indication(who, |b| {
            peer.iter().copied().for_each(|peer| done(b.xor_peer_address(peer)));
            if *dont_fragment {
                b.attr(AttributeType::DONT_FRAGMENT, &[]);
            }
            b.data(payload);
        }),
        Step::ChannelData { number, payload, claimed } => twins.channel_data(who, *number, payload, *claimed),
        Step::FromPeer { peer, payload } => twins.peer_sends(who, *peer, payload),
        Step::Wait(time) => {
            twins.wait(*time);
            return None;
        }
    };
    if ours == theirs {
        return None;
    }
    let why = known(step, &ours, &theirs);
    assert!(why.is_some(), "client {who}, {step:?}:\nours   {ours:?}\ntheirs {theirs:?}");
    why
}

fn peer(rng: &mut Rng) -> SocketAddr {
    let ports = [5_004, 5_005, 9];
    let port = ports[rng.below(3) as usize];
    match rng.below(8) {
        0..=1 => at(PEER6),
        2 => SocketAddr::new(at("1.1.1.1:1").ip(), port),
        _ => SocketAddr::new(at(PEER).ip(), port),
    }
}

fn payload(rng: &mut Rng) -> Vec<u8> {
    let mut payload = vec![0; rng.below(40) as usize];
    rng.fill(&mut payload);
    payload
}

/// Each address of a peer has a channel number of its own, so that no binding is refused for its number alone: theirs does
/// not refuse that (see the scripts below).
fn number_of(peer: SocketAddr) -> u16 {
    0x4000
        + (peer.port() % 64)
        + if peer.is_ipv6() {
            64
        } else if peer.ip() == at(PEER).ip() {
            128
        } else {
            192
        }
}

fn a_step(rng: &mut Rng) -> Step {
    let unknown = rng.chance(0.04);
    match rng.below(100) {
        0..=3 => Step::Binding { username: rng.chance(0.2), unknown },
        4..=18 => {
            let transport = match rng.below(12) {
                0 => None,
                1 => Some(6),
                2 => Some(99),
                _ => Some(17),
            };
            let family = [Some(1), Some(2), Some(9), None, None, None][rng.below(6) as usize];
            let lifetime = [None, Some(0), Some(5), Some(900), Some(u32::MAX)][rng.below(5) as usize];
            // Both families at once is a fault of its own: one fault in each request.
            let additional = rng.chance(0.2) && (family.is_none() || transport == Some(17) && family != Some(9));
            Step::Allocate { transport, family, additional, lifetime, unknown }
        }
        19..=26 => {
            let lifetime = [None, Some(0), Some(1), Some(1_200), Some(99_999)][rng.below(5) as usize];
            let family = [None, None, Some(AddressFamily::V4), Some(AddressFamily::V6)][rng.below(4) as usize];
            Step::Refresh { lifetime, family, unknown }
        }
        27..=38 => {
            // One family in each, as half a list may be taken by theirs.
            let first = peer(rng);
            let mut peers = vec![first];
            for _ in 0..rng.below(3) {
                peers.push(peer(rng));
            }
            peers.retain(|other| other.is_ipv4() == first.is_ipv4());
            if rng.chance(0.05) {
                peers.clear();
            }
            Step::Permit { peers, unknown }
        }
        39..=50 => {
            let peer = peer(rng);
            let number = match rng.below(10) {
                0 => None,
                1 => Some([0, 0x3FFF, 0x8000, 0xFFFF][rng.below(4) as usize]),
                _ => Some(number_of(peer)),
            };
            Step::Bind { number, peer: if rng.chance(0.05) { None } else { Some(peer) }, unknown }
        }
        51 => Step::Strange,
        52..=64 => {
            let peer = if rng.chance(0.05) { None } else { Some(peer(rng)) };
            Step::Send { peer, payload: payload(rng), dont_fragment: rng.chance(0.05) }
        }
        65..=77 => {
            let payload = payload(rng);
            let claimed = if rng.chance(0.1) { payload.len() + 1 } else { payload.len() };
            Step::ChannelData { number: number_of(peer(rng)), payload, claimed }
        }
        78..=92 => Step::FromPeer { peer: peer(rng), payload: payload(rng) },
        // Never a whole second, so that nothing ends at the very moment it is used.
        _ => Step::Wait(Duration::from_millis(1_000 * (1 + rng.below(400)) + 1)),
    }
}

#[test]
fn thousands_of_random_steps_are_answered_and_relayed_alike() {
    let mut differed: BTreeMap<Known, u32> = BTreeMap::new();
    let mut seen = [0u32; 4];
    for seed in 0..offhook_testkit::length(200, 5_000) {
        let mut rng = Rng::seeded(seed);
        let mut twins = Twins::new();
        for _ in 0..200 {
            let step = a_step(&mut rng);
            let who = rng.below(CLIENTS as u64) as usize;
            if let Some(why) = take(&mut twins, who, &step) {
                *differed.entry(why).or_default() += 1;
            }
        }
        seen.iter_mut().zip(twins.seen).for_each(|(sum, count)| *sum += count);
    }
    // The script reaches everything: refusals, successes, what goes to peers and what comes from them.
    println!("{seen:?} {differed:?}");
    assert!(seen.iter().all(|count| *count > 500), "{seen:?}");
    assert_eq!(differed.len(), 9, "{differed:?}");
}

#[test]
fn both_refuse_strangers_alike() {
    let mut twins = Twins::new();
    for who in [ALICE, STRANGER, GUESSER] {
        for method in [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
            let (ours, theirs) = twins.plain(who, method, |b| done(b.requested_transport(17)));
            assert_eq!((ours.code(), ours), (Some(401), theirs));
            if who != ALICE {
                let (ours, theirs) = twins.sealed(who, method, |b| done(b.requested_transport(17)));
                assert_eq!((ours.code(), ours), (Some(401), theirs), "{who} {method:?}");
            }
            for leave_out in [AttributeType::USERNAME, AttributeType::REALM, AttributeType::NONCE] {
                let (ours, theirs) = twins.sealed_without(who, method, leave_out);
                assert_eq!((ours.code(), ours), (Some(400), theirs), "{who} {method:?} {leave_out:?}");
            }
            let (ours, theirs) = twins.sealed_under(who, method, "AAAAAAAA");
            assert_eq!((ours.code(), ours), (Some(438), theirs), "{who} {method:?}");
        }
    }
}

#[test]
fn both_let_a_client_of_rfc_8489_in_by_sha256_and_a_hashed_name() {
    for hashed in [false, true] {
        let mut twins = Twins::new();
        let (ours, theirs) = twins.modern(ALICE, hashed, |b| done(b.requested_transport(17)));
        assert_eq!((ours.code(), theirs.code()), (Some(0), Some(0)), "{ours:?} {theirs:?}");
        assert_eq!(ours, theirs);
    }
}

/// Differences after which the two are not in the same state any more.
mod apart {
    use super::*;

    fn allocated() -> Twins {
        let mut twins = Twins::new();
        let step =
            Step::Allocate { transport: Some(17), family: None, additional: false, lifetime: None, unknown: false };
        assert_eq!(take(&mut twins, ALICE, &step), None);
        twins
    }

    fn codes(pair: (Seen, Seen)) -> (Option<u16>, Option<u16>) {
        (pair.0.code(), pair.1.code())
    }

    /// RFC 8656 §12.2: the number must not be bound to another address. Theirs binds it twice.
    #[test]
    fn a_number_is_bound_to_one_peer() {
        let mut twins = allocated();
        let mut bind = |peer: &str| {
            let peer = at(peer);
            codes(twins.sealed(ALICE, Method::CHANNEL_BIND, |b| done(b.channel_number(0x4000).xor_peer_address(peer))))
        };
        assert_eq!((bind(PEER), bind("1.1.1.1:1")), ((Some(0), Some(0)), (Some(400), Some(0))));
    }

    /// RFC 8656 §10.2: all of the addresses or none. Theirs has permitted those before the bad one.
    #[test]
    fn a_list_of_peers_is_taken_whole_or_not() {
        let mut twins = allocated();
        let (first, second) = (at(PEER), at(PEER6));
        let pair = twins
            .sealed(ALICE, Method::CREATE_PERMISSION, |b| done(b.xor_peer_address(first).xor_peer_address(second)));
        assert_eq!(codes(pair), (Some(443), Some(443)));
        let (ours, theirs) = twins.peer_sends(ALICE, first, b"x");
        assert!(ours == Seen::Nothing && theirs != Seen::Nothing);
    }

    /// RFC 8656 §7.2: an Allocate that was sent again is answered again as before. Theirs takes it for a second one.
    #[test]
    fn an_allocate_that_was_sent_again_is_answered_again() {
        let mut twins = Twins::new();
        let (ours, theirs) = twins.sealed_twice(ALICE, Method::ALLOCATE, |b| done(b.requested_transport(17)));
        assert_eq!((ours[0].code(), &ours[0]), (Some(0), &ours[1]));
        assert_eq!((theirs[0].code(), theirs[1].code()), (Some(0), Some(437)));
    }

    /// RFC 8656 §7.2 step 5: a token that nobody was given is 508. Theirs does not look at it, nor at EVEN-PORT.
    #[test]
    fn a_token_must_be_one_that_was_given() {
        let mut twins = Twins::new();
        let pair = twins.sealed(ALICE, Method::ALLOCATE, |b| done(b.requested_transport(17).reservation_token([7; 8])));
        assert_eq!(codes(pair), (Some(508), Some(0)));
        let pair = twins.sealed(BOB, Method::ALLOCATE, |b| {
            b.requested_transport(17).reservation_token([7; 8]).even_port(false);
        });
        assert_eq!(codes(pair), (Some(400), Some(400)));
    }

    /// RFC 8489 §9.2.4: a realm that is not ours has no users of ours. Theirs does not compare it.
    #[test]
    fn a_request_names_our_realm() {
        let mut twins = Twins::new();
        twins.clients[ALICE].claimed_realm = Some("example.net");
        let pair = twins.sealed(ALICE, Method::ALLOCATE, |b| done(b.requested_transport(17)));
        assert_eq!(codes(pair), (Some(401), Some(0)));
    }

    /// RFC 8656 §8.2 and RFC 8489 §6.3.1: what cannot be read is not left out. Theirs passes it over.
    #[test]
    fn malformed_attributes_are_400() {
        let mut twins = allocated();
        let pair = twins.sealed(ALICE, Method::REFRESH, |b| done(b.attr(AttributeType::LIFETIME, &[1])));
        assert_eq!(codes(pair), (Some(400), Some(0)));
    }
}
