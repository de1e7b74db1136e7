//! Media threads on loopback: a carrier and an SFU played by the test, real sockets, real SRTP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offhook_contract::{CodecName, LinkKey, LinkOffer, LinkProfile};
use offhook_media::tone::{BeepSpec, Sine};
use offhook_media::{Codec, detect, encode_beep, g711};
use offhook_sip_core::media::{Digit, LegMedia, LegMediaConfig, LegNumbers, MediaEvent, RemoteMedia};
use offhook_wire_rtp::{RtpHeader, RtpPacket, TelephoneEvent};
use offhook_wire_srtp::{Profile, ReceiveContext, SendContext, SrtpKey};
use tokio::sync::mpsc::Receiver;

use super::*;

const SLOT: u32 = 0x1111;
const ANNOUNCER: u32 = 0x2222;

fn local() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// One leg on a pool, with both its ends in the test's hands.
struct Stage {
    pool: MediaPool,
    news: Receiver<MediaNews>,
    ports: PortRange,
    key: LegKey,
    gateway: SocketAddr,
    carrier: UdpSocket,
    sfu: UdpSocket,
    link: SocketAddr,
    seal: SendContext,
    open: ReceiveContext,
    sequence: u16,
}

impl Stage {
    fn new(ports: PortRange) -> Self {
        let (pool, news) = MediaPool::start(1, Instant::now()).unwrap();
        let (carrier, sfu) = (local(), local());
        let (key, salt) = ([1; 16], [2; 12]);
        let theirs = SrtpKey::new(Profile::AeadAes128Gcm, &key, &salt).unwrap();
        let placeholder = ReceiveContext::new(&theirs).unwrap();
        let mut stage = Self {
            pool,
            news,
            ports,
            key: LegKey(0),
            gateway: carrier.local_addr().unwrap(),
            link: carrier.local_addr().unwrap(),
            carrier,
            sfu,
            seal: SendContext::new(&theirs).unwrap(),
            open: placeholder,
            sequence: 1,
        };
        stage.add_leg(LinkKey::from_bytes(LinkProfile::AeadAes128Gcm, &key, &salt));
        stage
    }

    fn add_leg(&mut self, sfu_key: LinkKey) {
        let hold = encode_beep(&BeepSpec::default()).unwrap();
        let config = LegMediaConfig {
            numbers: LegNumbers { ssrc: 0xabc, sequence: 1, timestamp: 2 },
            cname: "test".into(),
            unix_ns_at_zero: 0,
            hold_prompt: Arc::new(hold),
            media_timeout: Duration::from_secs(30),
        };
        let leg = self.pool.new_key();
        let pair = self.ports.open(Ipv4Addr::LOCALHOST.into()).unwrap();
        self.gateway = pair.rtp.local_address();
        let media = Box::new(LegMedia::new(self.pool.now(), config));
        self.pool.add(leg, MediaOrder::Add { leg, media, ports: Box::new(pair) }).unwrap();
        let offer = LinkOffer {
            addresses: vec![self.sfu.local_addr().unwrap()],
            key: sfu_key,
            slot_ssrcs: vec![SLOT],
            announcer_ssrc: ANNOUNCER,
            codecs: vec![CodecName::Opus, CodecName::Pcmu],
            source_id: 7,
        };
        let (port, streams, answer) = LinkPort::answer(&offer, vec![CodecName::Pcmu]).unwrap();
        let (ours, salt) = answer.key.to_bytes().unwrap();
        self.open = ReceiveContext::new(&SrtpKey::new(Profile::AeadAes128Gcm, &ours, &salt).unwrap()).unwrap();
        self.link = answer.addresses[0];
        self.pool.order(leg, MediaOrder::Link { leg, port: Box::new(port), streams }).unwrap();
        let rtp = self.carrier.local_addr().unwrap();
        let media = RemoteMedia {
            rtp,
            rtcp: "127.0.0.1:9".parse().unwrap(),
            codec: Codec::Pcmu,
            payload_type: 0,
            receive: [Some((0, Codec::Pcmu)), None],
            send_events: Some(101),
            receive_events: Some(101),
            sends: true,
            receives: true,
        };
        self.pool.order(leg, MediaOrder::Remote { leg, media }).unwrap();
        self.pool.order(leg, MediaOrder::Answered { leg }).unwrap();
        self.key = leg;
    }

