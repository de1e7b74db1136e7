//! A Tap's records: what is read has one form, and what is refused is refused without a panic.

use offhook_link::tap::TapFrame;
use offhook_link::{Packet, TapRecord};

pub fn run(data: &[u8]) {
    let Ok((number, record)) = TapRecord::decode(data) else { return };
    let mut again = Vec::new();
    record.encode(number, &mut again);
    assert_eq!(again, data, "what is accepted has one form");
    if let TapRecord::Packet(Packet { payload, .. }) = record {
        assert!(data.ends_with(payload));
    }
    assert!(TapFrame::check(data.into(), number).is_err(), "a number must rise");
    if let Some(before) = number.checked_sub(1) {
        assert_eq!(TapFrame::check(data.into(), before).map(|frame| frame.number()), Ok(number));
    }
}
