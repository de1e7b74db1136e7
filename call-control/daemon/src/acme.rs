//! Certificates by ACME (RFC 8555), proved by TLS-ALPN-01 (RFC 8737) on the listeners that serve the pages.
use crate::config::AcmeWish;
use futures_util::StreamExt;
use offhook_runtime::StartError;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_acme::acme::{Auth, Identifier};
use rustls_acme::axum::AxumAcceptor;
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, AcmeState, EventError, EventOk, OrderError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use rustls_platform_verifier::ConfigVerifierExt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Public authorities turn a host away for an hour that failed five times within one. After each refusal in a row at least
/// this passes, after more of them the last; an authority that could not be reached counted nothing.
const REFUSED: [Duration; 4] =
    [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900)];
const ALPN: &[u8] = b"http/1.1";

type State = AcmeState<io::Error>;

/// Fetches certificates and renews them when a third of their time is left; what it fetched is kept.
pub struct Acme {
    state: State,
}

impl Acme {
    /// The account's key and the certificates are kept in `cache`.
    pub fn open(wish: &AcmeWish, cache: PathBuf) -> Result<Self, StartError> {
        let client = match &wish.ca_file {
            Some(file) => trusting(file)?,
            None => ClientConfig::with_platform_verifier()
                .map_err(|e| StartError::new("read the system's certificate authorities for ACME", e))?,
        };
        let mut config = AcmeConfig::new_with_client_config(&wish.domains, Arc::new(client))
            .contact(&wish.contact)
            .cache(DirCache::new(cache))
            .directory_lets_encrypt(true);
        if let Some(directory) = &wish.directory {
            config = config.directory(directory);
        }
        Ok(Self { state: config.state() })
    }

    /// Answers the authority's connections itself and lets the others in, once there is a certificate.
    pub fn acceptor(&self) -> AxumAcceptor {
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(self.state.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        self.state.axum_acceptor(Arc::new(config))
    }

    /// Never ends.
    pub async fn run(self) {
        let Self { mut state } = self;
        let (mut failures, mut refusals) = (0u32, 0usize);
        while let Some(event) = state.next().await {
            match event {
                Ok(EventOk::DeployedCachedCert) => tracing::info!("certificate by ACME: the kept one serves"),
                Ok(EventOk::DeployedNewCert) => {
                    (failures, refusals) = (0, 0);
                    tracing::info!("certificate by ACME: a new one serves");
                }
                Ok(EventOk::CertCacheStore | EventOk::AccountCacheStore) => {}
                Err(EventError::Order(error)) => {
                    // The stream itself waits twice as long each time, up to 18 hours.
                    let own = Duration::from_secs(1 << failures.min(16));
                    let pause = if counts(&error) { REFUSED[refusals.min(REFUSED.len() - 1)] } else { Duration::ZERO };
                    refusals += usize::from(counts(&error));
                    failures += 1;
                    let again_s = own.max(pause).as_secs();
                    tracing::warn!(error = why(&error), again_s, "certificate by ACME: not fetched");
                    tokio::time::sleep(pause).await;
                }
                Err(error) => tracing::warn!(%error, "certificate by ACME: what is kept cannot be used"),
            }
        }
    }
}

/// Trusts the authorities in this PEM file alone.
fn trusting(file: &Path) -> Result<ClientConfig, StartError> {
    let doing = || format!("read [tls] acme_ca_file {}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| StartError::new(doing(), e))? {
        let certificate = certificate.map_err(|e| StartError::new(doing(), e))?;
        roots.add(certificate).map_err(|e| StartError::new(doing(), e))?;
    }
    if roots.is_empty() {
        return Err(StartError::new(doing(), "there is no certificate in it"));
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Whether the authority itself said no.
const fn counts(error: &OrderError) -> bool {
    matches!(error, OrderError::BadOrder(_) | OrderError::BadAuth(_) | OrderError::TooManyAttemptsAuth(_))
}

/// For the operator, who has to do something about it.
fn why(error: &OrderError) -> String {
    let unreached = |domain: &str, detail: &str| {
        format!(
            "{domain} could not be validated: {detail} (the authority connects to port 443 of that name, which must lead to [control] listen)"
        )
    };
    match error {
        OrderError::BadAuth(Auth { identifier: Identifier::Dns(domain), challenges, .. }) => {
            let problem = challenges.iter().find_map(|c| c.error.as_ref());
            unreached(domain, problem.and_then(|p| p.detail.as_deref()).unwrap_or("no reason was given"))
        }
        OrderError::TooManyAttemptsAuth(domain) => unreached(domain, "the authority has not come to a decision"),
        OrderError::BadOrder(order) => match order.error.as_ref().and_then(|p| p.detail.as_deref()) {
            Some(detail) => format!("the authority refused the order: {detail}"),
            None => "the authority refused the order".to_owned(),
        },
        other => other.to_string(),
    }
}
