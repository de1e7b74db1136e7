//! The Tap's schedule: the notice when the recorder has come, beeps from its end on, and the end of both together
//! (DESIGN.md §1, Tap).
use crate::announcer::{Announcement, Audience};
use crate::command::TapPlan;
use crate::time::{MediaNs, ticks};
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::{CodecName, LegId, RecordingId, UnixMs};
use offhook_media::EncodedPrompt;
use std::sync::Arc;
use std::time::Duration;

/// No recorder for so long ends Tap and beeps.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the recorder's presence is looked at.
const LOOK: Duration = Duration::from_millis(50);
const CLOCK_PAIR_EVERY: Duration = Duration::from_secs(10);
const FRAME: Duration = Duration::from_millis(20);
/// The Announcer's track is written in one codec, whatever the listeners heard.
const TRACK_CODEC: CodecName = CodecName::Opus;

/// A track inside one Tap; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TrackNumber(pub u16);

/// One RTP packet as it came in, after SRTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapPacket<'a> {
    pub track: TrackNumber,
    pub at: MediaNs,
    pub codec: CodecName,
    pub payload_type: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReaderPresence {
    /// None has come yet.
    Waiting,
    Attached,
    /// It was here and may come back.
    Detached,
    Gone,
}

/// The transport of a Tap; nothing in it blocks or allocates.
pub trait TapSink: Send {
    /// `leg` is `None` for the Announcer's track.
    fn track(&mut self, track: TrackNumber, leg: Option<&LegId>, at: MediaNs);
    fn packet(&mut self, packet: &TapPacket<'_>);
    fn track_ended(&mut self, track: TrackNumber, at: MediaNs);
    fn announcement_started(&mut self, kind: ConsentKind, at: MediaNs);
    fn announcement_ended(&mut self, kind: ConsentKind, at: MediaNs);
    fn clock_pair(&mut self, at: MediaNs, wall: UnixMs);
    fn reader(&self) -> ReaderPresence;
    fn close(self: Box<Self>, reason: TapCloseReason, at: MediaNs);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// For the recorder.
    Waiting,
    Notice,
    /// The next beep.
    Beeps {
        due: MediaNs,
    },
}

pub struct Tap {
    pub recording: RecordingId,
    notice: Arc<EncodedPrompt>,
    beep: Arc<EncodedPrompt>,
    period: Duration,
    sink: Box<dyn TapSink>,
    stage: Stage,
    absent_since: Option<MediaNs>,
    next_track: u16,
    announcer: Option<TrackNumber>,
    sequence: u16,
    timestamp: u32,
    last_frame: Option<MediaNs>,
    clock_pair_due: MediaNs,
}

/// What the room has to do now.
pub enum Due {
    Nothing,
    Play(Announcement),
    Close(TapCloseReason),
}

impl Tap {
    pub fn new(plan: TapPlan, now: MediaNs) -> Self {
        Self {
            recording: plan.recording,
            notice: plan.notice,
            beep: plan.beep,
            period: plan.period,
            sink: plan.sink,
            stage: Stage::Waiting,
            absent_since: Some(now),
            next_track: 0,
            announcer: None,
            sequence: 0,
            timestamp: 0,
            last_frame: None,
            clock_pair_due: now,
        }
    }

    /// Packets flow from the moment the notice begins.
    pub const fn is_recording(&self) -> bool {
        !matches!(self.stage, Stage::Waiting)
    }

    pub fn notice_for(&self, audience: Audience) -> Announcement {
        Announcement::new(ConsentKind::Notice, Arc::clone(&self.notice), audience)
    }

    pub fn next_look(&self, now: MediaNs) -> MediaNs {
        let look = now.after(LOOK);
        match self.stage {
            Stage::Beeps { due } => look.min(due),
            _ => look,
        }
    }

