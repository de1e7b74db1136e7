//! Calls between two endpoints.

use crate::world::*;
use offhook_contract::HangupCause as Cause;
use offhook_sip_core::Command;
use offhook_sip_core::api::*;
use offhook_wire_sdp::telephony::{AudioSession, Codec};

/// A call that was answered: the gateway's leg and the carrier's.
fn connected(world: &mut World) -> (LegHandle, LegHandle) {
    let ours = world.dial();
    world.run(secs(1));
    let (theirs, _) = world.incoming(CARRIER);
    world.answer(CARRIER, theirs);
    world.run(secs(1));
    (ours, theirs)
}

#[test]
fn a_call_rings_is_answered_and_hung_up_by_the_caller() {
    let mut world = World::pair();
    let ours = world.dial();
    world.run(secs(1));
    let (theirs, incoming) = world.incoming(CARRIER);
    assert_eq!(incoming.number, "+15551230000");
    assert_eq!(incoming.caller.as_deref(), Some("+15550100"));
    assert!(incoming.has_offer);
    assert_eq!(Some(incoming.sip_call_id.as_str()), world.end(GATEWAY).sip_call_id(ours));
    world.order(CARRIER, Command::Ring { leg: theirs }).unwrap();
    world.order(CARRIER, Command::Ring { leg: theirs }).unwrap();
    world.run(secs(5));
    assert_eq!(world.events(GATEWAY), [LegEvent::Ringing]);
    world.answer(CARRIER, theirs);
    world.run(secs(1));
    assert_eq!(world.agreed(GATEWAY).remote, addr("198.51.100.1:30000"));
    assert_eq!(world.agreed(CARRIER).remote, addr("192.0.2.1:30000"));
    assert_eq!(world.sent("ACK").len(), 1);
    world.run(secs(600));
    world.hang_up(GATEWAY, ours);
    assert_eq!(world.ended(GATEWAY), Ended { cause: Cause::Normal, by: Side::Us, sip_code: None, q850: None });
    world.run(secs(1));
    assert_eq!(world.ended(CARRIER), Ended { cause: Cause::Normal, by: Side::Them, sip_code: None, q850: Some(16) });
    assert_eq!(world.end(GATEWAY).live_legs(), 0);
    world.assert_empty();
}

#[test]
fn the_callee_hangs_up() {
    let mut world = World::pair();
    let (_, theirs) = connected(&mut world);
    world.hang_up(CARRIER, theirs);
    world.run(secs(1));
    assert_eq!((world.ended(GATEWAY).by, world.ended(CARRIER).by), (Side::Them, Side::Us));
    world.assert_empty();
}

#[test]
fn both_hang_up_at_once() {
    let mut world = World::pair();
    let (ours, theirs) = connected(&mut world);
    world.hang_up(CARRIER, theirs);
    world.hang_up(GATEWAY, ours);
    world.run(secs(1));
    assert_eq!((world.ended(GATEWAY).by, world.ended(CARRIER).by), (Side::Us, Side::Us));
    world.assert_empty();
}

#[test]
fn early_media_flows_and_the_answer_may_differ_from_it() {
    let mut world = World::pair();
    world.dial();
    world.run(secs(1));
    let (theirs, _) = world.incoming(CARRIER);
    let early = AudioSession::new(addr(CARRIER).ip(), 41_000, &[Codec::Pcma]);
    world.order(CARRIER, Command::Early { leg: theirs, media: early }).unwrap();
    world.run(secs(1));
    let events = world.events(GATEWAY);
    assert!(matches!(&events[..], [LegEvent::EarlyMedia(agreed)] if agreed.remote.port() == 41_000
        && agreed.send.codec == Codec::Pcma));
    world.answer(CARRIER, theirs);
    world.run(secs(1));
    assert_eq!(world.agreed(GATEWAY).remote.port(), 30_000);
    assert_eq!(world.agreed(GATEWAY).send.codec, Codec::Pcmu);
}

