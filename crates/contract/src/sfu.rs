//! Requests that an SFU answers. `offhook.<cluster>.v1.sfu.<node>.<request>`.
use crate::audio::{BeepPlan, PromptName};
use crate::envelope::Request;
use crate::ids::{CallId, DaemonKind, LegId, RecordingId, RoomId, TenantId};
use crate::link::{LinkAnswer, LinkOffer};
use crate::secret::Secret;
use crate::time::{Epoch, UnixMs};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

macro_rules! sfu_request {
    ($request:ty, $name:literal, $reply:ty) => {
        impl Request for $request {
            const DAEMON: DaemonKind = DaemonKind::Sfu;
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

/// Opens a room, or confirms that it is open. The tenant, call and epoch stand in the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRoom {
    pub room: RoomId,
    pub kind: RoomKind,
}
sfu_request!(OpenRoom, "open_room", Done);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomKind {
    Conversation,
    /// Returns each sender's own track untouched (`*43`).
    Echo,
}

/// Joins a browser by its SDP offer. The same leg again (a reloaded page) replaces its former transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinPeer {
    pub room: RoomId,
    pub leg: LegId,
    pub offer_sdp: String,
    /// Of a call for help: it may use what the SFU keeps free for such legs when it is full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
}
sfu_request!(JoinPeer, "join_peer", PeerJoined);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerJoined {
    pub answer_sdp: String,
    /// Mids of the receiving slots, in slot order; then the Announcer's, when the offer had a line left for it.
    pub slot_mids: Vec<String>,
    pub announcer_mid: Option<String>,
}

/// Opens our half of a Link for a leg; nothing flows before `ConnectLink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLink {
    pub room: RoomId,
    pub leg: LegId,
    /// Of a call for help: it may use what the SFU keeps free for such legs when it is full.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub emergency: bool,
}
sfu_request!(OpenLink, "open_link", LinkOffer);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectLink {
    pub room: RoomId,
    pub leg: LegId,
    pub answer: LinkAnswer,
}
sfu_request!(ConnectLink, "connect_link", Done);

/// Removes a leg. Not found is not an error: the wish is fulfilled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveLeg {
    pub room: RoomId,
    pub leg: LegId,
}
sfu_request!(RemoveLeg, "remove_leg", Done);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseRoom {
    pub room: RoomId,
}
sfu_request!(CloseRoom, "close_room", Done);

/// Nobody hears a muted leg; it is still recorded as silence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteLeg {
    pub room: RoomId,
    pub leg: LegId,
    pub muted: bool,
}
sfu_request!(MuteLeg, "mute_leg", Done);

/// The held leg hears the hold prompt on its Announcer line instead of the room, and the room does not hear it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLeg {
    pub room: RoomId,
    pub leg: LegId,
    pub held: bool,
}
sfu_request!(HoldLeg, "hold_leg", Done);

/// Opens a Tap together with its notice and beeps, or refuses: a room with a party whom the notice cannot reach
/// is not recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenTap {
    pub room: RoomId,
    pub recording: RecordingId,
    pub notice: PromptName,
    pub beep: BeepPlan,
    /// SHA-256 of the recorder's certificate, hexadecimal; it must dial with this one.
    pub recorder_fingerprint: String,
}
sfu_request!(OpenTap, "open_tap", TapOffer);

/// How the recorder reaches the Tap: by TLS, or inside one process by the token alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapOffer {
    pub recording: RecordingId,
    pub addresses: Vec<SocketAddr>,
    /// SHA-256 of the SFU's certificate, hexadecimal.
    pub fingerprint: String,
    /// Opens this Tap and no other, again and again for `resume`, until the Tap closes.
    pub token: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseTap {
    pub room: RoomId,
    pub recording: RecordingId,
}
sfu_request!(CloseTap, "close_tap", Done);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SfuInventoryRequest {}
sfu_request!(SfuInventoryRequest, "inventory", SfuInventory);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SfuInventory {
    pub rooms: Vec<RoomRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    pub room: RoomId,
    pub tenant: TenantId,
    pub call: CallId,
    pub epoch: Option<Epoch>,
    pub kind: RoomKind,
    pub opened_ms: UnixMs,
    pub legs: Vec<RoomLegRow>,
    pub taps: Vec<RecordingId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomLegRow {
    pub leg: LegId,
    pub transport: LegTransport,
    pub connected: bool,
    pub muted: bool,
    pub held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegTransport {
    Peer,
    Link,
}
