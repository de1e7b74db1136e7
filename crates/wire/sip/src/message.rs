//! A whole message, parsed once into a borrowed view (RFC 3261 §7).

use crate::auth::AuthParams;
use crate::error::ParseError;
use crate::header::{Header, Name};
use crate::method::Method;
use crate::name_addr::{NameAddr, NameAddrError};
use crate::params::ParamError;
use crate::reason::Reason;
use crate::scan::{Unbalanced, Values, decimal, is_token, trim, words};
use crate::uri::AnyUri;
use crate::via::Via;

/// A UDP datagram cannot carry more (RFC 3261 §18.1.1 asks for all of it).
pub const MAX_BYTES: usize = 65_535;
/// One line, folds included.
pub const MAX_LINE_BYTES: usize = 8 * 1024;
/// Header lines in one message.
pub const MAX_HEADERS: usize = 128;
/// Values of one kind of address header (Via, Contact, Route, Record-Route).
pub const MAX_VALUES: usize = 128;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartLine<'a> {
    Request { method: Method, uri: AnyUri<'a> },
    Response { code: u16, reason: &'a str },
}

/// `CSeq: 1 INVITE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CSeq {
    pub number: u32,
    pub method: Method,
}

/// A checked message. All mandatory headers are there, and every header read by an accessor that returns no `Option` or
/// `Result` was checked.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    start: StartLine<'a>,
    headers: Vec<Header<'a>>,
    via: Via<'a>,
    vias: Vec<Via<'a>>,
    from: NameAddr<'a>,
    to: NameAddr<'a>,
    call_id: &'a str,
    cseq: CSeq,
    contacts: Vec<NameAddr<'a>>,
    contact_star: bool,
    routes: Vec<NameAddr<'a>>,
    record_routes: Vec<NameAddr<'a>>,
    max_forwards: Option<u8>,
    expires: Option<u32>,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads one datagram. What follows the body that Content-Length announces is ignored (RFC 3261 §18.3).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (head, rest) = crate::message::cut(bytes)?;
        let (first, lines) = head.split_once("\r\n").unwrap_or((head, ""));
        let start = parse_start(first)?;
        let headers = parse_headers(lines)?;
        Self::check(start, headers, rest)
    }

    fn check(start: StartLine<'a>, headers: Vec<Header<'a>>, rest: &'a [u8]) -> Result<Self, ParseError> {
        let one = |name| single(&headers, name);
        let required = |name| one(name)?.ok_or(ParseError::Missing(name));
        let vias = parse_vias(&headers)?;
        let via = *vias.first().ok_or(ParseError::Missing(Name::Via))?;
        let address = |name| NameAddr::parse(required(name)?).map_err(|error| address_error(name, error));
        let (from, to) = (address(Name::From)?, address(Name::To)?);
        let call_id = required(Name::CallId)?;
        if !is_call_id(call_id) {
            return Err(ParseError::Malformed(Name::CallId));
        }
        let cseq = parse_cseq(required(Name::CSeq)?)?;
        if let StartLine::Request { method, .. } = &start
            && *method != cseq.method
        {
            return Err(ParseError::MethodMismatch);
        }
        let (contacts, contact_star) = parse_contacts(&headers)?;
        check_rest(&headers)?;
        Ok(Self {
            start,
            via,
            vias,
            from,
            to,
            call_id,
            cseq,
            contacts,
            contact_star,
            routes: parse_addresses(&headers, Name::Route)?,
            record_routes: parse_addresses(&headers, Name::RecordRoute)?,
            max_forwards: number(one(Name::MaxForwards)?, Name::MaxForwards)?,
            expires: number(one(Name::Expires)?, Name::Expires)?,
            body: body(one(Name::ContentLength)?, rest)?,
            headers,
        })
    }

    pub const fn start(&self) -> &StartLine<'a> {
        &self.start
    }

    /// The request's method, or the method of the request that a response answers.
    pub const fn method(&self) -> &Method {
        &self.cseq.method
    }

    pub const fn request_uri(&self) -> Option<&AnyUri<'a>> {
        match &self.start {
            StartLine::Request { uri, .. } => Some(uri),
            StartLine::Response { .. } => None,
        }
    }

    /// The status code of a response.
    pub const fn code(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { code, .. } => Some(code),
        }
    }

    pub const fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    pub fn headers(&self) -> &[Header<'a>] {
        &self.headers
    }

    /// The first line of `name`, as written (folds and all).
    pub fn header(&self, name: Name) -> Option<&'a str> {
        self.lines(name).next()
    }

    /// All lines of `name`.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &'a str> + '_ {
        lines_of(&self.headers, name)
    }

    /// All values of `name` over all its lines, without empty ones.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a str> + '_ {
        self.lines(name).flat_map(Values::new).filter_map(Result::ok).filter(|value| !value.is_empty())
    }

    /// Whether the list header `name` holds `token` (option tags and methods).
    pub fn lists(&self, name: Name, token: &str) -> bool {
        self.values(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The topmost Via.
    pub const fn via(&self) -> &Via<'a> {
        &self.via
    }

    pub fn vias(&self) -> &[Via<'a>] {
        &self.vias
    }

    pub const fn from(&self) -> &NameAddr<'a> {
        &self.from
    }

    pub const fn to(&self) -> &NameAddr<'a> {
        &self.to
    }

    pub const fn call_id(&self) -> &'a str {
        self.call_id
    }

    pub const fn cseq(&self) -> &CSeq {
        &self.cseq
    }

    pub fn contacts(&self) -> &[NameAddr<'a>] {
        &self.contacts
    }

    /// `Contact: *` (RFC 3261 §10.2.2).
    pub const fn contact_star(&self) -> bool {
        self.contact_star
    }

    pub fn routes(&self) -> &[NameAddr<'a>] {
        &self.routes
    }

    pub fn record_routes(&self) -> &[NameAddr<'a>] {
        &self.record_routes
    }

    pub const fn max_forwards(&self) -> Option<u8> {
        self.max_forwards
    }

    pub const fn expires(&self) -> Option<u32> {
        self.expires
    }

    pub fn min_expires(&self) -> Option<u32> {
        self.header(Name::MinExpires).and_then(decimal)
    }

    /// Seconds of Retry-After, without its comment and parameters.
    pub fn retry_after_s(&self) -> Option<u32> {
        let text = self.header(Name::RetryAfter)?;
        decimal(text.split(|c: char| !c.is_ascii_digit()).next()?)
    }

    /// Addresses of a header that is not checked beforehand (P-Asserted-Identity, Diversion, …); malformed ones are left out.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = NameAddr<'a>> + '_ {
        self.values(name).filter_map(NameAddr::from_text)
    }

    /// Challenges or credentials of `name`, one a line; malformed ones are left out.
    pub fn auth(&self, name: Name) -> impl Iterator<Item = AuthParams<'a>> + '_ {
        self.lines(name).filter_map(|line| AuthParams::parse(line).ok())
    }

    pub fn reasons(&self) -> impl Iterator<Item = Reason<'a>> + '_ {
        self.values(Name::Reason).filter_map(|value| Reason::parse(value).ok())
    }

    /// Whether the body is of the type `main/sub`.
    pub fn has_content_type(&self, wanted: &str) -> bool {
        let Some(text) = self.header(Name::ContentType) else { return false };
        let full = text.split(';').next().unwrap_or_default();
        let mut parts = full.splitn(2, '/').map(trim);
        let mut wanted = wanted.splitn(2, '/');
        let mut same = || matches!((parts.next(), wanted.next()), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        same() && same()
    }

    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The body, if it is a session description.
    pub fn sdp(&self) -> Option<&'a [u8]> {
        (!self.body.is_empty() && self.has_content_type("application/sdp")).then_some(self.body)
    }
}

