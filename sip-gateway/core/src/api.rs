//! What goes into a `SipEndpoint` and what comes out of it.
//!
//! `SipEndpoint::new(EndpointConfig) -> Result<SipEndpoint, CommandError>`, then, always followed by `poll_output` until
//! it is empty and by arming one timer for `poll_timeout`:
//! - `handle_input(now, from, to_local, &bytes)` for each datagram,
//! - `handle_command(now, Command) -> Result<Option<LegHandle>, CommandError>` (`Some` for `Dial`),
//! - `handle_timeout(now)` when the time of `poll_timeout() -> Option<Now>` has come.

use crate::random::Random;
use crate::trunk::TrunkConfig;
use offhook_contract::{HangupCause, TrunkName};
use offhook_wire_sdp::telephony::{Agreed, AudioSession};
use offhook_wire_sip::ParseError;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Time since any fixed moment, the same for all calls; it never goes back.
pub type Now = Duration;

/// One of our sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketConfig {
    /// As bound; also the `from_local` of [`Output::Transmit`] and the `to_local` of `handle_input`.
    pub local: SocketAddr,
    /// As others reach it: stands in Via and Contact. The same as `local`, unless this host is behind 1:1 NAT.
    pub advertised: SocketAddr,
}

/// An endpoint's settings.
pub struct EndpointConfig {
    pub sockets: Vec<SocketConfig>,
    pub trunks: Vec<TrunkConfig>,
    pub random: Box<dyn Random>,
    /// Legs at one time, over all trunks; further calls get 503.
    pub max_legs: usize,
    /// Transactions at one time; further requests get 503 without being remembered.
    pub max_transactions: usize,
    /// An incoming call that nobody answers ends after this time (480). Below 180 s, since 180 is not repeated.
    pub max_ringing: Duration,
    /// A carrier that sends nothing at all to an INVITE for this time is given up; at most 32 s (timer B).
    pub silence_limit: Duration,
    /// User-Agent and Server headers; none by default.
    pub product: Option<String>,
}

impl EndpointConfig {
    /// With the default limits: 1,000 legs, 20,000 transactions, 170 s of ringing, 32 s of silence, no product name.
    pub fn new(sockets: Vec<SocketConfig>, trunks: Vec<TrunkConfig>, random: Box<dyn Random>) -> Self {
        Self {
            sockets,
            trunks,
            random,
            max_legs: 1_000,
            max_transactions: 20_000,
            max_ringing: Duration::from_secs(170),
            silence_limit: Duration::from_secs(32),
            product: None,
        }
    }
}

/// A SIP leg inside one endpoint; never used again after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegHandle(pub(crate) u64);

impl fmt::Display for LegHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "leg{}", self.0)
    }
}

/// An order.
#[derive(Debug, Clone)]
pub enum Command {
    /// Calls a number; the reply names the new leg. Then come [`LegEvent::Ringing`], [`LegEvent::EarlyMedia`],
    /// [`LegEvent::Answered`] or [`LegEvent::Ended`].
    Dial(Dial),
    /// Tells the caller that its callee rings (180).
    Ring { leg: LegHandle },
    /// Lets the caller hear something before the answer (183 with SDP). [`LegEvent::EarlyMedia`] follows at once.
    Early { leg: LegHandle, media: AudioSession },
    /// Answers an incoming call (200). [`LegEvent::Answered`] follows at once, or with the ACK if the caller made no offer.
    Answer { leg: LegHandle, media: AudioSession, max_duration: Option<Duration> },
    /// Refuses an incoming call with the response for `cause`.
    Reject { leg: LegHandle, cause: HangupCause },
    /// Ends a leg in whatever state: CANCEL, a refusal or BYE. [`LegEvent::Ended`] follows at once.
    HangUp { leg: LegHandle, cause: HangupCause },
    /// Replaces the trunks. Calls of removed ones go on; registrations follow the new settings.
    SetTrunks(Vec<TrunkConfig>),
    /// Takes back all registrations before the end of the process. New calls are refused (503) from now on.
    Drain,
}

/// A call to be made.
#[derive(Debug, Clone)]
pub struct Dial {
    pub trunk: TrunkName,
    /// Digits as the trunk wants them (`+15551230000`).
    pub number: String,
    /// The caller's number; the trunk's own when absent.
    pub caller: Option<String>,
    /// Where we receive: the address as others reach it, the port, and the codecs (see [`AudioSession::new`]).
    pub media: AudioSession,
    /// Given up (CANCEL) when not answered after this time.
    pub ring_timeout: Duration,
    /// Ended (BYE) this long after the answer.
    pub max_duration: Option<Duration>,
    /// A call for help: no limit refuses it, as long as fewer than [`EMERGENCY_LEGS`] are above the limit.
    pub emergency: bool,
}

