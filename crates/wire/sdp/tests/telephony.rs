//! Offer and answer with a trunk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sdp::telephony::*;
use offhook_wire_sdp::{Direction, SdpError};

const CARRIER: &str = include_str!("../seeds/telephony/carrier-offer.sdp");
const SEVERAL: &str = include_str!("../seeds/telephony/several-lines.sdp");
const HOLD_V6: &str = include_str!("../seeds/telephony/hold-v6.sdp");
const OLD_HOLD: &str = include_str!("../seeds/telephony/old-hold.sdp");

fn ours() -> AudioSession {
    AudioSession::new("192.0.2.1".parse().unwrap(), 30_000, &[Codec::Pcmu, Codec::Pcma])
}

fn read(text: &str) -> Description {
    Description::parse(text).unwrap()
}

#[test]
fn a_carriers_offer_is_answered_with_its_first_codec_we_know_and_its_numbers() {
    let offer = read(&CARRIER.replace("101", "96"));
    let (answer, agreed) = negotiate(&offer, &ours()).unwrap();
    assert_eq!(agreed.send, Format { number: 8, codec: Codec::Pcma });
    assert_eq!((agreed.send_events, agreed.receive_events), (Some(96), Some(96)));
    assert_eq!(agreed.remote, "198.51.100.9:16400".parse().unwrap());
    assert_eq!((agreed.direction, agreed.held_by_remote, agreed.ptime_ms), (Direction::SendRecv, false, 20));
    let text = LocalDescription::new(7).answer(&offer, &answer);
    assert!(text.contains("m=audio 30000 RTP/AVP 8 96\r\n"), "{text}");
    assert!(text.contains("a=rtpmap:96 telephone-event/8000\r\na=fmtp:96 0-15\r\n"));
}

#[test]
fn reports_go_where_the_offer_says_but_never_to_a_third_host() {
    for (line, rtcp) in [
        ("", "198.51.100.9:16401"),
        ("a=rtcp:17000\r\n", "198.51.100.9:17000"),
        ("a=rtcp:17000 IN IP4 198.51.100.9\r\n", "198.51.100.9:17000"),
        ("a=rtcp:17000 IN IP4 203.0.113.1\r\n", "198.51.100.9:16401"),
    ] {
        let (_, agreed) = negotiate(&read(&format!("{CARRIER}{line}")), &ours()).unwrap();
        assert_eq!(agreed.remote_rtcp, rtcp.parse().unwrap(), "{line}");
    }
}

#[test]
fn our_offer_and_their_answer_may_number_events_differently() {
    let mut local = LocalDescription::new(9);
    let offer = local.offer(&ours());
    assert!(offer.contains("m=audio 30000 RTP/AVP 0 8 101\r\n"));
    let answer = read(&CARRIER.replace("8 0 18 101", "8 96").replace(":101", ":96"));
    let agreed = accept_answer(&ours(), &answer).unwrap();
    assert_eq!(agreed.send.codec, Codec::Pcma);
    assert_eq!(agreed.receive, [Format { number: 8, codec: Codec::Pcma }]);
    assert_eq!((agreed.send_events, agreed.receive_events), (Some(96), Some(101)));
}

#[test]
fn an_answer_with_two_codecs_sends_the_first_and_hears_both() {
    let answer = read(&CARRIER.replace("8 0 18 101", "0 8"));
    let agreed = accept_answer(&ours(), &answer).unwrap();
    assert_eq!(agreed.send.codec, Codec::Pcmu);
    assert_eq!(agreed.receive.len(), 2);
    assert_eq!(agreed.send_events, None);
}

#[test]
fn lines_we_do_not_take_are_declined_in_place() {
    let offer = read(SEVERAL);
    assert_eq!(offer.audio().unwrap().0, 1, "the plain line is preferred to the encrypted one");
    let (answer, agreed) = negotiate(&offer, &ours()).unwrap();
    assert_eq!(agreed.remote.port(), 4002);
    let text = LocalDescription::new(7).answer(&offer, &answer);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        ["m=audio 0 RTP/SAVP 0 8", "m=audio 30000 RTP/AVP 0 101", "m=video 0 RTP/AVP 96", "m=image 0 udptl t38"]
    );
}

#[test]
fn hold_is_seen_in_all_its_forms() {
    let v6 = AudioSession::new("2001:db8::1".parse().unwrap(), 30_000, &[Codec::Pcmu]);
    let (answer, agreed) = negotiate(&read(HOLD_V6), &v6).unwrap();
    assert!(agreed.held_by_remote && !agreed.direction.sends());
    assert_eq!(answer.direction, Direction::RecvOnly);
    assert!(LocalDescription::new(1).answer(&read(HOLD_V6), &answer).contains("c=IN IP6 2001:db8::1\r\n"));

    let (answer, agreed) = negotiate(&read(OLD_HOLD), &ours()).unwrap();
    assert!(agreed.held_by_remote && !agreed.direction.sends() && agreed.direction.receives());
    assert_eq!(answer.direction, Direction::SendRecv);

    let inactive = CARRIER.replace("a=ptime", "a=inactive\r\na=ptime");
    let (answer, agreed) = negotiate(&read(&inactive), &ours()).unwrap();
    assert_eq!((answer.direction, agreed.held_by_remote), (Direction::Inactive, true));
    assert_eq!(accept_answer(&ours(), &read(&inactive)).unwrap().direction, Direction::Inactive);
}

