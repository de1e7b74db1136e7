//! The Announcer made to fail: what was played to nobody is not in the Tap, and a Tap without beeps closes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcmu};
use offhook_contract::LegId;
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::sfu::RoomKind;
use offhook_media::Codec;
use offhook_sfu_core::*;
use offhook_wire_rtp::rtcp::ReportBlock;
use stage::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BEEP: ConsentKind = ConsentKind::Beep;
const NOTICE: ConsentKind = ConsentKind::Notice;
const FAILED: TapCloseReason = TapCloseReason::AnnouncerFailed;

fn closed(stage: &Stage) -> Option<(TapCloseReason, Option<LegId>)> {
    stage.news().find_map(|news| match news {
        News::TapClosed { reason, leg, .. } => Some((*reason, leg.clone())),
        _ => None,
    })
}

fn announced(tape: &TapeReader) -> usize {
    tape.packets(tape.track(None).unwrap()).len()
}

/// Two browsers and a recording, on the smallest egress, 3 s before the second beep.
fn before_the_second_beep() -> (Stage, TapeReader) {
    let mut s = Stage::with_options(ShardOptions { egress_bytes: 0, ..ShardOptions::new(hold(), 7) });
    s.open_room(RoomKind::Conversation);
    s.browser("alice");
    s.browser("bob");
    let tape = s.record();
    s.advance(secs(12) + notice_time());
    assert_eq!((tape.started(BEEP).len(), announced(&tape)), (1, notice().frame_count() + beep().frame_count()));
    (s, tape)
}

fn notice_time() -> std::time::Duration {
    ms(notice().frame_count() as u64 * 20)
}

/// The socket takes nothing more, and alice speaks: large frames first, then `small` small ones, until the beep is due.
/// How many small ones had gone when the egress was full.
fn jam(s: &mut Stage, small: usize) -> usize {
    s.jammed = true;
    let (mut frames, mut gone) = (0, 0);
    s.advance_with(ms(2_990), |s| {
        frames += 1;
        let payload = if frames <= 80 { vec![7; 1_100] } else { vec![7; 2] };
        if frames <= 80 + small {
            s.speak(0, Opus, &payload);
            gone += usize::from(frames > 80 && s.shard.counters().dropped_egress_full == 0);
        }
    });
    gone
}

#[test]
fn when_a_beep_cannot_be_sent_there_is_no_frame_of_it_in_the_tap_and_the_tap_closes_and_says_so() {
    let (mut s, tape) = before_the_second_beep();
    let before = announced(&tape);
    jam(&mut s, 1_000);
    assert!(s.shard.counters().dropped_egress_full > 0);
    assert_eq!(closed(&s), None, "that speech is lost is no matter of the Announcer's");
    s.advance(ms(100));
    assert_eq!(closed(&s), Some((FAILED, Some(leg("alice")))));
    assert_eq!(tape.closed(), Some(FAILED));
    s.jammed = false;
    let taped = tape.taped();
    s.talk(secs(40), &[(0, Opus, 1), (1, Opus, 2)]);
    assert_eq!(tape.taped(), taped, "not one record more");
    assert_eq!((announced(&tape), tape.started(BEEP).len()), (before, 1));
    let beeps = s.actors[1].on_announcer().filter(|h| h.payload[..] == *beep().frames(Codec::Opus)[5]).count();
    assert_eq!(beeps, 1, "no Tap, no beep");
    assert_eq!(s.shard.gauges().taps, 0);
}

#[test]
fn a_frame_that_reached_one_party_is_in_the_tap_even_if_the_other_can_be_played_nothing() {
    let small = jam(&mut before_the_second_beep().0, 1_000);
    // One packet less: room for one more, which is alice's frame.
    let (mut s, tape) = before_the_second_beep();
    let before = announced(&tape);
    jam(&mut s, small - 1);
    let sent = s.shard.counters().announcer_packets;
    s.advance(ms(100));
    assert_eq!(s.shard.counters().announcer_packets - sent, 1, "to alice");
    assert_eq!(closed(&s), Some((FAILED, Some(leg("bob")))));
    assert_eq!((announced(&tape), tape.started(BEEP).len()), (before + 1, 2), "what alice heard, and no more");
}