#[test]
fn every_refusal_arrives_as_its_cause() {
    for (cause, code) in [
        (Cause::Busy, 486),
        (Cause::NotFound, 404),
        (Cause::NoAnswer, 480),
        (Cause::Rejected, 603),
        (Cause::Congestion, 503),
        (Cause::MediaIncompatible, 488),
    ] {
        let mut world = World::pair();
        world.dial();
        world.run(secs(1));
        let (theirs, _) = world.incoming(CARRIER);
        world.order(CARRIER, Command::Reject { leg: theirs, cause }).unwrap();
        world.run(secs(1));
        let ended = world.ended(GATEWAY);
        assert_eq!((ended.cause, ended.sip_code, ended.q850), (cause, Some(code), Some(cause.q850())));
        assert_eq!(world.ended(CARRIER).by, Side::Us);
        world.assert_empty();
    }
}

#[test]
fn the_caller_gives_up_before_the_answer() {
    let mut world = World::pair();
    let ours = world.dial();
    world.run(secs(3));
    world.order(GATEWAY, Command::HangUp { leg: ours, cause: Cause::Cancelled }).unwrap();
    assert_eq!(world.ended(GATEWAY).cause, Cause::Cancelled);
    world.run(secs(1));
    assert_eq!(world.ended(CARRIER).cause, Cause::Cancelled);
    assert_eq!(world.sent("CANCEL").len(), 1);
    assert_eq!(world.sent("SIP/2.0 487").len(), 1);
    world.assert_empty();
}

#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let mut world = World::pair();
    let ours = world.dial();
    world.hang_up(GATEWAY, ours);
    assert!(world.sent("CANCEL").is_empty(), "RFC 3261 §9.1");
    world.run(secs(1));
    assert_eq!(world.sent("CANCEL").len(), 1);
    assert_eq!(world.ended(CARRIER).cause, Cause::Cancelled);
    world.assert_empty();
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_ended() {
    let mut world = World::pair();
    let ours = world.dial();
    world.run(secs(2));
    let (theirs, _) = world.incoming(CARRIER);
    world.answer(CARRIER, theirs);
    world.hang_up(GATEWAY, ours);
    world.run(secs(1));
    assert_eq!((world.sent("CANCEL").len(), world.sent("ACK").len(), world.sent("BYE").len()), (1, 1, 1));
    assert_eq!((world.ended(CARRIER).by, world.ended(GATEWAY).by), (Side::Them, Side::Us));
    assert!(world.events(GATEWAY).iter().all(|event| !matches!(event, LegEvent::Answered(_))));
    world.assert_empty();
}

#[test]
fn nobody_answers() {
    let mut world = World::pair();
    world.dial();
    world.run(secs(59));
    assert!(world.events(GATEWAY).is_empty());
    world.run(secs(2));
    assert_eq!(world.ended(GATEWAY).cause, Cause::NoAnswer);
    assert_eq!(world.ended(CARRIER).cause, Cause::Cancelled);
    world.assert_empty();
}

#[test]
fn an_incoming_call_that_is_ignored_ends_by_itself() {
    let mut world = World::pair();
    world.order(GATEWAY, Command::Dial(Dial { ring_timeout: secs(400), ..dial() })).unwrap();
    world.run(secs(172));
    assert_eq!((world.ended(CARRIER).cause, world.ended(CARRIER).by), (Cause::NoAnswer, Side::Us));
    assert_eq!(world.ended(GATEWAY).sip_code, Some(480));
    world.assert_empty();
}

#[test]
fn a_call_ends_at_its_longest_duration() {
    let mut world = World::pair();
    world.order(GATEWAY, Command::Dial(Dial { max_duration: Some(secs(100)), ..dial() })).unwrap();
    world.run(secs(10));
    let (theirs, _) = world.incoming(CARRIER);
    world.answer(CARRIER, theirs);
    world.run(secs(99));
    assert_eq!(world.events(GATEWAY).len(), 1);
    world.run(secs(2));
    assert_eq!((world.ended(GATEWAY).cause, world.ended(GATEWAY).by), (Cause::LimitReached, Side::Us));
    assert_eq!(world.ended(CARRIER).by, Side::Them);
    world.assert_empty();
}

