//! SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966).

use crate::error::UriError;
use crate::scan::decimal;
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Any absolute URI that may stand in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyUri<'a> {
    Sip(SipUri<'a>),
    Tel(TelUri<'a>),
    /// Another scheme, kept as written; as a request URI it is answered with 416.
    Other(&'a str),
}

/// `sip:user:password@host:port;params?headers`, every part as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipUri<'a> {
    text: &'a str,
    pub secure: bool,
    user: Option<&'a str>,
    pub host: Host<'a>,
    pub port: Option<u16>,
    params: &'a str,
    headers: Option<&'a str>,
}

/// `tel:+1-201-555-0123;params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelUri<'a> {
    text: &'a str,
    number: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

impl<'a> AnyUri<'a> {
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let mut letters = scheme.bytes();
        let proper = letters.next().is_some_and(|b| b.is_ascii_alphabetic())
            && letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !proper {
            return Err(UriError::Scheme);
        }
        if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
            return SipUri::parse(text).map(Self::Sip);
        }
        if scheme.eq_ignore_ascii_case("tel") {
            return TelUri::parse(text).map(Self::Tel);
        }
        let visible = |b: u8| (0x21..0x7f).contains(&b) && !b"<>\"".contains(&b);
        if rest.is_empty() || !rest.bytes().all(visible) {
            return Err(UriError::Character);
        }
        Ok(Self::Other(text))
    }

    pub const fn as_str(&self) -> &'a str {
        match self {
            Self::Sip(uri) => uri.text,
            Self::Tel(uri) => uri.text,
            Self::Other(text) => text,
        }
    }

    pub const fn sip(&self) -> Option<&SipUri<'a>> {
        match self {
            Self::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// The telephone number or user name: the user part without its parameters, escapes decoded, or the tel number
    /// without its separators.
    pub fn number(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Sip(uri) => uri.number(),
            Self::Tel(uri) => Some(uri.number()),
            Self::Other(_) => None,
        }
    }
}

impl<'a> SipUri<'a> {
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        let secure = scheme.eq_ignore_ascii_case("sips");
        if !secure && !scheme.eq_ignore_ascii_case("sip") {
            return Err(UriError::Scheme);
        }
        // RFC 3261 §25.1: an '@' is escaped everywhere else, so the only one ends the user part.
        let (user, rest) = match rest.split_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        if let Some(user) = user {
            check_user(user)?;
        }
        let (rest, headers) = match rest.split_once('?') {
            Some((rest, headers)) => (rest, Some(headers)),
            None => (rest, None),
        };
        let (hostport, params) = match rest.find(';') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = Host::parse_with_port(hostport)?;
        check_params(params)?;
        if headers.is_some_and(|text| text.is_empty() || !escaped(text, b"[]/?:+$-_.!~*'()=&")) {
            return Err(UriError::Character);
        }
        Ok(Self { text, secure, user, host, port, params, headers })
    }

    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The user part as written, with its parameters, without the password.
    pub fn user(&self) -> Option<&'a str> {
        self.user.map(|user| user.split_once(':').map_or(user, |(name, _password)| name))
    }

    /// The user part up to its first parameter, decoded; `None` without one or if its escapes are not UTF-8.
    pub fn number(&self) -> Option<Cow<'a, str>> {
        let user = self.user()?;
        let user = user.split_once(';').map_or(user, |(name, _)| name);
        decode(user)
    }

    /// A URI parameter: `Some(None)` for a flag.
    pub fn param(&self, name: &str) -> Option<Option<&'a str>> {
        self.params.split(';').skip(1).find_map(|param| {
            let (key, value) = match param.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (param, None),
            };
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The header part behind `?`, as written.
    pub const fn headers(&self) -> Option<&'a str> {
        self.headers
    }

    /// A loose router (RFC 3261 §16.12.1.1).
    pub fn is_loose_router(&self) -> bool {
        self.param("lr").is_some()
    }
}

impl<'a> TelUri<'a> {
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("tel") {
            return Err(UriError::Scheme);
        }
        let (number, params) = match rest.find(';') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        // RFC 3966 §3: a global number is digits and separators, a local one also hexadecimal digits, '*' and '#'.
        let digits = number.strip_prefix('+').unwrap_or(number);
        let global = number.len() != digits.len();
        let allowed = |b: u8| {
            b.is_ascii_digit() || b"-.()".contains(&b) || (!global && (b.is_ascii_hexdigit() || b"*#".contains(&b)))
        };
        if !digits.bytes().all(allowed) || !digits.bytes().any(|b| b.is_ascii_alphanumeric() || b"*#".contains(&b)) {
            return Err(UriError::Number);
        }
        check_params(params)?;
        Ok(Self { text, number })
    }

    /// The number with its `+` and without separators.
    pub fn number(&self) -> Cow<'a, str> {
        if self.number.contains(['-', '.', '(', ')']) {
            Cow::Owned(self.number.replace(['-', '.', '(', ')'], ""))
        } else {
            Cow::Borrowed(self.number)
        }
    }
}

