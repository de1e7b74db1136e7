//! Stories of a telephone leg's media in virtual time.

use super::story::*;
use super::*;
use offhook_media::{Codec, detect, g711, tone};
use offhook_wire_rtp::{RtpHeader, RtpPacket, TelephoneEvent};
use std::net::SocketAddr;

#[test]
fn the_telephone_hears_every_speaker_and_the_announcer_at_once() {
    for codec in [Codec::Pcmu, Codec::Pcma] {
        let mut s = Story::connected(codec);
        let mut voices = [
            Voice::new(SLOTS[0], Codec::Opus, 400.0, -16.0),
            Voice::new(SLOTS[1], Codec::Pcma, 800.0, -16.0),
            Voice::new(ANNOUNCER, Codec::Opus, 1_400.0, -20.0),
        ];
        for _ in 0..150 {
            for voice in &mut voices {
                assert!(s.leg.handle_link_rtp(s.now, &voice.next()));
            }
            s.step();
        }
        let heard = s.heard(codec);
        let settled = &heard[8_000 / 5..];
        for (hz, dbfs) in [(400.0, -16.0), (800.0, -16.0), (1_400.0, -20.0)] {
            assert!(detect::presence(settled, 8_000, hz) > 0.99, "{hz} in {codec:?}");
            assert!((level(settled, hz) - dbfs).abs() < 1.5, "{hz} in {codec:?}: {}", level(settled, hz));
        }
        assert!(level(settled, 1_000.0) < -56.0);
    }
}

#[test]
fn packets_leave_every_twenty_milliseconds_without_holes_whatever_comes() {
    let mut s = Story::connected(Codec::Pcmu);
    s.steps(100);
    assert_eq!(s.sent.len(), 100);
    for (n, (at, bytes)) in s.sent.iter().enumerate() {
        let p = RtpPacket::parse(bytes).unwrap();
        assert_eq!(*at, ms(n as u64 * 20));
        assert_eq!(p.sequence(), 0xfff0u16.wrapping_add(n as u16));
        assert_eq!(p.timestamp(), 0xffff_f000u32.wrapping_add(n as u32 * 160));
        assert_eq!((p.marker(), p.payload_type(), p.ssrc()), (n == 0, 0, 0xabc));
        assert!(p.payload().iter().all(|b| *b == 0xff), "silence");
    }
}

#[test]
fn a_late_thread_leaves_a_gap_in_time_and_none_in_the_numbers() {
    let mut s = Story::connected(Codec::Pcmu);
    s.steps(5);
    s.now += ms(1_000);
    s.steps(5);
    let packets: Vec<_> = s.sent.iter().map(|(_, b)| RtpPacket::parse(b).unwrap()).collect();
    assert!(packets.len() <= 11, "{}", packets.len());
    let (last, first) = (packets[packets.len() - 1], packets[0]);
    assert_eq!(usize::from(last.sequence().wrapping_sub(first.sequence())), packets.len() - 1);
    assert!((1_150 * 8..1_250 * 8).contains(&last.timestamp().wrapping_sub(first.timestamp())));
}

#[test]
fn the_room_gets_the_carriers_bytes_with_their_level() {
    let mut s = Story::connected(Codec::Pcmu);
    let pcm = tone::sine(1_000.0, -20.0, 8_000, 1_000);
    for frame in pcm.chunks(160) {
        let mut payload = [0; 160];
        g711::encode_pcmu(frame, &mut payload);
        assert!(matches!(s.carrier_audio(&payload), TrunkInput::Forward(_)));
        let linked = RtpPacket::parse(s.linked.last().unwrap()).unwrap();
        assert_eq!(linked.payload(), payload);
        assert_eq!((linked.ssrc(), linked.payload_type()), (LINK_SSRC, 0));
        s.step();
    }
    let middle = RtpPacket::parse(&s.linked[25]).unwrap();
    let loudness = middle.audio_level(1).unwrap();
    assert!(loudness.voice && (22..=24).contains(&loudness.minus_dbov), "{loudness:?}");
    let steps: Vec<_> = s
        .linked
        .windows(2)
        .map(|w| {
            let (a, b) = (RtpPacket::parse(&w[0]).unwrap(), RtpPacket::parse(&w[1]).unwrap());
            (b.sequence().wrapping_sub(a.sequence()), b.timestamp().wrapping_sub(a.timestamp()))
        })
        .collect();
    assert!(steps.iter().all(|s| *s == (1, 160)));
    assert_eq!(s.events, [MediaEvent::FirstPacket]);
}

