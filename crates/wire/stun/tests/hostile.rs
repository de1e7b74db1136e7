//! Broken and crafted messages: what the reader refuses and what it refuses to see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_wire_stun::{
    AttributeError, AttributeType, BuildError, Class, IntegrityError, MAX_ATTRIBUTES, Message, MessageBuilder, Method,
    ParseError, TransactionId, framed_len, is_stun,
};

const ID: TransactionId = TransactionId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

fn binding(write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buf = vec![0xAA; 2048];
    let mut builder = MessageBuilder::new(&mut buf, Class::Request, Method::BINDING, ID);
    write(&mut builder);
    let len = builder.finish().unwrap();
    buf.truncate(len);
    buf
}

/// Appends a raw attribute and corrects the length field, as an attacker on the path could.
fn append(message: &mut Vec<u8>, attribute: AttributeType, value: &[u8]) {
    message.extend_from_slice(&attribute.0.to_be_bytes());
    message.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    let length = u16::try_from(message.len() - 20).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

#[test]
fn attributes_behind_the_integrity_are_invisible() {
    let mut bytes = binding(|b| {
        b.lifetime_s(600).integrity(b"key");
    });
    append(&mut bytes, AttributeType::LIFETIME, &0_u32.to_be_bytes());
    append(&mut bytes, AttributeType::USE_CANDIDATE, &[]);
    append(&mut bytes, AttributeType(0x7ABC), &[1]);
    let message = Message::parse(&bytes).unwrap();
    message.verify_integrity(b"key").unwrap();
    assert_eq!(message.lifetime_s().unwrap(), Some(600));
    assert!(!message.use_candidate());
    assert_eq!(message.unknown_required(&[AttributeType::LIFETIME, AttributeType::MESSAGE_INTEGRITY]).count(), 0);
}

#[test]
fn a_second_integrity_behind_the_first_is_not_the_one_checked() {
    let mut bytes = binding(|b| {
        b.integrity(b"key");
    });
    append(&mut bytes, AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    Message::parse(&bytes).unwrap().verify_integrity(b"key").unwrap();
}

#[test]
fn sha256_integrity_may_follow_sha1_and_both_hold_with_a_fingerprint() {
    let bytes = binding(|b| {
        b.username("a:b").integrity(b"key").integrity_sha256(b"key").fingerprint();
    });
    let message = Message::parse(&bytes).unwrap();
    message.verify_integrity(b"key").unwrap();
    message.verify_integrity_sha256(b"key").unwrap();
    message.verify_fingerprint().unwrap();
    assert_eq!(message.verify_integrity_sha256(b"kex"), Err(IntegrityError::Mismatch));
}

#[test]
fn every_flipped_bit_in_front_of_the_integrity_is_noticed() {
    let bytes = binding(|b| {
        b.username("local:remote").priority(7).integrity(b"key");
    });
    let covered = bytes.len() - 24;
    for bit in 0..covered * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        let passes = Message::parse(&broken).is_ok_and(|m| m.verify_integrity(b"key").is_ok());
        assert!(!passes, "bit {bit}");
    }
}

#[test]
fn the_first_of_two_equal_attributes_counts() {
    let mut bytes = binding(|b| {
        b.username("first");
    });
    append(&mut bytes, AttributeType::USERNAME, b"second");
    assert_eq!(Message::parse(&bytes).unwrap().username().unwrap(), Some("first"));
}

#[test]
fn broken_framing_is_named() {
    let good = binding(|b| {
        b.priority(1);
    });
    assert_eq!(Message::parse(&good[..19]).unwrap_err(), ParseError::Truncated);
    assert_eq!(Message::parse(&good[..24]).unwrap_err(), ParseError::LengthMismatch { declared: 8, actual: 4 });
    let mut bytes = good.clone();
    bytes[0] = 0x80;
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NotStun);
    let mut bytes = good.clone();
    bytes[4] ^= 1;
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::NoCookie);
    assert!(!is_stun(&bytes));
    let mut bytes = good.clone();
    bytes[3] = 7;
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::Unaligned(7));
    let mut bytes = good.clone();
    bytes[23] = 5;
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::AttributeOverrun);
    let mut bytes = binding(|b| {
        b.fingerprint();
    });
    append(&mut bytes, AttributeType::USE_CANDIDATE, &[]);
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::AfterFingerprint);
}

#[test]
fn too_many_attributes_are_refused_before_they_cost_time() {
    let mut bytes = binding(|_| {});
    for _ in 0..MAX_ATTRIBUTES {
        append(&mut bytes, AttributeType::USE_CANDIDATE, &[]);
    }
    assert!(Message::parse(&bytes).is_ok());
    append(&mut bytes, AttributeType::USE_CANDIDATE, &[]);
    assert_eq!(Message::parse(&bytes).unwrap_err(), ParseError::TooManyAttributes);
}

