//! `[turn]`: the TURN server, ours or another's. The TURN daemon and call-control read it here, so that what browsers are
//! told is what listens.
use super::{ConfigError, ConfigFile, Net, Tls, one_or_many};
use offhook_contract::{DaemonKind, Secret};
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const THREADS_MAX: usize = 256;
const SECRETS_MAX: usize = 16;
/// Where the others listen when nothing is said; `offhook config check`'s samples hold these to the truth.
const LISTEN_DEFAULTS: [(&str, &str, u16); 3] =
    [("control", "listen", 8_080), ("sfu", "tap_listen", 7_890), ("recorder", "listen", 7_891)];
/// In [`ConfigFile::turn`]'s data directory: made by the TURN daemon where nobody chose a secret.
const KEPT_SECRET: &str = "turn.secret";

/// The section, checked. Peer ranges stay text: the TURN daemon knows their form.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Ours runs. Otherwise `urls` name somebody else's server, or there is none.
    pub enabled: bool,
    pub listen: Vec<SocketAddr>,
    pub tls_listen: Vec<SocketAddr>,
    /// Empty: the addresses of the listeners.
    pub relay_addresses: Vec<IpAddr>,
    pub relay_ports: RangeInclusive<u16>,
    pub realm: String,
    /// The first one mints, all are accepted.
    pub secrets: Vec<Secret>,
    pub users: Vec<TurnUser>,
    /// What browsers are told; empty: see [`Turn::urls`].
    pub urls: Vec<String>,
    pub media_peers: Vec<TurnMediaPeer>,
    pub allowed_peers: Vec<String>,
    pub denied_peers: Vec<String>,
    pub quotas: TurnQuotas,
    pub lifetimes: TurnLifetimes,
    pub threads: usize,
    /// Chain and key, of this section or of `[tls]`.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Where the secret is that nobody chose.
    pub kept_secret: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnUser {
    pub name: String,
    pub password: Secret,
}

/// A media port of an SFU that is not seen on the bus, or that is reached by another address than it announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "RawMediaPeer")]
pub struct TurnMediaPeer {
    pub announced: SocketAddr,
    pub local: SocketAddr,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMediaPeer {
    Same(SocketAddr),
    Mapped(MappedPeer),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappedPeer {
    announced: SocketAddr,
    local: SocketAddr,
}

impl From<RawMediaPeer> for TurnMediaPeer {
    fn from(raw: RawMediaPeer) -> Self {
        match raw {
            RawMediaPeer::Same(address) => Self { announced: address, local: address },
            RawMediaPeer::Mapped(MappedPeer { announced, local }) => Self { announced, local },
        }
    }
}

/// 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnQuotas {
    pub allocations_per_user: u32,
    pub allocations: u32,
    /// Of one allocation, in each direction.
    pub bytes_per_second: u64,
    /// Of all together, in each direction.
    pub capacity_bytes_per_second: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLifetimes {
    pub allocation: Duration,
    pub allocation_max: Duration,
    pub permission: Duration,
    pub channel: Duration,
    pub nonce: Duration,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTurn {
    enabled: Option<bool>,
    #[serde(deserialize_with = "one_or_many")]
    listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "one_or_many")]
    tls_listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "one_or_many")]
    relay_addresses: Vec<IpAddr>,
    relay_ports: [u16; 2],
    realm: String,
    /// The word of earlier releases for a single one.
    secret: Secret,
    #[serde(deserialize_with = "secrets")]
    secrets: Vec<Secret>,
    users: Vec<TurnUser>,
    #[serde(deserialize_with = "one_or_many")]
    urls: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    media_peers: Vec<TurnMediaPeer>,
    #[serde(deserialize_with = "one_or_many")]
    allowed_peers: Vec<String>,
    #[serde(deserialize_with = "one_or_many")]
    denied_peers: Vec<String>,
    allocations_per_user: u32,
    allocations: u32,
    bytes_per_second: u64,
    capacity_bytes_per_second: u64,
    lifetime_s: u64,
    lifetime_max_s: u64,
    permission_lifetime_s: u64,
    channel_lifetime_s: u64,
    nonce_lifetime_s: u64,
    threads: Option<usize>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Default for RawTurn {
    fn default() -> Self {
        Self {
            enabled: None,
            listen: Vec::new(),
            tls_listen: Vec::new(),
            relay_addresses: Vec::new(),
            relay_ports: [49_152, 65_535],
            realm: "offhook".into(),
            secret: Secret::default(),
            secrets: Vec::new(),
            users: Vec::new(),
            urls: Vec::new(),
            media_peers: Vec::new(),
            allowed_peers: Vec::new(),
            denied_peers: Vec::new(),
            // A page with several addresses and every way in takes some ten.
            allocations_per_user: 64,
            allocations: 10_000,
            bytes_per_second: 0,
            capacity_bytes_per_second: 0,
            // RFC 8656 §3.2, §7.2, §9, §12.
            lifetime_s: 600,
            lifetime_max_s: 3_600,
            permission_lifetime_s: 300,
            channel_lifetime_s: 600,
            nonce_lifetime_s: 600,
            threads: None,
            certificate: None,
            key: None,
        }
    }
}

