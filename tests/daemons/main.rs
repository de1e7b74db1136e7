//! Daemons as they are beside their peers, without a browser: two of ours on one bus, ours and an authority.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acme;
mod telephones_in_a_room;
#[path = "../../sip-gateway/daemon/tests/world/mod.rs"]
mod world;
