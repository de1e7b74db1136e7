//! Calls between pages and the echo test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;
use offhook_contract::sfu::RoomKind;
use offhook_contract::*;
use offhook_control_core::*;
use stage::{Stage, secs};

#[test]
fn the_echo_test_is_answered_at_once_in_an_echo_room() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", "*43");
    s.join("alice", &call);
    let view = s.ok("alice", Command::Mute { call: call.clone(), muted: false });
    assert_eq!((view.direction, view.state, view.my_leg.state), (Direction::Echo, CallWord::Active, LegWord::Talking));
    assert_eq!((view.parties[0].name.as_str(), view.can_record), ("Echo test", false));
    assert_eq!(s.last(|r| if let NodeRequest::OpenRoom(o) = r { Some(o.kind) } else { None }), RoomKind::Echo);
    s.advance(secs(5));
    s.hang_up("alice", &call);
    let row = s.row(&call);
    assert_eq!((row.cause, row.to_number.as_deref()), (Some(HangupCause::Normal), Some("*43")));
    assert_eq!(row.ended.unwrap().since(row.answered.unwrap()), 5_000);
    s.expect_nothing_left();
}

#[test]
fn a_call_rings_is_answered_and_ended_by_either_side() {
    for (by, side_alice, side_bob) in
        [("alice", CauseSide::Me, CauseSide::Other), ("bob", CauseSide::Other, CauseSide::Me)]
    {
        let mut s = Stage::new();
        s.page("alice");
        s.page("bob");
        let call = s.dial("alice", "102");
        let ringing = s.view("bob");
        assert_eq!((ringing.state, ringing.my_leg.state), (CallWord::Ringing, LegWord::Ringing));
        assert_eq!((ringing.parties[0].name.as_str(), ringing.parties[0].number.as_deref()), ("alice", Some("101")));
        s.join("alice", &call);
        let answered = s.answer("bob", &call);
        assert_eq!((answered.state, answered.my_leg.state), (CallWord::Active, LegWord::Talking));
        s.join("bob", &call);
        s.advance(secs(61));
        s.hang_up(by, &call);
        assert_eq!((s.view("alice").cause_side, s.view("bob").cause_side), (Some(side_alice), Some(side_bob)));
        assert_eq!((s.times_ended("alice"), s.times_ended("bob")), (1, 1));
        assert_eq!(s.cause(&call), Some(HangupCause::Normal));
        s.expect_nothing_left();
    }
}

#[test]
fn the_callers_own_leg_never_looks_like_one_that_can_be_answered() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let command = s.dial_command("102", RecordingMode::Off);
    let view = s.ok("alice", command);
    assert_eq!(
        (view.state, view.my_leg.state, view.parties[0].state),
        (CallWord::Ringing, LegWord::Early, LegWord::Ringing)
    );
    let again = s.ok("alice", Command::Answer { call: view.id });
    assert_eq!(again.state, CallWord::Ringing, "one cannot answer for the other");
}

#[test]
fn a_callee_who_is_offline_busy_or_unknown_is_refused_with_the_cause_and_logged() {
    let mut s = Stage::new();
    s.page("alice");
    assert_eq!(s.dial_refused("alice", "102").cause, Some(HangupCause::Offline));
    s.page("bob");
    s.page("carol");
    let talk = s.dial("carol", "102");
    assert_eq!(s.dial_refused("alice", "102").cause, Some(HangupCause::Busy));
    assert_eq!(s.dial_refused("alice", "199").cause, Some(HangupCause::NotFound));
    assert_eq!(s.dial_refused("alice", "101").cause, Some(HangupCause::Busy), "oneself");
    s.hang_up("carol", &talk);
    let causes: Vec<_> = s.db.calls.values().filter_map(|c| c.cause).collect();
    for cause in [HangupCause::Offline, HangupCause::Busy, HangupCause::NotFound, HangupCause::Cancelled] {
        assert!(causes.contains(&cause), "{cause:?} is not in the log");
    }
    assert_eq!(s.told.get("alice").map(Vec::len), None, "a refused dial is told by its reply alone");
    s.expect_nothing_left();
}

