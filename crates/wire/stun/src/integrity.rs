//! MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5 to §14.7).

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use crate::attribute::split_first;
use crate::{HEADER_LEN, Message};

/// RFC 8489 §14.7: keeps the CRC apart from one that the payload itself may carry.
const FINGERPRINT_XOR: u32 = 0x5354_554E;

/// Why a check did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    #[error("the attribute is not in the message")]
    Missing,
    #[error("the attribute has {0} bytes")]
    Length(usize),
    #[error("the value does not match")]
    Mismatch,
}

impl Message<'_> {
    #[must_use]
    pub const fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    #[must_use]
    pub const fn has_integrity_sha256(&self) -> bool {
        self.integrity_sha256_at.is_some()
    }

    #[must_use]
    pub const fn has_fingerprint(&self) -> bool {
        self.fingerprint_at.is_some()
    }

    /// Checks MESSAGE-INTEGRITY in constant time. `key` is the ICE password (short-term) or
    /// [`crate::credentials::long_term_key`].
    ///
    /// # Errors
    /// Absent, of the wrong length, or not matching.
    pub fn verify_integrity(&self, key: &[u8]) -> Result<(), IntegrityError> {
        let (at, value) = self.sealed(self.integrity_at)?;
        if value.len() != 20 {
            return Err(IntegrityError::Length(value.len()));
        }
        let covered = self.bytes.get(..at).unwrap_or_default();
        compare(integrity_tag(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, covered, 24).as_ref(), value)
    }

    /// Checks MESSAGE-INTEGRITY-SHA256, which may be truncated to 16 bytes or more (RFC 8489 §14.6).
    ///
    /// # Errors
    /// Absent, of a length the RFC forbids, or not matching.
    pub fn verify_integrity_sha256(&self, key: &[u8]) -> Result<(), IntegrityError> {
        let (at, value) = self.sealed(self.integrity_sha256_at)?;
        if !(16..=32).contains(&value.len()) || value.len() % 4 != 0 {
            return Err(IntegrityError::Length(value.len()));
        }
        let covered = self.bytes.get(..at).unwrap_or_default();
        let tag = integrity_tag(hmac::HMAC_SHA256, key, covered, 4 + value.len());
        compare(tag.as_ref().get(..value.len()).unwrap_or_default(), value)
    }

    /// Checks FINGERPRINT. It tells STUN from other protocols, it proves nothing about the sender.
    ///
    /// # Errors
    /// Absent, of the wrong length, or not matching.
    pub fn verify_fingerprint(&self) -> Result<(), IntegrityError> {
        let (at, value) = self.sealed(self.fingerprint_at)?;
        let value: [u8; 4] = value.try_into().map_err(|_| IntegrityError::Length(value.len()))?;
        let covered = self.bytes.get(..at).unwrap_or_default();
        if fingerprint(covered) == u32::from_be_bytes(value) { Ok(()) } else { Err(IntegrityError::Mismatch) }
    }

    fn sealed(&self, at: Option<usize>) -> Result<(usize, &[u8]), IntegrityError> {
        let at = at.ok_or(IntegrityError::Missing)?;
        let step = self.bytes.get(at..).and_then(split_first).ok_or(IntegrityError::Missing)?;
        Ok((at, step.raw.value))
    }
}

fn compare(ours: &[u8], theirs: &[u8]) -> Result<(), IntegrityError> {
    if bool::from(ours.ct_eq(theirs)) { Ok(()) } else { Err(IntegrityError::Mismatch) }
}

/// HMAC over everything before the attribute, with the length field counting up to the attribute's end
/// (`attribute_len` includes its header), whatever follows it (RFC 8489 §14.5).
pub(crate) fn integrity_tag(algorithm: hmac::Algorithm, key: &[u8], covered: &[u8], attribute_len: usize) -> hmac::Tag {
    let key = hmac::Key::new(algorithm, key);
    let mut context = hmac::Context::with_key(&key);
    let length = (covered.len() + attribute_len).saturating_sub(HEADER_LEN);
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    context.update(covered.get(..2).unwrap_or_default());
    context.update(&length.to_be_bytes());
    context.update(covered.get(4..).unwrap_or_default());
    context.sign()
}

/// The value of FINGERPRINT over everything before it; the length field must already count it.
pub(crate) fn fingerprint(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ FINGERPRINT_XOR
}
