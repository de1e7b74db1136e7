//! A recording of a call: asked for, tapped, started, stopped. It never begins before the answer, nor without its
//! notice: the SFU opens Tap, notice and beeps together or refuses with words.
use crate::call::Call;
use crate::desk::{Desk, Step};
use crate::ids::Now;
use crate::input::RequestFailure;
use crate::leg::Leg;
use crate::output::NodeRequest;
use crate::rows::{RecordingOutcome, Write};
use crate::timers::TimerKey;
use crate::view::{Reason, RecordingTrouble, RecordingView, RecordingWord};
use offhook_contract::fact::TapCloseReason;
use offhook_contract::recorder::{StartRecording, StopRecording};
use offhook_contract::sfu::{CloseTap, OpenTap, TapOffer};
use offhook_contract::{DaemonKind, ErrorCode, NodeId, RecordingId, UnixMs};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Recording {
    pub id: RecordingId,
    pub phase: Phase,
    pub started: Option<UnixMs>,
    /// Since when its recorder should have it, and how many looks at that recorder found nothing.
    pub since: Duration,
    pub missed: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// For the media of every party: the notice must reach them all.
    Waiting,
    OpeningTap {
        recorder: NodeId,
    },
    /// The recorder was asked; its first packet is not on disk yet.
    Starting {
        recorder: NodeId,
    },
    Recording {
        recorder: NodeId,
    },
    Stopping,
    Stopped,
    Failed {
        reason: Reason,
    },
}

impl Recording {
    pub const fn new(id: RecordingId, phase: Phase, started: Option<UnixMs>) -> Self {
        Self { id, phase, started, since: Duration::ZERO, missed: 0 }
    }
    pub const fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Stopped | Phase::Failed { .. })
    }
    const fn word(&self) -> RecordingWord {
        match self.phase {
            Phase::Waiting | Phase::OpeningTap { .. } | Phase::Starting { .. } => RecordingWord::Starting,
            Phase::Recording { .. } => RecordingWord::Recording,
            Phase::Stopping => RecordingWord::Stopping,
            Phase::Stopped => RecordingWord::Stopped,
            Phase::Failed { .. } => RecordingWord::Failed,
        }
    }
    pub fn view(&self) -> RecordingView {
        let reason = self.reason();
        let reason_code = reason.as_ref().and_then(|r| r.code);
        let reason = reason.map(|r| r.sentence);
        RecordingView { id: self.id.clone(), state: self.word(), started_ms: self.started, reason, reason_code }
    }
    fn reason(&self) -> Option<Reason> {
        if let Phase::Failed { reason } = &self.phase { Some(reason.clone()) } else { None }
    }
}

fn write(call: &Call, desk: &mut Desk, now: Now, recording: &RecordingId, outcome: RecordingOutcome) {
    let (tenant, call) = (call.tenant.clone(), call.id.clone());
    desk.write(Write::Recording { tenant, call, recording: recording.clone(), at: now.wall, outcome });
}

/// Moves the call's recording on to `phase` and has it written.
fn enter(call: &mut Call, desk: &mut Desk, now: Now, phase: Phase) {
    let Some(recording) = call.recording.as_mut() else { return };
    let before = recording.word();
    recording.phase = phase;
    let (id, word) = (recording.id.clone(), recording.word());
    let reason = recording.reason();
    if before != word {
        write(call, desk, now, &id, RecordingOutcome::State { state: word, reason });
    }
}

pub(crate) fn fail(call: &mut Call, desk: &mut Desk, now: Now, reason: impl Into<Reason>) {
    let reason = reason.into();
    let data = serde_json::json!({ "reason": reason.sentence, "code": reason.code });
    desk.story(call, now.wall, "recording_failed", None, data);
    enter(call, desk, now, Phase::Failed { reason });
}

