//! A recording's life: dial the Tap, write what it tells, come back to it when it breaks, finish once and say so once.
mod telling;
#[cfg(test)]
mod tests;

use crate::consent::{About, ConsentChain, ConsentEvent};
use crate::input::{CloseReason, TapInput};
use crate::live::{Append, Flushed, LiveSegment, Losses, SegmentStart};
use crate::recover::{Announced, Base, Recovered};
use crate::timeline::Opened;
use offhook_contract::fact::{ConsentKind, Fact, FileRow, SegmentRow};
use offhook_contract::recorder::{RecordingState, StartRecording};
use offhook_contract::sfu::TapOffer;
use offhook_contract::{CallId, Epoch, LegId, RecordingId, TenantId, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use telling::Telling;

/// The SFU gives a Tap up after 10 s without a reader; dialling a little longer costs nothing.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(12);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
/// After a stop: for the Tap's last records.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);
/// A hole in the Tap of this length or more begins a new segment.
const SEGMENT_GAP_NS: u64 = 1_000_000_000;

/// What a recording is told at its start; kept on disk until it is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingPlan {
    pub recording: RecordingId,
    pub tenant: TenantId,
    pub call: CallId,
    pub epoch: Option<Epoch>,
    pub tap: TapOffer,
    pub caller_legs: Vec<LegId>,
    pub answered_ms: UnixMs,
}

impl RecordingPlan {
    pub fn new(tenant: TenantId, call: CallId, epoch: Option<Epoch>, start: StartRecording) -> Self {
        let StartRecording { recording, tap, caller_legs, answered_ms } = start;
        Self { recording, tenant, call, epoch, tap, caller_legs, answered_ms }
    }
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Dial {
        resume_after: u64,
    },
    /// Let the Tap go.
    HangUp,
    /// Make the segment's directory.
    BeginSegment {
        segment: u32,
    },
    Append {
        segment: u32,
        append: Append,
    },
    AppendConsent(Vec<u8>),
    /// Make everything appended so far survive the machine's death too.
    Sync,
    /// Answer with [`Recording::handle_written`] when everything before is written.
    Barrier(u64),
    /// Put the fact into the outbox; with a number, answer with [`Recording::handle_told`].
    Fact {
        fact: Fact,
        number: Option<u64>,
    },
    /// Make the final files; answer with [`Recording::handle_finalised`].
    Finalise,
    /// The terminal fact was given before; forget the recording.
    Done {
        failed: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Connecting {
        until: Duration,
        retry: Retry,
    },
    Recording,
    Resuming {
        until: Duration,
        retry: Retry,
    },
    /// A stop was asked for; the last records are awaited.
    Closing {
        until: Duration,
    },
    /// Everything is given to the disk; the final files follow.
    Finishing,
    Finished,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retry {
    /// `None` while dialling.
    at: Option<Duration>,
    pause: Duration,
}

impl Retry {
    const fn dialling() -> Self {
        Self { at: None, pause: FIRST_RETRY }
    }
    fn failed(&mut self, now: Duration) {
        self.at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_RETRY);
    }
}

/// Why the Tap's records cannot be this recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TapMismatch {
    #[error("the Tap does not begin with its hello")]
    NoHello,
    #[error("the Tap belongs to another recording, call or tenant")]
    Foreign,
}

/// The final files, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finalised {
    pub files: Vec<FileRow>,
    pub segments: Vec<SegmentRow>,
    pub duration_ms: u64,
}

#[derive(Debug)]
pub struct Recording {
    plan: RecordingPlan,
    state: State,
    segment: Option<LiveSegment>,
    /// The number of the running segment, or of the next one.
    segment_number: u32,
    next: NextSegment,
    base: Option<Base>,
    packets: u64,
    losses: Losses,
    telling: Telling,
    stopped: Option<CloseReason>,
    /// When the connection broke, until the next record.
    lost_since: Option<Duration>,
    output: VecDeque<Output>,
}