/// A list, or text with one secret a line: what `OFFHOOK__TURN__SECRETS` and the file of `…_FILE` hold.
fn secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    use serde::de::Error;
    let list = |text: &str| format!("v = {text}").parse::<toml::Table>().ok()?.remove("v")?.try_into().ok();
    let secrets: Vec<Secret> = match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => match text.trim_start().starts_with('[') {
            true => list(&text).ok_or_else(|| D::Error::custom("expected a list of secrets"))?,
            false => text.lines().map(|line| Secret::new(line.trim_end())).collect(),
        },
        value => value.try_into().map_err(|_| D::Error::custom("expected a list of secrets"))?,
    };
    Ok(secrets.into_iter().filter(|secret| !secret.is_empty()).collect())
}

impl ConfigFile {
    pub fn turn(&self) -> Result<Turn, ConfigError> {
        let raw: RawTurn = self.section("turn")?;
        let listens = !raw.listen.is_empty() || !raw.tls_listen.is_empty();
        let enabled = raw.enabled.unwrap_or(raw.urls.is_empty() || listens);
        let certificate = self.turn_certificate(&raw)?;
        let mut secrets = raw.secrets.clone();
        if !raw.secret.is_empty() {
            secrets.insert(0, raw.secret.clone());
        }
        self.check_turn(&raw, enabled, certificate.is_some(), &secrets)?;
        if enabled {
            self.check_beside_control(&raw)?;
        }
        let listen = match listens {
            true => raw.listen,
            false => vec![SocketAddr::from(([127, 0, 0, 1], 3_478))],
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Turn {
            enabled,
            listen,
            tls_listen: raw.tls_listen,
            relay_addresses: raw.relay_addresses,
            relay_ports: raw.relay_ports[0]..=raw.relay_ports[1],
            realm: raw.realm,
            secrets,
            users: raw.users,
            urls: raw.urls,
            media_peers: raw.media_peers,
            allowed_peers: raw.allowed_peers,
            denied_peers: raw.denied_peers,
            quotas: TurnQuotas {
                allocations_per_user: raw.allocations_per_user,
                allocations: raw.allocations,
                bytes_per_second: raw.bytes_per_second,
                capacity_bytes_per_second: raw.capacity_bytes_per_second,
            },
            lifetimes: TurnLifetimes {
                allocation: Duration::from_secs(raw.lifetime_s),
                allocation_max: Duration::from_secs(raw.lifetime_max_s),
                permission: Duration::from_secs(raw.permission_lifetime_s),
                channel: Duration::from_secs(raw.channel_lifetime_s),
                nonce: Duration::from_secs(raw.nonce_lifetime_s),
            },
            threads: raw.threads.unwrap_or_else(|| cores.saturating_sub(1).max(1)),
            certificate,
            kept_secret: self.storage()?.data_dir.join(KEPT_SECRET),
        })
    }

