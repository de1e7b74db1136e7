//! Recordings: by policy and by button, never before the answer, never without the notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::*;
use offhook_control_core::*;
use stage::{Stage, secs};

fn recording(s: &Stage) -> RecordingId {
    s.last(|r| if let NodeRequest::OpenTap(t) = r { Some(t.recording.clone()) } else { None })
}

fn finished(recording: RecordingId) -> Fact {
    Fact::RecordingFinished { recording, files: Vec::new(), segments: Vec::new(), duration_ms: 1 }
}

#[test]
fn on_answer_it_starts_once_every_party_has_its_media() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial_recorded("alice", "102", RecordingMode::OnAnswer);
    s.join("alice", &call);
    assert_eq!(s.was_asked("open_tap"), 0, "never before the answer");
    s.answer("bob", &call);
    assert_eq!(s.was_asked("open_tap"), 0, "bob could not hear the notice yet");
    assert_eq!(s.view("alice").recording.unwrap().state, RecordingWord::Starting);
    s.join("bob", &call);
    assert_eq!((s.was_asked("open_tap"), s.was_asked("start_recording")), (1, 1));
    let start = s.last(|r| if let NodeRequest::StartRecording(r) = r { Some(r.clone()) } else { None });
    assert_eq!(start.caller_legs, [s.leg_of("alice", &call)]);
    s.fact(&call, Fact::SegmentStarted { recording: start.recording.clone(), segment: 1 });
    for page in ["alice", "bob"] {
        let shown = s.view(page).recording.unwrap();
        assert_eq!((shown.state, shown.started_ms.is_some()), (RecordingWord::Recording, true));
    }
    s.hang_up("alice", &call);
    assert_eq!(s.was_asked("stop_recording"), 1);
    s.fact(&call, finished(start.recording.clone()));
    assert_eq!(s.db.recordings[&start.recording].0, RecordingWord::Stopped);
    assert_eq!(s.times_ended("alice"), 1);
    s.expect_nothing_left();
}

#[test]
fn the_button_starts_and_stops_it_and_both_pages_see_that() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    assert!(s.view("alice").can_record && s.view("bob").can_record);
    let view = s.ok("bob", Command::Record { call: call.clone(), on: true });
    assert!(!view.can_record);
    let id = recording(&s);
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 });
    let again = s.ok("alice", Command::Record { call: call.clone(), on: true });
    assert_eq!(again.recording.unwrap().id, id, "it runs already");
    let view = s.ok("alice", Command::Record { call: call.clone(), on: false });
    assert_eq!(view.recording.unwrap().state, RecordingWord::Stopping);
    assert_eq!((s.was_asked("close_tap"), s.was_asked("stop_recording")), (1, 1));
    s.fact(&call, finished(id.clone()));
    assert_eq!(s.view("bob").recording.unwrap().state, RecordingWord::Stopped);
    assert!(s.view("bob").can_record, "and once more");
    s.ok("bob", Command::Record { call: call.clone(), on: true });
    assert_ne!(recording(&s), id);
    s.hang_up("bob", &call);
    s.expect_nothing_left();
}

#[test]
fn where_it_is_off_or_nothing_is_answered_the_button_is_refused() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::Off);
    let refused = s.refused("alice", Command::Record { call: call.clone(), on: true });
    assert_eq!(refused.code, RefusalCode::Refused);
    s.hang_up("alice", &call);
    let call = s.dial_recorded("alice", "102", RecordingMode::OnDemand);
    let refused = s.refused("alice", Command::Record { call, on: true });
    assert_eq!(refused.code, RefusalCode::Conflict);
    assert_eq!(s.was_asked("open_tap"), 0);
}

