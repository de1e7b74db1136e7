//! Reading, checking, answering: a check on the media port allocates nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use offhook_testkit::CountingAllocator;
use offhook_wire_stun::{AttributeType, Class, Message, MessageBuilder, Method, TransactionId};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn check(buf: &mut [u8], round: u8) -> usize {
    MessageBuilder::new(buf, Class::Request, Method::BINDING, TransactionId([round; 12]))
        .username("ours:theirs")
        .ice_controlling(7)
        .use_candidate()
        .priority(1_845_494_271)
        .integrity(b"our password")
        .fingerprint()
        .finish()
        .unwrap()
}

fn answer(request: &[u8], buf: &mut [u8]) -> usize {
    let request = Message::parse(request).unwrap();
    assert_eq!(request.unknown_required(AttributeType::KNOWN_TO_ICE).count(), 0);
    assert_eq!(request.username().unwrap(), Some("ours:theirs"));
    request.verify_integrity(b"our password").unwrap();
    request.verify_fingerprint().unwrap();
    MessageBuilder::response(buf, &request, Class::Success)
        .xor_mapped_address("192.0.2.1:41000".parse().unwrap())
        .integrity(b"our password")
        .fingerprint()
        .finish()
        .unwrap()
}

#[test]
fn an_ice_check_and_its_answer_cost_no_allocation() {
    let (mut request, mut response) = ([0; 256], [0; 256]);
    let ((), counted) = CountingAllocator::during(|| {
        for round in 0..100 {
            let len = check(&mut request, round);
            let len = answer(&request[..len], &mut response);
            let read = Message::parse(&response[..len]).unwrap();
            assert!(read.xor_mapped_address().unwrap().is_some());
        }
    });
    assert_eq!(counted, 0);
}
