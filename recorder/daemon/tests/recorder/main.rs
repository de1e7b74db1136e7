//! The recorder from outside: a fake SFU writes a Tap, a fake call-control asks and keeps the facts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod deaths;
mod hostile;
mod refusals;
mod rig;
mod sfu;
mod sound;
mod stopped;
mod two_channels;
