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
    pub reason: Option<String>,
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
