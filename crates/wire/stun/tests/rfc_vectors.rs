//! Known answers: RFC 5769 §2.1 to §2.4 and RFC 8489 Appendix B.1 (as corrected by erratum 6268).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_wire_stun::credentials::{long_term_key, long_term_key_sha256, userhash};
use offhook_wire_stun::{
    AttributeType, Class, IntegrityError, Message, MessageBuilder, Method, TransactionId, is_stun,
};

const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae
    802200105354554e207465737420636c69656e74
    002400046e0001ff 80290008932ff9b151263b36
    000600096576746a3a68367659202020
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2
    80280004e57a3bcf";
const RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220 002000080001a147e112a643
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96";
const RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae
    8022000b7465737420766563746f7220 002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41 80280004c8fb0b4c";
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e
    00060012e3839ee38388e383aae38383e382afe382b90000
    0015001c662f2f3439396b393534643 64f4c33346f4c39465354767936347341
    0014000b6578616d706c652e6f726700
    00080014f67024656dd64a3e02b8e0712e85c9a28ca89666";
const SHA256_REQUEST: &str = "000100902112a44278ad3433c6ad72c029da412e
    001e00204a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704
    001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33346f4c39465354767936347341000000
    0014000b6578616d706c652e6f726700 001d000400020000
    001c0020b5c7bf005b6c52a21c51c5e892f819241362 96cb927c43149309278cc6518e65";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn the_sample_request_parses_and_both_seals_hold() {
    let bytes = hex(REQUEST);
    assert!(is_stun(&bytes));
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class(), message.method()), (Class::Request, Method::BINDING));
    assert_eq!(message.software().unwrap(), Some("STUN test client"));
    assert_eq!(message.username().unwrap(), Some("evtj:h6vY"));
    assert_eq!(message.priority().unwrap(), Some(0x6e00_01ff));
    assert_eq!(message.ice_controlled().unwrap(), Some(0x932f_f9b1_5126_3b36));
    assert_eq!(message.ice_controlling().unwrap(), None);
    message.verify_integrity(PASSWORD).unwrap();
    message.verify_fingerprint().unwrap();
    assert_eq!(message.verify_integrity(b"other"), Err(IntegrityError::Mismatch));
    assert_eq!(message.unknown_required(AttributeType::KNOWN_TO_ICE).count(), 0);
}

#[test]
fn both_sample_responses_carry_their_address() {
    for (text, address) in
        [(RESPONSE_V4, "192.0.2.1:32853"), (RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = hex(text);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.class(), Class::Success);
        assert_eq!(message.xor_mapped_address().unwrap(), Some(address.parse().unwrap()));
        message.verify_integrity(PASSWORD).unwrap();
        message.verify_fingerprint().unwrap();
    }
}

#[test]
fn the_long_term_sample_checks_under_the_md5_key() {
    let bytes = hex(LONG_TERM);
    let message = Message::parse(&bytes).unwrap();
    let user = message.username().unwrap().unwrap();
    let realm = message.realm().unwrap().unwrap();
    assert_eq!((user, realm), ("マトリックス", "example.org"));
    assert_eq!(message.nonce().unwrap(), Some("f//499k954d6OL34oL9FSTvy64sA"));
    message.verify_integrity(&long_term_key(user, realm, "TheMatrIX")).unwrap();
    assert_eq!(message.verify_fingerprint(), Err(IntegrityError::Missing));
}

#[test]
fn the_sha256_sample_checks_with_hashed_user_and_key() {
    let bytes = hex(SHA256_REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.userhash().unwrap(), Some(&userhash("マトリックス", "example.org")));
    assert_eq!(message.password_algorithm().unwrap(), Some(2));
    let key = long_term_key_sha256("マトリックス", "example.org", "TheMatrIX");
    message.verify_integrity_sha256(&key).unwrap();
    assert_eq!(message.verify_integrity(&key), Err(IntegrityError::Missing));
}

#[test]
fn writing_the_sample_response_gives_the_same_bytes_up_to_the_padding() {
    let wanted = hex(RESPONSE_V4);
    let request = hex(REQUEST);
    let request = Message::parse(&request).unwrap();
    let mut buf = [0xEE; 128];
    let len = MessageBuilder::response(&mut buf, &request, Class::Success)
        .software("test vector")
        .xor_mapped_address("192.0.2.1:32853".parse().unwrap())
        .integrity(PASSWORD)
        .fingerprint()
        .finish()
        .unwrap();
    assert_eq!(len, wanted.len());
    // The sample pads SOFTWARE with a space where we write zero; HMAC and CRC cover that byte.
    assert_eq!((buf[35], wanted[35]), (0, 0x20));
    assert_eq!(&buf[..35], &wanted[..35]);
    assert_eq!(&buf[36..52], &wanted[36..52]);
    let ours = Message::parse(&buf[..len]).unwrap();
    ours.verify_integrity(PASSWORD).unwrap();
    ours.verify_fingerprint().unwrap();
    assert_eq!(ours.transaction_id(), TransactionId(request.transaction_id().0));
}