    /// TURN over TCP and TLS and the API cannot share a socket; whoever came second would not start.
    fn check_beside_control(&self, raw: &RawTurn) -> Result<(), ConfigError> {
        let control = self.table.get("control").and_then(|control| control.get("listen"));
        let control = control.map_or_else(Vec::new, |value| match value.as_array() {
            Some(list) => list.iter().collect(),
            None => vec![value],
        });
        let control: Vec<SocketAddr> = control.into_iter().filter_map(|text| text.as_str()?.parse().ok()).collect();
        for (key, list) in [("listen", &raw.listen), ("tls_listen", &raw.tls_listen)] {
            let both =
                list.iter().find_map(|ours| Some((ours, control.iter().find(|theirs| overlap(*ours, **theirs))?)));
            if let Some((ours, theirs)) = both {
                let expected = format!("a port or an address of its own: {ours} is taken by control.listen = {theirs}");
                return Err(self.refusal(&format!("turn.{key}"), &expected));
            }
        }
        Ok(())
    }

    /// Where the stack listens besides media ports, as far as this configuration says: TURN clients must not be relayed
    /// there. Each section's `listen` and `…_listen`, the pages of health and metrics, and the bus.
    pub fn listening_sockets(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        for (name, section) in self.table.iter().filter(|(name, _)| *name != "turn") {
            for (key, value) in section.as_table().into_iter().flatten() {
                let listens = key == "listen" || key.ends_with("_listen");
                if listens && !(name == "sfu" && key == "media_listen") {
                    let texts = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
                    all.extend(texts.into_iter().filter_map(|text| text.as_str()?.parse::<SocketAddr>().ok()));
                }
            }
        }
        let is_said = |section: &str, key: &str| self.table.get(section).is_some_and(|table| table.get(key).is_some());
        let unsaid = LISTEN_DEFAULTS.iter().filter(|(section, key, _)| !is_said(section, key));
        all.extend(unsaid.map(|(_, _, port)| SocketAddr::from(([127, 0, 0, 1], *port))));
        all.extend([None].into_iter().chain(DaemonKind::ALL.map(Some)).map(crate::health_port));
        let servers = self.bus().map(|bus| bus.url).unwrap_or_default();
        all.extend(servers.iter().filter_map(|url| url.split("://").last()?.parse::<SocketAddr>().ok()));
        all.sort_unstable();
        all.dedup();
        all
    }

