//! A TURN client over a real UDP socket, for tests: logs in, allocates, binds channels, sends and receives.
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId, channel_data, credentials};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// RFC 8656 §18.8: UDP.
const UDP: u8 = 17;
const LONGEST: usize = 2_048;

/// One client at one 5-tuple. What goes wrong is an `io::Error` that says what.
pub struct TurnClient {
    socket: UdpSocket,
    user: String,
    password: String,
    realm: String,
    nonce: String,
    count: u32,
}

impl TurnClient {
    /// Binds beside the server and asks for its realm and a nonce.
    pub fn log_in(server: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (user, password) = (user.to_owned(), password.to_owned());
        let mut client = Self { socket, user, password, realm: String::new(), nonce: String::new(), count: 0 };
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
        let mut buffer = [0; LONGEST];
        loop {
            let length = self.socket.recv(&mut buffer)?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Some((&[c0, c1, l0, l1], payload)) = datagram.split_first_chunk()
                && (0x40..0x80).contains(&c0)
            {
                let length = usize::from(u16::from_be_bytes([l0, l1]));
                let payload = payload.get(..length).ok_or_else(|| io::Error::other("cut off"))?;
                return Ok((u16::from_be_bytes([c0, c1]), payload.to_vec()));
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
        self.count += 1;
        let mut id = [0; 12];
        id.iter_mut().zip(self.count.to_be_bytes()).for_each(|(slot, byte)| *slot = byte);
        let id = TransactionId(id);
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
        }
    }
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
