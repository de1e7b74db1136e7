//! DTLS by `dimpl`. Version 1.2 on purpose: there Chromium settles on AEAD_AES_256_GCM, under 1.3 on AES-CM
//! (DESIGN.md §5).
use crate::clock::MediaClock;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use offhook_sfu_core::{DtlsEvent, DtlsFailure, DtlsSession, HANDSHAKE_LIMIT, Keys, MediaNs};
use offhook_wire_sdp::webrtc::Fingerprint;
use offhook_wire_srtp::{Profile, split_dtls_keys};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first repetition; doubled after each.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const RETRIES: usize = 6;

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    #[error("cannot set DTLS up: {0}")]
    Config(String),
}

/// A self-signed ECDSA certificate, made anew by each process (RFC 8827 §6.5 wants no more: the fingerprint travels
/// in the answer).
#[derive(Clone)]
pub struct Certificate {
    inner: DtlsCertificate,
    fingerprint: Fingerprint,
}

impl Certificate {
    pub fn generate() -> Result<Self, CertificateError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, "offhook");
        let certificate = params.self_signed(&key)?.der().to_vec();
        let fingerprint = Fingerprint(Sha256::digest(&certificate).into());
        Ok(Self { inner: DtlsCertificate { certificate, private_key: key.serialize_der() }, fingerprint })
    }

    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// Makes the server side of a connection for each peer.
#[derive(Clone)]
pub struct DtlsServers {
    config: Arc<Config>,
    certificate: Certificate,
    clock: MediaClock,
}

impl DtlsServers {
    pub fn new(certificate: Certificate, clock: MediaClock) -> Result<Self, CertificateError> {
        let config = Config::builder()
            // The address has passed an ICE check: another round trip for a cookie proves nothing new.
            .use_server_cookie(false)
            .require_client_certificate(true)
            .flight_start_rto(FIRST_RETRY)
            .flight_retries(RETRIES)
            .handshake_timeout(HANDSHAKE_LIMIT)
            .build()
            .map_err(|error| CertificateError::Config(error.to_string()))?;
        Ok(Self { config: Arc::new(config), certificate, clock })
    }

    pub const fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    pub fn server(&self) -> Box<dyn DtlsSession> {
        let dtls = Dtls::new_12(Arc::clone(&self.config), self.certificate.inner.clone(), Instant::now());
        Box::new(DimplSession { dtls, clock: self.clock, closed_told: false })
    }
}

struct DimplSession {
    dtls: Dtls,
    clock: MediaClock,
    closed_told: bool,
}

const fn failure(_: &dimpl::Error) -> DtlsFailure {
    DtlsFailure("the DTLS handshake failed")
}

impl DtlsSession for DimplSession {
    fn handle_packet(&mut self, now: MediaNs, datagram: &[u8]) -> Result<(), DtlsFailure> {
        let fed = self.dtls.handle_timeout(self.clock.instant(now)).and_then(|()| self.dtls.handle_packet(datagram));
        fed.map_err(|error| failure(&error))
    }

    fn handle_timeout(&mut self, now: MediaNs) -> Result<(), DtlsFailure> {
        self.dtls.handle_timeout(self.clock.instant(now)).map_err(|error| failure(&error))
    }

    fn poll(&mut self, datagram: &mut [u8]) -> Result<DtlsEvent, DtlsFailure> {
        loop {
            match self.dtls.poll_output(datagram) {
                Output::Packet(bytes) => return Ok(DtlsEvent::Packet(bytes.len())),
                Output::PeerCert(certificate) => {
                    return Ok(DtlsEvent::PeerCertificate(Sha256::digest(certificate).into()));
                }
                Output::KeyingMaterial(material, profile) => return keys(&material, profile),
                Output::CloseNotify if !self.closed_told => {
                    self.closed_told = true;
                    return Ok(DtlsEvent::Closed);
                }
                Output::Timeout(at) => return Ok(DtlsEvent::Idle(Some(self.clock.at(at)))),
                Output::BufferTooSmall { .. } => return Err(DtlsFailure("a DTLS record exceeds the datagram")),
                // Media needs no data channel; what comes over it is dropped.
                _ => {}
            }
        }
    }
}

fn keys(material: &[u8], profile: SrtpProfile) -> Result<DtlsEvent, DtlsFailure> {
    let profile = match profile {
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return Err(DtlsFailure("an SRTP profile that we do not know was negotiated")),
    };
    // We are the server: the second pair is ours (RFC 5764 §4.2).
    let (ours, theirs) =
        split_dtls_keys(profile, material, false).map_err(|_| DtlsFailure("the keying material is too short"))?;
    Ok(DtlsEvent::Keys(Box::new(Keys { ours, theirs })))
}
