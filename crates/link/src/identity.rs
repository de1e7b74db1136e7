//! Who a node is on a TLS connection between daemons: a self-signed ECDSA certificate, known to the other side by
//! its SHA-256 fingerprint, which travelled over the bus. No authority, no names, no dates are consulted.
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// SHA-256 of a certificate's DER; as text lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub struct InvalidFingerprint;

impl Fingerprint {
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
    /// Takes the same time whatever differs.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(InvalidFingerprint);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |at: usize| pair.get(at).and_then(|d| char::from(*d).to_digit(16));
            let value = digit(0).zip(digit(1)).map(|(high, low)| high * 16 + low).ok_or(InvalidFingerprint)?;
            *byte = u8::try_from(value).map_err(|_| InvalidFingerprint)?;
        }
        Ok(Self(bytes))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the certificate could not be made")]
    Generate(#[from] rcgen::Error),
    #[error("{path} holds no certificate and key; remove it to have a new one made")]
    Unreadable { path: String },
    #[error("{path}")]
    File { path: String, source: std::io::Error },
    #[error("TLS refuses the certificate")]
    Tls(#[from] rustls::Error),
}

/// A certificate with its key. Cheap to clone; `Debug` shows the fingerprint only.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<PrivateKeyDer<'static>>,
    fingerprint: Fingerprint,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

impl Identity {
    /// A new one that lives in memory only.
    pub fn generate() -> Result<Self, IdentityError> {
        let (identity, _) = generate_pem()?;
        Ok(identity)
    }

    /// The identity kept in `directory/name.pem`, made at the first start with mode 0600, so that a restarted node
    /// keeps its fingerprint.
    pub fn load_or_create(directory: &Path, name: &str) -> Result<Self, IdentityError> {
        let path = directory.join(format!("{name}.pem"));
        let failed = |source| IdentityError::File { path: path.display().to_string(), source };
        match std::fs::read(&path) {
            Ok(pem) => Self::from_pem(&pem).ok_or(IdentityError::Unreadable { path: path.display().to_string() }),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
                let (identity, pem) = generate_pem()?;
                std::fs::create_dir_all(directory).map_err(failed)?;
                write_private(&path, pem.as_bytes()).map_err(failed)?;
                Ok(identity)
            }
            Err(source) => Err(failed(source)),
        }
    }

    fn from_pem(pem: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(pem).ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        let fingerprint = Fingerprint::of(&certificate);
        Some(Self { certificate, key: Arc::new(key), fingerprint })
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Serves clients that know this fingerprint; asks them for no certificate (private HTTP listeners).
    pub fn server_config(&self) -> Result<ServerConfig, IdentityError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(TLS_13)?;
        Ok(builder.with_no_client_auth().with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?)
    }

    /// Serves clients that show some certificate and prove its key; whose it is, is checked afterwards.
    pub(crate) fn mutual_server_config(&self) -> Result<ServerConfig, IdentityError> {
        let provider = provider();
        let any = Arc::new(AnyClient { provider: Arc::clone(&provider) });
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(TLS_13)?;
        let mut config = builder
            .with_client_cert_verifier(any)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Dials exactly the server with the fingerprint `expected`, showing this identity.
    pub(crate) fn mutual_client_config(&self, expected: Fingerprint) -> Result<ClientConfig, IdentityError> {
        let chain = vec![self.certificate.clone()];
        let builder = pinned_client_builder(expected)?;
        Ok(builder.with_client_auth_cert(chain, self.key.clone_key())?)
    }
}

/// Dials exactly the server with the fingerprint `expected`, showing no certificate (a recorder's file listener).
pub fn pinned_client_config(expected: Fingerprint) -> Result<ClientConfig, IdentityError> {
    Ok(pinned_client_builder(expected)?.with_no_client_auth())
}

const TLS_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn pinned_client_builder(expected: Fingerprint) -> Result<ClientBuilder, IdentityError> {
    let provider = provider();
    let pinned = Arc::new(PinnedServer { expected, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(TLS_13)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(pinned))
}

fn generate_pem() -> Result<(Identity, String), IdentityError> {
    let made = rcgen::generate_simple_self_signed(vec!["offhook".to_owned()])?;
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::from_pem(pem.as_bytes()).ok_or(rcgen::Error::CouldNotParseCertificate)?;
    Ok((identity, pem))
}

/// Written beside, synced, then renamed: never half a key.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("pem.new");
    let _ = std::fs::remove_file(&beside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[derive(Debug)]
struct PinnedServer {
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity).matches(&self.expected) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_restarted_node_keeps_its_fingerprint_and_its_key_stays_private() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(directory.path(), "recorder").unwrap();
        let second = Identity::load_or_create(directory.path(), "recorder").unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        let mode = std::fs::metadata(directory.path().join("recorder.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(first.fingerprint(), Identity::generate().unwrap().fingerprint());
    }

    #[test]
    fn a_damaged_file_is_named_and_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("recorder.pem"), "nothing").unwrap();
        let error = Identity::load_or_create(directory.path(), "recorder").unwrap_err();
        assert!(error.to_string().contains("recorder.pem"), "{error}");
    }

    #[test]
    fn a_fingerprint_survives_its_text_form_only_whole() {
        let fingerprint = Fingerprint::of(b"x");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63)] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(InvalidFingerprint));
        }
    }
}