#[test]
fn malformed_values_are_errors_not_absences() {
    let mut bytes = binding(|_| {});
    append(&mut bytes, AttributeType::PRIORITY, &[1, 2, 3]);
    append(&mut bytes, AttributeType::USERNAME, &[0xFF, 0xFE]);
    append(&mut bytes, AttributeType::NONCE, &[b'n'; 764]);
    append(&mut bytes, AttributeType::XOR_MAPPED_ADDRESS, &[0, 9, 0, 0, 1, 2, 3, 4]);
    append(&mut bytes, AttributeType::ERROR_CODE, &[0, 0, 7, 0]);
    append(&mut bytes, AttributeType::MESSAGE_INTEGRITY, &[0; 19]);
    let message = Message::parse(&bytes).unwrap();
    let attribute = AttributeType::PRIORITY;
    assert_eq!(message.priority(), Err(AttributeError::Length { attribute, len: 3 }));
    assert!(matches!(message.username(), Err(AttributeError::NotUtf8 { .. })));
    assert!(matches!(message.nonce(), Err(AttributeError::Length { len: 764, .. })));
    assert!(matches!(message.xor_mapped_address(), Err(AttributeError::Value { .. })));
    assert!(matches!(message.error_code(), Err(AttributeError::Value { .. })));
    assert_eq!(message.verify_integrity(b"key"), Err(IntegrityError::Length(19)));
}

#[test]
fn unknown_required_attributes_are_listed_for_the_420() {
    let mut bytes = binding(|b| {
        b.username("a:b");
    });
    append(&mut bytes, AttributeType(0x7F01), &[]);
    append(&mut bytes, AttributeType(0xFF01), &[]);
    append(&mut bytes, AttributeType::DONT_FRAGMENT, &[]);
    let message = Message::parse(&bytes).unwrap();
    let unknown: Vec<_> = message.unknown_required(AttributeType::KNOWN_TO_ICE).collect();
    assert_eq!(unknown, [AttributeType(0x7F01), AttributeType::DONT_FRAGMENT]);

    let mut buf = [0; 128];
    let len = MessageBuilder::response(&mut buf, &message, Class::Error)
        .error_code(420, "Unknown Attribute")
        .unknown_attributes(unknown.iter().copied())
        .finish()
        .unwrap();
    let answer = Message::parse(&buf[..len]).unwrap();
    assert_eq!(answer.error_code().unwrap().map(|e| (e.code, e.reason)), Some((420, "Unknown Attribute")));
    assert_eq!(answer.unknown_attributes().collect::<Vec<_>>(), unknown);
}

#[test]
fn turn_attributes_come_back_as_written() {
    let peers = ["198.51.100.7:5004", "[2001:db8::7]:5006"].map(|text| text.parse().unwrap());
    let mut buf = [0; 512];
    let len = MessageBuilder::new(&mut buf, Class::Request, Method::CREATE_PERMISSION, ID)
        .requested_transport(17)
        .channel_number(0x4123)
        .even_port(true)
        .reservation_token(*b"12345678")
        .xor_relayed_address(peers[1])
        .xor_peer_address(peers[0])
        .xor_peer_address(peers[1])
        .data(b"hello")
        .finish()
        .unwrap();
    let message = Message::parse(&buf[..len]).unwrap();
    assert_eq!(message.requested_transport().unwrap(), Some(17));
    assert_eq!(message.channel_number().unwrap(), Some(0x4123));
    assert_eq!(message.even_port().unwrap(), Some(true));
    assert_eq!(message.reservation_token().unwrap(), Some(*b"12345678"));
    assert_eq!(message.xor_relayed_address().unwrap(), Some(peers[1]));
    assert_eq!(message.xor_peer_address().unwrap(), Some(peers[0]));
    assert_eq!(message.xor_peer_addresses().collect::<Result<Vec<_>, _>>().unwrap(), peers);
    assert_eq!(message.data(), Some(b"hello".as_slice()));
}

#[test]
fn the_writer_says_what_does_not_fit_or_comes_too_late() {
    let mut small = [0; 19];
    let full = MessageBuilder::new(&mut small, Class::Request, Method::BINDING, ID).finish();
    assert_eq!(full, Err(BuildError::BufferFull { needed: 20, capacity: 19 }));
    let mut buf = [0; 43];
    let full = MessageBuilder::new(&mut buf, Class::Request, Method::BINDING, ID).integrity(b"k").finish();
    assert_eq!(full, Err(BuildError::BufferFull { needed: 44, capacity: 43 }));
    let mut buf = [0; 128];
    let late = MessageBuilder::new(&mut buf, Class::Request, Method::BINDING, ID).integrity(b"k").priority(1).finish();
    assert_eq!(late, Err(BuildError::Sealed(AttributeType::PRIORITY)));
    let late = MessageBuilder::new(&mut buf, Class::Request, Method::BINDING, ID).fingerprint().fingerprint().finish();
    assert_eq!(late, Err(BuildError::Sealed(AttributeType::FINGERPRINT)));
    let odd = MessageBuilder::new(&mut buf, Class::Error, Method::BINDING, ID).error_code(200, "").finish();
    assert_eq!(odd, Err(BuildError::ErrorCode(200)));
    let mut large = vec![0; 70_000];
    let long = MessageBuilder::new(&mut large, Class::Indication, Method::SEND, ID).data(&[0; 65_536]).finish();
    assert_eq!(long, Err(BuildError::TooLong { attribute: AttributeType::DATA, len: 65_536 }));
}

#[test]
fn a_stream_tells_where_its_message_ends() {
    let bytes = binding(|b| {
        b.username("user").fingerprint();
    });
    assert_eq!(framed_len(&bytes[..20]), Some(bytes.len()));
    assert_eq!(framed_len(&bytes[..19]), None);
    assert_eq!(framed_len(b"GET / HTTP/1.1\r\nHost: x\r\n"), None);
}