#[test]
fn a_silent_carrier_is_given_up_after_timer_b() {
    let mut world = World::pair();
    world.weather = Box::new(|_| Fate::Lost);
    world.dial();
    let begun = world.now;
    world.run(ms(31_900));
    let times: Vec<u128> = world.sent("INVITE").iter().map(|flight| (flight.at - begun).as_millis()).collect();
    assert_eq!(times, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500], "timer A");
    assert!(world.events(GATEWAY).is_empty());
    world.run(ms(200));
    assert_eq!((world.ended(GATEWAY).cause, world.ended(GATEWAY).by), (Cause::CarrierUnavailable, Side::Them));
    world.assert_empty();
}

#[test]
fn a_shorter_silence_limit_gives_up_earlier_and_still_cleans_up_a_late_answer() {
    let mut gateway = config(GATEWAY, vec![trunk(GATEWAY, CARRIER)], 1);
    gateway.silence_limit = secs(6);
    let mut world = World::new(vec![gateway, config(CARRIER, vec![trunk(CARRIER, GATEWAY)], 2)]);
    world.weather = Box::new(|flight| if flight.from == addr(CARRIER) { Fate::Lost } else { Fate::Arrive });
    world.dial();
    world.run(secs(7));
    assert_eq!(world.ended(GATEWAY).cause, Cause::CarrierUnavailable);
    let (theirs, _) = world.incoming(CARRIER);
    world.weather = Box::new(|_| Fate::Arrive);
    world.answer(CARRIER, theirs);
    world.run(secs(2));
    assert_eq!(world.ended(CARRIER).by, Side::Them, "the late 200 got ACK and BYE");
    world.assert_empty();
}

#[test]
fn a_lost_ack_is_repeated_for_each_repeated_200() {
    let mut world = World::pair();
    let mut acks = 0;
    world.weather = Box::new(move |flight| {
        acks += u32::from(flight.starts("ACK"));
        if flight.starts("ACK") && acks < 4 { Fate::Lost } else { Fate::Arrive }
    });
    connected(&mut world);
    world.run(secs(10));
    assert_eq!((world.sent("ACK").len(), world.sent("SIP/2.0 200").len()), (4, 4));
    world.run(secs(60));
    assert_eq!(world.events(CARRIER).len(), 2, "the call goes on");
}

#[test]
fn without_any_ack_the_callee_hangs_up() {
    let mut world = World::pair();
    world.weather = Box::new(|flight| if flight.starts("ACK") { Fate::Lost } else { Fate::Arrive });
    connected(&mut world);
    world.run(secs(33));
    assert_eq!(world.ended(CARRIER).cause, Cause::CarrierUnavailable);
    assert_eq!(world.ended(GATEWAY).by, Side::Them);
    world.assert_empty();
}

#[test]
fn a_bye_waits_for_the_ack_of_the_200() {
    let mut world = World::pair();
    world.dial();
    world.run(secs(1));
    let (theirs, _) = world.incoming(CARRIER);
    world.answer(CARRIER, theirs);
    world.hang_up(CARRIER, theirs);
    assert!(world.sent("BYE").is_empty(), "RFC 3261 §15");
    assert_eq!(world.ended(CARRIER).by, Side::Us);
    world.run(secs(1));
    assert_eq!(world.ended(GATEWAY).by, Side::Them);
    world.assert_empty();
}

#[test]
fn a_bye_that_nobody_answers_is_given_up_after_timer_f() {
    let mut world = World::pair();
    let (ours, _) = connected(&mut world);
    world.weather = Box::new(|_| Fate::Lost);
    world.hang_up(GATEWAY, ours);
    assert_eq!((world.end(GATEWAY).live_legs(), world.end(GATEWAY).legs()), (0, 1));
    world.run(secs(33));
    assert_eq!(world.end(GATEWAY).legs(), 0);
    assert_eq!(world.sent("BYE").len(), 11, "timer E: 0, 0.5, 1.5, 3.5, then every 4 s");
}

