//! Bounds, line ends, header forms, builders and refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sip::*;
use std::net::SocketAddr;

const SOURCE: &str = "198.51.100.20:5080";

fn options(extra: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:gw@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9:5061;branch=z9hG4bKa;rport\r\n\
         Via: SIP/2.0/UDP p.example.com;branch=z9hG4bKb, SIP/2.0/TCP q.example.com\r\n\
         From: \"A \\\"q\\\" B\" <sip:a@10.0.0.9>;tag=f1\r\nTo: <sip:gw@192.0.2.1>\r\nCall-ID: c1@10.0.0.9\r\n\
         CSeq: 2 OPTIONS\r\n{extra}\r\n"
    )
    .into_bytes()
}

fn source() -> SocketAddr {
    SOURCE.parse().unwrap()
}

fn refuses(bytes: &[u8]) -> ParseError {
    Message::parse(bytes).unwrap_err()
}

#[test]
fn everything_is_bounded() {
    assert_eq!(refuses(&vec![b'x'; MAX_BYTES + 1]), ParseError::TooLarge);
    assert_eq!(refuses(&options(&format!("X: {}\r\n", "y".repeat(MAX_LINE_BYTES)))), ParseError::LineTooLong);
    assert_eq!(refuses(&options(&format!("X: y\r\n{}", " z\r\n".repeat(MAX_LINE_BYTES)))), ParseError::LineTooLong);
    assert_eq!(refuses(&options(&"X: y\r\n".repeat(MAX_HEADERS))), ParseError::TooManyHeaders);
    let vias = format!("v: {}SIP/2.0/UDP h\r\n", "SIP/2.0/UDP h,".repeat(200));
    assert_eq!(refuses(&options(&vias)), ParseError::TooManyValues(Name::Via));
    assert_eq!(ParseError::TooLarge.response_code(), 513);
}

#[test]
fn line_ends_and_control_characters_are_strict() {
    assert_eq!(refuses(&options("X: a\nY: b\r\n")), ParseError::BareLineEnd);
    assert_eq!(refuses(&options("X: a\rb\r\n")), ParseError::BareLineEnd);
    assert_eq!(refuses(&options("X: a\0b\r\n")), ParseError::ControlCharacter);
    assert_eq!(refuses(&options("Subject: \"a\0b\"\r\n")), ParseError::ControlCharacter);
    assert_eq!(refuses(&options("X: \x1b[31m\r\n")), ParseError::ControlCharacter);
    assert_eq!(refuses(b"OPTIONS sip:a SIP/2.0\r\nX: y\r\n"), ParseError::NoEndOfHeaders);
    assert_eq!(refuses(b"OPTIONS sip:a SIP/2.0\nX: y\n\n"), ParseError::BareLineEnd);
    assert_eq!(refuses(b"\r\n\r\n"), ParseError::KeepAlive);
    assert_eq!(refuses(b""), ParseError::KeepAlive);
    assert_eq!(refuses(b"\x00\x01\x00\x08!\x12\xa4B"), ParseError::NoEndOfHeaders);
    let mut latin = options("Subject: x\r\n");
    let at = latin.iter().position(|&b| b == b'x').unwrap();
    latin[at] = 0xe9;
    assert_eq!(refuses(&latin), ParseError::NotUtf8);
    assert!(Message::parse(&[b"\r\n\r\n".as_slice(), &options("")].concat()).is_ok());
}

#[test]
fn header_names_have_one_meaning_in_all_their_forms() {
    let value = "<sip:evil@example.com>";
    for form in ["P-Asserted-Identity", "p-asserted-identity", "P-Asserted-Identity ", "P-Asserted-Identity\t"] {
        let bytes = options(&format!("{form}: {value}\r\n"));
        assert_eq!(Message::parse(&bytes).unwrap().addresses(Name::PAssertedIdentity).count(), 1, "{form:?}");
    }
    assert_eq!(refuses(&options("P-Asserted Identity: x\r\n")), ParseError::HeaderName);
    assert_eq!(refuses(&options(": x\r\n")), ParseError::HeaderName);
    assert_eq!(refuses(&options("nonsense\r\n")), ParseError::HeaderName);
    let bytes = options("k: timer, 100rel\r\nx: 1800;refresher=uac\r\nSupported:\r\n");
    let message = Message::parse(&bytes).unwrap();
    assert!(message.lists(Name::Supported, "100REL"));
    assert_eq!(message.header(Name::SessionExpires), Some("1800;refresher=uac"));
}

#[test]
fn challenges_and_reasons_are_read() {
    let bytes = options(
        "WWW-Authenticate: Digest realm=\"a \\\"b\\\", c\", nonce=\"n,1\",\r\n  algorithm=MD5, qop=\"auth,auth-int\"\r\n\
         WWW-Authenticate: Digest realm=\"x\", realm=\"y\"\r\n\
         Reason: SIP;cause=487, Q.850 ;cause=17;text=\"User busy\"\r\n\
         Retry-After: 120 (later);duration=3600\r\n",
    );
    let message = Message::parse(&bytes).unwrap();
    let challenges: Vec<_> = message.auth(Name::WwwAuthenticate).collect();
    assert_eq!(challenges.len(), 1, "a parameter given twice spoils a challenge");
    assert!(challenges[0].is_digest());
    assert_eq!(challenges[0].get("REALM").unwrap(), "a \"b\", c");
    assert_eq!(challenges[0].get("qop").unwrap(), "auth,auth-int");
    let q850: Vec<_> = message.reasons().filter_map(|reason| reason.q850()).collect();
    assert_eq!(q850, [17]);
    assert_eq!(message.retry_after_s(), Some(120));
    assert_eq!(quote("a\"\\b\r\n"), "\"a\\\"\\\\b\"");
}

