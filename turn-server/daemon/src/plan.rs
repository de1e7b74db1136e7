//! From the options of a `turnserver.conf` to what is bound, who may log in and whom they may reach.
use crate::addresses::Host;
use crate::ciphers::Ciphers;
use crate::database::{DatabaseError, DatabasePlan, Rows};
use crate::private;
use crate::process::ProcessPlan;
pub use crate::tls::CertificateFiles;
use crate::tls::CertificatePlace;
use offhook_turn_core::conf::{Conf, External, Family, LogOptions, Prometheus};
use offhook_turn_core::{DefaultFamily, MappedAddress, PeerPolicy, QuotaLimits, Rate, RelayAddress, Settings, Users};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Threads that relay.
const THREADS_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("min-port {min} is above max-port {max}")]
    Ports { min: u16, max: u16 },
    #[error("there is no address to relay from: set relay-ip")]
    NoRelayAddress,
    #[error("no listener is left: no-udp and no-tcp are both set")]
    NoListener,
    #[error("there is no [turn] realm, and no host name to take its place")]
    NoRealm,
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Everything that is decided before a socket is opened.
#[derive(Debug, Clone)]
pub struct Plan {
    pub settings: Settings,
    pub limits: QuotaLimits,
    /// UDP listeners, bound by every thread.
    pub udp: Vec<SocketAddr>,
    /// TCP and, with a certificate, TLS by the first byte.
    pub tcp: Vec<SocketAddr>,
    pub certificate: Option<CertificateFiles>,
    /// Plain connections are refused (`no-tcp` leaves TLS alone).
    pub tls_only: bool,
    pub relays: Vec<RelayAddress>,
    pub ports: RangeInclusive<u16>,
    pub threads: usize,
    pub metrics: Option<(SocketAddr, String)>,
    /// Traffic of each user among the metrics.
    pub username_labels: bool,
    /// Where more users stand; [`Plan::admit`] takes in what was read there.
    pub database: Option<DatabasePlan>,
    pub log: LogOptions,
    pub process: ProcessPlan,
    /// Sentences for the person who starts it.
    pub warnings: Vec<String>,
}

impl Plan {
    /// # Errors
    /// What cannot work at all.
    pub fn of(conf: &Conf) -> Result<Self, PlanError> {
        Self::on(conf, &Host::here())
    }

    /// The same for a host that is described.
    ///
    /// # Errors
    /// What cannot work at all.
    pub fn on(conf: &Conf, host: &Host) -> Result<Self, PlanError> {
        if conf.min_port > conf.max_port {
            return Err(PlanError::Ports { min: conf.min_port, max: conf.max_port });
        }
        if conf.no_udp && conf.no_tcp && conf.no_tls {
            return Err(PlanError::NoListener);
        }
        let mut warnings = Vec::new();
        let relays = relays(conf, host, &mut warnings)?;
        let certificate = certificate(conf, &mut warnings);
        let listeners = listeners(conf, host);
        let has_streams = !conf.no_tcp || certificate.is_some();
        let udp = if conf.no_udp { Vec::new() } else { listeners.clone() };
        let tcp = if has_streams { listeners.clone() } else { Vec::new() };
        let mut settings = settings(conf, host, &mut warnings)?;
        let database = DatabasePlan::of(conf, settings.users.realm())?;
        if !settings.users.admits_anyone() && settings.users.is_empty() && database.is_none() {
            warnings.push("nobody can log in: there is neither user, static-auth-secret nor user database".to_owned());
        }
        let metrics = conf.prometheus.enabled.then(|| {
            let ip = conf.prometheus.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let path = conf.prometheus.path.clone().unwrap_or_else(|| "/metrics".to_owned());
            (SocketAddr::new(ip, conf.prometheus.port), path)
        });
        settings.policy = policy(conf, &relays, &listeners, metrics.as_ref().map(|(address, _)| *address), host);
        warnings.extend(private::warning(&settings, &relays));
        let threads = match usize::try_from(conf.relay_threads) {
            Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
            Ok(threads) => threads,
        };
        without_effect(conf, certificate.is_some(), &mut warnings);
        Ok(Self {
            settings,
            limits: QuotaLimits {
                allocations_per_user: u32::try_from(conf.user_quota).unwrap_or(u32::MAX),
                allocations: u32::try_from(conf.total_quota).unwrap_or(u32::MAX),
                bytes_per_second: conf.max_bps,
                capacity_bytes_per_second: conf.bps_capacity,
            },
            udp,
            tcp,
            tls_only: conf.no_tcp,
            certificate,
            relays,
            ports: conf.min_port..=conf.max_port,
            threads: threads.clamp(1, THREADS_MAX),
            metrics,
            username_labels: conf.prometheus.username_labels,
            database,
            log: conf.log.clone(),
            process: process(conf),
            warnings,
        })
    }

