//! Requests: who sent them, do we understand them, and which handler answers.
use crate::allocation::AllocationKey;
use crate::auth::{AuthError, Login, Seal};
use crate::event::Denial;
use crate::ledger::QuotaError;
use crate::path::ClientPath;
use crate::policy::Forbidden;
use crate::relaying::Forward;
use crate::reply::{Asked, budget};
use crate::shard::Shard;
use crate::users::Users;
use offhook_shard::Moment;
use offhook_wire_stun::{AttributeError, AttributeType, Class, Message, Method};
use std::net::SocketAddr;
use std::sync::Arc;

/// Why a request of somebody known is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    BadRequest(&'static str),
    #[error(transparent)]
    Malformed(#[from] AttributeError),
    #[error("the peer is {0}")]
    Forbidden(#[from] Forbidden),
    #[error("the 5-tuple has an allocation already")]
    HasAllocation,
    #[error("the 5-tuple has no allocation")]
    NoAllocation,
    #[error("no relay address of the family asked for")]
    Family,
    #[error("the allocation belongs to another user")]
    WrongUser,
    #[error("transport protocol {0} is not relayed")]
    Transport(u8),
    #[error("the peer is of a family that the allocation has no relay for")]
    PeerFamily,
    #[error(transparent)]
    Quota(#[from] QuotaError),
    #[error("the reservation token is unknown, of another user, or out of date")]
    Token,
    #[error("no free relay port")]
    PortsExhausted,
    #[error("this thread has all the allocations it may have")]
    ShardFull,
    #[error("the server is draining")]
    Draining,
    #[error("the allocation has all the permissions or channels it may have")]
    TooManyPeers,
    #[error("the allocation names new peers too fast")]
    NewPeersTooFast,
}

impl Refused {
    /// RFC 8656 §19, and §7.2, §8.2, §10.2, §12.2 for where each belongs.
    #[must_use]
    pub const fn stun_code(self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::Malformed(_) => 400,
            Self::Forbidden(_) => 403,
            Self::HasAllocation | Self::NoAllocation => 437,
            Self::Family => 440,
            Self::WrongUser => 441,
            Self::Transport(_) => 442,
            Self::PeerFamily => 443,
            Self::Quota(_) => 486,
            Self::Token
            | Self::PortsExhausted
            | Self::ShardFull
            | Self::Draining
            | Self::TooManyPeers
            | Self::NewPeersTooFast => 508,
        }
    }
}

/// Longer than any request with the longest name, realm and nonce (RFC 8489 §14.3, §14.9, §14.10).
const REQUEST_MAX: usize = 4_096;

/// Comprehension-required attributes that we understand (RFC 8489 §14, RFC 8656 §18).
const KNOWN: &[AttributeType] = &[
    AttributeType::MAPPED_ADDRESS,
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::ERROR_CODE,
    AttributeType::UNKNOWN_ATTRIBUTES,
    AttributeType::REALM,
    AttributeType::NONCE,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::XOR_MAPPED_ADDRESS,
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::XOR_RELAYED_ADDRESS,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::DONT_FRAGMENT,
    AttributeType::RESERVATION_TOKEN,
    // An agent that asks with the attributes of a connectivity check shall have its answer.
    AttributeType::PRIORITY,
    AttributeType::USE_CANDIDATE,
];

impl Shard {
    pub(crate) fn handle_stun(&mut self, now: Moment, path: &ClientPath, datagram: &[u8]) -> Option<Forward> {
        let Ok(message) = Message::parse(datagram) else {
            self.counters.dropped_unknown += 1;
            return None;
        };
        if message.has_fingerprint() && message.verify_fingerprint().is_err() {
            self.counters.dropped_fingerprint += 1;
            return None;
        }
        match (message.class(), message.method()) {
            // Before anything is computed over it: nobody needs so many words, and each secret would cost a hash of all.
            (Class::Request, _) if datagram.len() > REQUEST_MAX => self.counters.dropped_oversized += 1,
            (Class::Request, Method::BINDING) => self.bind(now, path, &message),
            (Class::Request, _) if self.settings.turn => self.handle_request(now, path, &message),
            (Class::Indication, Method::SEND) if self.settings.turn => return self.send(now, path, &message),
            // A keep-alive (RFC 8489 §6.3.2), or an answer that we never asked for.
            (Class::Indication, Method::BINDING) => {}
            _ => self.counters.dropped_unknown += 1,
        }
        None
    }

    /// STUN Binding (RFC 8489 §6.3.1): no credentials, no state.
    fn bind(&mut self, now: Moment, path: &ClientPath, request: &Message<'_>) {
        self.counters.binding_requests += 1;
        if !self.settings.stun || !self.may_answer_unknown(now, path) {
            return;
        }
        let asked = Asked::of(path, request);
        if request.unknown_required(KNOWN).next().is_some() {
            self.counters.binding_errors += 1;
            return self.refuse_unknown_attributes(&asked, &Seal::Open, request);
        }
        self.counters.binding_responses += 1;
        self.succeed(&asked, &Seal::Open, |answer| {
            answer.xor_mapped_address(path.client);
        });
    }

    fn refuse_unknown_attributes(&mut self, asked: &Asked, seal: &Seal, request: &Message<'_>) {
        // Each takes four bytes of the request and two of the answer, whose fixed part has 40 with FINGERPRINT.
        let room = if *seal == Seal::Open { budget(&asked.path, asked.length).saturating_sub(42) / 2 } else { 16 };
        let listed = request.unknown_required(KNOWN).take(room.max(1));
        let mut first = [AttributeType(0); 16];
        let count = first.iter_mut().zip(listed).map(|(slot, unknown)| *slot = unknown).count();
        self.fail(asked, seal, 420, |answer| {
            answer.unknown_attributes(first.into_iter().take(count));
        });
    }

    fn handle_request(&mut self, now: Moment, path: &ClientPath, request: &Message<'_>) {
        const OURS: [Method; 4] = [Method::ALLOCATE, Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND];
        if !OURS.contains(&request.method()) {
            self.counters.dropped_unknown += 1;
            return;
        }
        let owner = self.by_path.get(path).copied();
        match self.authenticate(now, path, request, owner, None) {
            Err(why) if self.puts_aside(now, path, request, why) => {}
            login => self.answer(now, path, request, login),
        }
    }

    /// A request that waited, for `found` to be looked up.
    pub(crate) fn judge(&mut self, now: Moment, path: &ClientPath, request: &Message<'_>, found: Option<&Users>) {
        let owner = self.by_path.get(path).copied();
        let login = self.authenticate(now, path, request, owner, found);
        self.answer(now, path, request, login);
    }

    fn answer(&mut self, now: Moment, path: &ClientPath, request: &Message<'_>, login: Result<Login, AuthError>) {
        let asked = Asked::of(path, request);
        let owner = self.by_path.get(path).copied();
        let login = match login {
            Ok(login) => login,
            Err(why) => {
                if !matches!(why, AuthError::NoCredentials | AuthError::StaleNonce) {
                    let settings = Arc::clone(&self.settings);
                    let by_hash = |hash| settings.users.by_hash(hash).ok();
                    // RFC 8489 §14.4: the name is hidden from the network, not from the log.
                    let hidden = || request.userhash().ok().flatten().and_then(by_hash);
                    let user = request.username().ok().flatten().or_else(hidden);
                    self.deny(now, Denial::Auth(why), path, user, None);
                }
                return self.refuse_unknown(now, &asked, why);
            }
        };
        // RFC 8489 §6.3.1: after authentication.
        if request.unknown_required(KNOWN).next().is_some() {
            return self.refuse_unknown_attributes(&asked, &login.seal, request);
        }
        if let Err(why) = self.dispatch(now, &asked, request, &login, owner) {
            self.refuse(now, &asked, &login, why, request.xor_peer_address().ok().flatten());
        }
    }

    fn dispatch(
        &mut self,
        now: Moment,
        asked: &Asked,
        request: &Message<'_>,
        login: &Login,
        owner: Option<AllocationKey>,
    ) -> Result<(), Refused> {
        if request.method() == Method::ALLOCATE {
            return self.allocate(now, asked, request, login, owner);
        }
        // RFC 8656 §5: the user who made the allocation, and no other.
        let owner = owner.filter(|key| self.allocations.get(*key).is_some_and(|a| a.is_live()));
        let key = owner.ok_or(Refused::NoAllocation)?;
        if self.allocations.get(key).is_none_or(|allocation| allocation.user != login.user) {
            return Err(Refused::WrongUser);
        }
        match request.method() {
            Method::REFRESH => self.refresh(now, asked, request, login, key),
            Method::CREATE_PERMISSION => self.create_permission(now, asked, request, login, key),
            _ => self.bind_channel(now, asked, request, login, key),
        }
    }

    pub(crate) fn refuse(&mut self, now: Moment, asked: &Asked, login: &Login, why: Refused, peer: Option<SocketAddr>) {
        if let Refused::Forbidden(forbidden) = why {
            self.counters.count_forbidden(forbidden);
        }
        self.deny(now, Denial::Request(why), &asked.path, Some(&login.user), peer);
        self.fail(asked, &login.seal, why.stun_code(), |_| {});
    }
}
