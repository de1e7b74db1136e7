//! One party on the other end of the wire.
use super::{fingerprint, key};
use offhook_contract::CodecName;
use offhook_contract::audio::LINK_LEVEL_EXTENSION_ID;
use offhook_sfu_core::*;
use offhook_wire_rtp::rtcp::{Compound, ReportBlock, RtcpPacket, RtcpWriter, SenderInfo};
use offhook_wire_rtp::{DatagramKind, Extension, NtpTime, RtpHeader, RtpPacket};
use offhook_wire_srtp::{ReceiveContext, SendContext};
use offhook_wire_stun::{Class, Message, MessageBuilder, Method, TransactionId};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Browser,
    Link,
}

/// One RTP packet as it reached a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub at: MediaNs,
    pub ssrc: u32,
    pub codec: CodecName,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub csrc: Option<u32>,
    pub level: Option<u8>,
    pub payload: Vec<u8>,
}

pub struct Actor {
    pub number: u8,
    pub kind: Kind,
    pub address: SocketAddr,
    pub codecs: Vec<CodecName>,
    pub slots: usize,
    pub announcer: bool,
    pub announced_fingerprint: [u8; 32],
    /// Where the sender's own numbers begin.
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub first_slot_sequence: u16,
    pub first_slot_timestamp: u32,
    outgoing: SendContext,
    incoming: ReceiveContext,
    pub heard: Vec<Heard>,
    pub checks_answered: usize,
    pub stun_errors: Vec<u16>,
    pub sender_reports: Vec<(u32, SenderInfo)>,
    pub reports: Vec<ReportBlock>,
    pub undecipherable: usize,
}

pub const LEVEL_ID: u8 = 1;

