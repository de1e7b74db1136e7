//! The long-term credential mechanism, server's side: RFC 8489 §9.2.4 step by step.
use crate::allocation::AllocationKey;
use crate::event::Output;
use crate::nonce::{Form, Fresh};
use crate::path::ClientPath;
use crate::reply::{Asked, REPLY_MAX, budget};
use crate::settings::Settings;
use crate::shard::Shard;
use crate::users::{Algorithm, Key, UnknownUser, Users};
use offhook_shard::{Moment, Rate, SourceBuckets};
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder};
use std::net::IpAddr;
use std::sync::Arc;

/// Answers to what does not log in, on the path of an allocation.
const OWNERS_REFUSALS: Rate = Rate { per_second: 5, burst: 20 };
/// PASSWORD-ALGORITHMS as we send it, SHA-256 before MD5, no parameters (RFC 8489 §14.11).
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
/// A header and REQUESTED-TRANSPORT.
const ALLOCATE_MIN: usize = 28;
const FINGERPRINT_LEN: usize = 8;

/// Under what an answer is sealed: as its request was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// `no-auth`.
    Open,
    Sha1(Key),
    Sha256(Key),
}

impl Seal {
    pub(crate) const fn key(&self) -> Option<&Key> {
        match self {
            Self::Open => None,
            Self::Sha1(key) | Self::Sha256(key) => Some(key),
        }
    }

    pub(crate) fn close(&self, builder: &mut MessageBuilder<'_>) {
        match self {
            Self::Open => {}
            Self::Sha1(key) => {
                builder.integrity(key.as_bytes());
            }
            Self::Sha256(key) => {
                builder.integrity_sha256(key.as_bytes());
            }
        }
    }
}

pub(crate) struct Login {
    pub(crate) user: Arc<str>,
    pub(crate) seal: Seal,
}

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Every client's first request.
    #[error("the request carries no credentials")]
    NoCredentials,
    #[error("USERNAME, REALM or NONCE is missing")]
    Incomplete,
    #[error("the nonce is stale or not ours")]
    StaleNonce,
    #[error("PASSWORD-ALGORITHM is not among those offered")]
    Algorithm,
    #[error("the realm is another")]
    Realm,
    #[error("the username is malformed")]
    Username,
    #[error(transparent)]
    Unknown(#[from] UnknownUser),
    #[error("the password is wrong")]
    Password,
}

impl AuthError {
    /// RFC 8489 §9.2.4.
    #[must_use]
    pub const fn stun_code(self) -> u16 {
        match self {
            Self::Incomplete | Self::Algorithm => 400,
            Self::StaleNonce => 438,
            Self::NoCredentials | Self::Realm | Self::Username | Self::Unknown(_) | Self::Password => 401,
        }
    }

    const fn reason(self) -> &'static str {
        match self.stun_code() {
            400 => "Bad Request",
            438 => "Stale Nonce",
            _ => "Unauthorized",
        }
    }
}

impl Shard {
    /// Who sent this request? `owner` is the allocation of its 5-tuple, if there is one; `found` was looked up for it.
    pub(crate) fn authenticate(
        &self,
        now: Moment,
        path: &ClientPath,
        request: &Message<'_>,
        owner: Option<AllocationKey>,
        found: Option<&Users>,
    ) -> Result<Login, AuthError> {
        let users = &self.settings.users;
        if users.admits_anyone() {
            return Ok(Login { user: Arc::clone(&self.nobody), seal: Seal::Open });
        }
        // 1. No integrity: a challenge.
        if !request.has_integrity() && !request.has_integrity_sha256() {
            return Err(AuthError::NoCredentials);
        }
        // 2. Integrity without the rest.
        let nonce = request.raw(AttributeType::NONCE).ok_or(AuthError::Incomplete)?;
        let realm = request.raw(AttributeType::REALM).ok_or(AuthError::Incomplete)?;
        let by_hash = request.has(AttributeType::USERHASH);
        if !by_hash && !request.has(AttributeType::USERNAME) {
            return Err(AuthError::Incomplete);
        }
        // The nonce before anything that costs a look-up or a hash of the whole message.
        let fresh = self.nonces.check(now, path, nonce, self.settings.nonce_lifetime).ok_or(AuthError::StaleNonce)?;
        // 3. The algorithms, if the nonce offered them.
        let algorithm = algorithm(request, fresh)?;
        // 4. The user. A realm that we do not serve has none.
        if realm != users.realm().as_bytes() {
            return Err(AuthError::Realm);
        }
        let name = if by_hash {
            users.by_hash(request.userhash().ok().flatten().ok_or(AuthError::Username)?)?
        } else {
            request.username().ok().flatten().ok_or(AuthError::Username)?
        };
        // 5. The integrity.
        let seal = |key| if request.has_integrity_sha256() { Seal::Sha256(key) } else { Seal::Sha1(key) };
        if users.is_rest_name(name)
            && let Some((user, key)) = owner.and_then(|owner| self.known_key(owner, name, algorithm))
            && opens(request, &key)
        {
            return Ok(Login { user, seal: seal(key) });
        }
        let find =
            |users: &Users| users.find_key(name, algorithm, self.unix_s(now), &self.revoked, |key| opens(request, key));
        let known = find(users);
        let known = match found.filter(|_| !matches!(known, Ok(Some(_))) && !users.knows(name)) {
            Some(found) => find(found),
            None => known,
        };
        match known? {
            Some(key) => Ok(Login { user: name.into(), seal: seal(key) }),
            None => Err(AuthError::Password),
        }
    }

