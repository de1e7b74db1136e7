//! Hours of calls in virtual time, by a seeded schedule: nothing grows, no beep is missing, numbers roll over unheard.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcmu};
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::sfu::RoomKind;
use offhook_sfu_core::*;
use offhook_testkit::{Rng, length};
use stage::*;
use std::time::Duration;

const BEEP: ConsentKind = ConsentKind::Beep;

/// Lets one step of 20 ms pass; browsers check every five seconds.
fn frame(s: &mut Stage, speakers: &[usize]) {
    for speaker in speakers {
        let (codec, length) = if s.actors[*speaker].kind == Kind::Link { (Pcmu, 160) } else { (Opus, 30) };
        let payload = vec![*speaker as u8; length];
        s.speak(*speaker, codec, &payload);
    }
    for _ in 0..4 {
        s.now = s.now.after(ms(5));
        s.due();
    }
}

fn check_browsers(s: &mut Stage, present: &[usize]) {
    for index in present {
        if s.actors[*index].kind == Kind::Browser {
            s.check(*index, false);
        }
    }
}

/// What was checked is forgotten, so that hours fit into memory.
fn forget(s: &mut Stage) {
    s.wire.clear();
    s.outputs.clear();
    for actor in &mut s.actors {
        actor.heard.clear();
        actor.reports.clear();
        actor.sender_reports.clear();
    }
}

#[test]
fn a_long_recorded_call_keeps_its_beeps_on_the_grid_over_every_roll_over() {
    let long: Duration = length(secs(10 * 60), secs(2 * 3600));
    let mut s = Stage::conversation();
    // Sequence numbers and timestamps of source, slots and lines all turn over within the first minutes.
    let near_its_end = |actor: &mut Actor| {
        actor.sequence = u16::MAX - 3_000;
        actor.timestamp = u32::MAX - 48_000 * 90;
        actor.first_slot_sequence = 0x7fff;
        actor.first_slot_timestamp = u32::MAX - 48_000 * 100;
    };
    let (alice, phone) = (s.browser_with("alice", near_its_end), s.link("phone", &[Pcmu]));
    let tape = s.record();
    let begun = s.now;
    let settled = s.shard.gauges();
    let (mut heard, mut last, mut seconds) = (0_u64, None::<u16>, 0);
    while s.now.since(begun) < long {
        for _ in 0..250 {
            frame(&mut s, &[alice, phone]);
        }
        seconds += 5;
        for packet in s.actors[alice].on_slot(0) {
            assert!(last.is_none_or(|last| packet.sequence == last.wrapping_add(1)), "at {seconds} s");
            last = Some(packet.sequence);
            heard += 1;
        }
        for party in [alice, phone] {
            assert_eq!(s.actors[party].undecipherable, 0);
            let ssrc = s.actors[party].announcer_ssrc();
            if s.actors[party].on_announcer().next().is_some() {
                let report = s.actors[party].confirm(ssrc, 0, 0);
                s.send(party, report);
            }
        }
        let ended = s.news().find(|n| matches!(n, News::TapClosed { .. } | News::LegEnded { .. }));
        assert_eq!(ended, None, "at {seconds} s");
        check_browsers(&mut s, &[alice]);
        forget(&mut s);
    }
    assert_eq!(heard, long.as_millis() as u64 / 20, "every frame");
    let started = tape.started(BEEP);
    let notice = ms(notice().frame_count() as u64 * 20);
    let grid = (long - notice).as_secs() / 15 + 1;
    assert_eq!(started.len() as u64, grid);
    for (n, at) in started.iter().enumerate() {
        assert_eq!(at.since(begun), notice + secs(15 * n as u64));
    }
    let gauges = s.shard.gauges();
    assert!(gauges.timers <= settled.timers + 4, "{gauges:?}");
    s.command(Command::CloseRoom { room: room() });
    assert_eq!(tape.closed(), Some(TapCloseReason::Requested));
    assert_eq!(s.shard.gauges(), Gauges::default());
}

/// One conversation of people who come, go, hold, mute, reload, and are recorded now and then.
fn disorder(seed: u64, steps: usize) {
    let mut rng = Rng::seeded(seed);
    let mut s = Stage::conversation();
    let mut present: Vec<(String, usize)> = Vec::new();
    let mut tape: Option<TapeReader> = None;
    for step in 0..steps {
        let at = rng.below(present.len() as u64) as usize;
        let chosen = present.get(at).cloned();
        match (rng.below(12), chosen) {
            (0..=2, _) if present.len() < 6 => {
                // The stage numbers its actors in a byte; who left gives the place back.
                if s.actors.len() > 200 {
                    end(&mut s, &mut present, &mut tape);
                    s.actors.clear();
                    s.open_room(RoomKind::Conversation);
                }
                let name = format!("party{step}");
                let index = if rng.chance(0.3) { s.link(&name, &[Pcmu]) } else { s.browser(&name) };
                present.push((name, index));
            }
            (3, Some((name, _))) => {
                present.remove(at);
                s.command(Command::RemoveLeg { room: room(), leg: leg(&name) });
            }
            (4, Some((name, index))) if s.actors[index].kind == Kind::Browser && s.actors.len() < 200 => {
                present[at].1 = s.browser(&name);
            }
            (5 | 6, Some((name, _))) => {
                let held = rng.chance(0.5);
                s.command(Command::HoldLeg { room: room(), leg: leg(&name), held });
            }
            (7, Some((name, _))) => {
                let muted = rng.chance(0.5);
                s.command(Command::MuteLeg { room: room(), leg: leg(&name), muted });
            }
            (8, _) => match tape.take() {
                Some(open) if open.closed().is_none() => {
                    s.command(Command::CloseTap { room: room(), recording: recording() });
                }
                _ => tape = Some(s.record()),
            },
            (9, _) => {
                let mut garbage = vec![0; rng.below(200) as usize];
                rng.fill(&mut garbage);
                let from = s.actors.last().map_or("192.0.2.9:9".parse().unwrap(), |actor| actor.address);
                // Every other piece begins like DTLS, which has the fewest first bytes of all protocols.
                if let Some(first) = garbage.first_mut().filter(|_| step % 2 == 0) {
                    *first = 20 + *first % 44;
                }
                s.send_from(from, garbage);
            }
            _ => {}
        }
        let all: Vec<usize> = present.iter().map(|(_, index)| *index).collect();
        for _ in 0..25 + rng.below(50) {
            frame(&mut s, &all);
        }
        check_browsers(&mut s, &all);
        let gauges = s.shard.gauges();
        assert_eq!(gauges.peers + gauges.links, present.len(), "seed {seed}, step {step}");
        assert!(gauges.timers <= 16 + 24 * present.len(), "seed {seed}, step {step}: {gauges:?}");
        if let Some(tape) = &tape {
            assert_eq!(tape.closed(), None, "seed {seed}, step {step}");
        }
        forget(&mut s);
    }
    end(&mut s, &mut present, &mut tape);
}

fn end(s: &mut Stage, present: &mut Vec<(String, usize)>, tape: &mut Option<TapeReader>) {
    s.command(Command::CloseRoom { room: room() });
    present.clear();
    if let Some(tape) = tape.take() {
        assert_eq!(tape.closed(), Some(TapCloseReason::Requested));
    }
    assert_eq!(s.shard.gauges(), Gauges::default(), "everything is given back");
}

#[test]
fn whoever_comes_and_goes_in_whatever_order_everything_is_given_back() {
    for seed in 0..length(4, 40) {
        disorder(seed, length(80, 600));
    }
}
