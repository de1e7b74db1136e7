//! The recorder's Tap with its notice and beeps: they begin, sound and end together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod stage;

use offhook_contract::CodecName::{Opus, Pcma, Pcmu};
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_contract::sfu::RoomKind;
use offhook_contract::{CodecName, UnixMs};
use offhook_media::Codec;
use offhook_sfu_core::*;
use stage::*;

const NOTICE: ConsentKind = ConsentKind::Notice;
const BEEP: ConsentKind = ConsentKind::Beep;

fn closed(stage: &Stage) -> Option<TapCloseReason> {
    stage.news().find_map(|news| match news {
        News::TapClosed { reason, .. } => Some(*reason),
        _ => None,
    })
}

const fn media(codec: CodecName) -> Codec {
    match codec {
        Opus => Codec::Opus,
        Pcmu => Codec::Pcmu,
        Pcma => Codec::Pcma,
    }
}

/// The moments at which a beep's first frame reached this party, each burst checked frame by frame.
fn beeps(stage: &Stage, index: usize, codec: CodecName) -> Vec<MediaNs> {
    let beep = beep();
    let frames = beep.frames(media(codec));
    let heard: Vec<&Heard> = stage.actors[index].on_announcer().collect();
    let mut begun = Vec::new();
    let mut at = notice().frame_count();
    while at < heard.len() {
        for (n, frame) in frames.iter().enumerate() {
            let packet = heard[at + n];
            assert_eq!((packet.codec, &packet.payload[..]), (codec, &**frame));
            if n > 0 {
                let step = codec.clock_rate_hz() / 50;
                assert_eq!(packet.timestamp.wrapping_sub(heard[at + n - 1].timestamp), step);
                assert_eq!(packet.at.since(heard[at + n - 1].at), ms(20));
            }
        }
        begun.push(heard[at].at);
        at += frames.len();
    }
    begun
}

#[test]
fn notice_then_beeps_on_a_fifteen_second_grid_reach_browsers_and_links_in_their_codec() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser_with("bob", |actor| actor.codecs = vec![Pcma]));
    let phone = s.link("phone", &[Pcmu]);
    let tape = s.record();
    s.talk(secs(62), &[(alice, Opus, 1), (bob, Pcma, 2), (phone, Pcmu, 3)]);
    let notice_ms = notice().frame_count() as u64 * 20;
    let grid: Vec<u64> = (0..5).map(|n| notice_ms + n * 15_000).collect();
    let since_start = |at: &MediaNs| at.since(MediaNs(START_NS)).as_millis() as u64;
    for (index, codec) in [(alice, Opus), (bob, Pcma), (phone, Pcmu)] {
        let heard: Vec<&Heard> = s.actors[index].on_announcer().collect();
        for (packet, frame) in heard.iter().zip(notice().frames(media(codec))) {
            assert_eq!(packet.payload, **frame);
        }
        let begun: Vec<u64> = beeps(&s, index, codec).iter().map(since_start).collect();
        assert_eq!(begun, grid, "party {index}");
        let numbers: Vec<u16> = heard.iter().map(|h| h.sequence).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
    let taped: Vec<u64> = tape.started(BEEP).iter().map(since_start).collect();
    assert_eq!(taped, grid);
    assert_eq!(tape.started(NOTICE).len(), 1);
    assert_eq!(closed(&s), None);
}

#[test]
fn the_tape_holds_every_partys_packets_as_they_came_and_the_announcers_on_a_track_of_its_own() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let phone = s.link("phone", &[Pcmu]);
    let tape = s.record();
    let begun = s.now;
    s.talk(secs(17), &[(alice, Opus, 1), (phone, Pcmu, 3)]);
    for (name, byte, length) in [("alice", 1, 30), ("phone", 3, 160)] {
        let packets = tape.packets(tape.track(Some(name)).unwrap());
        assert_eq!(packets.len(), 850);
        for (n, (at, payload)) in packets.iter().enumerate() {
            assert_eq!((at.since(begun), payload), (ms(n as u64 * 20), &vec![byte; length]));
        }
    }
    let announced = tape.packets(tape.track(None).unwrap());
    assert_eq!(announced.len(), notice().frame_count() + 2 * beep().frame_count());
    let wanted = notice()
        .frames(Codec::Opus)
        .iter()
        .chain(beep().frames(Codec::Opus))
        .chain(beep().frames(Codec::Opus))
        .cloned()
        .collect::<Vec<_>>();
    assert!(announced.iter().zip(wanted).all(|((_, payload), frame)| payload[..] == *frame));
    let stamps: Vec<(MediaNs, u32)> = tape
        .taped()
        .iter()
        .filter_map(|taped| match taped {
            Taped::Packet { track, at, timestamp, .. } if Some(*track) == tape.track(None) => Some((*at, *timestamp)),
            _ => None,
        })
        .collect();
    for pair in stamps.windows(2) {
        let passed = pair[1].0.since(pair[0].0).as_millis() as u32;
        assert_eq!(pair[1].1.wrapping_sub(pair[0].1), passed * 48, "timestamps follow the media clock");
    }
    let pairs: Vec<u64> = tape
        .taped()
        .iter()
        .filter_map(|taped| match taped {
            Taped::ClockPair(at, wall) => Some((at.since(begun).as_millis() as u64, wall.since(UnixMs(START_WALL_MS)))),
            _ => None,
        })
        .inspect(|(media, wall)| assert_eq!(media, wall))
        .map(|(media, _)| media)
        .collect();
    assert_eq!(pairs, [50, 10_050]);
}

