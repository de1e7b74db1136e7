//! The stage for stories of a telephone leg's media: a carrier and a room around it, in virtual time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use offhook_media::tone::{self, BeepSpec};
use offhook_media::{Codec, OpusEncoder, detect, encode_beep, g711};
use offhook_wire_rtp::{RtpHeader, TelephoneEvent};

use super::*;

pub(super) const SLOTS: [u32; 2] = [0x100, 0x101];
pub(super) const ANNOUNCER: u32 = 0x1ff;
pub(super) const LINK_SSRC: u32 = 0x77;

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn carrier() -> SocketAddr {
    "192.0.2.10:4000".parse().unwrap()
}

pub(super) fn remote(codec: Codec) -> RemoteMedia {
    let number = codec.static_payload_type().unwrap();
    RemoteMedia {
        rtp: carrier(),
        rtcp: "192.0.2.10:4001".parse().unwrap(),
        codec,
        payload_type: number,
        receive: [Some((number, codec)), None],
        send_events: Some(101),
        receive_events: Some(96),
        sends: true,
        receives: true,
    }
}

pub(super) fn leg() -> LegMedia {
    let hold = encode_beep(&BeepSpec { frequency_hz: 440.0, duration_ms: 1_000, level_dbfs: -14.0 }).unwrap();
    let config = LegMediaConfig {
        numbers: LegNumbers { ssrc: 0xabc, sequence: 0xfff0, timestamp: 0xffff_f000 },
        cname: "c0ffee".into(),
        unix_ns_at_zero: 1_700_000_000_000_000_000,
        hold_prompt: Arc::new(hold),
        media_timeout: Duration::from_secs(30),
    };
    LegMedia::new(ms(0), config)
}

/// A leg between a carrier and a room, one step of 20 ms at a time.
pub(super) struct Story {
    pub(super) leg: LegMedia,
    pub(super) now: Duration,
    pub(super) sent: Vec<(Duration, Vec<u8>)>,
    pub(super) reports: Vec<Vec<u8>>,
    pub(super) receipts: Vec<Vec<u8>>,
    pub(super) linked: Vec<Vec<u8>>,
    pub(super) events: Vec<MediaEvent>,
    pub(super) sequence: u16,
}

impl Story {
    pub(super) fn connected(codec: Codec) -> Self {
        let mut leg = leg();
        leg.set_remote(ms(0), remote(codec));
        leg.set_link(LinkStreams::new(LINK_SSRC, &SLOTS, ANNOUNCER).unwrap());
        leg.answered(ms(0));
        Self {
            leg,
            now: ms(0),
            sent: Vec::new(),
            reports: Vec::new(),
            receipts: Vec::new(),
            linked: Vec::new(),
            events: Vec::new(),
            sequence: 100,
        }
    }

    pub(super) fn pump(&mut self) {
        let mut buffer = [0u8; 1_500];
        self.leg.handle_timeout(self.now);
        while let Some(output) = self.leg.poll_output(self.now, &mut buffer) {
            match output {
                Output::TrunkRtp { to, length } => {
                    assert_eq!(to.ip(), carrier().ip());
                    self.sent.push((self.now, buffer[..length].to_vec()));
                }
                Output::TrunkRtcp { to, length } => {
                    assert_eq!(to.port(), 4001);
                    self.reports.push(buffer[..length].to_vec());
                }
                Output::LinkRtcp { length } => self.receipts.push(buffer[..length].to_vec()),
            }
        }
        while let Some(event) = self.leg.poll_event() {
            self.events.push(event);
        }
    }

    /// 20 ms pass.
    pub(super) fn step(&mut self) {
        self.pump();
        self.now += ms(20);
    }

    pub(super) fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    pub(super) fn carrier_sends(&mut self, from: SocketAddr, header: RtpHeader, payload: &[u8]) -> TrunkInput {
        let datagram = packet(header, payload);
        let mut out = [0u8; 1_500];
        let input = self.leg.handle_trunk_rtp(self.now, from, &datagram, &mut out);
        if let TrunkInput::Forward(length) = input {
            self.linked.push(out[..length].to_vec());
        }
        input
    }

    pub(super) fn carrier_audio(&mut self, payload: &[u8]) -> TrunkInput {
        self.sequence = self.sequence.wrapping_add(1);
        let header = RtpHeader {
            payload_type: 0,
            sequence: self.sequence,
            timestamp: u32::from(self.sequence) * 160,
            ssrc: 0x5555,
            marker: false,
        };
        self.carrier_sends(carrier(), header, payload)
    }

    pub(super) fn carrier_digit(&mut self, timestamp: u32, duration: u16, end: bool) -> TrunkInput {
        self.sequence = self.sequence.wrapping_add(1);
        let payload = TelephoneEvent { event: 8, end, volume: 10, duration }.to_bytes();
        let header = RtpHeader { payload_type: 96, sequence: self.sequence, timestamp, ssrc: 0x5555, marker: false };
        self.carrier_sends(carrier(), header, &payload)
    }

    /// What the telephone hears.
    pub(super) fn heard(&self, codec: Codec) -> Vec<i16> {
        let decode = if codec == Codec::Pcma { g711::pcma_to_linear } else { g711::pcmu_to_linear };
        let audio = |p: &&Vec<u8>| p.len() == 172;
        let packets = self.sent.iter().map(|(_, p)| p).filter(audio);
        packets.flat_map(|p| p[12..].iter().map(|b| decode(*b)).collect::<Vec<_>>()).collect()
    }
}

pub(super) fn packet(header: RtpHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    header.write(&mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes
}

/// A slot of the Link that plays a tone in Opus or G.711.
pub(super) struct Voice {
    pub(super) ssrc: u32,
    pub(super) codec: Codec,
    pub(super) source: tone::Sine,
    pub(super) encoder: OpusEncoder,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
}

impl Voice {
    pub(super) fn new(ssrc: u32, codec: Codec, hz: f32, dbfs: f32) -> Self {
        let rate = if codec == Codec::Opus { 48_000 } else { 8_000 };
        Self {
            ssrc,
            codec,
            source: tone::Sine::new(hz, dbfs, rate),
            encoder: OpusEncoder::new(48_000, 5, 32_000).unwrap(),
            sequence: 0xffff,
            timestamp: 0xffff_ff00,
        }
    }

    pub(super) fn next(&mut self) -> Vec<u8> {
        let payload = match self.codec {
            Codec::Opus => {
                let (mut pcm, mut out) = ([0; 960], [0; 1_276]);
                self.source.fill(&mut pcm);
                let used = self.encoder.encode(&pcm, &mut out).unwrap();
                out[..used].to_vec()
            }
            Codec::Pcmu | Codec::Pcma => {
                let (mut pcm, mut out) = ([0; 160], vec![0; 160]);
                self.source.fill(&mut pcm);
                if self.codec == Codec::Pcmu {
                    g711::encode_pcmu(&pcm, &mut out);
                } else {
                    g711::encode_pcma(&pcm, &mut out);
                }
                out
            }
        };
        let header = RtpHeader {
            payload_type: uplink::link_codec(self.codec).link_payload_type(),
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            marker: false,
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.codec.samples_per_20ms());
        packet(header, &payload)
    }
}

pub(super) fn level(pcm: &[i16], hz: f32) -> f32 {
    detect::level_dbfs_of(pcm, 8_000, hz)
}
