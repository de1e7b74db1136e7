//! The table of attribute types and the walk over raw attributes.

use core::fmt;

/// A 16-bit attribute type; unknown ones stay representable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttributeType(pub u16);

macro_rules! attribute_types {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl AttributeType {
            $(pub const $name: Self = Self($value);)*

            /// Its name in the registry, if this crate knows it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

attribute_types! {
    // RFC 8489 §14, comprehension-required
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS";
    USERNAME = 0x0006, "USERNAME";
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY";
    ERROR_CODE = 0x0009, "ERROR-CODE";
    UNKNOWN_ATTRIBUTES = 0x000A, "UNKNOWN-ATTRIBUTES";
    REALM = 0x0014, "REALM";
    NONCE = 0x0015, "NONCE";
    MESSAGE_INTEGRITY_SHA256 = 0x001C, "MESSAGE-INTEGRITY-SHA256";
    PASSWORD_ALGORITHM = 0x001D, "PASSWORD-ALGORITHM";
    USERHASH = 0x001E, "USERHASH";
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS";
    // RFC 8656 §18, comprehension-required
    CHANNEL_NUMBER = 0x000C, "CHANNEL-NUMBER";
    LIFETIME = 0x000D, "LIFETIME";
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS";
    DATA = 0x0013, "DATA";
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS";
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY";
    EVEN_PORT = 0x0018, "EVEN-PORT";
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT";
    DONT_FRAGMENT = 0x001A, "DONT-FRAGMENT";
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN";
    // RFC 8445 §16.1
    PRIORITY = 0x0024, "PRIORITY";
    USE_CANDIDATE = 0x0025, "USE-CANDIDATE";
    // RFC 5780 §7, RFC 7635 §6.2, RFC 6062 §6.2
    CHANGE_REQUEST = 0x0003, "CHANGE-REQUEST";
    PADDING = 0x0026, "PADDING";
    RESPONSE_PORT = 0x0027, "RESPONSE-PORT";
    ACCESS_TOKEN = 0x001B, "ACCESS-TOKEN";
    CONNECTION_ID = 0x002A, "CONNECTION-ID";
    // comprehension-optional: RFC 8656 §18
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY";
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE";
    ICMP = 0x8004, "ICMP";
    // RFC 8489 §14
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS";
    ALTERNATE_DOMAIN = 0x8003, "ALTERNATE-DOMAIN";
    SOFTWARE = 0x8022, "SOFTWARE";
    ALTERNATE_SERVER = 0x8023, "ALTERNATE-SERVER";
    FINGERPRINT = 0x8028, "FINGERPRINT";
    // RFC 8445 §16.1
    ICE_CONTROLLED = 0x8029, "ICE-CONTROLLED";
    ICE_CONTROLLING = 0x802A, "ICE-CONTROLLING";
    // RFC 5780 §7, RFC 8016 §3
    RESPONSE_ORIGIN = 0x802B, "RESPONSE-ORIGIN";
    OTHER_ADDRESS = 0x802C, "OTHER-ADDRESS";
    MOBILITY_TICKET = 0x8030, "MOBILITY-TICKET";
}

impl AttributeType {
    /// The required attributes an ICE agent understands in a Binding request (RFC 8445 §7.1).
    pub const KNOWN_TO_ICE: &'static [Self] =
        &[Self::USERNAME, Self::MESSAGE_INTEGRITY, Self::MESSAGE_INTEGRITY_SHA256, Self::PRIORITY, Self::USE_CANDIDATE];

    /// RFC 8489 §14: types below 0x8000 must be understood or the request is refused with 420.
    #[must_use]
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The family octet of REQUESTED-ADDRESS-FAMILY and of every address (RFC 8489 §14.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AddressFamily {
    V4,
    V6,
}

impl AddressFamily {
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Self::V4 => 0x01,
            Self::V6 => 0x02,
        }
    }

    #[must_use]
    pub const fn from_wire(octet: u8) -> Option<Self> {
        match octet {
            0x01 => Some(Self::V4),
            0x02 => Some(Self::V6),
            _ => None,
        }
    }
}

/// One attribute as it stands in the message, padding left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawAttribute<'a> {
    pub attribute: AttributeType,
    pub value: &'a [u8],
}

/// Where an attribute began, the attribute itself, and the bytes behind its padding.
pub(crate) struct Step<'a> {
    pub raw: RawAttribute<'a>,
    pub rest: &'a [u8],
}

/// Takes one attribute off the front; `None` if header, value or padding (RFC 8489 §14) reach past the end.
pub(crate) fn split_first(body: &[u8]) -> Option<Step<'_>> {
    let (header, rest) = body.split_first_chunk::<4>()?;
    let [t0, t1, l0, l1] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let padded = len.next_multiple_of(4);
    let value = rest.get(..len)?;
    let rest = rest.get(padded..)?;
    Some(Step { raw: RawAttribute { attribute: AttributeType(u16::from_be_bytes([t0, t1])), value }, rest })
}

/// The attributes that count, in order (see [`crate::Message::attributes`]).
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) gate: Gate,
}

/// How far the integrity attributes have closed the message (RFC 8489 §14.5 and §14.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Gate {
    Open,
    AfterSha1,
    AfterSha256,
}

impl Gate {
    /// Whether `attribute` counts when met in this state, and the state behind it.
    pub(crate) const fn admit(self, attribute: AttributeType) -> (bool, Self) {
        match (self, attribute) {
            (Self::Open, AttributeType::MESSAGE_INTEGRITY) => (true, Self::AfterSha1),
            (Self::Open | Self::AfterSha1, AttributeType::MESSAGE_INTEGRITY_SHA256) => (true, Self::AfterSha256),
            (Self::Open, _) | (_, AttributeType::FINGERPRINT) => (true, self),
            (Self::AfterSha1 | Self::AfterSha256, _) => (false, self),
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let step = split_first(self.rest)?;
            self.rest = step.rest;
            let (counts, gate) = self.gate.admit(step.raw.attribute);
            self.gate = gate;
            if counts {
                return Some(step.raw);
            }
        }
    }
}