/// Begins a recording of an active call that has none running.
pub(crate) fn begin(call: &mut Call, desk: &mut Desk, now: Now) {
    if !call.can_record() {
        return;
    }
    let id = desk.ids.recording(now.wall);
    call.recording = Some(Recording::new(id.clone(), Phase::Waiting, None));
    desk.story(call, now.wall, "recording_asked", None, serde_json::json!({ "recording": id }));
    write(call, desk, now, &id, RecordingOutcome::Asked { recorder: None });
    desk.timers.set(TimerKey::RecordingDue(call.id.clone()), now.at + desk.policy.recording_wait);
    advance(call, desk, now, false);
}

/// Opens the Tap once every party has its media, or when the wait is over: then the SFU decides.
pub(crate) fn advance(call: &mut Call, desk: &mut Desk, now: Now, wait_is_over: bool) {
    let waiting = call.recording.as_ref().is_some_and(|r| r.phase == Phase::Waiting);
    let ready = call.legs.iter().filter(|l| l.is_live()).all(Leg::has_media);
    if !waiting || !call.is_active() || !(ready || wait_is_over) {
        return;
    }
    desk.timers.clear(&TimerKey::RecordingDue(call.id.clone()));
    let Some(id) = call.recording.as_ref().map(|r| r.id.clone()) else { return };
    let Some(sfu) = call.open_sfu().cloned() else {
        return fail(call, desk, now, RecordingTrouble::NoMediaRoom);
    };
    let Some(recorder) = desk.nodes.least_loaded(DaemonKind::Recorder, &[]) else {
        return fail(call, desk, now, RecordingTrouble::NoRecorder);
    };
    let (node, fingerprint) = (recorder.node.clone(), recorder.certificate_fingerprint.clone().unwrap_or_default());
    write(call, desk, now, &id, RecordingOutcome::Asked { recorder: Some(node.clone()) });
    let body = NodeRequest::OpenTap(OpenTap {
        room: call.room_id(),
        recording: id.clone(),
        notice: desk.policy.notice.clone(),
        beep: desk.policy.beep,
        recorder_fingerprint: fingerprint,
    });
    desk.request(call, sfu, body, Step::OpenTap { recording: id });
    enter(call, desk, now, Phase::OpeningTap { recorder: node });
}

fn phase_of<'a>(call: &'a Call, id: &RecordingId) -> Option<&'a Phase> {
    call.recording.as_ref().filter(|r| r.id == *id).map(|r| &r.phase)
}

pub(crate) fn tap_opened(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    id: &RecordingId,
    result: Result<TapOffer, Reason>,
) {
    let wanted = match phase_of(call, id) {
        Some(Phase::OpeningTap { recorder }) if call.is_active() => Some(recorder.clone()),
        _ => None,
    };
    match (result, wanted) {
        (Ok(tap), Some(recorder)) => {
            let caller_legs = call.caller().map(|l| l.id.clone()).into_iter().collect();
            let answered_ms = call.answered().unwrap_or(now.wall);
            let body =
                NodeRequest::StartRecording(StartRecording { recording: id.clone(), tap, caller_legs, answered_ms });
            desk.request(call, recorder.clone(), body, Step::StartRecording { recording: id.clone() });
            enter(call, desk, now, Phase::Starting { recorder });
            await_recorder(call, desk, now);
        }
        (Ok(_), None) => {
            close_tap(call, desk, id);
            if phase_of(call, id) == Some(&Phase::Stopping) {
                fail(call, desk, now, RecordingTrouble::StoppedEarly);
            }
        }
        (Err(reason), Some(_)) => fail(call, desk, now, reason),
        (Err(reason), None) if phase_of(call, id) == Some(&Phase::Stopping) => fail(call, desk, now, reason),
        (Err(_), None) => {}
    }
}

pub(crate) fn recorder_asked(call: &mut Call, desk: &mut Desk, now: Now, id: &RecordingId, result: Result<(), Reason>) {
    let Err(reason) = result else { return };
    let running = phase_of(call, id).is_some_and(|p| !matches!(p, Phase::Stopped | Phase::Failed { .. }));
    close_tap(call, desk, id);
    if running {
        fail(call, desk, now, reason);
    }
}

