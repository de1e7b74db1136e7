//! Requests that any call-control node answers (queue group `any`). `offhook.<cluster>.v1.control.any.<request>`.
//! [`crate::fact::StoreFact`] is the other one.
use crate::dial::PhoneNumber;
use crate::envelope::Request;
use crate::hangup::HangupCause;
use crate::ids::{CallId, DaemonKind, LegId, NodeId, TenantId, TrunkName};
use serde::{Deserialize, Serialize};

/// A telephone calls one of our numbers. The gateway answers 100 and waits for this decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteIncoming {
    pub gateway: NodeId,
    pub trunk: TrunkName,
    pub tenant: TenantId,
    /// The number dialled, as the trunk sent it after normalisation.
    pub to: PhoneNumber,
    /// Absent when withheld.
    pub from: Option<PhoneNumber>,
    pub from_name: Option<String>,
    pub sip_call_id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncomingRoute {
    /// The gateway keeps the call under these ids; `RingTelephone`, `AnswerTelephone` or `HangUpTelephone` follow.
    Accept {
        call: CallId,
        leg: LegId,
    },
    Reject {
        cause: HangupCause,
    },
}

impl Request for RouteIncoming {
    const DAEMON: DaemonKind = DaemonKind::Control;
    const NAME: &'static str = "route_incoming";
    type Reply = IncomingRoute;
}