#[test]
fn rtp_from_elsewhere_is_dropped_by_name() {
    let mut s = Story::connected(Codec::Pcmu);
    let header = RtpHeader { payload_type: 0, sequence: 1, timestamp: 0, ssrc: 1, marker: false };
    let silence = [0xff; 160];
    let drop = |reason| TrunkInput::Dropped(reason);
    let stranger = "198.51.100.1:4000".parse().unwrap();
    assert_eq!(s.carrier_sends(stranger, header, &silence), drop(DropReason::ForeignAddress));
    let other_type = RtpHeader { payload_type: 8, ..header };
    assert_eq!(s.carrier_sends(carrier(), other_type, &silence), drop(DropReason::PayloadType));
    assert_eq!(s.carrier_sends(carrier(), RtpHeader { payload_type: 13, ..header }, &[9]), drop(DropReason::Payload));
    assert_eq!(s.leg.handle_trunk_rtp(ms(0), carrier(), b"nonsense", &mut [0; 99]), drop(DropReason::NotRtp));
    assert_eq!(s.carrier_sends(carrier(), header, &[]), drop(DropReason::Payload));
    // The port behind a NAT is learned from the first valid packet, then no other port of that host is heard.
    let mut t = Story::connected(Codec::Pcmu);
    let natted = SocketAddr::new(carrier().ip(), 5_004);
    assert!(matches!(t.carrier_sends(natted, header, &silence), TrunkInput::Forward(_)));
    assert_eq!(t.carrier_sends(carrier(), header, &silence), drop(DropReason::ForeignPort));
    let mut buffer = [0; 1_500];
    let Some(Output::TrunkRtp { to, .. }) = t.leg.poll_output(ms(0), &mut buffer) else { panic!() };
    assert_eq!(to, natted);
    assert_eq!(leg().handle_trunk_rtp(ms(0), carrier(), &[], &mut []), drop(DropReason::NoRemote));
}

#[test]
fn a_key_press_is_one_event_and_leaves_no_hole_in_the_rooms_numbers() {
    let mut s = Story::connected(Codec::Pcmu);
    let silence = [0xff; 160];
    s.carrier_audio(&silence);
    s.step();
    let at = u32::from(s.sequence + 1) * 160;
    for (duration, end) in [(160, false), (320, false), (480, false), (800, true), (800, true), (800, true)] {
        assert_eq!(s.carrier_digit(at, duration, end), TrunkInput::Used);
        s.step();
    }
    s.carrier_audio(&silence);
    s.step();
    assert_eq!(s.events, [MediaEvent::FirstPacket, MediaEvent::Digit(Digit { key: '8', duration_ms: 100 })]);
    let numbers: Vec<_> = s.linked.iter().map(|p| RtpPacket::parse(p).unwrap().sequence()).collect();
    assert_eq!(numbers[1].wrapping_sub(numbers[0]), 1);
}

#[test]
fn a_carrier_without_events_is_understood_by_its_tones() {
    let mut s = Story::connected(Codec::Pcmu);
    s.leg.set_remote(s.now, RemoteMedia { send_events: None, receive_events: None, ..remote(Codec::Pcmu) });
    let mut pcm = Vec::new();
    for key in ['3', '#'] {
        pcm.extend(tone::dtmf(key, -12.0, 8_000, 100).unwrap());
        pcm.extend([0; 800]);
    }
    for frame in pcm.chunks(160) {
        let mut payload = [0; 160];
        g711::encode_pcmu(frame, &mut payload);
        s.carrier_audio(&payload);
        s.step();
    }
    let keys: Vec<_> =
        s.events.iter().filter_map(|e| if let MediaEvent::Digit(d) = e { Some(d.key) } else { None }).collect();
    assert_eq!(keys, ['3', '#']);
    s.sent.clear();
    s.leg.send_digits("7", 100).unwrap();
    s.steps(20);
    assert_eq!(offhook_media::dtmf::digits_in(&s.heard(Codec::Pcmu), 8_000), "7");
}

