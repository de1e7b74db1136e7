//! A carrier, after its configuration was checked: where it is, who may speak for it, how we introduce ourselves.

use offhook_contract::dial::NumberingPlan;
use offhook_contract::{PhoneNumber, Secret, TenantId, TrunkName};
use offhook_wire_sdp::telephony::Codec;
use offhook_wire_sip::{AnyUri, NameAddr, SipUri};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// What the shell knows about a trunk; [`Trunk::new`] checks it.
#[derive(Debug, Clone)]
pub struct TrunkConfig {
    pub name: TrunkName,
    pub tenant: TenantId,
    /// Where requests go (already resolved). Its address may also speak for the trunk.
    pub proxy: SocketAddr,
    /// Further addresses that may speak for the trunk.
    pub sources: Vec<Cidr>,
    /// The host part of From, To and the request URI.
    pub domain: String,
    pub credentials: Option<Credentials>,
    /// Voice codecs in order of preference: [`Codec::Pcmu`] and [`Codec::Pcma`].
    pub codecs: Vec<Codec>,
    /// Our numbers on this trunk: they tell trunks apart that share a source.
    pub numbers: Vec<PhoneNumber>,
    /// How the carrier's spellings of a number are read.
    pub numbering: NumberingPlan,
    /// Shown when a call names no caller.
    pub caller_id: Option<String>,
    /// The From header, with `{caller}`, `{user}` (the account) and `{domain}`. `<sip:{caller}@{domain}>` by default.
    pub from: Option<String>,
    /// A header that also carries the caller's number.
    pub asserted: AssertedIdentity,
    /// Register with the carrier, asking for this time.
    pub registration: Option<Duration>,
    /// Ask with OPTIONS whether the carrier is there.
    pub keep_alive: Option<Duration>,
    /// The socket of ours that faces the carrier, as named in [`crate::SocketConfig::local`].
    pub local: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
    /// When set, challenges of other realms are not answered.
    pub realm: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AssertedIdentity {
    #[default]
    None,
    /// P-Asserted-Identity (RFC 3325 §9.1).
    Asserted,
    /// P-Preferred-Identity (RFC 3325 §9.2).
    Preferred,
}

/// Why a trunk's configuration was refused; `key` names what to correct.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrunkError {
    #[error("domain {0:?} is no host name")]
    Domain(String),
    #[error("codecs must name pcmu, pcma or both, each once")]
    Codecs,
    #[error("from {0:?} does not become an address; allowed places are {{caller}}, {{user}} and {{domain}}")]
    From(String),
    #[error("from holds {{user}}, but there are no credentials")]
    FromWithoutUser,
    #[error("caller_id {0:?} has other characters than digits, letters and + * # - . _")]
    CallerId(String),
    #[error("registration needs credentials")]
    RegistrationWithoutCredentials,
    #[error("username {0:?} cannot stand in a SIP URI")]
    Username(String),
    #[error("the registration's time must be 60 s to 24 h")]
    RegistrationTime,
    #[error("keep_alive must be 5 s to 1 h")]
    KeepAlive,
    #[error("source {0} would let everyone in")]
    OpenSource(Cidr),
    #[error("the proxy is of another address family than the local socket")]
    AddressFamily,
}

/// A checked trunk.
#[derive(Debug, Clone)]
pub struct Trunk {
    config: TrunkConfig,
}

impl Trunk {
    pub fn new(config: TrunkConfig) -> Result<Self, TrunkError> {
        if SipUri::parse(&format!("sip:{}", config.domain)).is_err() || config.domain.contains([';', '?', '@']) {
            return Err(TrunkError::Domain(config.domain));
        }
        let voice = |codec: &Codec| matches!(codec, Codec::Pcmu | Codec::Pcma);
        let twice = config.codecs.len() == 2 && config.codecs.first() == config.codecs.last();
        if config.codecs.is_empty() || config.codecs.len() > 2 || twice || !config.codecs.iter().all(voice) {
            return Err(TrunkError::Codecs);
        }
        if let Some(caller) = config.caller_id.as_ref().filter(|caller| !is_dialable(caller)) {
            return Err(TrunkError::CallerId(caller.clone()));
        }
        if let Some(open) = config.sources.iter().find(|source| source.prefix == 0) {
            return Err(TrunkError::OpenSource(*open));
        }
        if config.proxy.is_ipv4() != config.local.is_ipv4() {
            return Err(TrunkError::AddressFamily);
        }
        check_times(&config)?;
        let user = config.credentials.as_ref().map(|credentials| credentials.username.clone());
        if let Some(user) = user.filter(|user| SipUri::parse(&format!("sip:{}@h", escape_user(user))).is_err()) {
            return Err(TrunkError::Username(user));
        }
        let trunk = Self { config };
        trunk.check_from()?;
        Ok(trunk)
    }

