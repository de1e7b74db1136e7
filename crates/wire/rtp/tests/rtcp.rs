//! RTCP: compounds written and read, known bytes, and every broken form refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_wire_rtp::rtcp::{Compound, ReportBlock, RtcpError, RtcpPacket, RtcpWriter, SenderInfo};
use offhook_wire_rtp::{NtpTime, WriteError};

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 0xAABB_CCDD,
    fraction_lost: 12,
    cumulative_lost: -5,
    highest_sequence: 0x0002_FFFE,
    jitter: 77,
    last_sr: 0x1111_2222,
    delay_since_last_sr: 0x0001_8000,
};

fn written(write: impl FnOnce(&mut RtcpWriter<'_>)) -> Vec<u8> {
    let mut buf = vec![0xEE; 2048];
    let mut writer = RtcpWriter::new(&mut buf);
    write(&mut writer);
    let len = writer.finish().unwrap();
    buf.truncate(len);
    buf
}

#[test]
fn a_full_compound_comes_back_in_order() {
    let info = SenderInfo { ntp: NtpTime(0x0102_0304_0506_0708), rtp_timestamp: 9, packet_count: 10, octet_count: 11 };
    let bytes = written(|w| {
        w.sender_report(1, &info, &[BLOCK, ReportBlock { ssrc: 2, cumulative_lost: 0x7F_FFFF, ..BLOCK }])
            .source_description(1, "peer@offhook")
            .generic_nack(1, 2, [5, 6, 21, 22, 40, 65_535, 0])
            .goodbye(&[1, 3], "done");
    });
    let packets: Vec<_> = Compound::parse(&bytes).unwrap().into_iter().collect();
    let [
        RtcpPacket::SenderReport(sr),
        RtcpPacket::SourceDescription(sdes),
        RtcpPacket::GenericNack(nack),
        RtcpPacket::Goodbye(bye),
    ] = packets.as_slice()
    else {
        panic!("{packets:?}");
    };
    assert_eq!((sr.ssrc, sr.info), (1, info));
    let blocks: Vec<_> = sr.reports().collect();
    assert_eq!(blocks, [BLOCK, ReportBlock { ssrc: 2, cumulative_lost: 0x7F_FFFF, ..BLOCK }]);
    assert_eq!(sdes.cname(1), Some("peer@offhook"));
    assert_eq!(sdes.cname(2), None);
    assert_eq!((nack.sender_ssrc, nack.media_ssrc), (1, 2));
    assert_eq!(nack.pairs().collect::<Vec<_>>(), [(5, 0x8001), (22, 0), (40, 0), (65_535, 1)]);
    assert_eq!(nack.lost().collect::<Vec<_>>(), [5, 6, 21, 22, 40, 65_535, 0]);
    assert_eq!(bye.ssrcs().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(bye.reason(), Some("done"));
}

#[test]
fn an_empty_receiver_report_has_its_known_eight_bytes() {
    let bytes = written(|w| {
        w.receiver_report(0x0102_0304, &[]);
    });
    assert_eq!(bytes, [0x80, 201, 0, 1, 1, 2, 3, 4]);
}

#[test]
fn names_of_every_length_end_on_a_word_with_their_zero() {
    for len in 0..=255 {
        let name = "n".repeat(len);
        let bytes = written(|w| {
            w.source_description(7, &name).receiver_report(7, &[]);
        });
        assert_eq!(bytes.len() % 4, 0);
        let packets: Vec<_> = Compound::parse(&bytes).unwrap().into_iter().collect();
        let [RtcpPacket::SourceDescription(sdes), RtcpPacket::ReceiverReport(_)] = packets.as_slice() else {
            panic!("{packets:?}");
        };
        assert_eq!(sdes.cname(7), Some(name.as_str()));
    }
}

#[test]
fn what_we_do_not_act_on_stays_visible() {
    let mut bytes = written(|w| {
        w.receiver_report(1, &[BLOCK]);
    });
    bytes.extend_from_slice(&[0x8F, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    let packets: Vec<_> = Compound::parse(&bytes).unwrap().into_iter().collect();
    let body = [0, 0, 0, 1, 0, 0, 0, 2].as_slice();
    assert_eq!(packets[1], RtcpPacket::Unknown { packet_type: 206, format: 15, body });
}

#[test]
fn only_the_last_packet_may_be_padded() {
    let padded = [0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    let packets: Vec<_> = Compound::parse(&padded).unwrap().into_iter().collect();
    assert!(matches!(packets.as_slice(), [RtcpPacket::ReceiverReport(rr)] if rr.ssrc == 1));
    let mut first = padded.to_vec();
    first.extend_from_slice(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
    assert_eq!(Compound::parse(&first), Err(RtcpError::Padding(4)));
    for count in [0, 3, 12, 255] {
        let mut wrong = padded;
        wrong[11] = count;
        assert!(Compound::parse(&wrong).is_err(), "{count}");
    }
}

#[test]
fn counts_and_lengths_that_do_not_fit_are_refused() {
    let body = |packet_type, count, len| Err(RtcpError::Body { packet_type, count, len });
    assert_eq!(Compound::parse(&[]), Err(RtcpError::Truncated));
    assert_eq!(Compound::parse(&[0x80, 201, 0]), Err(RtcpError::Truncated));
    assert_eq!(Compound::parse(&[0x80, 201, 0, 2, 0, 0, 0, 1]), Err(RtcpError::Truncated));
    assert_eq!(Compound::parse(&[0x40, 201, 0, 1, 0, 0, 0, 1]), Err(RtcpError::Version(1)));
    assert_eq!(Compound::parse(&[0x81, 201, 0, 1, 0, 0, 0, 1]), body(201, 1, 4));
    assert_eq!(Compound::parse(&[0x80, 200, 0, 1, 0, 0, 0, 1]), body(200, 0, 4));
    assert_eq!(Compound::parse(&[0x82, 203, 0, 1, 0, 0, 0, 1]), body(203, 2, 4));
    // a reason longer than its packet
    assert_eq!(Compound::parse(&[0x81, 203, 0, 2, 0, 0, 0, 1, 9, b'x', 0, 0]), body(203, 1, 8));
    // a chunk whose items never end
    assert_eq!(Compound::parse(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, b'a', b'b']), body(202, 1, 8));
    // NACK without a media source
    assert_eq!(Compound::parse(&[0x81, 205, 0, 1, 0, 0, 0, 1]), body(205, 1, 4));
    // trailing garbage behind a good packet
    assert_eq!(Compound::parse(&[0x80, 201, 0, 1, 0, 0, 0, 1, 0]), Err(RtcpError::Truncated));
}

#[test]
fn the_writer_refuses_what_does_not_fit_and_leaves_no_half_packet() {
    let mut buf = [0; 40];
    let mut writer = RtcpWriter::new(&mut buf);
    writer.receiver_report(1, &[BLOCK]);
    assert_eq!(writer.finish(), Ok(32));
    writer.source_description(1, "name");
    assert_eq!(writer.finish(), Err(WriteError::BufferTooSmall { needed: 48, capacity: 40 }));
    let mut large = [0; 2048];
    let refused = RtcpWriter::new(&mut large).receiver_report(1, &[BLOCK; 32]).finish();
    assert!(matches!(refused, Err(WriteError::TooMany { count: 32, max: 31, .. })));
    let refused = RtcpWriter::new(&mut large).source_description(1, &"n".repeat(256)).finish();
    assert!(matches!(refused, Err(WriteError::TooMany { count: 256, max: 255, .. })));
    assert_eq!(RtcpWriter::new(&mut large).generic_nack(1, 2, []).finish(), Ok(0));
}

#[test]
fn the_round_trip_needs_a_sender_report_and_sane_clocks() {
    let block = ReportBlock { last_sr: 0x0010_0000, delay_since_last_sr: 0x0001_0000, ..BLOCK };
    let heard = NtpTime(0x0011_8000 << 16);
    assert_eq!(block.round_trip(heard).unwrap().as_millis(), 500);
    assert_eq!(ReportBlock { last_sr: 0, ..block }.round_trip(heard), None);
    assert_eq!(block.round_trip(NtpTime(0x0010_0000 << 16)), None);
}
