//! Calls in virtual time: who hears whom, on which line, with which numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcma, Pcmu};
use offhook_contract::HangupCause;
use offhook_contract::event::SlotChanged;
use offhook_contract::sfu::{LegTransport, RoomKind};
use offhook_media::Codec;
use offhook_sfu_core::*;
use stage::*;

/// (speaker's byte, count) of what one line carried, in order, silence frames left out.
fn voices<'a>(heard: impl Iterator<Item = &'a Heard>) -> Vec<(u8, usize)> {
    let mut runs: Vec<(u8, usize)> = Vec::new();
    for packet in heard.filter(|heard| !is_silence(heard)) {
        match runs.last_mut() {
            Some((byte, count)) if *byte == packet.payload[0] => *count += 1,
            _ => runs.push((packet.payload[0], 1)),
        }
    }
    runs
}

fn is_silence(heard: &Heard) -> bool {
    let codec = match heard.codec {
        Opus => Codec::Opus,
        Pcmu => Codec::Pcmu,
        Pcma => Codec::Pcma,
    };
    heard.payload == codec.silence_frame()
}

fn slot_changes(stage: &Stage) -> Vec<(String, u8, Option<String>)> {
    let change = |news: &News| match news {
        News::SlotChanged(SlotChanged { listener, slot, speaker, .. }) => {
            Some((listener.to_string(), *slot, speaker.as_ref().map(ToString::to_string)))
        }
        _ => None,
    };
    stage.news().filter_map(change).collect()
}

#[test]
fn an_echo_room_returns_a_senders_own_track_untouched_and_nobody_elses() {
    let mut s = Stage::with_room(RoomKind::Echo);
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(1), &[(alice, Opus, 1), (bob, Pcmu, 2)]);
    assert_eq!(voices(s.actors[alice].heard.iter()), [(1, 50)]);
    assert_eq!(voices(s.actors[bob].heard.iter()), [(2, 50)]);
    assert!(s.actors[alice].heard.iter().all(|h| h.payload == [1; 30] && h.codec == Opus && h.level == Some(1)));
}

#[test]
fn two_parties_hear_each_other_on_the_first_slot_with_unbroken_numbers() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(2), &[(alice, Opus, 1), (bob, Pcma, 2)]);
    assert_eq!(voices(s.actors[alice].on_slot(0)), [(2, 100)]);
    assert_eq!(voices(s.actors[bob].on_slot(0)), [(1, 100)]);
    assert_eq!(s.actors[alice].heard.len() + s.actors[bob].heard.len(), 200, "nothing else was sent");
    for (actor, step) in [(alice, 160), (bob, 960)] {
        let heard = &s.actors[actor].heard;
        assert!(heard[0].marker);
        for pair in heard.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence + 1);
            assert_eq!(pair[1].timestamp - pair[0].timestamp, step);
        }
    }
    let bob_name = Some("bob".to_owned());
    assert!(slot_changes(&s).contains(&("alice".to_owned(), 0, bob_name)));
}

#[test]
fn six_speakers_fill_four_slots_in_order_of_arrival_and_a_place_that_falls_free_is_taken() {
    let mut s = Stage::conversation();
    let listener = s.browser("listener");
    let speakers: Vec<usize> = (0..6).map(|n| s.browser(&format!("speaker{n}"))).collect();
    for (n, speaker) in speakers.iter().enumerate() {
        s.speak(*speaker, Pcmu, &[n as u8 + 1; 160]);
    }
    let talking: Vec<(usize, offhook_contract::CodecName, u8)> =
        speakers.iter().enumerate().map(|(n, speaker)| (*speaker, Pcmu, n as u8 + 1)).collect();
    s.talk(secs(1), &talking);
    for slot in 0..4 {
        assert_eq!(voices(s.actors[listener].on_slot(slot)), [(slot as u8 + 1, 51)]);
    }
    assert!(s.shard.counters().unheard_no_slot >= 2 * 51);
    s.command(Command::RemoveLeg { room: room(), leg: leg("speaker1") });
    s.talk(secs(1), &[talking[0], talking[2], talking[3], talking[4], talking[5]]);
    let second = voices(s.actors[listener].on_slot(1));
    assert_eq!(second.len(), 2);
    assert_eq!(second[1].0, 5, "the first who waited");
    let numbers: Vec<u16> = s.actors[listener].on_slot(1).map(|h| h.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_speaker_who_changes_codec_keeps_slot_and_ssrc_and_time_follows_the_wall_clock() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    for n in 0..8 {
        let codec = [Opus, Pcmu][n % 2];
        s.talk(ms(300), &[(alice, codec, n as u8)]);
    }
    let heard: Vec<&Heard> = s.actors[bob].on_slot(0).collect();
    assert_eq!((heard.len(), s.actors[bob].heard.len()), (120, 120));
    for pair in heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        let step = if pair[1].codec == Opus { 960 } else { 160 };
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), step, "20 ms in the new clock");
    }
}

