//! The daemon under attack and under load, seen from outside: its memory, its descriptors, its log, and what it relays
//! meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod drain;
mod flood;
mod ports;
mod rig;
mod streams;
