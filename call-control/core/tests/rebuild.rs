//! Deaths: of call-control itself, of the nodes it works with, and of legs nobody owns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;
use offhook_contract::*;
use offhook_control_core::*;
use stage::{Stage, row, secs, user};

fn come_back(s: &mut Stage, page: &str, former: &str) -> Vec<CallView> {
    let session = SessionId::new(page);
    let id = user(page.split('-').next().unwrap()).id;
    let former = Some(SessionId::new(former));
    s.input(Input::SessionOpened { tenant: stage::tenant(), user: id, session: session.clone(), former });
    s.board.calls_for(&session, false)
}

#[test]
fn after_our_own_death_both_pages_see_the_call_and_one_hangs_up() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    s.ok("bob", Command::Mute { call: call.clone(), muted: true });
    let answered = s.row(&call).answered;
    s.advance(secs(30));
    s.kill_and_restart();
    let seen = come_back(&mut s, "alice-2", "alice");
    assert_eq!((seen.len(), seen[0].state, seen[0].answered_ms), (1, CallWord::Active, answered));
    assert!(seen[0].parties[0].muted);
    assert_eq!(come_back(&mut s, "bob-2", "bob").len(), 1);
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None, "the call goes on");
    assert!(s.rooms.len() == 1, "and nobody touched its room");
    s.hang_up("bob-2", &call);
    let row = s.row(&call);
    assert_eq!(row.ended.unwrap().since(row.answered.unwrap()), 92_000);
    s.expect_nothing_left();
}

#[test]
fn pages_that_do_not_come_back_end_the_call_after_their_grace() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.kill_and_restart();
    come_back(&mut s, "alice-2", "alice");
    s.advance(secs(31));
    assert_eq!(s.cause(&call), Some(HangupCause::ClientGone));
    s.expect_nothing_left();
}

#[test]
fn a_telephone_call_survives_and_its_facts_arrive() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.kill_and_restart();
    come_back(&mut s, "alice-2", "alice");
    s.advance(secs(40));
    assert_eq!(s.cause(&call), None);
    let leg = s.telephone(&call);
    s.fact(&call, Fact::LegAnswered { leg: leg.clone() });
    s.fact(&call, Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None });
    assert_eq!(s.view("alice-2").cause, Some(HangupCause::Normal));
    s.telephones.clear();
    s.expect_nothing_left();
}

#[test]
fn a_telephone_that_hung_up_while_we_were_dead_ends_the_call_with_its_own_time() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    let leg = s.telephone(&call);
    s.telephones.clear();
    let at = s.now().wall;
    s.advance(secs(1));
    s.kill_and_restart();
    assert_eq!(s.cause(&call), None, "its gateway does not have it, but a fact may say more");
    s.input(Input::Fact(FactRecord {
        producer: "o".into(),
        sequence: 9,
        tenant: stage::tenant(),
        call: call.clone(),
        at_ms: at,
        fact: Fact::LegEnded { leg, cause: HangupCause::Normal, sip_status: None },
    }));
    assert_eq!((s.cause(&call), s.row(&call).ended), (Some(HangupCause::Normal), Some(at)));
    s.expect_nothing_left();
}

#[test]
fn a_telephone_that_is_gone_without_a_word_ends_the_call_after_two_looks() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.telephones.clear();
    s.kill_and_restart();
    s.advance(secs(16));
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    s.expect_nothing_left();
}

#[test]
fn a_ringing_call_goes_on_ringing() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial("alice", "102");
    s.join("alice", &call);
    s.kill_and_restart();
    let seen = come_back(&mut s, "bob-2", "bob");
    assert_eq!((seen.len(), seen[0].my_leg.state), (1, LegWord::Ringing));
    come_back(&mut s, "alice-2", "alice");
    s.answer("bob-2", &call);
    s.join("bob-2", &call);
    s.hang_up("alice-2", &call);
    assert_eq!(s.cause(&call), Some(HangupCause::Normal));
    s.expect_nothing_left();
}

#[test]
fn a_call_that_had_hardly_begun_is_ended_once() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial("alice", "+4930123456");
    s.kill_and_restart();
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    s.advance(secs(60));
    s.expect_nothing_left();
}

#[test]
fn a_recording_goes_on_and_can_be_stopped_by_the_next_life() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    s.ok("alice", Command::Record { call: call.clone(), on: true });
    let id = s.db.recordings.keys().next().unwrap().clone();
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 });
    s.kill_and_restart();
    let seen = come_back(&mut s, "alice-2", "alice");
    assert_eq!(seen[0].recording.as_ref().unwrap().state, RecordingWord::Recording);
    s.ok("alice-2", Command::Record { call: call.clone(), on: false });
    assert_eq!(s.was_asked("stop_recording"), 1);
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