    /// Takes in what the user database says.
    pub fn admit(&mut self, rows: &Rows) {
        rows.apply(self);
    }
}

/// What was asked for and cannot be had, or says nothing in its surroundings.
fn without_effect(conf: &Conf, has_tls: bool, warnings: &mut Vec<String>) {
    let prometheus = Prometheus { enabled: false, ..conf.prometheus.clone() };
    let sentences = [
        (!conf.no_tcp_relay, "TCP allocations (RFC 6062) are answered 442, as with no-tcp-relay"),
        (has_tls && !conf.no_dtls, "TLS over UDP (DTLS) is not spoken, as with no-dtls"),
        (
            conf.realm.is_some() && conf.server_name.is_some(),
            "server-name does nothing beside realm: OAuth (RFC 7635) is not spoken",
        ),
        (
            conf.psql_userdb.is_some() && conf.userdb.as_deref().is_some_and(|path| path != "/dev/null"),
            "userdb does nothing beside psql-userdb",
        ),
        (!has_tls && conf.pkey_pwd.is_some(), "pkey-pwd does nothing without cert and pkey"),
        (!has_tls && conf.cipher_list.is_some(), "cipher-list does nothing without cert and pkey"),
        (
            !conf.prometheus.enabled && prometheus != Prometheus::default(),
            "options of prometheus do nothing without prometheus itself",
        ),
        (
            conf.prometheus.enabled && conf.prometheus.address.is_none(),
            "metrics are served on 127.0.0.1 only: set prometheus-address to serve them elsewhere",
        ),
    ];
    warnings.extend(sentences.iter().filter(|(is_so, _)| *is_so).map(|(_, sentence)| (*sentence).to_owned()));
}

fn process(conf: &Conf) -> ProcessPlan {
    ProcessPlan {
        pidfile: conf.pidfile.as_ref().map(Into::into),
        user: conf.proc_user.clone(),
        group: conf.proc_group.clone(),
    }
}

fn listeners(conf: &Conf, host: &Host) -> Vec<SocketAddr> {
    let ips = if conf.listening_ips.is_empty() {
        let wildcards = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let mut found: Vec<IpAddr> = wildcards.into_iter().filter(|any| host.speaks(any.is_ipv6())).collect();
        if found.is_empty() {
            found.extend(wildcards.first());
        }
        found
    } else {
        conf.listening_ips.clone()
    };
    let tls = if conf.no_tls && conf.no_dtls { 0 } else { conf.tls_listening_port };
    let ports = [conf.listening_port, tls, conf.alt_listening_port, conf.alt_tls_listening_port];
    let mut all: Vec<SocketAddr> = Vec::new();
    for ip in ips {
        all.extend(ports.into_iter().filter(|port| *port != 0).map(|port| SocketAddr::new(ip, port)));
    }
    all.extend(&conf.aux_servers);
    all.sort_unstable();
    all.dedup();
    all
}

/// Those that the file names; empty where it leaves the choice to us.
fn named_relays(conf: &Conf) -> Vec<IpAddr> {
    let named = if conf.relay_ips.is_empty() { &conf.listening_ips } else { &conf.relay_ips };
    let mut locals: Vec<IpAddr> = Vec::new();
    for ip in named {
        if !ip.is_unspecified() && !locals.contains(ip) {
            locals.push(*ip);
        }
    }
    locals
}

fn relays(conf: &Conf, host: &Host, warnings: &mut Vec<String>) -> Result<Vec<RelayAddress>, PlanError> {
    let mut locals = named_relays(conf);
    if locals.is_empty() {
        locals = host.relay_addresses();
    }
    if locals.is_empty() {
        return Err(PlanError::NoRelayAddress);
    }
    Ok(announced(&locals, &conf.external_ips, warnings))
}

