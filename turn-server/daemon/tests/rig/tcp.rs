//! A TURN client by TCP.
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId, channel_data, credentials};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Alice, logged in.
pub struct ByTcp {
    stream: TcpStream,
    realm: String,
    nonce: String,
    count: u8,
}

impl ByTcp {
    pub fn log_in(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut client = Self { stream, realm: String::new(), nonce: String::new(), count: 0 };
        let challenge = client.ask(Method::ALLOCATE, |b| {
            b.requested_transport(17);
        });
        let challenge = Message::parse(&challenge).unwrap();
        client.realm = challenge.realm().unwrap().unwrap().to_owned();
        client.nonce = challenge.nonce().unwrap().unwrap().to_owned();
        client
    }

    fn ask(&mut self, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        self.count += 1;
        let mut buffer = [0; 1_024];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, TransactionId([self.count; 12]));
        write(&mut builder);
        if !self.nonce.is_empty() {
            let key = credentials::long_term_key("alice", &self.realm, "sesame");
            builder.username("alice").realm(&self.realm).nonce(&self.nonce).integrity(&key);
        }
        let length = builder.finish().unwrap();
        self.stream.write_all(&buffer[..length]).unwrap();
        self.message(20)
    }

    /// Succeeds.
    pub fn request(&mut self, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) {
        let answer = self.ask(method, write);
        let message = Message::parse(&answer).unwrap();
        assert_eq!(message.class(), Class::Success, "{:?}", message.error_code());
    }

    pub fn allocate(&mut self) {
        self.request(Method::ALLOCATE, |b| {
            b.requested_transport(17);
        });
    }

    pub fn bind(&mut self, number: u16, peer: SocketAddr) {
        self.request(Method::CHANNEL_BIND, |b| {
            b.channel_number(number).xor_peer_address(peer);
        });
    }

    /// By a channel, with the padding of a stream (RFC 8656 §12.5).
    pub fn send(&mut self, number: u16, payload: &[u8]) {
        let padding = payload.len().next_multiple_of(4) - payload.len();
        let header = channel_data::header(number, payload.len()).unwrap();
        self.stream.write_all(&[&header[..], payload, &[0; 3][..padding]].concat()).unwrap();
    }

    /// What came by a channel.
    pub fn receive(&mut self) -> Vec<u8> {
        self.message(4).split_off(4)
    }

    /// The next message, whose header is so long.
    fn message(&mut self, header: usize) -> Vec<u8> {
        let mut message = vec![0; header];
        self.stream.read_exact(&mut message).unwrap();
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        message.resize(header + length.next_multiple_of(4), 0);
        self.stream.read_exact(&mut message[header..]).unwrap();
        message.truncate(header + length);
        message
    }
}
