//! Calls to and from telephones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;
use offhook_contract::control::IncomingRoute;
use offhook_contract::dial::Destination;
use offhook_contract::*;
use offhook_control_core::*;
use stage::{Stage, policy, secs};

const NUMBER: &str = "+4930123456";

#[test]
fn a_dialled_telephone_rings_has_early_media_answers_and_hangs_up() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", "030 123456");
    let dialled = s.last(|r| if let NodeRequest::DialTelephone(d) = r { Some(d.clone()) } else { None });
    let Destination::Number(number) = &dialled.to else { panic!("{dialled:?}") };
    assert_eq!((number.e164(), dialled.ring_timeout_ms), (NUMBER, 30_000));
    let order: Vec<_> = s.asked.iter().map(|(_, r)| stage::name(r)).filter(|n| *n != "inventory").collect();
    assert_eq!(order, ["open_room", "open_link", "dial_telephone", "connect_link"]);
    s.join("alice", &call);
    let leg = dialled.leg;
    s.event(&call, Event::LegRinging(event::LegProgress { leg: leg.clone() }));
    assert_eq!(s.view("alice").state, CallWord::Ringing);
    s.event(&call, Event::LegEarlyMedia(event::LegProgress { leg: leg.clone() }));
    assert_eq!((s.view("alice").state, s.view("alice").parties[0].state), (CallWord::Early, LegWord::Early));
    s.advance(secs(4));
    s.fact(&call, Fact::LegAnswered { leg: leg.clone() });
    assert_eq!(s.view("alice").state, CallWord::Active);
    s.advance(secs(30));
    s.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None });
    assert_eq!(
        (s.view("alice").cause, s.view("alice").cause_side),
        (Some(HangupCause::Normal), Some(CauseSide::Other))
    );
    assert_eq!(s.was_asked("hang_up_telephone"), 0, "the gateway knows already");
    assert_eq!(s.row(&call).ended.unwrap().since(s.row(&call).answered.unwrap()), 30_000);
    s.telephones.clear();
    s.expect_nothing_left();
}

#[test]
fn every_refusal_of_the_carrier_reaches_the_page_and_the_log_as_its_cause() {
    for cause in [
        HangupCause::Busy,
        HangupCause::NoAnswer,
        HangupCause::Rejected,
        HangupCause::NotFound,
        HangupCause::CarrierUnavailable,
        HangupCause::CarrierAuthFailed,
        HangupCause::Congestion,
        HangupCause::Redirected,
        HangupCause::MediaIncompatible,
    ] {
        let mut s = Stage::new();
        s.page("alice");
        let call = s.dial("alice", NUMBER);
        let leg = s.telephone(&call);
        s.fact(&call, Fact::LegEnded { leg: leg.clone(), cause, sip_status: Some(486) });
        assert_eq!((s.view("alice").cause, s.cause(&call)), (Some(cause), Some(cause)));
        s.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None });
        assert_eq!(s.cause(&call), Some(cause), "the first end counts");
        s.telephones.clear();
        s.expect_nothing_left();
    }
}

#[test]
fn what_the_rules_forbid_is_refused_before_anything_is_asked_of_a_gateway() {
    let mut s = Stage::new();
    s.page("alice");
    s.asked.clear();
    for (dialled, cause) in [
        ("+33123456789", HangupCause::NotAllowed),
        ("0088112345678", HangupCause::NotAllowed),
        ("+49x", HangupCause::NotFound),
        ("sip:1@evil", HangupCause::NotFound),
        ("", HangupCause::NotFound),
        ("112", HangupCause::NoEmergencyTrunk),
    ] {
        let refused = s.dial_refused("alice", dialled);
        assert_eq!(refused.cause, Some(cause), "{dialled}: {refused:?}");
        assert!(!refused.message.contains("123456789"), "no whole number in words: {}", refused.message);
    }
    let log: Vec<_> = s.db.calls.values().map(|c| (c.direction, c.cause.unwrap())).collect();
    assert_eq!(log.len(), 6);
    assert!(log.iter().all(|(direction, _)| *direction == Direction::Outbound), "{log:?}");
    assert!(s.asked.is_empty());
    s.expect_nothing_left();
}

#[test]
fn limits_hold_for_numbers_and_not_for_emergencies() {
    let mut policy = policy();
    policy.trunks[0].emergency = true;
    policy.max_calls = 2;
    let mut s = Stage::with(policy);
    s.page("alice");
    s.page("bob");
    s.dial("alice", NUMBER);
    s.dial("alice", "+4930123457");
    assert_eq!(s.dial_refused("bob", NUMBER).cause, Some(HangupCause::LimitReached));
    let call = s.dial("bob", "112");
    let to = s.last(|r| if let NodeRequest::DialTelephone(d) = r { Some(d.to.clone()) } else { None });
    assert_eq!(to, Destination::Emergency("112".into()));
    assert_eq!(s.row(&call).to_number.as_deref(), Some("112"));
}