/// `external-ip=pub/local` is for the relay address that it names; `external-ip=pub` for all others of its family but
/// loopback, unless there are no others.
fn announced(locals: &[IpAddr], externals: &[External], warnings: &mut Vec<String>) -> Vec<RelayAddress> {
    let of_family = |v4: bool| locals.iter().filter(move |ip| ip.is_ipv4() == v4);
    let pair = |local: IpAddr| externals.iter().find(|external| external.local == Some(local));
    let bare = |v4: bool| externals.iter().find(|one| one.local.is_none() && one.announced.is_ipv4() == v4);
    let takes_bare = |local: IpAddr| !local.is_loopback() || of_family(local.is_ipv4()).all(IpAddr::is_loopback);
    for external in externals {
        let External { announced, local } = external;
        match local {
            Some(local) if !locals.contains(local) => {
                warnings.push(format!("external-ip={announced}/{local} does nothing: nothing is relayed from {local}"));
            }
            Some(_) => {}
            None if bare(announced.is_ipv4()) != Some(external) => {
                warnings.push(format!("external-ip={announced} does nothing: another stands for its family already"));
            }
            None => {
                let under = of_family(announced.is_ipv4()).filter(|ip| pair(**ip).is_none() && takes_bare(**ip));
                let under: Vec<String> = under.map(ToString::to_string).collect();
                if under.len() > 1 {
                    warnings.push(format!(
                        "external-ip={announced} is announced for each of {}: if only one of them is reached by it, \
                         write external-ip={announced}/{}",
                        under.join(", "),
                        under.first().map_or("local", String::as_str)
                    ));
                }
            }
        }
    }
    let announce = |local: &IpAddr| {
        let found = pair(*local).or_else(|| bare(local.is_ipv4()).filter(|_| takes_bare(*local)));
        RelayAddress { local: *local, announced: found.map_or(*local, |external| external.announced) }
    };
    locals.iter().map(announce).collect()
}

fn certificate(conf: &Conf, warnings: &mut Vec<String>) -> Option<CertificateFiles> {
    if conf.no_tls {
        return None;
    }
    match (&conf.cert, &conf.pkey) {
        (Some(chain), Some(key)) => Some(CertificateFiles {
            place: CertificatePlace::Files { chain: chain.into(), key: key.into() },
            password: conf.pkey_pwd.clone(),
            ciphers: conf.cipher_list.as_deref().map(|list| ciphers(list, warnings)),
        }),
        (None, None) => None,
        _ => {
            warnings.push("cert and pkey stand together; without both there is no TLS".to_owned());
            None
        }
    }
}

/// Each name that cannot be mapped is said, and so is a list that leaves browsers out.
fn ciphers(list: &str, warnings: &mut Vec<String>) -> Ciphers {
    let ciphers = Ciphers::of(list);
    if !ciphers.unknown.is_empty() {
        warnings.push(format!("cipher-list: not spoken here: {}", ciphers.unknown.join(", ")));
    }
    if !ciphers.has_tls12() {
        warnings.push("cipher-list leaves no suite of TLS 1.2: clients need TLS 1.3".to_owned());
    }
    ciphers
}