fn await_recorder(call: &mut Call, desk: &mut Desk, now: Now) {
    if let Some(recording) = call.recording.as_mut() {
        (recording.since, recording.missed) = (now.at, 0);
    }
    desk.timers.set(TimerKey::RecorderDue(call.id.clone()), now.at + desk.policy.recorder_grace);
}

/// A recorder that is there says by itself how it went, and by its inventory whether it has the recording at all; one
/// that is gone says nothing. While the bus is away nobody is taken for gone.
pub(crate) fn recorder_due(call: &mut Call, desk: &mut Desk, now: Now) {
    let Some(Phase::Starting { recorder }) = call.recording.as_ref().map(|r| r.phase.clone()) else { return };
    if desk.nodes.get(&recorder).is_some() {
        desk.timers.set(TimerKey::RecorderDue(call.id.clone()), now.at + desk.policy.recorder_grace);
    } else {
        never_began(call, desk, now, recorder);
    }
}

/// A look at `recorder`, asked for at `asked`, found these. Twice nothing: it was never asked, or lost everything.
pub(crate) fn recorder_seen(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    asked: Duration,
    recorder: &NodeId,
    found: &BTreeSet<RecordingId>,
) -> bool {
    let Some(recording) = call.recording.as_mut() else { return false };
    let here = matches!(&recording.phase, Phase::Starting { recorder: at } if at == recorder);
    if !here || recording.since >= asked {
        return false;
    }
    if found.contains(&recording.id) {
        recording.missed = 0;
        return false;
    }
    recording.missed = recording.missed.saturating_add(1);
    if recording.missed < 2 {
        return false;
    }
    never_began(call, desk, now, recorder.clone());
    true
}

fn never_began(call: &mut Call, desk: &mut Desk, now: Now, recorder: NodeId) {
    let Some(id) = call.recording.as_ref().map(|r| r.id.clone()) else { return };
    close_tap(call, desk, &id);
    stop_recorder(call, desk, recorder, &id);
    fail(call, desk, now, RecordingTrouble::RecorderGone);
}

/// Our former life died over it. `recorder` was asked, or was about to be.
pub(crate) fn restored(call: &mut Call, desk: &mut Desk, now: Now, recorder: Option<NodeId>) {
    let Some((id, phase)) = call.recording.as_ref().map(|r| (r.id.clone(), r.phase.clone())) else { return };
    match (phase, recorder) {
        (Phase::Waiting | Phase::OpeningTap { .. }, _) => fail(call, desk, now, RecordingTrouble::Restarted),
        (Phase::Starting { .. }, _) => await_recorder(call, desk, now),
        // Whether it was told is not known; told twice it stops once.
        (Phase::Stopping, Some(recorder)) => {
            close_tap(call, desk, &id);
            stop_recorder(call, desk, recorder, &id);
        }
        (Phase::Stopping, None) => fail(call, desk, now, RecordingTrouble::StoppedEarly),
        (Phase::Recording { .. } | Phase::Stopped | Phase::Failed { .. }, _) => {}
    }
}

/// The recorder's answer to our stop. One that does not know the recording will never say how it ended.
pub(crate) fn recorder_stopped(
    call: &mut Call,
    desk: &mut Desk,
    now: Now,
    id: &RecordingId,
    result: &Result<(), RequestFailure>,
) {
    let unknown = matches!(result, Err(RequestFailure::Refused(error)) if error.code == ErrorCode::NotFound);
    if unknown && phase_of(call, id) == Some(&Phase::Stopping) {
        fail(call, desk, now, "the recorder has nothing of it");
    }
}

fn close_tap(call: &mut Call, desk: &mut Desk, id: &RecordingId) {
    if let Some(sfu) = call.open_sfu().cloned() {
        let body = NodeRequest::CloseTap(CloseTap { room: call.room_id(), recording: id.clone() });
        desk.insist(call, sfu, body, Step::CloseTap { recording: id.clone() });
    }
}

fn stop_recorder(call: &mut Call, desk: &mut Desk, recorder: NodeId, id: &RecordingId) {
    let body = NodeRequest::StopRecording(StopRecording { recording: id.clone() });
    desk.insist(call, recorder, body, Step::StopRecording { recording: id.clone() });
}

