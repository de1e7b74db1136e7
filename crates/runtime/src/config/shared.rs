//! The sections that several daemons read.
use super::{ConfigError, ConfigFile};
use crate::logging::{LogFormat, is_log_level};
use offhook_contract::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// `[runtime]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// The node's name; the host's when absent. The daemon's kind is added.
    pub node: Option<String>,
    /// Health and metrics; loopback only. Empty: the default port of the daemon, or 9600 for `offhook up`.
    #[serde(deserialize_with = "one_or_many")]
    pub health_listen: Vec<SocketAddr>,
    pub drain_timeout_s: u64,
    /// `info`, or per module as in `info,offhook_sip=debug`.
    pub log: String,
    pub log_format: LogFormat,
    pub log_full_addresses: bool,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            node: None,
            health_listen: Vec::new(),
            drain_timeout_s: 300,
            log: "info".into(),
            log_format: LogFormat::Text,
            log_full_addresses: false,
        }
    }
}

impl Runtime {
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_s)
    }
}

/// `[net]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Net {
    /// How others reach this host, v4 and v6.
    pub public_addresses: Vec<PublicAddress>,
}

/// One address under which this host is known, and the local one it maps to (the same without NAT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "RawPublicAddress")]
pub struct PublicAddress {
    pub public: IpAddr,
    pub local: IpAddr,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPublicAddress {
    Same(IpAddr),
    Mapped(MappedAddress),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappedAddress {
    public: IpAddr,
    local: IpAddr,
}

impl From<RawPublicAddress> for PublicAddress {
    fn from(raw: RawPublicAddress) -> Self {
        match raw {
            RawPublicAddress::Same(ip) => Self { public: ip, local: ip },
            RawPublicAddress::Mapped(MappedAddress { public, local }) => Self { public, local },
        }
    }
}

impl Net {
    /// What to announce for a socket bound to `local`: its public address, or itself.
    pub fn announced(&self, local: IpAddr) -> IpAddr {
        self.public_addresses.iter().find(|a| a.local == local).map_or(local, |a| a.public)
    }

    /// Every address to announce for a socket bound to `bound`: for an unspecified one, all of its family.
    pub fn announced_all(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return vec![SocketAddr::new(self.announced(bound.ip()), bound.port())];
        }
        let family = |a: &&PublicAddress| a.local.is_ipv4() == bound.is_ipv4();
        self.public_addresses.iter().filter(family).map(|a| SocketAddr::new(a.public, bound.port())).collect()
    }
}

/// `[storage]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    pub data_dir: PathBuf,
    /// `postgres://…`; SQLite in `data_dir` when empty.
    pub database_url: Secret,
}

impl Default for Storage {
    fn default() -> Self {
        Self { data_dir: "data".into(), database_url: Secret::default() }
    }
}

/// `[tls]`: the certificate of the API and the pages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM, the chain; read again at SIGHUP.
    pub certificate: Option<PathBuf>,
    /// PEM.
    pub key: Option<PathBuf>,
    /// Names for which a certificate is fetched by ACME instead of files; in small letters.
    pub acme_domains: Vec<String>,
    /// `mailto:…`
    pub acme_contact: Option<String>,
    /// The URL of the authority's directory; Let's Encrypt's when absent.
    pub acme_directory: Option<String>,
    /// PEM: who signed the directory's own certificate; the system's authorities when absent.
    pub acme_ca_file: Option<PathBuf>,
}

/// `[bus]`: for daemons that run as processes of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BusConfig {
    /// Separates installations that share a NATS server.
    pub cluster: String,
    /// `nats://127.0.0.1:4222`, `tls://bus.example.org:4222`; several of one cluster.
    #[serde(deserialize_with = "one_or_many")]
    pub url: Vec<String>,
    pub user: String,
    pub password: Secret,
    pub token: Secret,
    /// The seed of an nkey user (`SU…`).
    pub nkey_seed: Secret,
    /// The authority that signed the server's certificate; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// For servers that ask for a client certificate.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            cluster: "main".into(),
            url: vec!["nats://127.0.0.1:4222".into()],
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            nkey_seed: Secret::default(),
            ca_file: None,
            certificate: None,
            key: None,
        }
    }
}

