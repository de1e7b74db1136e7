//! Typed values of attributes. Absent is `Ok(None)`; present but malformed is an error that answers 400.

use core::net::SocketAddr;

use crate::{AddressFamily, AttributeType, Message, address};

/// An attribute whose value breaks its own format; the request is answered with 400 (RFC 8489 §6.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    #[error("{attribute} has {len} bytes")]
    Length { attribute: AttributeType, len: usize },
    #[error("{attribute} is not UTF-8")]
    NotUtf8 { attribute: AttributeType },
    #[error("{attribute} holds no usable value")]
    Value { attribute: AttributeType },
}

/// ERROR-CODE (RFC 8489 §14.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300 to 699.
    pub code: u16,
    pub reason: &'a str,
}

/// RFC 8489 §14.3: fewer than 509 bytes of USERNAME; REALM, NONCE and SOFTWARE reach 763 (§14.9, §14.10, §14.14).
const MAX_USERNAME: usize = 508;
const MAX_TEXT: usize = 763;

impl<'a> Message<'a> {
    /// `remote-ufrag:local-ufrag` in an ICE check, the long-term user otherwise.
    ///
    /// # Errors
    /// Not UTF-8 or longer than the RFC allows.
    pub fn username(&self) -> Result<Option<&'a str>, AttributeError> {
        self.text(AttributeType::USERNAME, MAX_USERNAME)
    }

    /// # Errors
    /// Not UTF-8 or longer than the RFC allows.
    pub fn realm(&self) -> Result<Option<&'a str>, AttributeError> {
        self.text(AttributeType::REALM, MAX_TEXT)
    }

    /// # Errors
    /// Not UTF-8 or longer than the RFC allows.
    pub fn nonce(&self) -> Result<Option<&'a str>, AttributeError> {
        self.text(AttributeType::NONCE, MAX_TEXT)
    }

    /// # Errors
    /// Not UTF-8 or longer than the RFC allows.
    pub fn software(&self) -> Result<Option<&'a str>, AttributeError> {
        self.text(AttributeType::SOFTWARE, MAX_TEXT)
    }

    /// SHA-256 of user and realm (RFC 8489 §14.4).
    ///
    /// # Errors
    /// Not 32 bytes.
    pub fn userhash(&self) -> Result<Option<&'a [u8; 32]>, AttributeError> {
        self.array_ref(AttributeType::USERHASH)
    }

    /// # Errors
    /// Not an address.
    pub fn xor_mapped_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.xor_address(AttributeType::XOR_MAPPED_ADDRESS)
    }

    /// # Errors
    /// Not an address.
    pub fn xor_relayed_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.xor_address(AttributeType::XOR_RELAYED_ADDRESS)
    }

    /// The first XOR-PEER-ADDRESS; CreatePermission may carry several ([`Self::xor_peer_addresses`]).
    ///
    /// # Errors
    /// Not an address.
    pub fn xor_peer_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.xor_address(AttributeType::XOR_PEER_ADDRESS)
    }

    /// Every XOR-PEER-ADDRESS: the one attribute that is meant to repeat (RFC 8656 §10.1).
    pub fn xor_peer_addresses(&self) -> impl Iterator<Item = Result<SocketAddr, AttributeError>> {
        let transaction = self.transaction_id();
        self.attributes().filter(|raw| raw.attribute == AttributeType::XOR_PEER_ADDRESS).map(move |raw| {
            address::decode_xor(raw.value, transaction).ok_or(AttributeError::Value { attribute: raw.attribute })
        })
    }

    /// # Errors
    /// Not an address.
    pub fn mapped_address(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.plain_address(AttributeType::MAPPED_ADDRESS)
    }

    /// # Errors
    /// Not an address.
    pub fn alternate_server(&self) -> Result<Option<SocketAddr>, AttributeError> {
        self.plain_address(AttributeType::ALTERNATE_SERVER)
    }

    /// # Errors
    /// Class or number out of range, or a reason that is not UTF-8.
    pub fn error_code(&self) -> Result<Option<ErrorCode<'a>>, AttributeError> {
        let attribute = AttributeType::ERROR_CODE;
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        let (&[_, _, class, number], reason) =
            value.split_first_chunk::<4>().ok_or(AttributeError::Length { attribute, len: value.len() })?;
        let class = class & 0x07;
        if !(3..=6).contains(&class) || number > 99 {
            return Err(AttributeError::Value { attribute });
        }
        let reason = core::str::from_utf8(reason).map_err(|_| AttributeError::NotUtf8 { attribute })?;
        Ok(Some(ErrorCode { code: u16::from(class) * 100 + u16::from(number), reason }))
    }

    /// UNKNOWN-ATTRIBUTES (RFC 8489 §14.13).
    pub fn unknown_attributes(&self) -> impl Iterator<Item = AttributeType> + use<'a> {
        let value = self.raw(AttributeType::UNKNOWN_ATTRIBUTES).unwrap_or_default();
        value.as_chunks::<2>().0.iter().map(|pair| AttributeType(u16::from_be_bytes(*pair)))
    }

    /// Candidate priority (RFC 8445 §7.1.1).
    ///
    /// # Errors
    /// Not 4 bytes.
    pub fn priority(&self) -> Result<Option<u32>, AttributeError> {
        Ok(self.array(AttributeType::PRIORITY)?.map(u32::from_be_bytes))
    }

    /// Whether the controlling agent nominates this pair (RFC 8445 §7.1.2).
    #[must_use]
    pub fn use_candidate(&self) -> bool {
        self.has(AttributeType::USE_CANDIDATE)
    }

    /// The tie-breaker of a controlled agent (RFC 8445 §7.1.3).
    ///
    /// # Errors
    /// Not 8 bytes.
    pub fn ice_controlled(&self) -> Result<Option<u64>, AttributeError> {
        Ok(self.array(AttributeType::ICE_CONTROLLED)?.map(u64::from_be_bytes))
    }

    /// The tie-breaker of a controlling agent (RFC 8445 §7.1.3).
    ///
    /// # Errors
    /// Not 8 bytes.
    pub fn ice_controlling(&self) -> Result<Option<u64>, AttributeError> {
        Ok(self.array(AttributeType::ICE_CONTROLLING)?.map(u64::from_be_bytes))
    }

    /// Seconds (RFC 8656 §18.2).
    ///
    /// # Errors
    /// Not 4 bytes.
    pub fn lifetime_s(&self) -> Result<Option<u32>, AttributeError> {
        Ok(self.array(AttributeType::LIFETIME)?.map(u32::from_be_bytes))
    }

    /// The IP protocol number, 17 for UDP (RFC 8656 §18.8).
    ///
    /// # Errors
    /// Not 4 bytes.
    pub fn requested_transport(&self) -> Result<Option<u8>, AttributeError> {
        Ok(self.array::<4>(AttributeType::REQUESTED_TRANSPORT)?.map(|[protocol, ..]| protocol))
    }

    /// RFC 8656 §18.6; an unknown family is an error that the server answers with 440.
    ///
    /// # Errors
    /// Not 4 bytes, or a family that is neither IPv4 nor IPv6.
    pub fn requested_address_family(&self) -> Result<Option<AddressFamily>, AttributeError> {
        self.family(AttributeType::REQUESTED_ADDRESS_FAMILY)
    }

    /// RFC 8656 §18.11.
    ///
    /// # Errors
    /// Not 4 bytes, or a family that is neither IPv4 nor IPv6.
    pub fn additional_address_family(&self) -> Result<Option<AddressFamily>, AttributeError> {
        self.family(AttributeType::ADDITIONAL_ADDRESS_FAMILY)
    }

    /// EVEN-PORT: whether the next higher port is to be reserved as well (RFC 8656 §18.7).
    ///
    /// # Errors
    /// Not 1 byte.
    pub fn even_port(&self) -> Result<Option<bool>, AttributeError> {
        Ok(self.array::<1>(AttributeType::EVEN_PORT)?.map(|[flags]| flags & 0x80 != 0))
    }

    /// # Errors
    /// Not 8 bytes.
    pub fn reservation_token(&self) -> Result<Option<[u8; 8]>, AttributeError> {
        self.array(AttributeType::RESERVATION_TOKEN)
    }

    /// CHANNEL-NUMBER as sent; the valid range is the server's decision (RFC 8656 §18.1).
    ///
    /// # Errors
    /// Not 4 bytes.
    pub fn channel_number(&self) -> Result<Option<u16>, AttributeError> {
        Ok(self.array::<4>(AttributeType::CHANNEL_NUMBER)?.map(|[n0, n1, ..]| u16::from_be_bytes([n0, n1])))
    }

    /// The payload of a Send or Data indication; may be empty (RFC 8656 §18.4).
    #[must_use]
    pub fn data(&self) -> Option<&'a [u8]> {
        self.raw(AttributeType::DATA)
    }

    /// RFC 6062 §6.2.1.
    ///
    /// # Errors
    /// Not 4 bytes.
    pub fn connection_id(&self) -> Result<Option<u32>, AttributeError> {
        Ok(self.array(AttributeType::CONNECTION_ID)?.map(u32::from_be_bytes))
    }

    /// The chosen password algorithm, without parameters (RFC 8489 §14.12): 1 MD5, 2 SHA-256.
    ///
    /// # Errors
    /// Shorter than its own header.
    pub fn password_algorithm(&self) -> Result<Option<u16>, AttributeError> {
        let attribute = AttributeType::PASSWORD_ALGORITHM;
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        let (&[a0, a1, _, _], _) =
            value.split_first_chunk::<4>().ok_or(AttributeError::Length { attribute, len: value.len() })?;
        Ok(Some(u16::from_be_bytes([a0, a1])))
    }

    fn text(&self, attribute: AttributeType, max: usize) -> Result<Option<&'a str>, AttributeError> {
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        if value.len() > max {
            return Err(AttributeError::Length { attribute, len: value.len() });
        }
        core::str::from_utf8(value).map(Some).map_err(|_| AttributeError::NotUtf8 { attribute })
    }

    fn array_ref<const N: usize>(&self, attribute: AttributeType) -> Result<Option<&'a [u8; N]>, AttributeError> {
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        value.try_into().map(Some).map_err(|_| AttributeError::Length { attribute, len: value.len() })
    }

    fn array<const N: usize>(&self, attribute: AttributeType) -> Result<Option<[u8; N]>, AttributeError> {
        Ok(self.array_ref(attribute)?.copied())
    }

    fn family(&self, attribute: AttributeType) -> Result<Option<AddressFamily>, AttributeError> {
        let Some([octet, ..]) = self.array::<4>(attribute)? else { return Ok(None) };
        AddressFamily::from_wire(octet).map(Some).ok_or(AttributeError::Value { attribute })
    }

    fn xor_address(&self, attribute: AttributeType) -> Result<Option<SocketAddr>, AttributeError> {
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        address::decode_xor(value, self.transaction_id()).map(Some).ok_or(AttributeError::Value { attribute })
    }

    fn plain_address(&self, attribute: AttributeType) -> Result<Option<SocketAddr>, AttributeError> {
        let Some(value) = self.raw(attribute) else { return Ok(None) };
        address::decode(value).map(Some).ok_or(AttributeError::Value { attribute })
    }
}