#[test]
fn digits_leave_as_events_in_the_stream_of_the_voice() {
    let mut s = Story::connected(Codec::Pcmu);
    s.leg.send_digits("4#", 100).unwrap();
    s.steps(40);
    let mut pressed = Vec::new();
    for (_, bytes) in &s.sent {
        let p = RtpPacket::parse(bytes).unwrap();
        if p.payload_type() == 101 {
            pressed.push((p.timestamp(), p.marker(), TelephoneEvent::parse(p.payload()).unwrap()));
        }
    }
    let starts: Vec<_> = pressed.iter().filter(|p| p.1).map(|p| p.0).collect();
    assert_eq!(starts.len(), 2);
    for (start, key) in starts.iter().zip(['4', '#']) {
        let own: Vec<_> = pressed.iter().filter(|p| p.0 == *start).map(|p| p.2).collect();
        assert!(own.iter().all(|e| e.key() == Some(key)));
        assert_eq!(own.iter().filter(|e| e.end && e.duration == 800).count(), 3);
    }
    let numbers: Vec<_> = s.sent.iter().map(|(_, b)| RtpPacket::parse(b).unwrap().sequence()).collect();
    assert!(numbers.windows(2).all(|w| w[1].wrapping_sub(w[0]) == 1));
}

#[test]
fn a_held_telephone_hears_the_prompt_and_is_not_heard() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut voice = Voice::new(SLOTS[0], Codec::Opus, 1_000.0, -16.0);
    s.leg.set_held(true);
    for _ in 0..150 {
        s.leg.handle_link_rtp(s.now, &voice.next());
        assert_eq!(s.carrier_audio(&[0x80; 160]), TrunkInput::Used);
        s.step();
    }
    let held = s.heard(Codec::Pcmu);
    assert!(detect::presence(&held, 8_000, 440.0) > 0.95, "the loop runs on");
    assert!(level(&held, 1_000.0) < -56.0);
    s.leg.set_held(false);
    s.sent.clear();
    for _ in 0..100 {
        s.leg.handle_link_rtp(s.now, &voice.next());
        s.step();
    }
    let back = s.heard(Codec::Pcmu);
    assert!(level(&back, 1_000.0) > -18.0 && level(&back, 440.0) < -56.0);
}

#[test]
fn an_sdp_that_says_inactive_stops_our_packets_and_the_watch() {
    let mut s = Story::connected(Codec::Pcmu);
    s.steps(10);
    s.leg.set_remote(s.now, RemoteMedia { sends: false, receives: false, ..remote(Codec::Pcmu) });
    s.sent.clear();
    s.steps(3_000);
    assert!(s.sent.is_empty());
    assert!(!s.events.contains(&MediaEvent::MediaLost));
    s.leg.set_remote(s.now, remote(Codec::Pcmu));
    s.steps(5);
    assert_eq!(s.sent.len(), 5);
    assert!(RtpPacket::parse(&s.sent[0].1).unwrap().marker());
}

#[test]
fn media_that_stops_for_good_is_noticed_once() {
    let mut s = Story::connected(Codec::Pcmu);
    s.carrier_audio(&[0xff; 160]);
    s.steps(29_000 / 20);
    assert!(!s.events.contains(&MediaEvent::MediaLost));
    s.steps(3_000 / 20);
    s.steps(60_000 / 20);
    assert_eq!(s.events.iter().filter(|e| **e == MediaEvent::MediaLost).count(), 1);
}

#[test]
fn the_watch_goes_on_after_a_carriers_hold() {
    let lost = |s: &Story| s.events.contains(&MediaEvent::MediaLost);
    for pause in [
        RemoteMedia { sends: false, receives: false, ..remote(Codec::Pcmu) },
        RemoteMedia { sends: true, receives: false, ..remote(Codec::Pcmu) },
    ] {
        let mut s = Story::connected(Codec::Pcmu);
        s.carrier_audio(&[0xff; 160]);
        s.leg.set_remote(s.now, pause);
        s.steps(60_000 / 20);
        s.leg.set_remote(s.now, remote(Codec::Pcmu));
        s.steps(29_000 / 20);
        assert!(!lost(&s), "the time begins anew with the resumption");
        s.steps(3_000 / 20);
        assert!(lost(&s), "a carrier that resumed and sends nothing is noticed");
    }
    // Answered while the SDP says that nothing comes: watched from the SDP on that says otherwise.
    let mut s = Story { leg: leg(), ..Story::connected(Codec::Pcmu) };
    s.leg.set_remote(s.now, RemoteMedia { receives: false, ..remote(Codec::Pcmu) });
    s.leg.answered(s.now);
    s.steps(60_000 / 20);
    assert!(!lost(&s));
    s.leg.set_remote(s.now, remote(Codec::Pcmu));
    s.steps(32_000 / 20);
    assert!(lost(&s));
}

