//! The certificate of TLS listeners, read again on demand.
use crate::ciphers::Ciphers;
use crate::keys::{KeyError, private_key};
use offhook_turn_core::conf::Hidden;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    #[error("cannot look for what was fetched by ACME in {path}: {source}")]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no certificate is left in {0}")]
    Gone(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePlace {
    /// They are there.
    Files { chain: PathBuf, key: PathBuf },
    /// call-control puts what it fetches by ACME into this folder, key and chain in one file, some time after both were
    /// started first. Others may lie there, for other names than these.
    Acme { folder: PathBuf, domains: Vec<String> },
}

/// Files that were fetched by ACME, the newest first, with what is different after each time: when, and how long.
pub(crate) type Fetched = Vec<(PathBuf, SystemTime, u64)>;

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
    files: Mutex<CertificateFiles>,
    current: Arc<Current>,
    config: arc_swap::ArcSwap<ServerConfig>,
}

#[derive(Debug)]
struct Current(arc_swap::ArcSwapOption<CertifiedKey>);

impl Certificate {
    /// What is fetched by ACME may come later, and be mended later.
    pub(crate) fn load(files: CertificateFiles) -> Result<Arc<Self>, TlsError> {
        let current = Arc::new(Current(arc_swap::ArcSwapOption::empty()));
        let config = arc_swap::ArcSwap::new(Arc::new(config(&files, Arc::clone(&current))?));
        let waits = matches!(files.place, CertificatePlace::Acme { .. });
        let certificate = Self { files: Mutex::new(files), current, config };
        match certificate.reload() {
            Err(error) if !waits => Err(error),
            _ => Ok(Arc::new(certificate)),
        }
    }

    /// Reads the files again; connections that stand keep what they have. One that serves is not given up for none, nor for
    /// an older one while there are some that cannot be read.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let files = self.files();
        let serves = self.current.0.load().is_some();
        let Found { certified, trouble } = read(&files);
        if let (Some(certified), false) = (certified.clone(), serves && trouble.is_some()) {
            self.current.0.store(Some(certified));
        }
        match (trouble, certified, &files.place) {
            (Some(trouble), ..) => Err(trouble),
            (None, None, CertificatePlace::Acme { folder, .. }) if serves => Err(TlsError::Gone(folder.clone())),
            _ => Ok(()),
        }
    }

    /// Takes other files, or other ciphers. Without a certificate in them everything stays as it was.
    pub(crate) fn replace(&self, wanted: CertificateFiles) -> Result<(), TlsError> {
        let mut files = self.files();
        let Found { certified, trouble } = read(&wanted);
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let config = match wanted.ciphers == files.ciphers {
            true => None,
            false => Some(config(&wanted, Arc::clone(&self.current))?),
        };
        if certified.is_some() {
            self.current.0.store(certified);
        }
        if let Some(config) = config {
            self.config.store(Arc::new(config));
        }
        *files = wanted;
        Ok(())
    }

    fn files(&self) -> MutexGuard<'_, CertificateFiles> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one connection: the next one may be served otherwise.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
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
    /// What was fetched by ACME, other after each renewal.
    pub(crate) fn fetched(&self) -> Result<Fetched, TlsError> {
        let Self::Acme { folder, .. } = self else { return Ok(Vec::new()) };
        let refused = |source| TlsError::Folder { path: folder.clone(), source };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            // Made with the first one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(refused(error)),
        };
        let mut fetched = Vec::new();
        for entry in entries.take(FOLDER_MAX) {
            let entry = entry.map_err(refused)?;
            if !entry.file_name().to_string_lossy().starts_with(ACME_PREFIX) {
                continue;
            }
            match entry.metadata().and_then(|about| Ok((about.modified()?, about.len()))) {
                Ok((written, length)) => fetched.push((entry.path(), written, length)),
                // Taken away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(refused(error)),
            }
        }
        fetched.sort_unstable_by_key(|(path, written, _)| (Reverse(*written), path.clone()));
        Ok(fetched)
    }
}

#[derive(Default)]
struct Found {
    /// `None`: none was fetched yet.
    certified: Option<Arc<CertifiedKey>>,
    /// The first that went wrong.
    trouble: Option<TlsError>,
}

fn read(files: &CertificateFiles) -> Found {
    let password = files.password.as_ref();
    let domains = match &files.place {
        CertificatePlace::Files { chain, key } => {
            return match pair(chain, key, password) {
                Ok(certified) => Found { certified: Some(certified), trouble: None },
                Err(error) => Found { certified: None, trouble: Some(error) },
            };
        }
        CertificatePlace::Acme { domains, .. } => domains,
    };
    let mut found = Found::default();
    let fetched = match files.place.fetched() {
        Ok(fetched) => fetched,
        Err(error) => return Found { trouble: Some(error), ..found },
    };
    for (both, ..) in fetched {
        match pair(&both, &both, password) {
            Ok(certified) if is_for(&certified, domains) => {
                found.certified = Some(certified);
                break;
            }
            Ok(certified) => found.certified = found.certified.or(Some(certified)),
            Err(error) => found.trouble = found.trouble.or(Some(error)),
        }
    }
    found
}

/// Whether a certificate has all of these names.
fn is_for(certified: &CertifiedKey, domains: &[String]) -> bool {
    let Some(Ok(leaf)) = certified.cert.first().map(ParsedCertificate::try_from) else { return false };
    let has = |name: &ServerName<'_>| verify_server_name(&leaf, name).is_ok();
    domains.iter().all(|domain| ServerName::try_from(domain.as_str()).is_ok_and(|name| has(&name)))
}

fn pair(chain: &Path, key: &Path, password: Option<&Hidden>) -> Result<Arc<CertifiedKey>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| TlsError::Pem { path: chain.to_owned(), source })?;
    let in_key = |source| TlsError::Key { path: key.to_owned(), source };
    let pem = std::fs::read(key).map_err(|error| in_key(rustls_pki_types::pem::Error::Io(error).into()))?;
    let private = private_key(&pem, password).map_err(in_key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(certificates, private, &provider)?))
}