    fn check_from(&self) -> Result<(), TrunkError> {
        let template = self.config.from.as_deref().unwrap_or_default();
        if template.contains("{user}") && self.config.credentials.is_none() {
            return Err(TrunkError::FromWithoutUser);
        }
        let from = self.header_from("+1555");
        let address = NameAddr::from_text(&from).filter(|address| {
            let bracketed = from.contains('<');
            let no_params = address.params.iter().next().is_none();
            matches!(address.uri, AnyUri::Sip(_) | AnyUri::Tel(_))
                && bracketed
                && no_params
                && !from.contains(['{', '}'])
        });
        address.map(|_| ()).ok_or_else(|| TrunkError::From(template.to_owned()))
    }

    pub const fn config(&self) -> &TrunkConfig {
        &self.config
    }

    pub const fn name(&self) -> &TrunkName {
        &self.config.name
    }

    /// Whether a datagram from `ip` may speak for this trunk.
    pub fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.config.proxy.ip().to_canonical() == ip || self.config.sources.iter().any(|source| source.contains(ip))
    }

    /// The number of ours that the carrier wrote as `written`.
    pub(crate) fn read_number(&self, written: &str) -> Option<&PhoneNumber> {
        own_number(&self.config.numbers, &self.config.numbering, written)
    }

    /// The From header (without a tag) for a call of `caller`.
    pub(crate) fn header_from(&self, caller: &str) -> String {
        let template = self.config.from.as_deref().unwrap_or("<sip:{caller}@{domain}>");
        template
            .replace("{caller}", &escape_user(caller))
            .replace("{user}", &escape_user(self.user().unwrap_or_default()))
            .replace("{domain}", &self.config.domain)
    }

    /// The caller's number of a call that names none.
    pub(crate) fn default_caller(&self) -> &str {
        self.config.caller_id.as_deref().or(self.user()).unwrap_or("anonymous")
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.config.credentials.as_ref().map(|credentials| credentials.username.as_str())
    }

    /// The user part of our Contact: the account, so that a registrar's calls say whom they are for.
    pub(crate) fn contact_user(&self) -> String {
        escape_user(self.user().unwrap_or("offhook"))
    }

    /// `sip:user@domain`.
    pub(crate) fn uri_of(&self, user: &str) -> String {
        format!("sip:{}@{}", escape_user(user), self.config.domain)
    }
}

/// Which of `numbers` is meant by `written`: the digits alone are enough, and national spellings are read by `plan`.
pub fn own_number<'a>(numbers: &'a [PhoneNumber], plan: &NumberingPlan, written: &str) -> Option<&'a PhoneNumber> {
    let same = |own: &&PhoneNumber| {
        let separates = |c: &char| matches!(c, '+' | ' ' | '-' | '.' | '(' | ')');
        written.chars().filter(|c| !separates(c)).eq(own.digits().chars())
    };
    let meant = || PhoneNumber::normalise(written, plan).ok();
    numbers.iter().find(same).or_else(|| meant().and_then(|read| numbers.iter().find(|own| **own == read)))
}

fn check_times(config: &TrunkConfig) -> Result<(), TrunkError> {
    if let Some(expires) = config.registration {
        if config.credentials.is_none() {
            return Err(TrunkError::RegistrationWithoutCredentials);
        }
        if !(60..=86_400).contains(&expires.as_secs()) {
            return Err(TrunkError::RegistrationTime);
        }
    }
    match config.keep_alive {
        Some(every) if !(5..=3600).contains(&every.as_secs()) => Err(TrunkError::KeepAlive),
        _ => Ok(()),
    }
}

/// What may be dialled or shown as a number: nothing that could end a user part or begin a parameter.
pub(crate) fn is_dialable(number: &str) -> bool {
    (1..=64).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_alphanumeric() || b"+*#-._".contains(&b))
}

