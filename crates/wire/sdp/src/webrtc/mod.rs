//! A browser's offer and our ICE-lite answer.
//!
//! ```
//! # use offhook_wire_sdp::webrtc::*;
//! # let offer_text = include_str!("../../seeds/webrtc/chromium-slots.sdp");
//! let offer = Offer::parse(offer_text)?;
//! let lines = offer.media.iter().zip(4711..).map(|(line, ssrc)| match line.kind {
//!     MediaKind::Audio if line.direction.sends() => LinePlan::Receive { payloads: line.choose(&AudioCodec::ALL) },
//!     MediaKind::Audio => LinePlan::Send {
//!         payloads: line.choose(&AudioCodec::ALL),
//!         ssrc,
//!         cname: "room".into(),
//!         stream: format!("slot{}", line.mid),
//!         track: format!("track{}", line.mid),
//!     },
//!     _ => LinePlan::Refuse,
//! });
//! let plan = AnswerPlan {
//!     session_id: 1,
//!     session_version: 1,
//!     ice: IceCredentials::new("ufrag", "0123456789abcdefghijkl")?,
//!     fingerprint: Fingerprint([7; 32]),
//!     candidates: vec!["192.0.2.1:40000".parse().unwrap()],
//!     lines: lines.collect(),
//! };
//! let answer = write_answer(&offer, &plan)?;
//! assert!(answer.contains("a=ice-lite"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod offer;
mod parts;

pub use answer::{AnswerError, AnswerPlan, LinePlan, write_answer};
pub use offer::{MAX_SSRCS, MediaKind, Offer, OfferMedia, Setup, Ssrc};
pub use parts::{AudioCodec, Extmap, Fingerprint, IceCredentials, Payload, URI_AUDIO_LEVEL, URI_MID};

/// Parsers that [`crate::telephony`] uses too.
pub(crate) mod shared {
    pub(crate) use super::offer::parse_direction;
    pub(crate) use super::parts::{Payload, payload_number};
}