#[test]
fn a_listener_gets_only_codecs_that_it_negotiated() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let opus_only = s.browser_with("opus", |actor| actor.codecs = vec![Opus]);
    s.talk(ms(100), &[(alice, Pcmu, 1)]);
    assert!(s.actors[opus_only].heard.is_empty());
    assert_eq!(s.shard.counters().unheard_codec, 5);
    s.talk(ms(100), &[(alice, Opus, 2)]);
    assert_eq!(voices(s.actors[opus_only].on_slot(0)), [(2, 5)]);
}

#[test]
fn a_speaker_who_leaves_ends_in_three_frames_of_silence_and_then_nothing() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(1), &[(alice, Opus, 1)]);
    s.command(Command::RemoveLeg { room: room(), leg: leg("alice") });
    let before = s.now;
    s.advance(secs(20));
    let after: Vec<&Heard> = s.actors[bob].heard.iter().skip(50).collect();
    assert_eq!(after.len(), 3);
    assert!(after.iter().all(|heard| is_silence(heard) && heard.codec == Opus && heard.level == Some(127)));
    assert_eq!(after[2].at.since(before), ms(40));
    assert_eq!(after[0].timestamp - s.actors[bob].heard[49].timestamp, 960);
    assert_eq!(slot_changes(&s).last().unwrap(), &("bob".to_owned(), 0, None));
}

#[test]
fn a_muted_leg_is_silent_for_all_and_comes_back_where_time_is() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(1), &[(alice, Pcmu, 1)]);
    s.command(Command::MuteLeg { room: room(), leg: leg("alice"), muted: true });
    s.talk(secs(2), &[(alice, Pcmu, 2), (bob, Pcmu, 3)]);
    assert_eq!(voices(s.actors[bob].heard.iter()), [(1, 50)]);
    assert_eq!(voices(s.actors[alice].heard.iter()), [(3, 100)], "a muted leg still hears");
    s.command(Command::MuteLeg { room: room(), leg: leg("alice"), muted: false });
    s.talk(secs(1), &[(alice, Pcmu, 4)]);
    let heard: Vec<&Heard> = s.actors[bob].on_slot(0).collect();
    assert_eq!(voices(heard.iter().copied()), [(1, 50), (4, 50)]);
    let gap = heard[53].timestamp.wrapping_sub(heard[52].timestamp);
    assert_eq!(gap, 8 * 1_960, "from the last silence to now, by the wall clock");
}

#[test]
fn a_held_leg_hears_the_hold_prompt_in_a_loop_and_neither_hears_nor_is_heard() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    s.talk(secs(1), &[(alice, Opus, 1), (bob, Opus, 2)]);
    s.command(Command::HoldLeg { room: room(), leg: leg("bob"), held: true });
    s.talk(secs(3), &[(alice, Opus, 3), (bob, Opus, 4)]);
    assert_eq!(voices(s.actors[alice].heard.iter()), [(2, 50)]);
    assert_eq!(voices(s.actors[bob].on_slot(0)), [(1, 50)]);
    let music: Vec<&Heard> = s.actors[bob].on_announcer().collect();
    assert_eq!(music.len(), 151, "one at once, then one each 20 ms");
    let loop_frames = hold().content(Codec::Opus).len();
    for (n, heard) in music.iter().enumerate() {
        assert_eq!(heard.payload[..], *hold().content(Codec::Opus)[n % loop_frames]);
    }
    assert!(music.windows(2).all(|p| p[1].timestamp - p[0].timestamp == 960 && p[1].sequence == p[0].sequence + 1));
    s.command(Command::HoldLeg { room: room(), leg: leg("bob"), held: false });
    s.talk(secs(1), &[(alice, Opus, 5), (bob, Opus, 6)]);
    assert_eq!(voices(s.actors[alice].on_slot(0)), [(2, 50), (6, 50)]);
    assert_eq!(voices(s.actors[bob].on_slot(0)), [(1, 50), (5, 50)]);
    assert_eq!(s.actors[bob].on_announcer().skip(151).filter(|h| is_silence(h)).count(), 3);
}

#[test]
fn a_page_that_joins_again_takes_its_legs_place_and_stays_muted() {
    let mut s = Stage::conversation();
    let (_, bob) = (s.browser("alice"), s.browser("bob"));
    s.command(Command::MuteLeg { room: room(), leg: leg("alice"), muted: true });
    let reloaded = s.browser("alice");
    s.talk(ms(200), &[(reloaded, Opus, 1), (bob, Opus, 2)]);
    assert!(s.actors[bob].heard.is_empty());
    assert_eq!(s.actors[0].heard.len(), 0, "the former transport hears nothing any more");
    s.command(Command::MuteLeg { room: room(), leg: leg("alice"), muted: false });
    s.talk(ms(200), &[(reloaded, Opus, 3)]);
    assert_eq!(voices(s.actors[bob].on_slot(0)), [(3, 10)]);
    let Reply::Inventory(rooms) = s.command(Command::Inventory) else { panic!() };
    let legs: Vec<(&str, LegTransport, bool)> =
        rooms[0].legs.iter().map(|l| (l.leg.as_str(), l.transport, l.connected)).collect();
    assert_eq!(legs, [("bob", LegTransport::Peer, true), ("alice", LegTransport::Peer, true)]);
}

