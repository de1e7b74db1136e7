//! Two daemons as they are, on one in-process bus: what one says on the Link, the other must understand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod telephones_in_a_room;
#[path = "../../sip-gateway/daemon/tests/world/mod.rs"]
mod world;
