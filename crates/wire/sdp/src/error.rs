//! Why a session description was refused.

use crate::lines::{MAX_BYTES, MAX_LINE_BYTES, MAX_LINES, MAX_MEDIA};

/// One refusal per cause; the text names what an operator can look for in the description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("the description has {bytes} bytes, more than {MAX_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the description has more than {MAX_LINES} lines")]
    TooManyLines,
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong { line: usize },
    #[error("the description has more than {MAX_MEDIA} m= lines")]
    TooManyMedia,
    #[error("line {line} holds a control character")]
    ControlCharacter { line: usize },
    #[error("line {line} is not of the form letter=value")]
    NotALine { line: usize },
    #[error("the description is not UTF-8 text")]
    NotText,
    #[error("the description does not begin with v=")]
    MissingVersion,
    #[error("only version 0 is known (RFC 8866 §5.1)")]
    UnsupportedVersion,
    #[error("the {0}= line is missing")]
    MissingLine(char),
    #[error("the {0}= line is malformed")]
    MalformedLine(char),
    #[error("the {0} attribute is missing")]
    MissingAttribute(&'static str),
    #[error("the {0} attribute is malformed")]
    MalformedAttribute(&'static str),
    #[error("the {0} attribute stands twice with different values")]
    ConflictingAttribute(&'static str),
    #[error("more than {limit} of {what} in one m= line")]
    TooMany { what: &'static str, limit: usize },
    #[error("no sha-256 fingerprint (other hashes are not accepted)")]
    NoSha256Fingerprint,
    #[error("the other side insists on being the DTLS server; so are we (RFC 8842 §5.3)")]
    SetupPassive,
    #[error("the offer does not bundle its lines (RFC 9143)")]
    NotBundled,
    #[error("the bundle group names {0}, which no m= line has")]
    UnknownMid(String),
    #[error("two m= lines have the mid {0}")]
    DuplicateMid(String),
    #[error("there is no m= line")]
    NoMedia,
}
