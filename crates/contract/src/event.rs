//! Events: told once, to whoever listens. `offhook.<cluster>.v1.event.<tenant>.<kind>`; node-wide ones use the
//! reserved tenant `-`. What must not be lost is a [`crate::Fact`] instead.
use crate::fact::FactRecord;
use crate::ids::{LegId, NodeId, RoomId, TrunkName};
use crate::time::ClockPair;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Event {
    // from SFUs
    /// DTLS is up: media can flow.
    PeerConnected(PeerConnected),
    /// Who stands in a listener's slot now; `None` when it fell empty.
    SlotChanged(SlotChanged),
    LegStats(LegStats),
    /// A node's media clock on the wall clock.
    Clock(ClockPair),
    // from gateways
    LegRinging(LegProgress),
    LegEarlyMedia(LegProgress),
    /// A telephone's keypad.
    DigitReceived(DigitReceived),
    TrunkChanged(TrunkChanged),
    // from call-control
    /// Published after the fact was stored.
    FactStored(Box<FactRecord>),
}

impl Event {
    /// The last word of the subject.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::PeerConnected(_) => "peer_connected",
            Self::SlotChanged(_) => "slot_changed",
            Self::LegStats(_) => "leg_stats",
            Self::Clock(_) => "clock",
            Self::LegRinging(_) => "leg_ringing",
            Self::LegEarlyMedia(_) => "leg_early_media",
            Self::DigitReceived(_) => "digit_received",
            Self::TrunkChanged(_) => "trunk_changed",
            Self::FactStored(_) => "fact_stored",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerConnected {
    pub room: RoomId,
    pub leg: LegId,
    /// The negotiated SRTP profile, as IANA names it.
    pub srtp_profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotChanged {
    pub room: RoomId,
    pub listener: LegId,
    pub slot: u8,
    pub speaker: Option<LegId>,
}

/// Every 5 s for each connected leg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegStats {
    pub leg: LegId,
    pub received_packets: u64,
    pub lost_packets: u64,
    pub jitter_ms: f32,
    pub round_trip_ms: Option<f32>,
    pub sent_packets: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegProgress {
    pub leg: LegId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigitReceived {
    pub leg: LegId,
    pub digit: char,
    pub duration_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkChanged {
    pub node: NodeId,
    pub trunk: TrunkName,
    pub up: bool,
    pub reason: String,
}