/// How the next segment will begin.
#[derive(Debug, Default)]
struct NextSegment {
    resume_after: u64,
    skip: BTreeSet<u64>,
    tracks: Vec<(u16, crate::input::Voice)>,
    gap_ns: u64,
    announcement: Option<(ConsentKind, u64)>,
}

impl Recording {
    pub fn start(plan: RecordingPlan, now: Duration) -> Self {
        Self::with(plan, 1, NextSegment::default(), ConsentChain::default(), now)
    }

    /// Goes on after the recorder's death.
    pub fn recover(plan: RecordingPlan, recovered: Recovered, now: Duration) -> Self {
        let Recovered { segment, resume_after, skip, base, tracks, packets, chain, untold, last_with_audio, closed } =
            recovered;
        let next = NextSegment { resume_after, skip, tracks, gap_ns: 0, announcement: None };
        let mut recording = Self::with(plan, segment, next, chain, now);
        recording.base = base;
        recording.packets = packets;
        if let Some(segment) = last_with_audio {
            // It may not have reached the outbox; a repetition counts once there.
            let told = recording.telling.segment(segment);
            recording.output.push_back(told);
        }
        for (segment, announced) in untold {
            let told = recording.telling.consent(segment, &announced);
            recording.output.push_back(told);
        }
        if closed {
            recording.output.retain(|output| !matches!(output, Output::Dial { .. }));
            recording.finish(CloseReason::Requested, now);
        }
        recording
    }

    /// Tries a failed recording again: nothing more is recorded, what there is is finished.
    pub fn retry(plan: RecordingPlan, recovered: Recovered, now: Duration) -> Self {
        let mut recording = Self::recover(plan, Recovered { closed: true, ..recovered }, now);
        // Its last life knew why it ended; the sidecar says so if it could still be written.
        recording.stopped = Some(CloseReason::Lost);
        recording
    }

    /// What the recorder's death left behind cannot be used: only that is told.
    pub fn unrecoverable(plan: RecordingPlan, reason: &str, now: Duration) -> Self {
        let mut recording = Self::start(plan, now);
        recording.output.clear();
        recording.fail(reason);
        recording
    }

    fn with(plan: RecordingPlan, segment: u32, next: NextSegment, chain: ConsentChain, now: Duration) -> Self {
        let output = VecDeque::from([Output::Dial { resume_after: next.resume_after }]);
        let RecordingPlan { tenant, call, recording, .. } = plan.clone();
        let telling = Telling::new(About { tenant, call, recording }, chain);
        Self {
            plan,
            state: State::Connecting { until: now + DIAL_PATIENCE, retry: Retry::dialling() },
            segment: None,
            segment_number: segment,
            next,
            base: None,
            packets: 0,
            losses: Losses::default(),
            telling,
            stopped: None,
            lost_since: None,
            output,
        }
    }

    pub fn plan(&self) -> &RecordingPlan {
        &self.plan
    }
    pub fn segment(&self) -> u32 {
        self.segment_number
    }
    /// Why it ended, once it has.
    pub fn stopped(&self) -> Option<CloseReason> {
        self.stopped
    }
    pub fn losses(&self) -> Losses {
        let mut losses = self.losses;
        if let Some(segment) = &self.segment {
            losses.add(segment.losses());
        }
        losses
    }
    pub fn state(&self) -> RecordingState {
        match self.state {
            State::Connecting { .. } => RecordingState::Connecting,
            State::Recording | State::Resuming { .. } => RecordingState::Recording,
            State::Closing { .. } | State::Finishing => RecordingState::Finishing,
            State::Finished => RecordingState::Finished,
            State::Failed => RecordingState::Failed,
        }
    }

    /// The Tap answered the last [`Output::Dial`].
    pub fn handle_connected(&mut self) {
        if matches!(self.state, State::Connecting { .. } | State::Resuming { .. }) {
            self.state = State::Recording;
        } else {
            self.output.push_back(Output::HangUp);
        }
    }

