//! Properties that hold for any input; the fuzz target and the replay tests call them.

use crate::build::{RequestBuilder, ResponseBuilder};
use crate::message::{Message, StartLine};
use crate::{Name, ParseError, refusal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A message that is read, written again and read again is the same message; a response to a request is readable and
/// belongs to it; a refusal is a readable response.
///
/// # Panics
/// When the property does not hold.
pub fn message(data: &[u8]) {
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)), 5099);
    match Message::parse(data) {
        Ok(first) => {
            let written = rewrite(&first);
            let again = Message::parse(&written);
            assert!(again.is_ok(), "{again:?} after writing {:?}", String::from_utf8_lossy(&written));
            if let Ok(again) = again {
                assert_same(&first, &again);
            }
            if first.is_request() {
                check_response(&first, source);
            }
        }
        Err(error) => check_refusal(data, &error, source),
    }
}

fn rewrite(message: &Message<'_>) -> Vec<u8> {
    let values = message.headers().iter().filter(|header| header.name != Name::ContentLength);
    let empty = message.body().is_empty();
    let typed = message.header(Name::ContentType).is_some();
    let values = values.filter(|header| empty || !typed || header.name != Name::ContentType);
    let content_type = message.headers().iter().find(|header| header.name == Name::ContentType);
    let content_type = content_type.map_or("application/octet-stream".into(), |header| header.text());
    let built = match message.start() {
        StartLine::Request { method, uri } => {
            let start = RequestBuilder::new(method, uri.as_str());
            let builder = values.fold(start, |builder, header| builder.other(header.name_str(), header.text()));
            if empty { builder.to_bytes() } else { builder.to_bytes_with(&content_type, message.body()) }
        }
        StartLine::Response { code, reason } => {
            let start = ResponseBuilder::bare(*code, reason);
            let builder = values.fold(start, |builder, header| builder.other(header.name_str(), header.text()));
            if empty { builder.to_bytes() } else { builder.to_bytes_with(&content_type, message.body()) }
        }
    };
    // Canonical names are longer than compact ones, so only the size may have grown too much.
    built.unwrap_or_else(|error| {
        assert!(matches!(error, crate::BuildError::TooLarge), "{error}");
        b"OPTIONS sip:x SIP/2.0\r\n\r\n".to_vec()
    })
}

fn assert_same(first: &Message<'_>, again: &Message<'_>) {
    assert_eq!(first.start(), again.start());
    assert_eq!(first.cseq(), again.cseq());
    assert_eq!(first.call_id(), again.call_id());
    assert_eq!(first.body(), again.body());
    assert_eq!(first.from().tag(), again.from().tag());
    assert_eq!(first.to().uri, again.to().uri);
    assert_eq!(first.from().display(), again.from().display());
    assert_eq!((first.max_forwards(), first.expires()), (again.max_forwards(), again.expires()));
    assert_eq!(first.vias().len(), again.vias().len());
    for (a, b) in first.vias().iter().zip(again.vias()) {
        assert_eq!((a.host, a.port, a.branch(), a.received()), (b.host, b.port, b.branch(), b.received()));
    }
    for (a, b) in first.contacts().iter().zip(again.contacts()) {
        assert_eq!(a.uri, b.uri);
    }
}

fn check_response(request: &Message<'_>, source: SocketAddr) {
    for code in [100, 200, 486] {
        let Ok(bytes) = ResponseBuilder::answering(request, code, source, "offhook").to_bytes() else { continue };
        let response = Message::parse(&bytes);
        assert!(response.is_ok() || bytes.len() > 60_000, "{response:?} to {:?}", String::from_utf8_lossy(&bytes));
        if let Ok(response) = response {
            assert_eq!(response.code(), Some(code));
            assert_eq!(response.via().branch(), request.via().branch());
            assert_eq!(response.cseq(), request.cseq());
            assert_eq!(response.vias().len(), request.vias().len());
            assert!(code == 100 || response.to().tag().is_some() || request.to().params.get("tag").is_some());
        }
    }
}

fn check_refusal(data: &[u8], error: &ParseError, source: SocketAddr) {
    let Some((bytes, to)) = refusal(data, error, source, "offhook") else { return };
    assert_eq!(to.ip(), source.ip(), "a refusal goes nowhere else than to its source");
    assert!(bytes.starts_with(b"SIP/2.0 4") || bytes.starts_with(b"SIP/2.0 5"));
    assert!(bytes.len() < data.len() + 512);
}
