//! RTCP: every packet of a compound written again reads the same.

use std::collections::BTreeSet;

use offhook_wire_rtp::rtcp::{Compound, ReportBlock, RtcpPacket, RtcpWriter, SDES_CNAME};

pub fn run(data: &[u8]) {
    let Ok(compound) = Compound::parse(data) else { return };
    let packets: Vec<_> = compound.into_iter().collect();
    assert!(!packets.is_empty() && packets.len() <= data.len() / 4);
    // NACK pairs may fall apart in two, and 31 chunks may share one name of 255 bytes.
    let mut buf = vec![0xEE; data.len() * 4 + 31 * 264];
    for packet in packets {
        let mut writer = RtcpWriter::new(&mut buf);
        match packet {
            RtcpPacket::SenderReport(report) => {
                let blocks: Vec<ReportBlock> = report.reports().collect();
                writer.sender_report(report.ssrc, &report.info, &blocks);
            }
            RtcpPacket::ReceiverReport(report) => {
                let blocks: Vec<ReportBlock> = report.reports().collect();
                writer.receiver_report(report.ssrc, &blocks);
            }
            RtcpPacket::SourceDescription(sdes) => {
                for chunk in sdes.chunks() {
                    assert!(chunk.items().all(|item| item.item_type != 0));
                    if let Some(cname) = sdes.cname(chunk.ssrc) {
                        writer.source_description(chunk.ssrc, cname);
                    }
                }
            }
            RtcpPacket::Goodbye(bye) => {
                let ssrcs: Vec<u32> = bye.ssrcs().collect();
                writer.goodbye(&ssrcs, bye.reason().unwrap_or_default());
            }
            RtcpPacket::GenericNack(nack) => {
                writer.generic_nack(nack.sender_ssrc, nack.media_ssrc, nack.lost());
            }
            RtcpPacket::Unknown { body, .. } => assert_eq!(body.len() % 4, 0),
        }
        let len = writer.finish().unwrap();
        if len > 0 {
            let again: Vec<_> = Compound::parse(&buf[..len]).unwrap().into_iter().collect();
            same(&packet, &again);
        }
    }
}

fn same(packet: &RtcpPacket<'_>, again: &[RtcpPacket<'_>]) {
    match (packet, again) {
        (RtcpPacket::SenderReport(old), [RtcpPacket::SenderReport(new)]) => {
            assert_eq!((old.ssrc, old.info), (new.ssrc, new.info));
            assert!(old.reports().eq(new.reports()));
        }
        (RtcpPacket::ReceiverReport(old), [RtcpPacket::ReceiverReport(new)]) => {
            assert_eq!(old.ssrc, new.ssrc);
            assert!(old.reports().eq(new.reports()));
        }
        (RtcpPacket::SourceDescription(old), written) => {
            for packet in written {
                let RtcpPacket::SourceDescription(new) = packet else { panic!("{packet:?}") };
                let chunk = new.chunks().next().unwrap();
                assert_eq!(new.cname(chunk.ssrc), old.cname(chunk.ssrc));
                assert!(chunk.items().all(|item| item.item_type == SDES_CNAME));
            }
        }
        (RtcpPacket::Goodbye(old), [RtcpPacket::Goodbye(new)]) => {
            assert!(old.ssrcs().eq(new.ssrcs()));
            assert_eq!(old.reason().unwrap_or_default(), new.reason().unwrap_or_default());
        }
        (RtcpPacket::GenericNack(old), [RtcpPacket::GenericNack(new)]) => {
            assert_eq!((old.sender_ssrc, old.media_ssrc), (new.sender_ssrc, new.media_ssrc));
            assert_eq!(old.lost().collect::<BTreeSet<_>>(), new.lost().collect::<BTreeSet<_>>());
        }
        (old, new) => panic!("{old:?} was read again as {new:?}"),
    }
}
