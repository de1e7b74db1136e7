//! Batched UDP for media threads: one socket, one poller and preallocated batches per thread. Nothing here allocates
//! or locks per packet. Linux only; the one crate besides the audio `ffi` modules that may use `unsafe`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod address;
#[allow(unsafe_code)]
mod ffi;
mod pace;
mod poll;
mod receive;
mod send;
mod socket;

pub use pace::Pace;
pub use poll::{Poller, Ready, WAKER_TOKEN, Waker};
pub use receive::{Framed, ReceiveBatch, Received};
pub use send::{Datagram, SendBatch, Sent};
pub use socket::{BindError, PeerError, UdpOptions, UdpSocket};
