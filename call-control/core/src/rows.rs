//! What the core asks to be written, and the calls it is handed back after a restart.
use crate::ids::{SessionId, UserId};
use crate::policy::RecordingMode;
use crate::view::{CallWord, Direction, LegWord, PartyKind, Reason, RecordingWord};
use offhook_contract::fact::{ConsentKind, FileRow, SegmentRow};
use offhook_contract::{CallId, HangupCause, LegId, NodeId, RecordingId, TenantId, TrunkName, UnixMs};

/// A whole row is written again whenever it changed; only events are appended.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Call(Box<CallRow>),
    Leg(Box<LegRow>),
    Event(CallEventRow),
    Recording { tenant: TenantId, call: CallId, recording: RecordingId, at: UnixMs, outcome: RecordingOutcome },
    Consent(ConsentRow),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRow {
    pub tenant: TenantId,
    pub id: CallId,
    pub direction: Direction,
    pub state: CallWord,
    pub caller: Option<UserId>,
    pub callee: Option<UserId>,
    pub from_name: String,
    pub from_number: Option<String>,
    pub to_name: String,
    pub to_number: Option<String>,
    pub recording_mode: RecordingMode,
    pub started: UnixMs,
    pub answered: Option<UnixMs>,
    pub ended: Option<UnixMs>,
    pub cause: Option<HangupCause>,
    pub ended_by: Option<LegId>,
    /// Where its room is.
    pub sfu: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegRow {
    pub tenant: TenantId,
    pub call: CallId,
    pub id: LegId,
    /// 0 is the caller.
    pub position: u8,
    pub kind: PartyKind,
    pub state: LegWord,
    pub user: Option<UserId>,
    pub session: Option<SessionId>,
    pub name: String,
    pub number: Option<String>,
    /// The gateway that carries a telephone.
    pub node: Option<NodeId>,
    pub trunk: Option<TrunkName>,
    pub sip_call_id: Option<String>,
    pub muted: bool,
    /// Whose hold this leg is in.
    pub held_by: Option<LegId>,
    pub started: UnixMs,
    pub answered: Option<UnixMs>,
    pub ended: Option<UnixMs>,
    pub cause: Option<HangupCause>,
}

/// One line of a call's append-only story. The same `id` again is the same line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallEventRow {
    pub tenant: TenantId,
    pub call: CallId,
    pub id: String,
    pub at: UnixMs,
    pub kind: &'static str,
    pub leg: Option<LegId>,
    /// JSON; no secrets, no keypad digits.
    pub data: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RecordingOutcome {
    Asked { recorder: Option<NodeId> },
    State { state: RecordingWord, reason: Option<Reason> },
    Segment { segment: u32 },
    Finished { files: Vec<FileRow>, segments: Vec<SegmentRow>, duration_ms: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentRow {
    pub tenant: TenantId,
    pub call: CallId,
    pub recording: RecordingId,
    pub segment: Option<u32>,
    pub kind: ConsentKind,
    pub played: UnixMs,
    pub status: ConsentStatus,
    /// Whose browser confirmed, for `Received` and `Unconfirmed`.
    pub leg: Option<LegId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConsentStatus {
    Played,
    Received,
    Unconfirmed,
}

impl ConsentStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Played => "played",
            Self::Received => "received",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// A call that had not ended when the database last heard of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredCall {
    pub call: CallRow,
    /// By position.
    pub legs: Vec<LegRow>,
    /// The recording that was not finished, and the recorder that has it.
    pub recording: Option<(RecordingId, RecordingWord, Option<NodeId>)>,
}
