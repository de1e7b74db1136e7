//! Whole packets under known master keys, as libsrtp's self-test has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::roomy;
use offhook_wire_srtp::{Profile, ReceiveContext, SendContext, SrtpKey};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

struct Known {
    key: SrtpKey,
    rtp: Vec<u8>,
    /// Of index 1.
    rtcp: Vec<u8>,
}

fn known() -> [Known; 2] {
    let gcm_salt = hex("a0a1a2a3a4a5a6a7a8a9aaab");
    let gcm_key: Vec<u8> = (0..16).collect();
    [
        Known {
            key: SrtpKey::new(
                Profile::Aes128CmSha1_80,
                &hex("e1f97a0d3e018be0d64fa32c06de4139"),
                &hex("0ec675ad498afeebb6960b3aabe6"),
            )
            .unwrap(),
            rtp: hex("800f1234decafbadcafebabe 4e55dc4ce79978d88ca4d215949d2402 b78d6acc99ea179b8dbb"),
            rtcp: hex("81c8000bcafebabe 7128035be487b9bdbef89041f977a5a8 80000001 993e08cd54d6c1230798"),
        },
        Known {
            key: SrtpKey::new(Profile::AeadAes128Gcm, &gcm_key, &gcm_salt).unwrap(),
            rtp: hex("800f1234decafbadcafebabe c5002ede04cfdd2eb91159e0880aa06e d2976826f796b201df3131a127e8a392"),
            rtcp: hex("81c8000bcafebabe c98b8b5df0392a55852b6c21ac8e7025 c52c6fbea2b3b446ea31123ba88ce61e 80000001"),
        },
    ]
}

#[test]
fn known_rtp_packets_come_out_and_open() {
    let plain = hex("800f1234decafbadcafebabe abababababababababababababababab");
    for known in known() {
        let mut buf = roomy(&plain);
        let len = SendContext::new(&known.key).unwrap().protect_rtp(&mut buf, plain.len()).unwrap();
        assert_eq!(buf[..len], known.rtp, "{:?}", known.key);
        let mut buf = known.rtp.clone();
        let len = ReceiveContext::new(&known.key).unwrap().unprotect_rtp(&mut buf).unwrap();
        assert_eq!(buf[..len], plain);
    }
}

#[test]
fn known_rtcp_packets_come_out_and_open() {
    let plain = hex("81c8000bcafebabe abababababababababababababababab");
    for known in known() {
        let mut sender = SendContext::new(&known.key).unwrap();
        sender.protect_rtcp(&mut roomy(&plain), plain.len()).unwrap();
        let mut buf = roomy(&plain);
        let len = sender.protect_rtcp(&mut buf, plain.len()).unwrap();
        assert_eq!(buf[..len], known.rtcp, "{:?}", known.key);
        let mut buf = known.rtcp.clone();
        let len = ReceiveContext::new(&known.key).unwrap().unprotect_rtcp(&mut buf).unwrap();
        assert_eq!(buf[..len], plain);
    }
}