    /// The key of the allocation that stands on the request's path: it outlives the expiry of REST credentials, which
    /// open sessions and do not end them. Static users are asked for their password as it is now.
    fn known_key(&self, owner: AllocationKey, name: &str, algorithm: Algorithm) -> Option<(Arc<str>, Key)> {
        let allocation = self.allocations.get(owner)?;
        let key = allocation.seal.key().filter(|key| *allocation.user == *name && key.algorithm == algorithm)?;
        Some((Arc::clone(&allocation.user), *key))
    }

    /// Refuses a request of somebody unknown. Rare per source, never much larger than what it answers.
    pub(crate) fn refuse_unknown(&mut self, now: Moment, asked: &Asked, why: AuthError) {
        let before = self.counters;
        self.counters.count_unauthenticated(why);
        self.answer_unknown(now, asked, why);
        if !asked.path.is_stream() {
            self.counters.count_by_udp(why, &before);
        }
    }

    fn answer_unknown(&mut self, now: Moment, asked: &Asked, why: AuthError) {
        if !self.may_answer_unknown(now, &asked.path) {
            return;
        }
        let allowed = budget(&asked.path, asked.length);
        let mut buffer = [0; REPLY_MAX];
        let users = &self.settings.users;
        let long = Form::Long { algorithms: users.offers_sha256(), userhash: users.has_hashes() };
        let always = self.settings.fingerprint || asked.fingerprint;
        // The most helpful answer that is short enough. The last one is what a client cannot do without.
        let tries = [
            (long, true, always),
            (long, false, always),
            (Form::Short, true, always),
            (Form::Short, false, always),
            (Form::Short, false, asked.fingerprint),
        ];
        let mut needed = 0;
        for (form, with_reason, fingerprint) in tries {
            let length = self.write_refusal(now, asked, why, form, with_reason, fingerprint, &mut buffer);
            let Some(message) = length.and_then(|length| buffer.get(..length)) else { continue };
            needed = message.len();
            if needed <= allowed {
                self.counters.count_sent(why);
                return self.reply(asked.path, message);
            }
        }
        self.refuse_beyond_measure(
            now,
            (asked, why),
            needed.saturating_sub(allowed),
            buffer.get(..needed).unwrap_or_default(),
        );
    }

