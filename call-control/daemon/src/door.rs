//! The listeners: connections counted per source, TLS where it is asked for, and no patience for the slow.
use crate::acme::Acme;
use crate::config::{Certificate, Limits};
use axum_server::Handle;
use axum_server::accept::{Accept, DefaultAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use offhook_runtime::{Gauge, StartError};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// For a TLS handshake, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until told to stop.
pub struct Door {
    pub addresses: Vec<SocketAddr>,
    listeners: Vec<std::net::TcpListener>,
    tls: TlsForm,
    places: Arc<Places>,
    pub handle: Handle<SocketAddr>,
    /// Behind proxies every connection comes from them.
    trusted: Vec<IpAddr>,
}

enum TlsForm {
    Plain,
    Files(RustlsConfig),
    Acme(Box<Acme>),
}

impl Door {
    pub fn bind(
        listen: &[SocketAddr],
        certificate: &Certificate,
        data_dir: &Path,
        limits: Limits,
        trusted: Vec<IpAddr>,
        connections: Gauge,
    ) -> Result<Self, StartError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in listen {
            let doing = || format!("bind [control] listen {address}");
            let listener = std::net::TcpListener::bind(address).map_err(|e| StartError::new(doing(), e))?;
            listener.set_nonblocking(true).map_err(|e| StartError::new(doing(), e))?;
            addresses.push(listener.local_addr().map_err(|e| StartError::new(doing(), e))?);
            listeners.push(listener);
        }
        let tls = match certificate {
            Certificate::Plain => TlsForm::Plain,
            Certificate::Files { certificate, key } => {
                TlsForm::Files(RustlsConfig::from_config(Arc::new(server_config(certificate, key)?)))
            }
            Certificate::Acme(wish) => TlsForm::Acme(Box::new(Acme::open(wish, data_dir.join("acme"))?)),
        };
        let places = Arc::new(Places { limits, taken: Mutex::default(), connections });
        Ok(Self { addresses, listeners, tls, places, handle: Handle::new(), trusted })
    }

    /// New certificate files for new connections; when they are broken the old ones stay.
    pub fn reloader(&self) -> impl Fn(&Certificate) + Send + Sync + 'static {
        let files = if let TlsForm::Files(config) = &self.tls { Some(config.clone()) } else { None };
        move |certificate| {
            let (Some(config), Certificate::Files { certificate, key }) = (&files, certificate) else { return };
            match server_config(certificate, key) {
                Ok(fresh) => config.reload_from_config(Arc::new(fresh)),
                Err(error) => tracing::error!(%error, "the new certificate is not usable; the former stays"),
            }
        }
    }

    pub async fn serve(self, app: axum::Router) -> io::Result<()> {
        let Self { listeners, tls, places, handle, trusted, .. } = self;
        // It ends with the listeners: two would order the same certificate.
        let mut fetching = tokio::task::JoinSet::new();
        let acceptor = match tls {
            TlsForm::Plain => Inner::Plain,
            TlsForm::Files(config) => Inner::Files(RustlsAcceptor::new(config).handshake_timeout(PATIENCE)),
            TlsForm::Acme(acme) => {
                let acceptor = acme.acceptor();
                fetching.spawn(acme.run());
                Inner::Acme(acceptor)
            }
        };
        let acceptor = Bouncer { inner: acceptor, places, trusted: trusted.into() };
        let mut servers = tokio::task::JoinSet::new();
        for listener in listeners {
            let mut server = axum_server::from_tcp(listener)?.acceptor(acceptor.clone()).handle(handle.clone());
            server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            let service = app.clone().into_make_service_with_connect_info::<SocketAddr>();
            servers.spawn(server.serve(service));
        }
        while let Some(ended) = servers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, StartError> {
    let doing = |path: &Path| format!("read [tls] {}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|e| StartError::new(doing(certificate), e))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| StartError::new(doing(key), e))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(|e| StartError::new("use [tls] certificate and key", e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

struct Places {
    limits: Limits,
    taken: Mutex<HashMap<IpAddr, usize>>,
    connections: Gauge,
}

impl Places {
    /// A panic elsewhere leaves the table consistent.
    fn table(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, source: IpAddr, unlimited: bool) -> Option<Place> {
        let mut table = self.table();
        let all: usize = table.values().sum();
        let mine = table.get(&source).copied().unwrap_or(0);
        if all >= self.limits.connections_in_all || (mine >= self.limits.connections && !unlimited) {
            return None;
        }
        table.insert(source, mine + 1);
        self.connections.add(1);
        Some(Place { places: self.clone(), source })
    }
}

/// A connection's place; given back when dropped.
struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        if let Some(count) = table.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                table.remove(&self.source);
            }
        }
        self.places.connections.add(-1);
    }
}

#[derive(Clone)]
enum Inner {
    Plain,
    Files(RustlsAcceptor<DefaultAcceptor>),
    Acme(rustls_acme::axum::AxumAcceptor),
}

/// Lets a connection in when there is a place for it.
#[derive(Clone)]
struct Bouncer {
    inner: Inner,
    places: Arc<Places>,
    trusted: Arc<[IpAddr]>,
}

impl<S: Send + 'static> Accept<TcpStream, S> for Bouncer {
    type Stream = Guest;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Guest, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let place = stream.peer_addr().ok().map(|a| a.ip().to_canonical());
        let place = place.and_then(|source| self.places.take(source, self.trusted.contains(&source)));
        let inner = self.inner.clone();
        Box::pin(async move {
            let Some(place) = place else { return Err(io::ErrorKind::ConnectionRefused.into()) };
            stream.set_nodelay(true)?;
            let (stream, service): (Box<dyn Socket>, S) = match inner {
                Inner::Plain => (Box::new(stream), service),
                Inner::Files(acceptor) => {
                    let (stream, service) = acceptor.accept(stream, service).await?;
                    (Box::new(stream), service)
                }
                Inner::Acme(acceptor) => {
                    let (stream, service) = tokio::time::timeout(PATIENCE, acceptor.accept(stream, service)).await??;
                    (Box::new(stream), service)
                }
            };
            Ok((Guest { stream, _place: place }, service))
        })
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A connection with its place.
struct Guest {
    stream: Box<dyn Socket>,
    _place: Place,
}

impl AsyncRead for Guest {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