#[test]
fn an_extension_named_like_an_emergency_number_never_hides_it() {
    let mut policy = policy();
    policy.trunks[0].emergency = true;
    let mut s = Stage::with(policy);
    s.page("alice");
    s.page("bob");
    let callee = Some(User { extension: "112".into(), ..stage::user("bob") });
    let view = s.ok("alice", Command::Dial { dialled: "112".into(), callee, recording: RecordingMode::Off });
    assert_eq!(view.direction, Direction::Outbound);
}

#[test]
fn without_a_trunk_that_is_up_the_cause_is_the_carrier() {
    let mut s = Stage::new();
    s.nodes_are(&[DaemonKind::Sfu]);
    s.page("alice");
    assert_eq!(s.dial_refused("alice", NUMBER).cause, Some(HangupCause::CarrierUnavailable));
    let mut s = Stage::with(Policy { trunks: Vec::new(), ..policy() });
    s.page("alice");
    assert_eq!(s.dial_refused("alice", NUMBER).cause, Some(HangupCause::CarrierUnavailable));
}

#[test]
fn a_hang_up_while_the_gateway_is_being_asked_still_ends_the_telephone() {
    for name in ["open_room", "open_link", "dial_telephone", "connect_link"] {
        let mut s = Stage::new();
        s.hold(name);
        s.page("alice");
        let call = s.dial("alice", NUMBER);
        s.hang_up("alice", &call);
        assert_eq!(s.cause(&call), Some(HangupCause::Cancelled));
        s.release(name);
        s.expect_nothing_left();
    }
}

#[test]
fn cancel_against_the_carriers_answer_ends_the_call_once() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", NUMBER);
    s.hang_up("alice", &call);
    let leg = s.telephone(&call);
    s.fact(&call, Fact::LegAnswered { leg: leg.clone() });
    s.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None });
    assert_eq!((s.cause(&call), s.row(&call).answered), (Some(HangupCause::Cancelled), None));
    s.expect_nothing_left();
}

#[test]
fn repeated_facts_and_events_change_nothing() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    let answered = s.row(&call).answered;
    let lines = s.db.events.len();
    s.advance(secs(3));
    let leg = s.telephone(&call);
    let mut record = s.fact(&call, Fact::LegAnswered { leg: leg.clone() });
    s.input(Input::Fact(record.clone()));
    s.event(&call, Event::LegEarlyMedia(event::LegProgress { leg: leg.clone() }));
    s.event(&call, Event::LegRinging(event::LegProgress { leg: leg.clone() }));
    assert_eq!((s.row(&call).answered, s.view("alice").state), (answered, CallWord::Active));
    assert_eq!(s.db.events.len(), lines + 1, "one line for one fact, however often it comes");
    record.fact = Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None };
    for sequence in 50..53 {
        record.sequence = sequence;
        s.input(Input::Fact(record.clone()));
    }
    assert_eq!(s.times_ended("alice"), 1);
    s.telephones.clear();
    s.expect_nothing_left();
}

#[test]
fn facts_that_come_late_carry_their_own_time() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", NUMBER);
    s.join("alice", &call);
    let leg = s.telephone(&call);
    let started = s.row(&call).started;
    let late = |sequence, at: u64, fact| FactRecord {
        producer: "away".into(),
        sequence,
        tenant: stage::tenant(),
        call: call.clone(),
        at_ms: started.plus_ms(at),
        fact,
    };
    s.advance(secs(20));
    s.input(Input::Fact(late(1, 3_000, Fact::LegAnswered { leg: leg.clone() })));
    s.input(Input::Fact(late(2, 13_000, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None })));
    let row = s.row(&call);
    assert_eq!(row.answered.unwrap().since(started), 3_000);
    assert_eq!(row.ended.unwrap().since(started), 13_000, "the bus was away; the call's length is right");
    s.telephones.clear();
    s.expect_nothing_left();
}

#[test]
fn keys_and_hold_go_to_the_gateway() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.ok("alice", Command::Digits { call: call.clone(), digits: "12#".into() });
    s.ok("alice", Command::Hold { call: call.clone(), held: true });
    assert_eq!((s.was_asked("send_digits"), s.was_asked("hold_telephone"), s.was_asked("hold_leg")), (1, 1, 0));
    let leg = s.telephone(&call);
    let digit = event::DigitReceived { leg, digit: '7', duration_ms: 100 };
    s.event(&call, Event::DigitReceived(digit));
    assert!(s.told["alice"].iter().any(|e| matches!(e, ClientEvent::Digit { digit: '7', .. })));
    let story = serde_json::to_string(&s.db.events.values().map(|e| e.data.clone()).collect::<Vec<_>>()).unwrap();
    assert!(!story.contains("12#"), "keys are not written down");
    s.hang_up("alice", &call);
    assert_eq!(s.was_asked("hang_up_telephone"), 1);
    s.expect_nothing_left();
}

