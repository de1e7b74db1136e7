//! `[turn]`: the TURN server, ours or another's. The TURN daemon and call-control read it here, so that what browsers are
//! told is what listens.
use super::turn_urls::is_host;
use super::{ConfigError, ConfigFile, Tls, one_or_many};
use offhook_contract::Secret;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

const THREADS_MAX: usize = 256;
const SECRETS_MAX: usize = 16;
/// In [`ConfigFile::turn`]'s data directory: made by the TURN daemon where nobody chose a secret.
const KEPT_SECRET: &str = "turn.secret";
/// Likewise: where call-control keeps what it fetched by ACME.
const ACME_FOLDER: &str = "control/acme";
const MD5_KEY_DIGITS: usize = 32;

/// The section, checked. Peer ranges stay text: the TURN daemon knows their form.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Ours runs. Otherwise `urls` name somebody else's server, or there is none.
    pub enabled: bool,
    pub listen: Vec<SocketAddr>,
    pub tls_listen: Vec<SocketAddr>,
    /// `listen`, `tls_listen` or `host` was written down, here or in the environment.
    pub says_where: bool,
    /// Stands in the URLs instead of addresses; empty: see [`Turn::urls`].
    pub host: String,
    pub protocol: TurnProtocol,
    /// Empty: the addresses of the listeners.
    pub relay_addresses: Vec<IpAddr>,
    pub relay_ports: RangeInclusive<u16>,
    pub realm: String,
    /// The first one mints, all are accepted.
    pub secrets: Vec<Secret>,
    pub users: Vec<TurnUser>,
    /// coturn's tables, with more users, secrets, peer ranges and limits: a path (SQLite) or `postgres://…`. May be empty.
    pub database_url: Secret,
    /// What browsers are told; empty: see [`Turn::urls`].
    pub urls: Vec<String>,
    pub media_peers: Vec<TurnMediaPeer>,
    pub allowed_peers: Vec<String>,
    pub denied_peers: Vec<String>,
    pub quotas: TurnQuotas,
    pub lifetimes: TurnLifetimes,
    /// Traffic of each user among the metrics, and not only of all.
    pub user_labels: bool,
    pub threads: usize,
    /// Of this section or of `[tls]`.
    pub certificate: Option<TurnCertificate>,
    /// What of TLS 1.2 and 1.3 is spoken, as OpenSSL writes it; empty: all that is safe.
    pub ciphers: String,
    /// Where the secret is that nobody chose.
    pub kept_secret: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnUser {
    pub name: String,
    /// Either of the two.
    #[serde(default)]
    pub password: Secret,
    /// MD5 of `name:realm:password` as `turnadmin -k` prints it, `0x` and 32 hexadecimal digits.
    #[serde(default)]
    pub md5_key: Secret,
}

/// Where TLS has its certificate from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnCertificate {
    Files {
        chain: PathBuf,
        key: PathBuf,
        /// Of the key, if it is encrypted; may be empty.
        password: Secret,
    },
    /// call-control fetches it for these names and keeps it in this folder, sooner or later.
    Acme { folder: PathBuf, domains: Vec<String> },
}

/// What is spoken, and with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnProtocol {
    /// Clients over UDP, over plain TCP, and over TLS where there is a certificate.
    pub udp: bool,
    pub tcp: bool,
    pub tls: bool,
    /// Answer Binding requests.
    pub stun: bool,
    /// Answer nothing else.
    pub stun_only: bool,
    /// Relay over UDP, which is all that is relayed.
    pub udp_relay: bool,
    pub default_family: TurnFamily,
    /// FINGERPRINT in every answer, also to messages without one.
    pub fingerprint: bool,
    /// SOFTWARE in answers to those who logged in.
    pub software: bool,
}

