//! A carrier of few words: SIP as text over UDP, RTP with its own bytes. Knows nothing of our parsers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::PATIENCE;

pub struct Carrier {
    sip: UdpSocket,
    pub rtp: Arc<UdpSocket>,
}

/// A SIP message as lines.
#[derive(Debug, Clone)]
pub struct Message {
    pub from: SocketAddr,
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    fn parse(from: SocketAddr, bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { from, start, headers, body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {}", self.start))
    }

    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap()
    }

    /// The status of a response; 0 for a request.
    pub fn status(&self) -> u16 {
        let words: Vec<_> = self.start.split(' ').collect();
        if words[0] == "SIP/2.0" { words[1].parse().unwrap() } else { 0 }
    }

    /// Port of the audio line.
    pub fn audio_port(&self) -> u16 {
        let line = self.body.lines().find(|l| l.starts_with("m=audio ")).expect("an audio line");
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Carrier {
    pub async fn new() -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0");
        Self { sip: socket().await.unwrap(), rtp: Arc::new(socket().await.unwrap()) }
    }

    pub fn address(&self) -> SocketAddr {
        self.sip.local_addr().unwrap()
    }

    pub async fn receive(&self) -> Message {
        let mut buffer = vec![0; 65_535];
        let (length, from) = timeout(PATIENCE, self.sip.recv_from(&mut buffer)).await.expect("a SIP message").unwrap();
        Message::parse(from, &buffer[..length])
    }

    /// The next request of this method; keep-alives are answered on the way, repetitions passed over.
    pub async fn request(&self, method: &str) -> Message {
        loop {
            let message = self.receive().await;
            if message.method() == method {
                return message;
            }
            if message.method() == "OPTIONS" {
                self.respond(&message, "200 OK", "", "").await;
            }
        }
    }

    /// The next response with this status.
    pub async fn response(&self, status: u16) -> Message {
        loop {
            let message = self.receive().await;
            if message.status() == status {
                return message;
            }
            assert!(message.status() < 200, "{} instead of {status}", message.start);
            if message.method() == "OPTIONS" {
                self.respond(&message, "200 OK", "", "").await;
            }
        }
    }

    pub async fn send(&self, to: SocketAddr, text: &str) {
        self.sip.send_to(text.as_bytes(), to).await.unwrap();
    }

    /// Answers a request. Its To gets our tag.
    pub async fn respond(&self, request: &Message, status: &str, headers: &str, body: &str) {
        let to = request.header("to");
        let to =
            if to.contains(";tag=") || status.starts_with("100") { to.to_owned() } else { format!("{to};tag=theirs") };
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n\
             Contact: <sip:carrier@{}>\r\n{headers}{kind}Content-Length: {}\r\n\r\n{body}",
            request.header("via"),
            request.header("from"),
            request.header("call-id"),
            request.header("cseq"),
            self.address(),
            body.len(),
        );
        self.send(request.from, &text).await;
    }

    /// A re-INVITE inside the call that `invite` began.
    pub async fn reinvite(&self, invite: &Message, cseq: u32, body: &str) {
        self.inside(invite, "INVITE", cseq, body).await;
    }

    pub async fn ack(&self, invite: &Message, cseq: u32) {
        self.inside(invite, "ACK", cseq, "").await;
    }

    /// A request of ours in the dialog of the gateway's INVITE: the parties change places.
    async fn inside(&self, invite: &Message, method: &str, cseq: u32, body: &str) {
        let contact = invite.header("contact").trim_start_matches('<').split('>').next().unwrap();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bKin{method}{cseq};rport\r\nMax-Forwards: 70\r\n\
             From: {};tag=theirs\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:carrier@{us}>\r\n\
             {kind}Content-Length: {}\r\n\r\n{body}",
            invite.header("to"),
            invite.header("from"),
            invite.header("call-id"),
            body.len(),
            us = self.address(),
        );
        self.send(invite.from, &text).await;
    }

    /// PCMU and events at our RTP socket.
    pub fn sdp(&self) -> String {
        self.sdp_at(self.rtp.local_addr().unwrap().port())
    }

    /// The same at another port.
    pub fn sdp_at(&self, port: u16) -> String {
        format!(
            "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n"
        )
    }

    /// A request of ours inside or outside a call.
    pub async fn send_request(&self, to: SocketAddr, method: &str, cseq: u32, to_tag: &str, body: &str) {
        self.send_of_call(to, "incoming-1", method, cseq, to_tag, body).await;
    }

    /// A call of its own name.
    pub async fn send_call(&self, to: SocketAddr, call_id: &str) {
        self.send_of_call(to, call_id, "INVITE", 1, "", &self.sdp()).await;
    }

    async fn send_of_call(&self, to: SocketAddr, call_id: &str, method: &str, cseq: u32, to_tag: &str, body: &str) {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "{method} sip:+15550100@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {us};branch=z9hG4bK{call_id}{method}{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: \"Carl\" <sip:+15559999@carrier>;tag=caller\r\nTo: <sip:+15550100@gateway>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:carrier@{us}>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len(),
            us = self.address(),
        );
        self.send(to, &text).await;
    }
}
