//! What tests share: a virtual clock and network (loss, delay, reordering, duplication, NAT), a relay that does the same
//! to real datagrams, seeded randomness, an allocator that counts, a TURN client, and the two lengths of a proof.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod alloc;
pub mod impair;
pub mod length;
pub mod nat;
pub mod network;
pub mod relay;
pub mod rng;
pub mod turn_client;

pub use alloc::CountingAllocator;
pub use impair::{Impairment, Impairments};
pub use length::length;
pub use nat::{Nat, NatKind};
pub use network::{Delivery, VirtualNetwork};
pub use relay::Relay;
pub use rng::Rng;
pub use turn_client::TurnClient;
