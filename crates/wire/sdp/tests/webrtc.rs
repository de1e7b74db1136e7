//! A browser's offer is read and answered; what cannot be answered is refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sdp::webrtc::*;
use offhook_wire_sdp::{Direction, SdpError};

const SLOTS: &str = include_str!("../seeds/webrtc/chromium-slots.sdp");
const MIXED: &str = include_str!("../seeds/webrtc/audio-video-data.sdp");
const FIREFOX: &str = include_str!("../seeds/webrtc/firefox-session-level.sdp");

fn plan(lines: Vec<LinePlan>) -> AnswerPlan {
    AnswerPlan {
        session_id: 42,
        session_version: 1,
        ice: IceCredentials::new("srvufrag", "srvpwdsrvpwdsrvpwdsrvpwd").unwrap(),
        fingerprint: Fingerprint([0xAB; 32]),
        candidates: vec!["192.0.2.10:40000".parse().unwrap(), "[2001:db8::10]:40000".parse().unwrap()],
        lines,
    }
}

fn slots_plan(offer: &Offer) -> AnswerPlan {
    let lines = offer.media.iter().enumerate().map(|(i, line)| {
        let payloads = line.choose(&AudioCodec::ALL);
        if line.direction.sends() {
            return LinePlan::Receive { payloads };
        }
        LinePlan::Send {
            payloads,
            ssrc: 9000 + i as u32,
            cname: "offhook".into(),
            stream: format!("slot{i}"),
            track: format!("track{i}"),
        }
    });
    plan(lines.collect())
}

