//! Challenges and credentials: a scheme and a list of `name=value` (RFC 3261 §20.7 and §20.44).

use crate::params::ParamError;
use crate::scan::{Values, is_token, quoted_end, trim, unquote};
use std::borrow::Cow;

/// Parameters in one challenge or one set of credentials.
const MAX_PARAMS: usize = 32;

/// The value of WWW-Authenticate, Proxy-Authenticate, Authorization or Proxy-Authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthParams<'a> {
    pub scheme: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> AuthParams<'a> {
    pub(crate) fn parse(value: &'a str) -> Result<Self, ParamError> {
        const BAD: ParamError = ParamError::Malformed;
        let value = trim(value);
        let blank = value.find([' ', '\t', '\r', '\n']).ok_or(BAD)?;
        let (scheme, rest) = value.split_at(blank);
        if !is_token(scheme) {
            return Err(BAD);
        }
        let mut params: Vec<(&str, &str)> = Vec::new();
        for param in Values::new(rest) {
            let (name, text) = param?.split_once('=').ok_or(BAD)?;
            let (name, text) = (trim(name), trim(text));
            let quoted = text.starts_with('"');
            let whole = if quoted { quoted_end(text)? == text.len() } else { !text.is_empty() && !text.contains(' ') };
            let twice = params.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            if !is_token(name) || !whole || twice || params.len() == MAX_PARAMS {
                return Err(BAD);
            }
            params.push((name, text));
        }
        Ok(Self { scheme, params })
    }

    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// A parameter without quotes and escapes.
    pub fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, text)| unquote(text))
    }
}

/// `text` as a quoted string. Control characters are left out: none belongs into a credential.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