    /// It did not. `refused`: it never will.
    pub fn handle_dial_failed(&mut self, refused: bool, now: Duration) {
        match &mut self.state {
            State::Connecting { until, retry } | State::Resuming { until, retry } => {
                if refused || now >= *until {
                    self.finish(CloseReason::Lost, now);
                } else {
                    retry.failed(now);
                }
            }
            _ => {}
        }
    }

    /// The connection broke before the closing record.
    pub fn handle_lost(&mut self, now: Duration) {
        match self.state {
            State::Recording => {
                let progressed = self.lost_since.is_none();
                let since = *self.lost_since.get_or_insert(now);
                let mut retry = Retry::dialling();
                if progressed {
                    self.dial();
                } else {
                    // A Tap that breaks before its next record is not dialled in a tight circle.
                    retry.failed(now);
                }
                self.state = State::Resuming { until: since + DIAL_PATIENCE, retry };
            }
            State::Closing { .. } => self.finish(CloseReason::Requested, now),
            _ => {}
        }
    }

    /// What came over the connection is no Tap: nothing more of it is believed.
    pub fn handle_broken(&mut self, now: Duration) {
        if matches!(self.state, State::Recording | State::Closing { .. }) {
            self.finish(CloseReason::Lost, now);
        }
    }

    fn dial(&mut self) {
        let resume_after = self.segment.as_ref().map_or(self.next.resume_after, LiveSegment::handled);
        self.output.push_back(Output::Dial { resume_after });
    }

    /// A record of the Tap.
    pub fn handle_record(&mut self, number: u64, input: &TapInput<'_>, now: Duration) -> Result<(), TapMismatch> {
        if !matches!(self.state, State::Recording | State::Closing { .. }) {
            return Ok(());
        }
        self.lost_since = None;
        if let TapInput::Hello { .. } = input {
            self.check_hello(input)?;
        }
        if let TapInput::ClockPair { media_ns, wall } = input
            && let Some(base) = &mut self.base
        {
            (base.media_ns, base.wall) = (*media_ns, *wall);
        }
        if let TapInput::Gap { first_ns, last_ns, .. } = input {
            let gap_ns = last_ns.saturating_sub(*first_ns);
            if self.segment.is_none() {
                self.next.gap_ns = gap_ns;
            } else if gap_ns >= SEGMENT_GAP_NS {
                self.roll(number, gap_ns, now);
            }
        }
        self.begin_segment()?;
        let completed = self.segment.as_mut().and_then(|segment| segment.handle_record(number, input, now));
        if let Some((kind, started_ns, ended_ns)) = completed {
            self.note_announced(number, kind, started_ns, ended_ns);
        }
        if let TapInput::Closed { reason, .. } = input {
            self.finish(*reason, now);
        } else {
            self.flush_if_due(now);
        }
        Ok(())
    }

