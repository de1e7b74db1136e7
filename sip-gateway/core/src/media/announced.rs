//! Stories of notices and beeps at a telephone: what it hears of them, and what the SFU is told that it heard.

use super::story::*;
use super::*;
use offhook_media::{Codec, detect};
use offhook_wire_rtp::rtcp::{Compound, ReportBlock, RtcpPacket};

fn beep() -> Voice {
    Voice::new(ANNOUNCER, Codec::Pcmu, 1_400.0, -16.0)
}

/// So many frames of the Announcer's reach the leg, one every 20 ms; the number of the last one.
fn announce(s: &mut Story, voice: &mut Voice, frames: usize) -> u16 {
    for _ in 0..frames {
        assert!(s.leg.handle_link_rtp(s.now, &voice.next()));
        s.step();
    }
    voice.sequence.wrapping_sub(1)
}

fn blocks(receipt: &[u8]) -> Vec<ReportBlock> {
    let compound = Compound::parse(receipt).unwrap();
    let Some(RtcpPacket::ReceiverReport(report)) = compound.packets().next() else { panic!() };
    assert_eq!(report.ssrc, LINK_SSRC);
    report.reports().collect()
}

/// Up to which packet the newest report vouches for a stream.
fn vouched(s: &Story, ssrc: u32) -> Option<u16> {
    let mut all = s.receipts.iter().flat_map(|receipt| blocks(receipt));
    all.rfind(|block| block.ssrc == ssrc).map(|block| block.highest_sequence as u16)
}

#[test]
fn a_held_telephone_hears_notice_and_beeps_in_place_of_the_prompt() {
    let mut s = Story::connected(Codec::Pcmu);
    let (mut talk, mut announcer) = (Voice::new(SLOTS[0], Codec::Opus, 1_000.0, -16.0), beep());
    s.leg.set_held(true);
    for n in 0..150 {
        s.leg.handle_link_rtp(s.now, &talk.next());
        if (50..100).contains(&n) {
            s.leg.handle_link_rtp(s.now, &announcer.next());
        }
        s.step();
    }
    s.steps(100);
    let heard = s.heard(Codec::Pcmu);
    assert_eq!(heard.len(), 250 * FRAME, "a packet every 20 ms");
    // The Announcer passes through a buffer of 60 ms; around its edges, sound is concealed.
    let (before, during, after) = (&heard[..50 * FRAME], &heard[55 * FRAME..100 * FRAME], &heard[115 * FRAME..]);
    for (part, hz) in [(before, 440.0), (during, 1_400.0), (after, 440.0)] {
        assert!(detect::presence(part, 8_000, hz) > 0.95, "{hz}: {}", detect::presence(part, 8_000, hz));
        for other in [440.0, 1_000.0, 1_400.0].into_iter().filter(|other| *other != hz) {
            assert!(level(part, other) < -50.0, "{other} beside {hz}: {}", level(part, other));
        }
    }
    assert_eq!(vouched(&s, ANNOUNCER), Some(announcer.sequence.wrapping_sub(1)));
    assert_eq!(vouched(&s, SLOTS[0]), None, "of the conversation it heard nothing");
}

#[test]
fn what_a_telephone_that_wants_no_media_was_not_sent_is_not_acknowledged() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut announcer = beep();
    let first = announce(&mut s, &mut announcer, 10);
    s.steps(200);
    assert_eq!(vouched(&s, ANNOUNCER), Some(first));
    s.leg.set_remote(s.now, RemoteMedia { sends: false, ..remote(Codec::Pcmu) });
    s.receipts.clear();
    announce(&mut s, &mut announcer, 10);
    s.steps(300);
    assert!(s.receipts.is_empty(), "nothing was played, so nothing is owed");
    // Back again it hears the conversation; that vouches for no announcement that it missed.
    s.leg.set_remote(s.now, remote(Codec::Pcmu));
    let mut talk = Voice::new(SLOTS[1], Codec::Pcmu, 700.0, -16.0);
    for _ in 0..150 {
        s.leg.handle_link_rtp(s.now, &talk.next());
        s.step();
    }
    assert!(vouched(&s, SLOTS[1]).is_some());
    assert!(vouched(&s, ANNOUNCER).is_none_or(|last| last == first));
    let last = announce(&mut s, &mut announcer, 10);
    s.steps(200);
    assert_eq!(vouched(&s, ANNOUNCER), Some(last));
}

