//! The daemon under attack and under load, seen from outside: its memory, its descriptors, its log, and what it relays
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod drain;
mod flood;
mod long;
#[path = "../rig/net.rs"]
mod net;
mod network;
mod ports;
#[path = "../rig/mod.rs"]
mod rig;
mod streams;
#[path = "../rig/tcp.rs"]
mod tcp;
