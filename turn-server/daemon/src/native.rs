//! From `[turn]` of offhook.toml to a [`Plan`]: safe by default, where a turnserver.conf is taken as it is.
use crate::addresses::{outward, own_addresses as own_addresses_of_host};
use crate::ciphers::Ciphers;
use crate::database::DatabasePlan;
use crate::plan::{Plan, PlanError};
use crate::tls::{Certificate, CertificateFiles, CertificatePlace, Fetched, TlsError};
use offhook_contract::{NodeRow, Secret};
use offhook_runtime::config::{Net, Turn, TurnCertificate, TurnFamily};
use offhook_runtime::{ConfigError, ConfigFile};
use offhook_turn_core::conf::{Conf, Hidden};
use offhook_turn_core::{
    AddressRange, DefaultFamily, MappedAddress, MediaPeer, PeerPolicy, QuotaLimits, Rate, RelayAddress, Settings,
    UserSecret, Users,
};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Media ports of SFUs: each packet to a peer looks through them.
const MEDIA_MAX: usize = 256;

/// `[turn]` with what surrounds it, checked.
#[derive(Debug, Clone)]
pub struct TurnConfig {
    pub(crate) turn: Turn,
    net: Net,
    allowed: Vec<AddressRange>,
    denied: Vec<AddressRange>,
    relays: Vec<RelayAddress>,
    /// Of the other daemons, as far as this configuration names them.
    own_sockets: Vec<SocketAddr>,
    own_ports: Vec<RangeInclusive<u16>>,
    database: Option<DatabasePlan>,
    /// Our own listeners, as soon as they are open.
    pub(crate) bound: Vec<SocketAddr>,
}

/// What changes while the server runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) media: Vec<MediaPeer>,
    /// Accounts, and until when (Unix seconds) their credentials are refused.
    pub(crate) revoked: Vec<(String, u64)>,
}

