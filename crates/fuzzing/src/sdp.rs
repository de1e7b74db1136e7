//! Session descriptions: whatever is read can be answered, and the answer reads back.

use offhook_wire_sdp::property;

pub fn run(data: &[u8]) {
    property::webrtc(data);
    property::telephony(data);
}
