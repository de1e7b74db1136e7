//! The typed outcome of a `turnserver.conf`.
use super::names::NamedAddress;
use crate::policy::AddressRange;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A secret; it does not print.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `external-ip=announced[/local]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    pub announced: IpAddr,
    pub local: Option<IpAddr>,
}

/// `user=name:password`, or `name:0x…` with the key that turnadmin prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfUser {
    pub name: String,
    pub secret: crate::UserSecret,
}

/// `allocation-default-address-family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    #[default]
    V4,
    V6,
    Keep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    pub enabled: bool,
    pub port: u16,
    pub address: Option<IpAddr>,
    pub path: Option<String>,
    pub username_labels: bool,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self { enabled: false, port: 9_641, address: None, path: None, username_labels: false }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// A path, `stdout`, `-` or `syslog`.
    pub file: Option<String>,
    pub simple_log: bool,
    pub no_stdout_log: bool,
    pub syslog: bool,
    pub verbose: bool,
    pub very_verbose: bool,
}

/// `aux-server`.
pub type ServerSocket = SocketAddr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    pub listening_port: u16,
    pub tls_listening_port: u16,
    pub alt_listening_port: u16,
    pub alt_tls_listening_port: u16,
    pub listening_ips: Vec<IpAddr>,
    pub aux_servers: Vec<ServerSocket>,
    pub relay_ips: Vec<IpAddr>,
    pub external_ips: Vec<External>,
    /// Of these three, what is written as names; [`Conf::resolve`] takes them away.
    pub names: Vec<NamedAddress>,
    pub min_port: u16,
    pub max_port: u16,
    pub relay_threads: u64,
    pub realm: Option<String>,
    pub server_name: Option<String>,
    pub fingerprint: bool,
    pub lt_cred_mech: bool,
    pub use_auth_secret: bool,
    pub static_auth_secrets: Vec<Hidden>,
    pub users: Vec<ConfUser>,
    pub rest_api_separator: char,
    pub no_auth: bool,
    pub userdb: Option<String>,
    pub psql_userdb: Option<Hidden>,
    pub cert: Option<String>,
    pub pkey: Option<String>,
    pub pkey_pwd: Option<Hidden>,
    pub cipher_list: Option<String>,
    pub no_tls: bool,
    pub no_dtls: bool,
    pub no_tcp: bool,
    pub no_udp: bool,
    pub no_udp_relay: bool,
    pub no_tcp_relay: bool,
    pub user_quota: u64,
    pub total_quota: u64,
    pub max_bps: u64,
    pub bps_capacity: u64,
    /// Seconds; 0 is for ever.
    pub stale_nonce_s: u64,
    pub max_allocate_lifetime_s: u64,
    pub channel_lifetime_s: u64,
    pub permission_lifetime_s: u64,
    pub unauthorized_ratelimit: bool,
    pub unauthorized_ratelimit_rps: u64,
    pub allowed_peers: Vec<AddressRange>,
    pub denied_peers: Vec<AddressRange>,
    pub no_multicast_peers: bool,
    pub allow_loopback_peers: bool,
    pub stun_only: bool,
    pub no_stun: bool,
    pub default_family: Family,
    pub no_software_attribute: bool,
    pub log: LogOptions,
    pub pidfile: Option<String>,
    pub proc_user: Option<String>,
    pub proc_group: Option<String>,
    pub prometheus: Prometheus,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            listening_port: 3_478,
            tls_listening_port: 5_349,
            alt_listening_port: 0,
            alt_tls_listening_port: 0,
            listening_ips: Vec::new(),
            aux_servers: Vec::new(),
            relay_ips: Vec::new(),
            external_ips: Vec::new(),
            names: Vec::new(),
            min_port: 49_152,
            max_port: 65_535,
            relay_threads: 0,
            realm: None,
            server_name: None,
            fingerprint: false,
            lt_cred_mech: false,
            use_auth_secret: false,
            static_auth_secrets: Vec::new(),
            users: Vec::new(),
            rest_api_separator: ':',
            no_auth: false,
            userdb: None,
            psql_userdb: None,
            cert: None,
            pkey: None,
            pkey_pwd: None,
            cipher_list: None,
            no_tls: false,
            no_dtls: false,
            no_tcp: false,
            no_udp: false,
            no_udp_relay: false,
            no_tcp_relay: false,
            user_quota: 0,
            total_quota: 0,
            max_bps: 0,
            bps_capacity: 0,
            stale_nonce_s: 600,
            max_allocate_lifetime_s: 3_600,
            channel_lifetime_s: 600,
            permission_lifetime_s: 300,
            unauthorized_ratelimit: true,
            unauthorized_ratelimit_rps: 100,
            allowed_peers: Vec::new(),
            denied_peers: Vec::new(),
            no_multicast_peers: false,
            allow_loopback_peers: false,
            stun_only: false,
            no_stun: false,
            default_family: Family::V4,
            no_software_attribute: false,
            log: LogOptions::default(),
            pidfile: None,
            proc_user: None,
            proc_group: None,
            prometheus: Prometheus::default(),
        }
    }
}
