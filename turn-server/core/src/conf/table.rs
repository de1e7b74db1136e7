//! Every option that a `turnserver.conf` may carry, and what becomes of it.
use super::Remark;
use super::names::{NamedAddress, is_name};
use super::options::{Conf, ConfUser, External, Family, Hidden};
use crate::policy::AddressRange;
use crate::users::UserSecret;
use std::net::{IpAddr, SocketAddr};

pub(super) struct Spec {
    pub(super) name: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
}

type Field<T> = fn(&mut Conf) -> &mut T;

pub(super) enum Kind {
    Flag(Field<bool>),
    Port(Field<u16>),
    Number(Field<u64>),
    Text(Field<Option<String>>),
    Secret(Field<Option<Hidden>>),
    Secrets(Field<Vec<Hidden>>),
    Addresses(Field<Vec<IpAddr>>, fn(String) -> NamedAddress),
    Address(Field<Option<IpAddr>>),
    Sockets(Field<Vec<SocketAddr>>),
    Ranges(Field<Vec<AddressRange>>),
    External,
    User,
    Separator,
    StaleNonce,
    Family,
    KeepFamily,
    /// Known, named once at start, without effect.
    Nothing(&'static str),
    /// The same, where a value belongs to it.
    NothingOf(&'static str),
}

impl Kind {
    pub(super) const fn needs_value(&self) -> bool {
        !matches!(self, Self::Flag(_) | Self::StaleNonce | Self::KeepFamily | Self::Nothing(_))
    }

    pub(super) const fn is_idle(&self) -> bool {
        matches!(self, Self::Nothing(_) | Self::NothingOf(_))
    }

    pub(super) fn apply(&self, conf: &mut Conf, value: &str) -> Result<(), Remark> {
        if self.needs_value() && value.is_empty() && !self.is_idle() {
            return Err(Remark::NoValue);
        }
        match self {
            Self::Flag(field) => {
                *field(conf) = boolean(without_comment(value))?;
                return uncut(value, without_comment(value));
            }
            Self::Port(field) => {
                *field(conf) = parsed(value, "a port, 0 to 65535")?;
                return uncut(value, digits(value));
            }
            Self::Number(field) => {
                *field(conf) = parsed(value, "a number")?;
                return uncut(value, digits(value));
            }
            Self::Text(field) => *field(conf) = Some(value.to_owned()),
            Self::Secret(field) => *field(conf) = Some(Hidden(value.to_owned())),
            Self::Secrets(field) => field(conf).push(Hidden(value.to_owned())),
            Self::Addresses(field, named) => match address(value) {
                Ok(address) => field(conf).push(address),
                Err(_) if is_name(value) => conf.names.push(named(value.to_owned())),
                Err(remark) => return Err(remark),
            },
            Self::Address(field) => *field(conf) = Some(address(value)?),
            Self::Sockets(field) => {
                field(conf)
                    .push(value.parse().map_err(|_| Remark::Fatal(format!("{value:?} is no address and port")))?);
            }
            Self::Ranges(field) => {
                field(conf).push(value.parse().map_err(|error| Remark::Fatal(format!("{error}")))?);
            }
            Self::External => match (external(value), named_external(value)) {
                (Ok(external), _) => conf.external_ips.push(external),
                (Err(_), Some(named)) => conf.names.push(named),
                (Err(remark), None) => return Err(remark),
            },
            Self::User => conf.users.push(user(value)?),
            Self::Separator => {
                let one = value.chars().next().filter(|_| value.chars().count() == 1);
                conf.rest_api_separator = one.ok_or(Remark::Ignored { expected: "one character" })?;
            }
            Self::StaleNonce => {
                conf.stale_nonce_s = if value.is_empty() { 600 } else { parsed(value, "seconds")? };
                return uncut(value, digits(value));
            }
            Self::Family => {
                conf.default_family = match value {
                    "ipv4" => Family::V4,
                    "ipv6" => Family::V6,
                    "keep" => Family::Keep,
                    _ => return Err(Remark::Ignored { expected: "ipv4, ipv6 or keep" }),
                };
            }
            Self::KeepFamily => {
                conf.default_family = if boolean(value)? { Family::Keep } else { Family::V4 };
            }
            Self::Nothing(why) | Self::NothingOf(why) => return Err(Remark::Nothing(why)),
        }
        Ok(())
    }
}

/// on, off, yes, no, true, false, 1, 0, t, f; nothing is true.
fn boolean(value: &str) -> Result<bool, Remark> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "on" | "yes" | "true" | "t" => Ok(true),
        "0" | "off" | "no" | "false" | "f" => Ok(false),
        _ => Err(Remark::Ignored { expected: "on or off" }),
    }
}