#[test]
fn a_notice_whose_beginning_was_not_heard_is_not_acknowledged_nor_by_the_beep_behind_it() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut announcer = beep();
    s.leg.set_remote(s.now, RemoteMedia { sends: false, ..remote(Codec::Pcmu) });
    announce(&mut s, &mut announcer, 50);
    s.leg.set_remote(s.now, remote(Codec::Pcmu));
    // Half of the notice, and the first beep when it ends.
    announce(&mut s, &mut announcer, 60);
    s.steps(200);
    assert_eq!(vouched(&s, ANNOUNCER), None);
    let last = announce(&mut s, &mut announcer, 10);
    s.steps(200);
    assert_eq!(vouched(&s, ANNOUNCER), Some(last), "the next one is heard whole");
}

#[test]
fn a_short_key_press_does_not_take_a_notice_away() {
    let mut s = Story::connected(Codec::Pcmu);
    let mut announcer = beep();
    announce(&mut s, &mut announcer, 10);
    s.leg.send_digits("5", 60).unwrap();
    let last = announce(&mut s, &mut announcer, 90);
    s.steps(200);
    assert_eq!(vouched(&s, ANNOUNCER), Some(last));
}

#[test]
fn an_announcement_before_the_answer_is_not_acknowledged() {
    let mut s = Story { leg: leg(), ..Story::connected(Codec::Pcmu) };
    s.leg.set_link(LinkStreams::new(LINK_SSRC, &SLOTS, ANNOUNCER).unwrap());
    let mut announcer = beep();
    announce(&mut s, &mut announcer, 10);
    s.steps(300);
    assert!(s.receipts.is_empty());
    // Nor is early media, which may reach nobody.
    s.leg.set_remote(s.now, remote(Codec::Pcmu));
    announce(&mut s, &mut announcer, 10);
    s.steps(300);
    assert!(s.receipts.is_empty() && s.sent.len() > 300);
    s.leg.answered(s.now);
    let last = announce(&mut s, &mut announcer, 10);
    s.steps(300);
    assert_eq!(vouched(&s, ANNOUNCER), Some(last));
}

#[test]
fn an_announcement_under_a_long_key_press_is_not_acknowledged() {
    for events in [Some(101), None] {
        let mut s = Story::connected(Codec::Pcmu);
        s.leg.set_remote(s.now, RemoteMedia { send_events: events, ..remote(Codec::Pcmu) });
        s.leg.send_digits("5", 1_000).unwrap();
        let mut announcer = beep();
        announce(&mut s, &mut announcer, 10);
        s.steps(300);
        assert_eq!(vouched(&s, ANNOUNCER), None, "events: {events:?}");
        let last = announce(&mut s, &mut announcer, 10);
        s.steps(300);
        assert_eq!(vouched(&s, ANNOUNCER), Some(last), "events: {events:?}");
    }
}

#[test]
fn a_held_telephone_that_gets_its_digits_as_tones_gets_them() {
    let mut s = Story::connected(Codec::Pcmu);
    s.leg.set_remote(s.now, RemoteMedia { send_events: None, ..remote(Codec::Pcmu) });
    s.leg.set_held(true);
    s.leg.send_digits("7", 100).unwrap();
    s.steps(20);
    assert_eq!(offhook_media::dtmf::digits_in(&s.heard(Codec::Pcmu), 8_000), "7");
}