#[test]
fn nobody_answers_for_thirty_seconds() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    s.join("alice", &call);
    s.advance(secs(29));
    assert_eq!(s.cause(&call), None);
    s.advance(secs(1));
    assert_eq!(s.cause(&call), Some(HangupCause::NoAnswer));
    assert_eq!((s.times_ended("alice"), s.times_ended("bob")), (1, 1));
    s.expect_nothing_left();
}

#[test]
fn a_rejected_and_a_cancelled_call_are_named_as_such() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    s.ok("bob", Command::Reject { call: call.clone() });
    assert_eq!(s.cause(&call), Some(HangupCause::Rejected));
    let call = s.dial("alice", "102");
    s.hang_up("alice", &call);
    assert_eq!(s.cause(&call), Some(HangupCause::Cancelled));
    assert_eq!(s.view("bob").cause, Some(HangupCause::Cancelled));
    s.expect_nothing_left();
}

#[test]
fn cancel_against_answer_has_one_winner_whichever_comes_first() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    s.hang_up("alice", &call);
    let late = s.refused("bob", Command::Answer { call });
    assert_eq!(late.code, RefusalCode::NotFound);
    let call = s.dial("alice", "102");
    s.answer("bob", &call);
    s.hang_up("alice", &call);
    assert_eq!(s.cause(&call), Some(HangupCause::Normal));
    s.expect_nothing_left();
}

#[test]
fn all_pages_of_the_callee_ring_and_the_first_answer_wins() {
    let mut s = Stage::new();
    for page in ["alice", "bob", "bob-2", "bob-3"] {
        s.page(page);
    }
    let call = s.dial("alice", "102");
    for page in ["bob", "bob-2", "bob-3"] {
        assert_eq!(s.view(page).my_leg.state, LegWord::Ringing, "{page}");
    }
    s.answer("bob-2", &call);
    for page in ["bob", "bob-3"] {
        assert_eq!((s.view(page).state, s.times_ended(page)), (CallWord::Ended, 1), "{page} stops ringing");
    }
    assert_eq!(s.refused("bob", Command::Answer { call: call.clone() }).code, RefusalCode::Conflict);
    assert_eq!(s.refused("bob", Command::Mute { call: call.clone(), muted: true }).code, RefusalCode::Conflict);
    let again = s.answer("bob-2", &call);
    assert_eq!(again.state, CallWord::Active, "a repeated answer is no error");
    s.hang_up("bob-2", &call);
    assert_eq!((s.times_ended("bob"), s.times_ended("bob-2")), (1, 1));
    s.expect_nothing_left();
}