#[test]
fn a_telephone_calls_a_user_who_answers() {
    let mut s = Stage::new();
    s.page("bob");
    let (call, leg) = s.accepted("bob");
    assert_eq!(s.was_asked("ring_telephone"), 1);
    let view = s.view("bob");
    assert_eq!((view.direction, view.my_leg.state), (Direction::Inbound, LegWord::Ringing));
    assert_eq!(view.parties[0].number.as_deref(), Some("+4989777"));
    s.hold("answer_telephone");
    let view = s.answer("bob", &call);
    assert_eq!(view.state, CallWord::Ringing, "the caller does not hear us yet");
    s.join("bob", &call);
    s.release("answer_telephone");
    assert_eq!((s.view("bob").state, s.view("bob").parties[0].state), (CallWord::Active, LegWord::Talking));
    let order: Vec<_> = s.asked.iter().map(|(_, r)| stage::name(r)).filter(|n| *n != "inventory").collect();
    assert_eq!(order, ["ring_telephone", "open_room", "open_link", "answer_telephone", "join_peer", "connect_link"]);
    s.hang_up("bob", &call);
    let hung = s.last(|r| if let NodeRequest::HangUpTelephone(h) = r { Some(h.clone()) } else { None });
    assert_eq!((hung.leg, hung.cause), (leg, HangupCause::Normal));
    s.expect_nothing_left();
}

#[test]
fn an_incoming_call_that_cannot_ring_is_rejected_with_its_cause_and_logged() {
    let mut s = Stage::new();
    assert_eq!(s.incoming(None), IncomingRoute::Reject { cause: HangupCause::NotFound });
    assert_eq!(s.incoming(Some("bob")), IncomingRoute::Reject { cause: HangupCause::Offline });
    s.page("bob");
    s.page("alice");
    let call = s.dial("alice", "102");
    assert_eq!(s.incoming(Some("bob")), IncomingRoute::Reject { cause: HangupCause::Busy });
    s.hang_up("alice", &call);
    assert_eq!(s.db.calls.values().filter(|c| c.direction == Direction::Inbound).count(), 3);
    assert_eq!(s.was_asked("hang_up_telephone"), 0);
    s.expect_nothing_left();
}

#[test]
fn the_caller_gives_up_or_the_user_rejects_or_nobody_comes() {
    let mut s = Stage::new();
    s.page("bob");
    let (call, leg) = s.accepted("bob");
    s.fact(&call, Fact::LegEnded { leg: leg.clone(), cause: HangupCause::Cancelled, sip_status: None });
    assert_eq!((s.cause(&call), s.view("bob").cause), (Some(HangupCause::Cancelled), Some(HangupCause::Cancelled)));
    s.telephones.clear();
    let (call, _) = s.accepted("bob");
    s.ok("bob", Command::Reject { call: call.clone() });
    assert_eq!(s.cause(&call), Some(HangupCause::Rejected));
    let (call, _) = s.accepted("bob");
    s.advance(secs(30));
    assert_eq!(s.cause(&call), Some(HangupCause::NoAnswer));
    let causes: Vec<_> = s
        .asked
        .iter()
        .filter_map(|(_, r)| if let NodeRequest::HangUpTelephone(h) = r { Some(h.cause) } else { None })
        .collect();
    assert_eq!(causes, [HangupCause::Rejected, HangupCause::NoAnswer]);
    s.expect_nothing_left();
}

#[test]
fn the_caller_gives_up_in_the_moment_of_the_answer() {
    let mut s = Stage::new();
    s.page("bob");
    let (call, leg) = s.accepted("bob");
    s.refuse("answer_telephone", ErrorCode::NotFound, "no such leg");
    s.answer("bob", &call);
    assert_eq!(s.cause(&call), Some(HangupCause::Cancelled));
    s.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Cancelled, sip_status: None });
    assert_eq!(s.times_ended("bob"), 1);
    s.expect_nothing_left();
}

#[test]
fn ringing_that_overtakes_our_own_reply_is_sent_again() {
    let mut s = Stage::new();
    s.page("bob");
    s.hold("ring_telephone");
    let (call, _) = s.accepted("bob");
    s.refuse("ring_telephone", ErrorCode::NotFound, "no such leg");
    let (request, ..) = s.waiting.pop().unwrap();
    let unknown = RequestFailure::Refused(RequestError::new(ErrorCode::NotFound, "no such leg"));
    s.input(Input::Reply { request, result: Err(unknown) });
    assert_eq!((s.was_asked("ring_telephone"), s.cause(&call)), (2, None));
    s.reachable("ring_telephone");
    s.release("ring_telephone");
    s.answer("bob", &call);
    s.hang_up("bob", &call);
    s.expect_nothing_left();
}

