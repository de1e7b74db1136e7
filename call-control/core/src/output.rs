//! What the core says: replies, requests to nodes, events for pages, rows for the database.
use crate::ids::{RequestId, SessionId, Tag};
use crate::rows::Write;
use crate::view::CallView;
use offhook_contract::control::IncomingRoute;
use offhook_contract::gateway::{AnswerTelephone, DialTelephone, HangUpTelephone, HoldTelephone, RingTelephone};
use offhook_contract::gateway::{GatewayInventoryRequest, SendDigits};
use offhook_contract::recorder::{RecorderInventoryRequest, StartRecording, StopRecording};
use offhook_contract::sfu::{CloseRoom, CloseTap, ConnectLink, HoldLeg, JoinPeer, MuteLeg, OpenLink, OpenRoom};
use offhook_contract::sfu::{OpenTap, RemoveLeg, SfuInventoryRequest};
use offhook_contract::{CallId, DaemonKind, HangupCause, LegId, NodeId, TenantId};
use serde::Serialize;

#[derive(Debug)]
pub enum Output {
    Reply { tag: Tag, result: Result<CommandReply, CommandError> },
    Route { tag: Tag, decision: IncomingRoute },
    Request { id: RequestId, node: NodeId, tenant: Option<TenantId>, call: Option<CallId>, body: NodeRequest },
    Notify { session: SessionId, event: ClientEvent },
    Write(Write),
}

#[derive(Debug, Clone, PartialEq)]
pub enum CommandReply {
    /// `leg` is the giver's own leg; absent when a key gave the command.
    Call {
        call: CallId,
        leg: Option<LegId>,
        view: Box<CallView>,
    },
    Joined {
        answer_sdp: String,
        slot_mids: Vec<String>,
        announcer_mid: Option<String>,
    },
}

/// A command that was refused: the word for programs, the sentence for people, and the cause when a call ended by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: RefusalCode,
    pub message: String,
    pub cause: Option<HangupCause>,
}

impl CommandError {
    pub(crate) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), cause: None }
    }
    pub(crate) fn cause(cause: HangupCause, message: impl Into<String>) -> Self {
        let code = match cause {
            HangupCause::LimitReached => RefusalCode::LimitReached,
            HangupCause::NotFound => RefusalCode::NotFound,
            HangupCause::InternalError | HangupCause::NodeLost => RefusalCode::Unavailable,
            _ => RefusalCode::Refused,
        };
        Self { code, message: message.into(), cause: Some(cause) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    NotFound,
    Invalid,
    /// The state of the call does not allow it.
    Conflict,
    Refused,
    LimitReached,
    /// No node can do it now.
    Unavailable,
}

impl RefusalCode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::LimitReached => "limit_reached",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    CallUpdated(Box<CallView>),
    CallEnded(Box<CallView>),
    Slot { call: CallId, slot: u8, leg: Option<LegId>, name: Option<String> },
    Digit { call: CallId, leg: LegId, digit: char },
}

/// A request to a node, of any kind. The shell puts it on the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeRequest {
    OpenRoom(OpenRoom),
    JoinPeer(JoinPeer),
    OpenLink(OpenLink),
    ConnectLink(ConnectLink),
    RemoveLeg(RemoveLeg),
    CloseRoom(CloseRoom),
    MuteLeg(MuteLeg),
    HoldLeg(HoldLeg),
    OpenTap(OpenTap),
    CloseTap(CloseTap),
    SfuInventory(SfuInventoryRequest),
    DialTelephone(DialTelephone),
    RingTelephone(RingTelephone),
    AnswerTelephone(AnswerTelephone),
    HangUpTelephone(HangUpTelephone),
    SendDigits(SendDigits),
    HoldTelephone(HoldTelephone),
    GatewayInventory(GatewayInventoryRequest),
    StartRecording(StartRecording),
    StopRecording(StopRecording),
    RecorderInventory(RecorderInventoryRequest),
}

impl NodeRequest {
    pub const fn daemon(&self) -> DaemonKind {
        match self {
            Self::OpenRoom(_) | Self::JoinPeer(_) | Self::OpenLink(_) | Self::ConnectLink(_) | Self::RemoveLeg(_) => {
                DaemonKind::Sfu
            }
            Self::CloseRoom(_) | Self::MuteLeg(_) | Self::HoldLeg(_) | Self::OpenTap(_) | Self::CloseTap(_) => {
                DaemonKind::Sfu
            }
            Self::SfuInventory(_) => DaemonKind::Sfu,
            Self::DialTelephone(_) | Self::RingTelephone(_) | Self::AnswerTelephone(_) => DaemonKind::Sip,
            Self::HangUpTelephone(_) | Self::SendDigits(_) | Self::HoldTelephone(_) => DaemonKind::Sip,
            Self::GatewayInventory(_) => DaemonKind::Sip,
            Self::StartRecording(_) | Self::StopRecording(_) | Self::RecorderInventory(_) => DaemonKind::Recorder,
        }
    }
}