#[test]
fn a_notice_that_cannot_be_given_is_said_in_words_and_the_call_goes_on() {
    let mut s = Stage::new();
    s.refuse("open_tap", ErrorCode::Refused, "bob has no line for the notice");
    let call = s.talking(RecordingMode::OnAnswer);
    let shown = s.view("alice").recording.unwrap();
    assert_eq!((shown.state, shown.reason.as_deref()), (RecordingWord::Failed, Some("bob has no line for the notice")));
    assert_eq!((s.cause(&call), s.was_asked("start_recording")), (None, 0));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_recorder_that_refuses_closes_the_tap_so_that_no_beep_is_heard() {
    let mut s = Stage::new();
    s.refuse("start_recording", ErrorCode::Exhausted, "the disk is full");
    let call = s.talking(RecordingMode::OnAnswer);
    let shown = s.view("bob").recording.unwrap();
    assert_eq!((shown.state, shown.reason.as_deref()), (RecordingWord::Failed, Some("the disk is full")));
    assert_eq!(s.was_asked("close_tap"), 1);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn without_a_recorder_it_fails_with_words() {
    let mut s = Stage::new();
    s.nodes_are(&[DaemonKind::Sfu]);
    let call = s.talking(RecordingMode::OnAnswer);
    let shown = s.view("alice").recording.unwrap();
    assert_eq!((shown.state, shown.reason.as_deref()), (RecordingWord::Failed, Some("no recorder is ready")));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_failing_announcer_stops_it_and_says_so_whatever_comes_afterwards() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnAnswer);
    let id = recording(&s);
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 });
    s.fact(&call, Fact::TapClosed { recording: id.clone(), reason: TapCloseReason::AnnouncerFailed });
    for page in ["alice", "bob"] {
        let shown = s.view(page).recording.unwrap();
        assert_eq!(shown.state, RecordingWord::Failed);
        assert!(shown.reason.unwrap().contains("could not be played"));
    }
    assert_eq!(s.was_asked("stop_recording"), 1, "the recorder finishes what it has");
    s.fact(&call, finished(id.clone()));
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 2 });
    assert_eq!(s.view("alice").recording.unwrap().state, RecordingWord::Failed);
    assert_eq!(s.db.recordings[&id].0, RecordingWord::Failed);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn parties_without_media_hold_it_back_for_ten_seconds_and_then_the_sfu_decides() {
    let mut s = Stage::new();
    s.page("alice");
    s.page("bob");
    let call = s.dial_recorded("alice", "102", RecordingMode::OnAnswer);
    s.join("alice", &call);
    s.answer("bob", &call);
    s.advance(secs(9));
    assert_eq!(s.was_asked("open_tap"), 0);
    s.refuse("open_tap", ErrorCode::Refused, "bob is not connected");
    s.advance(secs(1));
    assert_eq!((s.was_asked("open_tap"), s.view("alice").recording.unwrap().state), (1, RecordingWord::Failed));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn stopping_or_ending_while_it_starts_leaves_nothing_behind() {
    for (held, end_call) in
        [("open_tap", true), ("open_tap", false), ("start_recording", true), ("start_recording", false)]
    {
        let mut s = Stage::new();
        s.hold(held);
        let call = s.talking(RecordingMode::OnDemand);
        s.ok("alice", Command::Record { call: call.clone(), on: true });
        let id = recording(&s);
        if end_call {
            s.hang_up("bob", &call);
        } else {
            s.ok("alice", Command::Record { call: call.clone(), on: false });
        }
        s.release(held);
        if held == "start_recording" {
            assert_eq!(s.was_asked("stop_recording"), 1);
            s.fact(&call, Fact::RecordingFailed { recording: id.clone(), reason: "nothing was recorded".into() });
        }
        let (word, reason, ..) = &s.db.recordings[&id];
        assert_eq!(*word, RecordingWord::Failed, "{held} {end_call}");
        assert!(reason.is_some());
        if !end_call {
            s.hang_up("bob", &call);
        }
        s.expect_nothing_left();
    }
}

#[test]
fn what_was_played_and_confirmed_is_written_once_also_after_the_call() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnAnswer);
    let (id, leg) = (recording(&s), s.leg_of("bob", &call));
    let played_ms = s.now().wall;
    s.fact(&call, Fact::ConsentPlayed { recording: id.clone(), segment: 1, kind: ConsentKind::Notice, played_ms });
    s.hang_up("alice", &call);
    let record = s.fact(
        &call,
        Fact::AnnouncementReceived { recording: id.clone(), leg: leg.clone(), kind: ConsentKind::Notice, played_ms },
    );
    s.input(Input::Fact(record));
    s.fact(&call, Fact::AnnouncementUnconfirmed { recording: id, leg, kind: ConsentKind::Beep, played_ms });
    let statuses: Vec<_> = s.db.consent.iter().map(|c| c.status).collect();
    assert_eq!(statuses, [ConsentStatus::Played, ConsentStatus::Received, ConsentStatus::Unconfirmed]);
    s.expect_nothing_left();
}

