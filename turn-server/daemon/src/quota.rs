//! The process's ledger, shared by its threads. Its lock is taken when an allocation comes or goes, never for a packet.
use offhook_turn_core::{Grant, Ledger, Quota, QuotaError, QuotaLimits, Reserved};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    pub(crate) fn new(limits: QuotaLimits) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(limits))))
    }

    pub(crate) fn set_limits(&self, limits: QuotaLimits) {
        self.ledger().set_limits(limits);
    }

    pub(crate) fn allocations(&self) -> u32 {
        self.ledger().allocations()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota for SharedLedger {
    fn admit(&self, user: &Arc<str>) -> Result<Grant, QuotaError> {
        self.ledger().admit(user)
    }

    fn release(&self, user: &str, grant: Grant) {
        self.ledger().release(user, grant);
    }

    fn reserve(&self, token: [u8; 8], reserved: Reserved) {
        self.ledger().reserve(token, reserved);
    }

    fn is_reserved_for(&self, token: &[u8; 8], user: &str) -> bool {
        self.ledger().is_reserved_for(token, user)
    }

    fn claim(&self, token: &[u8; 8]) -> Option<Reserved> {
        self.ledger().claim(token)
    }
}
