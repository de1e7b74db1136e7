//! The path of a packet allocates nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcmu};
use offhook_sfu_core::*;
use offhook_testkit::CountingAllocator;
use stage::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Sealed frames of these actors, made beforehand, each to be fed once.
fn frames(stage: &mut Stage, speakers: &[usize], count: usize) -> Vec<(std::net::SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    for n in 0..count {
        for speaker in speakers {
            let codec = if n % 40 < 20 { Opus } else { Pcmu };
            let actor = &mut stage.actors[*speaker];
            all.push((actor.address, actor.frame(codec, &[n as u8; 160])));
        }
    }
    all
}

struct Deaf;
impl TapSink for Deaf {
    fn track(&mut self, _: TrackNumber, _: Option<&offhook_contract::LegId>, _: MediaNs) {}
    fn packet(&mut self, _: &TapPacket<'_>) {}
    fn track_ended(&mut self, _: TrackNumber, _: MediaNs) {}
    fn announcement_started(&mut self, _: offhook_contract::fact::ConsentKind, _: MediaNs) {}
    fn announcement_ended(&mut self, _: offhook_contract::fact::ConsentKind, _: MediaNs) {}
    fn clock_pair(&mut self, _: MediaNs, _: offhook_contract::UnixMs) {}
    fn reader(&self) -> ReaderPresence {
        ReaderPresence::Attached
    }
    fn close(self: Box<Self>, _: offhook_contract::fact::TapCloseReason, _: MediaNs) {}
}

fn open_deaf_tap() -> Command {
    Command::OpenTap {
        room: room(),
        plan: Box::new(TapPlan {
            recording: recording(),
            notice: notice(),
            beep: beep(),
            period: secs(15),
            sink: Box::new(Deaf),
        }),
    }
}

#[test]
fn a_packet_to_fifty_listeners_and_a_tap_allocates_nothing_and_neither_does_a_repetition() {
    let mut s = Stage::conversation();
    let speakers: Vec<usize> = (0..3).map(|n| s.browser(&format!("speaker{n}"))).collect();
    for n in 0..50 {
        s.browser(&format!("listener{n}"));
    }
    s.command(open_deaf_tap());
    // Slots taken, codecs seen, the notice over.
    s.talk(secs(3), &[(speakers[0], Opus, 1), (speakers[1], Opus, 2), (speakers[2], Pcmu, 3)]);
    let listener = 10;
    let (address, slot) = (s.actors[listener].address, s.actors[listener].slot_ssrc(0));
    let lost = s.actors[listener].on_slot(0).last().unwrap().sequence;
    let nacks: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            s.actors[listener].rtcp(|writer| {
                writer.generic_nack(1, slot, [lost]);
            })
        })
        .collect();
    let mut packets: Vec<_> = nacks.into_iter().map(|nack| (address, nack)).collect();
    packets.extend(frames(&mut s, &speakers, 200));
    let mut now = s.now;
    let before = s.shard.counters().forwarded_packets;
    let mut sent = 0;
    let ((), allocations) = CountingAllocator::during(|| {
        for (from, datagram) in &mut packets {
            now = now.after(std::time::Duration::from_micros(6_600));
            s.shard.handle_input(now, *from, None, datagram);
            sent += s.shard.transmits().filter(|t| !t.bytes.is_empty()).count();
            s.shard.clear_transmits();
        }
    });
    assert_eq!(s.shard.counters().forwarded_packets - before, 600 * 52);
    assert_eq!(sent, 600 * 52 + 2);
    assert_eq!(s.shard.counters().resent_packets, 2);
    assert_eq!(allocations, 0);
}

#[test]
fn five_seconds_of_a_recorded_call_with_reports_looks_and_held_parties_allocate_nothing() {
    let mut s = Stage::conversation();
    let speakers = [s.browser("alice"), s.browser("bob")];
    let phone = s.link("phone", &[Pcmu]);
    s.browser("held");
    s.command(Command::HoldLeg { room: room(), leg: leg("held"), held: true });
    s.command(open_deaf_tap());
    // The notice and the first beep are over and their receipts given up; the next beep is 6 s away.
    s.talk(secs(10), &[(speakers[0], Opus, 1), (speakers[1], Opus, 2), (phone, Pcmu, 3)]);
    let mut packets = frames(&mut s, &[speakers[0], speakers[1], phone], 260);
    let (mut now, reports) = (s.now, s.shard.counters().reports_sent);
    let (mut told, prompts) = (0, s.shard.counters().announcer_packets);
    let ((), allocations) = CountingAllocator::during(|| {
        for spoken in packets.chunks_mut(3) {
            for (from, datagram) in spoken {
                s.shard.handle_input(now, *from, None, datagram);
            }
            now = now.after(ms(20));
            while s.shard.poll_timeout().is_some_and(|due| due <= now) {
                s.shard.handle_timeout(now);
            }
            s.shard.clear_transmits();
            while s.shard.poll_output().is_some() {
                told += 1;
            }
        }
    });
    assert!(s.shard.counters().reports_sent - reports >= 4 && told >= 4);
    assert!(s.shard.counters().announcer_packets - prompts >= 250, "the hold prompt");
    assert_eq!(allocations, 0);
}
