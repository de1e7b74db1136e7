//! A TURN client that asks one thing at a time and looks at each answer's code and attributes.
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId, credentials};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const UDP: u8 = 17;
/// RFC 6062.
pub const TCP: u8 = 6;
pub const PATIENCE: Duration = Duration::from_secs(20);

enum Carrier {
    Udp(UdpSocket),
    Tcp(TcpStream),
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
            Carrier::Tcp(stream) => {
                let mut header = [0; 20];
                stream.read_exact(&mut header).ok()?;
                let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]]))];
                stream.read_exact(&mut body).ok()?;
                Some([&header[..], &body].concat())
            }
        }
    }
}
