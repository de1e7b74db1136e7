//! The gateway's part of the configuration: `[sip]`, `[[trunk]]`, and what it shares: `[net]` and `[dial]`.

mod raw;
#[cfg(test)]
mod tests;

pub use raw::DialFormat;

use std::net::SocketAddr;
use std::time::Duration;

use offhook_contract::dial::NumberingPlan;
use offhook_contract::{CodecName, DialRules, PhoneNumber, Secret, TenantId, TrunkName};
use offhook_runtime::config::Net;
use offhook_runtime::{ConfigError, ConfigFile};
use offhook_sip_core::trunk::{AssertedIdentity, Cidr, own_number};
use raw::{RawAsserted, RawCodec, RawSip, RawTrunk};

/// SIP over UDP (RFC 3261 §19.1.2).
pub const SIP_PORT: u16 = 5_060;

/// Everything, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Never a wildcard.
    pub listen: Vec<SocketAddr>,
    /// The port on addresses that only a trunk's route names.
    pub port: u16,
    pub rtp_ports: (u16, u16),
    pub media_threads: usize,
    pub max_legs: usize,
    pub media_timeout: Duration,
    pub max_ringing: Duration,
    pub carrier_silence: Duration,
    pub product: Option<String>,
    pub trunks: Vec<TrunkPlan>,
    pub rules: DialRules,
    pub numbering: NumberingPlan,
    pub net: Net,
}

/// One `[[trunk]]`, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrunkPlan {
    pub name: TrunkName,
    pub tenant: TenantId,
    pub host: String,
    pub port: u16,
    pub domain: String,
    pub sources: Vec<Cidr>,
    pub account: Option<Account>,
    pub registration: Option<Duration>,
    pub keep_alive: Option<Duration>,
    /// In order of preference.
    pub codecs: Vec<CodecName>,
    pub numbers: Vec<PhoneNumber>,
    pub caller_id: Option<String>,
    pub from: Option<String>,
    pub asserted: AssertedIdentity,
    pub dial_format: DialFormat,
    pub numbering: NumberingPlan,
    pub max_calls: u32,
    pub emergency: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub username: String,
    pub password: Secret,
    pub realm: Option<String>,
}

impl Config {
    pub fn read(file: &ConfigFile) -> Result<Self, ConfigError> {
        let sip: RawSip = file.section("sip")?;
        let dial = file.dial()?;
        let within =
            |path: &str, expected: &str, fine: bool| if fine { Ok(()) } else { Err(file.refusal(path, expected)) };
        let [first, last] = sip.rtp_ports;
        within(
            "sip.rtp_ports",
            "first and last port, 1024 or higher, at least one pair",
            first >= 1_024 && last > first,
        )?;
        within("sip.media_threads", "0 to 64", sip.media_threads <= 64)?;
        within("sip.max_legs", "1 to 10000", (1..=10_000).contains(&sip.max_legs))?;
        within("sip.media_timeout_s", "5 to 3600", (5..=3_600).contains(&sip.media_timeout_s))?;
        within("sip.max_ringing_s", "10 to 179", (10..=179).contains(&sip.max_ringing_s))?;
        within("sip.carrier_silence_s", "2 to 32", (2..=32).contains(&sip.carrier_silence_s))?;
        let trunks: Vec<RawTrunk> = file.trunks()?;
        let trunks = trunks
            .into_iter()
            .enumerate()
            .map(|(at, raw)| plan(file, at, raw, &dial.numbering))
            .collect::<Result<Vec<_>, _>>()?;
        let emergencies = trunks.iter().filter(|t| t.emergency);
        for (at, trunk) in trunks.iter().enumerate() {
            let twice = emergencies.clone().filter(|t| t.tenant == trunk.tenant).count() > 1 && trunk.emergency;
            within(&format!("trunk[{at}].emergency"), "true on one trunk of a tenant at most", !twice)?;
        }
        Ok(Self {
            port: sip.listen.first().map_or(SIP_PORT, SocketAddr::port),
            listen: sip.listen.into_iter().filter(|a| !a.ip().is_unspecified()).collect(),
            rtp_ports: (first, last),
            media_threads: match sip.media_threads {
                0 => std::thread::available_parallelism().map_or(1, |n| n.get().saturating_sub(1).max(1)),
                n => n,
            },
            max_legs: sip.max_legs,
            media_timeout: Duration::from_secs(sip.media_timeout_s),
            max_ringing: Duration::from_secs(sip.max_ringing_s),
            carrier_silence: Duration::from_secs(sip.carrier_silence_s),
            product: Some(sip.product).filter(|p| !p.is_empty()),
            trunks,
            rules: dial.rules,
            numbering: dial.numbering,
            net: file.net()?,
        })
    }

