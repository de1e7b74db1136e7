//! `[control]` and what call-control reads of the other sections, checked once.
use offhook_contract::audio::PromptName;
use offhook_contract::{PhoneNumber, Secret, TenantId, TrunkName};
use offhook_control_core::{Policy, TrunkRule};
use offhook_runtime::{ConfigError, ConfigFile, config};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Vec<SocketAddr>,
    pub certificate: Certificate,
    pub trusted_proxies: Vec<IpAddr>,
    pub allowed_origins: Vec<String>,
    pub access_token_s: u64,
    pub limits: Limits,
    pub turn: config::Turn,
    pub net: config::Net,
    pub policy: Policy,
    /// Empty: SQLite.
    pub database_url: Secret,
    /// The numbers of every tenant's trunks.
    numbers: HashMap<TenantId, Vec<PhoneNumber>>,
}

/// How the API and the pages are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Loopback only, or behind a trusted proxy that speaks TLS.
    Plain,
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
    Acme(AcmeWish),
}

/// Which names a certificate is for, and who issues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeWish {
    pub domains: Vec<String>,
    pub contact: Option<String>,
    /// Let's Encrypt when absent.
    pub directory: Option<String>,
    /// PEM: who signed the directory's own certificate, when the system does not know him.
    pub ca_file: Option<PathBuf>,
}

/// Against floods; per source address unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub requests_per_s: u32,
    pub requests_burst: u32,
    pub auth_failures_per_minute: u32,
    pub connections: usize,
    pub connections_in_all: usize,
    pub websockets_per_user: usize,
    pub commands_per_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_s: 20,
            requests_burst: 60,
            auth_failures_per_minute: 10,
            connections: 64,
            connections_in_all: 4_000,
            websockets_per_user: 16,
            commands_per_s: 50,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawControl {
    #[serde(deserialize_with = "config::one_or_many")]
    listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "config::one_or_many")]
    trusted_proxies: Vec<IpAddr>,
    #[serde(deserialize_with = "config::one_or_many")]
    allowed_origins: Vec<String>,
    access_token_s: u64,
    ring_timeout_s: u64,
    page_grace_s: u64,
    max_calls: usize,
    max_calls_per_user: usize,
    prompt_language: String,
    beep_level_dbfs: f32,
    beep_period_s: u32,
    limits: Limits,
}

impl Default for RawControl {
    fn default() -> Self {
        let policy = Policy::default();
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
            access_token_s: 600,
            ring_timeout_s: policy.ring_timeout.as_secs(),
            page_grace_s: policy.page_grace.as_secs(),
            max_calls: policy.max_calls,
            max_calls_per_user: policy.max_calls_per_user,
            prompt_language: policy.notice.language,
            beep_level_dbfs: policy.beep.level_dbfs,
            beep_period_s: policy.beep.period_ms / 1000,
            limits: Limits::default(),
        }
    }
}

/// The gateway's keys are the gateway's to check.
#[derive(Debug, Deserialize)]
struct RawTrunk {
    name: TrunkName,
    tenant: TenantId,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    numbers: Vec<PhoneNumber>,
}

impl Config {
    pub fn read(file: &ConfigFile) -> Result<Self, ConfigError> {
        let raw: RawControl = file.section("control")?;
        check_ranges(file, &raw)?;
        let certificate = certificate(file.tls()?);
        let outside = raw.listen.iter().find(|a| !a.ip().is_loopback());
        if let (Some(_), Certificate::Plain, true) = (outside, &certificate, raw.trusted_proxies.is_empty()) {
            return Err(file.refusal(
                "control.listen",
                "off loopback the API and the pages are served over TLS only, for browsers give no microphone otherwise: \
                 set [tls] certificate and key, or [tls] acme_domains, or name the TLS proxy in front in control.trusted_proxies",
            ));
        }
        let trunks: Vec<RawTrunk> = file.trunks()?;
        let mut numbers: HashMap<TenantId, Vec<PhoneNumber>> = HashMap::new();
        for trunk in &trunks {
            numbers.entry(trunk.tenant.clone()).or_default().extend(trunk.numbers.iter().cloned());
        }
        Ok(Self {
            policy: policy(file, &raw, trunks)?,
            numbers,
            listen: raw.listen,
            certificate,
            trusted_proxies: raw.trusted_proxies,
            allowed_origins: raw.allowed_origins,
            access_token_s: raw.access_token_s,
            limits: raw.limits,
            turn: file.turn()?,
            net: file.net()?,
            database_url: file.storage()?.database_url,
        })
    }

