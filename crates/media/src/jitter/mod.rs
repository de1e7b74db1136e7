//! The jitter buffer: packets in as they come, payloads out one after another at the listener's pace.
//!
//! The mechanics (order, lateness, gaps, re-anchoring) live here; how deep to buffer is a [`Depth`], how a gap sounds is
//! the caller's business ([`Pull::Missing`]). So an adaptive depth and better concealment can come without touching
//! either the other or the callers.
//!
//! Assumptions: one buffer carries one stream as its listener sees it (SSRC changes are a new stretch of it);
//! timestamps count in one clock until [`JitterBuffer::reset`]; the caller pulls at a steady pace of its own clock.

mod buffer;
mod depth;
#[cfg(test)]
mod tests;

pub use buffer::JitterBuffer;
pub use depth::{Depth, FixedDepth};

/// An RTP packet as it came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload_type: u8,
    /// How long the payload lasts, in ticks of the timestamp ([`crate::Codec::payload_ticks`]).
    pub ticks: u32,
    pub payload: &'a [u8],
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Stored,
    /// Its moment has passed.
    Late,
    Duplicate,
    /// It fits nowhere (empty, oversized, no length); never stored.
    Refused,
    /// It lies far from the stream; the next packet decides whether the stream jumped or this one strayed.
    Held,
    /// The stream starts anew here: SSRC change, jump of the timestamp, or after a pause.
    Restarted,
}

/// The next piece for the listener.
#[derive(Debug, PartialEq, Eq)]
pub enum Pull<'a> {
    Frame {
        payload: &'a [u8],
        payload_type: u8,
        sequence: u16,
        timestamp: u32,
        ticks: u32,
        restarted: bool,
    },
    /// Nothing is there for the next `ticks`: conceal.
    Missing {
        ticks: u32,
    },
    /// Nothing is expected: silence. Ends by itself when packets come.
    Empty,
}

/// Counters since the buffer was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JitterCounters {
    pub stored: u64,
    pub played: u64,
    pub late: u64,
    pub duplicate: u64,
    pub refused: u64,
    pub overflow: u64,
    pub concealed: u64,
    pub restarts: u64,
    /// Frames skipped to bring the delay back to its target.
    pub skipped: u64,
}
