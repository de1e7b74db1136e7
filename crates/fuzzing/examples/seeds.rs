//! Writes the binary seeds: `cargo run -p offhook-fuzzing --example seeds`. Text seeds are kept as they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use offhook_fuzzing::srtp::key;
use offhook_wire_rtp::rtcp::{ReportBlock, RtcpWriter, SenderInfo};
use offhook_wire_rtp::{AudioLevel, Extension, NtpTime, RtpHeader, TelephoneEvent};
use offhook_wire_srtp::{MAX_TRAILER_LEN, Profile, SendContext};
use offhook_wire_stun::{AttributeType, Class, MessageBuilder, Method, TransactionId, channel_data, credentials};

const ID: TransactionId = TransactionId(*b"a transactio");

fn main() {
    stun();
    rtp();
    rtcp();
    srtp();
    tap();
    recording();
    turn();
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

fn stun_message(class: Class, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buf = vec![0; 2048];
    let mut builder = MessageBuilder::new(&mut buf, class, method, ID);
    write(&mut builder);
    let len = builder.finish().unwrap();
    buf.truncate(len);
    buf
}

fn stun() {
    let client = "203.0.113.9:41000".parse().unwrap();
    let peer = "[2001:db8::5]:5004".parse().unwrap();
    let minted = credentials::mint(b"secret", 1_700_000_600, "alice");
    let long_term = credentials::long_term_key(&minted.username, "example.org", &minted.password);
    let check = stun_message(Class::Request, Method::BINDING, |b| {
        b.username("sfuu:chrome")
            .attr(AttributeType(0xC057), &[0, 0, 0, 10])
            .ice_controlling(0x0123_4567_89AB_CDEF)
            .use_candidate()
            .priority(0x6E7F_00FF)
            .integrity(b"the remote password 24ch")
            .fingerprint();
    });
    save("stun", "ice_check", &check);
    save("stun", "bare_binding", &stun_message(Class::Request, Method::BINDING, |_| {}));
    let success = stun_message(Class::Success, Method::BINDING, |b| {
        b.xor_mapped_address(client).integrity(b"key").integrity_sha256(b"key").fingerprint();
    });
    save("stun", "binding_success", &success);
    let conflict = stun_message(Class::Error, Method::BINDING, |b| {
        b.error_code(487, "Role Conflict").software("offhook").integrity(b"key");
    });
    save("stun", "role_conflict", &conflict);
    let unknown = stun_message(Class::Error, Method::ALLOCATE, |b| {
        b.error_code(420, "Unknown Attribute").unknown_attributes([AttributeType(0x7001), AttributeType(1)]);
    });
    save("stun", "unknown_attributes", &unknown);
    let allocate = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17)
            .lifetime_s(600)
            .even_port(true)
            .attr(AttributeType::DONT_FRAGMENT, &[])
            .username(&minted.username)
            .realm("example.org")
            .nonce("f//499k954d6OL34oL9FSTvy64sA")
            .integrity(&long_term);
    });
    save("stun", "allocate", &allocate);
    let allocated = stun_message(Class::Success, Method::ALLOCATE, |b| {
        b.xor_relayed_address(peer).xor_mapped_address(client).lifetime_s(600).reservation_token(*b"reserved");
    });
    save("stun", "allocated", &allocated);
    let permission = stun_message(Class::Request, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(client).xor_peer_address(peer).integrity(&long_term);
    });
    save("stun", "create_permission", &permission);
    let bind = stun_message(Class::Request, Method::CHANNEL_BIND, |b| {
        b.channel_number(0x4001).xor_peer_address(client).integrity(&long_term);
    });
    save("stun", "channel_bind", &bind);
    let send = stun_message(Class::Indication, Method::SEND, |b| {
        b.xor_peer_address(client).data(b"a datagram");
    });
    save("stun", "send", &send);
    let relayed = [channel_data::header(0x4001, 5).unwrap().as_slice(), b"sound\0\0\0"].concat();
    save("stun", "channel_data", &relayed);
    save("stun", "username", minted.username.as_bytes());
}

