//! `"display" <uri>;params`: From, To, Contact, Route, Record-Route, P-Asserted-Identity (RFC 3261 §20.10).

use crate::error::UriError;
use crate::params::{ParamError, Params};
use crate::scan::{Unbalanced, find_outside, has_lws, is_token, quoted_end, trim, trim_start, unfold, unquote, words};
use crate::uri::AnyUri;
use std::borrow::Cow;

/// An address with its display name and parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    display: Option<&'a str>,
    pub uri: AnyUri<'a>,
    pub params: Params<'a>,
}

/// What was wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameAddrError {
    Malformed,
    Unbalanced,
    Uri(UriError),
}

impl From<Unbalanced> for NameAddrError {
    fn from(_: Unbalanced) -> Self {
        Self::Unbalanced
    }
}

impl From<ParamError> for NameAddrError {
    fn from(error: ParamError) -> Self {
        match error {
            ParamError::Malformed => Self::Malformed,
            ParamError::Unbalanced => Self::Unbalanced,
        }
    }
}

impl<'a> NameAddr<'a> {
    /// Reads one value, for example what a configuration holds.
    pub fn from_text(text: &'a str) -> Option<Self> {
        Self::parse(text).ok()
    }

    pub(crate) fn parse(value: &'a str) -> Result<Self, NameAddrError> {
        let value = trim(value);
        if value.starts_with('"') {
            let (display, rest) = value.split_at(quoted_end(value)?);
            return Self::parse_angled(Some(display), trim_start(rest));
        }
        let params_at = find_outside(value, b';')?.unwrap_or(value.len());
        let (head, params) = value.split_at(params_at);
        match head.find('<') {
            Some(at) => {
                let display = trim(head.get(..at).unwrap_or_default());
                if !words(display).all(is_token) {
                    return Err(NameAddrError::Malformed);
                }
                Self::parse_angled((!display.is_empty()).then_some(display), value.get(at..).unwrap_or_default())
            }
            None => {
                // RFC 3261 §20.10: without brackets a URI has no comma, question mark or semicolon of its own.
                let uri = trim(head);
                if has_lws(uri) || uri.contains([',', '?', '>', '"']) {
                    return Err(NameAddrError::Malformed);
                }
                let uri = AnyUri::parse(uri).map_err(NameAddrError::Uri)?;
                Ok(Self { display: None, uri, params: Params::parse(params)? })
            }
        }
    }

    fn parse_angled(display: Option<&'a str>, rest: &'a str) -> Result<Self, NameAddrError> {
        let inner = rest.strip_prefix('<').ok_or(NameAddrError::Malformed)?;
        let (uri, params) = inner.split_once('>').ok_or(NameAddrError::Unbalanced)?;
        // No white space inside the brackets (the grammar allows it only around them).
        if has_lws(uri) {
            return Err(NameAddrError::Malformed);
        }
        let uri = AnyUri::parse(uri).map_err(NameAddrError::Uri)?;
        Ok(Self { display, uri, params: Params::parse(params)? })
    }

    /// The display name without quotes, escapes and folds.
    pub fn display(&self) -> Option<Cow<'a, str>> {
        self.display.map(|text| if text.starts_with('"') { unquote(text) } else { unfold(text) })
    }

    /// The `tag` parameter; an empty one counts as none.
    pub fn tag(&self) -> Option<&'a str> {
        self.params.text("tag")
    }
}
