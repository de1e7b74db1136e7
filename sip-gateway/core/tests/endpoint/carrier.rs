//! A carrier whose every byte the test writes.

use crate::world::*;
use offhook_wire_sip::{Message, Name};

/// The SDP of the scripted carrier.
pub fn sdp(port: u16, version: u32, extra: &str) -> String {
    format!(
        "v=0\r\no=- 7 {version} IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n{extra}"
    )
}

/// Lines behind the headers: a description, or an empty body.
pub fn with_sdp(sdp: &str) -> String {
    format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
}

pub const EMPTY: &str = "Content-Length: 0\r\n\r\n";

/// A response to a request that the gateway sent.
pub fn respond(request: &Flight, status: &str, tag: &str, rest: &str) -> String {
    let message = Message::parse(&request.bytes).unwrap();
    let text = |name| message.header(name).unwrap();
    let to = text(Name::To);
    let to = if to.contains("tag=") { to.to_owned() } else { format!("{to};tag={tag}") };
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Contact: <sip:trunk@198.51.100.1:5060>\r\n{rest}",
        text(Name::Via),
        text(Name::From),
        message.call_id(),
        text(Name::CSeq),
    )
}

/// An INVITE from the carrier.
pub fn invite(branch: &str, extra: &str, rest: &str) -> String {
    format!(
        "INVITE sip:+15550100@192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: \"Bob\" <sip:+15559999@carrier.example>;tag=theirs\r\n\
         To: <sip:+15550100@192.0.2.1>\r\nCall-ID: call-{branch}\r\nCSeq: 10 INVITE\r\n\
         Contact: <sip:bob@198.51.100.1:5060>\r\n{extra}{rest}"
    )
}

/// A further request of the carrier in the dialog that `seed` (a response of ours to its INVITE, or our own INVITE's 200 as
/// the carrier wrote it) began.
pub struct Partner {
    pub call_id: String,
    pub from: String,
    pub to: String,
    number: u32,
    branch: u32,
}

impl Partner {
    /// The carrier called: `ok` is our 200.
    pub fn calling(ok: &Flight) -> Self {
        let message = Message::parse(&ok.bytes).unwrap();
        let text = |name| message.header(name).unwrap().to_owned();
        Self { call_id: message.call_id().into(), from: text(Name::From), to: text(Name::To), number: 10, branch: 0 }
    }

    /// The carrier was called: `ok` is its own 200.
    pub fn called(ok: &str) -> Self {
        let message = Message::parse(ok.as_bytes()).unwrap();
        let text = |name| message.header(name).unwrap().to_owned();
        Self { call_id: message.call_id().into(), from: text(Name::To), to: text(Name::From), number: 0, branch: 0 }
    }

    pub fn request(&mut self, method: &str, rest: &str) -> String {
        if method != "ACK" {
            self.number += 1;
        }
        self.branch += 1;
        format!(
            "{method} sip:account@192.0.2.1:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKp{}{method}{}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
             Call-ID: {}\r\nCSeq: {} {method}\r\nContact: <sip:bob@198.51.100.1:5060>\r\n{rest}",
            self.call_id, self.branch, self.from, self.to, self.call_id, self.number
        )
    }
}

/// A call of the gateway that the scripted carrier answered.
pub fn dialled(world: &mut World) -> Partner {
    world.dial();
    let invite = world.last("INVITE");
    let ok = respond(&invite, "200 OK", "theirs", &with_sdp(&sdp(4000, 1, "")));
    world.inject(CARRIER, &ok);
    Partner::called(&ok)
}