#[test]
fn one_party_who_misses_a_frame_makes_no_hole_in_what_the_other_heard() {
    let small = jam(&mut before_the_second_beep().0, 1_000);
    let (mut s, tape) = before_the_second_beep();
    let before = announced(&tape);
    jam(&mut s, small - 1);
    s.advance(ms(20));
    assert_eq!(s.shard.counters().announcer_missed_frames, 1, "bob's");
    s.jammed = false;
    s.settle();
    s.advance(secs(1));
    assert_eq!(closed(&s), None);
    assert_eq!(announced(&tape) - before, beep().frame_count());
    let started = tape.started(BEEP);
    assert_eq!(started[1].since(started[0]), secs(15), "on the grid");
}

#[test]
fn a_frame_that_nobody_was_handed_is_missing_in_the_tap_too_and_ends_nothing() {
    let (mut s, tape) = before_the_second_beep();
    let before = announced(&tape);
    jam(&mut s, 1_000);
    s.advance(ms(20));
    assert_eq!(s.shard.counters().announcer_missed_frames, 2, "alice's and bob's");
    s.jammed = false;
    s.settle();
    s.advance(secs(16));
    assert_eq!(closed(&s), None);
    assert_eq!(announced(&tape) - before, 2 * beep().frame_count() - 1);
    let started = tape.started(BEEP);
    assert_eq!(started[1].since(started[0]), secs(15) + ms(20), "when it could first be heard");
    assert_eq!(started[2].since(started[0]), secs(30), "the grid stays");
}

#[test]
fn a_notice_that_cannot_be_sent_leaves_no_announcement_in_the_tap() {
    let mut s = Stage::with_options(ShardOptions { egress_bytes: 0, ..ShardOptions::new(hold(), 7) });
    s.open_room(RoomKind::Conversation);
    s.browser("alice");
    s.browser("bob");
    jam(&mut s, 1_000);
    let tape = s.record();
    s.advance(secs(1));
    assert_eq!((closed(&s).map(|(reason, _)| reason), tape.closed()), (Some(FAILED), Some(FAILED)));
    assert_eq!((tape.started(NOTICE).len(), announced(&tape)), (0, 0));
}

/// What a party reports every five seconds of a call with speech on its first slot.
fn reported_call(reports: impl Fn(&Actor) -> Vec<ReportBlock>) -> (Stage, TapeReader) {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let tape = s.record();
    for _ in 0..14 {
        s.talk(secs(5), &[(bob, Opus, 2)]);
        let (blocks, own) = (reports(&s.actors[alice]), s.actors[alice].ssrc);
        let report = s.actors[alice].rtcp(|writer| {
            writer.receiver_report(own, &blocks);
        });
        s.send(alice, report);
    }
    (s, tape)
}

fn block(ssrc: u32, highest: u16) -> ReportBlock {
    ReportBlock { ssrc, highest_sequence: u32::from(highest), ..ReportBlock::default() }
}

fn slot_block(actor: &Actor) -> ReportBlock {
    block(actor.slot_ssrc(0), actor.on_slot(0).last().unwrap().sequence)
}

#[test]
fn three_bursts_of_which_nothing_arrives_while_speech_does_close_the_tap() {
    let (s, tape) = reported_call(|actor| vec![slot_block(actor)]);
    assert_eq!(closed(&s), Some((FAILED, Some(leg("alice")))));
    assert_eq!(tape.started(BEEP).len(), 2, "with the notice three");
    let missed =
        s.news().filter(|n| matches!(n, News::Announcement { leg: l, received: false, .. } if *l == leg("alice")));
    assert_eq!(missed.count(), 3);
}

type Network<'a> = &'a dyn Fn(&Actor) -> Vec<ReportBlock>;

