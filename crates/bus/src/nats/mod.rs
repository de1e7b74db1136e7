//! The bus over NATS: connecting, and what is refused before a connection is tried.
//!
//! Written against nats-server 2.9 and newer: buckets are made as raw streams, because the client's own creation of
//! a key-value bucket does not understand the answer of a 2.9 server.
mod keys;
mod transport;

use crate::bus::Bus;
use crate::subject::{InvalidCluster, Subjects};
use async_nats::{ConnectOptions, Event, ServerAddr};
use offhook_contract::{DaemonKind, Secret};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use transport::{Link, NatsTransport};

/// Half-open connections are noticed within two of these.
const PING_PERIOD: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(2);

/// Who we are for the NATS server.
#[derive(Debug, Clone, Default)]
pub enum NatsCredentials {
    /// Only for servers on loopback that ask for nothing.
    #[default]
    None,
    UserPassword {
        user: String,
        password: Secret,
    },
    Token(Secret),
    /// The seed of an nkey (`SU…`).
    NkeySeed(Secret),
}

#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Separates installations on one server.
    pub cluster: String,
    /// `nats://127.0.0.1:4222`, `tls://bus.example.org:4222`; several of one NATS cluster.
    pub urls: Vec<String>,
    /// Names the connection, and the inbox under which replies arrive: one that users of other kinds cannot read.
    pub kind: DaemonKind,
    pub credentials: NatsCredentials,
    /// PEM; the system's authorities when absent.
    pub ca_file: Option<PathBuf>,
    /// PEM chain and key, for servers that ask for a client certificate.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Cluster(#[from] InvalidCluster),
    #[error("no address of a NATS server is given")]
    NoAddress,
    #[error("{address:?} is no address of a NATS server; expected nats://host:port or tls://host:port")]
    Address { address: String },
    /// Keys of Links travel on the bus.
    #[error("{host} is not on this machine, and the bus carries keys: use tls://{host}:{port}")]
    PlaintextOffLoopback { host: String, port: u16 },
    #[error("the nkey seed cannot be read (it begins with SU)")]
    NkeySeed,
    #[error("cannot read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("the connection to the bus cannot be prepared")]
    Prepare(#[source] async_nats::ConnectError),
}

impl Bus {
    /// Connects, and connects again for ever. Returns at once: whether the server is there is what
    /// [`Bus::is_connected`] tells. Must be called on a runtime that outlives the bus.
    pub async fn connect_nats(options: NatsOptions) -> Result<Self, ConnectError> {
        let subjects = Subjects::new(&options.cluster)?;
        let addresses = check_addresses(&options.urls)?;
        let link = Arc::new(Link::default());
        let connect = prepare(&options, &addresses, link.clone())?;
        let client = connect.connect(addresses).await.map_err(ConnectError::Prepare)?;
        let transport = NatsTransport::start(client, link, &subjects, options.kind == DaemonKind::Control);
        Ok(Self::over(Box::new(transport), subjects))
    }
}

fn check_addresses(urls: &[String]) -> Result<Vec<ServerAddr>, ConnectError> {
    if urls.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    urls.iter().map(|url| check_address(url)).collect()
}

fn check_address(url: &str) -> Result<ServerAddr, ConnectError> {
    let refused = || ConnectError::Address { address: without_credentials(url) };
    let address: ServerAddr = url.parse().map_err(|_| refused())?;
    if !matches!(address.scheme(), "nats" | "tls") || address.host().is_empty() {
        return Err(refused());
    }
    if !address.tls_required() && !is_loopback(address.host()) {
        return Err(ConnectError::PlaintextOffLoopback { host: address.host().to_owned(), port: address.port() });
    }
    Ok(address)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        _ => url.to_owned(),
    }
}

