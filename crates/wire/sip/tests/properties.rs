//! Seeds and seeded mutations of them keep the properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use offhook_wire_sip::{Message, property};

const SEEDS: [&[u8]; 5] = [
    include_bytes!("../seeds/invite.sip"),
    include_bytes!("../seeds/folded.sip"),
    include_bytes!("../seeds/unauthorized.sip"),
    include_bytes!("../seeds/register-ok.sip"),
    include_bytes!("../seeds/bye.sip"),
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

fn mutate(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => drop(bytes.remove(at)),
            1 => bytes.insert(at, b" \t\r\n\",;<>:@%\\\0=/[]?*"[random.below(20)]),
            2 => bytes[at] = random.below(256) as u8,
            3 => {
                let from = random.below(bytes.len());
                let piece: Vec<u8> = bytes[from..].iter().take(random.below(40)).copied().collect();
                bytes.splice(at..at, piece);
            }
            4 => bytes.splice(at..at, *b"\r\n ").for_each(drop),
            _ => {
                let end = (at + random.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn seeds_are_whole_messages() {
    for seed in SEEDS {
        Message::parse(seed).unwrap();
        property::message(seed);
    }
}

#[test]
fn messages_survive_mutation() {
    let mut random = Random(5);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let bytes = mutate(&mut random);
        accepted += u32::from(Message::parse(&bytes).is_ok());
        property::message(&bytes);
    }
    assert!(accepted > 6_000, "mutations must reach the deeper checks, only {accepted} were accepted");
}
