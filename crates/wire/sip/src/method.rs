//! Request methods.

use crate::scan::is_token;
use std::fmt;

/// A method; case matters (RFC 3261 §7.1), so `invite` is an unknown method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Method {
    Invite,
    Ack,
    Cancel,
    Bye,
    Options,
    Register,
    Prack,
    Update,
    Info,
    Refer,
    Message,
    Subscribe,
    Notify,
    Publish,
    /// Any other token; to be answered with 501.
    Other(String),
}

impl Method {
    const KNOWN: [Self; 14] = [
        Self::Invite,
        Self::Ack,
        Self::Cancel,
        Self::Bye,
        Self::Options,
        Self::Register,
        Self::Prack,
        Self::Update,
        Self::Info,
        Self::Refer,
        Self::Message,
        Self::Subscribe,
        Self::Notify,
        Self::Publish,
    ];

    /// `None` if `text` is not a token.
    pub fn parse(text: &str) -> Option<Self> {
        Self::KNOWN
            .iter()
            .find(|method| method.as_str() == text)
            .cloned()
            .or_else(|| is_token(text).then(|| Self::Other(text.to_owned())))
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Cancel => "CANCEL",
            Self::Bye => "BYE",
            Self::Options => "OPTIONS",
            Self::Register => "REGISTER",
            Self::Prack => "PRACK",
            Self::Update => "UPDATE",
            Self::Info => "INFO",
            Self::Refer => "REFER",
            Self::Message => "MESSAGE",
            Self::Subscribe => "SUBSCRIBE",
            Self::Notify => "NOTIFY",
            Self::Publish => "PUBLISH",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
