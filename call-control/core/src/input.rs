//! What the core is told.
use crate::ids::{RequestId, SessionId, Tag, UserId};
use crate::policy::RecordingMode;
use offhook_contract::control::RouteIncoming;
use offhook_contract::gateway::{GatewayInventory, TelephoneAnswered, TelephoneDialled};
use offhook_contract::recorder::RecorderInventory;
use offhook_contract::sfu::{PeerJoined, SfuInventory, TapOffer};
use offhook_contract::{CallId, Context, Event, FactRecord, LinkOffer, NodeRow, RequestError, TenantId};

/// A person who can call and be called, as the database knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub extension: String,
}

/// Who gives a command. A `session` narrows it to one page; without a `user` it is the tenant's own key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub tenant: TenantId,
    pub user: Option<User>,
    pub session: Option<SessionId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `callee` is the user whose extension `dialled` is, when there is one.
    Dial {
        dialled: String,
        callee: Option<User>,
        recording: RecordingMode,
    },
    /// Rings `caller`'s pages first and dials once one has answered.
    Originate {
        caller: User,
        dialled: String,
        callee: Option<User>,
        recording: RecordingMode,
    },
    Answer {
        call: CallId,
    },
    Join {
        call: CallId,
        offer_sdp: String,
    },
    Reject {
        call: CallId,
    },
    HangUp {
        call: CallId,
    },
    Mute {
        call: CallId,
        muted: bool,
    },
    /// Every other party hears the hold prompt until it is taken back.
    Hold {
        call: CallId,
        held: bool,
    },
    Digits {
        call: CallId,
        digits: String,
    },
    Record {
        call: CallId,
        on: bool,
    },
}

#[derive(Debug)]
pub enum Input {
    /// A page said hello. `former` is the session it had before, when we do not know that one any more.
    SessionOpened {
        tenant: TenantId,
        user: UserId,
        session: SessionId,
        former: Option<SessionId>,
    },
    /// Its WebSocket is back.
    SessionAttached {
        session: SessionId,
    },
    /// Its WebSocket is gone; the session is kept for a while.
    SessionDetached {
        session: SessionId,
    },
    SessionClosed {
        session: SessionId,
    },
    Command {
        tag: Tag,
        actor: Actor,
        command: Command,
    },
    /// A telephone calls; `callee` is whose number it dialled.
    Incoming {
        tag: Tag,
        route: RouteIncoming,
        callee: Option<User>,
        recording: RecordingMode,
    },
    Event {
        context: Context,
        event: Event,
    },
    Fact(FactRecord),
    Reply {
        request: RequestId,
        result: Result<NodeReply, RequestFailure>,
    },
    Nodes(Vec<NodeRow>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum NodeReply {
    Done,
    PeerJoined(PeerJoined),
    LinkOffer(LinkOffer),
    Dialled(TelephoneDialled),
    Answered(TelephoneAnswered),
    Tap(TapOffer),
    Sfu(SfuInventory),
    Gateway(GatewayInventory),
    Recorder(RecorderInventory),
}

/// Why a request brought no reply, or a refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    #[error("the node cannot be reached")]
    Unreachable,
    #[error(transparent)]
    Refused(#[from] RequestError),
}
