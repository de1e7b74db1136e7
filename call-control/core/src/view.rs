//! A call as one page sees it.
use offhook_contract::{CallId, HangupCause, LegId, RecordingId, UnixMs};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallView {
    pub id: CallId,
    pub direction: Direction,
    pub state: CallWord,
    pub started_ms: UnixMs,
    pub answered_ms: Option<UnixMs>,
    pub ended_ms: Option<UnixMs>,
    pub cause: Option<HangupCause>,
    pub cause_side: Option<CauseSide>,
    pub my_leg: LegView,
    pub parties: Vec<PartyView>,
    pub can_record: bool,
    pub recording: Option<RecordingView>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Internal,
    Outbound,
    Inbound,
    Echo,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Echo => "echo",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Internal, Self::Outbound, Self::Inbound, Self::Echo].into_iter().find(|d| d.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallWord {
    New,
    Ringing,
    Early,
    Active,
    Ended,
}

impl CallWord {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Ringing => "ringing",
            Self::Early => "early",
            Self::Active => "active",
            Self::Ended => "ended",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::New, Self::Ringing, Self::Early, Self::Active, Self::Ended].into_iter().find(|s| s.as_str() == text)
    }
}

/// `Ringing` of one's own leg means exactly: it rings here and can be answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegWord {
    Ringing,
    Early,
    Talking,
    Held,
    Ended,
}

impl LegWord {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ringing => "ringing",
            Self::Early => "early",
            Self::Talking => "talking",
            Self::Held => "held",
            Self::Ended => "ended",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ringing, Self::Early, Self::Talking, Self::Held, Self::Ended].into_iter().find(|s| s.as_str() == text)
    }
}

/// Whose doing the end was, seen from the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseSide {
    Me,
    Other,
    System,
}

/// `state` is `held` when this leg hears the hold prompt; `held` is true when this page put the others on hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegView {
    pub id: LegId,
    pub state: LegWord,
    pub muted: bool,
    pub held: bool,
}

/// `held` is true when this party put the others on hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyView {
    pub leg: LegId,
    pub name: String,
    pub number: Option<String>,
    pub kind: PartyKind,
    pub state: LegWord,
    pub muted: bool,
    pub held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyKind {
    Browser,
    Telephone,
    Application,
}

impl PartyKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Telephone => "telephone",
            Self::Application => "application",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Browser, Self::Telephone, Self::Application].into_iter().find(|k| k.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingView {
    pub id: RecordingId,
    pub state: RecordingWord,
    pub started_ms: Option<UnixMs>,
    /// One sentence, for logs and programs; a page has its own words for the code.
    pub reason: Option<String>,
    pub reason_code: Option<RecordingTrouble>,
}

/// Why a recording is not there, as far as call-control itself knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingTrouble {
    NoMediaRoom,
    NoRecorder,
    StoppedEarly,
    CallEndedEarly,
    MediaServerLost,
    AnnouncerFailed,
    RecorderGone,
    NodeUnreachable,
    Restarted,
}

impl RecordingTrouble {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoMediaRoom => "no_media_room",
            Self::NoRecorder => "no_recorder",
            Self::StoppedEarly => "stopped_early",
            Self::CallEndedEarly => "call_ended_early",
            Self::MediaServerLost => "media_server_lost",
            Self::AnnouncerFailed => "announcer_failed",
            Self::RecorderGone => "recorder_gone",
            Self::NodeUnreachable => "node_unreachable",
            Self::Restarted => "restarted",
        }
    }
    const fn sentence(self) -> &'static str {
        match self {
            Self::NoMediaRoom => "the call has no media room",
            Self::NoRecorder => "no recorder is ready",
            Self::StoppedEarly => "it was stopped before it began",
            Self::CallEndedEarly => "the call ended before it began",
            Self::MediaServerLost => "the media server that carried the call was lost",
            Self::AnnouncerFailed => "the notice or the beep could not be played to every party",
            Self::RecorderGone => "the recorder was away for too long",
            Self::NodeUnreachable => "the node that should do it cannot be reached",
            Self::Restarted => "call-control was restarted before it began",
        }
    }
}

/// A code of ours with its sentence, or what another node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: Option<RecordingTrouble>,
    pub sentence: String,
}

impl From<RecordingTrouble> for Reason {
    fn from(trouble: RecordingTrouble) -> Self {
        Self { code: Some(trouble), sentence: trouble.sentence().to_owned() }
    }
}

impl From<&str> for Reason {
    fn from(sentence: &str) -> Self {
        Self { code: None, sentence: sentence.to_owned() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingWord {
    Starting,
    Recording,
    Stopping,
    Stopped,
    Failed,
}

impl RecordingWord {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Recording => "recording",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Starting, Self::Recording, Self::Stopping, Self::Stopped, Self::Failed]
            .into_iter()
            .find(|s| s.as_str() == text)
    }
}