    /// A packet of the carrier's, or of the SFU's when `ssrc` is one of its lines.
    fn packet(&mut self, ssrc: u32, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let header = RtpHeader { marker: false, payload_type, sequence: self.sequence, timestamp, ssrc };
        self.sequence += 1;
        let mut bytes = vec![0; 12];
        header.write(&mut bytes).unwrap();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn carrier_sends(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let bytes = self.packet(0x99, payload_type, timestamp, payload);
        self.carrier.send_to(&bytes, self.gateway).unwrap();
    }

    fn sfu_sends(&mut self, timestamp: u32, payload: &[u8]) {
        let mut bytes = self.packet(SLOT, 0, timestamp, payload);
        let length = bytes.len();
        bytes.resize(length + 20, 0);
        let sealed = self.seal.protect_rtp(&mut bytes, length).unwrap();
        self.sfu.send_to(&bytes[..sealed], self.link).unwrap();
    }

    fn carrier_hears(&self) -> Vec<u8> {
        let mut buffer = [0; 1_500];
        let (length, from) = self.carrier.recv_from(&mut buffer).unwrap();
        assert_eq!(from, self.gateway);
        buffer[..length].to_vec()
    }

    fn sfu_hears(&mut self) -> Vec<u8> {
        let mut buffer = [0; 1_500];
        loop {
            let (length, _) = self.sfu.recv_from(&mut buffer).unwrap();
            if let Ok(plain) = self.open.unprotect_rtp(&mut buffer[..length]) {
                return buffer[..plain].to_vec();
            }
        }
    }

    /// The counts once `link_sent` packets are among them: a packet is heard a moment before it is counted.
    fn counts_after(&self, link_sent: u64) -> MediaCounts {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let counts = self.pool.counts();
            if counts.link_sent >= link_sent || Instant::now() > deadline {
                return counts;
            }
            std::thread::yield_now();
        }
    }

    fn event(&mut self) -> MediaEvent {
        loop {
            match self.news.blocking_recv().unwrap().news {
                News::Event(event) => return event,
                News::Report(_) | News::Closed { .. } => {}
            }
        }
    }

    fn close(&mut self) {
        let leg = self.key;
        self.pool.order(leg, MediaOrder::Close { leg }).unwrap();
        loop {
            if let MediaNews { leg, news: News::Closed { rtp_port } } = self.news.blocking_recv().unwrap() {
                self.ports.release(rtp_port);
                self.pool.closed(leg);
                return;
            }
        }
    }
}