#[test]
fn a_bad_network_costs_receipts_and_never_the_recording() {
    let last_lost = |actor: &Actor| {
        let heard = actor.on_announcer().last().unwrap().sequence;
        vec![slot_block(actor), block(actor.announcer_ssrc(), heard - 1)]
    };
    let nothing_comes = |actor: &Actor| vec![block(actor.slot_ssrc(0), 10)];
    let silent = |_: &Actor| Vec::new();
    let networks: [Network<'_>; 3] = [&last_lost, &nothing_comes, &silent];
    for (n, network) in networks.into_iter().enumerate() {
        let (s, tape) = reported_call(network);
        assert_eq!(closed(&s), None, "network {n}");
        assert_eq!(tape.started(BEEP).len(), 5);
        let missed =
            s.news().filter(|n| matches!(n, News::Announcement { leg: l, received: false, .. } if *l == leg("alice")));
        assert!(missed.count() >= 4, "each is told");
    }
}

/// How often a party was sent the whole notice.
fn notices(stage: &Stage, index: usize, codec: Codec) -> usize {
    let payloads: Vec<&[u8]> = stage.actors[index].on_announcer().map(|h| &h.payload[..]).collect();
    let whole = notice();
    let whole = whole.frames(codec);
    payloads.windows(whole.len()).filter(|w| w.iter().zip(whole).all(|(a, b)| **a == **b)).count()
}

fn confirm(s: &mut Stage, index: usize, ssrc: u32) {
    let report = s.actors[index].confirm(ssrc, 0, 0);
    s.send(index, report);
}

#[test]
fn a_telephone_that_was_on_hold_at_its_own_side_hears_the_notice_when_it_is_back() {
    let mut s = Stage::conversation();
    let (alice, phone) = (s.browser("alice"), s.link("phone", &[Pcmu]));
    let tape = s.record();
    // A gateway vouches for nothing that its telephone was not sent.
    s.talk(secs(4), &[(alice, Opus, 1)]);
    let announcer = s.actors[alice].announcer_ssrc();
    confirm(&mut s, alice, announcer);
    s.talk(secs(16), &[(alice, Opus, 1)]);
    assert_eq!(notices(&s, phone, Codec::Pcmu), 1);
    let slot = s.actors[phone].slot_ssrc(0);
    confirm(&mut s, phone, slot);
    s.talk(secs(2), &[(alice, Opus, 1)]);
    assert_eq!((notices(&s, phone, Codec::Pcmu), notices(&s, alice, Codec::Opus)), (2, 1), "for the telephone alone");
    assert_eq!(tape.started(NOTICE).len(), 2);
    let announcer = s.actors[phone].announcer_ssrc();
    confirm(&mut s, phone, announcer);
    for _ in 0..6 {
        s.talk(secs(5), &[(alice, Opus, 1)]);
        for (party, ssrc) in [(phone, slot), (phone, announcer), (alice, s.actors[alice].announcer_ssrc())] {
            confirm(&mut s, party, ssrc);
        }
    }
    assert_eq!((notices(&s, phone, Codec::Pcmu), closed(&s)), (2, None), "it was heard");
    let told: Vec<(ConsentKind, bool)> = s
        .news()
        .filter_map(|n| match n {
            News::Announcement { leg: l, kind, received, .. } if *l == leg("phone") => Some((*kind, *received)),
            _ => None,
        })
        .collect();
    let expected = [(NOTICE, false), (BEEP, false), (BEEP, true), (NOTICE, true)];
    assert_eq!(told[..4], expected, "and the log says when");
}

#[test]
fn a_browser_hears_the_notice_again_that_it_missed_when_a_beep_arrives() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.record();
    s.talk(secs(11), &[(bob, Opus, 2)]);
    let slot = s.actors[alice].slot_ssrc(0);
    confirm(&mut s, alice, slot);
    s.talk(secs(6), &[(bob, Opus, 2)]);
    assert_eq!(notices(&s, alice, Codec::Opus), 1, "speech alone says nothing of a browser's line for announcements");
    let announcer = s.actors[alice].announcer_ssrc();
    confirm(&mut s, alice, announcer);
    s.talk(secs(2), &[(bob, Opus, 2)]);
    assert_eq!(notices(&s, alice, Codec::Opus), 2);
}