#[test]
fn the_version_grows_only_with_the_content() {
    let mut local = LocalDescription::new(5);
    let first = local.offer(&ours());
    assert_eq!((local.offer(&ours()), local.version()), (first.clone(), 1));
    assert_eq!(local.last(), Some(first));
    let held = AudioSession { direction: Direction::SendOnly, ..ours() };
    assert!(local.offer(&held).contains("o=- 2 2 IN IP4 192.0.2.1\r\n"));
    assert_eq!(local.version(), 2);
}

#[test]
fn profiles_other_than_avp_are_refused_by_their_name() {
    for (name, error) in [
        ("RTP/SAVP", NegotiateError::SecureOrFeedbackProfile("RTP/SAVP".into())),
        ("RTP/AVPF", NegotiateError::SecureOrFeedbackProfile("RTP/AVPF".into())),
        ("UDP/TLS/RTP/SAVPF", NegotiateError::SecureOrFeedbackProfile("UDP/TLS/RTP/SAVPF".into())),
        ("TCP/MRCPv2", NegotiateError::UnknownProfile("TCP/MRCPv2".into())),
    ] {
        let offer = read(&CARRIER.replace("RTP/AVP", name));
        assert_eq!(negotiate(&offer, &ours()).unwrap_err(), error);
        assert_eq!(error.response_code(), 488);
    }
}

#[test]
fn descriptions_that_do_not_meet_say_why() {
    let cases = [
        (CARRIER.replace("m=audio", "m=video"), NegotiateError::NoAudio),
        (CARRIER.replace("16400", "0"), NegotiateError::AudioRefused),
        (CARRIER.replace("RTP/AVP 8 0 18 101", "RTP/AVP 18"), NegotiateError::NoCommonCodec),
        (CARRIER.replace("RTP/AVP 8 0 18 101", "RTP/AVP 101"), NegotiateError::NoCommonCodec),
        (HOLD_V6.to_owned(), NegotiateError::AddressFamily),
    ];
    for (text, error) in cases {
        assert_eq!(negotiate(&read(&text), &ours()).unwrap_err(), error);
    }
    assert_eq!(
        accept_answer(&ours(), &read(SEVERAL)).unwrap_err(),
        NegotiateError::LineCount { offered: 1, answered: 4 }
    );
    let only_pcma = AudioSession::new("192.0.2.1".parse().unwrap(), 1, &[Codec::Pcma]);
    let pcmu = read(&CARRIER.replace("8 0 18 101", "0"));
    assert_eq!(accept_answer(&only_pcma, &pcmu).unwrap_err(), NegotiateError::NotOffered);
}

#[test]
fn broken_descriptions_are_refused_by_name() {
    let cases = [
        ("o=carrier 20 20", "o=carrier 20 -1", SdpError::MalformedLine('o')),
        ("o=carrier 20 20", "o=carrier x 20", SdpError::MalformedLine('o')),
        ("c=IN IP4 198.51.100.9", "c=IN IP4 198.51.100.999", SdpError::MalformedLine('c')),
        ("c=IN IP4 198.51.100.9", "c=IN IP6 198.51.100.9", SdpError::MalformedLine('c')),
        ("c=IN IP4 198.51.100.9", "c=IN IP4 224.2.1.1/127", SdpError::MalformedLine('c')),
        ("c=IN IP4 198.51.100.9\r\n", "", SdpError::MissingLine('c')),
        ("a=rtpmap:8 PCMA/8000", "a=rtpmap:8 PCMA", SdpError::MalformedAttribute("rtpmap")),
        ("a=rtpmap:8 PCMA/8000", "a=rtpmap:300 PCMA/8000", SdpError::MalformedAttribute("rtpmap")),
        ("a=ptime:20", "a=rtcp:0", SdpError::MalformedAttribute("rtcp")),
        ("a=ptime:20", "a=ptime:-20", SdpError::MalformedAttribute("ptime")),
        ("8 0 18", "8 8 18", SdpError::MalformedLine('m')),
    ];
    for (from, to, error) in cases {
        assert_eq!(Description::parse(&CARRIER.replacen(from, to, 1)).unwrap_err(), error, "{to}");
    }
    assert_eq!(Description::parse_bytes(b"v=0\r\n\xff").unwrap_err(), SdpError::NotText);
    let many = format!("{CARRIER}{}", "m=video 1 RTP/AVP 96\r\n".repeat(500));
    assert_eq!(Description::parse(&many).unwrap_err(), SdpError::TooManyMedia);
}
