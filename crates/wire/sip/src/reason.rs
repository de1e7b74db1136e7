//! The Reason header (RFC 3326).

use crate::params::{ParamError, Params};
use crate::scan::{decimal, find_outside, is_token, trim};
use std::borrow::Cow;

/// Why a dialog ended, for example `Q.850;cause=16`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `SIP`, `Q.850`, …
    pub protocol: &'a str,
    pub cause: Option<u16>,
    pub text: Option<Cow<'a, str>>,
}

impl<'a> Reason<'a> {
    pub(crate) fn parse(value: &'a str) -> Result<Self, ParamError> {
        let (protocol, params) = match find_outside(value, b';')? {
            Some(at) => value.split_at(at),
            None => (value, ""),
        };
        let protocol = trim(protocol);
        if !is_token(protocol) {
            return Err(ParamError::Malformed);
        }
        let params = Params::parse(params)?;
        let cause = params.text("cause").map(|text| decimal(text).ok_or(ParamError::Malformed)).transpose()?;
        Ok(Self { protocol, cause, text: params.unquoted("text") })
    }

    /// The cause of an ISDN release (ITU-T Q.850), if this is one.
    pub fn q850(&self) -> Option<u8> {
        let cause = self.cause.filter(|_| self.protocol.eq_ignore_ascii_case("Q.850"))?;
        u8::try_from(cause).ok().filter(|cause| (1..128).contains(cause))
    }
}