#[test]
fn nothing_is_recorded_and_nothing_sounds_before_the_recorder_has_come() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let (tape, reader) = Tape::new();
    s.command(open_tap(tape));
    s.talk(secs(3), &[(alice, Opus, 1)]);
    assert!(reader.taped().is_empty());
    assert_eq!(s.actors[alice].on_announcer().count(), 0);
    reader.attach();
    s.talk(secs(1), &[(alice, Opus, 2)]);
    assert_eq!(reader.started(NOTICE).len(), 1);
    assert!(reader.packets(reader.track(Some("alice")).unwrap()).iter().all(|(_, payload)| payload[0] == 2));
}

#[test]
fn a_recorder_that_never_comes_or_does_not_come_back_ends_tap_and_beeps() {
    for comes in [false, true] {
        let mut s = Stage::conversation();
        let alice = s.browser("alice");
        let (tape, reader) = Tape::new();
        s.command(open_tap(tape));
        if comes {
            reader.attach();
            s.advance(secs(20));
            reader.detach();
            let before = reader.started(BEEP).len();
            s.advance(secs(9));
            reader.attach();
            s.advance(secs(8));
            assert_eq!((closed(&s), reader.started(BEEP).len()), (None, before + 1), "it came back in time");
            reader.detach();
        }
        s.advance(ms(10_100));
        assert_eq!(closed(&s), Some(TapCloseReason::RecorderGone));
        assert_eq!(reader.closed(), Some(TapCloseReason::RecorderGone));
        let heard = s.actors[alice].on_announcer().count();
        s.advance(secs(40));
        assert_eq!(s.actors[alice].on_announcer().count(), heard, "no Tap, no beep");
        assert_eq!(s.shard.gauges().taps, 0);
    }
}

#[test]
fn a_party_whom_the_notice_cannot_reach_keeps_the_tap_shut() {
    for change in [|actor: &mut Actor| actor.announcer = false, |actor: &mut Actor| actor.codecs.clear()] {
        let mut s = Stage::conversation();
        s.browser("alice");
        s.browser_with("deaf", change);
        let refused = s.try_command(open_tap(Tape::new().0));
        assert_eq!(refused, Err(CommandError::NoticeUnheard(leg("deaf"))));
        assert_eq!(refused.unwrap_err().code(), offhook_contract::ErrorCode::Refused);
        assert_eq!(s.shard.gauges().taps, 0);
    }
    let mut s = Stage::with_room(RoomKind::Echo);
    assert_eq!(s.try_command(open_tap(Tape::new().0)), Err(CommandError::EchoRoom));
}

#[test]
fn such_a_party_that_joins_later_ends_the_recording() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let tape = s.record();
    s.talk(secs(2), &[(alice, Opus, 1)]);
    s.browser_with("deaf", |actor| actor.announcer = false);
    assert_eq!(closed(&s), Some(TapCloseReason::AnnouncerFailed));
    assert_eq!(tape.closed(), Some(TapCloseReason::AnnouncerFailed));
    let taped = tape.taped().len();
    s.talk(secs(20), &[(alice, Opus, 1)]);
    assert_eq!(tape.taped().len(), taped, "not one packet more");
}

#[test]
fn a_late_joiner_alone_hears_the_notice_and_beeps_keep_their_grid() {
    let mut s = Stage::conversation();
    let alice = s.browser("alice");
    let tape = s.record();
    let frames = notice().frame_count();
    // Joins so that its notice would still be playing when the second beep is due.
    s.advance(ms(frames as u64 * 20 + 14_500));
    let before = s.actors[alice].on_announcer().count();
    let bob = s.browser("bob");
    s.advance(secs(4));
    let started = tape.started(BEEP);
    assert_eq!(started[1].since(started[0]), secs(15));
    assert_eq!(s.actors[alice].on_announcer().count() - before, beep().frame_count(), "nothing but the beep");
    let heard: Vec<&[u8]> = s.actors[bob].on_announcer().map(|h| &h.payload[..]).collect();
    assert_eq!(heard.len(), frames + beep().frame_count());
    let interrupted = 25;
    let wanted: Vec<Box<[u8]>> = [
        &notice().frames(Codec::Opus)[..interrupted],
        beep().frames(Codec::Opus),
        &notice().frames(Codec::Opus)[interrupted..],
    ]
    .concat();
    assert!(heard.iter().zip(&wanted).all(|(got, frame)| **got == **frame), "the beep interrupts, the notice goes on");
    assert_eq!(tape.started(NOTICE).len(), 2);
    let stamps: Vec<u32> = s.actors[bob].on_announcer().map(|h| h.timestamp).collect();
    assert!(stamps.windows(2).all(|pair| pair[1] > pair[0]));
}

