//! STUN: read, write what was read, read again; seal and check; credentials of any name.

use offhook_wire_stun::channel_data::{self, ChannelData};
use offhook_wire_stun::{
    Attributes, BuildError, Class, IntegrityError, MAX_ATTRIBUTES, Message, MessageBuilder, credentials, framed_len,
    is_stun,
};

const KEY: &[u8] = b"a key both sides know";

pub fn run(data: &[u8]) {
    if let Ok(message) = Message::parse(data) {
        assert_eq!((is_stun(data), framed_len(data)), (data[0] < 4, Some(data.len())));
        rewritten_is_equal(&message);
        sealed_checks(&message);
        getters_stay_inside(&message);
    }
    if let Ok(relayed) = ChannelData::parse(data) {
        let header = channel_data::header(relayed.channel, relayed.payload.len()).unwrap();
        assert_eq!(data[..4], header);
        assert_eq!(&data[4..4 + relayed.payload.len()], relayed.payload);
    }
    if let Ok(name) = std::str::from_utf8(data) {
        let _ = credentials::expiry(name);
        let minted = credentials::mint(KEY, 1000, name);
        assert_eq!(credentials::verify(KEY, &minted.username, 999), Ok(minted.password));
        assert!(credentials::verify(KEY, &minted.username, 1000).is_err());
    }
}

fn copy_of<'b>(buf: &'b mut [u8], message: &Message<'_>, attributes: Attributes<'_>) -> MessageBuilder<'b> {
    let mut builder = MessageBuilder::new(buf, message.class(), message.method(), message.transaction_id());
    for raw in attributes {
        builder.attr(raw.attribute, raw.value);
    }
    builder
}

fn rewritten_is_equal(message: &Message<'_>) {
    let mut buf = vec![0xEE; message.as_bytes().len()];
    let len = copy_of(&mut buf, message, message.attributes()).finish().unwrap();
    let again = Message::parse(&buf[..len]).unwrap();
    assert_eq!((again.class(), again.method()), (message.class(), message.method()));
    assert_eq!(again.transaction_id(), message.transaction_id());
    assert!(again.attributes().eq(message.attributes()));
    // The copy of a copy is the same bytes: nothing depends on what was ignored or on padding.
    let mut twice = vec![0xDD; len];
    assert_eq!(copy_of(&mut twice, &again, again.attributes()).finish(), Ok(len));
    assert_eq!(twice, buf[..len]);
    if len > 20 {
        let needed = copy_of(&mut vec![0; len - 1], &again, again.attributes()).finish();
        assert!(matches!(needed, Err(BuildError::BufferFull { .. })));
    }
}

/// Sealed behind what the message says in front of its own seals.
fn sealed_checks(message: &Message<'_>) {
    let open: Vec<_> = message
        .attributes()
        .take_while(|raw| !matches!(raw.attribute.0, 0x0008 | 0x001C | 0x8028))
        .take(MAX_ATTRIBUTES - 3)
        .collect();
    let mut buf = vec![0; message.as_bytes().len() + 80];
    let mut builder = MessageBuilder::response(&mut buf, message, Class::Success);
    for raw in &open {
        builder.attr(raw.attribute, raw.value);
    }
    let len = match builder.integrity(KEY).integrity_sha256(KEY).fingerprint().finish() {
        Ok(len) => len,
        Err(error) => return assert!(matches!(error, BuildError::TooLong { .. }), "{error}"),
    };
    let sealed = Message::parse(&buf[..len]).unwrap();
    assert_eq!(sealed.verify_integrity(KEY), Ok(()));
    assert_eq!(sealed.verify_integrity_sha256(KEY), Ok(()));
    assert_eq!(sealed.verify_fingerprint(), Ok(()));
    assert_eq!(sealed.verify_integrity(b"another"), Err(IntegrityError::Mismatch));
    assert_eq!(sealed.attributes().count(), open.len() + 3);
    // One bit in what is covered, chosen by the transaction id.
    let [a, b, ..] = message.transaction_id().0;
    let at = usize::from(u16::from_be_bytes([a, b])) % (len - 68);
    buf[at] ^= 1 << (a % 8);
    if let Ok(forged) = Message::parse(&buf[..len]) {
        assert!(forged.verify_integrity(KEY).is_err());
        assert!(forged.verify_integrity_sha256(KEY).is_err());
    }
}

fn getters_stay_inside(message: &Message<'_>) {
    let _ = (message.verify_integrity(KEY), message.verify_integrity_sha256(KEY), message.verify_fingerprint());
    let _ = (message.username(), message.realm(), message.nonce(), message.software(), message.userhash());
    let _ = (message.priority(), message.ice_controlled(), message.ice_controlling(), message.use_candidate());
    let _ = (message.lifetime_s(), message.requested_transport(), message.requested_address_family());
    let _ = (message.even_port(), message.reservation_token(), message.channel_number(), message.connection_id());
    let _ = (message.additional_address_family(), message.password_algorithm(), message.data());
    let _ = (message.mapped_address(), message.alternate_server());
    assert!(message.unknown_attributes().count() <= message.as_bytes().len());
    assert!(message.xor_peer_addresses().count() <= MAX_ATTRIBUTES);
    assert!(message.unknown_required(&[]).count() <= MAX_ATTRIBUTES);
    if let Ok(Some(error)) = message.error_code() {
        assert!((300..700).contains(&error.code));
    }
    let addresses = [message.xor_mapped_address(), message.xor_relayed_address(), message.xor_peer_address()];
    for address in addresses.into_iter().flatten().flatten() {
        let mut buf = [0; 68];
        let len = MessageBuilder::response(&mut buf, message, Class::Success)
            .xor_mapped_address(address)
            .mapped_address(address)
            .finish()
            .unwrap();
        let answer = Message::parse(&buf[..len]).unwrap();
        assert_eq!(answer.xor_mapped_address(), Ok(Some(address)));
        assert_eq!(answer.mapped_address(), Ok(Some(address)));
    }
}