fn parsed<T: std::str::FromStr>(value: &str, expected: &'static str) -> Result<T, Remark> {
    digits(value).parse().map_err(|_| Remark::Ignored { expected })
}

/// Numbers end where the digits do: published files have words behind them.
fn digits(value: &str) -> &str {
    value.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default()
}

/// Switches have no value of their own that begins with `#`.
fn without_comment(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim_end()
}

/// A note where less was taken than was written.
fn uncut(value: &str, taken: &str) -> Result<(), Remark> {
    if value.len() == taken.len() { Ok(()) } else { Err(Remark::Cut) }
}

fn address(value: &str) -> Result<IpAddr, Remark> {
    value.parse().map_err(|_| Remark::Fatal(format!("{value:?} is no IP address")))
}

fn external(value: &str) -> Result<External, Remark> {
    match value.split_once('/') {
        None => Ok(External { announced: address(value)?, local: None }),
        Some((announced, local)) => {
            let (announced, local) = (address(announced)?, address(local)?);
            if announced.is_ipv4() != local.is_ipv4() {
                return Err(Remark::Fatal(format!("{value:?} mixes IPv4 and IPv6")));
            }
            Ok(External { announced, local: Some(local) })
        }
    }
}

/// At least one of the two is a name, and neither is anything else than a name or an address.
fn named_external(value: &str) -> Option<NamedAddress> {
    let (announced, local) = value.split_once('/').map_or((value, None), |(announced, local)| (announced, Some(local)));
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    let mut both = [Some(announced), local].into_iter().flatten();
    let is_fine = both.clone().all(|text| is_address(text) || is_name(text)) && both.any(is_name);
    is_fine.then(|| NamedAddress::External { announced: announced.to_owned(), local: local.map(str::to_owned) })
}

fn user(value: &str) -> Result<ConfUser, Remark> {
    const EXPECTED: Remark = Remark::Ignored { expected: "name:password, or name:0x and 32 hexadecimal digits" };
    let (name, secret) = value.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or(EXPECTED)?;
    let secret = match secret.strip_prefix("0x") {
        Some(digits) => UserSecret::from_hex(digits).ok_or(EXPECTED)?,
        None => UserSecret::Password(secret.into()),
    };
    Ok(ConfUser { name: name.to_owned(), secret })
}

const fn spec(name: &'static str, kind: Kind) -> Spec {
    Spec { name, short: None, kind }
}

const fn short(letter: char, name: &'static str, kind: Kind) -> Spec {
    Spec { name, short: Some(letter), kind }
}

const NO_CLI: &str = "there is no telnet or web console";
const NO_OAUTH: &str = "OAuth (RFC 7635) is not spoken";
const NO_DISCOVERY: &str = "NAT discovery (RFC 5780) is not spoken, and nothing of it is sent";
const NO_REDIS: &str = "Redis is not used";
const NO_OLD_TLS: &str = "TLS below 1.2 and DTLS are never offered";
const NO_REDIRECT: &str = "clients are not sent elsewhere";
const NO_DEVICE: &str = "sockets are bound to addresses, not to devices";
const ALWAYS: &str = "it is always so";
const BY_ITSELF: &str = "the server does this by itself where the system allows it";

