//! An SFU's half of a Link, and sound on both ends of a leg.

use std::net::SocketAddr;
use std::sync::Arc;

use offhook_contract::{CodecName, LinkAnswer, LinkKey, LinkOffer, LinkProfile};
use offhook_link::{generate_link_key, srtp_key};
use offhook_media::g711;
use offhook_media::tone::Sine;
use offhook_wire_rtp::rtcp::{Compound, RtcpPacket};
use offhook_wire_rtp::{RtpHeader, RtpPacket, TelephoneEvent, is_rtcp};
use offhook_wire_srtp::{ReceiveContext, SendContext};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::PATIENCE;
use super::carrier::Carrier;

pub const SLOT: u32 = 0x51;
pub const ANNOUNCER: u32 = 0xa1;

/// The SFU's socket and keys for one leg.
pub struct Room {
    socket: UdpSocket,
    key: LinkKey,
    seal: SendContext,
    answer: Option<(SocketAddr, ReceiveContext)>,
    sequence: u16,
}

impl Room {
    pub async fn new() -> Self {
        let key = generate_link_key(LinkProfile::AeadAes128Gcm).unwrap();
        let seal = SendContext::new(&srtp_key(&key).unwrap()).unwrap();
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), key, seal, answer: None, sequence: 1 }
    }

    pub fn offer(&self) -> LinkOffer {
        LinkOffer {
            addresses: vec![self.socket.local_addr().unwrap()],
            key: self.key.clone(),
            slot_ssrcs: vec![SLOT],
            announcer_ssrc: ANNOUNCER,
            codecs: vec![CodecName::Opus, CodecName::Pcmu, CodecName::Pcma],
            source_id: 9,
        }
    }

    /// The gateway's end of the Link.
    pub fn gateway(&self) -> SocketAddr {
        self.answer.as_ref().unwrap().0
    }

    pub fn connect(&mut self, answer: &LinkAnswer) {
        let open = ReceiveContext::new(&srtp_key(&answer.key).unwrap()).unwrap();
        self.answer = Some((answer.addresses[0], open));
    }

    /// One G.711 frame in a slot or on the Announcer; its number.
    pub async fn send(&mut self, ssrc: u32, frame: u32, payload: &[u8]) -> u16 {
        let header =
            RtpHeader { marker: false, payload_type: 0, sequence: self.sequence, timestamp: frame * 160, ssrc };
        let sequence = self.sequence;
        self.sequence += 1;
        let mut bytes = vec![0; 12 + payload.len() + 20];
        header.write(&mut bytes).unwrap();
        bytes[12..12 + payload.len()].copy_from_slice(payload);
        let sealed = self.seal.protect_rtp(&mut bytes, 12 + payload.len()).unwrap();
        let to = self.answer.as_ref().unwrap().0;
        self.socket.send_to(&bytes[..sealed], to).await.unwrap();
        sequence
    }

    /// The next packet of the telephone, opened.
    pub async fn hear(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 1_500];
        loop {
            let received = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
            let (length, _) = received.expect("a packet on the Link").unwrap();
            let (_, open) = self.answer.as_mut().unwrap();
            if let Ok(plain) = open.unprotect_rtp(&mut buffer[..length]) {
                return buffer[..plain].to_vec();
            }
        }
    }

    /// The next receiver report: for each line of ours, its last packet that the telephone was sent.
    pub async fn report(&mut self) -> Vec<(u32, u32)> {
        let mut buffer = vec![0; 1_500];
        loop {
            let received = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await;
            let (length, _) = received.expect("a report on the Link").unwrap();
            let (_, open) = self.answer.as_mut().unwrap();
            let datagram = &mut buffer[..length];
            if !is_rtcp(datagram) {
                continue;
            }
            let plain = open.unprotect_rtcp(datagram).unwrap();
            let compound = Compound::parse(&buffer[..plain]).unwrap();
            let reports = compound.packets().filter_map(|packet| match packet {
                RtcpPacket::ReceiverReport(report) => Some(report),
                _ => None,
            });
            return reports
                .flat_map(|r| r.reports().collect::<Vec<_>>())
                .map(|b| (b.ssrc, b.highest_sequence))
                .collect();
        }
    }
}

