//! A parsed message: a view into the datagram, checked once.

use crate::attribute::{Gate, split_first};
use crate::kind::decode_type;
use crate::{
    AttributeType, Attributes, Class, HEADER_LEN, MAGIC_COOKIE, MAX_ATTRIBUTES, Method, RawAttribute, TransactionId,
};

/// Why bytes are not a STUN message. None of these is ever answered: the sender may be spoofed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("shorter than the 20-byte header")]
    Truncated,
    #[error("first two bits are not zero")]
    NotStun,
    #[error("magic cookie missing")]
    NoCookie,
    #[error("length field says {declared} bytes of attributes, the datagram has {actual}")]
    LengthMismatch { declared: usize, actual: usize },
    #[error("length {0} is not a multiple of four")]
    Unaligned(usize),
    #[error("an attribute reaches past the end of the message")]
    AttributeOverrun,
    #[error("more than {MAX_ATTRIBUTES} attributes")]
    TooManyAttributes,
    #[error("an attribute stands behind FINGERPRINT")]
    AfterFingerprint,
}

/// A message whose framing is sound. Getters never re-check it; values are checked by the typed getters.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub(crate) bytes: &'a [u8],
    class: Class,
    method: Method,
    transaction: TransactionId,
    /// Offsets into `bytes` of the attribute header, for the checks that cover everything before it.
    pub(crate) integrity_at: Option<usize>,
    pub(crate) integrity_sha256_at: Option<usize>,
    pub(crate) fingerprint_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Reads a whole datagram (or one framed message of a stream, see [`crate::framed_len`]).
    ///
    /// # Errors
    /// [`ParseError`] names the first broken rule.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(ParseError::Truncated)?;
        let [t0, t1, l0, l1, c0, c1, c2, c3, id @ ..] = *header;
        if t0 & 0xC0 != 0 {
            return Err(ParseError::NotStun);
        }
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE {
            return Err(ParseError::NoCookie);
        }
        let declared = usize::from(u16::from_be_bytes([l0, l1]));
        if declared % 4 != 0 {
            return Err(ParseError::Unaligned(declared));
        }
        if declared != body.len() {
            return Err(ParseError::LengthMismatch { declared, actual: body.len() });
        }
        let (class, method) = decode_type(u16::from_be_bytes([t0, t1]));
        let mut message = Self {
            bytes,
            class,
            method,
            transaction: TransactionId(id),
            integrity_at: None,
            integrity_sha256_at: None,
            fingerprint_at: None,
        };
        message.walk(body)?;
        Ok(message)
    }

    /// Checks every attribute's bounds once and remembers where the three sealing attributes stand.
    fn walk(&mut self, body: &'a [u8]) -> Result<(), ParseError> {
        let mut rest = body;
        let mut gate = Gate::Open;
        let mut count = 0;
        while !rest.is_empty() {
            // RFC 8489 §14.7: FINGERPRINT is the last attribute.
            if self.fingerprint_at.is_some() {
                return Err(ParseError::AfterFingerprint);
            }
            count += 1;
            if count > MAX_ATTRIBUTES {
                return Err(ParseError::TooManyAttributes);
            }
            let at = self.bytes.len() - rest.len();
            let step = split_first(rest).ok_or(ParseError::AttributeOverrun)?;
            let (counts, next) = gate.admit(step.raw.attribute);
            gate = next;
            if counts {
                match step.raw.attribute {
                    AttributeType::MESSAGE_INTEGRITY => self.integrity_at = Some(at),
                    AttributeType::MESSAGE_INTEGRITY_SHA256 => self.integrity_sha256_at = Some(at),
                    AttributeType::FINGERPRINT => self.fingerprint_at = Some(at),
                    _ => {}
                }
            }
            rest = step.rest;
        }
        Ok(())
    }

    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    #[must_use]
    pub const fn method(&self) -> Method {
        self.method
    }

    #[must_use]
    pub const fn transaction_id(&self) -> TransactionId {
        self.transaction
    }

    /// The datagram this view borrows.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The attributes that count: everything up to MESSAGE-INTEGRITY, of what follows only
    /// MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5, §14.6).
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { rest: self.bytes.get(HEADER_LEN..).unwrap_or_default(), gate: Gate::Open }
    }

    /// The value of the first attribute of this type (RFC 8489 §14: later ones are ignored).
    #[must_use]
    pub fn raw(&self, attribute: AttributeType) -> Option<&'a [u8]> {
        self.attributes().find(|raw| raw.attribute == attribute).map(|raw| raw.value)
    }

    #[must_use]
    pub fn has(&self, attribute: AttributeType) -> bool {
        self.raw(attribute).is_some()
    }

    /// Comprehension-required attributes that the caller does not know: the list for a 420 (RFC 8489 §6.3.1).
    pub fn unknown_required(&self, known: &[AttributeType]) -> impl Iterator<Item = AttributeType> {
        self.attributes()
            .map(|RawAttribute { attribute, .. }| attribute)
            .filter(move |attribute| attribute.is_comprehension_required() && !known.contains(attribute))
    }
}
