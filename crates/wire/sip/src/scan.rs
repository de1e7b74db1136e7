//! Character classes and cuts of RFC 3261 §25.1. A fold (CRLF and a blank) counts as white space, so values stay
//! slices of the datagram.

use std::borrow::Cow;

pub(crate) const fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
}

pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

const fn is_lws(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// White space, folds included, cut from both ends.
pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches(is_lws)
}

pub(crate) fn trim_start(text: &str) -> &str {
    text.trim_start_matches(is_lws)
}

pub(crate) fn has_lws(text: &str) -> bool {
    text.contains(is_lws)
}

/// Words between white space.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_lws).filter(|word| !word.is_empty())
}

/// Folds replaced by one blank (RFC 3261 §7.3.1).
pub(crate) fn unfold(value: &str) -> Cow<'_, str> {
    if !value.contains(['\r', '\n']) {
        return Cow::Borrowed(value);
    }
    let lines = value.split("\r\n").enumerate();
    let parts = lines.map(|(i, part)| if i == 0 { part } else { part.trim_start_matches([' ', '\t']) });
    let parts: Vec<&str> = parts.map(|part| part.trim_end_matches([' ', '\t'])).collect();
    Cow::Owned(parts.join(" "))
}

/// A quote that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unbalanced;

/// The end of the quoted string that begins `text` (which starts with `"`), just after its closing quote.
pub(crate) fn quoted_end(text: &str) -> Result<usize, Unbalanced> {
    let mut escaped = false;
    for (i, b) in text.bytes().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(i + 1),
            _ => {}
        }
    }
    Err(Unbalanced)
}

/// Position of the first of `wanted` outside quotes and angle brackets.
pub(crate) fn find_outside(text: &str, wanted: u8) -> Result<Option<usize>, Unbalanced> {
    let mut rest = 0;
    let mut in_angles = false;
    while let Some(&b) = text.as_bytes().get(rest) {
        match b {
            b'"' if !in_angles => {
                rest += quoted_end(text.get(rest..).unwrap_or_default())?;
                continue;
            }
            b'<' => in_angles = true,
            b'>' => in_angles = false,
            _ if b == wanted && !in_angles => return Ok(Some(rest)),
            _ => {}
        }
        rest += 1;
    }
    if in_angles { Err(Unbalanced) } else { Ok(None) }
}

/// The comma-separated values of one header line, trimmed; empty ones are kept for the caller to judge.
pub(crate) struct Values<'a> {
    rest: Option<&'a str>,
}

impl<'a> Values<'a> {
    pub fn new(line: &'a str) -> Self {
        Self { rest: Some(line) }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<&'a str, Unbalanced>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        match find_outside(rest, b',') {
            Err(error) => Some(Err(error)),
            Ok(None) => Some(Ok(trim(rest))),
            Ok(Some(at)) => {
                self.rest = rest.get(at + 1..);
                Some(Ok(trim(rest.get(..at).unwrap_or_default())))
            }
        }
    }
}

/// The content of a quoted string without its escapes; other text as it is.
pub(crate) fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(text);
    };
    if !inner.contains(['\\', '\r']) {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let unfolded = unfold(inner);
    let mut chars = unfolded.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(out)
}

/// A decimal number without sign; leading zeros are allowed. `None` if malformed or too large for `T`.
pub(crate) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    if digits.is_empty() { "0".parse().ok() } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_inside_quotes_and_brackets_do_not_separate() {
        let line = "\"a, \\\"b\" <sip:x,y@h>;p=1 ,\r\n <sip:z>";
        let values: Vec<_> = Values::new(line).map(Result::unwrap).collect();
        assert_eq!(values, ["\"a, \\\"b\" <sip:x,y@h>;p=1", "<sip:z>"]);
        assert!(Values::new("\"open, a").any(|value| value == Err(Unbalanced)));
    }

    #[test]
    fn folds_become_one_blank() {
        assert_eq!(unfold("a \r\n \t b\r\n c"), "a b c");
        assert_eq!(unquote("\"a \\\"b\\\\\""), "a \"b\\");
    }

    #[test]
    fn numbers_have_no_sign_and_may_have_leading_zeros() {
        assert_eq!(decimal::<u8>("0068"), Some(68));
        assert_eq!(decimal::<u8>("-1"), None);
        assert_eq!(decimal::<u8>("+1"), None);
        assert_eq!(decimal::<u32>("36893488147419103232"), None);
        assert_eq!(decimal::<u8>("000"), Some(0));
    }
}