#[test]
fn a_beep_to_nobody_is_not_in_the_tap_and_who_comes_back_hears_the_notice() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let tape = s.record();
    s.talk(secs(5), &[(alice, Opus, 1)]);
    let before = announced(&tape);
    s.command(Command::RemoveLeg { room: room(), leg: leg("alice") });
    s.advance(secs(15));
    assert_eq!((announced(&tape), tape.started(BEEP).len(), closed(&s)), (before, 1, None));
    let again = s.browser("alice");
    s.advance(secs(15));
    let heard = notice().frame_count() + beep().frame_count();
    assert_eq!((s.actors[again].on_announcer().count(), announced(&tape) - before), (heard, heard));
    let started = tape.started(BEEP);
    assert_eq!(started[1].since(started[0]), secs(30), "on the grid");
}

#[test]
fn more_late_joiners_than_can_wait_for_a_notice_each_hear_one_together() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let tape = s.record();
    s.advance(secs(3));
    let late: Vec<usize> = (0..70).map(|n| s.browser(&format!("late{n}"))).collect();
    s.advance(secs(8));
    for index in late.into_iter().chain([alice]) {
        let payloads: Vec<&[u8]> = s.actors[index].on_announcer().map(|h| &h.payload[..]).collect();
        let whole = notice();
        let whole = whole.frames(Codec::Opus);
        let heard = payloads.windows(whole.len()).any(|w| w.iter().zip(whole).all(|(a, b)| **a == **b));
        assert!(heard, "party {index}");
    }
    assert_eq!(closed(&s), None);
    assert!(tape.started(NOTICE).len() < 10, "not one after the other");
}

#[test]
fn a_second_hold_is_heard_from_its_first_frame() {
    let mut s = Stage::conversation();
    let phone = s.link("phone", &[Pcmu]);
    let hold = |held: bool| Command::HoldLeg { room: room(), leg: leg("phone"), held };
    s.command(hold(true));
    s.advance(secs(3));
    s.command(hold(false));
    s.advance(secs(1));
    let before = s.actors[phone].on_announcer().count();
    s.command(hold(true));
    s.advance(ms(990));
    assert_eq!(s.actors[phone].on_announcer().count() - before, 50);
}

/// A recorder's sink with a broken invariant.
struct Broken;

impl TapSink for Broken {
    fn track(&mut self, _: TrackNumber, _: Option<&LegId>, _: MediaNs) {}
    fn packet(&mut self, _: &TapPacket<'_>) {
        panic!("a broken invariant");
    }
    fn track_ended(&mut self, _: TrackNumber, _: MediaNs) {}
    fn announcement_started(&mut self, _: ConsentKind, _: MediaNs) {}
    fn announcement_ended(&mut self, _: ConsentKind, _: MediaNs) {}
    fn clock_pair(&mut self, _: MediaNs, _: offhook_contract::UnixMs) {}
    fn reader(&self) -> ReaderPresence {
        ReaderPresence::Attached
    }
    fn close(self: Box<Self>, _: TapCloseReason, _: MediaNs) {}
}

#[test]
fn a_tap_whose_timer_panics_closes_and_the_call_goes_on() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let plan =
        TapPlan { recording: recording(), notice: notice(), beep: beep(), period: secs(15), sink: Box::new(Broken) };
    let opened = s.shard.handle_command(s.now, Command::OpenTap { room: room(), plan: Box::new(plan) });
    assert_eq!(opened, Ok(Reply::Done));
    let now = s.now;
    while catch_unwind(AssertUnwindSafe(|| s.shard.handle_timeout(now))).is_ok() {}
    s.shard.quarantine_timer(now);
    s.settle();
    assert_eq!((s.shard.counters().panics, s.shard.gauges().taps), (1, 0));
    assert_eq!(closed(&s), Some((FAILED, None)));
    s.talk(secs(20), &[(alice, Opus, 1)]);
    assert_eq!(s.actors[bob].on_slot(0).count(), 1_000);
}