    pub fn look(&mut self, now: MediaNs, wall: UnixMs) -> Due {
        if let Some(reason) = self.absence(now) {
            return Due::Close(reason);
        }
        if self.is_recording() && now >= self.clock_pair_due {
            self.clock_pair_due = now.after(CLOCK_PAIR_EVERY);
            self.sink.clock_pair(now, wall);
        }
        match self.stage {
            Stage::Waiting if self.absent_since.is_none() => {
                self.stage = Stage::Notice;
                self.announcer = Some(self.new_track(None, now));
                Due::Play(self.notice_for(Audience::All))
            }
            Stage::Beeps { due } if now >= due => {
                // By the grid, not by when we looked; a beep missed by a whole period is not made up for.
                let mut next = due.after(self.period);
                while next <= now {
                    next = next.after(self.period);
                }
                self.stage = Stage::Beeps { due: next };
                Due::Play(Announcement::new(ConsentKind::Beep, Arc::clone(&self.beep), Audience::All))
            }
            _ => Due::Nothing,
        }
    }

    fn absence(&mut self, now: MediaNs) -> Option<TapCloseReason> {
        match self.sink.reader() {
            ReaderPresence::Attached => {
                self.absent_since = None;
                None
            }
            ReaderPresence::Gone => Some(TapCloseReason::RecorderGone),
            ReaderPresence::Waiting | ReaderPresence::Detached => {
                let since = *self.absent_since.get_or_insert(now);
                (now.since(since) >= PATIENCE).then_some(TapCloseReason::RecorderGone)
            }
        }
    }

    fn new_track(&mut self, leg: Option<&LegId>, now: MediaNs) -> TrackNumber {
        let track = TrackNumber(self.next_track);
        self.next_track = self.next_track.saturating_add(1);
        self.sink.track(track, leg, now);
        track
    }

    /// A party's packet; begins its track with the first.
    pub fn packet(&mut self, now: MediaNs, leg: &LegId, track: &mut Option<TrackNumber>, packet: TapPacket<'_>) {
        if !self.is_recording() {
            return;
        }
        let number = match *track {
            Some(number) => number,
            None => *track.insert(self.new_track(Some(leg), now)),
        };
        self.sink.packet(&TapPacket { track: number, ..packet });
    }

    pub fn track_ended(&mut self, track: TrackNumber, now: MediaNs) {
        self.sink.track_ended(track, now);
    }

    pub fn announcement_started(&mut self, kind: ConsentKind, now: MediaNs) {
        self.sink.announcement_started(kind, now);
    }

    /// The first notice to all sets the grid: the first beep when it ends. `taped`: somebody heard it.
    pub fn announcement_ended(&mut self, kind: ConsentKind, now: MediaNs, taped: bool) {
        if taped {
            self.sink.announcement_ended(kind, now);
        }
        if self.stage == Stage::Notice && kind == ConsentKind::Notice {
            self.stage = Stage::Beeps { due: now };
        }
    }

    /// A frame that the Announcer has just handed to everyone who must hear it.
    pub fn announcer_frame(&mut self, now: MediaNs, prompt: &EncodedPrompt, frame: usize) {
        let (Some(track), Some(payload)) =
            (self.announcer, prompt.frame(crate::announcer::media_codec(TRACK_CODEC), frame))
        else {
            return;
        };
        let step = self.last_frame.map_or(Duration::ZERO, |last| now.since(last).max(FRAME));
        let marker = step != FRAME;
        self.timestamp = self.timestamp.wrapping_add(ticks(step, TRACK_CODEC.clock_rate_hz()) as u32);
        self.last_frame = Some(now);
        self.sink.packet(&TapPacket {
            track,
            at: now,
            codec: TRACK_CODEC,
            payload_type: TRACK_CODEC.link_payload_type(),
            marker,
            sequence: self.sequence,
            timestamp: self.timestamp,
            payload,
        });
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub fn close(self, reason: TapCloseReason, now: MediaNs) {
        self.sink.close(reason, now);
    }
}
