//! Requests that a SIP gateway answers. `offhook.<cluster>.v1.sip.<node>.<request>`.
use crate::dial::{Destination, PhoneNumber};
use crate::envelope::Request;
use crate::hangup::HangupCause;
use crate::ids::{CallId, DaemonKind, LegId, TenantId, TrunkName};
use crate::link::{LinkAnswer, LinkOffer};
use crate::node::TrunkState;
use crate::sfu::Done;
use crate::time::{Epoch, UnixMs};
use serde::{Deserialize, Serialize};

macro_rules! gateway_request {
    ($request:ty, $name:literal, $reply:ty) => {
        impl Request for $request {
            const DAEMON: DaemonKind = DaemonKind::Sip;
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

/// Dials a telephone. Replies as soon as the leg's media half exists and the INVITE is on its way; progress follows
/// as events (`LegRinging`, `LegEarlyMedia`) and facts (`LegAnswered`, `LegEnded`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialTelephone {
    pub leg: LegId,
    pub trunk: TrunkName,
    pub to: Destination,
    /// The caller's number as shown to the callee; the trunk's own when absent.
    pub caller_id: Option<PhoneNumber>,
    pub ring_timeout_ms: u32,
    pub max_duration_s: u32,
    pub link: LinkOffer,
}
gateway_request!(DialTelephone, "dial_telephone", TelephoneDialled);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelephoneDialled {
    pub link: LinkAnswer,
    pub sip_call_id: String,
}

/// Tells the calling telephone that its callee rings (180).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingTelephone {
    pub leg: LegId,
}
gateway_request!(RingTelephone, "ring_telephone", Done);

/// Answers an incoming telephone call (200) and connects its media to the Link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerTelephone {
    pub leg: LegId,
    pub link: LinkOffer,
    pub max_duration_s: u32,
}
gateway_request!(AnswerTelephone, "answer_telephone", TelephoneAnswered);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelephoneAnswered {
    pub link: LinkAnswer,
}

/// Ends a leg: CANCEL, a refusal or BYE as its state asks. Not found is not an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangUpTelephone {
    pub leg: LegId,
    pub cause: HangupCause,
}
gateway_request!(HangUpTelephone, "hang_up_telephone", Done);

/// Sends keypad digits as RFC 4733 events. `digits`: 1 to 32 of `0-9*#A-D`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendDigits {
    pub leg: LegId,
    pub digits: String,
    pub duration_ms: u16,
}
gateway_request!(SendDigits, "send_digits", Done);

/// The held telephone hears the hold prompt, and the room does not hear it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldTelephone {
    pub leg: LegId,
    pub held: bool,
}
gateway_request!(HoldTelephone, "hold_telephone", Done);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayInventoryRequest {}
gateway_request!(GatewayInventoryRequest, "inventory", GatewayInventory);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayInventory {
    pub legs: Vec<TelephoneLegRow>,
    pub trunks: Vec<TrunkState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelephoneLegRow {
    pub leg: LegId,
    pub call: CallId,
    pub tenant: TenantId,
    pub epoch: Option<Epoch>,
    pub trunk: TrunkName,
    pub outbound: bool,
    /// The other side's number; absent when withheld.
    pub number: Option<Destination>,
    pub state: TelephoneState,
    pub since_ms: UnixMs,
    pub sip_call_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TelephoneState {
    Dialling,
    Ringing,
    Early,
    Talking,
    Held,
    Ending,
}
