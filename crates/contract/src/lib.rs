//! What the daemons say to each other: ids, time, bus requests, replies, events and facts, and the
//! dialling rules that call-control and the gateway check with the same code. Pure: no IO, no clock.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod audio;
pub mod control;
pub mod dial;
pub mod envelope;
pub mod event;
pub mod fact;
pub mod gateway;
pub mod hangup;
pub mod ids;
pub mod link;
pub mod node;
pub mod recorder;
pub mod secret;
pub mod sfu;
pub mod time;
pub mod turn;

pub use audio::CodecName;
pub use dial::{DialRefusal, DialRules, PhoneNumber};
pub use envelope::{Context, Envelope, ErrorCode, ReplyEnvelope, Request, RequestError};
pub use event::Event;
pub use fact::{Fact, FactRecord};
pub use hangup::HangupCause;
pub use ids::{BootId, CallId, DaemonKind, LegId, MessageId, NodeId, RecordingId, RoomId, TenantId, TrunkName};
pub use link::{LinkAnswer, LinkKey, LinkOffer, LinkProfile};
pub use node::{NodeRow, NodeState};
pub use secret::Secret;
pub use time::{Epoch, MediaTime, UnixMs};
