//! What the daemon tells a shard, and what the shard tells the daemon.
use crate::dtls::DtlsSession;
use crate::tap::TapSink;
use crate::time::MediaNs;
use offhook_contract::event::{PeerConnected, SlotChanged};
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::sfu::{RoomKind, RoomRow};
use offhook_contract::{
    CallId, CodecName, Epoch, ErrorCode, HangupCause, LegId, RecordingId, RoomId, TenantId, UnixMs,
};
use offhook_media::EncodedPrompt;
use offhook_wire_srtp::SrtpKey;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// On whose behalf a room exists; comes back in the inventory and with every output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomContext {
    pub tenant: TenantId,
    pub call: CallId,
    pub epoch: Option<Epoch>,
}

pub enum Command {
    OpenRoom {
        room: RoomId,
        kind: RoomKind,
        context: RoomContext,
        opened_ms: UnixMs,
    },
    AddPeer {
        room: RoomId,
        leg: LegId,
        plan: Box<PeerPlan>,
        dtls: Box<dyn DtlsSession>,
        /// May use what is kept free for calls for help.
        emergency: bool,
    },
    OpenLink {
        room: RoomId,
        leg: LegId,
        plan: Box<LinkPlan>,
        emergency: bool,
    },
    ConnectLink {
        room: RoomId,
        leg: LegId,
        plan: Box<ConnectPlan>,
    },
    RemoveLeg {
        room: RoomId,
        leg: LegId,
    },
    CloseRoom {
        room: RoomId,
    },
    MuteLeg {
        room: RoomId,
        leg: LegId,
        muted: bool,
    },
    HoldLeg {
        room: RoomId,
        leg: LegId,
        held: bool,
    },
    /// Whether `OpenTap` would be carried out: asked before a Tap's transport is made.
    CheckTap {
        room: RoomId,
    },
    OpenTap {
        room: RoomId,
        plan: Box<TapPlan>,
    },
    CloseTap {
        room: RoomId,
        recording: RecordingId,
    },
    Inventory,
    /// A moment of the media clock on the wall clock, for sender reports and Taps.
    SetClock {
        at: MediaNs,
        wall: UnixMs,
    },
    /// Ends every leg: the node is shutting down.
    EndAll {
        cause: HangupCause,
    },
}

/// One receiving line of a browser, or one slot of a Link, as we write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePlan {
    pub ssrc: u32,
    /// Random; the top bit is ignored.
    pub first_sequence: u16,
    pub first_timestamp: u32,
}

/// Payload type numbers of the codecs both sides know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadTypes {
    pub opus: Option<u8>,
    pub pcmu: Option<u8>,
    pub pcma: Option<u8>,
}

impl PayloadTypes {
    pub fn on_links(codecs: &[CodecName]) -> Self {
        let number = |codec: CodecName| codecs.contains(&codec).then(|| codec.link_payload_type());
        Self { opus: number(CodecName::Opus), pcmu: number(CodecName::Pcmu), pcma: number(CodecName::Pcma) }
    }
    pub const fn number(&self, codec: CodecName) -> Option<u8> {
        match codec {
            CodecName::Opus => self.opus,
            CodecName::Pcmu => self.pcmu,
            CodecName::Pcma => self.pcma,
        }
    }
    pub fn codec(&self, number: u8) -> Option<CodecName> {
        [CodecName::Opus, CodecName::Pcmu, CodecName::Pcma].into_iter().find(|c| self.number(*c) == Some(number))
    }
}

/// A browser's transport and lines, as negotiated.
#[derive(Debug, Clone)]
pub struct PeerPlan {
    /// Our ICE credentials; the fragment names the peer in every check.
    pub ufrag: String,
    pub pwd: String,
    /// The certificate that the browser announced (SHA-256).
    pub remote_fingerprint: [u8; 32],
    /// What the browser may send. `None`: it only listens.
    pub sends: Option<PayloadTypes>,
    pub sent_level_id: Option<u8>,
    /// What we may send to it on every line.
    pub receives: PayloadTypes,
    pub received_level_id: Option<u8>,
    pub slots: Vec<LinePlan>,
    pub announcer: Option<LinePlan>,
    /// The SSRC of our receiver reports.
    pub report_ssrc: u32,
    /// The CSRC under which Links see this leg.
    pub source_id: u32,
}

