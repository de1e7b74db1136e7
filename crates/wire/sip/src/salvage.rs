//! A refusal to a request that could not be parsed, from what can still be read of it.

use crate::build::{ResponseBuilder, reason_phrase};
use crate::error::ParseError;
use crate::header::Name;
use crate::scan::{Values, find_outside, trim, unfold};
use crate::via::Via;
use std::net::SocketAddr;

/// Bytes looked at; a refusal is never larger than this plus a status line.
const MAX_HEAD: usize = 4096;

/// The refusal that `error` asks for, and where it goes. `None` if the datagram is no request, is an ACK, or lacks a header
/// that every response must echo; then it is dropped.
pub fn refusal(bytes: &[u8], error: &ParseError, source: SocketAddr, to_tag: &str) -> Option<(Vec<u8>, SocketAddr)> {
    let head = bytes.get(..bytes.len().min(MAX_HEAD))?;
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches("\r\n");
    let head = text.split("\r\n\r\n").next()?;
    let (first, rest) = head.split_once("\r\n")?;
    let method = first.split(' ').next()?;
    let is_response = first.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
    if is_response || method == "ACK" || !first.to_ascii_uppercase().contains(" SIP/") {
        return None;
    }
    let headers = lines(rest);
    let first_of = |name: Name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let vias: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| *name == Name::Via)
        .flat_map(|(_, value)| Values::new(value))
        .map_while(Result::ok)
        .collect();
    let via = Via::parse(vias.first()?).ok()?;
    let to = first_of(Name::To)?;
    let tagged = find_outside(to, b';').ok()?.is_some_and(|at| to.get(at..).is_some_and(|rest| rest.contains("tag")));
    let to = if tagged { to.to_owned() } else { format!("{to};tag={to_tag}") };
    let code = error.response_code();
    let mut response = ResponseBuilder::bare(code, reason_phrase(code)).header(Name::Via, via.echoed_from(source));
    for value in vias.iter().skip(1) {
        response = response.header(Name::Via, value);
    }
    let response = response
        .header(Name::From, first_of(Name::From)?)
        .header(Name::To, to)
        .header(Name::CallId, first_of(Name::CallId)?)
        .header(Name::CSeq, first_of(Name::CSeq)?);
    Some((response.to_bytes().ok()?, via.response_address(source)))
}

/// Header lines, unfolded; what has no colon is skipped.
fn lines(text: &str) -> Vec<(Name, String)> {
    let mut logical: Vec<String> = Vec::new();
    for line in text.split("\r\n").take(crate::MAX_HEADERS) {
        match logical.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push_str("\r\n");
                last.push_str(line);
            }
            _ => logical.push(line.to_owned()),
        }
    }
    let named = logical.iter().filter_map(|line| line.split_once(':'));
    named.map(|(name, value)| (Name::parse(name.trim_end()), unfold(trim(value)).into_owned())).collect()
}