#[test]
fn reports_go_both_ways_and_a_goodbye_is_last() {
    use offhook_wire_rtp::rtcp::{Compound, RtcpPacket, RtcpWriter};
    let mut s = Story::connected(Codec::Pcmu);
    for _ in 0..400 {
        s.carrier_audio(&[0xff; 160]);
        s.step();
    }
    assert_eq!(s.reports.len(), 2, "after 2.5 and 7.5 s");
    let compound = Compound::parse(&s.reports[1]).unwrap();
    let Some(RtcpPacket::SenderReport(report)) = compound.packets().next() else { panic!() };
    assert_eq!((report.ssrc, report.info.packet_count), (0xabc, 376));
    let block = report.reports().next().unwrap();
    assert_eq!((block.ssrc, block.cumulative_lost), (0x5555, 0));
    // The carrier answers 40 ms later, having kept it for 10 ms.
    let judged = offhook_wire_rtp::rtcp::ReportBlock {
        ssrc: 0xabc,
        last_sr: report.info.ntp.middle(),
        delay_since_last_sr: 655,
        ..Default::default()
    };
    let mut buffer = [0; 200];
    let length = RtcpWriter::new(&mut buffer).receiver_report(0x5555, &[judged]).finish().unwrap();
    let from = "192.0.2.10:4001".parse().unwrap();
    assert_eq!(s.leg.handle_trunk_rtcp(ms(7_540), from, &buffer[..length]), TrunkInput::Used);
    let round_trip = s.leg.report().round_trip_ms.unwrap();
    assert!((25.0..35.0).contains(&round_trip), "{round_trip}");
    s.leg.close();
    s.pump();
    let last = Compound::parse(s.reports.last().unwrap()).unwrap();
    assert!(last.packets().any(|p| matches!(p, RtcpPacket::Goodbye(_))));
    assert_eq!(s.leg.poll_timeout(), None);
}

#[test]
fn the_sfu_learns_within_seconds_that_its_announcement_arrived() {
    use offhook_wire_rtp::rtcp::{Compound, RtcpPacket};
    let mut s = Story::connected(Codec::Pcmu);
    let mut announcer = Voice::new(ANNOUNCER, Codec::Pcmu, 1_400.0, -20.0);
    for _ in 0..10 {
        s.leg.handle_link_rtp(s.now, &announcer.next());
        s.step();
    }
    s.steps(100);
    assert_eq!(s.receipts.len(), 1);
    let compound = Compound::parse(&s.receipts[0]).unwrap();
    let Some(RtcpPacket::ReceiverReport(report)) = compound.packets().next() else { panic!() };
    let block = report.reports().next().unwrap();
    assert_eq!((report.ssrc, block.ssrc, block.highest_sequence & 0xffff), (LINK_SSRC, ANNOUNCER, 8));
    assert_eq!(report.reports().len(), 1, "nothing about lines that were silent");
    s.steps(500);
    assert_eq!(s.receipts.len(), 1);
}

#[test]
fn a_carrier_that_changes_its_stream_goes_on_in_the_room() {
    let mut s = Story::connected(Codec::Pcmu);
    let silence = [0xff; 160];
    for _ in 0..10 {
        s.carrier_audio(&silence);
        s.step();
    }
    let header = RtpHeader { payload_type: 0, sequence: 7, timestamp: 0x9000_0000, ssrc: 0x9999, marker: true };
    s.now += ms(500);
    s.carrier_sends(carrier(), header, &silence);
    let n = s.linked.len();
    let before = RtpPacket::parse(&s.linked[n - 2]).unwrap();
    let after = RtpPacket::parse(&s.linked[n - 1]).unwrap();
    assert_eq!(after.sequence().wrapping_sub(before.sequence()), 1);
    assert_eq!(after.timestamp().wrapping_sub(before.timestamp()), 520 * 8);
}

#[test]
fn garbage_from_both_sides_changes_nothing() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut state = 11u32;
    for n in 0..20_000 {
        let bytes: Vec<u8> = (0..state % 80)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let mut bytes = if n % 2 == 0 {
            packet(RtpHeader { ssrc: SLOTS[0], payload_type: 111, ..Default::default() }, &bytes)
        } else {
            bytes
        };
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x3f) | 0x80;
        }
        let mut out = [0; 1_500];
        s.leg.handle_trunk_rtp(s.now, carrier(), &bytes, &mut out);
        s.leg.handle_trunk_rtcp(s.now, "192.0.2.10:4001".parse().unwrap(), &bytes);
        s.leg.handle_link_rtp(s.now, &bytes);
        if n % 4 == 0 {
            s.step();
        }
        state = state.wrapping_add(n);
    }
    assert!(s.sent.len() >= 5_000);
}
