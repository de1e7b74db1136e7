//! An admitted carrier gone mad: thousands of mutated messages, aimed at live transactions and dialogs.

use crate::carrier::*;
use crate::world::*;
use offhook_contract::HangupCause as Cause;
use offhook_sip_core::Command;
use offhook_sip_core::api::*;
use offhook_sip_core::random::{Random, Seeded};
use offhook_wire_sip::Message;

const WORDS: [&str; 24] = [
    "BYE",
    "INVITE",
    "ACK",
    "CANCEL",
    "UPDATE",
    "INFO",
    "SIP/2.0 200 OK",
    "SIP/2.0 487 X",
    "SIP/2.0 183 X",
    ";tag=theirs",
    "Require: x\r\n",
    "Content-Length: 0\r\n",
    "Contact: <sip:h?a=b>\r\n",
    "Record-Route: <sip:h>\r\n",
    "\r\n\r\n",
    "%00",
    "4294967296",
    "a=sendonly\r\n",
    "c=IN IP4 0.0.0.0\r\n",
    "m=audio 0 RTP/AVP 0\r\n",
    "<",
    "\"",
    "z9hG4bK",
    "\r\n ",
];

struct Madness(Seeded);

impl Madness {
    fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % limit.max(1) as u64) as usize
    }

    fn mutate(&mut self, text: &str) -> Vec<u8> {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(24)).min(bytes.len());
            match self.below(5) {
                0 => drop(bytes.drain(at..end)),
                1 => drop(bytes.splice(at..at, WORDS[self.below(WORDS.len())].bytes())),
                2 => drop(bytes.splice(at..end, WORDS[self.below(WORDS.len())].bytes())),
                3 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                _ => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

/// Everything the carrier could say about what the gateway last sent.
fn sayings(world: &World, madness: &mut Madness, serial: usize) -> Vec<String> {
    let offer = with_sdp(&sdp(4000, 1, ""));
    let mut texts = vec![invite(&format!("m{serial}"), "", &offer), invite(&format!("n{serial}"), "", EMPTY)];
    let recent = world.log.len().saturating_sub(12);
    for flight in &world.log[recent..] {
        if is_echo_of_rubbish(flight) {
            continue;
        }
        if Message::parse(&flight.bytes).unwrap().is_request() {
            for status in
                ["100 Trying", "183 Session Progress", "200 OK", "401 Unauthorized", "486 Busy Here", "302 Moved"]
            {
                let rest = if madness.below(2) == 0 { offer.clone() } else { EMPTY.to_owned() };
                texts.push(respond(flight, status, "theirs", &rest));
            }
        } else if flight.starts("SIP/2.0 1") || flight.starts("SIP/2.0 2") {
            let mut partner = Partner::calling(flight);
            for method in ["ACK", "BYE", "INVITE", "UPDATE", "INFO", "CANCEL", "OPTIONS"] {
                texts.push(partner.request(method, if madness.below(2) == 0 { &offer } else { EMPTY }));
            }
        }
    }
    texts
}

fn act(world: &mut World, madness: &mut Madness) {
    let legs: Vec<LegHandle> = world
        .told
        .iter()
        .rev()
        .take(40)
        .filter_map(|(.., output)| match output {
            Output::Leg { leg, .. } => Some(*leg),
            _ => None,
        })
        .collect();
    let Some(&leg) = legs.get(madness.below(legs.len())) else { return };
    let media = media(GATEWAY);
    let command = match madness.below(6) {
        0 => Command::Dial(dial()),
        1 => Command::Ring { leg },
        2 => Command::Early { leg, media },
        3 => Command::Answer { leg, media, max_duration: None },
        4 => Command::Reject { leg, cause: Cause::Busy },
        _ => Command::HangUp { leg, cause: Cause::Normal },
    };
    // Most of these come at a wrong moment; none may do harm.
    let _ = world.order(GATEWAY, command);
}

#[test]
fn a_mad_carrier_harms_nothing_and_leaves_nothing() {
    for seed in 0..3 {
        let mut madness = Madness(Seeded::new(seed));
        let mut world = World::alone(|config| {
            config.max_legs = 50;
            config.max_transactions = 200;
        });
        world.dial();
        for serial in 0..2_500 {
            let texts = sayings(&world, &mut madness, serial);
            let text = &texts[madness.below(texts.len())];
            let bytes = madness.mutate(text);
            let now = world.now;
            world.end(GATEWAY).handle_input(now, addr(CARRIER), addr(GATEWAY), &bytes);
            world.run(ms(if madness.below(20) == 0 { 3_000 } else { 10 }));
            if madness.below(4) == 0 {
                act(&mut world, &mut madness);
            }
            let end = world.end(GATEWAY);
            assert!(end.legs() <= 51 && end.transactions() <= 260, "{} legs, {} tx", end.legs(), end.transactions());
        }
        check_what_was_said(&world);
        // Every leg that was opened can be ended, each has ended once, and nothing stays.
        let handles: Vec<LegHandle> = world.told.iter().filter_map(|(.., output)| leg_of(output)).collect();
        for leg in handles {
            let _ = world.order(GATEWAY, Command::HangUp { leg, cause: Cause::Normal });
        }
        check_ends(&world);
        world.run(secs(200));
        world.assert_empty();
    }
}

const fn leg_of(output: &Output) -> Option<LegHandle> {
    match output {
        Output::Leg { leg, .. } => Some(*leg),
        _ => None,
    }
}

/// A refusal of something malformed must echo its Via, From, To, Call-ID and CSeq, faults and all.
fn is_echo_of_rubbish(flight: &Flight) -> bool {
    ["SIP/2.0 400", "SIP/2.0 505", "SIP/2.0 513"].iter().any(|start| flight.starts(start))
}

/// Whatever came in, what goes out is well formed and goes to the carrier.
fn check_what_was_said(world: &World) {
    for flight in &world.log {
        assert_eq!(flight.to.ip(), addr(CARRIER).ip());
        if let Err(error) = Message::parse(&flight.bytes)
            && !is_echo_of_rubbish(flight)
        {
            panic!("{error}: {}", flight.text());
        }
    }
}

fn check_ends(world: &World) {
    let mut ended = std::collections::HashSet::new();
    for (.., output) in &world.told {
        if let Output::Leg { leg, event } = output {
            assert!(!ended.contains(leg), "{leg} speaks after its end: {event:?}");
            if matches!(event, LegEvent::Ended(_)) {
                ended.insert(*leg);
            }
        }
    }
    let opened: std::collections::HashSet<LegHandle> =
        world.told.iter().filter_map(|(.., output)| leg_of(output)).collect();
    assert_eq!(opened, ended);
}