/// Cuts a datagram into its head (start line and headers, checked for line ends and size) and what follows.
fn cut(bytes: &[u8]) -> Result<(&str, &[u8]), ParseError> {
    if bytes.len() > MAX_BYTES {
        return Err(ParseError::TooLarge);
    }
    let mut start = bytes;
    // RFC 3261 §7.5: empty lines before the start line are skipped.
    while let Some(rest) = start.strip_prefix(b"\r\n") {
        start = rest;
    }
    if start.is_empty() {
        return Err(ParseError::KeepAlive);
    }
    let end = start.windows(4).position(|four| four == b"\r\n\r\n");
    let head = end.map_or(start, |end| start.split_at(end).0);
    let mut length = 0;
    for (i, &b) in head.iter().enumerate() {
        length = if b == b'\n' { 0 } else { length + 1 };
        if length > MAX_LINE_BYTES {
            return Err(ParseError::LineTooLong);
        }
        let next_is_lf = head.get(i + 1) == Some(&b'\n');
        let after_cr = i.checked_sub(1).and_then(|before| head.get(before)) == Some(&b'\r');
        if (b == b'\r' && !next_is_lf && i + 1 < head.len()) || (b == b'\n' && !after_cr) {
            return Err(ParseError::BareLineEnd);
        }
    }
    let end = end.ok_or(ParseError::NoEndOfHeaders)?;
    let head = std::str::from_utf8(head).map_err(|_| ParseError::NotUtf8)?;
    Ok((head, start.get(end + 4..).unwrap_or_default()))
}