    /// What `new` has otherwise, and a reload does not change.
    pub fn waits_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let files = |c: &Certificate| matches!(c, Certificate::Files { .. });
        let read_again = files(&self.certificate) && files(&new.certificate);
        let differs = [
            ("control.listen", self.listen != new.listen),
            ("tls", self.certificate != new.certificate && !read_again),
            ("control.trusted_proxies", self.trusted_proxies != new.trusted_proxies),
            ("control.allowed_origins", self.allowed_origins != new.allowed_origins),
            ("control.access_token_s", self.access_token_s != new.access_token_s),
            ("control.limits", self.limits != new.limits),
            ("storage.database_url", self.database_url.expose() != new.database_url.expose()),
        ];
        differs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    pub fn numbers_of(&self, tenant: &TenantId) -> &[PhoneNumber] {
        self.numbers.get(tenant).map(Vec::as_slice).unwrap_or_default()
    }
}

fn certificate(tls: config::Tls) -> Certificate {
    match (tls.certificate, tls.key) {
        (Some(certificate), Some(key)) => Certificate::Files { certificate, key },
        _ if !tls.acme_domains.is_empty() => {
            let (domains, ca_file) = (tls.acme_domains, tls.acme_ca_file);
            Certificate::Acme(AcmeWish { domains, contact: tls.acme_contact, directory: tls.acme_directory, ca_file })
        }
        _ => Certificate::Plain,
    }
}

fn check_ranges(file: &ConfigFile, raw: &RawControl) -> Result<(), ConfigError> {
    let within = |path: &str, expected: &str, fine: bool| if fine { Ok(()) } else { Err(file.refusal(path, expected)) };
    let longest = crate::tokens::MAX_ACCESS_TOKEN_S;
    within("control.listen", "one address or more", !raw.listen.is_empty())?;
    within("control.access_token_s", "60 to 900", (60..=longest).contains(&raw.access_token_s))?;
    within("control.ring_timeout_s", "5 to 300", (5..=300).contains(&raw.ring_timeout_s))?;
    within("control.page_grace_s", "5 to 120", (5..=120).contains(&raw.page_grace_s))?;
    within("control.max_calls", "1 to 10000", (1..=10_000).contains(&raw.max_calls))?;
    within("control.max_calls_per_user", "1 to 100", (1..=100).contains(&raw.max_calls_per_user))?;
    within("control.beep_level_dbfs", "-40 to -6", (-40.0..=-6.0).contains(&raw.beep_level_dbfs))?;
    within("control.beep_period_s", "5 to 120", (5..=120).contains(&raw.beep_period_s))?;
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    let language = &raw.prompt_language;
    within("control.prompt_language", "a language such as \"en\"", !language.is_empty() && language.bytes().all(word))?;
    let origin = |o: &String| (o.starts_with("https://") || o.starts_with("http://")) && !o.ends_with('/');
    within(
        "control.allowed_origins",
        "origins such as \"https://phone.example.org\", without a path",
        raw.allowed_origins.iter().all(origin),
    )?;
    let limits = &raw.limits;
    within("control.limits.requests_per_s", "1 to 10000", (1..=10_000).contains(&limits.requests_per_s))?;
    within("control.limits.requests_burst", "1 to 10000", (1..=10_000).contains(&limits.requests_burst))?;
    within("control.limits.commands_per_s", "1 to 1000", (1..=1_000).contains(&limits.commands_per_s))
}

