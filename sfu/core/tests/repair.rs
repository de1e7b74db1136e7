//! RTCP ends at the SFU: reports both ways, a lost packet sent again, limits on what a sender may do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcmu};
use offhook_sfu_core::*;
use offhook_wire_rtp::NtpTime;
use offhook_wire_rtp::rtcp::SenderInfo;
use stage::*;

fn nack(stage: &mut Stage, index: usize, ssrc: u32, lost: &[u16]) {
    let datagram = stage.actors[index].rtcp(|writer| {
        writer.generic_nack(1, ssrc, lost.iter().copied());
    });
    stage.send(index, datagram);
}

#[test]
fn a_lost_packet_is_sent_again_byte_for_byte_and_at_most_twice() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(ms(400), &[(alice, Opus, 1)]);
    let first_time = s.wire.clone();
    let lost = s.actors[bob].on_slot(0).nth(15).unwrap().sequence;
    let slot = s.actors[bob].slot_ssrc(0);
    let before = s.wire.len();
    for _ in 0..28 {
        nack(&mut s, bob, slot, &[lost]);
    }
    let again: Vec<_> = s.wire[before..].to_vec();
    assert_eq!(again.len(), 2);
    for repeated in &again {
        assert_eq!(
            first_time.iter().filter(|sent| *sent == repeated).count(),
            1,
            "exactly the bytes of the first time"
        );
    }
    assert_eq!(s.shard.counters().resent_packets, 2);
    // Several at once, one of them too old to be remembered.
    nack(&mut s, bob, slot, &[lost - 15, lost + 1, lost + 2]);
    assert_eq!(s.wire.len() - before, 4);
}

#[test]
fn nothing_is_repeated_over_a_long_round_trip_or_for_a_foreign_stream() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(6), &[(alice, Opus, 1)]);
    let slot = s.actors[bob].slot_ssrc(0);
    let (_, info) = *s.actors[bob].sender_reports.iter().find(|(ssrc, _)| *ssrc == slot).unwrap();
    let wall_ms = START_WALL_MS + s.now.since(MediaNs(START_NS)).as_millis() as u64;
    let since = NtpTime::from_unix_ms(wall_ms).middle().wrapping_sub(info.ntp.middle());
    // The report claims to have been kept for 100 ms less than the time that passed.
    let late = s.actors[bob].confirm(slot, info.ntp.middle(), since - 6_554);
    s.send(bob, late);
    let lost = s.actors[bob].on_slot(0).last().unwrap().sequence;
    let before = s.wire.len();
    nack(&mut s, bob, slot, &[lost]);
    assert_eq!(s.wire.len(), before, "100 ms: too late to be played");
    let near = s.actors[bob].confirm(slot, info.ntp.middle(), since - 1_300);
    s.send(bob, near);
    nack(&mut s, bob, slot, &[lost]);
    assert_eq!(s.wire.len(), before + 1, "20 ms");
    let others = s.actors[alice].slot_ssrc(0);
    nack(&mut s, bob, others, &[lost]);
    assert_eq!(s.wire.len(), before + 1);
}

#[test]
fn reports_are_made_here_for_each_side() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let own = s.actors[alice].ssrc;
    let mut sent = 0;
    s.advance_with(secs(12), |stage| {
        sent += 1;
        let datagram = stage.actors[alice].frame(Pcmu, &[1; 160]);
        // One in ten is lost on the way to us.
        if sent % 10 != 0 {
            stage.send(alice, datagram);
        }
    });
    let about_alice: Vec<_> = s.actors[alice].reports.iter().filter(|block| block.ssrc == own).collect();
    assert!((2..=3).contains(&about_alice.len()), "{} reports in 12 s", about_alice.len());
    assert!((22..=30).contains(&about_alice.last().unwrap().fraction_lost), "one tenth of 256");
    let slot = s.actors[bob].slot_ssrc(0);
    let reports: Vec<SenderInfo> =
        s.actors[bob].sender_reports.iter().filter(|(ssrc, _)| *ssrc == slot).map(|(_, info)| *info).collect();
    assert!((2..=3).contains(&reports.len()));
    let (a, b) = (reports[0], reports[1]);
    let wall_ms = b.ntp.to_unix_ms() - a.ntp.to_unix_ms();
    assert_eq!(u64::from(b.rtp_timestamp.wrapping_sub(a.rtp_timestamp)) / 8, wall_ms, "one line through both clocks");
    let stats = s.news().filter(|news| matches!(news, News::LegStats(stats) if *stats.leg == leg("alice"))).count();
    assert!((2..=3).contains(&stats));
}

#[test]
fn a_goodbye_ends_nothing_and_broken_reports_are_counted() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let own = s.actors[alice].ssrc;
    let goodbye = s.actors[alice].rtcp(|writer| {
        writer.receiver_report(own, &[]).goodbye(&[own], "leaving");
    });
    s.send(alice, goodbye);
    s.talk(ms(100), &[(alice, Opus, 1)]);
    assert_eq!(s.actors[bob].heard.len(), 5);
    assert_eq!(s.shard.counters().goodbyes_ignored, 1);
}

#[test]
fn a_replayed_packet_is_heard_once() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let packet = s.actors[alice].frame(Opus, &[1; 30]);
    for _ in 0..3 {
        s.send(alice, packet.clone());
    }
    let mut forged = s.actors[alice].frame(Opus, &[2; 30]);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    s.send(alice, forged);
    assert_eq!(s.actors[bob].heard.len(), 1);
    assert_eq!((s.shard.counters().dropped_replayed, s.shard.counters().dropped_unauthenticated), (2, 1));
}

#[test]
fn a_sender_is_held_to_its_limits_by_name() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    for n in 0..12 {
        let packet = s.actors[alice].packet(50_000 + n, 0, 1, 1, &[1; 160]);
        s.send(alice, packet);
        s.advance(ms(20));
    }
    assert_eq!(s.shard.counters().dropped_source_limit, 4, "eight streams");
    let long = s.actors[alice].packet(50_000, 0, 2, 2, &[1; 1_301]);
    s.send(alice, long);
    let unknown = s.actors[alice].packet(50_000, 63, 3, 3, &[1; 100]);
    s.send(alice, unknown);
    assert_eq!((s.shard.counters().dropped_oversized, s.shard.counters().dropped_payload_type), (1, 1));
    let before = s.actors[bob].heard.len();
    s.advance(secs(1));
    for n in 0..1_000_u16 {
        let packet = s.actors[alice].packet(50_000, 0, 10 + n, u32::from(n) * 160, &[1; 160]);
        s.send(alice, packet);
        s.advance(ms(1));
    }
    let passed = s.actors[bob].heard.len() - before;
    assert!((150..=230).contains(&passed), "{passed} packets in a second");
}
