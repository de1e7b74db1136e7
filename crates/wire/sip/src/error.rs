//! Why a message was refused, and with which response.

use crate::header::Name;
use crate::message::{MAX_BYTES, MAX_HEADERS, MAX_LINE_BYTES, MAX_VALUES};

/// One refusal per cause. Malformed responses have no answer and are dropped; requests get [`Self::response_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("only line ends: a keep-alive (RFC 5626 §3.5.1)")]
    KeepAlive,
    #[error("the message is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("a line is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
    #[error("more than {MAX_VALUES} values of {0}")]
    TooManyValues(Name),
    #[error("no empty line ends the headers")]
    NoEndOfHeaders,
    #[error("a line ends in something else than CRLF")]
    BareLineEnd,
    #[error("a control character stands in the headers")]
    ControlCharacter,
    #[error("the headers are not UTF-8 text")]
    NotUtf8,
    #[error("the request line is malformed (RFC 3261 §7.1)")]
    RequestLine,
    #[error("the request URI is malformed: {0}")]
    RequestUri(UriError),
    #[error("the request URI carries header fields (RFC 3261 §19.1.1)")]
    RequestUriWithHeaders,
    #[error("the status line is malformed (RFC 3261 §7.2)")]
    StatusLine,
    #[error("the version is not SIP/2.0")]
    Version,
    #[error("a header line has no proper name")]
    HeaderName,
    #[error("the {0} header is missing")]
    Missing(Name),
    #[error("the {0} header stands more than once")]
    Duplicate(Name),
    #[error("the {0} header is malformed")]
    Malformed(Name),
    #[error("the {0} header has an unbalanced quote")]
    UnbalancedQuote(Name),
    #[error("the {0} header has a malformed URI: {1}")]
    HeaderUri(Name, UriError),
    #[error("the {0} header's number is out of range")]
    NumberRange(Name),
    #[error("Content-Length is larger than what follows the headers")]
    ContentLengthBeyondBody,
    #[error("CSeq names another method than the request line")]
    MethodMismatch,
}

impl ParseError {
    /// The response to a request refused so (RFC 3261 §21).
    pub const fn response_code(&self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TooLarge | Self::LineTooLong => 513,
            _ => 400,
        }
    }
}

/// Why a URI was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    #[error("no scheme")]
    Scheme,
    #[error("a character that must be escaped, or a broken escape")]
    Character,
    #[error("the user part is malformed")]
    User,
    #[error("the host is malformed")]
    Host,
    #[error("the port is malformed")]
    Port,
    #[error("the parameters are malformed")]
    Params,
    #[error("the number is malformed")]
    Number,
}
