//! A peer as far as forwarding needs one: an ICE check, DTLS as client, SRTP.
use anyhow::{Context, bail, ensure};
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use offhook_testkit::TurnClient;
use offhook_wire_srtp::{Profile, ReceiveContext, SendContext, split_dtls_keys};
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId};
use sha2::{Digest, Sha256};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// One certificate serves all peers.
#[derive(Clone)]
pub struct ClientIdentity {
    certificate: DtlsCertificate,
    config: Arc<Config>,
}

impl ClientIdentity {
    pub fn new() -> anyhow::Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?.der().to_vec();
        let config = Config::builder().build().map_err(|e| anyhow::anyhow!("{e}"))?;
        Ok(Self {
            certificate: DtlsCertificate { certificate, private_key: key.serialize_der() },
            config: Arc::new(config),
        })
    }

    fn fingerprint(&self) -> String {
        let hex: Vec<String> =
            Sha256::digest(&self.certificate.certificate).iter().map(|byte| format!("{byte:02X}")).collect();
        hex.join(":")
    }

    /// An offer of an audio line for each direction.
    pub fn offer(&self, directions: &[&str]) -> String {
        let mids: Vec<String> = (0..directions.len()).map(|mid| mid.to_string()).collect();
        let mut lines = vec![
            "v=0".to_owned(),
            "o=- 1 1 IN IP4 127.0.0.1".to_owned(),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
            format!("a=group:BUNDLE {}", mids.join(" ")),
        ];
        for (mid, direction) in mids.iter().zip(directions) {
            lines.extend([
                "m=audio 9 UDP/TLS/RTP/SAVPF 0".to_owned(),
                "c=IN IP4 0.0.0.0".to_owned(),
                format!("a=mid:{mid}"),
                "a=ice-ufrag:peer".to_owned(),
                "a=ice-pwd:0123456789012345678901".to_owned(),
                format!("a=fingerprint:sha-256 {}", self.fingerprint()),
                "a=setup:actpass".to_owned(),
                format!("a={direction}"),
                "a=rtcp-mux".to_owned(),
                "a=rtpmap:0 PCMU/8000".to_owned(),
                "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level".to_owned(),
            ]);
        }
        lines.join("\r\n") + "\r\n"
    }
}

/// How a peer reaches the SFU.
pub enum Wire {
    Direct(UdpSocket, SocketAddr),
    /// Through a channel of a TURN server, bound to the SFU.
    Relayed(TurnClient, u16),
}

impl Wire {
    pub const fn socket(&self) -> &UdpSocket {
        match self {
            Self::Direct(socket, _) => socket,
            Self::Relayed(client, _) => client.socket(),
        }
    }

    pub fn send(&self, datagram: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Direct(socket, to) => drop(socket.send_to(datagram, to)?),
            Self::Relayed(client, channel) => client.send(*channel, datagram)?,
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Direct(socket, _) => socket.recv(buffer),
            Self::Relayed(client, _) => {
                let (_, payload) = client.receive()?;
                buffer[..payload.len()].copy_from_slice(&payload);
                Ok(payload.len())
            }
        }
    }
}

pub struct Client {
    pub wire: Wire,
    pub send: SendContext,
    pub receive: ReceiveContext,
    ufrag: String,
    pwd: String,
}

fn attribute<'a>(answer: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let found = answer.lines().find_map(|line| line.strip_prefix(name));
    found.with_context(|| format!("the answer has no {name}"))
}

impl Client {
    /// Connects to what the answer names.
    pub fn connect(identity: &ClientIdentity, answer: &str) -> anyhow::Result<Self> {
        let candidate: Vec<&str> = attribute(answer, "a=candidate:")?.split(' ').collect();
        let (ip, port) = candidate.get(4).zip(candidate.get(5)).context("a candidate's address")?;
        let to: SocketAddr = format!("{ip}:{port}").parse()?;
        Self::connect_by(identity, answer, Wire::Direct(UdpSocket::bind("127.0.0.1:0")?, to))
    }

    /// The same by a way that leads there.
    pub fn connect_by(identity: &ClientIdentity, answer: &str, wire: Wire) -> anyhow::Result<Self> {
        wire.socket().set_read_timeout(Some(Duration::from_millis(50)))?;
        let ufrag = attribute(answer, "a=ice-ufrag:")?.to_owned();
        let pwd = attribute(answer, "a=ice-pwd:")?.to_owned();
        check(&wire, &ufrag, &pwd)?;
        let mut buffer = [0; 2_048];
        let len = wire.receive(&mut buffer).context("no answer to the check")?;
        ensure!(Message::parse(&buffer[..len])?.class() == Class::Success, "the check was refused");
        let (send, receive) = handshake(identity, &wire)?;
        wire.socket().set_nonblocking(true)?;
        Ok(Self { wire, send, receive, ufrag, pwd })
    }

    /// Keeps the consent alive.
    pub fn check(&self) -> anyhow::Result<()> {
        check(&self.wire, &self.ufrag, &self.pwd)
    }
}

fn check(wire: &Wire, ufrag: &str, pwd: &str) -> anyhow::Result<()> {
    let mut buffer = [0; 256];
    let mut request = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([3; 12]));
    request.username(&format!("{ufrag}:peer")).priority(1).ice_controlling(1).use_candidate();
    let len = request.integrity(pwd.as_bytes()).fingerprint().finish()?;
    wire.send(&buffer[..len])
}

fn handshake(identity: &ClientIdentity, wire: &Wire) -> anyhow::Result<(SendContext, ReceiveContext)> {
    let mut dtls = Dtls::new_12(Arc::clone(&identity.config), identity.certificate.clone(), Instant::now());
    dtls.set_active(true);
    let begun = Instant::now();
    let (mut buffer, mut output) = ([0; 2_048], [0; 2_048]);
    let mut keys = None;
    let fail = |error: dimpl::Error| anyhow::anyhow!("DTLS: {error}");
    dtls.handle_timeout(Instant::now()).map_err(fail)?;
    while begun.elapsed() < PATIENCE {
        loop {
            match dtls.poll_output(&mut output) {
                Output::Packet(bytes) => wire.send(bytes)?,
                Output::KeyingMaterial(material, profile) => {
                    ensure!(profile == SrtpProfile::AEAD_AES_256_GCM, "negotiated {profile}");
                    keys = Some(split_dtls_keys(Profile::AeadAes256Gcm, &material, true)?);
                }
                Output::Timeout(_) => break,
                _ => {}
            }
        }
        if let Some((ours, theirs)) = &keys {
            return Ok((SendContext::new(ours)?, ReceiveContext::new(theirs)?));
        }
        if let Ok(len) = wire.receive(&mut buffer) {
            dtls.handle_timeout(Instant::now()).and_then(|()| dtls.handle_packet(&buffer[..len])).map_err(fail)?;
        } else {
            dtls.handle_timeout(Instant::now()).map_err(fail)?;
        }
    }
    bail!("no DTLS within {PATIENCE:?}")
}