    pub fn trunk(&self, name: &TrunkName) -> Option<&TrunkPlan> {
        self.trunks.iter().find(|t| t.name == *name)
    }
}

fn plan(file: &ConfigFile, at: usize, raw: RawTrunk, numbering: &NumberingPlan) -> Result<TrunkPlan, ConfigError> {
    let path = |key: &str| format!("trunk[{at}].{key}");
    let (host, port) = host_and_port(&raw.address)
        .ok_or_else(|| file.refusal(&path("address"), "a host name or address, and a port if it is not 5060"))?;
    let sources = raw
        .sources
        .iter()
        .map(|text| text.parse::<Cidr>().map_err(|e| file.refusal(&path("sources"), &e.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    if raw.register && raw.username.is_empty() {
        return Err(file.refusal(&path("username"), "register = true needs a username"));
    }
    let twice = raw.codecs.len() == 2 && raw.codecs.first() == raw.codecs.last();
    if raw.codecs.is_empty() || raw.codecs.len() > 2 || twice {
        return Err(file.refusal(&path("codecs"), "pcma, pcmu or both, each once"));
    }
    let account = (!raw.username.is_empty()).then_some(Account {
        username: raw.username,
        password: raw.password,
        realm: raw.realm,
    });
    let seconds = |key: &str, value: u64, low: u64, high: u64| match value {
        0 => Ok(None),
        s if (low..=high).contains(&s) => Ok(Some(Duration::from_secs(s))),
        _ => Err(file.refusal(&path(key), &format!("0, or {low} to {high}"))),
    };
    let registration = seconds("register_expires_s", raw.register_expires_s, 60, 86_400)?;
    let keep_alive = seconds("keep_alive_s", raw.keep_alive_s, 5, 3_600)?;
    let international = raw.digits_are_international.unwrap_or(numbering.country_code.is_none());
    Ok(TrunkPlan {
        domain: raw.domain.unwrap_or_else(|| host.clone()),
        host,
        port,
        sources,
        account,
        registration: registration.filter(|_| raw.register),
        keep_alive,
        codecs: raw.codecs.into_iter().map(codec).collect(),
        caller_id: raw.caller_id.or_else(|| raw.numbers.first().map(|n| n.e164().to_owned())),
        numbers: raw.numbers,
        from: raw.from,
        asserted: match raw.asserted_identity {
            RawAsserted::None => AssertedIdentity::None,
            RawAsserted::Asserted => AssertedIdentity::Asserted,
            RawAsserted::Preferred => AssertedIdentity::Preferred,
        },
        dial_format: raw.dial_format,
        numbering: NumberingPlan { digits_are_international: international, ..numbering.clone() },
        max_calls: raw.max_calls,
        emergency: raw.emergency,
        name: raw.name,
        tenant: raw.tenant,
    })
}

const fn codec(raw: RawCodec) -> CodecName {
    match raw {
        RawCodec::Pcma => CodecName::Pcma,
        RawCodec::Pcmu => CodecName::Pcmu,
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`, and a bare v6 address.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| (address.ip().to_string(), address.port()));
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        return Some((ip.to_string(), SIP_PORT));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok().filter(|p| *p != 0)?),
        None => (text, SIP_PORT),
    };
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let named = (1..=253).contains(&host.len()) && host.bytes().all(fine) && !host.starts_with(['-', '.']);
    named.then(|| (host.to_owned(), port))
}

impl TrunkPlan {
    /// A number as this carrier wrote it, in E.164. One of our own numbers is known with and without its `+`.
    pub fn read_number(&self, written: &str) -> Option<PhoneNumber> {
        let own = own_number(&self.numbers, &self.numbering, written);
        own.cloned().or_else(|| PhoneNumber::normalise(written, &self.numbering).ok())
    }

    /// A number as this carrier wants it.
    pub fn write_number(&self, number: &PhoneNumber) -> String {
        match self.dial_format {
            DialFormat::Plus => number.e164().to_owned(),
            DialFormat::Digits => number.digits().to_owned(),
        }
    }
}
