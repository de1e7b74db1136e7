//! Why a leg or a call ended, in one vocabulary for bus, database, API and page.
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HangupCause {
    /// Ended by a party after the answer (or the echo test was hung up).
    Normal,
    Busy,
    NoAnswer,
    Rejected,
    /// The caller gave up before the answer.
    Cancelled,
    /// No such extension, number or destination.
    NotFound,
    /// Dialling rules forbid the number.
    NotAllowed,
    /// An emergency number was dialled and no trunk is marked for it.
    NoEmergencyTrunk,
    /// A limit (calls, rate, minutes, length) was reached.
    LimitReached,
    /// The carrier did not answer our requests.
    CarrierUnavailable,
    /// The carrier refused our credentials.
    CarrierAuthFailed,
    /// The carrier is overloaded or out of circuits.
    Congestion,
    /// The carrier asked us to dial elsewhere; redirects are not followed.
    Redirected,
    /// No codec in common.
    MediaIncompatible,
    /// The callee's user has no device connected.
    Offline,
    /// Media stopped and did not come back.
    MediaLost,
    /// The page was gone for longer than its grace time.
    ClientGone,
    /// The node carrying the leg died.
    NodeLost,
    /// The daemon is shutting down.
    Drained,
    /// No call owns the leg any more.
    Orphaned,
    InternalError,
}

impl HangupCause {
    pub const ALL: [Self; 21] = [
        Self::Normal,
        Self::Busy,
        Self::NoAnswer,
        Self::Rejected,
        Self::Cancelled,
        Self::NotFound,
        Self::NotAllowed,
        Self::NoEmergencyTrunk,
        Self::LimitReached,
        Self::CarrierUnavailable,
        Self::CarrierAuthFailed,
        Self::Congestion,
        Self::Redirected,
        Self::MediaIncompatible,
        Self::Offline,
        Self::MediaLost,
        Self::ClientGone,
        Self::NodeLost,
        Self::Drained,
        Self::Orphaned,
        Self::InternalError,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::NoEmergencyTrunk => "no_emergency_trunk",
            Self::LimitReached => "limit_reached",
            Self::CarrierUnavailable => "carrier_unavailable",
            Self::CarrierAuthFailed => "carrier_auth_failed",
            Self::Congestion => "congestion",
            Self::Redirected => "redirected",
            Self::MediaIncompatible => "media_incompatible",
            Self::Offline => "offline",
            Self::MediaLost => "media_lost",
            Self::ClientGone => "client_gone",
            Self::NodeLost => "node_lost",
            Self::Drained => "drained",
            Self::Orphaned => "orphaned",
            Self::InternalError => "internal_error",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == text)
    }

    /// The ITU-T Q.850 cause value that a telephone network understands.
    pub const fn q850(self) -> u8 {
        match self {
            Self::Normal | Self::Cancelled | Self::Drained | Self::ClientGone | Self::Orphaned => 16,
            Self::Busy => 17,
            Self::NoAnswer => 19,
            Self::Offline => 20,
            Self::Rejected => 21,
            Self::NotFound => 1,
            Self::NotAllowed | Self::NoEmergencyTrunk => 55,
            Self::LimitReached | Self::Congestion => 42,
            Self::CarrierUnavailable | Self::NodeLost | Self::InternalError => 41,
            Self::CarrierAuthFailed => 57,
            Self::Redirected => 23,
            Self::MediaIncompatible => 88,
            Self::MediaLost => 27,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_reads_back_from_its_word_and_from_json() {
        for cause in HangupCause::ALL {
            assert_eq!(HangupCause::parse(cause.as_str()), Some(cause));
            assert_eq!(serde_json::to_string(&cause).unwrap(), format!("\"{}\"", cause.as_str()));
        }
    }
}