fn settings(conf: &Conf, host: &Host, warnings: &mut Vec<String>) -> Result<Settings, PlanError> {
    let realm = conf
        .realm
        .clone()
        .or_else(|| conf.server_name.clone())
        .or_else(|| host.name.clone())
        .ok_or(PlanError::NoRealm)?;
    let mut users = Users::new(&realm);
    users.set_separator(conf.rest_api_separator);
    conf.users.iter().for_each(|user| {
        users.add(&user.name, user.secret.clone());
    });
    conf.static_auth_secrets.iter().for_each(|secret| {
        users.add_rest_secret(secret.0.as_bytes());
    });
    let has_users = !conf.users.is_empty() || !conf.static_auth_secrets.is_empty();
    let asks = conf.lt_cred_mech || conf.use_auth_secret || has_users;
    if conf.no_auth && !asks {
        users.admit_anyone();
        warnings.push("no-auth: anyone may relay through this server".to_owned());
    }
    if realm.len() > 16 {
        warnings.push(format!(
            "the realm has {} bytes: the answer to a client's first request is more than 1.6 times as large as it; 16 \
             bytes or less are not",
            realm.len()
        ));
    }
    let mut settings = Settings::new(users);
    settings.fingerprint = conf.fingerprint;
    // coturn's clients use RFC 5766's range.
    settings.channel_numbers = 0x4000..=0x7FFF;
    settings.software = (!conf.no_software_attribute).then(|| "Offhook".into());
    settings.stun = !conf.no_stun;
    settings.turn = !conf.stun_only;
    settings.udp_relay = !conf.no_udp_relay;
    settings.default_family = match conf.default_family {
        Family::V4 => DefaultFamily::V4,
        Family::V6 => DefaultFamily::V6,
        Family::Keep => DefaultFamily::AsClient,
    };
    settings.relay_by_arrival = named_relays(conf).is_empty();
    settings.nonce_lifetime = (conf.stale_nonce_s > 0).then(|| Duration::from_secs(conf.stale_nonce_s));
    settings.lifetime_max = Duration::from_secs(conf.max_allocate_lifetime_s);
    settings.channel_lifetime = Duration::from_secs(conf.channel_lifetime_s);
    settings.permission_lifetime = Duration::from_secs(conf.permission_lifetime_s);
    let rps = conf.unauthorized_ratelimit_rps;
    settings.unauthenticated = match conf.unauthorized_ratelimit {
        true if rps > 0 => Rate { per_second: rps, burst: rps.saturating_mul(4) },
        _ => Rate::UNLIMITED,
    };
    if conf.max_bps == 0 {
        settings.shard_bytes_per_second = conf.bps_capacity;
    }
    Ok(settings)
}

