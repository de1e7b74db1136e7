//! Quotas of the whole process: allocations of each user and of all, and the bandwidth promised to them.
//!
//! A [`Ledger`] is kept by the shell, which shares it among its threads; a shard reaches it through [`Quota`]. What was
//! granted is held until the allocation is really gone.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Zero means no limit everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    pub allocations_per_user: u32,
    pub allocations: u32,
    /// For one allocation and each direction.
    pub bytes_per_second: u64,
    /// Of which every allocation takes its `bytes_per_second`.
    pub capacity_bytes_per_second: u64,
}

/// Why an Allocate finds no room: 486 (RFC 8656 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    #[error("the user reached the quota of {0} allocations")]
    User(u32),
    #[error("the server reached its quota of {0} allocations")]
    Total(u32),
    #[error("the server's bandwidth of {0} bytes/s is promised to others")]
    Bandwidth(u64),
}

/// A place in the ledger.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// What this allocation may carry in each direction; 0 is no limit.
    pub bytes_per_second: u64,
}

/// How a shard asks for a place in the process's ledger.
///
/// Reserved ports lie there too: whoever shows a token may come by another thread.
pub trait Quota: Send {
    /// # Errors
    /// [`QuotaError`] names the limit that stands in the way.
    fn admit(&self, user: &Arc<str>) -> Result<Grant, QuotaError>;
    fn release(&self, user: &str, grant: Grant);
    fn reserve(&self, token: [u8; 8], reserved: Reserved);
    fn is_reserved_for(&self, token: &[u8; 8], user: &str) -> bool;
    /// The reservation, which is over with it.
    fn claim(&self, token: &[u8; 8]) -> Option<Reserved>;
}

/// The upper port of a pair (RFC 8656 §7.2). Nothing is bound to it until somebody shows the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    pub user: Arc<str>,
    pub local: SocketAddr,
    pub announced: SocketAddr,
    /// Which of the relay addresses it belongs to.
    pub place: usize,
}

#[derive(Debug, Default)]
pub struct Ledger {
    limits: QuotaLimits,
    users: HashMap<Arc<str>, u32>,
    allocations: u32,
    promised_bytes_per_second: u64,
    /// One for each allocation at most.
    reserved: HashMap<[u8; 8], Reserved>,
}

impl Ledger {
    #[must_use]
    pub fn new(limits: QuotaLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// New limits hold for new allocations; nobody is thrown out.
    pub const fn set_limits(&mut self, limits: QuotaLimits) {
        self.limits = limits;
    }

    /// # Errors
    /// [`QuotaError`] names the limit that stands in the way.
    pub fn admit(&mut self, user: &Arc<str>) -> Result<Grant, QuotaError> {
        let QuotaLimits { allocations_per_user, allocations, .. } = self.limits;
        if allocations > 0 && self.allocations >= allocations {
            return Err(QuotaError::Total(allocations));
        }
        let of_user = self.users.get(user).copied().unwrap_or(0);
        if allocations_per_user > 0 && of_user >= allocations_per_user {
            return Err(QuotaError::User(allocations_per_user));
        }
        let grant = self.promise()?;
        self.allocations += 1;
        match self.users.get_mut(user) {
            Some(count) => *count += 1,
            None => {
                self.users.insert(Arc::clone(user), 1);
            }
        }
        Ok(grant)
    }

    /// As coturn: the last one gets what is left of the capacity.
    fn promise(&mut self) -> Result<Grant, QuotaError> {
        let QuotaLimits { bytes_per_second: wanted, capacity_bytes_per_second: capacity, .. } = self.limits;
        if wanted == 0 || capacity == 0 {
            return Ok(Grant { bytes_per_second: wanted });
        }
        let bytes_per_second = wanted.min(capacity.saturating_sub(self.promised_bytes_per_second));
        if bytes_per_second == 0 {
            return Err(QuotaError::Bandwidth(capacity));
        }
        self.promised_bytes_per_second += bytes_per_second;
        Ok(Grant { bytes_per_second })
    }

    pub fn release(&mut self, user: &str, grant: Grant) {
        self.allocations = self.allocations.saturating_sub(1);
        self.promised_bytes_per_second = self.promised_bytes_per_second.saturating_sub(grant.bytes_per_second);
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
        if self.users.is_empty() {
            self.users.shrink_to_fit();
        }
    }

    pub fn reserve(&mut self, token: [u8; 8], reserved: Reserved) {
        self.reserved.insert(token, reserved);
    }

    #[must_use]
    pub fn is_reserved_for(&self, token: &[u8; 8], user: &str) -> bool {
        self.reserved.get(token).is_some_and(|reserved| *reserved.user == *user)
    }

    pub fn claim(&mut self, token: &[u8; 8]) -> Option<Reserved> {
        self.reserved.remove(token)
    }

    #[must_use]
    pub const fn allocations(&self) -> u32 {
        self.allocations
    }

    #[must_use]
    pub fn users(&self) -> usize {
        self.users.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_opens_again_when_one_is_gone() {
        let limits = QuotaLimits { allocations_per_user: 2, allocations: 3, ..QuotaLimits::default() };
        let mut ledger = Ledger::new(limits);
        let (alice, bob): (Arc<str>, Arc<str>) = ("alice".into(), "bob".into());
        let grant = ledger.admit(&alice).unwrap();
        ledger.admit(&alice).unwrap();
        assert_eq!(ledger.admit(&alice), Err(QuotaError::User(2)));
        ledger.admit(&bob).unwrap();
        assert_eq!(ledger.admit(&bob), Err(QuotaError::Total(3)));
        ledger.release("alice", grant);
        let grant = ledger.admit(&bob).unwrap();
        assert_eq!((ledger.allocations(), ledger.users()), (3, 2));
        ledger.release("bob", grant);
        ledger.release("bob", Grant { bytes_per_second: 0 });
        ledger.release("alice", Grant { bytes_per_second: 0 });
        assert_eq!((ledger.allocations(), ledger.users()), (0, 0));
    }

    #[test]
    fn promised_bandwidth_never_exceeds_the_capacity() {
        let limits = QuotaLimits { bytes_per_second: 400, capacity_bytes_per_second: 1_000, ..QuotaLimits::default() };
        let mut ledger = Ledger::new(limits);
        let user: Arc<str> = "alice".into();
        let got: Vec<u64> = (0..3).map(|_| ledger.admit(&user).unwrap().bytes_per_second).collect();
        assert_eq!(got, [400, 400, 200]);
        assert_eq!(ledger.admit(&user), Err(QuotaError::Bandwidth(1_000)));
        ledger.release("alice", Grant { bytes_per_second: 400 });
        assert_eq!(ledger.admit(&user), Ok(Grant { bytes_per_second: 400 }));
    }
}