pub(super) static OPTIONS: &[Spec] = &[
    // where
    short('p', "listening-port", Kind::Port(|c| &mut c.listening_port)),
    spec("tls-listening-port", Kind::Port(|c| &mut c.tls_listening_port)),
    spec("alt-listening-port", Kind::Port(|c| &mut c.alt_listening_port)),
    spec("alt-tls-listening-port", Kind::Port(|c| &mut c.alt_tls_listening_port)),
    short('L', "listening-ip", Kind::Addresses(|c| &mut c.listening_ips, NamedAddress::Listening)),
    spec("aux-server", Kind::Sockets(|c| &mut c.aux_servers)),
    short('E', "relay-ip", Kind::Addresses(|c| &mut c.relay_ips, NamedAddress::Relay)),
    short('X', "external-ip", Kind::External),
    spec("min-port", Kind::Port(|c| &mut c.min_port)),
    spec("max-port", Kind::Port(|c| &mut c.max_port)),
    short('m', "relay-threads", Kind::Number(|c| &mut c.relay_threads)),
    spec("no-udp", Kind::Flag(|c| &mut c.no_udp)),
    spec("no-tcp", Kind::Flag(|c| &mut c.no_tcp)),
    spec("no-tls", Kind::Flag(|c| &mut c.no_tls)),
    spec("no-dtls", Kind::Flag(|c| &mut c.no_dtls)),
    spec("no-udp-relay", Kind::Flag(|c| &mut c.no_udp_relay)),
    spec("no-tcp-relay", Kind::Flag(|c| &mut c.no_tcp_relay)),
    // who
    short('r', "realm", Kind::Text(|c| &mut c.realm)),
    spec("server-name", Kind::Text(|c| &mut c.server_name)),
    short('a', "lt-cred-mech", Kind::Flag(|c| &mut c.lt_cred_mech)),
    short('z', "no-auth", Kind::Flag(|c| &mut c.no_auth)),
    short('u', "user", Kind::User),
    spec("use-auth-secret", Kind::Flag(|c| &mut c.use_auth_secret)),
    spec("static-auth-secret", Kind::Secrets(|c| &mut c.static_auth_secrets)),
    short('C', "rest-api-separator", Kind::Separator),
    short('b', "userdb", Kind::Text(|c| &mut c.userdb)),
    spec("db", Kind::Text(|c| &mut c.userdb)),
    short('e', "psql-userdb", Kind::Secret(|c| &mut c.psql_userdb)),
    spec("sql-userdb", Kind::Secret(|c| &mut c.psql_userdb)),
    spec("stale-nonce", Kind::StaleNonce),
    // how much
    short('q', "user-quota", Kind::Number(|c| &mut c.user_quota)),
    short('Q', "total-quota", Kind::Number(|c| &mut c.total_quota)),
    short('s', "max-bps", Kind::Number(|c| &mut c.max_bps)),
    short('B', "bps-capacity", Kind::Number(|c| &mut c.bps_capacity)),
    spec("max-allocate-lifetime", Kind::Number(|c| &mut c.max_allocate_lifetime_s)),
    spec("channel-lifetime", Kind::Number(|c| &mut c.channel_lifetime_s)),
    spec("permission-lifetime", Kind::Number(|c| &mut c.permission_lifetime_s)),
    spec("unauthorized-ratelimit", Kind::Flag(|c| &mut c.unauthorized_ratelimit)),
    spec("unauthorized-ratelimit-rps", Kind::Number(|c| &mut c.unauthorized_ratelimit_rps)),
    // with whom
    spec("allowed-peer-ip", Kind::Ranges(|c| &mut c.allowed_peers)),
    spec("denied-peer-ip", Kind::Ranges(|c| &mut c.denied_peers)),
    spec("no-multicast-peers", Kind::Flag(|c| &mut c.no_multicast_peers)),
    spec("allow-loopback-peers", Kind::Flag(|c| &mut c.allow_loopback_peers)),
    short('A', "allocation-default-address-family", Kind::Family),
    short('K', "keep-address-family", Kind::KeepFamily),
    // how
    short('S', "stun-only", Kind::Flag(|c| &mut c.stun_only)),
    spec("no-stun", Kind::Flag(|c| &mut c.no_stun)),
    short('f', "fingerprint", Kind::Flag(|c| &mut c.fingerprint)),
    spec("no-software-attribute", Kind::Flag(|c| &mut c.no_software_attribute)),
    spec("prod", Kind::Flag(|c| &mut c.no_software_attribute)),
    spec("cert", Kind::Text(|c| &mut c.cert)),
    spec("pkey", Kind::Text(|c| &mut c.pkey)),
    spec("pkey-pwd", Kind::Secret(|c| &mut c.pkey_pwd)),
    spec("cipher-list", Kind::Text(|c| &mut c.cipher_list)),
    // process and logs
    short('l', "log-file", Kind::Text(|c| &mut c.log.file)),
    spec("simple-log", Kind::Flag(|c| &mut c.log.simple_log)),
    spec("no-stdout-log", Kind::Flag(|c| &mut c.log.no_stdout_log)),
    spec("syslog", Kind::Flag(|c| &mut c.log.syslog)),
    short('v', "verbose", Kind::Flag(|c| &mut c.log.verbose)),
    short('V', "Verbose", Kind::Flag(|c| &mut c.log.very_verbose)),
    spec("pidfile", Kind::Text(|c| &mut c.pidfile)),
    spec("proc-user", Kind::Text(|c| &mut c.proc_user)),
    spec("proc-group", Kind::Text(|c| &mut c.proc_group)),
    spec("prometheus", Kind::Flag(|c| &mut c.prometheus.enabled)),
    spec("prometheus-port", Kind::Port(|c| &mut c.prometheus.port)),
    spec("prometheus-address", Kind::Address(|c| &mut c.prometheus.address)),
    spec("prometheus-path", Kind::Text(|c| &mut c.prometheus.path)),
    spec("prometheus-username-labels", Kind::Flag(|c| &mut c.prometheus.username_labels)),
    // known and without effect
    short('d', "listening-device", Kind::NothingOf(NO_DEVICE)),
    short('i', "relay-device", Kind::NothingOf(NO_DEVICE)),
    short('o', "daemon", Kind::Nothing("the process stays in front; the service manager keeps it")),
    spec("no-cli", Kind::Nothing(NO_CLI)),
    spec("cli-ip", Kind::Nothing(NO_CLI)),
    spec("cli-port", Kind::Nothing(NO_CLI)),
    spec("cli-password", Kind::Nothing(NO_CLI)),
    spec("cli-max-output-sessions", Kind::Nothing(NO_CLI)),
    spec("web-admin", Kind::Nothing(NO_CLI)),
    spec("web-admin-ip", Kind::Nothing(NO_CLI)),
    spec("web-admin-port", Kind::Nothing(NO_CLI)),
    spec("web-admin-listen-on-workers", Kind::Nothing(NO_CLI)),
    spec("oauth", Kind::Nothing(NO_OAUTH)),
    spec("check-origin-consistency", Kind::Nothing("ORIGIN is not looked at")),
    short('N', "redis-userdb", Kind::NothingOf(NO_REDIS)),
    short('O', "redis-statsdb", Kind::NothingOf(NO_REDIS)),
    short('M', "mysql-userdb", Kind::NothingOf("MySQL is not used; userdb and psql-userdb are")),
    short('J', "mongo-userdb", Kind::NothingOf("MongoDB is not used; userdb and psql-userdb are")),
    spec("secret-key-file", Kind::Nothing("MySQL is not used")),
    spec("no-auth-pings", Kind::Nothing("databases are not polled for their health")),
    spec("no-dynamic-ip-list", Kind::Nothing("peer ranges come from this file only")),
    spec("no-dynamic-realms", Kind::Nothing("there is one realm")),
    spec("secure-stun", Kind::Nothing("Binding requests are never asked for credentials")),
    spec("mobility", Kind::Nothing("mobility (RFC 8016) is not spoken")),
    spec("dh-file", Kind::Nothing("key exchange is by elliptic curves")),
    spec("dh566", Kind::Nothing("key exchange is by elliptic curves")),
    spec("dh1066", Kind::Nothing("key exchange is by elliptic curves")),
    spec("dh2066", Kind::Nothing("key exchange is by elliptic curves")),
    spec("ec-curve-name", Kind::Nothing("curves are negotiated")),
    spec("CA-file", Kind::Nothing("clients are not asked for certificates")),
    spec("no-tlsv1", Kind::Nothing(NO_OLD_TLS)),
    spec("no-tlsv1_1", Kind::Nothing(NO_OLD_TLS)),
    spec("no-tlsv1_2", Kind::Nothing("TLS 1.2 stays: browsers need it")),
    spec("tlsv1", Kind::Nothing(NO_OLD_TLS)),
    spec("no-sslv2", Kind::Nothing(NO_OLD_TLS)),
    spec("no-sslv3", Kind::Nothing(NO_OLD_TLS)),
    spec("dtls", Kind::Nothing(NO_OLD_TLS)),
    spec("no-rfc5780", Kind::Nothing(NO_DISCOVERY)),
    spec("rfc5780", Kind::Nothing(NO_DISCOVERY)),
    spec("response-origin-only-with-rfc5780", Kind::Nothing(NO_DISCOVERY)),
    spec("no-stun-backward-compatibility", Kind::Nothing("RFC 3489 is never answered")),
    spec("stun-backward-compatibility", Kind::Nothing("RFC 3489 is never answered")),
    spec("software-attribute", Kind::Nothing("it is sent to those who logged in, unless no-software-attribute")),
    spec("alternate-server", Kind::Nothing(NO_REDIRECT)),
    spec("tls-alternate-server", Kind::Nothing(NO_REDIRECT)),
    spec("udp-alternate-server", Kind::Nothing(NO_REDIRECT)),
    spec("tcp-alternate-server", Kind::Nothing(NO_REDIRECT)),
    spec("tcp-proxy-port", Kind::Nothing("the PROXY protocol is not spoken")),
    spec("udp-self-balance", Kind::Nothing(BY_ITSELF)),
    spec("acme-redirect", Kind::Nothing("HTTP is not answered")),
    spec("respond-http-unsupported", Kind::Nothing("HTTP is not answered")),
    spec("server-relay", Kind::Nothing("a peer needs a permission")),
    spec("max-allocate-timeout", Kind::Nothing("a connection without an allocation ends after 60 s")),
    spec("no-loopback-peers", Kind::Nothing(ALWAYS)),
    spec("no-ipv6", Kind::Nothing("listening-ip and relay-ip say which families are served")),
    spec("ne", Kind::Nothing(BY_ITSELF)),
    spec("stateless-nonce", Kind::Nothing(ALWAYS)),
    spec("stateless-nonce-secret", Kind::Nothing("each process draws its own")),
    spec("drain-min-allocations", Kind::Nothing("draining ends with the last allocation")),
    spec("udp-recvmmsg", Kind::Nothing(ALWAYS)),
    spec("udp-gso", Kind::Nothing(BY_ITSELF)),
    spec("multiplex-peer", Kind::Nothing("each allocation has a socket of its own, so that any peer may serve many")),
    spec("sock-buf-size", Kind::Nothing(BY_ITSELF)),
    spec("cpus", Kind::Nothing("relay-threads says how many threads there are")),
    spec("log-binding", Kind::Nothing("nothing is logged for each request")),
    spec("log-min-level", Kind::Nothing("verbose says how much is logged")),
    spec("new-log-timestamp", Kind::Nothing(ALWAYS)),
    spec("new-log-timestamp-format", Kind::Nothing("times are written by RFC 3339")),
    spec("syslog-facility", Kind::Nothing("the facility is daemon")),
    spec("include-reason-string", Kind::Nothing(ALWAYS)),
    spec("drop-invalid-packets", Kind::Nothing(ALWAYS)),
    spec("prometheus-tls", Kind::Nothing("metrics are served without TLS, on loopback unless told")),
    spec("prometheus-cert", Kind::Nothing("metrics are served without TLS, on loopback unless told")),
    spec("prometheus-key", Kind::Nothing("metrics are served without TLS, on loopback unless told")),
];
