//! A segment while it is written: packets wait at most a flush (and a hole in their sequence a quarter of a second
//! more), then stand in their run's file and in the sidecar. Nothing is decoded.
mod run;
mod segment;
#[cfg(test)]
mod tests;
mod track;

pub use segment::{Append, FLUSH_PERIOD, Flushed, LiveSegment, SegmentStart};
pub use track::Losses;
