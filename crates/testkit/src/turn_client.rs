//! A TURN client over a real UDP socket, for tests: logs in, allocates, binds channels, sends and receives.
use offhook_wire_stun::{
    AttributeType, Class, Message, MessageBuilder, Method, TransactionId, channel_data, credentials,
};
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// RFC 8656 §18.8: UDP.
const UDP: u8 = 17;
const LONGEST: usize = 2_048;
/// Messages of channels that are kept while an answer is awaited.
const KEPT_MAX: usize = 10_000;

/// One client at one 5-tuple. What goes wrong is an `io::Error` that says what.
pub struct TurnClient {
    socket: UdpSocket,
    user: String,
    password: String,
    realm: String,
    nonce: String,
    count: u32,
    /// Came while an answer was awaited.
    kept: Mutex<VecDeque<(u16, Vec<u8>)>>,
}

impl TurnClient {
    /// Asks for the server's realm and a nonce, from the server's own address if that is one of this machine.
    pub fn log_in(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let anywhere = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let beside = UdpSocket::bind(SocketAddr::new(server.ip(), 0));
        let socket = beside.or_else(|_| UdpSocket::bind(anywhere))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (user, password) = (user.to_owned(), password.to_owned());
        let (realm, nonce, kept) = (String::new(), String::new(), Mutex::default());
        let mut client = Self { socket, user, password, realm, nonce, count: 0, kept };
        let challenge = client.exchange(Method::ALLOCATE, false, |builder| {
            builder.requested_transport(UDP);
        })?;
        match code_of(&challenge)? {
            401 => client.keep_challenge(&challenge)?,
            other => return Err(io::Error::other(format!("an Allocate without credentials was answered {other}"))),
        }
        Ok(client)
    }

    /// The relayed address.
    pub fn allocate(&mut self) -> io::Result<SocketAddr> {
        let answer = self.request(Method::ALLOCATE, |builder| {
            builder.requested_transport(UDP);
        })?;
        let message = Message::parse(&answer).map_err(io::Error::other)?;
        let relayed = message.xor_relayed_address().ok().flatten();
        relayed.ok_or_else(|| io::Error::other("no relayed address in the answer"))
    }

