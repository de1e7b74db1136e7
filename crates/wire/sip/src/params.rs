//! `;name=value` parameters behind a header value (RFC 3261 §25.1 `generic-param`).

use crate::scan::{Unbalanced, find_outside, is_token, is_token_byte, quoted_end, trim, unquote};
use std::borrow::Cow;

/// Checked parameters, read lazily.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: &'a str,
}

/// A parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamValue<'a> {
    /// `;name`
    Flag,
    /// `;name=token`, or with quotes and escapes `;name="…"`, kept as written.
    Text(&'a str),
}

impl<'a> ParamValue<'a> {
    pub const fn text(self) -> Option<&'a str> {
        match self {
            Self::Flag => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// What was wrong with parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamError {
    Malformed,
    Unbalanced,
}

impl From<Unbalanced> for ParamError {
    fn from(_: Unbalanced) -> Self {
        Self::Unbalanced
    }
}

impl<'a> Params<'a> {
    /// `text` is empty or begins with `;`.
    pub(crate) fn parse(text: &'a str) -> Result<Self, ParamError> {
        let text = trim(text);
        let params = Self { text };
        if text.is_empty() {
            return Ok(params);
        }
        if !text.starts_with(';') {
            return Err(ParamError::Malformed);
        }
        for param in params.raw() {
            let (name, value) = param?;
            if !is_token(name) || !value.text().is_none_or(is_value) {
                return Err(ParamError::Malformed);
            }
        }
        Ok(params)
    }

    /// The value of `name` (compared without case); the first if it stands twice.
    pub fn get(&self, name: &str) -> Option<ParamValue<'a>> {
        self.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The text of `name=text`.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(ParamValue::text)
    }

    /// The text of `name="text"` without quotes and escapes.
    pub fn unquoted(&self, name: &str) -> Option<Cow<'a, str>> {
        self.text(name).map(unquote)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, ParamValue<'a>)> + use<'a> {
        self.raw().filter_map(Result::ok)
    }

    fn raw(&self) -> impl Iterator<Item = Result<(&'a str, ParamValue<'a>), ParamError>> + use<'a> {
        let mut rest = self.text.strip_prefix(';');
        std::iter::from_fn(move || {
            let text = rest.take()?;
            let end = match find_outside(text, b';') {
                Ok(end) => end,
                Err(error) => return Some(Err(error.into())),
            };
            let (param, next) = match end {
                Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
                None => (text, None),
            };
            rest = next;
            Some(Ok(match param.split_once('=') {
                Some((name, value)) => (trim(name), ParamValue::Text(trim(value))),
                None => (trim(param), ParamValue::Flag),
            }))
        })
    }
}

/// A token, a host or a whole quoted string. Some more visible characters are let through: they cannot be mistaken for a
/// separator, and carriers use them in tags.
fn is_value(text: &str) -> bool {
    if text.starts_with('"') {
        return quoted_end(text) == Ok(text.len());
    }
    !text.is_empty() && text.bytes().all(|b| is_token_byte(b) || b"[]:/=@$&#|^".contains(&b))
}
