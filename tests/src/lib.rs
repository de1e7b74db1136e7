//! The harness of the end-to-end stories: starts the built binaries, browsers, SIP peers and servers, and listens.
//! A peer that is missing fails the story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod api;
pub mod baresip;
pub mod browser;
pub mod coturn;
pub mod https;
pub mod namespace;
pub mod nats;
pub mod pebble;
pub mod phone;
pub mod ports;
pub mod process;
pub mod recorded;
pub mod sipp;
pub mod sound;
pub mod stack;
pub mod trunk;
pub mod wait;
pub mod witness;

pub use baresip::Baresip;
pub use browser::Browser;
pub use coturn::Coturn;
pub use namespace::Namespace;
pub use nats::NatsServer;
pub use pebble::Pebble;
pub use phone::Softphone;
pub use sipp::Sipp;
pub use stack::Stack;
pub use trunk::Trunk;
pub use witness::story;
