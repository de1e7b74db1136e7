//! RTP packets: what was written is read, what is broken is refused, what is edited moves nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_wire_rtp::{
    AudioLevel, Extension, ExtensionError, HeaderView, RtpError, RtpHeader, RtpPacket, WriteError,
    set_one_byte_extension_in_place,
};

const HEADER: RtpHeader =
    RtpHeader { marker: true, payload_type: 111, sequence: 0xFFFE, timestamp: 0xDEAD_BEEF, ssrc: 0x1234_5678 };

fn packet(csrcs: &[u32], extensions: &[Extension<'_>], payload: &[u8]) -> Vec<u8> {
    let mut buf = vec![0xEE; 512];
    let len = HEADER.write_with(&mut buf, csrcs, extensions).unwrap();
    buf.truncate(len);
    buf.extend_from_slice(payload);
    buf
}

#[test]
fn a_plain_header_has_its_known_twelve_bytes() {
    let mut buf = [0; 12];
    assert_eq!(HEADER.write(&mut buf), Ok(12));
    assert_eq!(buf, [0x80, 0xEF, 0xFF, 0xFE, 0xDE, 0xAD, 0xBE, 0xEF, 0x12, 0x34, 0x56, 0x78]);
}

#[test]
fn contributors_extensions_and_payload_come_back() {
    let level = AudioLevel { voice: true, minus_dbov: 31 };
    let elements = [Extension { id: 1, data: &[level.to_byte()] }, Extension { id: 4, data: b"mid" }];
    let bytes = packet(&[7, 8], &elements, b"payload");
    let read = RtpPacket::parse(&bytes).unwrap();
    assert_eq!(read.header(), HEADER);
    assert_eq!(read.csrcs().collect::<Vec<_>>(), [7, 8]);
    assert_eq!(read.extensions().collect::<Vec<_>>(), elements);
    assert_eq!(read.audio_level(1), Some(level));
    assert_eq!(read.audio_level(2), None);
    assert_eq!(read.payload(), b"payload");
    assert_eq!(read.payload_range(), read.header_len()..bytes.len());
    assert_eq!(read.header_len(), 12 + 8 + 4 + 8);
}

#[test]
fn padding_is_taken_off_and_checked() {
    let mut bytes = packet(&[], &[], &[1, 2, 3, 0, 0, 3]);
    bytes[0] |= 0x20;
    let read = RtpPacket::parse(&bytes).unwrap();
    assert_eq!((read.payload(), read.padding_len()), ([1, 2, 3].as_slice(), 3));
    for wrong in [0, 7, 255] {
        *bytes.last_mut().unwrap() = wrong;
        assert_eq!(RtpPacket::parse(&bytes), Err(RtpError::Padding(wrong)));
        assert!(HeaderView::parse(&bytes).is_ok());
    }
    let mut empty = packet(&[], &[], &[]);
    empty[0] |= 0x20;
    assert!(matches!(RtpPacket::parse(&empty), Err(RtpError::Padding(_))));
}

#[test]
fn headers_that_announce_more_than_is_there_are_refused() {
    let bytes = packet(&[1], &[Extension { id: 1, data: &[0] }], &[]);
    for len in 0..bytes.len() {
        assert_eq!(RtpPacket::parse(&bytes[..len]), Err(RtpError::Truncated), "{len}");
    }
    let mut many = packet(&[], &[], &[0; 40]);
    many[0] |= 15;
    assert_eq!(RtpPacket::parse(&many), Err(RtpError::Truncated));
    let mut long = packet(&[], &[], &[0xBE, 0xDE, 0xFF, 0xFF, 0, 0, 0, 0]);
    long[0] |= 0x10;
    assert_eq!(RtpPacket::parse(&long), Err(RtpError::Truncated));
    let mut other = packet(&[], &[], &[]);
    other[0] = 0x40;
    assert_eq!(RtpPacket::parse(&other), Err(RtpError::Version(1)));
}

fn with_block(profile: u16, data: &[u8]) -> Vec<u8> {
    assert_eq!(data.len() % 4, 0);
    let mut bytes = packet(&[], &[], &[]);
    bytes[0] |= 0x10;
    bytes.extend_from_slice(&profile.to_be_bytes());
    bytes.extend_from_slice(&u16::try_from(data.len() / 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"sound");
    bytes
}

fn elements(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    RtpPacket::parse(bytes).unwrap().extensions().map(|e| (e.id, e.data.to_vec())).collect()
}

#[test]
fn two_byte_elements_may_be_empty_or_long() {
    let bytes = with_block(0x1003, &[1, 0, 0, 2, 3, 9, 8, 7, 0, 0, 200, 1, 5, 0, 0, 0]);
    assert_eq!(elements(&bytes), [(1, vec![]), (2, vec![9, 8, 7]), (200, vec![5])]);
}

#[test]
fn the_walk_ends_at_a_broken_element_and_at_reserved_ids() {
    assert_eq!(elements(&with_block(0xBEDE, &[0x10, 7, 0x01, 1, 1, 0x20, 1, 0])), [(1, vec![7])]);
    assert_eq!(elements(&with_block(0xBEDE, &[0x10, 7, 0x2F, 1])), [(1, vec![7])]);
    assert_eq!(elements(&with_block(0xBEDE, &[0x10, 7, 0xF0, 1, 0x20, 1, 0, 0])), [(1, vec![7])]);
    assert_eq!(elements(&with_block(0x1000, &[1, 0, 2, 200])), [(1, vec![])]);
    assert_eq!(elements(&with_block(0x1000, &[0, 0, 0, 5])), []);
    assert_eq!(elements(&with_block(0xABCD, &[0x10, 7, 0, 0])), []);
    let bytes = with_block(0xABCD, &[0x10, 7, 0, 0]);
    let raw = RtpPacket::parse(&bytes).unwrap().extension_block();
    assert_eq!(raw, Some((0xABCD, [0x10, 7, 0, 0].as_slice())));
}

#[test]
fn an_element_is_replaced_without_moving_anything() {
    let mut bytes = packet(&[5], &[Extension { id: 1, data: &[1] }, Extension { id: 3, data: b"ab" }], b"sound");
    let before = bytes.clone();
    set_one_byte_extension_in_place(&mut bytes, 3, b"xy").unwrap();
    let changed: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != before[*at]).collect();
    assert_eq!(changed, [23, 24]);
    assert_eq!(RtpPacket::parse(&bytes).unwrap().extension(3), Some(b"xy".as_slice()));

    let edit = |bytes: &mut [u8], id, data: &[u8]| set_one_byte_extension_in_place(bytes, id, data);
    assert_eq!(edit(&mut bytes, 3, b"x"), Err(ExtensionError::Length { present: 2, wanted: 1 }));
    assert_eq!(edit(&mut bytes, 2, b"x"), Err(ExtensionError::Absent(2)));
    assert_eq!(edit(&mut packet(&[], &[], b"x"), 2, b"x"), Err(ExtensionError::Absent(2)));
    assert_eq!(edit(&mut with_block(0x1000, &[1, 1, 9, 0]), 1, b"x"), Err(ExtensionError::Absent(1)));
    assert_eq!(edit(&mut [0x80; 5], 2, b"x"), Err(ExtensionError::Packet(RtpError::Truncated)));
}

#[test]
fn rewriting_the_header_keeps_the_rest_of_the_packet() {
    let mut bytes = packet(&[5, 6], &[Extension { id: 1, data: &[1] }], b"sound");
    let other = RtpHeader { marker: false, payload_type: 0, sequence: 1, timestamp: 2, ssrc: 3 };
    let before = bytes.clone();
    other.rewrite_in_place(&mut bytes).unwrap();
    let read = RtpPacket::parse(&bytes).unwrap();
    assert_eq!(read.header(), other);
    assert_eq!((bytes[0], &bytes[12..]), (before[0], &before[12..]));
}

#[test]
fn the_writer_refuses_what_the_format_cannot_say() {
    let mut buf = [0; 64];
    let long = [0; 17];
    let large = RtpHeader { payload_type: 128, ..HEADER };
    assert_eq!(large.write(&mut buf), Err(WriteError::PayloadType(128)));
    assert_eq!(HEADER.write(&mut buf[..11]), Err(WriteError::BufferTooSmall { needed: 12, capacity: 11 }));
    assert!(matches!(HEADER.write_with(&mut buf, &[0; 16], &[]), Err(WriteError::TooMany { count: 16, .. })));
    for (id, data) in [(0, &long[..1]), (15, &long[..1]), (1, &long[..0]), (1, &long[..])] {
        let refused = HEADER.write_with(&mut buf, &[], &[Extension { id, data }]);
        assert_eq!(refused, Err(WriteError::Extension { id, len: data.len() }));
    }
}
