//! Writing a message in place, attribute after attribute.

use core::net::SocketAddr;

use aws_lc_rs::hmac;

use crate::address::{self, MAX_ADDRESS_LEN};
use crate::attribute::Gate;
use crate::integrity::{fingerprint, integrity_tag};
use crate::kind::encode_type;
use crate::{AddressFamily, AttributeType, Class, HEADER_LEN, MAGIC_COOKIE, Message, Method, TransactionId};

/// Why a message could not be written. The first error sticks and [`MessageBuilder::finish`] returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("{needed} bytes do not fit into a buffer of {capacity}")]
    BufferFull { needed: usize, capacity: usize },
    #[error("{attribute} of {len} bytes is longer than a length field can say")]
    TooLong { attribute: AttributeType, len: usize },
    #[error("{0} would stand behind the attribute that seals the message")]
    Sealed(AttributeType),
    #[error("error code {0} is not between 300 and 699")]
    ErrorCode(u16),
}

/// Writes into the caller's buffer; nothing is allocated, padding is zero.
///
/// Methods chain on `&mut self`; the first failure is kept and reported by [`Self::finish`], which returns the length.
#[derive(Debug)]
pub struct MessageBuilder<'b> {
    buf: &'b mut [u8],
    len: usize,
    transaction: TransactionId,
    gate: Gate,
    closed: bool,
    error: Option<BuildError>,
}

impl<'b> MessageBuilder<'b> {
    #[must_use]
    pub fn new(buf: &'b mut [u8], class: Class, method: Method, transaction: TransactionId) -> Self {
        let capacity = buf.len();
        let mut error = None;
        match buf.first_chunk_mut::<HEADER_LEN>() {
            Some(header) => {
                header[..2].copy_from_slice(&encode_type(class, method).to_be_bytes());
                header[2..4].fill(0);
                header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
                header[8..].copy_from_slice(&transaction.0);
            }
            None => error = Some(BuildError::BufferFull { needed: HEADER_LEN, capacity }),
        }
        Self { buf, len: HEADER_LEN, transaction, gate: Gate::Open, closed: false, error }
    }

    /// The answer to `request`: same method and transaction id.
    #[must_use]
    pub fn response(buf: &'b mut [u8], request: &Message<'_>, class: Class) -> Self {
        Self::new(buf, class, request.method(), request.transaction_id())
    }

    /// Any attribute, its value as it goes on the wire.
    pub fn attr(&mut self, attribute: AttributeType, value: &[u8]) -> &mut Self {
        self.attr_parts(attribute, &[value])
    }

    pub fn username(&mut self, username: &str) -> &mut Self {
        self.attr(AttributeType::USERNAME, username.as_bytes())
    }

    pub fn realm(&mut self, realm: &str) -> &mut Self {
        self.attr(AttributeType::REALM, realm.as_bytes())
    }

    pub fn nonce(&mut self, nonce: &str) -> &mut Self {
        self.attr(AttributeType::NONCE, nonce.as_bytes())
    }

    pub fn software(&mut self, software: &str) -> &mut Self {
        self.attr(AttributeType::SOFTWARE, software.as_bytes())
    }