#[test]
fn a_response_copies_what_the_request_brought_and_tells_the_source() {
    let bytes = options("Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nTimestamp: 54\r\n");
    let request = Message::parse(&bytes).unwrap();
    let ok = ResponseBuilder::answering(&request, 200, source(), "t9").to_bytes().unwrap();
    let text = String::from_utf8(ok.clone()).unwrap();
    assert!(text.starts_with(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.9:5061;branch=z9hG4bKa;received=198.51.100.20;rport=5080\r\n\
         Via: SIP/2.0/UDP p.example.com;branch=z9hG4bKb\r\nVia: SIP/2.0/TCP q.example.com\r\n"
    ));
    let response = Message::parse(&ok).unwrap();
    assert_eq!((response.to().tag(), response.from().tag()), (Some("t9"), Some("f1")));
    assert_eq!(response.record_routes().len(), 2);
    assert!(!text.contains("Timestamp"));
    let trying = ResponseBuilder::answering(&request, 100, source(), "t9").to_bytes().unwrap();
    let trying = Message::parse(&trying).unwrap();
    assert_eq!((trying.to().tag(), trying.header(Name::Timestamp)), (None, Some("54")));
    assert_eq!(request.via().response_address(source()), source());
    let plain = options("").replace_first(";rport", "");
    let plain = Message::parse(&plain).unwrap();
    assert_eq!(plain.via().response_address(source()), "198.51.100.20:5061".parse().unwrap());
}

trait ReplaceFirst {
    fn replace_first(&self, from: &str, to: &str) -> Vec<u8>;
}

impl ReplaceFirst for Vec<u8> {
    fn replace_first(&self, from: &str, to: &str) -> Vec<u8> {
        String::from_utf8(self.clone()).unwrap().replacen(from, to, 1).into_bytes()
    }
}

#[test]
fn nothing_from_outside_can_add_a_line() {
    let invite = || RequestBuilder::new(&Method::Invite, "sip:a@b");
    for bad in ["x\r\nEvil: 1", "x\nEvil: 1", "x\rEvil", "x\0", "\\\r\nEvil: 1"] {
        assert_eq!(invite().header(Name::Subject, bad).to_bytes(), Err(BuildError::Control("Subject".into())));
        assert!(invite().other("X-A", bad).to_bytes().is_err());
        assert!(ResponseBuilder::bare(200, bad).to_bytes().is_err());
        assert!(invite().to_bytes_with(bad, b"x").is_err());
    }
    assert_eq!(invite().other("X A", "1").to_bytes(), Err(BuildError::HeaderName("X A".into())));
    assert_eq!(RequestBuilder::new(&Method::Invite, "sip:a b").to_bytes(), Err(BuildError::Uri));
    assert_eq!(RequestBuilder::new(&Method::Other("A B".into()), "sip:a").to_bytes(), Err(BuildError::Uri));
    assert_eq!(ResponseBuilder::bare(99, "x").to_bytes(), Err(BuildError::Code(99)));
    assert_eq!(invite().to_bytes_with("a/b", &vec![0; MAX_BYTES]), Err(BuildError::TooLarge));
}

#[test]
fn a_broken_request_is_refused_with_its_code_and_a_broken_response_is_not_answered() {
    let refused = |bytes: &[u8]| {
        let error = refuses(bytes);
        refusal(bytes, &error, source(), "srv").map(|(bytes, to)| {
            assert_eq!(to, source());
            let response = Message::parse(&bytes).unwrap();
            assert_eq!((response.call_id(), response.to().tag()), ("c1@10.0.0.9", Some("srv")));
            response.code().unwrap()
        })
    };
    assert_eq!(refused(&options("Content-Length: 99\r\n")), Some(400));
    assert_eq!(refused(&options("").replace_first("SIP/2.0", "SIP/3.0")), Some(505));
    assert_eq!(refused(&options("").replace_first("OPTIONS", "INVITE")), Some(400));
    assert_eq!(refused(&options(&format!("X: {}\r\n", "y".repeat(9000)))), Some(513));
    assert_eq!(refused(&options("").replace_first("OPTIONS", "ACK")), None);
    let response =
        options("Content-Length: 99\r\n").replace_first("OPTIONS sip:gw@192.0.2.1 SIP/2.0", "SIP/2.0 200 OK");
    assert_eq!(refused(&response), None);
    assert_eq!(refused(b"\x16\x03\x01\x00\xff"), None);
    assert_eq!(refused(&options("").replace_first("CSeq: 2 OPTIONS\r\n", "")), None);
}

#[test]
fn v6_everywhere_as_rfc_5118_writes_it() {
    let bytes = options("Contact: <sip:user@[2001:db8::9:1]:5060;lr>\r\n").replace_first(
        "10.0.0.9:5061;branch=z9hG4bKa;rport",
        "[2001:db8::9:1]:6050;received=[2001:db8::9:255];branch=z9hG4bKas3",
    );
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.via().received(), "2001:db8::9:255".parse().ok());
    assert_eq!(message.via().port, Some(6050));
    let source = "[2001:db8::9:255]:7000".parse().unwrap();
    assert_eq!(
        message.via().echoed_from(source),
        "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3;received=2001:db8::9:255"
    );
    assert_eq!(message.via().response_address(source), "[2001:db8::9:255]:6050".parse().unwrap());
}