/// What went over a leg, decoded.
#[derive(Default)]
pub struct Heard {
    pub room: Vec<i16>,
    pub telephone: Vec<i16>,
}

/// The carrier's end of RTP.
pub struct Phone {
    rtp: Arc<UdpSocket>,
    pub gateway: SocketAddr,
    sequence: u16,
    timestamp: u32,
}

impl Phone {
    pub fn new(carrier: &Carrier, port: u16) -> Self {
        Self::at(Arc::clone(&carrier.rtp), port)
    }

    /// A telephone with a socket of its own.
    pub fn at(rtp: Arc<UdpSocket>, port: u16) -> Self {
        let gateway = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        Self { rtp, gateway, sequence: 1, timestamp: 0 }
    }

    pub async fn send(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let header = RtpHeader { marker: false, payload_type, sequence: self.sequence, timestamp, ssrc: 0x77 };
        self.sequence += 1;
        let mut bytes = vec![0; 12];
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        self.rtp.send_to(&bytes, self.gateway).await.unwrap();
    }

    pub async fn speak(&mut self, payload: &[u8]) {
        let timestamp = self.timestamp;
        self.timestamp += 160;
        self.send(0, timestamp, payload).await;
    }

    /// A key press with its three end packets.
    pub async fn press(&mut self, key: char) {
        let event = TelephoneEvent::code_of(key).unwrap();
        let timestamp = self.timestamp;
        for (duration, end) in [(160, false), (480, false), (800, true), (800, true), (800, true)] {
            let payload = TelephoneEvent { event, end, volume: 10, duration }.to_bytes();
            self.send(101, timestamp, &payload).await;
        }
        self.timestamp += 960;
    }

    /// The next packet of whomever, as long as it takes.
    pub async fn try_hear(&self) -> std::io::Result<usize> {
        self.rtp.recv(&mut [0; 1_500]).await
    }

    /// The next RTP packet of the gateway.
    pub async fn hear(&self) -> Vec<u8> {
        let mut buffer = vec![0; 1_500];
        loop {
            let received = timeout(PATIENCE, self.rtp.recv_from(&mut buffer)).await;
            let (length, from) = received.expect("RTP from the gateway").unwrap();
            if from == self.gateway {
                return buffer[..length].to_vec();
            }
        }
    }
}

/// For `frames` frames of 20 ms the telephone speaks one tone and the room another; the gateway's own pace is the clock.
pub async fn converse(phone: &mut Phone, room: &mut Room, frames: u32, phone_hz: f32, room_hz: f32) -> Heard {
    let (mut up, mut down) = (Sine::new(phone_hz, -12.0, 8_000), Sine::new(room_hz, -12.0, 8_000));
    let mut heard = Heard::default();
    // Once it speaks it also listens: before, the carrier's packets would come too early.
    phone.hear().await;
    for n in 0..frames {
        let (mut pcm, mut bytes) = ([0; 160], [0; 160]);
        up.fill(&mut pcm);
        g711::encode_pcmu(&pcm, &mut bytes);
        phone.speak(&bytes).await;
        down.fill(&mut pcm);
        g711::encode_pcmu(&pcm, &mut bytes);
        room.send(SLOT, n, &bytes).await;
        let packet = phone.hear().await;
        heard.telephone.extend(decoded(&packet));
        let packet = room.hear().await;
        heard.room.extend(decoded(&packet));
    }
    heard
}

pub fn decoded(packet: &[u8]) -> Vec<i16> {
    RtpPacket::parse(packet).unwrap().payload().iter().map(|b| g711::pcmu_to_linear(*b)).collect()
}