#[derive(Debug, Clone)]
pub struct LinkPlan {
    /// Protects what we send.
    pub key: SrtpKey,
    pub slots: Vec<LinePlan>,
    pub announcer: LinePlan,
    pub report_ssrc: u32,
    pub source_id: u32,
    /// What we may send.
    pub codecs: Vec<CodecName>,
}

#[derive(Debug, Clone)]
pub struct ConnectPlan {
    pub remote: SocketAddr,
    /// Protects what the other side sends.
    pub key: SrtpKey,
    pub ssrc: u32,
    pub codecs: Vec<CodecName>,
}

pub struct TapPlan {
    pub recording: RecordingId,
    pub notice: Arc<EncodedPrompt>,
    pub beep: Arc<EncodedPrompt>,
    pub period: Duration,
    pub sink: Box<dyn TapSink>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Done,
    Inventory(Vec<RoomRow>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("room {0} is not open here")]
    NoRoom(RoomId),
    #[error("leg {0} is not in the room")]
    NoLeg(LegId),
    #[error("room {0} is open for another call or in another form")]
    RoomConflict(RoomId),
    #[error("leg {0} is not a link")]
    NotALink(LegId),
    #[error("the link of leg {0} is connected already")]
    LinkConnected(LegId),
    #[error("another link already receives from {0} under the same SSRC")]
    LinkAddressTaken(SocketAddr),
    #[error("the link's key cannot be used")]
    LinkKey,
    #[error("no codec in common on the link of leg {0}")]
    NoCodec(LegId),
    #[error("room {room} is full: {limit} legs")]
    RoomFull { room: RoomId, limit: usize },
    #[error("this media thread is full: {limit} legs")]
    ShardFull { limit: usize },
    #[error("an echo room cannot be recorded")]
    EchoRoom,
    #[error("leg {0} cannot hear the recording notice: it has no line for announcements, or no codec for them")]
    NoticeUnheard(LegId),
    #[error("recording {0} runs in this room already")]
    TapOpen(RecordingId),
    #[error("the recording notice or beep is empty, or its period too short")]
    TapPlan,
}

impl CommandError {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NoRoom(_) | Self::NoLeg(_) => ErrorCode::NotFound,
            Self::RoomConflict(_) | Self::NotALink(_) | Self::LinkConnected(_) | Self::TapOpen(_) => {
                ErrorCode::Conflict
            }
            Self::LinkKey | Self::NoCodec(_) | Self::TapPlan | Self::LinkAddressTaken(_) => ErrorCode::Invalid,
            Self::RoomFull { .. } | Self::ShardFull { .. } => ErrorCode::Exhausted,
            Self::EchoRoom | Self::NoticeUnheard(_) => ErrorCode::Refused,
        }
    }
}

/// What happened, in the shard's own time. `context` places it in its call.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub context: Arc<RoomContext>,
    pub at: MediaNs,
    pub news: News,
}

/// Figures of a connected leg. Told every five seconds, so without allocation.
#[derive(Debug, Clone, PartialEq)]
pub struct LegFigures {
    pub leg: Arc<LegId>,
    pub received_packets: u64,
    pub lost_packets: u64,
    pub jitter_ms: f32,
    pub round_trip_ms: Option<f32>,
    pub sent_packets: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum News {
    PeerConnected(PeerConnected),
    SlotChanged(SlotChanged),
    LegStats(LegFigures),
    /// Removed by the shard itself.
    LegEnded {
        room: RoomId,
        leg: LegId,
        cause: HangupCause,
        reason: &'static str,
    },
    TapClosed {
        recording: RecordingId,
        reason: TapCloseReason,
        /// To whom notice or beep could not be played.
        leg: Option<LegId>,
    },
    Announcement {
        recording: RecordingId,
        leg: LegId,
        kind: ConsentKind,
        played_ms: UnixMs,
        received: bool,
    },
}
