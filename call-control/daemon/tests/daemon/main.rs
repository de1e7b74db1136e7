//! The whole daemon over a loopback listener and the in-process bus, with scripted nodes around it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod api;
mod calls;
mod dev;
mod https;
mod nodes;
mod page;
mod rebuild;
mod recordings;
mod stage;
mod turn;
mod ws;