fn policy(
    conf: &Conf,
    relays: &[RelayAddress],
    own: &[SocketAddr],
    metrics: Option<SocketAddr>,
    host: &Host,
) -> PeerPolicy {
    let announced = relays.iter().map(|relay| relay.announced).chain(relays.iter().map(|relay| relay.local));
    let listening = conf.listening_ips.iter().copied().chain(conf.external_ips.iter().map(|e| e.announced));
    PeerPolicy {
        allowed: conf.allowed_peers.clone(),
        denied: conf.denied_peers.clone(),
        allow_loopback: conf.allow_loopback_peers,
        allow_private: true,
        own_sockets: own.iter().copied().chain(metrics).collect(),
        own_addresses: announced.chain(listening).chain(host.beyond_loopback()).collect(),
        own_ports: Vec::new(),
        media: Vec::new(),
        mapped: relays
            .iter()
            .filter(|relay| relay.local != relay.announced)
            .map(|relay| MappedAddress { announced: relay.announced, local: relay.local })
            .collect(),
        relay_ports: conf.min_port..=conf.max_port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_turn_core::conf::Reading;

    fn plan(text: &str) -> Result<Plan, PlanError> {
        let mut reading = Reading::default();
        reading.add_file(text);
        assert!(!reading.is_fatal(), "{:?}", reading.notes);
        Plan::of(&reading.conf)
    }

    const BASE: &str = "listening-ip=192.0.2.1\nrealm=example.org\nuser=a:b\n";

    #[test]
    fn listeners_stand_on_every_address_and_port() {
        let plan = plan(&format!("{BASE}listening-ip=2001:db8::1\naux-server=192.0.2.9:1\nalt-listening-port=3479\n"))
            .unwrap();
        let shown: Vec<String> = plan.udp.iter().map(ToString::to_string).collect();
        let expected = [
            "192.0.2.1:3478",
            "192.0.2.1:3479",
            "192.0.2.1:5349",
            "192.0.2.9:1",
            "[2001:db8::1]:3478",
            "[2001:db8::1]:3479",
            "[2001:db8::1]:5349",
        ];
        assert_eq!((shown.as_slice(), &plan.tcp), (expected.map(String::from).as_slice(), &plan.udp));
        assert!(plan.settings.policy.own_sockets.contains(&"192.0.2.9:1".parse().unwrap()));
    }

    #[test]
    fn external_addresses_are_announced_for_the_local_ones_they_name() {
        let relays = |text: &str| plan(&format!("{BASE}{text}")).map(|plan| plan.relays);
        let mapped = relays("relay-ip=10.0.0.1\nrelay-ip=10.0.0.2\nexternal-ip=198.51.100.1/10.0.0.2\n").unwrap();
        assert_eq!(mapped[0].announced, mapped[0].local);
        assert_eq!(mapped[1].announced, "198.51.100.1".parse::<IpAddr>().unwrap());
        assert_eq!(relays("external-ip=198.51.100.1\n").unwrap()[0].announced, mapped[1].announced);
    }

    #[test]
    fn an_external_address_alone_is_announced_for_every_relay_of_its_family_but_loopback() {
        let announced = |text: &str| {
            let plan = plan(&format!("realm=r\nuser=a:b\n{text}")).unwrap();
            let said = plan.warnings.iter().filter(|line| line.contains("external-ip")).count();
            (plan.relays.iter().map(|relay| relay.announced.to_string()).collect::<Vec<_>>().join(" "), said)
        };
        let is = |text: &str, shown: &str, said: usize| assert_eq!(announced(text), (shown.to_owned(), said), "{text}");
        is("relay-ip=10.0.0.1\nrelay-ip=10.0.0.2\nexternal-ip=198.51.100.1\n", "198.51.100.1 198.51.100.1", 1);
        is(
            "relay-ip=10.0.0.1\nrelay-ip=fd00::1\nexternal-ip=198.51.100.1\nexternal-ip=2001:db8::1\n",
            "198.51.100.1 2001:db8::1",
            0,
        );
        // A proxy on this host, and the network.
        is("listening-ip=127.0.0.1\nlistening-ip=10.0.0.1\nexternal-ip=198.51.100.1\n", "127.0.0.1 198.51.100.1", 0);
        is("relay-ip=127.0.0.1\nexternal-ip=198.51.100.1\n", "198.51.100.1", 0);
        // Whichever stands first: a pair counts for its own address, and of two without one the first.
        let pairs =
            "relay-ip=10.0.0.1\nrelay-ip=10.0.0.2\nexternal-ip=198.51.100.1\nexternal-ip=198.51.100.2/10.0.0.2\n";
        is(pairs, "198.51.100.1 198.51.100.2", 0);
        is("relay-ip=10.0.0.1\nexternal-ip=198.51.100.1\nexternal-ip=198.51.100.2\n", "198.51.100.1", 1);
        is("relay-ip=10.0.0.1\nexternal-ip=198.51.100.1/10.0.0.9\n", "10.0.0.1", 1);
    }

    #[test]
    fn what_cannot_work_is_refused_and_what_is_dangerous_is_said() {
        assert!(matches!(plan(&format!("{BASE}min-port=2\nmax-port=1\n")), Err(PlanError::Ports { min: 2, max: 1 })));
        assert!(matches!(plan(&format!("{BASE}no-udp\nno-tcp\nno-tls\n")), Err(PlanError::NoListener)));
        let open = plan("listening-ip=192.0.2.1\nrealm=r\nno-auth\n").unwrap();
        assert!(open.warnings.iter().any(|line| line.contains("anyone")));
        let nobody = plan("listening-ip=192.0.2.1\nrealm=r\nuse-auth-secret\n").unwrap();
        assert!(nobody.warnings.iter().any(|line| line.contains("nobody")));
    }

    #[test]
    fn private_networks_are_spoken_of_as_long_as_one_is_open() {
        let said = |text: &str| {
            let plan = plan(&format!("{BASE}{text}")).unwrap();
            plan.warnings.iter().find(|line| line.contains("private peers")).cloned()
        };
        let closed =
            "denied-peer-ip=10.0.0.0/8\ndenied-peer-ip=172.16.0.0-172.31.255.255\ndenied-peer-ip=192.168.0.0/16\n";
        let all = format!("{closed}denied-peer-ip=100.64.0.0/10\n");
        assert!(said("").unwrap().contains("close 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 with"));
        assert!(said(closed).unwrap().contains("close 100.64.0.0/10 with"));
        // Whom the file lets in by name was meant, and there is no relay of IPv6 here.
        for text in [&all, &format!("{all}allowed-peer-ip=10.0.0.7\n"), "stun-only\n", "no-udp-relay\n"] {
            assert_eq!(said(text), None, "{text}");
        }
        let six = format!("{all}relay-ip=192.0.2.1\nrelay-ip=2001:db8::1\n");
        assert!(said(&six).unwrap().contains("fc00::/7, fec0::/10"));
        assert_eq!(said(&format!("{six}denied-peer-ip=fc00::/7\ndenied-peer-ip=fec0::/10\n")), None);
    }
}