    pub fn xor_mapped_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS, address)
    }

    pub fn xor_relayed_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS, address)
    }

    pub fn xor_peer_address(&mut self, address: SocketAddr) -> &mut Self {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS, address)
    }

    pub fn mapped_address(&mut self, address: SocketAddr) -> &mut Self {
        self.address(AttributeType::MAPPED_ADDRESS, address)
    }

    pub fn alternate_server(&mut self, address: SocketAddr) -> &mut Self {
        self.address(AttributeType::ALTERNATE_SERVER, address)
    }

    /// ERROR-CODE with a reason phrase for people (RFC 8489 §14.8).
    pub fn error_code(&mut self, code: u16, reason: &str) -> &mut Self {
        let (Ok(class), Ok(number)) = (u8::try_from(code / 100), u8::try_from(code % 100)) else {
            return self.fail(BuildError::ErrorCode(code));
        };
        if !(3..=6).contains(&class) {
            return self.fail(BuildError::ErrorCode(code));
        }
        self.attr_parts(AttributeType::ERROR_CODE, &[&[0, 0, class, number], reason.as_bytes()])
    }

    /// UNKNOWN-ATTRIBUTES for a 420; at most [`crate::MAX_ATTRIBUTES`] are listed.
    pub fn unknown_attributes(&mut self, unknown: impl IntoIterator<Item = AttributeType>) -> &mut Self {
        let mut list = [0; crate::MAX_ATTRIBUTES * 2];
        let mut len = 0;
        for (slot, attribute) in list.as_chunks_mut::<2>().0.iter_mut().zip(unknown) {
            *slot = attribute.0.to_be_bytes();
            len += 2;
        }
        self.attr(AttributeType::UNKNOWN_ATTRIBUTES, list.get(..len).unwrap_or_default())
    }

    pub fn priority(&mut self, priority: u32) -> &mut Self {
        self.attr(AttributeType::PRIORITY, &priority.to_be_bytes())
    }

    pub fn use_candidate(&mut self) -> &mut Self {
        self.attr(AttributeType::USE_CANDIDATE, &[])
    }

    pub fn ice_controlled(&mut self, tie_breaker: u64) -> &mut Self {
        self.attr(AttributeType::ICE_CONTROLLED, &tie_breaker.to_be_bytes())
    }

    pub fn ice_controlling(&mut self, tie_breaker: u64) -> &mut Self {
        self.attr(AttributeType::ICE_CONTROLLING, &tie_breaker.to_be_bytes())
    }

    pub fn lifetime_s(&mut self, seconds: u32) -> &mut Self {
        self.attr(AttributeType::LIFETIME, &seconds.to_be_bytes())
    }

    /// The IP protocol number, 17 for UDP.
    pub fn requested_transport(&mut self, protocol: u8) -> &mut Self {
        self.attr(AttributeType::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0])
    }

    pub fn requested_address_family(&mut self, family: AddressFamily) -> &mut Self {
        self.attr(AttributeType::REQUESTED_ADDRESS_FAMILY, &[family.wire(), 0, 0, 0])
    }

    pub fn even_port(&mut self, reserve_next: bool) -> &mut Self {
        self.attr(AttributeType::EVEN_PORT, &[if reserve_next { 0x80 } else { 0 }])
    }

    pub fn reservation_token(&mut self, token: [u8; 8]) -> &mut Self {
        self.attr(AttributeType::RESERVATION_TOKEN, &token)
    }

    pub fn channel_number(&mut self, number: u16) -> &mut Self {
        let [n0, n1] = number.to_be_bytes();
        self.attr(AttributeType::CHANNEL_NUMBER, &[n0, n1, 0, 0])
    }

    pub fn data(&mut self, payload: &[u8]) -> &mut Self {
        self.attr(AttributeType::DATA, payload)
    }

    /// MESSAGE-INTEGRITY over all that was written; afterwards only SHA-256 integrity and fingerprint may follow.
    pub fn integrity(&mut self, key: &[u8]) -> &mut Self {
        self.seal(AttributeType::MESSAGE_INTEGRITY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key, 20)
    }

    /// MESSAGE-INTEGRITY-SHA256, untruncated.
    pub fn integrity_sha256(&mut self, key: &[u8]) -> &mut Self {
        self.seal(AttributeType::MESSAGE_INTEGRITY_SHA256, hmac::HMAC_SHA256, key, 32)
    }

    /// FINGERPRINT, the last attribute.
    pub fn fingerprint(&mut self) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let start = self.len;
        if !self.attr(AttributeType::FINGERPRINT, &[0; 4]).is_sound() {
            return self;
        }
        self.closed = true;
        let value = fingerprint(self.buf.get(..start).unwrap_or_default());
        if let Some(slot) = self.buf.get_mut(start + 4..start + 8) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        self
    }

    /// The length of the finished message.
    ///
    /// # Errors
    /// The first thing that went wrong while writing.
    pub fn finish(&self) -> Result<usize, BuildError> {
        self.error.map_or(Ok(self.len), Err)
    }

    fn is_sound(&self) -> bool {
        self.error.is_none()
    }

    fn fail(&mut self, error: BuildError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }

    fn address(&mut self, attribute: AttributeType, address: SocketAddr) -> &mut Self {
        let mut value = [0; MAX_ADDRESS_LEN];
        let len = address::encode(address, &mut value);
        self.attr(attribute, value.get(..len).unwrap_or_default())
    }

    /// An XORed address under any type.
    pub fn xor_address(&mut self, attribute: AttributeType, address: SocketAddr) -> &mut Self {
        let mut value = [0; MAX_ADDRESS_LEN];
        let len = address::encode_xor(address, self.transaction, &mut value);
        self.attr(attribute, value.get(..len).unwrap_or_default())
    }

    fn seal(&mut self, attribute: AttributeType, algorithm: hmac::Algorithm, key: &[u8], tag_len: usize) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let start = self.len;
        if !self.attr(attribute, [0; 32].get(..tag_len).unwrap_or_default()).is_sound() {
            return self;
        }
        let tag = integrity_tag(algorithm, key, self.buf.get(..start).unwrap_or_default(), 4 + tag_len);
        if let Some(slot) = self.buf.get_mut(start + 4..start + 4 + tag_len) {
            slot.copy_from_slice(tag.as_ref());
        }
        self
    }

    /// One attribute whose value is the concatenation of `parts`; keeps the length field in step.
    fn attr_parts(&mut self, attribute: AttributeType, parts: &[&[u8]]) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let (admitted, gate) = self.gate.admit(attribute);
        if !admitted || self.closed {
            return self.fail(BuildError::Sealed(attribute));
        }
        let value_len: usize = parts.iter().map(|part| part.len()).sum();
        let end = self.len + 4 + value_len.next_multiple_of(4);
        let (Ok(wire_len), Ok(body_len)) = (u16::try_from(value_len), u16::try_from(end - HEADER_LEN)) else {
            return self.fail(BuildError::TooLong { attribute, len: value_len });
        };
        let capacity = self.buf.len();
        let Some(room) = self.buf.get_mut(self.len..end) else {
            return self.fail(BuildError::BufferFull { needed: end, capacity });
        };
        let (head, mut value) = room.split_at_mut(4);
        head[..2].copy_from_slice(&attribute.0.to_be_bytes());
        head[2..].copy_from_slice(&wire_len.to_be_bytes());
        for part in parts {
            let (slot, rest) = value.split_at_mut(part.len());
            slot.copy_from_slice(part);
            value = rest;
        }
        value.fill(0);
        self.len = end;
        self.gate = gate;
        if let Some(length) = self.buf.get_mut(2..4) {
            length.copy_from_slice(&body_len.to_be_bytes());
        }
        self
    }
}