    /// Under a long realm nobody could log in if no answer were too long: those are few, and nothing shorter than an
    /// Allocate has one.
    fn refuse_beyond_measure(&mut self, now: Moment, (asked, why): (&Asked, AuthError), excess: usize, message: &[u8]) {
        let ip = asked.path.client.ip();
        if message.is_empty() {
            return;
        }
        let asks = asked.length - if asked.fingerprint { FINGERPRINT_LEN } else { 0 } >= ALLOCATE_MIN;
        if asks && take_part(&mut self.excess, now, ip, self.settings.excess, self.settings.shards, excess as u64) {
            self.counters.count_sent(why);
            self.reply(asked.path, message);
        } else {
            self.counters.refusals_throttled += 1;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "each is one way to be shorter")]
    fn write_refusal(
        &self,
        now: Moment,
        asked: &Asked,
        why: AuthError,
        form: Form,
        with_reason: bool,
        fingerprint: bool,
        buffer: &mut [u8],
    ) -> Option<usize> {
        let mut answer = asked.answer(buffer, Class::Error);
        answer.error_code(why.stun_code(), if with_reason { why.reason() } else { "" });
        if why.stun_code() != 400 {
            let Settings { users, nonce_lifetime, .. } = &*self.settings;
            answer.realm(users.realm());
            answer.attr(AttributeType::NONCE, self.nonces.mint(now, &asked.path, form, *nonce_lifetime).as_bytes());
            if form.offers_algorithms() {
                answer.attr(AttributeType::PASSWORD_ALGORITHMS, &ALGORITHMS);
            }
        }
        if fingerprint {
            answer.fingerprint();
        }
        answer.finish().ok()
    }

    /// A connection cannot be forged, but each answer costs us: who asks too much without an allocation is cut off.
    fn may_answer_stream(&mut self, now: Moment, path: &ClientPath) -> bool {
        let Settings { unauthenticated, shards, .. } = &*self.settings;
        if take_part(&mut self.stream_sources, now, path.client.ip(), *unauthenticated, *shards, 1) {
            return true;
        }
        self.counters.refusals_throttled += 1;
        self.outputs.push_back(Output::CloseClient { path: *path });
        false
    }

    /// Whoever has an allocation here is no stranger: what others send in the name of his address costs him no answer
    /// to a nonce that has become stale.
    fn may_answer_owner(&mut self, now: Moment, key: AllocationKey) -> bool {
        let answers = self.allocations.get_mut(key).is_some_and(|own| own.refusals.take(now, OWNERS_REFUSALS, 1));
        self.counters.refusals_throttled += u64::from(!answers);
        answers
    }

    /// Nothing is sent to ourselves or to where nobody can be, and nobody is sent much.
    pub(crate) fn may_answer_unknown(&mut self, now: Moment, path: &ClientPath) -> bool {
        if let Some(key) = self.by_path.get(path).copied() {
            return self.may_answer_owner(now, key);
        }
        let ip = path.client.ip();
        if path.is_stream() {
            return self.may_answer_stream(now, path);
        }
        if path.client.port() == 0
            || ip.is_unspecified()
            || ip.is_multicast()
            || self.settings.policy.is_own_socket(path.client)
        {
            self.counters.dropped_looping += 1;
            return false;
        }
        let Settings { unauthenticated, shards, .. } = &*self.settings;
        if !take_part(&mut self.sources, now, ip, *unauthenticated, *shards, 1) {
            self.counters.refusals_throttled += 1;
            return false;
        }
        true
    }
}

/// Takes from one shard's part of what all of them may send: what is taken costs as many times as much, so that a rate of
/// one a second is one a second, however many there are. One answer can always be had at once, or some had none.
fn take_part(sources: &mut SourceBuckets, now: Moment, ip: IpAddr, rate: Rate, shards: u64, units: u64) -> bool {
    let cost = units.saturating_mul(shards.max(1));
    sources.take(now, ip, Rate { burst: rate.burst.max(cost), ..rate }, cost)
}

/// RFC 8489 §9.2.4: with both attributes and ours untouched, the one chosen; with neither, MD5.
fn algorithm(request: &Message<'_>, fresh: Fresh) -> Result<Algorithm, AuthError> {
    if !fresh.algorithms {
        return Ok(Algorithm::Md5);
    }
    let chosen = request.password_algorithm().map_err(|_| AuthError::Algorithm)?;
    match (request.raw(AttributeType::PASSWORD_ALGORITHMS), chosen) {
        (None, None) => Ok(Algorithm::Md5),
        (Some(list), Some(1)) if list == ALGORITHMS => Ok(Algorithm::Md5),
        (Some(list), Some(2)) if list == ALGORITHMS => Ok(Algorithm::Sha256),
        _ => Err(AuthError::Algorithm),
    }
}

/// In constant time. Where both seals stand, the stronger one counts.
fn opens(request: &Message<'_>, key: &Key) -> bool {
    if request.has_integrity_sha256() {
        request.verify_integrity_sha256(key.as_bytes()).is_ok()
    } else {
        request.verify_integrity(key.as_bytes()).is_ok()
    }
}
