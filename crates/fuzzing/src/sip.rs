//! SIP messages: written again they read the same, responses belong to their request, refusals are readable.

use offhook_wire_sip::property;

pub fn run(data: &[u8]) {
    property::message(data);
}