impl<'a> Host<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, UriError> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| UriError::Host);
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        // Underscores are no host name by the book, but operators' internal names have them.
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        if text.len() > 255 || !name.split('.').all(label) {
            return Err(UriError::Host);
        }
        Ok(Self::Name(text))
    }

    pub(crate) fn parse_with_port(text: &'a str) -> Result<(Self, Option<u16>), UriError> {
        let after_bracket = text.find(']').map_or(0, |at| at + 1);
        match text.get(after_bracket..).and_then(|rest| rest.find(':')) {
            None => Ok((Self::parse(text)?, None)),
            Some(at) => {
                let (host, port) = text.split_at(after_bracket + at);
                let port = port.strip_prefix(':').and_then(decimal).filter(|&port: &u16| port > 0);
                Ok((Self::parse(host)?, Some(port.ok_or(UriError::Port)?)))
            }
        }
    }

    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// `user[:password]` (RFC 3261 §25.1). A bare `#` is let through: phones write feature codes so.
fn check_user(user: &str) -> Result<(), UriError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let fits = !name.is_empty() && escaped(name, b"-_.!~*'()&=+$,;?/#") && escaped(password, b"-_.!~*'()&=+$,");
    if fits { Ok(()) } else { Err(UriError::User) }
}

/// `;name[=value]…` of a URI.
fn check_params(params: &str) -> Result<(), UriError> {
    let fits = params.split(';').skip(1).all(|param| {
        let (name, value) = param.split_once('=').unwrap_or((param, "x"));
        let part = |text: &str| !text.is_empty() && escaped(text, b"[]/:&+$-_.!~*'()`");
        part(name) && part(value)
    });
    if fits { Ok(()) } else { Err(UriError::Params) }
}

/// Letters, digits, `extra`, and proper `%hh` escapes.
fn escaped(text: &str, extra: &[u8]) -> bool {
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let fits = match b {
            b'%' => [bytes.next(), bytes.next()].iter().all(|hex| hex.is_some_and(|b| b.is_ascii_hexdigit())),
            _ => b.is_ascii_alphanumeric() || extra.contains(&b),
        };
        if !fits {
            return false;
        }
    }
    true
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push((high << 4) | low);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip(text: &str) -> SipUri<'_> {
        SipUri::parse(text).unwrap()
    }

    #[test]
    fn all_parts_are_found() {
        let uri = sip("sips:+1%2D555;npdi:secret@[2001:db8::1]:5070;transport=tcp;lr?Subject=x");
        assert!(uri.secure && uri.is_loose_router());
        assert_eq!(uri.user(), Some("+1%2D555;npdi"));
        assert_eq!(uri.number().unwrap(), "+1-555");
        assert_eq!((uri.host.ip(), uri.port), ("2001:db8::1".parse().ok(), Some(5070)));
        assert_eq!((uri.param("TRANSPORT"), uri.param("lr"), uri.param("x")), (Some(Some("tcp")), Some(None), None));
        assert_eq!(uri.headers(), Some("Subject=x"));
        assert_eq!(sip("sip:example.com").user(), None);
    }

    #[test]
    fn a_colon_after_an_unbracketed_v6_host_is_refused() {
        // RFC 5118 §4.2 and §4.10.
        assert_eq!(SipUri::parse("sip:2001:db8::10"), Err(UriError::Port));
        assert_eq!(SipUri::parse("sip:[2001:db8:::192.0.2.1]"), Err(UriError::Host));
        // RFC 5118 §4.3: inside the brackets it is part of the address.
        assert_eq!(sip("sip:[2001:db8::10:5070]").port, None);
        assert!(sip("sip:user@[::ffff:192.0.2.10]:19823").host.ip().is_some());
    }

    #[test]
    fn broken_uris_are_refused_by_name() {
        for (text, error) in [
            ("example.com", UriError::Scheme),
            ("1sip:x", UriError::Scheme),
            ("sip:", UriError::Host),
            ("sip:@host", UriError::User),
            ("sip:a b@host", UriError::User),
            ("sip:a%zz@host", UriError::User),
            ("sip:a%4", UriError::Host),
            ("sip:host:", UriError::Port),
            ("sip:host:0", UriError::Port),
            ("sip:host:65536", UriError::Port),
            ("sip:host;;lr", UriError::Params),
            ("sip:host;x=", UriError::Params),
            ("sip:host?", UriError::Character),
            ("sip:a@b@c", UriError::Host),
            ("sip:-.-..", UriError::Host),
            ("tel:", UriError::Number),
            ("tel:+12a", UriError::Number),
            ("tel:+", UriError::Number),
            ("http:a\"b", UriError::Character),
        ] {
            assert_eq!(AnyUri::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn telephone_numbers_lose_their_separators() {
        assert_eq!(AnyUri::parse("tel:+1-201-555.0123;ext=9").unwrap().number().unwrap(), "+12015550123");
        assert_eq!(AnyUri::parse("tel:*43#;phone-context=a.example").unwrap().number().unwrap(), "*43#");
        assert_eq!(AnyUri::parse("isbn:2983792873").unwrap().number(), None);
    }
}
