//! Address ranges: one address, `first-last`, or a prefix. Borders are exact, as numbers.
use std::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRange {
    V4 { first: u32, last: u32 },
    V6 { first: u128, last: u128 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("{0:?} is no IP address")]
    Address(String),
    #[error("{0:?} mixes IPv4 and IPv6")]
    Families(String),
    #[error("{0:?} ends before it begins")]
    Backwards(String),
    #[error("{0:?} has no usable prefix length")]
    Prefix(String),
}

impl AddressRange {
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (*self, ip) {
            (Self::V4 { first, last }, IpAddr::V4(ip)) => (first..=last).contains(&ip.to_bits()),
            (Self::V6 { first, last }, IpAddr::V6(ip)) => (first..=last).contains(&ip.to_bits()),
            _ => false,
        }
    }

    fn between(first: IpAddr, last: IpAddr, text: &str) -> Result<Self, RangeError> {
        let range = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Self::V4 { first: first.to_bits(), last: last.to_bits() },
            (IpAddr::V6(first), IpAddr::V6(last)) => Self::V6 { first: first.to_bits(), last: last.to_bits() },
            _ => return Err(RangeError::Families(text.to_owned())),
        };
        match range {
            Self::V4 { first, last } if first > last => Err(RangeError::Backwards(text.to_owned())),
            Self::V6 { first, last } if first > last => Err(RangeError::Backwards(text.to_owned())),
            _ => Ok(range),
        }
    }

    fn prefix(ip: IpAddr, length: &str, text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError::Prefix(text.to_owned());
        let length: u32 = length.parse().map_err(|_| wrong())?;
        match ip {
            IpAddr::V4(ip) if length <= 32 => {
                let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
                Ok(Self::V4 { first: ip.to_bits() & !hosts, last: ip.to_bits() | hosts })
            }
            IpAddr::V6(ip) if length <= 128 => {
                let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
                Ok(Self::V6 { first: ip.to_bits() & !hosts, last: ip.to_bits() | hosts })
            }
            _ => Err(wrong()),
        }
    }
}

impl std::str::FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let text = text.trim();
        let address = |part: &str| part.trim().parse().map_err(|_| RangeError::Address(part.trim().to_owned()));
        if let Some((first, last)) = text.split_once('-') {
            Self::between(address(first)?, address(last)?, text)
        } else if let Some((ip, length)) = text.split_once('/') {
            Self::prefix(address(ip)?, length, text)
        } else {
            let only = address(text)?;
            Self::between(only, only, text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn borders_are_exact_on_and_off_prefixes() {
        let v6 = range("2001:db8::5-2001:db8::1:3");
        let inside = |text: &str| v6.contains(text.parse().unwrap());
        assert!(inside("2001:db8::5") && inside("2001:db8::ff") && inside("2001:db8::1:3"));
        assert!(!inside("2001:db8::4") && !inside("2001:db8::1:4") && !inside("2001:db8::2:0"));
        let v4 = range("10.0.0.9-10.0.1.2");
        assert!(v4.contains("10.0.0.200".parse().unwrap()) && !v4.contains("10.0.0.8".parse().unwrap()));
        assert_eq!(range("10.1.2.3/8"), range("10.0.0.0-10.255.255.255"));
        assert_eq!(range("0.0.0.0/0"), range("0.0.0.0-255.255.255.255"));
        assert_eq!(range("::1/128"), range("::1"));
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = |text: &str| text.parse::<AddressRange>().unwrap_err();
        assert_eq!(error("10.0.0"), RangeError::Address("10.0.0".into()));
        assert_eq!(error("10.0.0.9-10.0.0.1"), RangeError::Backwards("10.0.0.9-10.0.0.1".into()));
        assert_eq!(error("10.0.0.1-::1"), RangeError::Families("10.0.0.1-::1".into()));
        assert_eq!(error("10.0.0.0/33"), RangeError::Prefix("10.0.0.0/33".into()));
        assert_eq!(error("10.0.0.1 # office"), RangeError::Address("10.0.0.1 # office".into()));
    }
}
