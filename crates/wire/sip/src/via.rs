//! The Via header (RFC 3261 §20.42, RFC 3581).

use crate::params::{ParamError, ParamValue, Params};
use crate::scan::{decimal, find_outside, is_token, trim, trim_start, unfold};
use crate::uri::Host;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// One hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, …, as written.
    pub transport: &'a str,
    pub host: Host<'a>,
    pub port: Option<u16>,
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    pub(crate) fn parse(value: &'a str) -> Result<Self, ParamError> {
        const BAD: ParamError = ParamError::Malformed;
        let (head, params) = match find_outside(value, b';')? {
            Some(at) => value.split_at(at),
            None => (value, ""),
        };
        let mut parts = head.splitn(3, '/');
        let (Some(protocol), Some(version), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BAD);
        };
        let rest = trim_start(rest);
        let blank = rest.find([' ', '\t', '\r', '\n']).ok_or(BAD)?;
        let (transport, sent_by) = rest.split_at(blank);
        if ![protocol, version, transport].iter().all(|part| is_token(trim(part))) {
            return Err(BAD);
        }
        if !trim(protocol).eq_ignore_ascii_case("SIP") || trim(version) != "2.0" {
            return Err(BAD);
        }
        let (host, port) = parse_sent_by(trim(sent_by)).ok_or(BAD)?;
        let params = Params::parse(params)?;
        let via = Self { transport, host, port, params };
        if let Some(ParamValue::Text(text)) = params.get("rport") {
            decimal::<u16>(text).ok_or(BAD)?;
        }
        if params.get("received").is_some() && via.received().is_none() {
            return Err(BAD);
        }
        if params.get("branch").is_some() && !via.branch().is_some_and(is_token_or_more) {
            return Err(BAD);
        }
        Ok(via)
    }

    pub fn branch(&self) -> Option<&'a str> {
        self.params.text("branch")
    }

    /// The branch, if it is one of RFC 3261 (a cookie and something unique after it).
    pub fn magic_branch(&self) -> Option<&'a str> {
        self.branch().filter(|branch| branch.len() > 7 && branch.starts_with("z9hG4bK"))
    }

    /// Where the next hop saw the request come from; brackets around a v6 address are optional (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let text = self.params.text("received")?;
        text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
    }

    /// `Some(None)` asks for the port (RFC 3581 §3), `Some(Some(port))` tells it.
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|value| value.text().and_then(decimal))
    }

    /// The value to echo in a response to a request that came from `source`: with `received` and, if asked for, `rport`
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn echoed_from(&self, source: SocketAddr) -> String {
        let mut out = format!("SIP/2.0/{} {}", self.transport, self.host);
        // Writing into a String cannot fail.
        if let Some(port) = self.port {
            let _ = write!(out, ":{port}");
        }
        for (name, value) in self.params.iter() {
            let _ = match value {
                _ if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") => Ok(()),
                ParamValue::Flag => write!(out, ";{name}"),
                ParamValue::Text(text) => write!(out, ";{name}={}", unfold(text)),
            };
        }
        let asked = self.rport().is_some();
        if asked || self.host.ip() != Some(source.ip()) {
            let _ = write!(out, ";received={}", source.ip());
        }
        if asked {
            let _ = write!(out, ";rport={}", source.port());
        }
        out
    }

    /// Where a response to a request with this top Via goes, if the request came from `source`
    /// (RFC 3261 §18.2.2 for unreliable transports, RFC 3581 §4).
    pub fn response_address(&self, source: SocketAddr) -> SocketAddr {
        match self.rport() {
            Some(_) => source,
            None => SocketAddr::new(source.ip(), self.port.unwrap_or(5060)),
        }
    }
}

/// `host [: port]` with blanks around the colon.
fn parse_sent_by(text: &str) -> Option<(Host<'_>, Option<u16>)> {
    if !crate::scan::has_lws(text) {
        return Host::parse_with_port(text).ok();
    }
    let after_bracket = text.find(']').map_or(0, |at| at + 1);
    let at = after_bracket + text.get(after_bracket..)?.find(':')?;
    let port = decimal(trim(text.get(at + 1..)?)).filter(|&port: &u16| port > 0)?;
    Some((Host::parse(trim(text.get(..at)?)).ok()?, Some(port)))
}

fn is_token_or_more(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('"')
}
