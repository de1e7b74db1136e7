//! Writing messages. A value with a line break is refused, so nothing taken from outside can add a header.

use crate::header::Name;
use crate::message::{MAX_BYTES, Message};
use crate::method::Method;
use crate::scan::{is_token, unfold};
use crate::uri::AnyUri;
use std::fmt::Write;
use std::net::SocketAddr;

/// Why a message could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("the request URI cannot be written")]
    Uri,
    #[error("the value of {0} holds a line break or another control character")]
    Control(String),
    #[error("{0:?} is no header name")]
    HeaderName(String),
    #[error("the status code {0} does not exist")]
    Code(u16),
    #[error("the message would be larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Lines being collected; the first fault is kept and told at the end.
#[derive(Debug, Clone)]
struct Lines {
    text: String,
    fault: Option<BuildError>,
}

impl Lines {
    fn header(&mut self, name: &str, value: &str) {
        if !is_token(name) {
            self.fault.get_or_insert(BuildError::HeaderName(name.chars().take(32).collect()));
        }
        if !is_writable(value) {
            self.fault.get_or_insert(BuildError::Control(name.chars().take(32).collect()));
        }
        // Writing into a String cannot fail.
        let _ = write!(self.text, "{name}: {value}\r\n");
    }

    fn finish(mut self, body: Option<(&str, &[u8])>) -> Result<Vec<u8>, BuildError> {
        if let Some((content_type, _)) = body {
            self.header("Content-Type", content_type);
        }
        let body = body.map_or(&[][..], |(_, body)| body);
        let _ = write!(self.text, "Content-Length: {}\r\n\r\n", body.len());
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut bytes = self.text.into_bytes();
        bytes.extend_from_slice(body);
        if bytes.len() > MAX_BYTES { Err(BuildError::TooLarge) } else { Ok(bytes) }
    }
}

/// No control characters, except those that a backslash admits into a quoted string we pass on.
fn is_writable(value: &str) -> bool {
    let mut escaped = false;
    value.bytes().all(|b| {
        let fits = b == b'\t' || !b.is_ascii_control() || (escaped && b != b'\r' && b != b'\n');
        escaped = b == b'\\' && !escaped;
        fits
    })
}

/// A request.
#[derive(Debug, Clone)]
pub struct RequestBuilder {
    lines: Lines,
}

impl RequestBuilder {
    /// `uri` is checked.
    pub fn new(method: &Method, uri: &str) -> Self {
        let fault = AnyUri::parse(uri).is_err().then_some(BuildError::Uri);
        let method_fault = (!is_token(method.as_str())).then_some(BuildError::Uri);
        Self { lines: Lines { text: format!("{method} {uri} SIP/2.0\r\n"), fault: fault.or(method_fault) } }
    }

    #[must_use]
    pub fn header(mut self, name: Name, value: impl AsRef<str>) -> Self {
        self.lines.header(name.as_str(), value.as_ref());
        self
    }

    /// A header by its name as text.
    #[must_use]
    pub fn other(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.lines.header(name, value.as_ref());
        self
    }

    /// One line for each value.
    #[must_use]
    pub fn each<T: AsRef<str>>(mut self, name: Name, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().for_each(|value| self.lines.header(name.as_str(), value.as_ref()));
        self
    }

    /// The bytes, without a body.
    pub fn to_bytes(self) -> Result<Vec<u8>, BuildError> {
        self.lines.finish(None)
    }

    /// The bytes with a body; Content-Type and Content-Length are written here.
    pub fn to_bytes_with(self, content_type: &str, body: &[u8]) -> Result<Vec<u8>, BuildError> {
        self.lines.finish(Some((content_type, body)))
    }
}

/// A response.
#[derive(Debug, Clone)]
pub struct ResponseBuilder {
    lines: Lines,
}

impl ResponseBuilder {
    /// A response with nothing but its status line.
    pub fn bare(code: u16, reason: &str) -> Self {
        let fault = match code {
            100..700 if is_writable(reason) => None,
            100..700 => Some(BuildError::Control("reason phrase".to_owned())),
            _ => Some(BuildError::Code(code)),
        };
        Self { lines: Lines { text: format!("SIP/2.0 {code} {reason}\r\n"), fault } }
    }

    /// The response `code` to `request`, which came from `source`: copies Via, From, To, Call-ID and CSeq (RFC 3261 §8.2.6),
    /// and Record-Route where a dialog may begin (§12.1.1). `to_tag` is added if To has no tag and the response is not 100.
    pub fn answering(request: &Message<'_>, code: u16, source: SocketAddr, to_tag: &str) -> Self {
        let mut builder = Self::bare(code, reason_phrase(code));
        let lines = &mut builder.lines;
        lines.header(Name::Via.as_str(), &request.via().echoed_from(source));
        let vias = request.values(Name::Via).skip(1);
        vias.for_each(|value| lines.header(Name::Via.as_str(), &unfold(value)));
        if (101..300).contains(&code) {
            let routes = request.values(Name::RecordRoute);
            routes.for_each(|value| lines.header(Name::RecordRoute.as_str(), &unfold(value)));
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            let mut value = unfold(request.header(name).unwrap_or_default()).into_owned();
            if name == Name::To && code > 100 && request.to().tag().is_none() {
                let _ = write!(value, ";tag={to_tag}");
            }
            lines.header(name.as_str(), &value);
        }
        // RFC 3261 §8.2.6.1: only 100 carries it back.
        if let Some(stamp) = request.header(Name::Timestamp).filter(|_| code == 100) {
            lines.header(Name::Timestamp.as_str(), &unfold(stamp));
        }
        builder
    }

    #[must_use]
    pub fn header(mut self, name: Name, value: impl AsRef<str>) -> Self {
        self.lines.header(name.as_str(), value.as_ref());
        self
    }

    /// A header by its name as text.
    #[must_use]
    pub fn other(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.lines.header(name, value.as_ref());
        self
    }

    /// The bytes, without a body.
    pub fn to_bytes(self) -> Result<Vec<u8>, BuildError> {
        self.lines.finish(None)
    }

    /// The bytes with a body; Content-Type and Content-Length are written here.
    pub fn to_bytes_with(self, content_type: &str, body: &[u8]) -> Result<Vec<u8>, BuildError> {
        self.lines.finish(Some((content_type, body)))
    }
}

/// The usual words behind a status code (RFC 3261 §21 and its extensions).
pub const fn reason_phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        _ => "Unknown",
    }
}