fn parse_start(line: &str) -> Result<StartLine<'_>, ParseError> {
    if line.bytes().any(|b| b.is_ascii_control()) {
        return Err(ParseError::ControlCharacter);
    }
    let is_version = |word: &str| word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
    if is_version(line) {
        return parse_status(line);
    }
    // RFC 3261 §7.1: exactly one blank between the parts, none at the end.
    let mut parts = line.split(' ');
    let (Some(method), Some(uri), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(ParseError::RequestLine);
    };
    let method = Method::parse(method).ok_or(ParseError::RequestLine)?;
    if !is_version(version) {
        return Err(ParseError::RequestLine);
    }
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseError::Version);
    }
    let uri = AnyUri::parse(uri).map_err(ParseError::RequestUri)?;
    if uri.sip().is_some_and(|uri| uri.headers().is_some()) {
        return Err(ParseError::RequestUriWithHeaders);
    }
    Ok(StartLine::Request { method, uri })
}

fn parse_status(line: &str) -> Result<StartLine<'_>, ParseError> {
    let (version, rest) = line.split_once(' ').ok_or(ParseError::StatusLine)?;
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err(ParseError::Version);
    }
    // The blank before an empty reason is often forgotten; nothing can be mistaken without it.
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let code = decimal(code).filter(|number| code.len() == 3 && (100..700).contains(number));
    Ok(StartLine::Response { code: code.ok_or(ParseError::StatusLine)?, reason })
}

fn parse_headers(text: &str) -> Result<Vec<Header<'_>>, ParseError> {
    let mut headers = Vec::with_capacity(16);
    let mut rest = text;
    while !rest.is_empty() {
        let (line, next) = cut_folded(rest);
        rest = next;
        if line.len() > MAX_LINE_BYTES {
            return Err(ParseError::LineTooLong);
        }
        if headers.len() == MAX_HEADERS {
            return Err(ParseError::TooManyHeaders);
        }
        let (written, raw) = line.split_once(':').ok_or(ParseError::HeaderName)?;
        let written = written.trim_end_matches([' ', '\t']);
        if !is_token(written) {
            return Err(ParseError::HeaderName);
        }
        let header = Header { name: Name::parse(written), written, raw: trim(raw) };
        check_controls(&header)?;
        headers.push(header);
    }
    Ok(headers)
}

/// One header line with the lines folded to it, and the rest.
fn cut_folded(text: &str) -> (&str, &str) {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("\r\n")) {
        let (end, next) = (from + at, from + at + 2);
        match text.as_bytes().get(next) {
            Some(b' ' | b'\t') => from = next,
            _ => return (text.get(..end).unwrap_or_default(), text.get(next..).unwrap_or_default()),
        }
    }
    (text, "")
}

/// No control characters but tabs and folds; inside a quoted string a backslash admits them (RFC 3261 §25.1 `quoted-pair`).
fn check_controls(header: &Header<'_>) -> Result<(), ParseError> {
    // The words of a Call-ID may hold lone quotes.
    let quotes = header.name != Name::CallId && header.name != Name::Other;
    let (mut quoted, mut escaped) = (false, false);
    for b in header.raw.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'"' if quotes => quoted = !quoted,
            b'\\' if quoted => escaped = true,
            b'\t' | b'\r' | b'\n' => {}
            0x00..0x20 | 0x7f => return Err(ParseError::ControlCharacter),
            _ => {}
        }
    }
    Ok(())
}

fn lines_of<'s, 'a: 's>(headers: &'s [Header<'a>], name: Name) -> impl Iterator<Item = &'a str> + 's {
    headers.iter().filter(move |header| header.name == name).map(|header| header.raw)
}

fn single<'a>(headers: &[Header<'a>], name: Name) -> Result<Option<&'a str>, ParseError> {
    let mut lines = lines_of(headers, name);
    let found = lines.next();
    if lines.next().is_some() { Err(ParseError::Duplicate(name)) } else { Ok(found) }
}