impl Actor {
    fn new(number: u8, kind: Kind, codecs: &[CodecName]) -> Self {
        Self {
            number,
            kind,
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)), 4_000),
            codecs: codecs.to_vec(),
            slots: 4,
            announcer: true,
            announced_fingerprint: fingerprint(number),
            sequence: 1_000,
            timestamp: 77_000,
            ssrc: u32::from(number) * 1_000,
            first_slot_sequence: 10,
            first_slot_timestamp: 500_000,
            outgoing: SendContext::with_max_sources(&key(number, false), 32).unwrap(),
            incoming: ReceiveContext::with_max_sources(&key(number, true), 32).unwrap(),
            heard: Vec::new(),
            checks_answered: 0,
            stun_errors: Vec::new(),
            sender_reports: Vec::new(),
            reports: Vec::new(),
            undecipherable: 0,
        }
    }

    pub fn browser(number: u8) -> Self {
        Self::new(number, Kind::Browser, &[CodecName::Opus, CodecName::Pcmu, CodecName::Pcma])
    }

    pub fn link(number: u8, codecs: &[CodecName]) -> Self {
        Self::new(number, Kind::Link, codecs)
    }

    pub fn ufrag(&self) -> String {
        format!("fragment{}", self.number)
    }

    fn pwd(&self) -> String {
        format!("password-of-twenty-two-{}", self.number)
    }

    pub fn slot_ssrc(&self, index: usize) -> u32 {
        u32::from(self.number) * 100_000 + index as u32 + 1
    }

    pub fn announcer_ssrc(&self) -> u32 {
        u32::from(self.number) * 100_000 + 99
    }

    /// The CSRC under which links see this leg.
    pub fn source_id(&self) -> u32 {
        900 + u32::from(self.number)
    }

    fn line(&self, ssrc: u32) -> LinePlan {
        LinePlan { ssrc, first_sequence: self.first_slot_sequence, first_timestamp: self.first_slot_timestamp }
    }

    fn slot_lines(&self) -> Vec<LinePlan> {
        (0..self.slots).map(|index| self.line(self.slot_ssrc(index))).collect()
    }

    pub fn peer_plan(&self) -> PeerPlan {
        let types = PayloadTypes::on_links(&self.codecs);
        PeerPlan {
            ufrag: self.ufrag(),
            pwd: self.pwd(),
            remote_fingerprint: self.announced_fingerprint,
            sends: Some(types),
            sent_level_id: Some(LEVEL_ID),
            receives: types,
            received_level_id: Some(LEVEL_ID),
            slots: self.slot_lines(),
            announcer: self.announcer.then(|| self.line(self.announcer_ssrc())),
            report_ssrc: 5,
            source_id: self.source_id(),
        }
    }

    pub fn link_plan(&self) -> LinkPlan {
        LinkPlan {
            key: key(self.number, true),
            slots: self.slot_lines(),
            announcer: self.line(self.announcer_ssrc()),
            report_ssrc: 5,
            source_id: self.source_id(),
            codecs: vec![CodecName::Opus, CodecName::Pcmu, CodecName::Pcma],
        }
    }

    pub fn connect_plan(&self) -> ConnectPlan {
        ConnectPlan { remote: self.address, key: key(self.number, false), ssrc: self.ssrc, codecs: self.codecs.clone() }
    }

    /// A connectivity check (RFC 8445 §7.2.4), authenticated by our password or by `password`.
    pub fn check(&self, nominate: bool, password: Option<&str>) -> Vec<u8> {
        self.check_with(
            |request| {
                request.priority(1).ice_controlling(42);
                if nominate {
                    request.use_candidate();
                }
            },
            password,
        )
    }

    pub fn check_with(&self, attributes: impl FnOnce(&mut MessageBuilder<'_>), password: Option<&str>) -> Vec<u8> {
        let mut buffer = [0; 512];
        let mut request = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([9; 12]));
        request.username(&format!("{}:theirs", self.ufrag()));
        attributes(&mut request);
        let pwd = self.pwd();
        let len = request.integrity(password.unwrap_or(&pwd).as_bytes()).fingerprint().finish().unwrap();
        buffer[..len].to_vec()
    }

    /// The next frame of 20 ms, sealed.
    pub fn frame(&mut self, codec: CodecName, payload: &[u8]) -> Vec<u8> {
        let step = codec.clock_rate_hz() / 50;
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(step);
        let (sequence, timestamp) = (self.sequence, self.timestamp);
        self.packet(self.ssrc, codec.link_payload_type(), sequence, timestamp, payload)
    }

    pub fn packet(&mut self, ssrc: u32, payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let header = RtpHeader { marker: false, payload_type, sequence, timestamp, ssrc };
        let mut bytes = vec![0; 64 + payload.len()];
        let level = [0x80 | self.number];
        let at = header.write_with(&mut bytes, &[], &[Extension { id: LEVEL_ID, data: &level }]).unwrap();
        bytes[at..at + payload.len()].copy_from_slice(payload);
        let len = self.outgoing.protect_rtp(&mut bytes, at + payload.len()).unwrap();
        bytes.truncate(len);
        bytes
    }

    pub fn rtcp(&mut self, write: impl FnOnce(&mut RtcpWriter<'_>)) -> Vec<u8> {
        let mut bytes = vec![0; 600];
        let len = {
            let mut writer = RtcpWriter::new(&mut bytes[..500]);
            write(&mut writer);
            writer.finish().unwrap()
        };
        let len = self.outgoing.protect_rtcp(&mut bytes, len).unwrap();
        bytes.truncate(len);
        bytes
    }

    /// A receiver report that says everything up to the last packet heard on `ssrc` has come.
    pub fn confirm(&mut self, ssrc: u32, last_sr: u32, delay: u32) -> Vec<u8> {
        let highest = self.on(ssrc).last().map_or(0, |heard| u32::from(heard.sequence));
        let block = ReportBlock {
            ssrc,
            highest_sequence: highest,
            last_sr,
            delay_since_last_sr: delay,
            ..ReportBlock::default()
        };
        let own = self.ssrc;
        self.rtcp(|writer| {
            writer.receiver_report(own, &[block]);
        })
    }

    /// What was heard on one line.
    pub fn on(&self, ssrc: u32) -> impl DoubleEndedIterator<Item = &Heard> + Clone {
        self.heard.iter().filter(move |heard| heard.ssrc == ssrc)
    }

    pub fn on_slot(&self, index: usize) -> impl DoubleEndedIterator<Item = &Heard> + Clone {
        self.on(self.slot_ssrc(index))
    }

    pub fn on_announcer(&self) -> impl DoubleEndedIterator<Item = &Heard> + Clone {
        self.on(self.announcer_ssrc())
    }

    /// A datagram reaches this party.
    pub fn take(&mut self, now: MediaNs, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        match DatagramKind::of(&bytes) {
            DatagramKind::Rtp => match self.incoming.unprotect_rtp(&mut bytes) {
                Ok(len) => self.hear(now, &bytes[..len]),
                Err(_) => self.undecipherable += 1,
            },
            DatagramKind::Rtcp => match self.incoming.unprotect_rtcp(&mut bytes) {
                Ok(len) => self.read_reports(&bytes[..len]),
                Err(_) => self.undecipherable += 1,
            },
            DatagramKind::Stun => self.read_stun(&bytes),
            _ => {}
        }
    }

    fn hear(&mut self, now: MediaNs, bytes: &[u8]) {
        let packet = RtpPacket::parse(bytes).unwrap();
        self.heard.push(Heard {
            at: now,
            ssrc: packet.ssrc(),
            codec: CodecName::from_link_payload_type(packet.payload_type()).unwrap(),
            sequence: packet.sequence(),
            timestamp: packet.timestamp(),
            marker: packet.marker(),
            csrc: packet.csrcs().next(),
            level: packet.audio_level(LINK_LEVEL_EXTENSION_ID).map(|level| level.minus_dbov),
            payload: packet.payload().to_vec(),
        });
    }

    fn read_reports(&mut self, bytes: &[u8]) {
        for packet in Compound::parse(bytes).unwrap() {
            match packet {
                RtcpPacket::SenderReport(report) => {
                    self.sender_reports.push((report.ssrc, report.info));
                    self.reports.extend(report.reports());
                }
                RtcpPacket::ReceiverReport(report) => self.reports.extend(report.reports()),
                _ => {}
            }
        }
    }

    fn read_stun(&mut self, bytes: &[u8]) {
        let message = Message::parse(bytes).unwrap();
        match message.class() {
            Class::Success => {
                message.verify_integrity(self.pwd().as_bytes()).unwrap();
                message.verify_fingerprint().unwrap();
                assert_eq!(message.xor_mapped_address().unwrap(), Some(self.address));
                self.checks_answered += 1;
            }
            _ => self.stun_errors.push(message.error_code().unwrap().unwrap().code),
        }
    }
}

/// Middle bits of the NTP time of a moment of the stage.
pub fn ntp_middle(unix_ms: u64) -> u32 {
    NtpTime::from_unix_ms(unix_ms).middle()
}