#[test]
fn begun_on_hold_only_who_confirmed_the_notice_stands_as_having_received_it() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    s.ok("alice", Command::Hold { call: call.clone(), held: true });
    s.ok("alice", Command::Record { call: call.clone(), on: true });
    let (id, played_ms) = (recording(&s), s.now().wall);
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 });
    s.fact(&call, Fact::ConsentPlayed { recording: id.clone(), segment: 1, kind: ConsentKind::Notice, played_ms });
    assert!(s.db.consent.iter().all(|c| c.status == ConsentStatus::Played && c.leg.is_none()), "{:?}", s.db.consent);
    let (alice, bob) = (s.leg_of("alice", &call), s.leg_of("bob", &call));
    let (leg, kind) = (alice.clone(), ConsentKind::Notice);
    s.fact(&call, Fact::AnnouncementReceived { recording: id.clone(), leg, kind, played_ms });
    s.fact(&call, Fact::AnnouncementUnconfirmed { recording: id, leg: bob.clone(), kind, played_ms });
    let by = |leg: &LegId| -> Vec<_> {
        s.db.consent.iter().filter(|c| c.leg.as_ref() == Some(leg)).map(|c| c.status).collect()
    };
    assert_eq!((by(&alice), by(&bob)), (vec![ConsentStatus::Received], vec![ConsentStatus::Unconfirmed]));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_recorder_that_restarts_goes_on_with_the_next_segment() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnAnswer);
    let id = recording(&s);
    s.fact(&call, Fact::SegmentStarted { recording: id.clone(), segment: 1 });
    let started = s.view("alice").recording.unwrap().started_ms;
    s.advance(secs(5));
    s.fact(&call, Fact::SegmentStarted { recording: id, segment: 2 });
    let shown = s.view("alice").recording.unwrap();
    assert_eq!((shown.state, shown.started_ms), (RecordingWord::Recording, started));
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn a_telephone_call_is_recorded_when_its_link_stands() {
    let mut s = Stage::new();
    s.hold("connect_link");
    let call = s.talking_to_telephone(RecordingMode::OnAnswer);
    assert_eq!(s.was_asked("open_tap"), 0);
    s.release("connect_link");
    assert_eq!(s.was_asked("open_tap"), 1);
    s.hang_up("alice", &call);
    s.expect_nothing_left();
}

#[test]
fn what_a_recovered_recorder_tells_again_under_new_numbers_counts_once() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    s.ok("alice", Command::Record { call: call.clone(), on: true });
    let recording = s.db.recordings.keys().next().unwrap().clone();
    let started = Fact::SegmentStarted { recording: recording.clone(), segment: 1 };
    let second = Fact::SegmentStarted { recording: recording.clone(), segment: 2 };
    let at = UnixMs(stage::START + 9_000);
    let played =
        Fact::ConsentPlayed { recording: recording.clone(), segment: 1, kind: fact::ConsentKind::Beep, played_ms: at };
    let finished = Fact::RecordingFinished { recording, files: Vec::new(), segments: Vec::new(), duration_ms: 5 };
    for fact in [&started, &started, &second, &played, &played] {
        s.fact(&call, fact.clone());
    }
    s.hang_up("alice", &call);
    s.fact(&call, finished.clone());
    s.fact(&call, finished);
    let count = |kind: &str| s.db.events.values().filter(|e| e.kind == kind).count();
    assert_eq!((count("segment_started"), count("consent_played"), count("recording_finished")), (2, 1, 1));
    s.expect_nothing_left();
}

#[test]
fn a_recorder_that_fails_is_one_line_of_the_story() {
    let mut s = Stage::new();
    let call = s.talking(RecordingMode::OnDemand);
    s.ok("alice", Command::Record { call: call.clone(), on: true });
    let recording = s.db.recordings.keys().next().unwrap().clone();
    let failed = Fact::RecordingFailed { recording, reason: "the disk is full".into() };
    s.fact(&call, failed.clone());
    s.fact(&call, failed);
    assert_eq!(s.db.events.values().filter(|e| e.kind == "recording_failed").count(), 1);
    assert_eq!(s.view("alice").recording.unwrap().reason.as_deref(), Some("the disk is full"));
}
