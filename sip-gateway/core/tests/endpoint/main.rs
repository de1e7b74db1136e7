//! Whole endpoints in virtual time: two of ours wired together with loss and duplication, and one against a scripted
//! carrier whose every byte the test decides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod calls;
mod carrier;
mod dialogs;
mod hostile;
mod refusals;
mod trunks;
mod world;
