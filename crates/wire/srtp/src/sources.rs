//! A bounded table of per-source state; sized when made, so that no packet allocates.

use crate::SrtpError;

pub(crate) struct Sources<T> {
    entries: Vec<(u32, T)>,
    limit: usize,
}

impl<T> Sources<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::with_capacity(limit), limit }
    }

    /// A peer has a handful of sources: a walk is faster than a hash.
    pub(crate) fn get_mut(&mut self, ssrc: u32) -> Option<&mut T> {
        self.entries.iter_mut().find(|(own, _)| *own == ssrc).map(|(_, state)| state)
    }

    /// Whether one more fits; asked before any cipher runs for it.
    pub(crate) const fn room(&self) -> Result<(), SrtpError> {
        if self.entries.len() < self.limit { Ok(()) } else { Err(SrtpError::TooManySources { limit: self.limit }) }
    }

    /// Adds a source for which [`Self::room`] said yes.
    pub(crate) fn insert(&mut self, ssrc: u32, state: T) {
        if self.room().is_ok() {
            self.entries.push((ssrc, state));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