#[test]
fn numbers_wrap_on_both_sides_without_a_break() {
    let mut s = Stage::conversation();
    let alice = s.browser_with("alice", |actor| {
        actor.sequence = 65_500;
        actor.timestamp = u32::MAX - 5_000;
    });
    let bob = s.browser_with("bob", |actor| {
        actor.first_slot_sequence = 0x7fff;
        actor.first_slot_timestamp = u32::MAX - 2_000;
    });
    // The slot's own sequence wraps after 32,769 packets; the listener's SRTP must follow the roll-over.
    s.talk(secs(680), &[(alice, Pcmu, 1)]);
    let heard = &s.actors[bob].heard;
    assert_eq!(heard.len(), 34_000);
    for pair in heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp.wrapping_sub(pair[0].timestamp), 160);
    }
    assert_eq!(s.actors[bob].undecipherable, 0);
}

#[test]
fn closing_the_room_leaves_nothing_behind() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let link = s.link("carol", &[Pcmu]);
    let tape = s.record();
    s.talk(secs(1), &[(alice, Opus, 1), (bob, Opus, 2), (link, Pcmu, 3)]);
    assert_ne!(s.shard.gauges(), Gauges::default());
    s.command(Command::CloseRoom { room: room() });
    assert_eq!(s.shard.gauges(), Gauges::default());
    assert_eq!(tape.closed(), Some(offhook_contract::fact::TapCloseReason::Requested));
    assert_eq!(s.shard.poll_timeout(), None, "no timer is left");
    let sent = s.wire.len();
    s.talk(ms(100), &[(alice, Opus, 1)]);
    assert_eq!(s.wire.len(), sent);
    assert_eq!(s.shard.counters().dropped_unknown_source, 5);
}

#[test]
fn a_drained_shard_ends_every_leg_with_its_cause() {
    let mut s = Stage::conversation();
    s.browser("alice");
    s.link("bob", &[Pcmu]);
    s.command(Command::EndAll { cause: HangupCause::Drained });
    let ended = s.news().filter(|n| matches!(n, News::LegEnded { cause: HangupCause::Drained, .. })).count();
    assert_eq!((ended, s.shard.gauges()), (2, Gauges::default()));
}

#[test]
fn commands_for_what_is_not_there_are_named_and_removal_is_a_wish_fulfilled() {
    let mut s = Stage::conversation();
    let gone = |leg_name: &str| Command::MuteLeg { room: room(), leg: leg(leg_name), muted: true };
    assert_eq!(s.try_command(gone("nobody")), Err(CommandError::NoLeg(leg("nobody"))));
    let elsewhere = offhook_contract::RoomId::parse("elsewhere").unwrap();
    let command = Command::HoldLeg { room: elsewhere.clone(), leg: leg("a"), held: true };
    assert_eq!(s.try_command(command), Err(CommandError::NoRoom(elsewhere.clone())));
    s.command(Command::RemoveLeg { room: room(), leg: leg("nobody") });
    s.command(Command::CloseRoom { room: elsewhere });
    let other = RoomContext { call: offhook_contract::CallId::parse("other").unwrap(), ..context() };
    let again = |context| Command::OpenRoom {
        room: room(),
        kind: RoomKind::Conversation,
        context,
        opened_ms: offhook_contract::UnixMs(0),
    };
    assert_eq!(s.try_command(again(other)), Err(CommandError::RoomConflict(room())));
    assert_eq!(s.try_command(again(context())), Ok(Reply::Done));
}

#[test]
fn a_full_shard_has_room_for_calls_for_help_and_for_nothing_else() {
    let mut s = Stage::with_options(ShardOptions { legs_max: 2, legs_per_room_max: 2, ..ShardOptions::new(hold(), 7) });
    s.open_room(RoomKind::Conversation);
    s.browser("alice");
    s.browser("bob");
    let link = |n: usize, emergency: bool| {
        let actor = Actor::link(10 + n as u8, &[Pcmu]);
        Command::OpenLink { room: room(), leg: leg(&format!("l{n}")), plan: Box::new(actor.link_plan()), emergency }
    };
    for n in 0..EMERGENCY_LEGS {
        assert!(matches!(s.try_command(link(100, false)), Err(CommandError::RoomFull { limit: 2, .. })));
        assert_eq!(s.try_command(link(n, true)), Ok(Reply::Done));
    }
    let last = s.try_command(link(100, true));
    assert!(matches!(last, Err(CommandError::RoomFull { limit, .. }) if limit == 2 + EMERGENCY_LEGS), "{last:?}");
}