impl TurnConfig {
    /// Takes over from `running` what is fixed once the server runs, and names each key that was to change: sockets that
    /// are protected are those that are open.
    pub(crate) fn keep_fixed(&mut self, running: &Self) -> Vec<&'static str> {
        let mut kept = Vec::new();
        macro_rules! fixed {
            ($($name:literal: $field:ident,)*) => {$(
                if self.turn.$field != running.turn.$field {
                    self.turn.$field.clone_from(&running.turn.$field);
                    kept.push($name);
                }
            )*};
        }
        fixed! {
            "turn.listen": listen,
            "turn.tls_listen": tls_listen,
            "turn.relay_addresses": relay_addresses,
            "turn.relay_ports": relay_ports,
            "turn.threads": threads,
            "turn.enabled": enabled,
        }
        let (wanted, open) = (&mut self.turn.protocol, running.turn.protocol);
        for (key, wanted, open) in [
            ("turn.udp", &mut wanted.udp, open.udp),
            ("turn.tcp", &mut wanted.tcp, open.tcp),
            ("turn.tls", &mut wanted.tls, open.tls),
        ] {
            if *wanted != open {
                *wanted = open;
                kept.push(key);
            }
        }
        // Another one serves new connections; whether there is TLS at all is decided once.
        if self.turn.certificate.is_some() != running.turn.certificate.is_some() {
            self.turn.certificate.clone_from(&running.turn.certificate);
            kept.push("turn.certificate");
        }
        if self.net != running.net {
            self.net = running.net.clone();
            kept.push("net");
        }
        self.relays.clone_from(&running.relays);
        for open in &running.own_sockets {
            if !self.own_sockets.contains(open) {
                self.own_sockets.push(*open);
            }
        }
        for open in &running.own_ports {
            if !self.own_ports.contains(open) {
                self.own_ports.push(open.clone());
            }
        }
        kept
    }

    /// # Errors
    /// Path, value and what would be right.
    pub fn read(file: &ConfigFile) -> Result<Self, ConfigError> {
        let (turn, net) = (file.turn()?, file.net()?);
        let ranges = |path: &str, texts: &[String]| {
            let parsed: Result<Vec<AddressRange>, _> = texts.iter().map(|text| text.parse()).collect();
            parsed.map_err(|error| {
                file.refusal(path, &format!("addresses, \"first-last\" or \"10.1.0.0/16\" each; {error}"))
            })
        };
        let relays = relays(&turn, &net);
        if turn.enabled && relays.is_empty() {
            let expected = "an address of this host to relay from: none was found, neither in [turn] listen, nor in \
                            [net] public_addresses, nor by asking the system";
            return Err(file.refusal("turn.relay_addresses", expected));
        }
        let ciphers = Ciphers::of(&turn.ciphers);
        if !ciphers.unknown.is_empty() {
            let expected =
                format!("suites and classes that are spoken here; these are not: {}", ciphers.unknown.join(", "));
            return Err(file.refusal("turn.ciphers", &expected));
        }
        let database = DatabasePlan::native(&turn).map_err(|why| file.refusal("turn.database_url", &why))?;
        Ok(Self {
            database,
            bound: Vec::new(),
            own_ports: file.listening_ports(),
            allowed: ranges("turn.allowed_peers", &turn.allowed_peers)?,
            denied: ranges("turn.denied_peers", &turn.denied_peers)?,
            own_sockets: file.listening_sockets(),
            relays,
            turn,
            net,
        })
    }

    pub(crate) fn plan(&self, live: &Live) -> Result<Plan, PlanError> {
        let turn = &self.turn;
        // What coturn's file can say besides is at rest.
        let conf = Conf {
            realm: Some(turn.realm.clone()),
            listening_ips: turn.listen.iter().map(SocketAddr::ip).collect(),
            relay_ips: self.relays.iter().map(|relay| relay.local).collect(),
            ..Conf::default()
        };
        let tls_listen = turn.tls_listen.iter().filter(|address| !turn.listen.contains(address));
        let has_streams = turn.protocol.tcp || turn.certificate.is_some();
        let tcp = turn.listen.iter().chain(tls_listen).filter(|_| has_streams).copied().collect();
        Ok(Plan {
            settings: self.settings(live),
            limits: QuotaLimits {
                allocations_per_user: turn.quotas.allocations_per_user,
                allocations: turn.quotas.allocations,
                bytes_per_second: turn.quotas.bytes_per_second,
                capacity_bytes_per_second: turn.quotas.capacity_bytes_per_second,
            },
            udp: if turn.protocol.udp { turn.listen.clone() } else { Vec::new() },
            tcp,
            tls_only: !turn.protocol.tcp,
            certificate: self.certificate(),
            relays: self.relays.clone(),
            ports: turn.relay_ports.clone(),
            threads: turn.threads,
            database: self.database.clone(),
            warnings: self.warnings(),
            ..Plan::of(&conf)?
        })
    }

    pub(crate) const fn waits_for_acme(&self) -> bool {
        matches!(self.turn.certificate, Some(TurnCertificate::Acme { .. }))
    }

    /// Which certificates were fetched by ACME, and when.
    pub(crate) fn fetched_certificates(&self) -> Result<Fetched, TlsError> {
        self.certificate().map_or_else(|| Ok(Vec::new()), |files| files.place.fetched())
    }

    /// What TLS would say of its certificate at the start.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn check_certificate(&self) -> Result<(), String> {
        let files = self.certificate().filter(|_| self.turn.enabled);
        files.map_or(Ok(()), |files| Certificate::load(files).map(drop).map_err(|error| error.to_string()))
    }

    pub(crate) fn certificate(&self) -> Option<CertificateFiles> {
        let list = self.turn.ciphers.as_str();
        let ciphers = (!list.is_empty()).then(|| Ciphers::of(list));
        let (place, password) = match self.turn.certificate.clone()? {
            TurnCertificate::Files { chain, key, password } => {
                let password = (!password.is_empty()).then(|| Hidden(password.expose().to_owned()));
                (CertificatePlace::Files { chain, key }, password)
            }
            TurnCertificate::Acme { folder, domains } => (CertificatePlace::Acme { folder, domains }, None),
        };
        Some(CertificateFiles { place, password, ciphers })
    }

    fn warnings(&self) -> Vec<String> {
        let needs_newest = !self.turn.ciphers.is_empty() && !Ciphers::of(&self.turn.ciphers).has_tls12();
        let sentence = "turn.ciphers leaves no suite of TLS 1.2: clients need TLS 1.3";
        needs_newest.then(|| sentence.to_owned()).into_iter().collect()
    }

    fn settings(&self, live: &Live) -> Settings {
        let turn = &self.turn;
        let mut users = Users::new(&turn.realm);
        for user in &turn.users {
            let key = user.md5_key.expose().strip_prefix("0x").and_then(UserSecret::from_hex);
            users.add(&user.name, key.unwrap_or_else(|| UserSecret::Password(user.password.expose().into())));
        }
        for secret in &live.secrets {
            users.add_rest_secret(secret.expose().as_bytes());
        }
        for (account, until_s) in &live.revoked {
            users.revoke(account, *until_s);
        }
        let mut settings = Settings::new(users);
        settings.policy = self.policy(live);
        settings.software = turn.protocol.software.then(|| "Offhook".into());
        settings.fingerprint = turn.protocol.fingerprint;
        settings.stun = turn.protocol.stun;
        settings.turn = !turn.protocol.stun_only;
        settings.udp_relay = turn.protocol.udp_relay;
        settings.default_family = match turn.protocol.default_family {
            TurnFamily::Ipv4 => DefaultFamily::V4,
            TurnFamily::Ipv6 => DefaultFamily::V6,
            TurnFamily::Client => DefaultFamily::AsClient,
        };
        let per_second = turn.quotas.strangers_per_second;
        settings.unauthenticated = Rate { per_second, burst: per_second.saturating_mul(4) };
        settings.lifetime = turn.lifetimes.allocation;
        settings.lifetime_max = turn.lifetimes.allocation_max;
        settings.permission_lifetime = turn.lifetimes.permission;
        settings.channel_lifetime = turn.lifetimes.channel;
        settings.nonce_lifetime = Some(turn.lifetimes.nonce);
        if turn.quotas.bytes_per_second == 0 {
            settings.shard_bytes_per_second = turn.quotas.capacity_bytes_per_second;
        }
        settings
    }

    /// The open Internet, our SFUs and other relays of ours; not this host and nothing behind it (DESIGN.md §6).
    fn policy(&self, live: &Live) -> PeerPolicy {
        let listeners = self.turn.listen.iter().chain(&self.turn.tls_listen);
        let mut own_addresses: Vec<IpAddr> =
            self.relays.iter().flat_map(|relay| [relay.local, relay.announced]).collect();
        own_addresses.extend(self.net.public_addresses.iter().flat_map(|address| [address.public, address.local]));
        own_addresses.extend(listeners.clone().map(SocketAddr::ip));
        own_addresses.extend(own_addresses_of_host());
        own_addresses.retain(|ip| !ip.is_unspecified());
        own_addresses.sort_unstable();
        own_addresses.dedup();
        PeerPolicy {
            allowed: self.allowed.clone(),
            denied: self.denied.clone(),
            own_sockets: listeners.chain(&self.bound).chain(&self.own_sockets).copied().collect(),
            own_addresses,
            own_ports: self.own_ports.clone(),
            media: live.media.clone(),
            mapped: self
                .relays
                .iter()
                .filter(|relay| relay.local != relay.announced)
                .map(|relay| MappedAddress { announced: relay.announced, local: relay.local })
                .collect(),
            relay_ports: self.turn.relay_ports.clone(),
            ..PeerPolicy::default()
        }
    }

    /// The media ports of these SFUs and of `media_peers`. What an SFU announces under an address of this host is reached
    /// by its local one. `neighbours`: they run in this process, so that even their loopback is ours. Others say where they
    /// are, and open neither private networks nor our own sockets by it; on this host they may run beside us.
    pub(crate) fn media(&self, sfus: &[NodeRow], neighbours: bool) -> Vec<MediaPeer> {
        let policy = self.policy(&Live::default());
        let loopback = neighbours || self.turn.is_on_loopback();
        let configured = self.turn.media_peers.iter();
        let mut media: Vec<MediaPeer> =
            configured.map(|peer| MediaPeer { announced: peer.announced, local: peer.local }).collect();
        let mut refused = 0_usize;
        for announced in sfus.iter().flat_map(|row| &row.media_addresses).copied() {
            let is_known = media.iter().any(|peer| peer.announced == announced);
            if is_known || announced.ip().is_unspecified() || (announced.ip().is_loopback() && !loopback) {
                continue;
            }
            let own = self.net.public_addresses.iter().find(|address| address.public == announced.ip());
            let local = SocketAddr::new(own.map_or(announced.ip(), |own| own.local), announced.port());
            let here = policy.own_addresses.contains(&local.ip()) || local.ip().is_loopback();
            if !neighbours && [announced, local].iter().any(|one| !policy.takes_media_from_elsewhere(*one, here)) {
                refused += 1;
                continue;
            }
            media.push(MediaPeer { announced, local });
        }
        if refused > 0 {
            tracing::warn!(
                refused,
                "media ports of SFUs elsewhere that only turn.media_peers or allowed_peers may open"
            );
        }
        // An SFU lists what it announces and what it is bound to: behind our NAT both are one port, with one name.
        let mapped: Vec<SocketAddr> =
            media.iter().filter(|peer| peer.announced != peer.local).map(|peer| peer.local).collect();
        media.retain(|peer| peer.announced != peer.local || !mapped.contains(&peer.local));
        if media.len() > MEDIA_MAX {
            tracing::warn!(left_out = media.len() - MEDIA_MAX, "more media ports of SFUs than can be looked through");
            media.truncate(MEDIA_MAX);
        }
        media
    }
}