/// All values of `name`, none of them empty, each read by `read`.
fn list<'a, T>(
    headers: &[Header<'a>],
    name: Name,
    mut read: impl FnMut(&'a str) -> Result<T, ParseError>,
) -> Result<Vec<T>, ParseError> {
    let mut values = Vec::new();
    for value in lines_of(headers, name).flat_map(Values::new) {
        let value = value.map_err(|Unbalanced| ParseError::UnbalancedQuote(name))?;
        if value.is_empty() {
            return Err(ParseError::Malformed(name));
        }
        if values.len() == MAX_VALUES {
            return Err(ParseError::TooManyValues(name));
        }
        values.push(read(value)?);
    }
    Ok(values)
}

fn parse_vias<'a>(headers: &[Header<'a>]) -> Result<Vec<Via<'a>>, ParseError> {
    list(headers, Name::Via, |value| Via::parse(value).map_err(|error| param_error(Name::Via, error)))
}

fn parse_addresses<'a>(headers: &[Header<'a>], name: Name) -> Result<Vec<NameAddr<'a>>, ParseError> {
    list(headers, name, |value| NameAddr::parse(value).map_err(|error| address_error(name, error)))
}

fn parse_contacts<'a>(headers: &[Header<'a>]) -> Result<(Vec<NameAddr<'a>>, bool), ParseError> {
    let mut lines = lines_of(headers, Name::Contact);
    if lines_of(headers, Name::Contact).any(|line| line == "*") {
        let alone = lines.nth(1).is_none();
        return if alone { Ok((Vec::new(), true)) } else { Err(ParseError::Malformed(Name::Contact)) };
    }
    Ok((parse_addresses(headers, Name::Contact)?, false))
}

/// Single headers that no field holds, dates and option tags.
fn check_rest(headers: &[Header<'_>]) -> Result<(), ParseError> {
    for header in headers {
        if header.name.is_single() {
            single(headers, header.name)?;
        }
        let fits = match header.name {
            // RFC 3261 §20.17: the zone is always GMT.
            Name::Date => words(header.raw).count() == 6 && words(header.raw).last().is_some_and(|zone| zone == "GMT"),
            Name::Require | Name::ProxyRequire => Values::new(header.raw).all(|tag| tag.is_ok_and(is_token)),
            Name::ContentType => {
                let full = header.raw.split(';').next().unwrap_or_default();
                full.split_once('/').is_some_and(|(main, sub)| is_token(trim(main)) && is_token(trim(sub)))
            }
            Name::MinExpires => decimal::<u32>(header.raw).is_some(),
            _ => true,
        };
        if !fits {
            return Err(ParseError::Malformed(header.name));
        }
    }
    Ok(())
}

/// RFC 3261 §20.8: `word [@ word]`, compared byte by byte.
fn is_call_id(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| (0x21..0x7f).contains(&b) && !b"@,;".contains(&b));
    match text.split_once('@') {
        Some((local, host)) => word(local) && word(host),
        None => word(text),
    }
}

fn parse_cseq(text: &str) -> Result<CSeq, ParseError> {
    let mut parts = words(text);
    let (Some(digits), Some(method), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(ParseError::Malformed(Name::CSeq));
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Malformed(Name::CSeq));
    }
    // RFC 3261 §8.1.1.5: below 2^31.
    let number = decimal(digits).filter(|&number: &u32| number < 1 << 31);
    let method = Method::parse(method).ok_or(ParseError::Malformed(Name::CSeq))?;
    Ok(CSeq { number: number.ok_or(ParseError::NumberRange(Name::CSeq))?, method })
}

fn number<T: std::str::FromStr>(text: Option<&str>, name: Name) -> Result<Option<T>, ParseError> {
    let Some(text) = text else { return Ok(None) };
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Malformed(name));
    }
    decimal(text).map(Some).ok_or(ParseError::NumberRange(name))
}

/// RFC 3261 §18.3: without Content-Length the body of a datagram reaches to its end.
fn body<'a>(length: Option<&str>, rest: &'a [u8]) -> Result<&'a [u8], ParseError> {
    match number::<u32>(length, Name::ContentLength)? {
        None => Ok(rest),
        Some(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            rest.get(..length).ok_or(ParseError::ContentLengthBeyondBody)
        }
    }
}

const fn param_error(name: Name, error: ParamError) -> ParseError {
    match error {
        ParamError::Malformed => ParseError::Malformed(name),
        ParamError::Unbalanced => ParseError::UnbalancedQuote(name),
    }
}

const fn address_error(name: Name, error: NameAddrError) -> ParseError {
    match error {
        NameAddrError::Malformed => ParseError::Malformed(name),
        NameAddrError::Unbalanced => ParseError::UnbalancedQuote(name),
        NameAddrError::Uri(error) => ParseError::HeaderUri(name, error),
    }
}