fn policy(file: &ConfigFile, raw: &RawControl, trunks: Vec<RawTrunk>) -> Result<Policy, ConfigError> {
    let dial = file.dial()?;
    let trunks = trunks.into_iter();
    let defaults = Policy::default();
    let mut beep = defaults.beep;
    (beep.level_dbfs, beep.period_ms) = (raw.beep_level_dbfs, raw.beep_period_s * 1000);
    Ok(Policy {
        ring_timeout: Duration::from_secs(raw.ring_timeout_s),
        page_grace: Duration::from_secs(raw.page_grace_s),
        max_calls: raw.max_calls,
        max_calls_per_user: raw.max_calls_per_user,
        dial: dial.rules,
        numbering: dial.numbering,
        trunks: trunks.map(|t| TrunkRule { name: t.name, tenant: t.tenant, emergency: t.emergency }).collect(),
        notice: PromptName { name: "recorded".into(), language: raw.prompt_language.clone() },
        beep,
        ..defaults
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let file = ConfigFile::parse("offhook.toml", text, []).map_err(|e| e.to_string())?;
        Config::read(&file).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_at_all_is_a_configuration_for_loopback() {
        let config = read("").unwrap();
        assert!(config.listen.iter().all(|a| a.ip().is_loopback()));
        assert!(config.policy.trunks.is_empty());
        assert_eq!(read("[control]\nlisten = \"127.0.0.1:8080\"\n").unwrap().listen, config.listen);
    }

    #[test]
    fn plain_http_off_loopback_is_refused_with_the_reason() {
        let open = "[control]\nlisten = [\"0.0.0.0:8080\"]\n";
        let refused = read(open).unwrap_err();
        assert!(refused.contains("control.listen") && refused.contains("over TLS only"), "{refused}");
        assert!(read(&format!("{open}trusted_proxies = [\"10.0.0.1\"]\n")).is_ok());
        assert!(read(&format!("{open}[tls]\ncertificate = \"a\"\nkey = \"b\"\n")).is_ok());
        assert!(read(&format!("{open}[tls]\nacme_domains = [\"phone.example.org\"]\n")).is_ok());
    }

    #[test]
    fn unknown_keys_and_values_out_of_range_name_their_path() {
        assert!(read("[control]\nlisten_on = []\n").unwrap_err().contains("listen_on"));
        assert!(read("[control]\naccess_token_s = 86400\n").unwrap_err().contains("60 to 900"));
        assert!(read("[turn]\nurls = [\"turn:a\"]\n").unwrap_err().contains("turn.secret"));
        assert!(read("[turn]\nurls = [\"http://a\"]\nsecret = \"x\"\n").unwrap_err().contains("turn.urls"));
    }

    #[test]
    fn a_reload_names_what_waits_for_a_restart() {
        let files = |name: &str| format!("[tls]\ncertificate = \"{name}\"\nkey = \"{name}\"\n");
        let (old, new) = (read(&files("a")).unwrap(), read(&files("b")).unwrap());
        assert!(old.waits_for_restart(&new).is_empty(), "certificate files are read again");
        let other = "[control]\nlisten = \"[::1]:8080\"\n[control.limits]\nconnections = 1\n[tls]\nacme_domains = [\"a.org\"]\n";
        assert_eq!(old.waits_for_restart(&read(other).unwrap()), ["control.listen", "tls", "control.limits"]);
    }

    #[test]
    fn a_trunk_gives_its_tenant_calls_and_emergencies() {
        let text = "[[trunk]]\nname = \"t\"\ntenant = \"a\"\naddress = \"192.0.2.1\"\nemergency = true\n";
        let policy = read(text).unwrap().policy;
        let tenant = TenantId::parse("a").unwrap();
        assert!(policy.emergency_calls(&tenant) && policy.outbound_calls(&tenant));
        assert!(!policy.outbound_calls(&TenantId::parse("b").unwrap()));
    }
}
