//! What a recorder knows without touching a disk, a socket or a clock: a recording's life, the formats of its live
//! files, how they are recovered after a death, and how their packets are laid on one time line of two channels.
//!
//! Assumed: the Tap delivers records in rising order and resumes after a number; media times of one Tap stand under
//! one clock; what the shell says is on disk survives the death of the process (not of the machine: that needs the
//! periodic sync). Out of scope: encoding, upload, retention.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod align;
pub mod consent;
pub mod g711_file;
pub mod input;
pub mod live;
pub mod manifest;
pub mod ogg;
pub mod opus_file;
pub mod path;
pub mod recording;
pub mod recover;
pub mod render;
pub mod timeline;

pub use input::{CloseReason, Packet, TapInput, Voice};
pub use path::RecordingPath;
pub use recording::{Output, Recording, RecordingPlan};
