//! Transactions over UDP (RFC 3261 §17, RFC 6026): four small machines that only say what to do, and the tables that do it.
//!
//! Timer C belongs to proxies and does not exist here; a call's own limits take its place.

mod client_invite;
mod client_non_invite;
mod clients;
mod server_invite;
mod server_non_invite;
mod servers;
#[cfg(test)]
mod tests;

pub(crate) use clients::{ClientRequest, Clients, Owner};
pub(crate) use server_invite::ServerInvite;
pub(crate) use servers::{Arrival, Servers};

use client_invite::ClientInvite;
use client_non_invite::ClientNonInvite;
use server_non_invite::ServerNonInvite;
use std::time::Duration;

/// Round-trip estimate (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest pause between retransmissions of non-INVITE requests and of responses to INVITE.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message can stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// 64 · T1: how long a request waits for an answer.
pub(crate) const T1_64: Duration = Duration::from_secs(32);
/// RFC 3261 §17.1.1.2: at least 32 s over UDP.
const TIMER_D: Duration = Duration::from_secs(32);

/// The timers of RFC 3261 table 4 and RFC 6026.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// INVITE is sent again.
    A,
    /// INVITE stays unanswered.
    B,
    /// Repeated refusals are acknowledged until then.
    D,
    /// A request other than INVITE is sent again.
    E,
    /// It stays unanswered.
    F,
    /// A refusal of INVITE is sent again.
    G,
    /// Its ACK does not come.
    H,
    /// Repeated ACKs are absorbed until then.
    I,
    /// Repeated requests are answered with the same response until then.
    J,
    /// Repeated responses are absorbed until then.
    K,
    /// Repeated INVITEs are absorbed until then, after a 2xx was sent (RFC 6026 §7.1).
    L,
    /// Further 2xx, of forks, are taken until then (RFC 6026 §7.2).
    M,
}

/// One transaction in one endpoint; client and server transactions count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TxId(pub u64);

/// What a machine wants done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Send the request (client) or the last response (server) again.
    pub send: bool,
    /// Send the ACK of a refusal.
    pub ack: bool,
    /// Hand the message to the transaction's owner.
    pub deliver: bool,
    /// Tell the owner that nothing came.
    pub timed_out: bool,
    /// The transaction is over.
    pub done: bool,
    pub arm: Vec<(Timer, Duration)>,
    pub disarm: Vec<Timer>,
}

impl Effects {
    fn arm(&mut self, timer: Timer, after: Duration) {
        self.arm.push((timer, after));
    }

    fn disarm(&mut self, timers: &[Timer]) {
        self.disarm.extend_from_slice(timers);
    }
}
