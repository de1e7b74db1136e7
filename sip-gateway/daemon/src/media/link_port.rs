//! Our end of a Link: one UDP port, a key for each direction (RTP and RTCP share the port, RFC 5761).

use std::net::SocketAddr;

use offhook_contract::{CodecName, LinkAnswer, LinkKey, LinkOffer, LinkProfile};
use offhook_net::{BindError, Datagram, SendBatch, UdpOptions, UdpSocket};
use offhook_sip_core::media::LinkStreams;
use offhook_wire_rtp::is_rtcp;
use offhook_wire_srtp::{KeyError, Profile, ReceiveContext, SendContext, SrtpKey};

use super::route::{NoRoute, local_address_towards};

const BUFFER_BYTES: usize = 256 << 10;
/// Room behind a packet for what sealing adds.
pub const TRAILER: usize = offhook_wire_srtp::MAX_TRAILER_LEN;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the Link offer has no address that we can reach")]
    NoAddress(#[source] Option<NoRoute>),
    #[error(transparent)]
    KeyText(#[from] offhook_contract::link::LinkKeyError),
    #[error("the Link offer's key: {0}")]
    Key(#[from] KeyError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("no decoder for the Link: {0}")]
    Decoder(#[from] offhook_media::OpusError),
    #[error("the system gives no random numbers")]
    Random,
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
        let theirs = read_key(&offer.key)?;
        let open = ReceiveContext::with_max_sources(&theirs, offer.slot_ssrcs.len() + 2)?;
        let (ours, key) = draw_key(offer.key.profile)?;
        let seal = SendContext::new(&ours)?;
        let ssrc = super::random_u32().ok_or(LinkError::Random)?;
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

const fn profile_of(profile: LinkProfile) -> Profile {
    match profile {
        LinkProfile::AeadAes128Gcm => Profile::AeadAes128Gcm,
        LinkProfile::AeadAes256Gcm => Profile::AeadAes256Gcm,
    }
}

fn read_key(key: &LinkKey) -> Result<SrtpKey, LinkError> {
    let (secret, salt) = key.to_bytes()?;
    Ok(SrtpKey::new(profile_of(key.profile), &secret, &salt)?)
}

fn draw_key(profile: LinkProfile) -> Result<(SrtpKey, LinkKey), LinkError> {
    let srtp = profile_of(profile);
    let (mut key, mut salt) = (vec![0; srtp.key_len()], vec![0; srtp.salt_len()]);
    getrandom::fill(&mut key).map_err(|_| LinkError::Random)?;
    getrandom::fill(&mut salt).map_err(|_| LinkError::Random)?;
    Ok((SrtpKey::new(srtp, &key, &salt)?, LinkKey::from_bytes(profile, &key, &salt)))
}