    fn check_hello(&mut self, input: &TapInput<'_>) -> Result<(), TapMismatch> {
        let TapInput::Hello { recording, call, tenant, clock, media_ns, wall } = input else { return Ok(()) };
        let RecordingPlan { recording: ours, call: our_call, tenant: our_tenant, .. } = &self.plan;
        if recording != ours || call != our_call || tenant != our_tenant {
            return Err(TapMismatch::Foreign);
        }
        if self.base.is_none() {
            let (media_ns, wall) = (*media_ns, *wall);
            self.base = Some(Base { clock: clock.clone(), origin_ns: media_ns, media_ns, wall });
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), TapMismatch> {
        if self.segment.is_some() {
            return Ok(());
        }
        let Some(base) = &self.base else { return Err(TapMismatch::NoHello) };
        let NextSegment { resume_after, skip, tracks, gap_ns, announcement } = std::mem::take(&mut self.next);
        let opened = Opened {
            version: Opened::VERSION,
            recording: self.plan.recording.clone(),
            call: self.plan.call.clone(),
            tenant: self.plan.tenant.clone(),
            segment: self.segment_number,
            clock: base.clock.clone(),
            media_ns: if self.segment_number == 1 { base.origin_ns } else { base.media_ns },
            wall: base.wall,
            resume_after,
            gap_ns,
        };
        let event = match self.segment_number {
            1 => ConsentEvent::RecordingStarted,
            _ => ConsentEvent::SegmentStarted { gap_ms: gap_ns / 1_000_000 },
        };
        let at = base.wall;
        self.telling.line(self.segment_number, at, event);
        let mut segment = LiveSegment::begin(SegmentStart { opened, tracks, skip });
        segment.carry_announcement(announcement);
        self.segment = Some(segment);
        self.output.push_back(Output::BeginSegment { segment: self.segment_number });
        Ok(())
    }

    /// Ends the running segment; the next one begins after record `number`.
    fn roll(&mut self, number: u64, gap_ns: u64, now: Duration) {
        let Some(mut segment) = self.segment.take() else { return };
        let flushed = segment.flush(now, true);
        self.give(flushed, false);
        self.losses.add(segment.losses());
        let tracks = segment.voices().map(|(track, voice)| (track, voice.clone())).collect();
        let announcement = segment.open_announcement();
        self.segment_number += 1;
        self.next = NextSegment { resume_after: number - 1, skip: BTreeSet::new(), tracks, gap_ns, announcement };
    }

    fn note_announced(&mut self, number: u64, kind: ConsentKind, started_ns: u64, ended_ns: u64) {
        let Some(base) = &self.base else { return };
        let (played, ended_ms) = (base.wall_of(started_ns), base.wall_of(ended_ns));
        let announced = Announced { kind, started_ns, ended_ns, played, number };
        if let Some(segment) = &mut self.segment {
            segment.announced(announced);
        }
        self.telling.announced(self.segment_number, announced, ended_ms);
    }

    fn flush_if_due(&mut self, now: Duration) {
        let due = self.segment.as_ref().and_then(LiveSegment::flush_due).is_some_and(|due| due <= now);
        if due && let Some(segment) = &mut self.segment {
            let flushed = segment.flush(now, false);
            self.give(flushed, false);
        }
    }

    /// Files, consent lines, then the sidecar: its progress record confirms what stands before it.
    fn give(&mut self, flushed: Flushed, finalise: bool) {
        self.packets += flushed.packets;
        let segment = self.segment_number;
        let mut appends = flushed.appends;
        let sidecar = appends.pop();
        let outputs = appends.into_iter().map(|append| Output::Append { segment, append });
        self.output.extend(outputs);
        self.output.extend(self.telling.lines().map(Output::AppendConsent));
        self.output.extend(sidecar.map(|append| Output::Append { segment, append }));
        let barrier = self.telling.barrier(segment, flushed.packets, finalise);
        self.output.push_back(Output::Barrier(barrier));
    }

    /// Everything before [`Output::Barrier`] `barrier` is written.
    pub fn handle_written(&mut self, barrier: u64) {
        let finalise = self.telling.written(barrier, &mut self.output);
        if finalise && self.state == State::Finishing {
            self.output.push_back(Output::Finalise);
        }
    }

    /// The fact with this number is in the outbox.
    pub fn handle_told(&mut self, number: u64) {
        if let Some(segment) = &mut self.segment {
            segment.facts_told(number);
        }
    }

    /// Ends the recording: the Tap's last records are awaited a moment.
    pub fn handle_stop(&mut self, now: Duration) {
        match self.state {
            State::Recording => self.state = State::Closing { until: now + CLOSING_PATIENCE },
            State::Connecting { .. } | State::Resuming { .. } => self.finish(CloseReason::Requested, now),
            State::Closing { .. } | State::Finishing | State::Finished | State::Failed => {}
        }
    }

    /// The disk took no more. What is written is finished if that is still possible.
    pub fn handle_disk_failed(&mut self) {
        if matches!(self.state, State::Finishing | State::Finished | State::Failed) {
            return;
        }
        self.stopped = Some(CloseReason::DiskFailed);
        self.segment = None;
        self.telling.give_up();
        self.output.push_back(Output::HangUp);
        self.state = State::Finishing;
        self.output.push_back(Output::Finalise);
    }

    fn finish(&mut self, reason: CloseReason, now: Duration) {
        self.stopped = Some(reason);
        self.output.push_back(Output::HangUp);
        self.state = State::Finishing;
        let at = self.base.as_ref().map_or(self.plan.answered_ms, |base| base.wall);
        let Some(mut segment) = self.segment.take() else {
            if self.packets == 0 {
                self.fail(no_audio(reason));
            } else {
                self.output.push_back(Output::Finalise);
            }
            return;
        };
        self.telling.line(self.segment_number, at, ConsentEvent::RecordingStopped { reason });
        if reason == CloseReason::Lost {
            let last_ns = self.base.as_ref().map_or(0, |base| base.media_ns);
            segment.close(reason, last_ns);
        }
        let flushed = segment.flush(now, true);
        self.losses.add(segment.losses());
        if self.packets + flushed.packets == 0 {
            self.give(flushed, false);
            self.fail(no_audio(reason));
            return;
        }
        self.give(flushed, true);
        let barrier = self.output.pop_back();
        self.output.push_back(Output::Sync);
        self.output.extend(barrier);
    }

    fn fail(&mut self, reason: &str) {
        self.state = State::Failed;
        let fact = Fact::RecordingFailed { recording: self.plan.recording.clone(), reason: reason.to_owned() };
        self.output.push_back(Output::Fact { fact, number: None });
        self.output.push_back(Output::Done { failed: true });
    }

    /// Records that belong to another recording ended it, or the final files could not be made.
    pub fn handle_failed(&mut self, reason: &str) {
        if matches!(self.state, State::Finished | State::Failed) {
            return;
        }
        self.output.push_back(Output::HangUp);
        self.fail(reason);
    }

    pub fn handle_finalised(&mut self, finalised: Finalised) {
        if self.state != State::Finishing {
            return;
        }
        self.state = State::Finished;
        let Finalised { files, segments, duration_ms } = finalised;
        let recording = self.plan.recording.clone();
        let fact = Fact::RecordingFinished { recording, files, segments, duration_ms };
        self.output.push_back(Output::Fact { fact, number: None });
        self.output.push_back(Output::Done { failed: false });
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        self.flush_if_due(now);
        match &mut self.state {
            State::Connecting { until, .. } | State::Resuming { until, .. } if now >= *until => {
                self.finish(CloseReason::Lost, now);
            }
            State::Connecting { retry, .. } | State::Resuming { retry, .. } if retry.at.is_some_and(|at| at <= now) => {
                retry.at = None;
                self.dial();
            }
            State::Closing { until } if now >= *until => self.finish(CloseReason::Requested, now),
            _ => {}
        }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        let own = match &self.state {
            State::Connecting { until, retry } | State::Resuming { until, retry } => {
                Some(retry.at.map_or(*until, |at| at.min(*until)))
            }
            State::Closing { until } => Some(*until),
            _ => None,
        };
        let flush = self.segment.as_ref().and_then(LiveSegment::flush_due);
        own.into_iter().chain(flush).min()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// Gives everything that waits to the disk, for a process that is about to end; the recording goes on later.
    pub fn handle_shutdown(&mut self, now: Duration) {
        if let Some(segment) = &mut self.segment {
            let flushed = segment.flush(now, false);
            self.give(flushed, false);
        }
    }
}

const fn no_audio(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Lost => "the SFU's Tap could not be opened in time; check that the recorder reaches it",
        CloseReason::AnnouncerFailed => "the notice could not be played to every party",
        CloseReason::RecorderGone => "the Tap was given up before the recorder came",
        CloseReason::Abandoned => "the SFU went away before any audio came",
        CloseReason::Requested => "it was stopped before any audio came",
        CloseReason::DiskFailed => "the recorder's disk took nothing",
    }
}
