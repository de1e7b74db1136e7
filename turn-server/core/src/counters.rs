//! Plain counters of one shard, read once a tick by the daemon.
use crate::auth::AuthError;
use crate::policy::Forbidden;
use offhook_shard::counters;

counters! {
    binding_requests,
    binding_responses,
    binding_errors,
    allocations_created,
    allocations_refused,
    challenges,
    stale_nonces,
    bad_credentials,
    /// 401, and really sent.
    unauthorized_sent,
    /// Answers to strangers that their prefix had too many of.
    refusals_throttled,
    /// By UDP, which alone reflects: asked for what 401 answers, answered so, and held back by the limit on answers.
    udp_401_requests,
    udp_401_responses,
    udp_401_dropped,
    /// Nothing is answered to ourselves.
    dropped_looping,
    /// Neither STUN nor ChannelData, or malformed.
    dropped_unknown,
    dropped_fingerprint,
    dropped_no_allocation,
    dropped_no_channel,
    dropped_no_permission,
    dropped_forbidden,
    dropped_bandwidth,
    dropped_oversized,
    dropped_replies,
    forbidden_peers,
    up_packets,
    up_bytes,
    down_packets,
    down_bytes,
    icmp_told,
    /// A broken invariant ended one allocation.
    panics,
}

/// What exists now; all of it returns to zero when the last allocation has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    pub allocations: usize,
    pub relays: usize,
    pub reservations: usize,
    pub timers: usize,
    /// Of each relay address, together.
    pub free_ports: usize,
}

impl Counters {
    pub(crate) const fn count_unauthenticated(&mut self, why: AuthError) {
        match why {
            AuthError::NoCredentials => self.challenges += 1,
            AuthError::StaleNonce => self.stale_nonces += 1,
            _ => self.bad_credentials += 1,
        }
    }

    pub(crate) const fn count_sent(&mut self, why: AuthError) {
        self.unauthorized_sent += (why.stun_code() == 401) as u64;
    }

    /// What became of one request by UDP; `before` is how the counters stood.
    pub(crate) const fn count_by_udp(&mut self, why: AuthError, before: &Self) {
        if why.stun_code() == 401 {
            self.udp_401_requests += 1;
            self.udp_401_responses += self.unauthorized_sent - before.unauthorized_sent;
            self.udp_401_dropped += self.refusals_throttled - before.refusals_throttled;
        }
    }

    pub(crate) const fn count_forbidden(&mut self, _why: Forbidden) {
        self.forbidden_peers += 1;
    }
}