/// Legs above [`EndpointConfig::max_legs`] for calls for help.
pub const EMERGENCY_LEGS: usize = 8;

/// Why an order was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("no trunk has the name {0}")]
    UnknownTrunk(TrunkName),
    #[error("no such leg, or it has ended")]
    UnknownLeg,
    #[error("{0:?} cannot be dialled")]
    Number(String),
    #[error("the number of legs has reached its limit of {0}")]
    TooManyLegs(usize),
    #[error("the endpoint is shutting down")]
    Draining,
    #[error("the leg is not waiting for an answer")]
    NotRinging,
    #[error("the caller made no offer, so it cannot hear anything before the answer")]
    NoOffer,
    #[error("the descriptions do not meet: {0}; the caller got 488")]
    Media(#[from] offhook_wire_sdp::telephony::NegotiateError),
    #[error("a trunk's settings: {0}")]
    Trunk(#[from] crate::trunk::TrunkError),
    #[error("trunk {0} names a local socket that does not exist")]
    UnknownSocket(TrunkName),
    #[error("the message could not be written: {0}")]
    Build(#[from] offhook_wire_sip::BuildError),
}

/// What the shell has to do or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram from the socket bound to `from_local`.
    Transmit {
        to: SocketAddr,
        from_local: SocketAddr,
        bytes: Vec<u8>,
    },
    Leg {
        leg: LegHandle,
        event: LegEvent,
    },
    TrunkUp {
        trunk: TrunkName,
    },
    TrunkDown {
        trunk: TrunkName,
        reason: TrunkDownReason,
    },
    /// Something was turned away; told at most ten times a second, counted always ([`Stats`]).
    Refused {
        source: SocketAddr,
        reason: Refusal,
    },
}

/// What happened to a leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LegEvent {
    /// A new leg: a trunk calls one of our numbers.
    Incoming(Incoming),
    /// The callee's telephone rings.
    Ringing,
    /// Media may flow before the answer; told again when it changes.
    EarlyMedia(Agreed),
    /// From here the call counts. The description may differ from that of [`Self::EarlyMedia`].
    Answered(Agreed),
    /// The other side put us on hold or took us off it.
    RemoteHeld(Agreed),
    RemoteResumed(Agreed),
    /// Another address, codec or payload number, without a change of hold.
    MediaChanged(Agreed),
    /// A keypad digit by SIP INFO.
    Digit {
        digit: char,
        duration_ms: u16,
    },
    /// The last event of a leg.
    Ended(Ended),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub trunk: TrunkName,
    /// The number called, as the trunk wrote it.
    pub number: String,
    /// The caller's number, unless withheld.
    pub caller: Option<String>,
    pub caller_name: Option<String>,
    pub sip_call_id: String,
    /// Whether the caller made an offer; without one there is no early media.
    pub has_offer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub cause: HangupCause,
    pub by: Side,
    /// The final response that refused the call, if one did.
    pub sip_code: Option<u16>,
    /// The other side's own word, from a Reason header.
    pub q850: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Us,
    Them,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrunkDownReason {
    #[error("no answer to REGISTER")]
    RegistrarSilent,
    #[error("the registrar refused the user name or password")]
    WrongPassword,
    #[error("the registrar answered {0}")]
    RegistrarRefused(u16),
    #[error("no answer to OPTIONS")]
    Silent,
    #[error("OPTIONS was answered with {0}")]
    Refusing(u16),
    #[error("shutting down")]
    Drained,
}

/// Why a datagram was turned away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no trunk has this source address; add it to the trunk's sources if it is your carrier's")]
    UnknownSource,
    #[error("malformed: {0}")]
    Malformed(ParseError),
    #[error("a request inside a call of another trunk")]
    ForeignDialog,
    #[error("no call has these tags (481)")]
    NoDialog,
    #[error("a response to nothing that we sent")]
    StrayResponse,
    #[error("method {0} is not served (405 or 501)")]
    Method(String),
    #[error("answered with {0}")]
    Answered(u16),
    #[error("too many legs or transactions (503)")]
    Overload,
}

/// Plain counters; read them when you like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub datagrams_in: u64,
    pub datagrams_out: u64,
    pub unknown_source: u64,
    pub malformed: u64,
    pub foreign_dialog: u64,
    pub no_dialog: u64,
    pub stray_responses: u64,
    pub refused_requests: u64,
    pub overload: u64,
    pub retransmissions_in: u64,
    pub retransmissions_out: u64,
    pub challenges_answered: u64,
    pub challenges_not_answered: u64,
}
