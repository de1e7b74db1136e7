//! Our end of a Link: one UDP port, a key for each direction (RTP and RTCP share the port, RFC 5761).

use std::net::SocketAddr;

use offhook_contract::{CodecName, LinkAnswer, LinkOffer};
use offhook_link::{LinkKeyError, RandomError, generate_link_key, srtp_key};
use offhook_net::{BindError, Datagram, SendBatch, UdpOptions, UdpSocket};
use offhook_sip_core::media::LinkStreams;
use offhook_wire_rtp::is_rtcp;
use offhook_wire_srtp::{KeyError, ReceiveContext, SendContext};

use super::route::{NoRoute, local_address_towards};

const BUFFER_BYTES: usize = 256 << 10;
/// Room behind a packet for what sealing adds.
pub const TRAILER: usize = offhook_wire_srtp::MAX_TRAILER_LEN;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the Link offer has no address that we can reach")]
    NoAddress(#[source] Option<NoRoute>),
    #[error("the Link offer's key: {0}")]
    Offer(#[from] LinkKeyError),
    #[error("the cipher refuses a Link key: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("no decoder for the Link: {0}")]
    Decoder(#[from] offhook_media::OpusError),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// One Link as its media thread holds it.
#[derive(Debug)]
pub struct LinkPort {
    pub socket: UdpSocket,
    to: SocketAddr,
    seal: SendContext,
    open: ReceiveContext,
}

/// What came in on a Link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    Rtp(usize),
    /// Authentic, and of no use to a telephone.
    Rtcp,
    Refused,
}

impl LinkPort {
    /// Answers the SFU's half with ours. `codecs` is what we may send, first choice first.
    pub fn answer(offer: &LinkOffer, codecs: Vec<CodecName>) -> Result<(Self, LinkStreams, LinkAnswer), LinkError> {
        let (to, local) = reachable(&offer.addresses)?;
        let options =
            UdpOptions { receive_buffer_bytes: BUFFER_BYTES, send_buffer_bytes: BUFFER_BYTES, ..UdpOptions::default() };
        let socket = UdpSocket::bind(SocketAddr::new(local, 0), options)?;
        let open = ReceiveContext::with_max_sources(&srtp_key(&offer.key)?, offer.slot_ssrcs.len() + 2)?;
        let key = generate_link_key(offer.key.profile)?;
        let seal = SendContext::new(&srtp_key(&key)?)?;
        let ssrc = getrandom::u32().map_err(RandomError::from)?;
        let streams = LinkStreams::new(ssrc, &offer.slot_ssrcs, offer.announcer_ssrc)?;
        let answer = LinkAnswer { addresses: vec![socket.local_address()], key, ssrc, codecs };
        Ok((Self { socket, to, seal, open }, streams, answer))
    }

    /// Opens a datagram in place.
    pub fn open(&mut self, datagram: &mut [u8]) -> Opened {
        if is_rtcp(datagram) {
            return self.open.unprotect_rtcp(datagram).map_or(Opened::Refused, |_| Opened::Rtcp);
        }
        self.open.unprotect_rtp(datagram).map_or(Opened::Refused, Opened::Rtp)
    }

    /// Seals and sends the RTP packet in `buffer[..length]`; false if it could not leave.
    pub fn send_rtp(&mut self, batch: &mut SendBatch, buffer: &mut [u8], length: usize) -> bool {
        let sealed = self.seal.protect_rtp(buffer, length).ok();
        self.send(batch, sealed.and_then(|n| buffer.get(..n)))
    }

    /// The same for a compound of reports.
    pub fn send_rtcp(&mut self, batch: &mut SendBatch, buffer: &mut [u8], length: usize) -> bool {
        let sealed = self.seal.protect_rtcp(buffer, length).ok();
        self.send(batch, sealed.and_then(|n| buffer.get(..n)))
    }

    fn send(&self, batch: &mut SendBatch, bytes: Option<&[u8]>) -> bool {
        let Some(bytes) = bytes else { return false };
        let datagram = Datagram { to: self.to, from: None, flow: 0, bytes };
        self.socket.send(batch, std::iter::once(datagram)).datagrams == 1
    }
}

fn reachable(addresses: &[SocketAddr]) -> Result<(SocketAddr, std::net::IpAddr), LinkError> {
    let mut last = None;
    for to in addresses {
        match local_address_towards(*to) {
            Ok(local) => return Ok((*to, local)),
            Err(error) => last = Some(error),
        }
    }
    Err(LinkError::NoAddress(last))
}