    fn turn_certificate(&self, raw: &RawTurn) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        match (&raw.certificate, &raw.key) {
            (Some(chain), Some(key)) => Ok(Some((chain.clone(), key.clone()))),
            (None, None) => {
                let Tls { certificate, key, .. } = self.tls()?;
                Ok(certificate.zip(key))
            }
            _ => Err(self.refusal("turn.certificate", "certificate and key stand together")),
        }
    }

    fn check_turn(
        &self,
        raw: &RawTurn,
        enabled: bool,
        has_certificate: bool,
        secrets: &[Secret],
    ) -> Result<(), ConfigError> {
        let within = |key: &str, expected: &str, fine: bool| match fine {
            true => Ok(()),
            false => Err(self.refusal(&format!("turn.{key}"), expected)),
        };
        let url = |url: &String| ["turn:", "turns:", "stun:", "stuns:"].iter().any(|scheme| url.starts_with(scheme));
        within("urls", "addresses such as \"turn:turn.example.org:3478?transport=udp\"", raw.urls.iter().all(url))?;
        let theirs = !enabled && raw.urls.iter().any(|url| url.starts_with("turn"));
        let shared = "the secret that the TURN server was given (coturn's static-auth-secret)";
        within("secrets", shared, !theirs || !secrets.is_empty())?;
        within("secrets", "at most 16", secrets.len() <= SECRETS_MAX)?;
        let files = "a certificate: [turn] certificate and key, or [tls] certificate and key";
        within("tls_listen", files, raw.tls_listen.is_empty() || has_certificate)?;
        let one = |list: &[IpAddr]| list.iter().all(|ip| !ip.is_unspecified() && !ip.is_multicast());
        within("relay_addresses", "addresses of this host, none of them the wildcard", one(&raw.relay_addresses))?;
        let unicast = raw.listen.iter().chain(&raw.tls_listen).all(|address| !address.ip().is_multicast());
        within("listen", "unicast socket addresses", unicast)?;
        let [first, last] = raw.relay_ports;
        within("relay_ports", "[first, last], from 1024 on", (1_024..=last).contains(&first))?;
        let word = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c == '"' || c == '\\')
        };
        within("realm", "1 to 127 bytes without quotes", word(&raw.realm, 127))?;
        let user = |user: &TurnUser| word(&user.name, 128) && !user.name.contains(':') && !user.password.is_empty();
        within("users", "each with a name (no colon, no quotes) and a password", raw.users.iter().all(user))?;
        within("lifetime_s", "60 to 3600", (60..=3_600).contains(&raw.lifetime_s))?;
        let most = "lifetime_s to 86400";
        within("lifetime_max_s", most, (raw.lifetime_s..=86_400).contains(&raw.lifetime_max_s))?;
        within("permission_lifetime_s", "60 to 3600", (60..=3_600).contains(&raw.permission_lifetime_s))?;
        within("channel_lifetime_s", "60 to 3600", (60..=3_600).contains(&raw.channel_lifetime_s))?;
        within("nonce_lifetime_s", "60 to 86400", (60..=86_400).contains(&raw.nonce_lifetime_s))?;
        let (one, all) = (raw.bytes_per_second, raw.capacity_bytes_per_second);
        within("capacity_bytes_per_second", "at least bytes_per_second, or 0", all == 0 || all >= one)?;
        within("threads", "1 to 256", raw.threads.is_none_or(|threads| (1..=THREADS_MAX).contains(&threads)))
    }
}

impl Turn {
    /// What a browser is told whose page has this host name (`phone.example.org`, `203.0.113.5`, `[2001:db8::5]`).
    ///
    /// Our own listeners, under their public addresses. A wildcard without one, and TLS, whose certificate has a name,
    /// go by the page's host. A listener on loopback is told to pages on loopback only.
    #[must_use]
    pub fn urls(&self, net: &Net, page: Option<&str>) -> Vec<String> {
        if !self.urls.is_empty() || !self.enabled {
            return self.urls.clone();
        }
        let page = page.filter(|host| is_host(host));
        let mut urls = Vec::new();
        for host in self.listen.iter().flat_map(|bound| hosts(net, *bound, page)) {
            urls.push(format!("turn:{host}?transport=udp"));
            urls.push(format!("turn:{host}?transport=tcp"));
        }
        if self.certificate.is_some() {
            let bound = if self.tls_listen.is_empty() { &self.listen } else { &self.tls_listen };
            for bound in bound {
                for host in hosts(net, *bound, page) {
                    let host = page.map_or(host, |page| format!("{page}:{}", bound.port()));
                    urls.push(format!("turns:{host}?transport=tcp"));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        urls
    }

    /// The secret that nobody chose, if it was made already.
    ///
    /// # Errors
    /// It cannot be read, or others than its owner can.
    pub fn read_kept_secret(&self) -> std::io::Result<Option<Secret>> {
        use std::os::unix::fs::PermissionsExt;
        let text = match std::fs::read_to_string(&self.kept_secret) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mode = std::fs::metadata(&self.kept_secret)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = self.kept_secret.display();
            let why = format!("{path} can be read by others than its owner (mode {mode:o}); run: chmod 600 {path}");
            return Err(std::io::Error::other(why));
        }
        Ok(Some(Secret::new(text.trim_end())).filter(|secret| !secret.is_empty()))
    }

    /// Every listener is on loopback: it serves this machine alone.
    #[must_use]
    pub fn is_on_loopback(&self) -> bool {
        self.listen.iter().chain(&self.tls_listen).all(|address| address.ip().is_loopback())
    }
}

/// `host:port` of a listener, as a browser can reach it.
fn hosts(net: &Net, bound: SocketAddr, page: Option<&str>) -> Vec<String> {
    if bound.ip().is_loopback() {
        let here = page.is_none_or(is_loopback_host);
        return if here { vec![bound.to_string()] } else { Vec::new() };
    }
    let announced = net.announced_all(bound);
    if announced.is_empty() {
        return page.map(|page| format!("{page}:{}", bound.port())).into_iter().collect();
    }
    announced.iter().map(ToString::to_string).collect()
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let meet = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4() && meet
}

/// Whether this is a host as a URL writes it, and nothing else.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').map(|rest| rest.strip_suffix(']')) {
        Some(Some(v6)) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        Some(None) => false,
        None => {
            (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        }
    }
}

fn is_loopback_host(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse("offhook.toml", text, []).unwrap()
    }

