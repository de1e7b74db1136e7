//! What goes in and out of a shard besides datagrams.
use crate::allocation::RelayKey;
use crate::auth::AuthError;
use crate::ledger::QuotaError;
use crate::path::ClientPath;
use crate::policy::Forbidden;
use crate::request::Refused;
use crate::settings::Settings;
use crate::users::UnknownUser;
use offhook_shard::Moment;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What the shell tells a shard.
pub enum Command {
    /// The wall clock reads this now; say it at start and once in a while.
    SetClock {
        unix_s: u64,
    },
    /// The socket that [`Output::OpenRelay`] asked for is bound.
    RelayOpened {
        relay: RelayKey,
    },
    /// It could not be bound: the port is another's, or there are no descriptors left.
    RelayFailed {
        relay: RelayKey,
    },
    /// The socket of [`Output::CloseRelay`] is closed: its port may be drawn again.
    RelayClosed {
        relay: RelayKey,
    },
    /// A TCP or TLS connection is gone.
    ClientClosed {
        path: ClientPath,
    },
    Reload {
        settings: Arc<Settings>,
    },
    /// Running allocations go on, new ones are refused with 508.
    Drain,
    /// Takes accounts' REST credentials back, each by a Unix time: those that end by then open nothing any more.
    Revoke {
        /// All that are taken back now, as [`crate::Users::revoke`] has them.
        refused: Arc<HashMap<Arc<str>, u64>>,
        /// Whose sessions end, under whichever credentials of these: a name as it logged in, or the account behind it.
        /// A name without a time ends, too.
        ended: Arc<HashMap<Arc<str>, u64>>,
    },
    EndAll {
        cause: EndCause,
    },
}

/// What a shard asks of the shell, or tells it.
#[derive(Debug)]
pub enum Output {
    /// Bind a UDP socket; answer with [`Command::RelayOpened`] or [`Command::RelayFailed`].
    OpenRelay {
        relay: RelayKey,
        local: SocketAddr,
    },
    /// Close it, and answer with [`Command::RelayClosed`]; if it is still to be opened, after that.
    CloseRelay {
        relay: RelayKey,
    },
    Started(Box<Started>),
    Ended(Box<Ended>),
    Denied(Box<Denied>),
    /// The allocation of this stream was ended from our side.
    CloseClient {
        path: ClientPath,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub user: Arc<str>,
    pub path: ClientPath,
    /// As announced to the client.
    pub relayed: [Option<SocketAddr>; 2],
}

/// Why an allocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndCause {
    #[error("its client released it")]
    Released,
    #[error("it was not refreshed")]
    Expired,
    #[error("its connection was closed")]
    ConnectionClosed,
    #[error("its user was revoked")]
    Revoked,
    #[error("the secret of its credentials was removed")]
    SecretRemoved,
    #[error("the server stopped")]
    ServerStopped,
    #[error("a fault in the server")]
    Broken,
}

/// The one line that a session leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub user: Arc<str>,
    pub path: ClientPath,
    pub relayed: [Option<SocketAddr>; 2],
    pub cause: EndCause,
    pub duration: Duration,
    pub up: Carried,
    pub down: Carried,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    pub packets: u64,
    pub bytes: u64,
}

/// A refusal worth a line: about one a second of each cause, with the number of those left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    pub why: Denial,
    pub client: SocketAddr,
    /// As the client wrote it, cut: print it escaped.
    pub user: Option<Box<str>>,
    pub peer: Option<SocketAddr>,
    pub left_out: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error(transparent)]
    Auth(AuthError),
    #[error(transparent)]
    Request(Refused),
    #[error("the peer is {0}")]
    Peer(Forbidden),
}

impl Denial {
    pub(crate) const CAUSES: usize = 32;

    /// A number below [`Self::CAUSES`] for each cause.
    pub(crate) const fn cause(&self) -> usize {
        match self {
            Self::Auth(why) => match why {
                AuthError::NoCredentials => 0,
                AuthError::Incomplete => 1,
                AuthError::StaleNonce => 2,
                AuthError::Algorithm => 3,
                AuthError::Realm => 4,
                AuthError::Username => 5,
                AuthError::Password => 6,
                AuthError::Unknown(UnknownUser::Expired(_)) => 7,
                AuthError::Unknown(UnknownUser::Revoked) => 8,
                AuthError::Unknown(_) => 9,
            },
            Self::Peer(_) | Self::Request(Refused::Forbidden(_)) => 10,
            Self::Request(why) => match why {
                Refused::BadRequest(_) => 11,
                Refused::Malformed(_) => 12,
                Refused::HasAllocation => 13,
                Refused::NoAllocation => 14,
                Refused::Family => 15,
                Refused::WrongUser => 16,
                Refused::Transport(_) => 17,
                Refused::PeerFamily => 18,
                Refused::Quota(QuotaError::User(_)) => 19,
                Refused::Quota(QuotaError::Total(_)) => 20,
                Refused::Quota(QuotaError::Bandwidth(_)) => 21,
                Refused::Token => 22,
                Refused::PortsExhausted => 23,
                Refused::ShardFull => 24,
                Refused::Draining => 25,
                Refused::TooManyPeers => 26,
                Refused::NewPeersTooFast => 27,
                Refused::Forbidden(_) => 10,
            },
        }
    }
}

/// A session, for listings.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    pub user: &'a str,
    /// Who stands behind the name.
    pub account: &'a str,
    pub path: &'a ClientPath,
    pub relayed: [Option<SocketAddr>; 2],
    pub began: Moment,
    pub up: Carried,
    pub down: Carried,
}
