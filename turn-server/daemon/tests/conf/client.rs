//! A TURN client that asks one thing at a time and looks at each answer's code and attributes.
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId, credentials};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const UDP: u8 = 17;
/// RFC 6062.
pub const TCP: u8 = 6;
pub const PATIENCE: Duration = Duration::from_secs(20);

enum Carrier {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub struct Client {
    carrier: Carrier,
    user: String,
    password: String,
    realm: String,
    nonce: String,
    count: u8,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    bytes: Vec<u8>,
}

impl Answer {
    pub fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap()
    }

    /// 0 is success.
    pub fn code(&self) -> u16 {
        let message = self.message();
        if message.class() == Class::Success { 0 } else { message.error_code().unwrap().unwrap().code }
    }

    pub fn relayed(&self) -> SocketAddr {
        self.message().xor_relayed_address().unwrap().unwrap()
    }

    pub fn lifetime(&self) -> u32 {
        self.message().lifetime_s().unwrap().unwrap()
    }

    pub fn realm(&self) -> String {
        self.message().realm().unwrap().unwrap().to_owned()
    }

    pub fn has(&self, attribute: AttributeType) -> bool {
        self.message().has(attribute)
    }
}

impl Client {
    pub fn udp(server: SocketAddr, user: &str, password: &str) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        Self::over(Carrier::Udp(socket), user, password)
    }

    pub fn tcp(server: SocketAddr, user: &str, password: &str) -> Self {
        Self::over(Carrier::Tcp(TcpStream::connect(server).unwrap()), user, password)
    }

    /// With these protocols to choose from (RFC 7301). The certificate is its own authority.
    pub fn tls(server: SocketAddr, chain: &Path, protocols: &[&str]) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(chain).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let mut connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap())?;
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| match error.downcast::<rustls::Error>() {
                Ok(error) => error,
                Err(error) => rustls::Error::General(error.to_string()),
            })?;
        }
        Ok(Self::over(Carrier::Tls(Box::new(StreamOwned::new(connection, stream))), "alice", "sesame"))
    }

    /// What both sides agreed to speak over TLS.
    pub fn protocol(&self) -> Option<&str> {
        let Carrier::Tls(stream) = &self.carrier else { return None };
        stream.conn.alpn_protocol().map(|protocol| std::str::from_utf8(protocol).unwrap())
    }

    fn over(carrier: Carrier, user: &str, password: &str) -> Self {
        let (user, password) = (user.to_owned(), password.to_owned());
        let client = Self { carrier, user, password, realm: String::new(), nonce: String::new(), count: 0 };
        client.wait_at_most(PATIENCE);
        client
    }

    pub fn wait_at_most(&self, patience: Duration) {
        match &self.carrier {
            Carrier::Udp(socket) => socket.set_read_timeout(Some(patience)).unwrap(),
            Carrier::Tcp(stream) => stream.set_read_timeout(Some(patience)).unwrap(),
            Carrier::Tls(stream) => stream.sock.set_read_timeout(Some(patience)).unwrap(),
        }
    }

    /// One request; `None` when nothing comes back in time, or the connection ends.
    pub fn ask(&mut self, method: Method, sealed: bool, write: impl Fn(&mut MessageBuilder<'_>)) -> Option<Answer> {
        self.count = self.count.wrapping_add(1);
        let id = TransactionId([self.count; 12]);
        let mut buffer = [0; 2_048];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        write(&mut builder);
        if sealed {
            let key = credentials::long_term_key(&self.user, &self.realm, &self.password);
            builder.username(&self.user).realm(&self.realm).nonce(&self.nonce).integrity(&key);
        }
        let length = builder.finish().unwrap();
        self.send(&buffer[..length]);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let bytes = self.receive()?;
            if Message::parse(&bytes).is_ok_and(|message| message.transaction_id() == id) {
                return Some(Answer { bytes });
            }
        }
        None
    }

    /// With credentials, after whatever challenge the server puts in front.
    pub fn ask_logged_in(&mut self, method: Method, write: impl Fn(&mut MessageBuilder<'_>)) -> Answer {
        let mut answer = self.ask(method, !self.nonce.is_empty(), &write).unwrap();
        for _ in 0..2 {
            let nonce = answer.message().nonce().unwrap().map(str::to_owned);
            let (true, Some(nonce)) = ([401, 438].contains(&answer.code()), nonce) else { break };
            self.realm = answer.realm();
            self.nonce = nonce;
            answer = self.ask(method, true, &write).unwrap();
            if answer.code() == 401 {
                break;
            }
        }
        answer
    }

    pub fn allocate(&mut self) -> Answer {
        self.allocate_with(|_| {})
    }

    pub fn allocate_with(&mut self, more: impl Fn(&mut MessageBuilder<'_>)) -> Answer {
        self.ask_logged_in(Method::ALLOCATE, |builder| {
            builder.requested_transport(UDP);
            more(builder);
        })
    }

    /// The code of the first Allocate, which carries no credentials.
    pub fn challenge(&mut self) -> Option<Answer> {
        self.ask(Method::ALLOCATE, false, |builder| {
            builder.requested_transport(UDP);
        })
    }

    pub fn permit(&mut self, peer: SocketAddr) -> u16 {
        let permitted = self.ask_logged_in(Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(peer);
        });
        permitted.code()
    }

    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> u16 {
        let bound = self.ask_logged_in(Method::CHANNEL_BIND, |builder| {
            builder.channel_number(number).xor_peer_address(peer);
        });
        bound.code()
    }

    pub fn binding(&mut self) -> Option<Answer> {
        self.ask(Method::BINDING, false, |_| {})
    }

    /// Sends through a channel.
    pub fn send_on(&mut self, number: u16, payload: &[u8]) {
        let header = offhook_wire_stun::channel_data::header(number, payload.len()).unwrap();
        self.send(&[&header, payload].concat());
    }

    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.carrier {
            Carrier::Udp(socket) => drop(socket.send(bytes).unwrap()),
            // A server that closed says so when it is read from.
            Carrier::Tcp(stream) => drop(stream.write_all(bytes)),
            Carrier::Tls(stream) => drop(stream.write_all(bytes).and_then(|()| stream.flush())),
        }
    }

    /// The next datagram, or the next STUN message of a connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        match &mut self.carrier {
            Carrier::Udp(socket) => {
                let mut buffer = [0; 2_048];
                match socket.recv(&mut buffer) {
                    Ok(length) => Some(buffer[..length].to_vec()),
                    Err(error) => {
                        let expected = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionRefused];
                        assert!(expected.contains(&error.kind()), "{error}");
                        None
                    }
                }
            }
            Carrier::Tcp(stream) => message_of(stream),
            Carrier::Tls(stream) => message_of(stream),
        }
    }
}

fn message_of(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut header = [0; 20];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
    stream.read_exact(&mut body).ok()?;
    Some([&header[..], &body].concat())
}
