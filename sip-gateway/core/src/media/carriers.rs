//! Stories of carriers' habits: silence suppressed, packets of other lengths, streams that begin anew in mid-call.

use super::story::*;
use super::*;
use offhook_media::{Codec, g711, tone};
use offhook_wire_rtp::rtcp::RtcpWriter;
use offhook_wire_rtp::{RtpHeader, RtpPacket, TelephoneEvent};
use std::net::SocketAddr;

/// A carrier's stream with packets of one length.
#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    ticks: u32,
}

impl Stream {
    fn new(ssrc: u32, packet_ms: u32) -> Self {
        Self { ssrc, sequence: 0xfffe, timestamp: 0xffff_fd00, ticks: packet_ms * 8 }
    }

    fn header(&self, payload_type: u8) -> RtpHeader {
        let Self { ssrc, sequence, timestamp, .. } = *self;
        RtpHeader { payload_type, sequence, timestamp, ssrc, marker: false }
    }

    /// The next packet, of whatever type; the time it stands for passes.
    fn send(&mut self, s: &mut Story, payload_type: u8, payload: &[u8]) -> TrunkInput {
        let input = s.carrier_sends(carrier(), self.header(payload_type), payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.ticks);
        let until = s.now + ms(u64::from(self.ticks) / 8);
        while s.now < until {
            s.pump();
            s.now += ms(10);
        }
        input
    }

    fn speak(&mut self, s: &mut Story, count: usize) {
        for _ in 0..count {
            let payload = vec![0x70; self.ticks as usize];
            assert!(matches!(self.send(s, 0, &payload), TrunkInput::Forward(_)));
        }
    }
}

/// Steps in number and timestamp from packet to packet, as the room sees them.
fn steps(s: &Story) -> Vec<(u16, u32)> {
    let packets: Vec<_> = s.linked.iter().map(|p| RtpPacket::parse(p).unwrap()).collect();
    let step = |a: &RtpPacket<'_>, b: &RtpPacket<'_>| {
        (b.sequence().wrapping_sub(a.sequence()), b.timestamp().wrapping_sub(a.timestamp()))
    };
    packets.windows(2).map(|w| step(&w[0], &w[1])).collect()
}

fn is_lost(s: &Story) -> bool {
    s.events.contains(&MediaEvent::MediaLost)
}

fn rtcp_port() -> SocketAddr {
    "192.0.2.10:4001".parse().unwrap()
}

fn report() -> Vec<u8> {
    let mut bytes = vec![0; 200];
    let length = RtcpWriter::new(&mut bytes).receiver_report(0x5555, &[]).source_description(0x5555, "x").finish();
    bytes.truncate(length.unwrap());
    bytes
}

#[test]
fn a_telephone_that_suppresses_its_silence_keeps_its_call_and_leaves_no_hole_in_the_rooms_numbers() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut stream = Stream::new(0x5555, 20);
    stream.speak(&mut s, 10);
    for _ in 0..24 {
        assert_eq!(stream.send(&mut s, 13, &[60]), TrunkInput::Dropped(DropReason::Payload));
        s.steps(249);
        stream.timestamp = stream.timestamp.wrapping_add(249 * 160);
    }
    assert!(!is_lost(&s), "two minutes of comfort noise");
    stream.speak(&mut s, 2);
    assert_eq!(steps(&s)[9..], [(1, 160 + 24 * 250 * 160), (1, 160)]);
    assert_eq!(s.leg.report().lost_packets, 0);
    s.steps(32_000 / 20);
    assert!(is_lost(&s), "then nothing at all");
}

#[test]
fn comfort_noise_alone_is_nothing_to_hear() {
    let mut s = Story::connected(Codec::Pcmu);
    Stream::new(0x5555, 20).send(&mut s, 13, &[60]);
    assert!(s.events.is_empty() && s.linked.is_empty());
}

#[test]
fn reports_alone_keep_a_call_and_only_those_of_the_telephones_host() {
    let mut s = Story::connected(Codec::Pcmu);
    Stream::new(0x5555, 20).speak(&mut s, 1);
    for _ in 0..24 {
        s.steps(250);
        assert_eq!(s.leg.handle_trunk_rtcp(s.now, rtcp_port(), &report()), TrunkInput::Used);
    }
    assert!(!is_lost(&s));
    let stranger = "198.51.100.1:4001".parse().unwrap();
    for _ in 0..7 {
        s.steps(250);
        let foreign = s.leg.handle_trunk_rtcp(s.now, stranger, &report());
        assert_eq!(foreign, TrunkInput::Dropped(DropReason::ForeignAddress));
        let garbage = s.leg.handle_trunk_rtcp(s.now, rtcp_port(), b"no report");
        assert_eq!(garbage, TrunkInput::Dropped(DropReason::NotRtp));
    }
    assert!(is_lost(&s));
}

#[test]
fn a_packet_of_an_unknown_type_is_a_sign_of_life_and_no_more() {
    let mut s = Story::connected(Codec::Pcmu);
    for _ in 0..24 {
        s.steps(250);
        let natted = SocketAddr::new(carrier().ip(), 5_004);
        let input = s.carrier_sends(natted, Stream::new(0x5555, 20).header(77), &[1, 2, 3]);
        assert_eq!(input, TrunkInput::Dropped(DropReason::PayloadType));
    }
    assert!(!is_lost(&s) && s.events.is_empty() && s.linked.is_empty());
    Stream::new(0x5555, 20).speak(&mut s, 1);
    assert_eq!(s.linked.len(), 1, "no port was learned from it");
}