#[test]
fn what_no_call_owns_is_ended_within_a_minute() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.db = stage::Database::default();
    s.kill_and_restart();
    assert!(!s.telephones.is_empty() && !s.rooms.is_empty());
    s.advance(secs(50));
    assert!(s.telephones.is_empty() && s.rooms.is_empty());
    let cause = s.last(|r| if let NodeRequest::HangUpTelephone(h) = r { Some(h.cause) } else { None });
    assert_eq!(cause, HangupCause::Orphaned);
    s.advance(secs(50));
    s.expect_nothing_left();
    drop(call);
}

#[test]
fn a_node_that_is_not_seen_for_a_while_ends_nothing() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.nodes_are(&[]);
    s.advance(secs(120));
    assert_eq!(s.cause(&call), None);
    s.nodes_are(&[DaemonKind::Sfu, DaemonKind::Sip, DaemonKind::Recorder]);
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn an_sfu_that_was_started_anew_gets_its_browsers_back() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.advance(secs(1));
    s.rooms.clear();
    s.input(Input::Nodes(vec![row(DaemonKind::Sfu, "sfu-1", "boot-2")]));
    assert_eq!((s.rooms.len(), s.cause(&call)), (1, None), "the room is open again");
    s.join("alice", &call);
    s.join("bob", &call);
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_page_that_joins_finds_the_room_gone_and_gets_a_new_one() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.rooms.clear();
    s.join("alice", &call);
    assert_eq!(s.was_asked("open_room"), 2);
    s.join("bob", &call);
    s.hang_up("bob", &call);
    s.expect_nothing_left();
}

#[test]
fn a_lost_sfu_ends_a_telephones_call_with_the_cause() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::OnAnswer);
    s.advance(secs(1));
    s.rooms.clear();
    s.input(Input::Nodes(vec![row(DaemonKind::Sfu, "sfu-1", "boot-2"), row(DaemonKind::Sip, "sip-1", "boot-1")]));
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    assert_eq!(s.was_asked("hang_up_telephone"), 1);
    s.expect_nothing_left();
}

#[test]
fn a_gateway_that_was_started_anew_has_lost_its_legs() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    s.advance(secs(1));
    s.telephones.clear();
    s.input(Input::Nodes(vec![row(DaemonKind::Sfu, "sfu-1", "boot-1"), row(DaemonKind::Sip, "sip-1", "boot-2")]));
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    s.expect_nothing_left();
}

#[test]
fn replies_that_nobody_waits_for_any_more_are_ignored() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    s.hang_up("alice", &call);
    for request in 0..200 {
        s.input(Input::Reply { request, result: Err(RequestFailure::Unreachable) });
        s.input(Input::Reply { request, result: Ok(NodeReply::Done) });
    }
    s.expect_nothing_left();
}

#[test]
fn a_daemon_that_ends_for_good_ends_its_calls_with_the_cause() {
    let mut s = Stage::new();
    let call = s.talking_to_telephone(RecordingMode::Off);
    let now = s.now();
    s.board.end_all(now, HangupCause::Drained);
    s.advance(secs(1));
    assert_eq!(s.cause(&call), None, "outputs are taken by the next input");
    s.page("carol");
    assert_eq!(s.cause(&call), Some(HangupCause::Drained));
    s.expect_nothing_left();
}

/// alice dials a telephone that rings; the SFU's half of the Link is there and was never told the gateway's.
fn killed_before_the_link_was_connected(s: &mut Stage) -> (CallId, LegId) {
    s.page("alice");
    s.hold("connect_link");
    let call = s.dial("alice", "+4930123456");
    s.join("alice", &call);
    let leg = s.telephone(&call);
    s.event(&call, Event::LegRinging(event::LegProgress { leg: leg.clone() }));
    s.kill_and_restart();
    come_back(s, "alice-2", "alice");
    (call, leg)
}

#[test]
fn a_telephone_whose_link_was_never_connected_ends_after_two_looks() {
    let mut s = Stage::new();
    let (call, _) = killed_before_the_link_was_connected(&mut s);
    assert_eq!(s.cause(&call), None, "the order may still be on its way");
    s.advance(secs(16));
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    assert_eq!(s.was_asked("hang_up_telephone"), 1);
    s.expect_nothing_left();
}

#[test]
fn nor_does_it_talk_in_silence_when_the_callee_answers_first() {
    let mut s = Stage::new();
    let (call, leg) = killed_before_the_link_was_connected(&mut s);
    s.fact(&call, Fact::LegAnswered { leg });
    s.advance(secs(16));
    assert_eq!(s.cause(&call), Some(HangupCause::NodeLost));
    s.expect_nothing_left();
}