#[test]
fn a_page_that_comes_while_it_rings_sees_the_call_and_can_answer() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    s.page("bob-2");
    let listed = s.board.calls_for(&SessionId::new("bob-2"), true);
    assert_eq!((listed.len(), listed[0].my_leg.state), (1, LegWord::Ringing));
    s.answer("bob-2", &call);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn joins_before_the_room_is_open_wait_for_it() {
    let mut s = Stage::new();
    s.hold("open_room");
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    let first = s.join_only("alice", &call);
    let second = s.join_only("alice", &call);
    assert!(matches!(s.replies.remove(&first), Some(Err(_))), "the newer offer counts");
    assert!(!s.replies.contains_key(&second));
    s.release("open_room");
    assert!(matches!(s.replies.remove(&second), Some(Ok(CommandReply::Joined { .. }))));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_call_ended_while_its_room_was_being_opened_leaves_no_room() {
    let mut s = Stage::new();
    s.hold("open_room");
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    let waiting = s.join_only("alice", &call);
    s.hang_up("alice", &call);
    assert!(matches!(s.replies.remove(&waiting), Some(Err(_))));
    s.release("open_room");
    assert_eq!(s.was_asked("close_room"), 1);
    s.expect_nothing_left();
}

#[test]
fn mute_is_shown_when_the_sfu_has_done_it_and_survives_a_new_join() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    assert!(s.ok("alice", Command::Mute { call: call.clone(), muted: true }).my_leg.muted);
    assert!(s.view("bob").parties[0].muted);
    s.join("alice", &call);
    assert_eq!(s.was_asked("mute_leg"), 2);
    s.unreachable("mute_leg");
    let refused = s.refused("bob", Command::Mute { call: call.clone(), muted: true });
    assert_eq!(refused.code, RefusalCode::Unavailable);
    assert!(!s.view("alice").parties[0].muted, "nobody is shown as muted who is heard");
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn hold_belongs_to_whoever_pressed_it() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let view = s.ok("alice", Command::Hold { call: call.clone(), held: true });
    assert_eq!((view.my_leg.held, view.parties[0].state), (true, LegWord::Held));
    assert_eq!((s.view("bob").my_leg.state, s.view("bob").my_leg.held), (LegWord::Held, false));
    let view = s.ok("bob", Command::Hold { call: call.clone(), held: false });
    assert_eq!(view.my_leg.state, LegWord::Held, "bob cannot take back alice's hold");
    let view = s.ok("alice", Command::Hold { call: call.clone(), held: false });
    assert_eq!((view.my_leg.held, view.parties[0].state), (false, LegWord::Talking));
    s.hang_up("bob", &call);
    s.expect_nothing_left();
}

#[test]
fn a_page_that_never_joins_or_never_connects_ends_the_call_as_media_lost() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", "*43");
    s.advance(secs(20));
    assert_eq!(s.cause(&call), Some(HangupCause::MediaLost));
    let call = s.dial("alice", "*43");
    s.join_only("alice", &call);
    s.advance(secs(20));
    assert_eq!(s.cause(&call), Some(HangupCause::MediaLost));
    s.expect_nothing_left();
}

#[test]
fn media_that_comes_up_before_the_reply_to_the_join_counts() {
    let mut s = Stage::new();
    s.hold("join_peer");
    s.page("alice");
    let call = s.dial("alice", "*43");
    s.join_only("alice", &call);
    s.connected("alice", &call);
    s.release("join_peer");
    s.advance(secs(10));
    s.rooms.clear();
    s.advance(secs(10));
    assert_eq!(s.cause(&call), None);
}

#[test]
fn a_reload_within_thirty_seconds_joins_the_same_leg_again() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let leg = s.leg_of("alice", &call);
    s.disconnect("alice");
    s.advance(secs(29));
    s.page("alice-2");
    let listed = s.board.calls_for(&SessionId::new("alice-2"), true);
    assert_eq!(listed.len(), 1);
    s.join("alice-2", &call);
    assert_eq!(s.leg_of("alice", &call), leg);
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None, "the call goes on");
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

#[test]
fn another_page_of_the_user_does_not_take_a_call_that_its_page_still_has() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.page("alice-2");
    assert!(s.board.calls_for(&SessionId::new("alice-2"), true).is_empty());
    assert_eq!(
        s.refused("alice-2", Command::Join { call: call.clone(), offer_sdp: "o".into() }).code,
        RefusalCode::Conflict
    );
    s.disconnect("alice");
    assert!(s.board.calls_for(&SessionId::new("alice-2"), false).is_empty(), "it is no reload of that page");
    s.reconnect("alice");
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_page_gone_for_thirty_seconds_ends_its_call() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.disconnect("alice");
    s.advance(secs(30));
    assert_eq!(s.cause(&call), Some(HangupCause::ClientGone));
    assert_eq!(s.view("bob").cause_side, Some(CauseSide::Other));
    s.expect_nothing_left();
}