#[test]
fn a_tone_goes_both_ways_through_a_media_thread() {
    let mut stage = Stage::new(PortRange::new(42_000, 42_099));
    let (mut up, mut down) = (Sine::new(600.0, -12.0, 8_000), Sine::new(1_000.0, -12.0, 8_000));
    let (mut to_room, mut to_telephone) = (Vec::new(), Vec::new());
    for n in 0..75u32 {
        let (mut pcm, mut bytes) = ([0; 160], [0; 160]);
        up.fill(&mut pcm);
        g711::encode_pcmu(&pcm, &mut bytes);
        stage.carrier_sends(0, n * 160, &bytes);
        down.fill(&mut pcm);
        g711::encode_pcmu(&pcm, &mut bytes);
        stage.sfu_sends(n * 160, &bytes);
        // The gateway's own 50 packets a second pace this loop.
        let heard = stage.carrier_hears();
        to_telephone.extend(RtpPacket::parse(&heard).unwrap().payload().iter().map(|b| g711::pcmu_to_linear(*b)));
        let heard = stage.sfu_hears();
        let heard = RtpPacket::parse(&heard).unwrap();
        assert!(heard.audio_level(1).is_some());
        to_room.extend(heard.payload().iter().map(|b| g711::pcmu_to_linear(*b)));
    }
    assert!(detect::presence(&to_room, 8_000, 600.0) > 0.99);
    assert!(detect::presence(&to_telephone[1_600..], 8_000, 1_000.0) > 0.95);
    assert!(detect::level_dbfs_of(&to_telephone[1_600..], 8_000, 600.0) < -52.0);
    assert_eq!(stage.event(), MediaEvent::FirstPacket);
    let counts = stage.counts_after(75);
    assert_eq!((counts.legs, counts.sockets, counts.link_refused), (1, 3, 0));
    assert_eq!((counts.trunk_received, counts.link_sent), (75, 75));
    stage.close();
}

#[test]
fn digits_go_both_ways_and_each_is_told_once() {
    let mut stage = Stage::new(PortRange::new(42_100, 42_199));
    for (duration, end) in [(160, false), (800, true), (800, true), (800, true)] {
        let event = TelephoneEvent { event: 11, end, volume: 10, duration }.to_bytes();
        stage.carrier_sends(101, 5_000, &event);
    }
    assert_eq!(stage.event(), MediaEvent::FirstPacket);
    assert_eq!(stage.event(), MediaEvent::Digit(Digit { key: '#', duration_ms: 100 }));
    let leg = stage.key;
    stage.pool.order(leg, MediaOrder::Digits { leg, digits: "7".into(), duration_ms: 100 }).unwrap();
    let mut ends = 0;
    while ends < 3 {
        let heard = stage.carrier_hears();
        let packet = RtpPacket::parse(&heard).unwrap();
        if packet.payload_type() == 101 {
            let event = TelephoneEvent::parse(packet.payload()).unwrap();
            assert_eq!(event.key(), Some('7'));
            ends += u32::from(event.end);
        }
    }
    stage.close();
}

#[test]
fn rtp_from_a_foreign_address_is_counted_and_reaches_nobody() {
    let mut stage = Stage::new(PortRange::new(42_200, 42_299));
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    let bytes = stage.packet(0x666, 0, 0, &[0; 160]);
    for _ in 0..10 {
        stranger.send_to(&bytes, stage.gateway).unwrap();
    }
    stage.carrier_sends(0, 0, &[0xff; 160]);
    let first = stage.sfu_hears();
    assert_eq!(RtpPacket::parse(&first).unwrap().payload(), [0xff; 160]);
    let counts = stage.counts_after(1);
    assert_eq!((counts.trunk_received, counts.link_sent), (11, 1));
    assert_eq!(counts.trunk_dropped.iter().sum::<u64>(), 10);
    // Nor does anything reach the telephone that the Link's key did not seal.
    stranger.send_to(&bytes, stage.link).unwrap();
    while stage.pool.counts().link_refused == 0 {
        stage.carrier_hears();
    }
    stage.close();
}

#[test]
fn ports_sockets_and_timers_return_after_twenty_calls() {
    let mut stage = Stage::new(PortRange::new(42_300, 42_319));
    for _ in 0..20 {
        stage.carrier_sends(0, 0, &[0xff; 160]);
        stage.carrier_hears();
        stage.close();
        assert_eq!(stage.ports.in_use(), 0);
        stage.sequence = 1;
        stage.add_leg(LinkKey::from_bytes(LinkProfile::AeadAes128Gcm, &[1; 16], &[2; 12]));
    }
    stage.close();
    let counts = stage.pool.counts();
    assert_eq!((counts.legs, counts.sockets, counts.timers, counts.news_lost), (0, 0, 0, 0));
    assert_eq!(stage.ports.in_use(), 0);
}
