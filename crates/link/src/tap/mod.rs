//! A Tap: the reliable, ordered copy of a room's tracks for the recorder (DESIGN.md §4, Tap transport).
//!
//! Writer side: [`TapHub::open`] gives a [`TapWriter`] for the media thread and the offer for the bus. The writer
//! puts numbered records into a bounded lock-free ring; a task of the hub moves them every 20 ms into a log of the
//! last 10 s and serves them to one reader. Reader side: [`TapDialer::connect`] with `resume_after` the last record
//! it has on disk. What the ring or the log could not keep stands in the stream as a gap record.

mod dial;
mod hub;
mod log;
mod record;
mod ring;
mod serve;
mod session;
mod wire;
mod writer;

pub use dial::{TapDialError, TapDialer, TapReadError, TapReader};
pub use hub::{InProcessTaps, OpenedTap, TapForm, TapHost, TapHostError, TapHub, TapLimits, TapOpenError, TapSubject};
pub use record::{
    ClosedReason, Hello, MAX_PAYLOAD_BYTES, MAX_RECORD_BYTES, Packet, Party, RecordError, TAP_VERSION, TapFrame,
    TapRecord, TrackId,
};
pub use session::ReaderState;
pub use wire::Refusal;
pub use writer::TapWriter;