/// Ends the recording; what was recorded is finished by the recorder and follows as a fact.
pub(crate) fn stop(call: &mut Call, desk: &mut Desk, now: Now) {
    let Some((id, phase)) = call.recording.as_ref().map(|r| (r.id.clone(), r.phase.clone())) else { return };
    match phase {
        Phase::Waiting => {
            desk.timers.clear(&TimerKey::RecordingDue(call.id.clone()));
            fail(call, desk, now, RecordingTrouble::StoppedEarly);
        }
        Phase::OpeningTap { .. } => enter(call, desk, now, Phase::Stopping),
        Phase::Starting { recorder } | Phase::Recording { recorder } => {
            close_tap(call, desk, &id);
            stop_recorder(call, desk, recorder, &id);
            desk.story(call, now.wall, "recording_stopped", None, serde_json::json!({ "recording": id }));
            enter(call, desk, now, Phase::Stopping);
        }
        Phase::Stopping | Phase::Stopped | Phase::Failed { .. } => {}
    }
}

/// The room closes with the call, and the Tap with the room.
pub(crate) fn call_ended(call: &mut Call, desk: &mut Desk, now: Now) {
    let Some((id, phase)) = call.recording.as_ref().map(|r| (r.id.clone(), r.phase.clone())) else { return };
    match phase {
        Phase::Waiting | Phase::OpeningTap { .. } => fail(call, desk, now, RecordingTrouble::CallEndedEarly),
        Phase::Starting { recorder } | Phase::Recording { recorder } => {
            stop_recorder(call, desk, recorder, &id);
            enter(call, desk, now, Phase::Stopping);
        }
        Phase::Stopping | Phase::Stopped | Phase::Failed { .. } => {}
    }
}

/// The SFU's room is gone with everything in it.
pub(crate) fn room_lost(call: &mut Call, desk: &mut Desk, now: Now) {
    let Some((id, phase)) = call.recording.as_ref().map(|r| (r.id.clone(), r.phase.clone())) else { return };
    if let Phase::Starting { recorder } | Phase::Recording { recorder } = phase {
        stop_recorder(call, desk, recorder, &id);
        fail(call, desk, now, RecordingTrouble::MediaServerLost);
    }
}

pub(crate) fn segment_started(call: &mut Call, id: &RecordingId, at: UnixMs) {
    let Some(recording) = call.recording.as_mut().filter(|r| r.id == *id) else { return };
    recording.started = recording.started.or(Some(at));
    if let Phase::Starting { recorder } = &recording.phase {
        recording.phase = Phase::Recording { recorder: recorder.clone() };
    }
}

pub(crate) fn tap_closed(call: &mut Call, desk: &mut Desk, now: Now, id: &RecordingId, reason: TapCloseReason) {
    let recorder = match phase_of(call, id) {
        Some(Phase::Starting { recorder } | Phase::Recording { recorder } | Phase::OpeningTap { recorder }) => {
            recorder.clone()
        }
        _ => return,
    };
    stop_recorder(call, desk, recorder, id);
    match reason {
        TapCloseReason::Requested => enter(call, desk, now, Phase::Stopping),
        TapCloseReason::AnnouncerFailed => fail(call, desk, now, RecordingTrouble::AnnouncerFailed),
        TapCloseReason::RecorderGone => fail(call, desk, now, RecordingTrouble::RecorderGone),
    }
}

pub(crate) fn finished(call: &mut Call, id: &RecordingId) {
    if let Some(recording) = call.recording.as_mut().filter(|r| r.id == *id && r.is_running()) {
        recording.phase = Phase::Stopped;
    }
}

pub(crate) fn failed(call: &mut Call, desk: &mut Desk, now: Now, id: &RecordingId, reason: &str) {
    if phase_of(call, id).is_some_and(|p| !matches!(p, Phase::Failed { .. } | Phase::Stopped)) {
        close_tap(call, desk, id);
        // The fact itself is the story's line.
        enter(call, desk, now, Phase::Failed { reason: reason.into() });
    }
}