#[test]
fn lost_media_is_a_fact_that_counts_once_and_not_against_a_newer_join() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let leg = s.leg_of("alice", &call);
    let lost = Fact::LegEnded { leg: leg.clone(), cause: HangupCause::MediaLost, sip_status: None };
    let mut old = s.fact(
        &call,
        Fact::LegEnded { leg: LegId::parse("other").unwrap(), cause: HangupCause::MediaLost, sip_status: None },
    );
    s.advance(secs(10));
    s.join("alice", &call);
    old.sequence += 100;
    old.fact = lost.clone();
    s.input(Input::Fact(old));
    assert_eq!(s.cause(&call), None, "it was about the transport before the reload");
    s.advance(secs(1));
    let record = s.fact(&call, lost);
    s.input(Input::Fact(record));
    assert_eq!(s.cause(&call), Some(HangupCause::MediaLost));
    s.expect_nothing_left();
}

#[test]
fn keys_reach_the_other_page_as_events() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.ok("alice", Command::Digits { call: call.clone(), digits: "4*".into() });
    let digits: Vec<char> = s.told["bob"]
        .iter()
        .filter_map(|e| if let ClientEvent::Digit { digit, .. } = e { Some(*digit) } else { None })
        .collect();
    assert_eq!(digits, ['4', '*']);
    for bad in ["", "x", "1 2", &"1".repeat(33)] {
        let refused = s.refused("alice", Command::Digits { call: call.clone(), digits: bad.into() });
        assert_eq!(refused.code, RefusalCode::Invalid, "{bad:?}");
    }
    s.hang_up("alice", &call);
}

#[test]
fn who_speaks_in_a_slot_is_told_by_name_to_the_listener_alone() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let (listener, speaker) = (s.leg_of("alice", &call), s.leg_of("bob", &call));
    let changed = event::SlotChanged { room: RoomId::from(&call), listener, slot: 0, speaker: Some(speaker) };
    s.event(&call, Event::SlotChanged(changed));
    let slots = |page: &str| {
        s.told[page].iter().filter(|e| matches!(e, ClientEvent::Slot { name: Some(n), .. } if n == "bob")).count()
    };
    assert_eq!((slots("alice"), slots("bob")), (1, 0));
}

#[test]
fn a_user_and_a_server_have_only_so_many_calls() {
    let mut s = Stage::with(Policy { max_calls: 3, max_calls_per_user: 2, ..stage::policy() });
    s.page("alice");
    s.page("bob");
    s.dial("alice", "*43");
    s.dial("alice", "*43");
    assert_eq!(s.dial_refused("alice", "*43").cause, Some(HangupCause::LimitReached));
    s.dial("bob", "*43");
    assert_eq!(s.dial_refused("bob", "*43").cause, Some(HangupCause::LimitReached));
}

#[test]
fn another_tenants_call_is_as_unknown_as_none() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let foreign = Actor {
        tenant: TenantId::parse("evil").unwrap(),
        user: Some(stage::user("alice")),
        session: Some(SessionId::new("x")),
    };
    let carol = Actor { tenant: stage::tenant(), user: Some(stage::user("carol")), session: Some(SessionId::new("y")) };
    let mut refusals = Vec::new();
    for (tag, actor, id) in
        [(900, foreign, call.clone()), (901, carol.clone(), call.clone()), (902, carol, CallId::parse("none").unwrap())]
    {
        s.input(Input::Command { tag, actor, command: Command::HangUp { call: id } });
        refusals.push(s.replies.remove(&tag).unwrap().unwrap_err());
    }
    assert!(refusals.iter().all(|r| *r == refusals[0]), "{refusals:?}");
    assert_eq!(s.cause(&call), None);
}