#[test]
fn a_gateway_that_asks_twice_gets_one_call() {
    let mut s = Stage::new();
    s.page("bob");
    let (call, leg) = s.accepted("bob");
    let route = control::RouteIncoming {
        gateway: NodeId::parse("sip-1").unwrap(),
        trunk: TrunkName::parse("carrier").unwrap(),
        tenant: stage::tenant(),
        to: PhoneNumber::try_from("+4930555".to_owned()).unwrap(),
        from: None,
        from_name: None,
        sip_call_id: "sip-1".into(),
    };
    s.input(Input::Incoming { tag: 77, route, callee: Some(stage::user("bob")), recording: RecordingMode::Off });
    assert_eq!(s.routes.remove(&77), Some(IncomingRoute::Accept { call, leg }));
    assert_eq!(s.db.calls.len(), 1);
}

#[test]
fn a_longest_call_ends_by_itself() {
    let mut policy = policy();
    policy.dial.max_call_s = 60;
    let mut s = Stage::with(policy);
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.advance(secs(60));
    assert_eq!(
        (s.cause(&call), s.view("alice").cause_side),
        (Some(HangupCause::LimitReached), Some(CauseSide::System))
    );
    s.expect_nothing_left();
}

#[test]
fn minutes_talked_count_against_the_day() {
    let mut policy = policy();
    policy.dial.max_minutes_per_day = 3;
    let mut s = Stage::with(policy);
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.advance(secs(130));
    s.hang_up("alice", &call);
    assert_eq!(s.dial_refused("alice", NUMBER).cause, Some(HangupCause::LimitReached));
    s.dial("alice", "*43");
}

#[test]
fn a_hang_up_is_repeated_until_the_gateway_can_be_reached() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.unreachable("hang_up_telephone");
    s.unreachable("close_room");
    s.hang_up("alice", &call);
    s.advance(secs(20));
    assert!(s.was_asked("hang_up_telephone") > 3 && !s.telephones.is_empty());
    s.reachable("hang_up_telephone");
    s.reachable("close_room");
    s.advance(secs(30));
    s.expect_nothing_left();
}

fn emergency_policy() -> Policy {
    let mut policy = policy();
    policy.trunks[0].emergency = true;
    policy.dial.max_call_s = 60;
    policy
}

#[test]
fn an_emergency_call_has_no_longest_length_not_even_after_our_death() {
    let mut s = Stage::with(emergency_policy());
    s.page("alice");
    let call = s.dial("alice", "112");
    s.join("alice", &call);
    let longest = s.last(|r| if let NodeRequest::DialTelephone(d) = r { Some(d.max_duration_s) } else { None });
    assert_eq!(longest, u32::MAX, "no limit that a call could reach");
    s.fact(&call, Fact::LegAnswered { leg: s.telephone(&call) });
    s.advance(secs(600));
    assert_eq!(s.cause(&call), None);
    s.kill_and_restart();
    let former = Some(SessionId::new("alice"));
    let (tenant, session) = (stage::tenant(), SessionId::new("alice-2"));
    s.input(Input::SessionOpened { tenant, user: stage::user("alice").id, session, former });
    s.advance(secs(600));
    assert_eq!(s.cause(&call), None);
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

#[test]
fn an_emergency_call_is_never_recorded() {
    let mut s = Stage::with(emergency_policy());
    s.page("alice");
    let call = s.dial_recorded("alice", "112", RecordingMode::OnAnswer);
    s.join("alice", &call);
    s.fact(&call, Fact::LegAnswered { leg: s.telephone(&call) });
    assert_eq!((s.was_asked("open_tap"), s.view("alice").can_record), (0, false));
    assert!(s.db.recordings.is_empty());
    s.hang_up("alice", &call);
    let ringing = s.dial_recorded("alice", NUMBER, RecordingMode::OnAnswer);
    assert_eq!(s.row(&ringing).recording_mode, RecordingMode::OnAnswer, "any other call as before");
}

#[test]
fn an_emergency_call_finds_a_media_server_that_is_full() {
    let mut s = Stage::with(emergency_policy());
    let full = NodeRow { load: 10, ..stage::row(DaemonKind::Sfu, "sfu-1", "boot-1") };
    s.input(Input::Nodes(vec![full, stage::row(DaemonKind::Sip, "sip-1", "boot-1")]));
    s.page("alice");
    assert_eq!(s.dial_refused("alice", NUMBER).cause, Some(HangupCause::InternalError));
    let call = s.dial("alice", "112");
    assert_eq!((s.was_asked("dial_telephone"), s.cause(&call)), (1, None));
}
