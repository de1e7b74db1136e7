//! offhook-sip-core
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod cause;
pub mod media;
pub mod random;
mod timers;
pub mod trunk;
