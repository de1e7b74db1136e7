//! RTP: read, write what was read, read again; edits in place change what they name and nothing else.

use offhook_wire_rtp::{
    DatagramKind, Extension, ExtensionError, HeaderView, RtpHeader, RtpPacket, TelephoneEvent, is_rtp_or_rtcp,
    set_one_byte_extension_in_place,
};

pub fn run(data: &[u8]) {
    let kind = DatagramKind::of(data);
    assert_eq!(is_rtp_or_rtcp(data), matches!(kind, DatagramKind::Rtp | DatagramKind::Rtcp));
    let Ok(packet) = RtpPacket::parse(data) else { return };
    assert!(is_rtp_or_rtcp(data));
    assert_eq!(packet.header_len() + packet.payload().len() + packet.padding_len(), data.len());
    assert_eq!(
        HeaderView::parse(data).map(|view| (view.header, view.len())),
        Ok((packet.header(), packet.header_len()))
    );
    rewritten_is_equal(&packet);
    header_edits_stay_in_the_header(&packet);
    element_edits_stay_in_the_element(&packet);
    if let Ok(event) = TelephoneEvent::parse(packet.payload()) {
        assert_eq!(TelephoneEvent::parse(&event.to_bytes()), Ok(event));
        assert_eq!(event.key().and_then(TelephoneEvent::code_of), event.key().map(|_| event.event));
    }
}

/// Without padding and, if the block has another form than one-byte, without extensions.
fn rewritten_is_equal(packet: &RtpPacket<'_>) {
    let csrcs: Vec<u32> = packet.csrcs().collect();
    let one_byte = packet.extension_block().is_some_and(|(profile, _)| profile == 0xBEDE);
    let elements: Vec<Extension<'_>> = packet.extensions().filter(|_| one_byte).collect();
    let mut buf = vec![0xEE; packet.as_bytes().len()];
    let len = packet.header().write_with(&mut buf, &csrcs, &elements).unwrap();
    buf.truncate(len);
    buf.extend_from_slice(packet.payload());
    let again = RtpPacket::parse(&buf).unwrap();
    assert_eq!(again.header(), packet.header());
    assert!(again.csrcs().eq(csrcs));
    assert!(again.extensions().eq(elements));
    assert_eq!(again.payload(), packet.payload());
}

fn header_edits_stay_in_the_header(packet: &RtpPacket<'_>) {
    let old = packet.header();
    let header = RtpHeader {
        marker: !old.marker,
        payload_type: old.payload_type ^ 0x55,
        sequence: !old.sequence,
        timestamp: !old.timestamp,
        ssrc: !old.ssrc,
    };
    let mut bytes = packet.as_bytes().to_vec();
    header.rewrite_in_place(&mut bytes).unwrap();
    assert_eq!(bytes[0], packet.as_bytes()[0]);
    assert_eq!(bytes[12..], packet.as_bytes()[12..]);
    assert_eq!(RtpPacket::parse(&bytes).unwrap().header(), header);
}

fn element_edits_stay_in_the_element(packet: &RtpPacket<'_>) {
    let one_byte = packet.extension_block().is_some_and(|(profile, _)| profile == 0xBEDE);
    for id in 0..=16 {
        let mut bytes = packet.as_bytes().to_vec();
        let Some(data) = packet.extension(id).filter(|_| one_byte) else {
            assert_eq!(set_one_byte_extension_in_place(&mut bytes, id, &[0]), Err(ExtensionError::Absent(id)));
            continue;
        };
        let other: Vec<u8> = data.iter().map(|byte| !byte).collect();
        set_one_byte_extension_in_place(&mut bytes, id, &other).unwrap();
        let edited = RtpPacket::parse(&bytes).unwrap();
        assert_eq!(edited.extension(id), Some(other.as_slice()));
        let changed = bytes.iter().zip(packet.as_bytes()).filter(|(new, old)| new != old).count();
        assert_eq!(changed, other.len());
        assert!(edited.extensions().map(|e| e.id).eq(packet.extensions().map(|e| e.id)));
        let longer = [other.as_slice(), &[0]].concat();
        assert!(set_one_byte_extension_in_place(&mut bytes, id, &longer).is_err());
    }
}