    fn turn(text: &str) -> Turn {
        file(text).turn().unwrap()
    }

    #[test]
    fn without_a_section_it_serves_this_machine_and_keeps_its_own_secret() {
        let turn = turn("[storage]\ndata_dir = \"/d\"\n");
        assert!(turn.enabled && turn.is_on_loopback() && turn.secrets.is_empty());
        assert_eq!(turn.kept_secret, PathBuf::from("/d/turn.secret"));
        assert_eq!((turn.relay_ports, turn.realm.as_str()), (49_152..=65_535, "offhook"));
    }

    #[test]
    fn urls_alone_name_another_server_as_before() {
        let theirs = "[turn]\nurls = [\"turn:t.example.org:3478?transport=udp\"]\nsecret = \"shared\"\n";
        let turn = turn(theirs);
        assert!(!turn.enabled);
        assert_eq!(turn.secrets.iter().map(Secret::expose).collect::<Vec<_>>(), ["shared"]);
        assert_eq!(turn.urls(&Net::default(), Some("phone.example.org")), ["turn:t.example.org:3478?transport=udp"]);
        let ours = file(&theirs.replace("secret", "listen = \"0.0.0.0:3478\"\nsecrets")).turn().unwrap();
        assert!(ours.enabled);
        assert!(!file("[turn]\nenabled = false\n").turn().unwrap().enabled);
    }

