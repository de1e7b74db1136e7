//! Reading, rewriting, counting and reporting packets allocates nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_testkit::CountingAllocator;
use offhook_wire_rtp::rtcp::{Compound, RtcpPacket, RtcpWriter, SenderInfo};
use offhook_wire_rtp::{
    AudioLevel, Extension, ReceiverStats, RtpHeader, RtpPacket, SeqExtender, set_one_byte_extension_in_place,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_packet_costs_no_allocation() {
    let mut buf = [0; 256];
    let mut stats = ReceiverStats::new();
    let mut extender = SeqExtender::new();
    let ((), counted) = CountingAllocator::during(|| {
        for sequence in 0..1000_u16 {
            let header = RtpHeader { sequence, timestamp: u32::from(sequence) * 960, ssrc: 5, ..RtpHeader::default() };
            let elements = [Extension { id: 1, data: &[127] }, Extension { id: 4, data: b"0" }];
            let len = header.write_with(&mut buf, &[9], &elements).unwrap() + 80;
            let level = AudioLevel { voice: true, minus_dbov: 20 };
            set_one_byte_extension_in_place(&mut buf[..len], 1, &[level.to_byte()]).unwrap();
            let packet = RtpPacket::parse(&buf[..len]).unwrap();
            assert_eq!((packet.audio_level(1), packet.csrcs().next()), (Some(level), Some(9)));
            stats.on_packet(packet.sequence(), packet.timestamp(), 48_000, u64::from(sequence) * 20_000_000);
            extender.extend(packet.sequence());
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn a_report_costs_no_allocation() {
    let mut buf = [0; 256];
    let mut stats = ReceiverStats::new();
    stats.on_packet(1, 2, 8000, 3);
    let ((), counted) = CountingAllocator::during(|| {
        for round in 0..100 {
            let block = stats.report(5, round).unwrap();
            let len = RtcpWriter::new(&mut buf)
                .sender_report(1, &SenderInfo::default(), &[block])
                .source_description(1, "offhook")
                .generic_nack(1, 5, [1, 2, 30])
                .finish()
                .unwrap();
            for packet in Compound::parse(&buf[..len]).unwrap() {
                if let RtcpPacket::GenericNack(nack) = packet {
                    assert_eq!(nack.lost().count(), 3);
                }
            }
        }
    });
    assert_eq!(counted, 0);
}
