//! End-to-end stories, one file each. `make e2e` builds the binaries and runs them one after another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod announcer_failed;
mod browser_to_browser;
mod browser_to_telephone;
mod control_killed;
mod desk;
mod echo;
mod hostile_input;
mod nothing_left;
mod page;
mod recorder_killed;
mod recording;
mod refusals;
mod relay;
mod split_over_nats;
mod telephone_to_browser;