#[test]
fn the_sfu_refuses_and_another_one_takes_the_room() {
    let mut s = Stage::new();
    s.input(Input::Nodes(vec![stage::row(DaemonKind::Sfu, "sfu-1", "b"), stage::row(DaemonKind::Sfu, "sfu-2", "b")]));
    s.hold("open_room");
    s.page("alice");
    let call = s.dial("alice", "*43");
    let (request, first, _) = s.waiting.pop().unwrap();
    s.input(Input::Reply { request, result: Err(RequestFailure::Unreachable) });
    let (_, second, _) = s.waiting.last().cloned().unwrap();
    assert_ne!(first, second);
    s.release("open_room");
    s.join("alice", &call);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn without_any_sfu_a_dial_says_so() {
    let mut s = Stage::new();
    s.nodes_are(&[]);
    s.page("alice");
    let refused = s.dial_refused("alice", "*43");
    assert_eq!((refused.code, refused.cause), (RefusalCode::Unavailable, Some(HangupCause::InternalError)));
}

#[test]
fn click_to_dial_rings_ones_own_page_first_and_then_the_other() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let actor = Actor { tenant: stage::tenant(), user: None, session: None };
    let command = Command::Originate {
        caller: stage::user("alice"),
        dialled: "102".into(),
        callee: Some(stage::user("bob")),
        recording: RecordingMode::Off,
    };
    s.input(Input::Command { tag: 500, actor, command });
    let Some(Ok(CommandReply::Call { call, view, .. })) = s.replies.remove(&500) else { panic!("not placed") };
    assert_eq!((view.my_leg.state, view.parties[0].name.as_str()), (LegWord::Ringing, "bob"));
    assert!(!s.told.contains_key("bob"), "bob does not ring yet");
    s.answer("alice", &call);
    s.join("alice", &call);
    assert_eq!(s.view("bob").my_leg.state, LegWord::Ringing);
    s.answer("bob", &call);
    s.join("bob", &call);
    s.hang_up("bob", &call);
    assert_eq!((s.cause(&call), s.row(&call).from_name.as_str()), (Some(HangupCause::Normal), "alice"));
    s.expect_nothing_left();
}

#[test]
fn a_click_to_dial_that_is_not_answered_or_whose_callee_became_busy_ends_with_words() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    s.page("carol");
    let originate = |s: &mut Stage, tag| {
        let actor = Actor { tenant: stage::tenant(), user: None, session: None };
        let (caller, callee) = (stage::user("alice"), Some(stage::user("bob")));
        let command = Command::Originate { caller, dialled: "102".into(), callee, recording: RecordingMode::Off };
        s.input(Input::Command { tag, actor, command });
        match s.replies.remove(&tag) {
            Some(Ok(CommandReply::Call { call, .. })) => call,
            other => panic!("{other:?}"),
        }
    };
    let call = originate(&mut s, 500);
    s.advance(secs(30));
    assert_eq!(s.cause(&call), Some(HangupCause::NoAnswer));
    let call = originate(&mut s, 501);
    let other = s.dial("carol", "102");
    s.answer("alice", &call);
    assert_eq!(s.cause(&call), Some(HangupCause::Busy));
    s.hang_up("carol", &other);
    s.expect_nothing_left();
}

/// No call waiting: who talks is busy, is not disturbed, and finds the missed call in the history.
#[test]
fn a_colleague_who_talks_is_busy_for_every_second_caller() {
    let mut s = Stage::new();
    let talk = s.talking(RecordingMode::Off);
    s.page("carol");
    s.page("bob-2");
    let (before, asked) = (s.told.get("bob").map(Vec::len), s.asked.len());
    assert_eq!(s.dial_refused("carol", "102").cause, Some(HangupCause::Busy), "a colleague");
    let rejected = control::IncomingRoute::Reject { cause: HangupCause::Busy };
    assert_eq!(s.incoming(Some("bob")), rejected, "a telephone");
    assert_eq!((s.told.get("bob").map(Vec::len), s.asked.len()), (before, asked), "his page hears nothing of it");
    assert!(!s.told.contains_key("bob-2"), "nor does his other one");
    let missed = s.db.calls.values().filter(|c| c.callee.as_ref() == Some(&stage::user("bob").id));
    assert_eq!(missed.filter(|c| c.cause == Some(HangupCause::Busy)).count(), 2);
    s.hang_up("bob", &talk);
    let again = s.dial("carol", "102");
    assert_eq!(s.view("bob").state, CallWord::Ringing, "free again");
    s.hang_up("carol", &again);
    s.expect_nothing_left();
}
