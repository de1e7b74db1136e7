//! Requests that a TURN server answers. `offhook.<cluster>.v1.turn.<node>.<request>`.
use crate::envelope::Request;
use crate::ids::DaemonKind;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

macro_rules! turn_request {
    ($request:ty, $name:literal, $reply:ty) => {
        impl Request for $request {
            const DAEMON: DaemonKind = DaemonKind::Turn;
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

/// A reply carries at most this many sessions.
pub const TURN_SESSIONS_MAX: usize = 200;

/// What runs now: one account's, or everybody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTurnSessions {
    /// The account behind the user name of short-lived credentials, or a configured user.
    #[serde(default)]
    pub user: Option<String>,
}
turn_request!(ListTurnSessions, "list_sessions", TurnSessions);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnSessions {
    /// The newest [`TURN_SESSIONS_MAX`] at most.
    pub sessions: Vec<TurnSession>,
    pub total: u32,
    /// A relaying thread did not answer in time: there may be more, in the list and in the total.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// One allocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnSession {
    /// As it logged in: `expiry:account` under short-lived credentials.
    pub user: String,
    pub client: SocketAddr,
    pub transport: TurnTransport,
    /// As announced to the client; two under ADDITIONAL-ADDRESS-FAMILY.
    pub relayed: Vec<SocketAddr>,
    pub began_ms: UnixMs,
    pub up: TurnCarried,
    pub down: TurnCarried,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnTransport {
    Udp,
    /// TCP, or TLS over it.
    Stream,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnCarried {
    pub packets: u64,
    pub bytes: u64,
}

/// Ends every session of an account, and refuses the short-lived credentials that it still holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeTurnUser {
    pub user: String,
    /// Credentials that end by then are refused; later ones were given out after the revocation.
    pub credentials_until_ms: UnixMs,
}
turn_request!(RevokeTurnUser, "revoke_user", TurnRevoked);

/// A [`RevokeTurnUsers`] names at most this many.
pub const TURN_REVOKED_MAX: usize = 1_000;

/// Takes credentials of many accounts back at once: sessions that logged in with them end, and they open no new ones. May
/// be told again at any time, to one who may have missed it: what began under later credentials is not meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeTurnUsers {
    pub users: Vec<RevokeTurnUser>,
}
turn_request!(RevokeTurnUsers, "revoke_users", TurnRevoked);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRevoked {
    /// How many ran.
    pub ended: u32,
}