fn relays(turn: &Turn, net: &Net) -> Vec<RelayAddress> {
    let mut locals = turn.relay_addresses.clone();
    if locals.is_empty() {
        for bound in turn.listen.iter().chain(&turn.tls_listen) {
            let (ip, v6) = (bound.ip(), bound.is_ipv6());
            let known = net.public_addresses.iter().map(|address| address.local).filter(|ip| ip.is_ipv6() == v6);
            match (ip.is_unspecified(), known.clone().next()) {
                (false, _) => locals.push(ip),
                (true, Some(_)) => locals.extend(known),
                (true, None) => locals.extend(outward(v6)),
            }
        }
    }
    let mut relays: Vec<RelayAddress> = Vec::new();
    for local in locals {
        if relays.iter().all(|relay| relay.local != local) {
            relays.push(RelayAddress { local, announced: net.announced(local) });
        }
    }
    relays
}

/// Makes the secret that call-control reads from the same directory, unless it is there.
pub(crate) fn keep_secret(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Whole or not at all, whoever reads meanwhile.
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let written =
        writeln!(file, "{text}").and_then(|()| file.sync_all()).and_then(|()| std::fs::hard_link(&draft, path));
    let _ = std::fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::node::NodeState;
    use offhook_contract::{BootId, DaemonKind, NodeId, UnixMs};

    const OPEN: &str = "[net]\npublic_addresses = [{ public = \"198.51.100.5\", local = \"10.0.0.5\" }]\n\
        [control]\nlisten = [\"10.0.0.5:8443\"]\n[sfu]\nmedia_listen = [\"10.0.0.5:7882\"]\n\
        [turn]\nlisten = [\"10.0.0.5:3478\"]\nsecrets = [\"north\"]\n";

    fn config(text: &str) -> Result<TurnConfig, String> {
        let file = ConfigFile::parse("offhook.toml", text, []).map_err(|error| error.to_string())?;
        TurnConfig::read(&file).map_err(|error| error.to_string())
    }

    fn plan(text: &str) -> Plan {
        config(text).unwrap().plan(&Live::default()).unwrap()
    }

    fn sfu(addresses: &[&str]) -> NodeRow {
        NodeRow {
            node: NodeId::parse("sfu-1").unwrap(),
            kind: DaemonKind::Sfu,
            boot: BootId::parse("b").unwrap(),
            version: String::new(),
            started_ms: UnixMs(1),
            state: NodeState::Ready,
            load: 0,
            capacity: 1,
            media_addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        }
    }

    #[test]
    fn an_empty_section_listens_on_loopback_and_reaches_nobody_there() {
        let plan = plan("");
        assert_eq!(plan.udp, ["127.0.0.1:3478".parse().unwrap()]);
        assert_eq!((&plan.tcp, plan.tls_only, plan.certificate.is_none()), (&plan.udp, false, true));
        assert_eq!(plan.relays, [RelayAddress { local: plan.udp[0].ip(), announced: plan.udp[0].ip() }]);
        let policy = &plan.settings.policy;
        assert!(!policy.allow_private && !policy.allow_loopback && policy.allowed.is_empty());
        assert_eq!(plan.settings.channel_numbers, 0x4000..=0x4FFF);
        assert!(plan.warnings.is_empty() && plan.metrics.is_none() && plan.database.is_none());
    }

    #[test]
    fn a_reload_keeps_what_is_open_and_names_what_waits() {
        let running = config(OPEN).unwrap();
        let mut wanted =
            config(&(OPEN.replace("10.0.0.5:3478", "10.0.0.5:3479") + "relay_ports = [30000, 30100]\n")).unwrap();
        assert_eq!(wanted.keep_fixed(&running), ["turn.listen", "turn.relay_ports"]);
        let policy = |config: &TurnConfig| config.plan(&Live::default()).unwrap().settings.policy;
        assert_eq!((policy(&wanted), wanted.relays.clone()), (policy(&running), running.relays.clone()));
        assert!(wanted.keep_fixed(&running).is_empty());
    }

    #[test]
    fn relays_are_announced_under_the_public_address_and_the_stacks_sockets_are_its_own() {
        let plan = plan(OPEN);
        assert_eq!(plan.relays[0].announced, "198.51.100.5".parse::<IpAddr>().unwrap());
        let policy = &plan.settings.policy;
        for own in ["10.0.0.5:8443", "10.0.0.5:3478", "127.0.0.1:4222", "127.0.0.1:9605"] {
            assert!(policy.own_sockets.contains(&own.parse().unwrap()), "{own} in {:?}", policy.own_sockets);
        }
        assert!(!policy.own_sockets.contains(&"10.0.0.5:7882".parse().unwrap()), "a media port is no listener");
        assert_eq!(policy.own_ports, [20_000..=20_999]);
        // Whatever the file says of them.
        assert!(own_addresses_of_host().iter().all(|ip| policy.own_addresses.contains(ip)));
        for own in ["10.0.0.5", "198.51.100.5"] {
            assert!(policy.own_addresses.contains(&own.parse().unwrap()), "{own}");
        }
        let wildcard = OPEN.replace("listen = [\"10.0.0.5:3478\"]", "listen = [\"0.0.0.0:3478\"]");
        assert_eq!(self::plan(&wildcard).relays, plan.relays);
    }

    #[test]
    fn an_sfu_behind_our_own_nat_is_reached_by_its_local_address_and_foreign_loopback_not_at_all() {
        let config =
            config(&format!("{OPEN}media_peers = [{{ announced = \"203.0.113.7:1\", local = \"10.0.0.7:1\" }}]\n"));
        let config = config.unwrap();
        let rows = [sfu(&["198.51.100.5:7882", "203.0.113.7:1", "5.5.5.5:2", "127.0.0.1:7882"])];
        let local = |media: &[MediaPeer]| media.iter().map(|peer| peer.local.to_string()).collect::<Vec<_>>();
        assert_eq!(local(&config.media(&rows, false)), ["10.0.0.7:1", "10.0.0.5:7882", "5.5.5.5:2"]);
        assert!(local(&config.media(&rows, true)).contains(&"127.0.0.1:7882".to_owned()));
    }

    /// As `Engine::media_addresses` lists them: announced and bound, sorted.
    #[test]
    fn the_bound_address_of_an_sfu_behind_our_nat_is_no_second_name_of_its_port() {
        let config = config(OPEN).unwrap();
        let expected =
            MediaPeer { announced: "198.51.100.5:7882".parse().unwrap(), local: "10.0.0.5:7882".parse().unwrap() };
        for neighbours in [false, true] {
            let media = config.media(&[sfu(&["10.0.0.5:7882", "198.51.100.5:7882"])], neighbours);
            assert_eq!(media, [expected]);
        }
    }

    #[test]
    fn an_sfu_elsewhere_opens_neither_private_networks_nor_our_sockets_nor_what_is_denied() {
        let text = format!("{OPEN}denied_peers = [\"6.6.6.6\"]\nallowed_peers = [\"10.9.0.0/16\"]\n");
        let config = config(&text).unwrap();
        let rows = [sfu(&[
            "10.0.0.9:5432",
            "169.254.169.254:80",
            "[::ffff:192.168.1.1]:80",
            "[64:ff9b::a00:9]:80",
            "[::1]:4222",
            "6.6.6.6:7882",
            "10.0.0.5:3478",
            "198.51.100.5:8443",
            // What it may: this host, the Internet, what the operator allows.
            "10.0.0.5:7882",
            "5.5.5.5:7882",
            "10.9.0.1:7882",
        ])];
        let names = |neighbours| -> Vec<String> {
            config.media(&rows, neighbours).iter().map(|peer| peer.announced.to_string()).collect()
        };
        assert_eq!(names(false), ["10.0.0.5:7882", "5.5.5.5:7882", "10.9.0.1:7882"]);
        assert!(names(true).contains(&"10.0.0.9:5432".to_owned()));
    }

    #[test]
    fn ranges_ciphers_and_databases_are_refused_with_their_path_and_without_their_secrets() {
        for (line, words) in [
            ("allowed_peers = [\"10.0.0.0/40\"]", ["turn.allowed_peers", "prefix length"]),
            ("ciphers = \"ECDHE+AESGCM:AES128-SHA\"", ["turn.ciphers", "not: AES128-SHA"]),
            ("database_url = \"turndb\"", ["turn.database_url", "the whole path"]),
            ("database_url = \"postgres://u:sesame@h:x/n\"", ["turn.database_url", "u:***@h"]),
        ] {
            let error = config(&format!("[turn]\n{line}\n")).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)) && !error.contains("sesame"), "{error}");
        }
    }

    #[test]
    fn the_sample_of_coturns_configuration_leaves_nothing_to_say() {
        let mut reading = offhook_turn_core::conf::Reading::default();
        reading.add_file(include_str!("../../../configs/turnserver.conf"));
        assert!(reading.notes.is_empty(), "{:?}", reading.notes);
        let plan = Plan::of(&Conf { listening_ips: vec!["192.0.2.1".parse().unwrap()], ..reading.conf }).unwrap();
        assert_eq!((plan.settings.users.realm(), plan.limits.allocations), ("turn.example.org", 10_000));
        assert_eq!(plan.settings.policy.denied.len(), 5);
    }

    #[test]
    fn the_kept_secret_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turn.secret");
        keep_secret(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        keep_secret(&path).unwrap();
        assert_eq!((first.len(), std::fs::read_to_string(&path).unwrap()), (65, first));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