#[test]
fn chromiums_join_offer_is_read_line_by_line() {
    let offer = Offer::parse(SLOTS).unwrap();
    assert_eq!(offer.ice.ufrag, "hJx9");
    assert_eq!(offer.setup, Setup::ActPass);
    assert_eq!(offer.bundle, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(offer.fingerprint.0[0], 11);
    let mic = &offer.media[0];
    assert_eq!((mic.direction, &mic.kind, mic.rtcp_mux), (Direction::SendOnly, &MediaKind::Audio, true));
    assert_eq!(mic.ssrcs, [Ssrc { ssrc: 3_735_928_559, cname: Some("q8Xw2".into()) }]);
    assert_eq!(mic.payload_of(AudioCodec::Opus), Some(111));
    assert_eq!(mic.payload_of(AudioCodec::Pcmu), Some(0));
    assert_eq!(mic.payloads[0].feedback, ["transport-cc"]);
    assert_eq!((mic.extmap_id(URI_AUDIO_LEVEL), mic.extmap_id(URI_MID)), (Some(1), Some(4)));
    assert!(offer.media[1..].iter().all(|line| line.direction == Direction::RecvOnly && line.ssrcs.is_empty()));
}

#[test]
fn the_answer_gives_every_slot_one_ssrc_and_all_codecs_in_our_order() {
    let offer = Offer::parse(SLOTS).unwrap();
    let answer = write_answer(&offer, &slots_plan(&offer)).unwrap();
    let parts: Vec<&str> = answer.split("m=audio").collect();
    assert_eq!(parts.len(), 7);
    assert!(parts[0].contains("a=ice-lite\r\n") && parts[0].contains("a=group:BUNDLE 0 1 2 3 4 5\r\n"));
    assert!(parts[1].contains("a=recvonly") && !parts[1].contains("a=ssrc"));
    assert!(parts[1].contains("a=candidate:1 1 udp 2130706431 192.0.2.10 40000 typ host\r\n"));
    assert!(parts[1].contains("2001:db8::10 40000 typ host\r\na=end-of-candidates"));
    for (i, slot) in parts[2..].iter().enumerate() {
        assert!(slot.starts_with(" 9 UDP/TLS/RTP/SAVPF 111 0 8\r\n"), "{slot}");
        assert_eq!(slot.matches("a=ssrc:").count(), 1);
        assert!(slot.contains(&format!("a=ssrc:{} cname:offhook\r\n", 9001 + i)));
        assert!(slot.contains(&format!("a=msid:slot{0} track{0}\r\n", i + 1)));
        assert!(slot.contains("a=sendonly") && !slot.contains("candidate"));
    }
    for part in &parts[1..] {
        assert!(part.contains("a=setup:passive\r\n") && part.contains("a=ice-ufrag:srvufrag\r\n"));
        assert!(part.contains("a=rtcp-fb:111 nack\r\n") && !part.contains("transport"));
        assert!(part.contains("a=extmap:1 urn") && part.contains("a=extmap:4 urn"));
        assert!(!part.contains("extmap:2") && !part.contains("extmap:3") && !part.contains("telephone-event"));
    }
}

#[test]
fn video_and_data_are_refused_and_leave_the_bundle() {
    let offer = Offer::parse(MIXED).unwrap();
    let audio = LinePlan::Receive { payloads: offer.media[0].choose(&AudioCodec::ALL) };
    let answer = write_answer(&offer, &plan(vec![audio, LinePlan::Refuse, LinePlan::Refuse])).unwrap();
    assert!(answer.contains("a=group:BUNDLE 0\r\n"));
    assert!(answer.contains("m=video 0 UDP/TLS/RTP/SAVPF 96 97\r\n"));
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
}

#[test]
fn a_first_line_that_is_refused_does_not_take_the_candidates_with_it() {
    let text = MIXED.replacen("m=audio", "m=AUDIO?", 1).replacen("m=video", "m=audio", 1);
    let text = text.replacen("m=AUDIO?", "m=video", 1).replacen("VP8/90000", "PCMU/8000", 1);
    let offer = Offer::parse(&text).unwrap();
    let audio = LinePlan::Receive { payloads: offer.media[1].choose(&AudioCodec::ALL) };
    let answer = write_answer(&offer, &plan(vec![LinePlan::Refuse, audio, LinePlan::Refuse])).unwrap();
    let second = answer.split("m=audio").nth(1).unwrap();
    assert!(second.starts_with(" 9 UDP/TLS/RTP/SAVPF 96") && second.contains("a=candidate:1 "));
}

#[test]
fn session_level_transport_and_other_numbers_are_understood() {
    let offer = Offer::parse(FIREFOX).unwrap();
    assert_eq!(offer.ice.ufrag, "9f2c7a1e");
    let payloads = offer.media[0].choose(&AudioCodec::ALL);
    assert_eq!(payloads.iter().map(|p| p.number).collect::<Vec<_>>(), [109, 0, 8]);
    let answer = write_answer(&offer, &plan(vec![LinePlan::Receive { payloads }])).unwrap();
    assert!(answer.contains("a=rtpmap:109 opus/48000/2\r\na=rtcp-fb:109 nack\r\n"));
    assert!(answer.contains("a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid"));
}

#[test]
fn broken_offers_are_refused_by_name() {
    let cases: [(&str, &str, SdpError); 12] = [
        ("a=group:BUNDLE 0 1 2 3 4 5\r\n", "", SdpError::NotBundled),
        ("BUNDLE 0 1", "BUNDLE 0 9", SdpError::UnknownMid("9".into())),
        ("BUNDLE 0 1", "BUNDLE 0 0", SdpError::DuplicateMid("0".into())),
        ("a=mid:1\r\n", "a=mid:0\r\n", SdpError::DuplicateMid("0".into())),
        ("a=mid:1\r\n", "", SdpError::MissingAttribute("mid")),
        ("a=setup:actpass", "a=setup:passive", SdpError::SetupPassive),
        ("a=setup:actpass\r\n", "", SdpError::MissingAttribute("setup")),
        ("sha-256", "sha-1", SdpError::NoSha256Fingerprint),
        ("sha-256 ", "sha-256 00:", SdpError::MalformedAttribute("fingerprint")),
        ("a=ice-ufrag:hJx9", "a=ice-ufrag:h", SdpError::MalformedAttribute("ice-ufrag")),
        ("a=ice-pwd:", "a=ice-pwd:é", SdpError::MalformedAttribute("ice-pwd")),
        ("a=sendonly", "a=sendonly\r\na=recvonly", SdpError::ConflictingAttribute("direction")),
    ];
    for (from, to, error) in cases {
        let text = SLOTS.replacen(from, to, 1);
        assert_ne!(text, SLOTS);
        assert_eq!(Offer::parse(&text).unwrap_err(), error, "{from:?} -> {to:?}");
    }
    assert_eq!(Offer::parse("").unwrap_err(), SdpError::MissingVersion);
}

#[test]
fn lists_inside_a_line_are_bounded() {
    let with = |extra: String| SLOTS.replacen("a=sendonly\r\n", &format!("a=sendonly\r\n{extra}"), 1);
    let ssrcs = (0..20).map(|i| format!("a=ssrc:{i} cname:x\r\n")).collect();
    let extmaps = (5..60).map(|i| format!("a=extmap:{i} urn:x\r\n")).collect();
    assert_eq!(Offer::parse(&with(ssrcs)).unwrap_err(), SdpError::TooMany { what: "ssrc", limit: MAX_SSRCS });
    assert!(matches!(Offer::parse(&with(extmaps)).unwrap_err(), SdpError::TooMany { what: "extmap", .. }));
}

#[test]
fn a_plan_that_does_not_fit_its_offer_is_refused() {
    let offer = Offer::parse(SLOTS).unwrap();
    let good = slots_plan(&offer);
    let with = |change: &dyn Fn(&mut AnswerPlan)| {
        let mut plan = good.clone();
        change(&mut plan);
        write_answer(&offer, &plan).unwrap_err()
    };
    let payloads = offer.media[0].choose(&AudioCodec::ALL);
    let send = |ssrc, track: &str| LinePlan::Send {
        payloads: payloads.clone(),
        ssrc,
        cname: "c".into(),
        stream: "s".into(),
        track: track.into(),
    };
    assert_eq!(with(&|p| drop(p.lines.pop())), AnswerError::LineCount { planned: 5, offered: 6 });
    assert_eq!(with(&|p| p.candidates.clear()), AnswerError::NoCandidate);
    assert_eq!(with(&|p| p.lines.fill(LinePlan::Refuse)), AnswerError::NothingAccepted);
    assert_eq!(with(&|p| p.lines[0] = send(1, "t")), AnswerError::Direction { mid: "0".into() });
    assert_eq!(with(&|p| p.lines[1] = send(9002, "t")), AnswerError::DuplicateSsrc { ssrc: 9002 });
    assert_eq!(with(&|p| p.lines[1] = send(1, "t\r\na=x")), AnswerError::Unwritable { what: "track" });
    let foreign = LinePlan::Receive { payloads: vec![Payload::of(AudioCodec::Opus, 9)] };
    assert_eq!(with(&|p| p.lines[0] = foreign.clone()), AnswerError::PayloadNotOffered { mid: "0".into(), number: 9 });
}

#[test]
fn our_own_answer_is_read_back_by_the_parser() {
    let offer = Offer::parse(SLOTS).unwrap();
    let answer = write_answer(&offer, &slots_plan(&offer)).unwrap().replace("setup:passive", "setup:active");
    let read = Offer::parse(&answer).unwrap();
    assert_eq!(read.ice, slots_plan(&offer).ice);
    assert_eq!(read.media[1].ssrcs, [Ssrc { ssrc: 9001, cname: Some("offhook".into()) }]);
    assert_eq!(read.media[5].direction, Direction::SendOnly);
}
