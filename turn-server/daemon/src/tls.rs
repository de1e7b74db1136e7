//! The certificate of TLS listeners, read again on demand.
use crate::ciphers::Ciphers;
use crate::keys::{KeyError, private_key};
use offhook_turn_core::conf::Hidden;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// As rustls-acme's cache names them; there is one for each list of names that was ever fetched.
const ACME_PREFIX: &str = "cached_cert_";
const FOLDER_MAX: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {path}: {source}")]
    Pem {
        path: PathBuf,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("cannot read the key {path}: {source}")]
    Key {
        path: PathBuf,
        #[source]
        source: KeyError,
    },
    #[error("key and certificate do not fit: {0}")]
    Pair(#[from] rustls::Error),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePlace {
    /// They are there.
    Files { chain: PathBuf, key: PathBuf },
    /// call-control puts what it fetches by ACME into this folder, key and chain in one file, some time after both were
    /// started first.
    Acme { folder: PathBuf },
}

/// Files of the certificate, and what TLS is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFiles {
    pub place: CertificatePlace,
    /// Of an encrypted key.
    pub password: Option<Hidden>,
    /// `None`: the library's choice.
    pub ciphers: Option<Ciphers>,
}

/// What every new handshake presents.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    current: Arc<Current>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Current(arc_swap::ArcSwapOption<CertifiedKey>);

impl Certificate {
    pub(crate) fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = Arc::new(Current(arc_swap::ArcSwapOption::new(read(&files)?)));
        let config = Arc::new(config(&files, Arc::clone(&current))?);
        Ok(Arc::new(Self { files, current, config }))
    }

    /// Reads the files again; connections that stand keep what they have.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.current.0.store(read(&self.files)?);
        Ok(())
    }

    pub(crate) fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Without one, handshakes fail.
        self.0.load_full()
    }
}

fn config(files: &CertificateFiles, current: Arc<Current>) -> Result<ServerConfig, TlsError> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if let Some(ciphers) = &files.ciphers {
        provider = CryptoProvider { cipher_suites: ciphers.suites.clone(), ..provider };
    }
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(current);
    // RFC 7443 §3.
    config.alpn_protocols = vec![b"stun.turn".to_vec(), b"stun.nat-discovery".to_vec()];
    // The list's order is the operator's.
    config.ignore_client_order = files.ciphers.is_some();
    Ok(config)
}

impl CertificatePlace {
    /// The newest certificate that was fetched by ACME, and when: another after each renewal.
    pub(crate) fn newest(&self) -> Option<(PathBuf, SystemTime)> {
        let Self::Acme { folder } = self else { return None };
        let entries = std::fs::read_dir(folder).ok()?.take(FOLDER_MAX).flatten();
        let certificates = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(ACME_PREFIX));
        let dated = certificates.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)));
        dated.max_by_key(|(_, written)| *written)
    }
}

/// `None`: none was fetched yet.
fn read(files: &CertificateFiles) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
    let (chain, key) = match &files.place {
        CertificatePlace::Files { chain, key } => (chain.clone(), key.clone()),
        CertificatePlace::Acme { .. } => match files.place.newest() {
            Some((both, _)) => (both.clone(), both),
            None => return Ok(None),
        },
    };
    let certificates = CertificateDer::pem_file_iter(&chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Pem { path: chain, source })?;
    let in_key = |source| TlsError::Key { path: key.clone(), source };
    let pem = std::fs::read(&key).map_err(|error| in_key(rustls_pki_types::pem::Error::Io(error).into()))?;
    let private = private_key(&pem, files.password.as_ref()).map_err(in_key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Some(Arc::new(CertifiedKey::from_der(certificates, private, &provider)?)))
}