#[test]
fn a_link_that_was_connected_while_we_died_is_taken_as_it_is() {
    let mut s = Stage::new();
    s.page("alice");
    let call = s.dial_recorded("alice", "+4930123456", RecordingMode::OnDemand);
    s.join("alice", &call);
    let leg = s.telephone(&call);
    s.event(&call, Event::LegRinging(event::LegProgress { leg: leg.clone() }));
    s.kill_and_restart();
    come_back(&mut s, "alice-2", "alice");
    s.advance(secs(20));
    s.fact(&call, Fact::LegAnswered { leg });
    s.ok("alice-2", Command::Record { call: call.clone(), on: true });
    assert_eq!(s.was_asked("open_tap"), 1, "its media counts as there");
    s.advance(secs(60));
    assert_eq!(s.cause(&call), None);
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

fn recording_of(s: &Stage) -> (RecordingId, RecordingWord, Option<String>) {
    let (id, (word, reason, ..)) = s.db.recordings.iter().next().expect("one was asked for");
    (id.clone(), *word, reason.clone())
}

#[test]
fn a_recording_that_nobody_was_asked_for_yet_is_written_as_failed_after_our_death() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial_recorded("alice", "102", RecordingMode::OnAnswer);
    s.join("alice", &call);
    s.answer("bob", &call);
    s.kill_and_restart();
    let (_, word, reason) = recording_of(&s);
    assert_eq!((word, reason.is_some()), (RecordingWord::Failed, true));
    assert_eq!(s.db.events.values().filter(|e| e.kind == "recording_failed").count(), 1);
    let seen = come_back(&mut s, "alice-2", "alice");
    assert!(seen[0].can_record, "and the button begins another");
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

#[test]
fn a_recording_that_its_recorder_was_never_asked_for_fails_after_two_looks() {
    let mut s = Stage::new();
    s.hold("open_tap");
    let call = s.talking(RecordingMode::OnAnswer);
    s.kill_and_restart();
    come_back(&mut s, "alice-2", "alice");
    come_back(&mut s, "bob-2", "bob");
    assert_eq!(recording_of(&s).1, RecordingWord::Starting);
    s.advance(secs(31));
    let (_, word, reason) = recording_of(&s);
    assert_eq!((word, reason.is_some(), s.cause(&call)), (RecordingWord::Failed, true, None));
    assert_eq!(s.view("alice-2").recording.unwrap().state, RecordingWord::Failed);
    s.hang_up("alice-2", &call);
    s.expect_nothing_left();
}

#[test]
fn a_recording_that_its_recorder_has_is_waited_for_as_long_as_the_call_lasts() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnAnswer);
    s.kill_and_restart();
    come_back(&mut s, "alice-2", "alice");
    come_back(&mut s, "bob-2", "bob");
    s.advance(secs(300));
    let (id, word, _) = recording_of(&s);
    assert_eq!(word, RecordingWord::Starting, "its facts may be late");
    s.fact(&call, Fact::SegmentStarted { recording: id, segment: 1 });
    assert_eq!(recording_of(&s).1, RecordingWord::Recording);
    s.hang_up("alice-2", &call);
    assert_eq!(recording_of(&s).1, RecordingWord::Stopping);
    s.expect_nothing_left();
}

#[test]
fn a_recording_whose_recorder_is_gone_before_it_began_fails() {
    for (restarted, pages) in [(false, ["alice", "bob"]), (true, ["alice-2", "bob-2"])] {
        let mut s = Stage::new();
        let call = s.talking(RecordingMode::OnAnswer);
        if restarted {
            s.kill_and_restart();
            come_back(&mut s, "alice-2", "alice");
            come_back(&mut s, "bob-2", "bob");
        }
        s.nodes_are(&[DaemonKind::Sfu, DaemonKind::Sip]);
        s.advance(secs(31));
        assert_eq!(recording_of(&s).1, RecordingWord::Failed);
        for page in pages {
            assert_eq!(s.view(page).recording.unwrap().state, RecordingWord::Failed);
        }
        s.hang_up(pages[0], &call);
        s.expect_nothing_left();
    }
}

#[test]
fn a_recorder_that_knows_nothing_of_what_it_shall_stop_ends_it_as_failed() {
    // At once; and where our death came between its word and ours.
    for restarted in [false, true] {
        let mut s = Stage::new();
        let call = s.talking(RecordingMode::OnAnswer);
        s.recordings.clear();
        if restarted {
            s.hold("stop_recording");
            s.ok("alice", Command::Record { call: call.clone(), on: false });
            assert_eq!(recording_of(&s).1, RecordingWord::Stopping);
            s.refuse("stop_recording", ErrorCode::NotFound, "no such recording");
            s.forget_held("stop_recording");
            s.kill_and_restart();
        } else {
            s.refuse("stop_recording", ErrorCode::NotFound, "no such recording");
            s.hang_up("alice", &call);
        }
        let (_, word, reason) = recording_of(&s);
        assert_eq!((word, reason.is_some()), (RecordingWord::Failed, true), "{restarted}");
        if restarted {
            come_back(&mut s, "alice-2", "alice");
            s.hang_up("alice-2", &call);
        }
        s.expect_nothing_left();
    }
}