    /// Lets `number` stand for `peer`, which is permitted by it.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> io::Result<()> {
        let bound = self.request(Method::CHANNEL_BIND, |builder| {
            builder.channel_number(number).xor_peer_address(peer);
        });
        bound.map(drop)
    }

    /// 0 gives the allocation back.
    pub fn refresh(&mut self, lifetime_s: u32) -> io::Result<()> {
        let refreshed = self.request(Method::REFRESH, |builder| {
            builder.lifetime_s(lifetime_s);
        });
        refreshed.map(drop)
    }

    /// Sends through a channel.
    pub fn send(&self, number: u16, payload: &[u8]) -> io::Result<()> {
        let header = channel_data::header(number, payload.len());
        let header = header.ok_or_else(|| io::Error::other("the payload is too long"))?;
        self.socket.send(&[&header, payload].concat()).map(drop)
    }

    /// The next message of a channel: its number and payload.
    pub fn receive(&self) -> io::Result<(u16, Vec<u8>)> {
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            return Ok(kept);
        }
        let mut buffer = [0; LONGEST];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            if let Some(message) = of_channel(buffer.get(..length).unwrap_or_default()) {
                return message;
            }
        }
    }

    /// Lets `peer`'s address through, whatever the port.
    pub fn permit(&mut self, peer: SocketAddr) -> io::Result<()> {
        let permitted = self.request(Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(peer);
        });
        permitted.map(drop)
    }

    /// Sends without a channel.
    pub fn indicate(&mut self, peer: SocketAddr, payload: &[u8], dont_fragment: bool) -> io::Result<()> {
        let mut buffer = [0; LONGEST];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Indication, Method::SEND, self.next_id());
        builder.xor_peer_address(peer);
        if dont_fragment {
            builder.attr(AttributeType::DONT_FRAGMENT, &[]);
        }
        let length = builder.data(payload).finish().map_err(io::Error::other)?;
        self.socket.send(buffer.get(..length).unwrap_or_default()).map(drop)
    }

    /// The next Data indication, whole: a peer's data, or what ICMP said of a peer.
    pub fn receive_indication(&self) -> io::Result<Vec<u8>> {
        let mut buffer = [0; LONGEST];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            let datagram = buffer.get(..length).unwrap_or_default();
            let is_it = |message: Message<'_>| (message.class(), message.method()) == (Class::Indication, Method::DATA);
            if Message::parse(datagram).is_ok_and(is_it) {
                return Ok(datagram.to_vec());
            }
        }
    }

    #[must_use]
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Asks, and asks again under a new nonce. An error answer is an error.
    fn request(&mut self, method: Method, write: impl Fn(&mut MessageBuilder<'_>)) -> io::Result<Vec<u8>> {
        for _ in 0..2 {
            let answer = self.exchange(method, true, &write)?;
            match code_of(&answer)? {
                0 => return Ok(answer),
                438 => self.keep_challenge(&answer)?,
                code => return Err(io::Error::other(format!("{method:?} was answered {code}"))),
            }
        }
        Err(io::Error::other("the nonce is stale again"))
    }

    fn keep_challenge(&mut self, answer: &[u8]) -> io::Result<()> {
        let message = Message::parse(answer).map_err(io::Error::other)?;
        let text = |value: Option<&str>| value.map(str::to_owned).ok_or_else(|| io::Error::other("no realm or nonce"));
        self.realm = text(message.realm().ok().flatten())?;
        self.nonce = text(message.nonce().ok().flatten())?;
        Ok(())
    }

    fn exchange(
        &mut self,
        method: Method,
        sealed: bool,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> io::Result<Vec<u8>> {
        let id = self.next_id();
        let mut buffer = [0; LONGEST];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
        write(&mut builder);
        if sealed {
            let key = credentials::long_term_key(&self.user, &self.realm, &self.password);
            builder.username(&self.user).realm(&self.realm).nonce(&self.nonce).integrity(&key);
        }
        let length = builder.finish().map_err(io::Error::other)?;
        self.socket.send(buffer.get(..length).unwrap_or_default())?;
        loop {
            let length = self.socket.recv(&mut buffer)?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if Message::parse(datagram).is_ok_and(|message| message.transaction_id() == id) {
                return Ok(datagram.to_vec());
            }
            if let Some(Ok(message)) = of_channel(datagram) {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_MAX {
                    kept.push_back(message);
                }
            }
        }
    }

    fn next_id(&mut self) -> TransactionId {
        self.count += 1;
        let mut id = [0; 12];
        id.iter_mut().zip(self.count.to_be_bytes()).for_each(|(slot, byte)| *slot = byte);
        TransactionId(id)
    }
}

/// Number and payload; `None` for what is no ChannelData, an error for what is cut off.
fn of_channel(datagram: &[u8]) -> Option<io::Result<(u16, Vec<u8>)>> {
    let (&[c0, c1, l0, l1], payload) = datagram.split_first_chunk()?;
    if !(0x40..0x80).contains(&c0) {
        return None;
    }
    let payload = payload.get(..usize::from(u16::from_be_bytes([l0, l1])));
    Some(match payload {
        Some(payload) => Ok((u16::from_be_bytes([c0, c1]), payload.to_vec())),
        None => Err(io::Error::other("cut off")),
    })
}

/// 0 for success.
fn code_of(answer: &[u8]) -> io::Result<u16> {
    let message = Message::parse(answer).map_err(io::Error::other)?;
    if message.class() == Class::Success {
        return Ok(0);
    }
    let error = message.error_code().ok().flatten();
    error.map(|error| error.code).ok_or_else(|| io::Error::other("an answer without a code"))
}
