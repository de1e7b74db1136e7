//! What a shard is made of, whatever its protocol: a clock that is told, keys into slabs, deadlines, token buckets and
//! counters. One thread owns a shard; nothing here locks.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod counters;
mod rate;
mod slab;
mod time;
mod timers;

pub use rate::{Bucket, Rate, SourceBuckets, fold, mix};
pub use slab::{Key, Slab};
pub use time::Moment;
pub use timers::Timers;