#[test]
fn muted_and_held_parties_are_recorded_as_silence_and_hear_the_beeps() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let tape = s.record();
    s.command(Command::MuteLeg { room: room(), leg: leg("alice"), muted: true });
    s.command(Command::HoldLeg { room: room(), leg: leg("bob"), held: true });
    s.talk(secs(20), &[(alice, Opus, 1), (bob, Opus, 2)]);
    assert_eq!((tape.track(Some("alice")), tape.track(Some("bob"))), (None, None));
    let frames = beep();
    let begins_beep = |index: usize| {
        let payloads: Vec<&[u8]> = s.actors[index].on_announcer().map(|h| &h.payload[..]).collect();
        let whole = frames.frames(Codec::Opus);
        payloads.windows(whole.len()).filter(|w| w.iter().zip(whole).all(|(a, b)| **a == **b)).count()
    };
    assert_eq!((begins_beep(alice), begins_beep(bob)), (2, 2));
    assert_eq!(s.actors[alice].on_announcer().count(), notice().frame_count() + 2 * frames.frame_count());
    assert!(s.actors[bob].on_announcer().count() > 900, "the hold prompt goes on between the beeps");
}

#[test]
fn a_receiver_report_that_covers_the_burst_confirms_it_and_its_absence_is_told_after_eight_seconds() {
    let mut s = Stage::conversation();
    let (alice, _bob) = (s.browser("alice"), s.browser("bob"));
    let phone = s.link("phone", &[Pcmu]);
    s.record();
    s.advance(ms(notice().frame_count() as u64 * 20 + 2_000));
    for party in [alice, phone] {
        let ssrc = s.actors[party].announcer_ssrc();
        let report = s.actors[party].confirm(ssrc, 0, 0);
        s.send(party, report);
    }
    s.advance(secs(9));
    let mut told: Vec<(String, ConsentKind, bool, UnixMs)> = s
        .news()
        .filter_map(|news| match news {
            News::Announcement { leg, kind, received, played_ms, .. } => {
                Some((leg.to_string(), *kind, *received, *played_ms))
            }
            _ => None,
        })
        .collect();
    told.sort_by_key(|(leg, kind, ..)| (leg.clone(), *kind == BEEP));
    let played = UnixMs(START_WALL_MS);
    let beeped = played.plus_ms(notice().frame_count() as u64 * 20);
    let expected: Vec<(String, ConsentKind, bool, UnixMs)> = [
        ("alice", NOTICE, true, played),
        ("alice", BEEP, true, beeped),
        ("bob", NOTICE, false, played),
        ("bob", BEEP, false, beeped),
        ("phone", NOTICE, true, played),
        ("phone", BEEP, true, beeped),
    ]
    .map(|(leg, kind, received, at)| (leg.to_owned(), kind, received, at))
    .to_vec();
    assert_eq!(told, expected, "a telephone's gateway is held to it from the notice on");
    s.advance(secs(15));
    let late =
        s.news().filter(|n| matches!(n, News::Announcement { leg: l, received: false, .. } if *l == leg("phone")));
    assert_eq!(late.count(), 1, "which says so when it reports nothing more");
}

#[test]
fn one_recording_at_a_time_and_a_second_one_is_named() {
    let mut s = Stage::conversation();
    s.browser("alice");
    s.record();
    assert_eq!(s.try_command(open_tap(Tape::new().0)), Err(CommandError::TapOpen(recording())));
    s.command(Command::CloseTap { room: room(), recording: recording() });
    let tape = s.record();
    s.advance(secs(2));
    assert_eq!((tape.started(NOTICE).len(), closed(&s)), (1, None), "asked for, so not told");
}

#[test]
fn a_party_that_leaves_ends_its_track_and_the_beeps_go_on() {
    let mut s = Stage::conversation();
    let (alice, bob) = (s.browser("alice"), s.browser("bob"));
    let tape = s.record();
    s.talk(secs(2), &[(alice, Opus, 1), (bob, Opus, 2)]);
    s.command(Command::RemoveLeg { room: room(), leg: leg("alice") });
    let track = tape.track(Some("alice")).unwrap();
    assert!(tape.taped().contains(&Taped::TrackEnded(track)));
    s.advance(secs(16));
    assert_eq!(tape.started(BEEP).len(), 2);
}