/// As in RFC 1123 §2.1, and no address: the last label is not all digits.
fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let number = |l: &str| l.bytes().all(|b| b.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(number)
}

/// `"a"` as well as `["a", "b"]`, for keys that are lists but mostly have one element.
pub fn one_or_many<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let value = toml::Value::deserialize(deserializer)?;
    let list = match value {
        toml::Value::Array(list) => list,
        one => vec![one],
    };
    list.into_iter().map(|value| value.try_into().map_err(serde::de::Error::custom)).collect()
}

impl ConfigFile {
    pub fn runtime(&self) -> Result<Runtime, ConfigError> {
        let runtime: Runtime = self.section("runtime")?;
        if !is_log_level(&runtime.log) {
            return Err(self.refusal("runtime.log", "a level (error, warn, info, debug, trace) or module=level, …"));
        }
        if runtime.health_listen.iter().any(|a| !a.ip().is_loopback()) {
            return Err(self.refusal("runtime.health_listen", "loopback addresses only: the pages ask for no password"));
        }
        if runtime.drain_timeout_s > 86_400 {
            return Err(self.refusal("runtime.drain_timeout_s", "0 to 86400"));
        }
        Ok(runtime)
    }

    pub fn net(&self) -> Result<Net, ConfigError> {
        let net: Net = self.section("net")?;
        if net.public_addresses.iter().any(|a| a.public.is_ipv4() != a.local.is_ipv4()) {
            return Err(self.refusal("net.public_addresses", "public and local of one family, v4 or v6"));
        }
        Ok(net)
    }

    pub fn storage(&self) -> Result<Storage, ConfigError> {
        self.section("storage")
    }

    pub fn tls(&self) -> Result<Tls, ConfigError> {
        let tls: Tls = self.section("tls")?;
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err(self.refusal("tls.certificate", "certificate and key stand together"));
        }
        if tls.certificate.is_some() && !tls.acme_domains.is_empty() {
            return Err(self.refusal("tls.acme_domains", "either certificate files or ACME, not both"));
        }
        self.acme(tls)
    }

    fn acme(&self, mut tls: Tls) -> Result<Tls, ConfigError> {
        tls.acme_domains.iter_mut().for_each(|name| name.make_ascii_lowercase());
        let given = [
            ("tls.acme_contact", tls.acme_contact.is_some()),
            ("tls.acme_directory", tls.acme_directory.is_some()),
            ("tls.acme_ca_file", tls.acme_ca_file.is_some()),
        ];
        let alone = given.iter().find(|(_, given)| *given && tls.acme_domains.is_empty());
        let url = |url: &String| url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
        let mail = |contact: &String| contact.strip_prefix("mailto:").is_some_and(|rest| rest.contains('@'));
        let wrong = if let Some((path, _)) = alone {
            (*path, "goes with acme_domains, the names that the certificate is for")
        } else if !tls.acme_domains.iter().all(|name| is_host_name(name)) {
            (
                "tls.acme_domains",
                "names such as \"phone.example.org\": the proof by TLS needs each whole, not \"*.\", and no addresses",
            )
        } else if !tls.acme_directory.iter().all(url) {
            ("tls.acme_directory", "a URL such as \"https://ca.example.org/acme/acme/directory\"")
        } else if !tls.acme_contact.iter().all(mail) {
            ("tls.acme_contact", "\"mailto:\" and an address")
        } else {
            return Ok(tls);
        };
        Err(self.refusal(wrong.0, wrong.1))
    }

    pub fn bus(&self) -> Result<BusConfig, ConfigError> {
        let bus: BusConfig = self.section("bus")?;
        let kinds = [bus.user.is_empty(), bus.token.is_empty(), bus.nkey_seed.is_empty()];
        if kinds.iter().filter(|empty| !**empty).count() > 1 {
            return Err(self.refusal("bus.user", "one of user and password, token, nkey_seed"));
        }
        Ok(bus)
    }
}