    #[test]
    fn several_secrets_come_from_the_file_the_environment_or_a_file_of_their_own_and_are_not_shown() {
        let kept = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kept.path(), "new one\nold one\n").unwrap();
        let path = kept.path().to_str().unwrap();
        for (text, variable, value) in [
            ("[turn]\nsecrets = [\"new one\", \"old one\"]\n", "HOME", "/"),
            ("", "OFFHOOK__TURN__SECRETS", "[\"new one\", \"old one\"]"),
            ("", "OFFHOOK__TURN__SECRETS_FILE", path),
            ("[turn]\nsecrets = \"old one\"\n", "OFFHOOK__TURN__SECRET", "new one"),
        ] {
            let file = ConfigFile::parse("f", text, [(variable.to_owned(), value.to_owned())]).unwrap();
            let secrets = file.turn().unwrap().secrets;
            assert_eq!(secrets.iter().map(Secret::expose).collect::<Vec<_>>(), ["new one", "old one"], "{variable}");
            assert!(!file.redacted().contains(" one"), "{}", file.redacted());
        }
    }

    #[test]
    fn values_that_cannot_work_are_refused_with_their_path() {
        for (line, path) in [
            ("urls = [\"turn:a\"]", "turn.secrets = (not set)"),
            ("urls = [\"http://a\"]", "turn.urls"),
            ("tls_listen = [\"192.0.2.1:5349\"]", "turn.tls_listen"),
            ("relay_addresses = [\"0.0.0.0\"]", "turn.relay_addresses"),
            ("relay_ports = [50000, 49999]", "turn.relay_ports"),
            ("realm = \"\"", "turn.realm"),
            ("users = [{ name = \"a:b\", password = \"c\" }]", "turn.users"),
            ("lifetime_s = 5", "turn.lifetime_s = 5: 60 to 3600"),
            ("threads = 0", "turn.threads"),
            ("certificate = \"a\"", "turn.certificate"),
            ("listen = [\"nowhere\"]", "turn.listen"),
            ("static_auth_secret = \"a\"", "static_auth_secret"),
        ] {
            let error = file(&format!("[turn]\n{line}\n")).turn().unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    #[test]
    fn a_socket_that_call_control_listens_on_is_refused_and_both_are_named() {
        let read = |control: &str, turn: &str| {
            let files = "[tls]\ncertificate = \"a\"\nkey = \"b\"\n";
            file(&format!("{files}[control]\nlisten = {control}\n[turn]\n{turn}\n")).turn()
        };
        for (control, turn, key) in [
            ("\"0.0.0.0:443\"", "tls_listen = [\"0.0.0.0:443\"]", "turn.tls_listen"),
            ("[\"127.0.0.1:8080\", \"192.0.2.1:443\"]", "tls_listen = [\"0.0.0.0:443\"]", "turn.tls_listen"),
            ("\"[::]:3478\"", "listen = \"[2001:db8::1]:3478\"", "turn.listen"),
        ] {
            let error = read(control, turn).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("control.listen"), "{error}");
        }
        for (control, turn) in [
            ("\"192.0.2.1:443\"", "tls_listen = [\"192.0.2.2:443\"]"),
            ("\"0.0.0.0:443\"", "tls_listen = [\"0.0.0.0:5349\"]"),
            ("\"0.0.0.0:443\"", "enabled = false\ntls_listen = [\"0.0.0.0:443\"]"),
        ] {
            read(control, turn).unwrap();
        }
    }

    #[test]
    fn browsers_are_told_addresses_that_they_can_reach() {
        let open = "[net]\npublic_addresses = [{ public = \"203.0.113.5\", local = \"10.0.0.5\" }]\n";
        let urls = |text: &str, page: Option<&str>| {
            let file = file(text);
            file.turn().unwrap().urls(&file.net().unwrap(), page)
        };
        let listen = "[turn]\nlisten = [\"0.0.0.0:3478\"]\n";
        assert_eq!(
            urls(&format!("{open}{listen}"), Some("phone.example.org")),
            ["turn:203.0.113.5:3478?transport=udp", "turn:203.0.113.5:3478?transport=tcp"]
        );
        let files = "[tls]\ncertificate = \"a\"\nkey = \"b\"\n";
        assert_eq!(
            urls(&format!("{open}{files}{listen}tls_listen = \"10.0.0.5:443\"\n"), Some("phone.example.org")).last(),
            Some(&"turns:phone.example.org:443?transport=tcp".to_owned())
        );
        assert_eq!(urls(listen, Some("[2001:db8::5]"))[0], "turn:[2001:db8::5]:3478?transport=udp");
        // Nothing that a header says gets into a URL unless it is a host.
        assert!(urls(listen, Some("a?transport=udp")).is_empty());
        assert!(urls(listen, None).is_empty());
        assert_eq!(urls("", Some("localhost"))[0], "turn:127.0.0.1:3478?transport=udp");
        assert!(urls("", Some("phone.example.org")).is_empty());
        assert!(urls("[turn]\nenabled = false\n", Some("localhost")).is_empty());
    }
}
