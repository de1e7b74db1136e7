//! End-to-end stories, one file each. `make e2e` builds the binaries and runs them one after another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser_to_browser;
mod echo;
