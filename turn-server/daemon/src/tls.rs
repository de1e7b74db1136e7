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

/// Files of the certificate, and what TLS is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFiles {
    pub chain: PathBuf,
    pub key: PathBuf,
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
struct Current(arc_swap::ArcSwap<CertifiedKey>);

impl Certificate {
    pub(crate) fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = Arc::new(Current(arc_swap::ArcSwap::new(read(&files)?)));
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
        Some(self.0.load_full())
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

fn read(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let in_file = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(in_file(&files.chain))?;
    let in_key = |source| TlsError::Key { path: files.key.clone(), source };
    let pem = std::fs::read(&files.key).map_err(|error| in_key(rustls_pki_types::pem::Error::Io(error).into()))?;
    let key = private_key(&pem, files.password.as_ref()).map_err(in_key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
}
