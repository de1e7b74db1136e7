//! The certificate of TLS listeners, read again on demand.
use crate::plan::CertificateFiles;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
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
    #[error("key and certificate do not fit: {0}")]
    Pair(#[from] rustls::Error),
}

/// What every new handshake presents.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    current: arc_swap::ArcSwap<CertifiedKey>,
}

impl Certificate {
    pub(crate) fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = arc_swap::ArcSwap::new(read(&files)?);
        Ok(Arc::new(Self { files, current }))
    }

    /// Reads the files again; connections that stand keep what they have.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        self.current.store(read(&self.files)?);
        Ok(())
    }

    pub(crate) fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        // RFC 7443 §3.
        config.alpn_protocols = vec![b"stun.turn".to_vec(), b"stun.nat-discovery".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

fn read(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let in_file = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(in_file(&files.chain))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(in_file(&files.key))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
}
