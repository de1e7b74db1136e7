//! Host names where an address may stand: coturn looks them up once, at start.
use super::options::{Conf, External};
use std::fmt;
use std::net::IpAddr;

/// An option that was given a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedAddress {
    Listening(String),
    Relay(String),
    External { announced: String, local: Option<String> },
}

/// As it is written.
impl fmt::Display for NamedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(name) => write!(f, "listening-ip={name}"),
            Self::Relay(name) => write!(f, "relay-ip={name}"),
            Self::External { announced, local: None } => write!(f, "external-ip={announced}"),
            Self::External { announced, local: Some(local) } => write!(f, "external-ip={announced}/{local}"),
        }
    }
}

/// Why a name cannot stand for an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{option}: {name:?} is no IP address, and looking it up as a name gives none: {why}")]
    Unknown { option: &'static str, name: String, why: String },
    #[error("external-ip: {0:?} mixes IPv4 and IPv6")]
    Families(String),
}

impl Conf {
    /// Puts addresses in the place of names, in the order in which they were written, behind those that were addresses.
    ///
    /// # Errors
    /// The first name without an address: going on would leave out what somebody meant to listen on, or to announce.
    pub fn resolve(&mut self, look_up: impl Fn(&str) -> Result<IpAddr, String>) -> Result<(), NameError> {
        let find = |option: &'static str, name: &str| match name.parse() {
            Ok(ip) => Ok(ip),
            Err(_) => look_up(name).map_err(|why| NameError::Unknown { option, name: name.to_owned(), why }),
        };
        for named in std::mem::take(&mut self.names) {
            match named {
                NamedAddress::Listening(name) => self.listening_ips.push(find("listening-ip", &name)?),
                NamedAddress::Relay(name) => self.relay_ips.push(find("relay-ip", &name)?),
                NamedAddress::External { announced: name, local } => {
                    let announced = find("external-ip", &name)?;
                    let local = local.map(|local| find("external-ip", &local)).transpose()?;
                    if local.is_some_and(|local| local.is_ipv4() != announced.is_ipv4()) {
                        return Err(NameError::Families(name));
                    }
                    self.external_ips.push(External { announced, local });
                }
            }
        }
        Ok(())
    }
}

/// As RFC 1123 §2.1 has them, and not an address with a slip of the pen: a letter is in its last part.
pub(super) fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let plain = label.bytes().all(|letter| letter.is_ascii_alphanumeric() || letter == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && last.bytes().any(|letter| letter.is_ascii_alphabetic())
}