#[test]
fn calls_survive_loss_and_duplication() {
    for seed in 0..40 {
        let mut world = World::pair();
        world.weather = rough(seed, 25, 20);
        let ours = world.dial();
        world.run(secs(20));
        let (theirs, _) = world.incoming(CARRIER);
        world.order(CARRIER, Command::Ring { leg: theirs }).unwrap();
        world.run(secs(2));
        world.answer(CARRIER, theirs);
        world.run(secs(20));
        let answered = |world: &World, at| world.events(at).iter().any(|event| matches!(event, LegEvent::Answered(_)));
        assert!(answered(&world, GATEWAY) && answered(&world, CARRIER), "seed {seed}");
        if seed % 2 == 0 {
            world.hang_up(GATEWAY, ours)
        } else {
            world.hang_up(CARRIER, theirs)
        }
        world.run(secs(40));
        world.ended(GATEWAY);
        world.ended(CARRIER);
        world.assert_empty();
    }
}

#[test]
fn given_up_calls_survive_loss_and_duplication() {
    for seed in 100..140 {
        let mut world = World::pair();
        world.weather = rough(seed, 25, 20);
        let ours = world.dial();
        world.run(ms(37 * (seed - 100)));
        world.hang_up(GATEWAY, ours);
        world.run(secs(200));
        world.ended(GATEWAY);
        world.assert_empty();
    }
}

#[test]
fn orders_at_the_wrong_moment_are_refused_by_name() {
    let mut world = World::pair();
    let (ours, theirs) = connected(&mut world);
    assert_eq!(world.order(CARRIER, Command::Ring { leg: theirs }), Err(CommandError::NotRinging));
    let answer = Command::Answer { leg: ours, media: media(GATEWAY), max_duration: None };
    assert_eq!(world.order(GATEWAY, answer), Err(CommandError::NotRinging));
    world.hang_up(GATEWAY, ours);
    let again = Command::HangUp { leg: ours, cause: Cause::Normal };
    assert_eq!(world.order(GATEWAY, again), Err(CommandError::UnknownLeg));
    for number in ["", "1;phone-context=x", "1@evil.example", "1\r\nX: y", "1 2", "%2B1", &"1".repeat(65)] {
        let dial = Command::Dial(Dial { number: number.into(), ..dial() });
        assert_eq!(world.order(GATEWAY, dial), Err(CommandError::Number(number.into())));
    }
    let dial = Command::Dial(Dial { trunk: name("other"), ..dial() });
    assert_eq!(world.order(GATEWAY, dial), Err(CommandError::UnknownTrunk(name("other"))));
}

#[test]
fn a_full_gateway_has_room_for_calls_for_help_and_for_nothing_else() {
    let mut gateway = config(GATEWAY, vec![trunk(GATEWAY, CARRIER)], 1);
    (gateway.max_legs, gateway.max_transactions) = (2, 2);
    let mut world = World::new(vec![gateway, config(CARRIER, vec![trunk(CARRIER, GATEWAY)], 2)]);
    world.dial();
    world.dial();
    let help = || Command::Dial(Dial { emergency: true, number: "112".into(), ..dial() });
    for _ in 0..EMERGENCY_LEGS {
        assert_eq!(world.order(GATEWAY, Command::Dial(dial())), Err(CommandError::TooManyLegs(2)));
        assert!(world.order(GATEWAY, help()).is_ok());
    }
    assert_eq!(world.order(GATEWAY, help()), Err(CommandError::TooManyLegs(2 + EMERGENCY_LEGS)));
}

#[test]
fn legs_are_bounded_both_ways() {
    let mut gateway = config(GATEWAY, vec![trunk(GATEWAY, CARRIER)], 1);
    gateway.max_legs = 2;
    let mut world = World::new(vec![gateway, config(CARRIER, vec![trunk(CARRIER, GATEWAY)], 2)]);
    world.dial();
    world.dial();
    assert_eq!(world.order(GATEWAY, Command::Dial(dial())), Err(CommandError::TooManyLegs(2)));
    let inward = Command::Dial(Dial { media: media(CARRIER), ..dial() });
    world.order(CARRIER, inward).unwrap();
    world.run(secs(1));
    let refused = world.last("SIP/2.0 503").text();
    assert!(refused.contains("Retry-After: 10\r\n"));
    assert_eq!(world.end(GATEWAY).stats().overload, 1);
}