fn prepare(options: &NatsOptions, addresses: &[ServerAddr], link: Arc<Link>) -> Result<ConnectOptions, ConnectError> {
    let readable = |path: &PathBuf| match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(ConnectError::File { path: path.clone(), source }),
    };
    let mut connect = ConnectOptions::new()
        .name(format!("offhook-{}", options.kind))
        .custom_inbox_prefix(format!("_INBOX.{}", options.kind))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_pause)
        // A server may tell of others that lie off loopback and speak no TLS.
        .ignore_discovered_servers()
        .require_tls(addresses.iter().any(ServerAddr::tls_required))
        .ping_interval(PING_PERIOD)
        .connection_timeout(CONNECT_TIMEOUT)
        .event_callback(move |event| {
            let link = link.clone();
            async move { note(&link, event) }
        });
    if let Some(path) = &options.ca_file {
        readable(path)?;
        connect = connect.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.client_certificate {
        readable(certificate)?;
        readable(key)?;
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match &options.credentials {
        NatsCredentials::None => connect,
        NatsCredentials::UserPassword { user, password } => {
            connect.user_and_password(user.clone(), password.expose().to_owned())
        }
        NatsCredentials::Token(token) => connect.token(token.expose().to_owned()),
        NatsCredentials::NkeySeed(seed) => {
            if !seed.expose().starts_with("SU") || seed.expose().len() != 58 {
                return Err(ConnectError::NkeySeed);
            }
            connect.nkey(seed.expose().to_owned())
        }
    })
}

fn reconnect_pause(attempts: usize) -> Duration {
    let step = u32::try_from(attempts).unwrap_or(u32::MAX).min(20);
    (Duration::from_millis(100) * step).min(LONGEST_RECONNECT_PAUSE)
}

fn note(link: &Link, event: Event) {
    match event {
        Event::Connected => {
            tracing::info!("bus connected");
            link.up();
        }
        Event::Disconnected => {
            tracing::warn!("bus lost; calls go on, connecting again");
            link.down();
        }
        Event::SlowConsumer(_) => link.count_dropped(),
        Event::ServerError(error) if link.may_complain() => tracing::warn!(%error, "the bus server refused"),
        Event::ServerError(error) => tracing::debug!(%error, "the bus server refused"),
        Event::ClientError(error) if link.may_complain() => tracing::warn!(%error, "the bus cannot be reached yet"),
        Event::ClientError(error) => tracing::debug!(%error, "the bus cannot be reached yet"),
        Event::LameDuckMode => tracing::info!("the bus server is shutting down"),
        Event::Draining | Event::Closed => link.down(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> NatsOptions {
        NatsOptions {
            cluster: "test".into(),
            urls: vec![url.into()],
            kind: DaemonKind::Sfu,
            credentials: NatsCredentials::None,
            ca_file: None,
            client_certificate: None,
        }
    }

    #[tokio::test]
    async fn a_server_off_loopback_without_tls_is_refused_with_the_reason() {
        for url in ["nats://203.0.113.5:4222", "nats://bus.example.org", "nats://[2001:db8::1]:4222", "10.0.0.1:4222"] {
            let refused = Bus::connect_nats(options(url)).await.err();
            assert!(matches!(refused, Some(ConnectError::PlaintextOffLoopback { .. })), "{url}: {refused:?}");
        }
        let message = Bus::connect_nats(options("nats://203.0.113.5:4222")).await.unwrap_err().to_string();
        assert_eq!(message, "203.0.113.5 is not on this machine, and the bus carries keys: use tls://203.0.113.5:4222");
        for url in ["nats://127.0.0.1:1", "nats://localhost:1", "nats://[::1]:1", "nats://[::ffff:127.0.0.1]:1"] {
            assert!(check_address(url).is_ok(), "{url}");
        }
        assert!(check_address("tls://bus.example.org:4222").is_ok());
    }

    #[tokio::test]
    async fn an_address_of_another_kind_is_refused_without_showing_its_password() {
        for url in ["http://127.0.0.1:4222", "ws://127.0.0.1:80", "nats://"] {
            assert!(matches!(check_address(url), Err(ConnectError::Address { .. })), "{url}");
        }
        let message = check_address("http://me:secret@127.0.0.1").unwrap_err().to_string();
        assert!(message.contains("***") && !message.contains("secret"), "{message}");
        let mut nobody = options("nats://127.0.0.1:4222");
        nobody.credentials = NatsCredentials::NkeySeed(Secret::new("UAnotaseed"));
        assert!(matches!(Bus::connect_nats(nobody).await, Err(ConnectError::NkeySeed)));
    }
}
