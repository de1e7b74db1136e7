//! Codec names and the payload types that every Link and every browser answer of ours uses.
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    Opus,
    Pcmu,
    Pcma,
}

impl CodecName {
    /// RTP clock (RFC 7587 for Opus, RFC 3551 for G.711).
    pub const fn clock_rate_hz(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Pcmu | Self::Pcma => 8_000,
        }
    }
    /// The payload type on Links (static for G.711, RFC 3551 §6; 111 for Opus as browsers offer it).
    pub const fn link_payload_type(self) -> u8 {
        match self {
            Self::Opus => 111,
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }
    pub const fn from_link_payload_type(pt: u8) -> Option<Self> {
        match pt {
            111 => Some(Self::Opus),
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }
}

/// The id of the RFC 6464 audio level extension on every Link packet.
pub const LINK_LEVEL_EXTENSION_ID: u8 = 1;

/// A periodic recorder beep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BeepPlan {
    pub frequency_hz: u16,
    pub duration_ms: u16,
    pub level_dbfs: f32,
    pub period_ms: u32,
}

impl Default for BeepPlan {
    fn default() -> Self {
        Self { frequency_hz: 1400, duration_ms: 200, level_dbfs: -20.0, period_ms: 15_000 }
    }
}

/// A spoken or musical prompt by its name and language ("recorded", "en").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PromptName {
    pub name: String,
    pub language: String,
}
