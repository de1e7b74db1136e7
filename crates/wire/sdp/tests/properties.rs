//! Seeds and seeded mutations of them keep the properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sdp::property;

const WEBRTC: [&[u8]; 3] = [
    include_bytes!("../seeds/webrtc/chromium-slots.sdp"),
    include_bytes!("../seeds/webrtc/audio-video-data.sdp"),
    include_bytes!("../seeds/webrtc/firefox-session-level.sdp"),
];
const TELEPHONY: [&[u8]; 4] = [
    include_bytes!("../seeds/telephony/carrier-offer.sdp"),
    include_bytes!("../seeds/telephony/several-lines.sdp"),
    include_bytes!("../seeds/telephony/hold-v6.sdp"),
    include_bytes!("../seeds/telephony/old-hold.sdp"),
];

/// xorshift64*: enough for mutations, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

fn mutate(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = seeds[random.below(seeds.len())].split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    for _ in 0..1 + random.below(4) {
        let at = random.below(lines.len());
        match random.below(5) {
            0 => drop(lines.remove(at)),
            1 => {
                let copy = lines[random.below(lines.len())].clone();
                lines.insert(at, copy);
            }
            2 => {
                let other = random.below(lines.len());
                lines.swap(at, other);
            }
            _ if lines[at].is_empty() => {}
            3 => {
                let i = random.below(lines[at].len());
                lines[at][i] = b" :/=-0149azA\0\xff;,"[random.below(16)];
            }
            _ => {
                let keep = random.below(lines[at].len());
                lines[at].truncate(keep);
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join(&b'\n')
}

#[test]
fn offers_from_browsers_survive_mutation() {
    let mut random = Random(7);
    WEBRTC.iter().for_each(|seed| property::webrtc(seed));
    (0..20_000).for_each(|_| property::webrtc(&mutate(&mut random, &WEBRTC)));
}

#[test]
fn descriptions_from_trunks_survive_mutation() {
    let mut random = Random(11);
    TELEPHONY.iter().for_each(|seed| property::telephony(seed));
    (0..20_000).for_each(|_| property::telephony(&mutate(&mut random, &TELEPHONY)));
}
