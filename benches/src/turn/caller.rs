//! TURN clients as far as the bench needs them: Allocate with its challenge, ChannelBind, Refresh; over UDP many at a time.
use super::{PASSWORD, REALM, USER};
use anyhow::{Context, bail, ensure};
use offhook_net::{Poller, Ready, ReceiveBatch, UdpOptions, UdpSocket};
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId, credentials};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const IN_FLIGHT: usize = 64;
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often who waits too long is looked for.
const LOOK_FOR_LATE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);
const UDP: u8 = 17;
pub const REQUEST_MAX: usize = 512;

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    Allocate,
    /// The client's number above 0x4000 is its channel.
    Bind(SocketAddr),
    Release,
}

/// The user's key, which takes a hash to make.
pub fn key() -> [u8; 16] {
    credentials::long_term_key(USER, REALM, PASSWORD)
}

/// A client's side of the protocol, whatever carries it.
#[derive(Debug, Default)]
pub struct Asking {
    pub relayed: Option<SocketAddr>,
    nonce: Vec<u8>,
    transaction: u64,
}

impl Asking {
    /// Writes a request; returns its length.
    pub fn ask(&mut self, want: Want, number: u16, key: &[u8], buffer: &mut [u8]) -> anyhow::Result<usize> {
        self.transaction += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.transaction.to_be_bytes());
        id[8..10].copy_from_slice(&number.to_be_bytes());
        let method = match want {
            Want::Allocate => Method::ALLOCATE,
            Want::Bind(_) => Method::CHANNEL_BIND,
            Want::Release => Method::REFRESH,
        };
        let mut request = MessageBuilder::new(buffer, Class::Request, method, TransactionId(id));
        match want {
            Want::Allocate => request.requested_transport(UDP),
            Want::Bind(peer) => request.channel_number(super::channel(usize::from(number))).xor_peer_address(peer),
            Want::Release => request.lifetime_s(0),
        };
        if !self.nonce.is_empty() {
            request.username(USER).realm(REALM).attr(AttributeType::NONCE, &self.nonce).integrity(key);
        }
        Ok(request.finish()?)
    }

    /// `true`: done. A challenge is to be answered.
    pub fn hear(&mut self, want: Want, message: &[u8]) -> anyhow::Result<bool> {
        let answer = Message::parse(message)?;
        if answer.class() == Class::Success {
            if matches!(want, Want::Allocate) {
                let relayed = answer.raw(AttributeType::XOR_RELAYED_ADDRESS).context("XOR-RELAYED-ADDRESS")?;
                ensure!(relayed.len() == 8, "the relayed address is IPv4");
                self.relayed = answer.xor_relayed_address()?;
            }
            return Ok(true);
        }
        let code = answer.error_code()?.map_or(0, |error| error.code);
        ensure!(matches!(code, 401 | 438), "{want:?} was answered with {code}");
        self.nonce = answer.raw(AttributeType::NONCE).context("NONCE")?.to_vec();
        Ok(false)
    }
}

pub struct Caller {
    pub socket: UdpSocket,
    pub asking: Asking,
    asked: Instant,
}

/// Sockets with buffers for bursts.
pub fn bind(ip: IpAddr) -> anyhow::Result<UdpSocket> {
    let options = UdpOptions { receive_buffer_bytes: 1 << 20, send_buffer_bytes: 1 << 20, ..UdpOptions::default() };
    Ok(UdpSocket::bind(SocketAddr::new(ip, 0), options)?)
}

impl Caller {
    pub fn new(ip: IpAddr) -> anyhow::Result<Self> {
        Ok(Self { socket: bind(ip)?, asking: Asking::default(), asked: Instant::now() })
    }

    fn ask(&mut self, server: SocketAddr, want: Want, number: u16, key: &[u8]) -> anyhow::Result<()> {
        let mut buffer = [0; REQUEST_MAX];
        let length = self.asking.ask(want, number, key, &mut buffer)?;
        self.asked = Instant::now();
        self.socket.send_one(server, &buffer[..length])?;
        Ok(())
    }
}

/// Puts everyone's request through, so many at a time, and never sleeps: a server is not to pay for waking us. Returns how
/// long it took.
pub fn everyone(callers: &mut [Caller], server: SocketAddr, want: Want) -> anyhow::Result<Duration> {
    let key = key();
    let mut poller = Poller::new()?;
    for (token, caller) in (0..).zip(callers.iter()) {
        poller.add(&caller.socket, token)?;
    }
    let mut ready = Ready::default();
    let mut batch = ReceiveBatch::new(4, 1_500);
    let mut waiting = vec![false; callers.len()];
    let (mut begun_count, mut done) = (0, 0);
    let begun = Instant::now();
    let mut looked = begun;
    while done < callers.len() {
        while begun_count < callers.len() && begun_count - done < IN_FLIGHT {
            callers[begun_count].ask(server, want, begun_count as u16, &key)?;
            waiting[begun_count] = true;
            begun_count += 1;
        }
        poller.wait(Some(Duration::ZERO), &mut ready)?;
        for token in ready.tokens() {
            let index = *token as usize;
            let caller = &mut callers[index];
            caller.socket.receive(&mut batch)?;
            for datagram in batch.datagrams() {
                if !waiting[index] {
                    continue;
                }
                if caller.asking.hear(want, datagram.data)? {
                    waiting[index] = false;
                    done += 1;
                } else {
                    caller.ask(server, want, index as u16, &key)?;
                }
            }
        }
        if looked.elapsed() > LOOK_FOR_LATE {
            looked = Instant::now();
            for index in (0..begun_count).filter(|index| waiting[*index]) {
                if callers[index].asked.elapsed() > ASK_AGAIN {
                    callers[index].ask(server, want, index as u16, &key)?;
                }
            }
            if begun.elapsed() > PATIENCE {
                bail!("{done} of {} had their answer to {want:?} within {PATIENCE:?}", callers.len());
            }
        }
    }
    Ok(begun.elapsed())
}