#[test]
fn packets_of_any_length_go_into_the_room_as_they_are() {
    for packet_ms in [10, 20, 30, 40, 60] {
        let mut s = Story::connected(Codec::Pcmu);
        let mut stream = Stream::new(0x5555, packet_ms);
        let pcm = tone::sine(1_000.0, -20.0, 8_000, 1_200);
        for piece in pcm.chunks(stream.ticks as usize) {
            let mut payload = vec![0; piece.len()];
            g711::encode_pcmu(piece, &mut payload);
            assert!(matches!(stream.send(&mut s, 0, &payload), TrunkInput::Forward(_)), "{packet_ms} ms");
            let linked = RtpPacket::parse(s.linked.last().unwrap()).unwrap();
            assert_eq!(linked.payload(), payload);
            let loudness = linked.audio_level(1).unwrap();
            assert!(loudness.voice && (21..=25).contains(&loudness.minus_dbov), "{packet_ms} ms: {loudness:?}");
        }
        assert!(steps(&s).iter().all(|step| *step == (1, stream.ticks)), "{packet_ms} ms");
        assert_eq!((s.leg.report().lost_packets, s.events.as_slice()), (0, &[MediaEvent::FirstPacket][..]));
    }
}

#[test]
fn tones_of_keys_are_understood_in_packets_of_any_length() {
    for packet_ms in [10, 30, 40] {
        let mut s = Story::connected(Codec::Pcmu);
        s.leg.set_remote(s.now, RemoteMedia { receive_events: None, ..remote(Codec::Pcmu) });
        let mut stream = Stream::new(0x5555, packet_ms);
        let mut pcm = tone::dtmf('3', -12.0, 8_000, 120).unwrap();
        pcm.extend([0; 960]);
        for piece in pcm.chunks(stream.ticks as usize) {
            let mut payload = vec![0; piece.len()];
            g711::encode_pcmu(piece, &mut payload);
            stream.send(&mut s, 0, &payload);
        }
        let is_three = |e: &&MediaEvent| matches!(e, MediaEvent::Digit(Digit { key: '3', .. }));
        assert_eq!(s.events.iter().filter(is_three).count(), 1, "{packet_ms} ms");
    }
}

#[test]
fn a_stream_that_begins_anew_goes_on_behind_the_last_sound() {
    for packet_ms in [10, 20, 40] {
        let mut s = Story::connected(Codec::Pcmu);
        let mut first = Stream::new(0x5555, packet_ms);
        first.speak(&mut s, 5);
        // The new source's first packet overtakes the pace by a packet: it comes at the moment of the last one.
        s.now -= ms(u64::from(packet_ms));
        let mut second = Stream { sequence: 7, timestamp: 0x7000_0000, ..Stream::new(0x9999, packet_ms) };
        second.speak(&mut s, 5);
        assert!(steps(&s).iter().all(|step| *step == (1, first.ticks)), "{packet_ms} ms: {:?}", steps(&s));
        assert_eq!(s.leg.report().lost_packets, 0);
    }
}

#[test]
fn a_clock_that_jumps_either_way_is_not_heard_in_the_room() {
    for jump in [8_000 * 30, 0x7fff_0000, (8_000u32 * 30).wrapping_neg()] {
        let mut s = Story::connected(Codec::Pcmu);
        let mut stream = Stream::new(0x5555, 20);
        stream.speak(&mut s, 5);
        stream.timestamp = stream.timestamp.wrapping_add(jump);
        stream.speak(&mut s, 5);
        assert!(steps(&s).iter().all(|step| *step == (1, 160)), "{jump}: {:?}", steps(&s));
        // Nor does a jump of the numbers look like lost packets.
        stream.sequence = stream.sequence.wrapping_add(20_000);
        stream.speak(&mut s, 5);
        assert!(steps(&s).iter().all(|step| *step == (1, 160)), "{jump}: {:?}", steps(&s));
    }
}

#[test]
fn keys_are_heard_after_the_stream_began_anew() {
    let mut s = Story::connected(Codec::Pcmu);
    let press = |s: &mut Story, stream: &Stream| {
        for n in 0..3 {
            let header = RtpHeader { sequence: stream.sequence.wrapping_add(n), ..stream.header(96) };
            let payload = TelephoneEvent { event: 8, end: true, volume: 10, duration: 800 }.to_bytes();
            s.carrier_sends(carrier(), header, &payload);
            s.step();
        }
    };
    let mut stream = Stream { timestamp: 0x7000_0000, ..Stream::new(0x5555, 20) };
    press(&mut s, &stream);
    stream = Stream { timestamp: 160, ..Stream::new(0x9999, 20) };
    press(&mut s, &stream);
    s.steps(100);
    stream.timestamp = stream.timestamp.wrapping_sub(80_000);
    stream.sequence = 5_000;
    press(&mut s, &stream);
    let digits = s.events.iter().filter(|e| matches!(e, MediaEvent::Digit(_)));
    assert_eq!(digits.count(), 3);
}
