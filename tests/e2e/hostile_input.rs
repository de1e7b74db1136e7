//! Hostile input at every door while a call runs: what it is, what is answered, what the log says, what is counted.
use offhook_tests::api::{Api, Socket};
use offhook_tests::sipp::plain_invite;
use offhook_tests::stack::{DAEMONS, Plan};
use offhook_tests::trunk::{OUR_NUMBER, TELEPHONE, Trunk};
use offhook_tests::wait::{self, secs};
use offhook_tests::{Baresip, Softphone, Stack, ports, sound, story};
use offhook_wire_stun::{Class, MessageBuilder, Method, TransactionId};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What knocks at the doors.
struct Attacker {
    stack: Stack,
    /// A user's token, the key of another tenant, and the user's running call.
    alice: Api,
    other: Api,
    call: String,
    /// The ports that the gateway holds for the call: RTP, RTCP and the Link.
    calls_ports: Vec<u16>,
    /// In the flood nobody waits for answers.
    flooding: AtomicBool,
}

struct Row {
    input: &'static str,
    send: fn(&Attacker) -> String,
    /// Stands in what came back; nothing at all comes when it is empty.
    answer: &'static str,
    log: &'static str,
    /// Daemon, figure, label.
    counter: (&'static str, &'static str, &'static str),
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

impl Attacker {
    /// A datagram, and what comes back soon.
    fn udp(&self, from: impl Into<SocketAddr>, to: u16, bytes: &[u8]) -> String {
        let socket = UdpSocket::bind(from.into()).unwrap();
        let _ = socket.send_to(bytes, ("127.0.0.1", to));
        if self.flooding.load(Ordering::Relaxed) {
            // And cut somewhere else each time.
            let cut = usize::from(socket.local_addr().unwrap().port()) % (bytes.len() + 1);
            let _ = socket.send_to(&bytes[..cut], ("127.0.0.1", to));
            return String::new();
        }
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut reply = [0; 4_096];
        socket.recv(&mut reply).map(|len| String::from_utf8_lossy(&reply[..len]).into_owned()).unwrap_or_default()
    }

    fn media(&self, bytes: &[u8]) -> String {
        self.udp(([127, 0, 0, 1], 0), self.stack.sfu_port, bytes)
    }

    fn sip_stranger(&self, bytes: &[u8]) -> String {
        self.udp(([127, 0, 0, 9], 0), self.stack.sip_port, bytes)
    }

    /// At every port that the gateway holds for calls, from an address that no call has.
    fn at_calls_ports(&self, bytes: &[u8]) -> String {
        self.calls_ports.iter().map(|port| self.udp(([127, 0, 0, 9], 0), *port, bytes)).collect()
    }

    /// Every datagram of the table thousands of times, all kinds at once, whole and cut.
    fn flood(&self) {
        const TIMES: u32 = 1_000;
        self.flooding.store(true, Ordering::Relaxed);
        std::thread::scope(|threads| {
            for row in TABLE.iter().filter(|row| row.is_by_udp()) {
                threads.spawn(|| {
                    for _ in 0..TIMES {
                        (row.send)(self);
                        std::thread::park_timeout(Duration::from_millis(4));
                    }
                });
            }
        });
        self.flooding.store(false, Ordering::Relaxed);
    }

    /// From the carrier's own address.
    fn sip_carrier(&self, text: &str) -> String {
        self.udp(([127, 0, 0, 1], 0), self.stack.sip_port, text.as_bytes())
    }

    fn tcp(port: u16, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(secs(3))).unwrap();
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let mut part = [0; 2_048];
        while let Ok(len @ 1..) = stream.read(&mut part) {
            reply.extend_from_slice(&part[..len]);
        }
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn api(api: &Api, method: &str, path: &str, body: Option<Vec<u8>>) -> String {
        let reply = api.send_bytes(method, path, body, &[]);
        format!("{} {}", reply.status, String::from_utf8_lossy(&reply.bytes))
    }

    fn with_token(&self, token: &str) -> Api {
        Api { base: self.alice.base.clone(), token: token.into() }
    }

    /// A frame on a signed-in page's WebSocket; what closes it or comes back.
    fn frame(&self, text: &str) -> String {
        let (mut socket, _) = Socket::hello(&self.alice);
        socket.send_text(text);
        socket.closed(secs(5))
    }
}

fn invite(length: usize, body: &str, more: &str) -> String {
    let branch = ports::free();
    format!(
        "INVITE sip:{OUR_NUMBER}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{branch};rport\r\n\
         From: <sip:x@127.0.0.1>;tag=s\r\nTo: <sip:{OUR_NUMBER}@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:x@127.0.0.1>\r\nMax-Forwards: 70\r\n{more}Content-Type: application/sdp\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// A STUN Binding request of a peer that does not exist, with a password that nobody gave.
fn guessed_check() -> Vec<u8> {
    let mut bytes = [0; 256];
    let mut check = MessageBuilder::new(&mut bytes, Class::Request, Method::BINDING, TransactionId([7; 12]));
    check.username("guessed1:guessed2").priority(1).ice_controlling(1).integrity(b"guessed").fingerprint();
    let length = check.finish().unwrap();
    bytes[..length].to_vec()
}

/// A STUN Binding request without credentials.
fn bare_check() -> [u8; 20] {
    let mut bytes = [7; 20];
    bytes[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    bytes
}

const TABLE: [Row; 32] = [
    Row {
        input: "garbage at the media port",
        send: |a| a.media(&[0xff; 200]),
        answer: "",
        log: "dropped_unknown=",
        counter: ("sfu", "sfu_dropped_unknown_total", ""),
    },
    Row {
        input: "an empty datagram at the media port",
        send: |a| a.media(&[]),
        answer: "",
        log: "dropped_unknown=",
        counter: ("sfu", "sfu_dropped_unknown_total", ""),
    },
    Row {
        input: "a datagram longer than any network carries",
        send: |a| a.media(&[0x80; 9_000]),
        answer: "",
        log: "dropped_unknown=",
        counter: ("sfu", "sfu_dropped_unknown_total", ""),
    },
    Row {
        input: "a stranger's RTP",
        send: |a| a.media(&[&[0x80, 111, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1][..], &[1; 60]].concat()),
        answer: "",
        log: "dropped_unknown_source=",
        counter: ("sfu", "sfu_dropped_unknown_source_total", ""),
    },
    Row {
        input: "a stranger's RTCP",
        send: |a| a.media(&[0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        answer: "",
        log: "dropped_unknown_source=",
        counter: ("sfu", "sfu_dropped_unknown_source_total", ""),
    },
    Row {
        input: "a DTLS record of a stranger",
        send: |a| a.media(&[&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60][..], &[1; 60]].concat()),
        answer: "",
        log: "dropped_unknown_source=",
        counter: ("sfu", "sfu_dropped_unknown_source_total", ""),
    },
    Row {
        input: "a STUN check without credentials",
        send: |a| a.media(&bare_check()),
        answer: "",
        log: "stun_malformed=",
        counter: ("sfu", "sfu_stun_malformed_total", ""),
    },
    Row {
        input: "a STUN check cut in its header",
        send: |a| a.media(&bare_check()[..13]),
        answer: "",
        log: "stun_malformed=",
        counter: ("sfu", "sfu_stun_malformed_total", ""),
    },
    Row {
        input: "a STUN check of somebody who guesses",
        send: |a| a.media(&guessed_check()),
        answer: "Unauthenticated",
        log: "stun_unauthenticated=",
        counter: ("sfu", "sfu_stun_unauthenticated_total", ""),
    },
    Row {
        input: "no TLS at the Tap listener",
        send: |a| Attacker::tcp(a.stack.tap_port, &[0xff; 300]),
        // A TLS alert.
        answer: "\u{15}\u{3}",
        log: "a Tap connection was refused",
        counter: ("sfu", "sfu_taps_refused_total", ""),
    },
    Row {
        input: "a stranger's garbage at the SIP port",
        send: |a| a.sip_stranger(&[0xff; 300]),
        answer: "",
        log: "no trunk has this source address",
        counter: ("sip", "sip_dropped_total", "unknown_source"),
    },
    Row {
        input: "the carrier's garbage",
        send: |a| a.udp(([127, 0, 0, 1], 0), a.stack.sip_port, &[0xff; 300]),
        answer: "",
        log: "reason=malformed",
        counter: ("sip", "sip_dropped_total", "malformed"),
    },
    Row {
        input: "an INVITE from nobody's carrier",
        send: |a| a.sip_stranger(plain_invite(OUR_NUMBER, a.stack.sip_port, 4_000).as_bytes()),
        answer: "",
        log: "no trunk has this source address",
        counter: ("sip", "sip_dropped_total", "unknown_source"),
    },
    Row {
        input: "a carrier's INVITE cut before its end",
        send: |a| a.sip_carrier(&invite(500, SDP, "")),
        answer: "SIP/2.0 400 ",
        log: "Content-Length is larger than what follows",
        counter: ("sip", "sip_dropped_total", "malformed"),
    },
    Row {
        input: "a header twice that may stand once",
        send: |a| a.sip_carrier(&invite(SDP.len(), SDP, "CSeq: 2 INVITE\r\n")),
        answer: "SIP/2.0 400 ",
        log: "the CSeq header stands more than once",
        counter: ("sip", "sip_dropped_total", "malformed"),
    },
    Row {
        input: "a broken session description",
        send: |a| a.sip_carrier(&invite(10, "v=0\r\nxxxxx", "")),
        answer: "SIP/2.0 488 ",
        log: "answered with 488",
        counter: ("sip", "sip_dropped_total", "refused"),
    },
    Row {
        input: "a SIP response to nothing",
        send: |a| {
            a.sip_carrier(&invite(0, "", "").replacen(
                &format!("INVITE sip:{OUR_NUMBER}@127.0.0.1 SIP/2.0"),
                "SIP/2.0 200 OK",
                1,
            ))
        },
        answer: "",
        log: "a response to nothing that we sent",
        counter: ("sip", "sip_dropped_total", "stray_response"),
    },
    Row {
        input: "a stranger's RTP at a telephone call's port",
        send: |a| a.at_calls_ports(&[&[0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1][..], &[1; 160]].concat()),
        answer: "",
        log: "foreign_address=",
        counter: ("sip", "sip_trunk_packets_dropped_total", "foreign_address"),
    },
    Row {
        input: "garbage at the Link's port",
        send: |a| a.at_calls_ports(&[0xff; 200]),
        answer: "",
        log: " link=",
        counter: ("sip", "link_packets_refused_total", ""),
    },
    Row {
        input: "a recording asked of the recorder with a guessed token",
        send: |a| {
            Attacker::api(
                &Api { base: format!("http://127.0.0.1:{}", a.stack.recorder_port), token: String::new() },
                "GET",
                "/files/guessed",
                None,
            )
        },
        answer: "404",
        log: "file request refused",
        counter: ("recorder", "file_requests_refused_total", ""),
    },
    Row {
        input: "no token",
        send: |a| Attacker::api(&a.with_token(""), "GET", "/v1/calls", None),
        answer: "401 ",
        log: "sign in, or send an API key",
        counter: ("control", "http_refused_total", "unauthorized"),
    },
    Row {
        input: "a token that nobody gave",
        send: |a| Attacker::api(&a.with_token("e30.e30.e30"), "GET", "/v1/calls", None),
        answer: "401 ",
        log: "the access token is not valid",
        counter: ("control", "auth_failures_total", ""),
    },
    Row {
        input: "malformed JSON",
        send: |a| Attacker::api(&a.alice, "PATCH", "/v1/settings/recording", Some(b"{\"mode\":".to_vec())),
        answer: "400 ",
        log: "the body is not right",
        counter: ("control", "http_refused_total", "invalid"),
    },
    Row {
        input: "JSON of 3 MB",
        send: |a| Attacker::api(&a.alice, "PATCH", "/v1/settings/recording", Some(vec![b'['; 3_000_000])),
        answer: "413 ",
        log: "code=\"too_large\"",
        counter: ("control", "http_refused_total", "too_large"),
    },
    Row {
        input: "another tenant's call, read",
        send: |a| Attacker::api(&a.other, "GET", &format!("/v1/calls/{}", a.call), None),
        answer: "404 ",
        log: "there is no such thing",
        counter: ("control", "http_refused_total", "not_found"),
    },
    Row {
        input: "another tenant's call, hung up",
        send: |a| Attacker::api(&a.other, "POST", &format!("/v1/calls/{}/hangup", a.call), None),
        answer: "404 ",
        log: "there is no such thing",
        counter: ("control", "http_refused_total", "not_found"),
    },
    Row {
        input: "an address that does not exist",
        send: |a| Attacker::api(&a.alice, "GET", "/v1/nothing", None),
        answer: "404 ",
        log: "there is no such thing",
        counter: ("control", "http_refused_total", "not_found"),
    },
    Row {
        input: "a WebSocket from a foreign page",
        send: |a| {
            let text = format!(
                "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://evil.example\r\n\r\n",
                a.stack.web_port
            );
            Attacker::tcp(a.stack.web_port, text.as_bytes())
        },
        answer: "HTTP/1.1 403 ",
        log: "this origin may not open a WebSocket",
        counter: ("control", "http_refused_total", "forbidden"),
    },
    Row {
        input: "a WebSocket whose first frame is no hello",
        send: |a| {
            let mut socket = Socket::connect(&a.alice.base).unwrap();
            socket.send_text("{\"op\":\"dial\",\"id\":1,\"to\":\"101\"}");
            socket.next(secs(5)).unwrap_or_default().to_string()
        },
        answer: "\"refused\"",
        log: "the first frame is",
        counter: ("control", "http_refused_total", "invalid"),
    },
    Row {
        input: "a frame that is no JSON",
        send: |a| a.frame("{{{{"),
        answer: "4400",
        log: "unreadable frame",
        counter: ("control", "http_refused_total", "frame"),
    },
    Row {
        input: "a frame of 2 MB",
        send: |a| a.frame(&"x".repeat(2_000_000)),
        answer: "code: Size",
        log: "a frame is longer than 64 KiB",
        counter: ("control", "http_refused_total", "frame"),
    },
    Row {
        input: "a stranger at the bus",
        send: |a| {
            let port = a.stack.nats.as_ref().unwrap().port;
            Attacker::tcp(port, b"CONNECT {\"user\":\"sfu\",\"pass\":\"guessed\",\"verbose\":false}\r\nPING\r\n")
        },
        answer: "Authorization Violation",
        log: "authentication error",
        counter: ("", "", ""),
    },
];

impl Row {
    fn is_by_udp(&self) -> bool {
        ["sfu", "sip"].contains(&self.counter.0) && !self.input.contains("TLS at the Tap")
    }

    /// What came back, and the counter; the log has time until the end. Returns what was not as the row says.
    fn knock(&self, attacker: &Attacker) -> Option<String> {
        let (daemon, name, label) = self.counter;
        let count = || attacker.stack.figure(daemon, name, label);
        let before = count();
        let answer = (self.send)(attacker);
        let fits = if self.answer.is_empty() { answer.is_empty() } else { answer.contains(self.answer) };
        if !fits {
            return Some(format!("{}: {answer:?} came back instead of {:?}", self.input, self.answer));
        }
        let counted = || name.is_empty() || count() > before;
        let deadline = Instant::now() + secs(3);
        while !counted() {
            if Instant::now() > deadline {
                return Some(format!("{}: {name} {label} did not rise from {before}", self.input));
            }
        }
        None
    }
}

#[test]
fn every_door_refuses_names_and_counts_it_while_a_call_goes_on() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::split(&Plan { config: trunk.config(), ..Plan::default() });
        let other = stack.key_of_new_tenant("elsewhere");
        let folder = stack.folder.path().to_path_buf();
        let callee =
            Baresip::start(&folder, trunk.port, &sound::tone_file(&folder, 620, sound::TELEPHONE_RATE, 180), true);
        let mut phone = Softphone::sign_in(&stack, "Alice", 440);
        phone.dial(TELEPHONE);
        phone.wait_active();
        phone.hear_tone(620, 4.0, 1);
        let alice = Api::dev(&stack.url(), "alice");
        let call = wait::until("the call in the log", secs(5), || {
            alice.calls().first().and_then(|c| c["id"].as_str().map(str::to_owned)).ok_or_else(|| "none".into())
        });
        let from = phone.heard_frames();
        let held = stack.udp_ports("sip").into_iter();
        let calls_ports: Vec<u16> = held.filter(|port| *port != stack.sip_port).collect();
        assert!(calls_ports.len() >= 3, "RTP, RTCP and the Link: {calls_ports:?}");
        let attacker = Attacker { stack, alice, other, call, calls_ports, flooding: AtomicBool::new(false) };
        let mut wrong: Vec<String> = TABLE.iter().filter_map(|row| row.knock(&attacker)).collect();
        attacker.flood();
        let seconds = (phone.heard_frames() - from) / 48_000;
        phone.listen_from(from, seconds).assert_only("Alice under attack", 620, &[440, 1_400]);
        let untold =
            |logs: &str| TABLE.iter().filter(|row| !logs.contains(row.log)).map(|row| row.input).collect::<Vec<_>>();
        // The media port's line comes every ten seconds at most.
        let deadline = Instant::now() + secs(15);
        loop {
            let logs = attacker.stack.logs() + &attacker.stack.nats.as_ref().unwrap().log();
            let missing = untold(&logs);
            if missing.is_empty() || Instant::now() > deadline {
                wrong.extend(missing.iter().map(|input| format!("{input}: the log does not tell of it")));
                break;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        phone.hang_up();
        phone.wait_idle();
        callee.wait_call_closed();
        callee.heard().from_onset(440, 3.0).but_last(0.5).assert_only("the telephone under attack", 440, &[620]);
        assert_eq!(attacker.stack.figure("sfu", "sfu_panics_total", ""), 0.0);
        for daemon in DAEMONS {
            assert_eq!(attacker.stack.figure(daemon, "restarts_total", ""), 0.0, "{daemon} began anew");
        }
        assert_eq!(attacker.alice.get(&format!("/v1/calls/{}", attacker.call))["cause"], json!("normal"));
    });
}