/// A user part with everything escaped that may not stand in it (RFC 3261 §19.1.2).
fn escape_user(user: &str) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(user.len());
    for b in user.bytes() {
        if b.is_ascii_alphanumeric() || b"+*-._!~'()&=$,".contains(&b) {
            out.push(char::from(b));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

/// An address range, `192.0.2.0/24` or `2001:db8::/32`; a bare address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text is no address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address range such as 192.0.2.0/24")]
pub struct CidrError(pub String);

impl Cidr {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                u32::from(network).checked_shr(shift) == u32::from(ip).checked_shr(shift)
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(network).checked_shr(shift) == u128::from(ip).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let bad = || CidrError(text.chars().take(64).collect());
        let (network, prefix) = match text.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| bad())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().map_err(|_| bad())?,
            Some(_) => return Err(bad()),
            None => most,
        };
        if prefix > most { Err(bad()) } else { Ok(Self { network, prefix }) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrunkConfig {
        TrunkConfig {
            name: TrunkName::parse("carrier").unwrap(),
            tenant: TenantId::parse("acme").unwrap(),
            proxy: "198.51.100.1:5060".parse().unwrap(),
            sources: vec!["198.51.100.64/28".parse().unwrap()],
            domain: "sip.carrier.example".into(),
            credentials: Some(Credentials { username: "acc 1".into(), password: Secret::new("pw"), realm: None }),
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            numbers: Vec::new(),
            numbering: NumberingPlan::default(),
            caller_id: Some("+15550100".into()),
            from: None,
            asserted: AssertedIdentity::None,
            registration: None,
            keep_alive: None,
            local: "0.0.0.0:5060".parse().unwrap(),
        }
    }

    #[test]
    fn only_the_proxy_and_the_listed_ranges_may_speak_for_a_trunk() {
        let trunk = Trunk::new(config()).unwrap();
        for (ip, admitted) in [
            ("198.51.100.1", true),
            ("::ffff:198.51.100.1", true),
            ("198.51.100.64", true),
            ("198.51.100.79", true),
            ("198.51.100.80", false),
            ("198.51.100.2", false),
            ("::1", false),
        ] {
            assert_eq!(trunk.admits(ip.parse().unwrap()), admitted, "{ip}");
        }
        let v6: Cidr = "2001:db8:1::/48".parse().unwrap();
        assert!(v6.contains("2001:db8:1:9::5".parse().unwrap()) && !v6.contains("2001:db8:2::5".parse().unwrap()));
        let one: Cidr = "192.0.2.5".parse().unwrap();
        assert!(one.contains("192.0.2.5".parse().unwrap()) && !one.contains("192.0.2.4".parse().unwrap()));
        for bad in ["", "x", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::/129", "1.2.3.4/+4"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_header_from_follows_its_template() {
        let with = |from: &str| Trunk::new(TrunkConfig { from: Some(from.into()), ..config() });
        assert_eq!(Trunk::new(config()).unwrap().header_from("+1#"), "<sip:+1%23@sip.carrier.example>");
        let account = with("\"Acme\" <sip:{user}@{domain}>").unwrap();
        assert_eq!(account.header_from("+1555"), "\"Acme\" <sip:acc%201@sip.carrier.example>");
        for bad in ["{caller}", "<sip:{nobody}@{domain}>", "<sip:a@b>\r\nX: y", "<sip:a@b>;tag=1", "<http://x>"] {
            assert_eq!(with(bad).unwrap_err(), TrunkError::From(bad.into()));
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_by_name() {
        let with = |change: &dyn Fn(&mut TrunkConfig)| {
            let mut config = config();
            change(&mut config);
            Trunk::new(config).unwrap_err()
        };
        assert_eq!(with(&|c| c.domain = "a b".into()), TrunkError::Domain("a b".into()));
        assert_eq!(with(&|c| c.codecs.clear()), TrunkError::Codecs);
        assert_eq!(with(&|c| c.codecs = vec![Codec::TelephoneEvent]), TrunkError::Codecs);
        assert_eq!(with(&|c| c.caller_id = Some("1;x".into())), TrunkError::CallerId("1;x".into()));
        assert_eq!(with(&|c| c.keep_alive = Some(Duration::ZERO)), TrunkError::KeepAlive);
        assert_eq!(with(&|c| c.registration = Some(Duration::ZERO)), TrunkError::RegistrationTime);
        let open: Cidr = "0.0.0.0/0".parse().unwrap();
        assert_eq!(with(&|c| c.sources.push(open)), TrunkError::OpenSource(open));
        assert_eq!(with(&|c| c.local = "[::]:5060".parse().unwrap()), TrunkError::AddressFamily);
        let no_credentials = |c: &mut TrunkConfig| {
            c.credentials = None;
            c.registration = Some(Duration::from_secs(300));
        };
        assert_eq!(with(&no_credentials), TrunkError::RegistrationWithoutCredentials);
    }
}