fn rtp_packet(csrcs: &[u32], elements: &[Extension<'_>], payload: &[u8]) -> Vec<u8> {
    let header = RtpHeader { marker: true, payload_type: 111, sequence: 65_530, timestamp: 96_000, ssrc: 0xA11CE };
    let mut buf = vec![0; 256];
    let len = header.write_with(&mut buf, csrcs, elements).unwrap();
    buf.truncate(len);
    buf.extend_from_slice(payload);
    buf
}

fn level_and_mid() -> [Extension<'static>; 2] {
    const LEVEL: [u8; 1] = [AudioLevel { voice: true, minus_dbov: 30 }.to_byte()];
    [Extension { id: 1, data: &LEVEL }, Extension { id: 4, data: b"0" }]
}

fn rtp() {
    save("rtp", "g711", &rtp_packet(&[], &[], &[0xD5; 160]));
    save("rtp", "opus_with_level", &rtp_packet(&[], &level_and_mid(), &[0xFC, 0xFF, 0xFE]));
    save("rtp", "contributors", &rtp_packet(&[1, 2, 3], &level_and_mid(), b"sound"));
    let event = TelephoneEvent { event: 11, end: true, volume: 10, duration: 1600 };
    save("rtp", "telephone_event", &rtp_packet(&[], &[], &event.to_bytes()));
    let mut padded = rtp_packet(&[], &[], &[1, 2, 3, 0, 0, 0, 4]);
    padded[0] |= 0x20;
    save("rtp", "padded", &padded);
    let mut two_byte = rtp_packet(&[], &[], &[0x10, 0, 0, 2, 1, 0, 3, 2, 9, 9, 0, 0, b's']);
    two_byte[0] |= 0x10;
    save("rtp", "two_byte_elements", &two_byte);
    let mut reserved = rtp_packet(&[], &[], &[0xBE, 0xDE, 0, 2, 0x10, 7, 0, 0xF1, 1, 2, 0x20, 1]);
    reserved[0] |= 0x10;
    save("rtp", "reserved_id", &reserved);
}

fn rtcp_compound(write: impl FnOnce(&mut RtcpWriter<'_>)) -> Vec<u8> {
    let mut buf = vec![0; 2048];
    let mut writer = RtcpWriter::new(&mut buf);
    write(&mut writer);
    let len = writer.finish().unwrap();
    buf.truncate(len);
    buf
}

fn full_compound() -> Vec<u8> {
    let info = SenderInfo {
        ntp: NtpTime::from_unix_ms(1_700_000_000_000),
        rtp_timestamp: 48_000,
        packet_count: 50,
        octet_count: 4000,
    };
    let block = ReportBlock { ssrc: 2, fraction_lost: 3, cumulative_lost: -1, jitter: 40, ..ReportBlock::default() };
    rtcp_compound(|w| {
        w.sender_report(1, &info, &[block, ReportBlock { ssrc: 3, ..block }])
            .source_description(1, "peer@offhook")
            .generic_nack(1, 2, [5, 6, 20, 40, 65_535, 0])
            .goodbye(&[1], "done");
    })
}

fn rtcp() {
    save("rtcp", "full_compound", &full_compound());
    let report = rtcp_compound(|w| {
        w.receiver_report(1, &[ReportBlock::default()]);
    });
    save("rtcp", "receiver_report", &report);
    let nack = rtcp_compound(|w| {
        w.generic_nack(1, 2, [100, 101, 116]);
    });
    save("rtcp", "nack", &nack);
    save("rtcp", "padded", &[0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4]);
    save("rtcp", "several_items", &[0x82, 202, 0, 5, 0, 0, 0, 1, 1, 1, b'c', 2, 1, b'n', 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    save("rtcp", "unknown", &[0x8F, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
}

fn srtp() {
    for profile in Profile::ALL {
        let mut sender = SendContext::new(&key(profile)).unwrap();
        let plain = rtp_packet(&[7], &level_and_mid(), b"sound that is sealed");
        let mut buf = plain.clone();
        buf.resize(plain.len() + MAX_TRAILER_LEN, 0);
        let len = sender.protect_rtp(&mut buf, plain.len()).unwrap();
        save("srtp", &format!("rtp_{profile:?}"), &buf[..len]);
        let plain = full_compound();
        let mut buf = plain.clone();
        buf.resize(plain.len() + MAX_TRAILER_LEN, 0);
        let len = sender.protect_rtcp(&mut buf, plain.len()).unwrap();
        save("srtp", &format!("rtcp_{profile:?}"), &buf[..len]);
    }
    save("srtp", "plain_rtp", &rtp_packet(&[], &level_and_mid(), &[0xD5; 160]));
    save("srtp", "plain_rtcp", &full_compound());
}

fn tap() {
    use offhook_contract::fact::ConsentKind;
    use offhook_contract::{BootId, CallId, CodecName, LegId, RecordingId, RoomId, TenantId, UnixMs};
    use offhook_link::{ClosedReason, Hello, Packet, Party, TapRecord, TrackId};
    let hello = Hello {
        recording: RecordingId::parse("rec").unwrap(),
        room: RoomId::parse("room").unwrap(),
        call: CallId::parse("call").unwrap(),
        tenant: TenantId::parse("acme").unwrap(),
        clock: BootId::parse("boot").unwrap(),
        media_ns: 7,
        wall: UnixMs(1_700_000_000_000),
    };
    let packet = Packet {
        track: TrackId(1),
        media_ns: 9,
        codec: CodecName::Pcmu,
        payload_type: 0,
        marker: true,
        sequence: 1,
        timestamp: 160,
        payload: &[0xff; 20],
    };
    let party = Party::Leg(LegId::parse("leg").unwrap());
    let records = [
        ("hello", TapRecord::Hello(hello)),
        ("track", TapRecord::Track { track: TrackId(1), party, at_ns: 1 }),
        ("announcer", TapRecord::Track { track: TrackId(2), party: Party::Announcer, at_ns: 1 }),
        ("packet", TapRecord::Packet(packet)),
        ("started", TapRecord::AnnouncementStarted { kind: ConsentKind::Notice, at_ns: 2 }),
        ("ended", TapRecord::AnnouncementEnded { kind: ConsentKind::Beep, at_ns: 3 }),
        ("clock", TapRecord::ClockPair { media_ns: 4, wall: UnixMs(5) }),
        ("gap", TapRecord::Gap { from: 3, to: 9, packets: 6, first_ns: 1, last_ns: 2 }),
        ("track_ended", TapRecord::TrackEnded { track: TrackId(1), at_ns: 6 }),
        ("closed", TapRecord::Closed { reason: ClosedReason::Requested, at_ns: 7 }),
    ];
    for (name, record) in records {
        let mut bytes = Vec::new();
        record.encode(9, &mut bytes);
        save("tap", name, &bytes);
    }
}

fn recording() {
    use offhook_contract::{CallId, CodecName, RecordingId, TenantId, UnixMs};
    use offhook_recorder_core::consent::{About, ConsentChain, ConsentEvent};
    use offhook_recorder_core::g711_file::{Frame, MAGIC};
    use offhook_recorder_core::opus_file::OpusFile;
    use offhook_recorder_core::timeline::{Entry, Opened, Record};
    let (recording, call) = (RecordingId::parse("rec").unwrap(), CallId::parse("call").unwrap());
    let tenant = TenantId::parse("acme").unwrap();
    let clock = offhook_contract::BootId::parse("boot").unwrap();
    let opened = Opened {
        version: Opened::VERSION,
        recording: recording.clone(),
        call: call.clone(),
        tenant: tenant.clone(),
        segment: 1,
        clock,
        media_ns: 1,
        wall: UnixMs(2),
        resume_after: 0,
        gap_ns: 0,
    };
    let entry = Entry { media_ns: 1, timestamp: 2, sequence: 3, fill: 0 };
    let records = [
        Record::Opened(opened),
        Record::Run { run: 0, track: 1, codec: CodecName::Opus },
        Record::Packets { run: 0, entries: vec![entry; 3] },
        Record::Progress { through: 5, also: vec![7] },
    ];
    let mut sidecar = vec![0];
    records.iter().for_each(|record| record.encode(&mut sidecar));
    save("recording", "sidecar", &sidecar);

    let mut opus = vec![1];
    let mut pages = Vec::new();
    let mut file = OpusFile::begin(1, &[("TRACK", "1")], &mut pages);
    (0..30).for_each(|_| file.packet(&[0xf8, 0xff, 0xfe], 960, &mut pages));
    file.close_page(&mut pages);
    opus.extend_from_slice(&pages);
    save("recording", "opus_cut", &opus);
    file.finish(&mut pages);
    save("recording", "opus", &[&[1], &pages[..]].concat());

    let mut g711 = [&[2], &MAGIC[..]].concat();
    for sequence in 0..3 {
        let frame = Frame { media_ns: 1, timestamp: 2, sequence, codec: CodecName::Pcma, payload: &[0xd5; 20] };
        frame.encode(&mut g711);
    }
    save("recording", "g711", &g711);

    let mut log = vec![3];
    let (about, mut chain) = (About { tenant, call, recording }, ConsentChain::default());
    let announcement = offhook_contract::fact::ConsentKind::Beep;
    for event in [
        ConsentEvent::RecordingStarted,
        ConsentEvent::Played { announcement, ended_ms: UnixMs(3) },
        ConsentEvent::Played { announcement, ended_ms: UnixMs(4) },
    ] {
        chain.append(&about, 1, UnixMs(1), event, &mut log);
    }
    save("recording", "consent", &log);
}

/// A session without credentials: allocate, permit, bind, send, receive, wait.
fn turn() {
    let peer = "8.8.8.8:9".parse().unwrap();
    let allocate = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17);
    });
    let pair = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).even_port(true).fingerprint();
    });
    let both = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).attr(AttributeType::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    });
    let permit = stun_message(Class::Request, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(peer);
    });
    let bind = stun_message(Class::Request, Method::CHANNEL_BIND, |b| {
        b.channel_number(0x4000).xor_peer_address(peer);
    });
    let send = stun_message(Class::Indication, Method::SEND, |b| {
        b.xor_peer_address(peer).data(b"hello");
    });
    let release = stun_message(Class::Request, Method::REFRESH, |b| {
        b.lifetime_s(0);
    });
    let channel = [&channel_data::header(0x4000, 4).unwrap()[..], b"data"].concat();
    let steps = |steps: &[(u8, &[u8])]| {
        let mut bytes = Vec::new();
        for (operation, body) in steps {
            bytes.push(*operation);
            bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend(*body);
        }
        bytes
    };
    let session = steps(&[
        (0, &allocate),
        (0, &permit),
        (0, &send),
        (4, b"from"),
        (0, &bind),
        (0, &channel),
        (4, b"from"),
        (0, &release),
    ]);
    save("turn", "session", &session);
    // Long enough to be offered SHA-256 by UDP.
    let asks = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).software("123456789012");
    });
    let named = stun_message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).username("4000000000:bob").realm("example.org");
    });
    // 0x40 by USERHASH, 0x80 by SHA-256; each client asks first, and the last one by a stream.
    let login = steps(&[
        (0, &asks),
        (1, &allocate),
        (1, &permit),
        (1, &bind),
        (1, &release),
        (8, &asks),
        (8 | 0x81, &allocate),
        (8 | 0xC1, &permit),
        (16, &asks),
        (16 | 0xC1, &allocate),
        (24, &allocate),
        (24 | 2, &named),
        (32, &allocate),
        (32 | 0xC1, &allocate),
        (32 | 0x81, &permit),
        // Sockets that came late.
        (7, &[]),
    ]);
    save("turn", "login", &login);
    save("turn", "pair", &steps(&[(0, &pair), (8, &allocate), (5, &[0; 6]), (5, &[0; 90])]));
    save("turn", "stream", &steps(&[(32, &both), (32, &permit), (7, &[3, 3]), (4, b"odd"), (38, &[])]));
}