/// What an Allocate without REQUESTED-ADDRESS-FAMILY gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnFamily {
    /// RFC 8656 §7.2.
    #[default]
    Ipv4,
    Ipv6,
    /// What its client came by.
    Client,
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
    /// Answers to each /32 or /64 that has not logged in; four times as many at once.
    pub strangers_per_second: u64,
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
    host: String,
    udp: bool,
    tcp: bool,
    tls: bool,
    stun: bool,
    stun_only: bool,
    udp_relay: bool,
    default_family: TurnFamily,
    fingerprint: bool,
    software: bool,
    #[serde(deserialize_with = "one_or_many")]
    relay_addresses: Vec<IpAddr>,
    relay_ports: [u16; 2],
    realm: String,
    /// The word of earlier releases for a single one.
    secret: Secret,
    #[serde(deserialize_with = "secrets")]
    secrets: Vec<Secret>,
    users: Vec<TurnUser>,
    database_url: Secret,
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
    strangers_per_second: u64,
    user_labels: bool,
    lifetime_s: u64,
    lifetime_max_s: u64,
    permission_lifetime_s: u64,
    channel_lifetime_s: u64,
    nonce_lifetime_s: u64,
    threads: Option<usize>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    key_password: Secret,
    ciphers: String,
}

impl Default for RawTurn {
    fn default() -> Self {
        Self {
            enabled: None,
            listen: Vec::new(),
            tls_listen: Vec::new(),
            host: String::new(),
            udp: true,
            tcp: true,
            tls: true,
            stun: true,
            stun_only: false,
            udp_relay: true,
            default_family: TurnFamily::Ipv4,
            fingerprint: false,
            software: true,
            relay_addresses: Vec::new(),
            relay_ports: [49_152, 65_535],
            realm: "offhook".into(),
            secret: Secret::default(),
            secrets: Vec::new(),
            users: Vec::new(),
            database_url: Secret::default(),
            urls: Vec::new(),
            media_peers: Vec::new(),
            allowed_peers: Vec::new(),
            denied_peers: Vec::new(),
            // A page with several addresses and every way in takes some ten.
            allocations_per_user: 64,
            allocations: 10_000,
            bytes_per_second: 0,
            capacity_bytes_per_second: 0,
            strangers_per_second: 100,
            user_labels: false,
            // RFC 8656 §3.2, §7.2, §9, §12.
            lifetime_s: 600,
            lifetime_max_s: 3_600,
            permission_lifetime_s: 300,
            channel_lifetime_s: 600,
            nonce_lifetime_s: 600,
            threads: None,
            certificate: None,
            key: None,
            key_password: Secret::default(),
            ciphers: String::new(),
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
        let protocol = raw.protocol();
        let listen = match listens {
            true => raw.listen,
            false => vec![SocketAddr::from(([127, 0, 0, 1], 3_478))],
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Turn {
            enabled,
            says_where: listens || !raw.host.is_empty(),
            protocol,
            listen,
            tls_listen: raw.tls_listen,
            host: raw.host,
            relay_addresses: raw.relay_addresses,
            relay_ports: raw.relay_ports[0]..=raw.relay_ports[1],
            realm: raw.realm,
            secrets,
            users: raw.users,
            database_url: raw.database_url,
            urls: raw.urls,
            media_peers: raw.media_peers,
            allowed_peers: raw.allowed_peers,
            denied_peers: raw.denied_peers,
            quotas: TurnQuotas {
                allocations_per_user: raw.allocations_per_user,
                allocations: raw.allocations,
                bytes_per_second: raw.bytes_per_second,
                capacity_bytes_per_second: raw.capacity_bytes_per_second,
                strangers_per_second: raw.strangers_per_second,
            },
            user_labels: raw.user_labels,
            lifetimes: TurnLifetimes {
                allocation: Duration::from_secs(raw.lifetime_s),
                allocation_max: Duration::from_secs(raw.lifetime_max_s),
                permission: Duration::from_secs(raw.permission_lifetime_s),
                channel: Duration::from_secs(raw.channel_lifetime_s),
                nonce: Duration::from_secs(raw.nonce_lifetime_s),
            },
            threads: raw.threads.unwrap_or_else(|| cores.saturating_sub(1).max(1)),
            certificate,
            ciphers: raw.ciphers,
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

    fn turn_certificate(&self, raw: &RawTurn) -> Result<Option<TurnCertificate>, ConfigError> {
        let password = || raw.key_password.clone();
        let files = |chain: PathBuf, key: PathBuf| TurnCertificate::Files { chain, key, password: password() };
        let own = "the password of turn.key: call-control opens the key of [tls] without any";
        self.within_turn("key_password", own, raw.key_password.is_empty() || raw.key.is_some())?;
        let found = match (&raw.certificate, &raw.key) {
            (Some(chain), Some(key)) => Some(files(chain.clone(), key.clone())),
            (None, None) => {
                let Tls { certificate, key, acme_domains: domains, .. } = self.tls()?;
                let acme = (!domains.is_empty()).then_some(domains);
                let folder = self.storage()?.data_dir.join(ACME_FOLDER);
                let kept = acme.map(|domains| TurnCertificate::Acme { folder, domains });
                certificate.zip(key).map(|(chain, key)| files(chain, key)).or(kept)
            }
            _ => return Err(self.refusal("turn.certificate", "certificate and key stand together")),
        };
        Ok(found.filter(|_| raw.tls))
    }

    fn check_turn(
        &self,
        raw: &RawTurn,
        enabled: bool,
        has_certificate: bool,
        secrets: &[Secret],
    ) -> Result<(), ConfigError> {
        self.check_turn_sockets(raw, enabled, has_certificate)?;
        self.check_turn_users(raw)?;
        let within = |key: &str, expected: &str, fine: bool| self.within_turn(key, expected, fine);
        let url = |url: &String| ["turn:", "turns:", "stun:", "stuns:"].iter().any(|scheme| url.starts_with(scheme));
        within("urls", "addresses such as \"turn:turn.example.org:3478?transport=udp\"", raw.urls.iter().all(url))?;
        let theirs = !enabled && raw.urls.iter().any(|url| url.starts_with("turn"));
        let shared = "the secret that the TURN server was given (coturn's static-auth-secret)";
        within("secrets", shared, !theirs || !secrets.is_empty())?;
        within("secrets", "at most 16", secrets.len() <= SECRETS_MAX)?;
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

    fn within_turn(&self, key: &str, expected: &str, fine: bool) -> Result<(), ConfigError> {
        if fine { Ok(()) } else { Err(self.refusal(&format!("turn.{key}"), expected)) }
    }

    fn check_turn_sockets(&self, raw: &RawTurn, enabled: bool, has_certificate: bool) -> Result<(), ConfigError> {
        let within = |key: &str, expected: &str, fine: bool| self.within_turn(key, expected, fine);
        let files = "a certificate: [turn] certificate and key, or those of [tls], or [tls] acme_domains; and tls";
        within("tls_listen", files, raw.tls_listen.is_empty() || has_certificate)?;
        let host = "a name or an address, without scheme and port, IPv6 in brackets";
        within("host", host, raw.host.is_empty() || is_host(&raw.host))?;
        let any = raw.udp || raw.tcp || has_certificate;
        within("udp", "true, or tcp = true, or a certificate for TLS: otherwise nobody can come", !enabled || any)?;
        within("stun_only", "false where stun = false: nothing would be answered", raw.stun || !raw.stun_only)?;
        let one = |list: &[IpAddr]| list.iter().all(|ip| !ip.is_unspecified() && !ip.is_multicast());
        within("relay_addresses", "addresses of this host, none of them the wildcard", one(&raw.relay_addresses))?;
        let unicast = raw.listen.iter().chain(&raw.tls_listen).all(|address| !address.ip().is_multicast());
        within("listen", "unicast socket addresses", unicast)?;
        let [first, last] = raw.relay_ports;
        within("relay_ports", "[first, last], from 1024 on", (1_024..=last).contains(&first))
    }

    fn check_turn_users(&self, raw: &RawTurn) -> Result<(), ConfigError> {
        let word = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c == '"' || c == '\\')
        };
        self.within_turn("realm", "1 to 127 bytes without quotes", word(&raw.realm, 127))?;
        let is_key = |key: &str| {
            let digits = key.strip_prefix("0x").unwrap_or_default();
            digits.len() == MD5_KEY_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        };
        for (at, user) in raw.users.iter().enumerate() {
            let expected = "a name without colon and quotes";
            self.within_turn(
                &format!("users[{at}].name"),
                expected,
                word(&user.name, 128) && !user.name.contains(':'),
            )?;
            let one = user.password.is_empty() != user.md5_key.is_empty();
            self.within_turn(&format!("users[{at}].password"), "either this or md5_key", one)?;
            let expected = "0x and 32 hexadecimal digits, as turnadmin -k prints them";
            let is_fine = user.md5_key.is_empty() || is_key(user.md5_key.expose());
            self.within_turn(&format!("users[{at}].md5_key"), expected, is_fine)?;
        }
        Ok(())
    }
}

impl RawTurn {
    const fn protocol(&self) -> TurnProtocol {
        let Self { udp, tcp, tls, stun, stun_only, udp_relay, default_family, fingerprint, software, .. } = *self;
        TurnProtocol { udp, tcp, tls, stun, stun_only, udp_relay, default_family, fingerprint, software }
    }
}

impl Turn {
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

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let meet = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && one.is_ipv4() == other.is_ipv4() && meet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Net;
    use std::collections::BTreeSet;

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
    fn keys_and_the_databases_password_are_not_shown() {
        let key = "0x0123456789abcdef0123456789abcdef";
        let text = format!(
            "[turn]\nusers = [{{ name = \"pbx\", md5_key = \"{key}\" }}]\ndatabase_url = \"postgres://u:sesame@db/coturn\"\n"
        );
        let file = file(&text);
        let (turn, shown) = (file.turn().unwrap(), file.redacted());
        assert_eq!(
            (turn.users[0].md5_key.expose(), turn.database_url.expose()),
            (key, "postgres://u:sesame@db/coturn")
        );
        assert!(shown.contains("pbx") && shown.contains("u:***@db") && !shown.contains("0123"), "{shown}");
        assert!(!format!("{turn:?}").contains("sesame") && !format!("{turn:?}").contains("0123"));
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
            ("users = [{ name = \"a:b\", password = \"c\" }]", "turn.users[0].name = \"a:b\""),
            ("users = [{ name = \"a\" }]", "turn.users[0].password = (not set)"),
            ("users = [{ name = \"a\", password = \"p\", md5_key = \"k\" }]", "turn.users[0].password = \"***\""),
            ("users = [{ name = \"a\", md5_key = \"0x12\" }]", "turn.users[0].md5_key = \"***\": 0x and 32"),
            ("host = \"turn:t.example.org\"", "turn.host"),
            ("udp = false\ntcp = false", "turn.udp = false: true, or tcp"),
            ("stun = false\nstun_only = true", "turn.stun_only = true"),
            ("tls = false\ntls_listen = \"192.0.2.1:5349\"\ncertificate = \"a\"\nkey = \"b\"", "turn.tls_listen"),
            ("lifetime_s = 5", "turn.lifetime_s = 5: 60 to 3600"),
            ("threads = 0", "turn.threads"),
            ("certificate = \"a\"", "turn.certificate"),
            ("key_password = \"sesame\"", "turn.key_password = \"***\": the password of turn.key"),
            ("default_family = \"inet\"", "turn.default_family"),
            ("listen = [\"nowhere\"]", "turn.listen"),
            ("static_auth_secret = \"a\"", "static_auth_secret"),
        ] {
            let error = file(&format!("[turn]\n{line}\n")).turn().unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }

    /// The refusal of a key that is none lists those that are.
    #[test]
    fn the_sample_shows_every_key() {
        let refusal = file("[turn]\nnone = 1\n").turn().unwrap_err().to_string();
        let (_, list) = refusal.split_once("expected one of").unwrap();
        let known: BTreeSet<&str> = list.split('`').skip(1).step_by(2).filter(|key| *key != "secret").collect();
        let sample = include_str!("../../../../configs/turn.toml");
        let (_, section) = sample.split_once("\n[turn]\n").unwrap();
        let (section, _) = section.split_once("\n[").unwrap();
        let key = |line: &'static str| Some(line.strip_prefix('#').unwrap_or(line).split_once(" = ")?.0);
        let is_key = |key: &&str| key.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_');
        let shown: BTreeSet<&str> = section.lines().filter_map(key).filter(is_key).collect();
        assert!(known.contains("key_password"), "{refusal}");
        assert_eq!(shown, known);
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
}
