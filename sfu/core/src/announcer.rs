//! The Announcer: notices and beeps to all legs or one, the hold prompt, and the silence that ends a slot. Everything
//! of ours in a room leaves on one tick of 20 ms, which runs only while something plays.
use crate::leg::{Burst, Leg, LegKey, Receipt, Sending, Unsent};
use crate::room::RoomKey;
use crate::shard::{Shard, Timer};
use crate::slot::{Frame, RunId};
use crate::time::{MediaNs, ticks};
use offhook_contract::CodecName;
use offhook_contract::fact::{ConsentKind, TapCloseReason};
use offhook_media::{Codec, EncodedPrompt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub const FRAME: Duration = Duration::from_millis(20);
/// After a longer stall the tick begins anew instead of catching up.
const CATCH_UP: Duration = Duration::from_millis(200);
/// A receiver report covering a burst comes within 7.5 s, or never (DESIGN.md §5).
const RECEIPT_WITHIN: Duration = Duration::from_secs(8);
/// A connected party may miss one frame in so many of a burst, when the egress is full for a moment; with one more, or
/// with a frame that could never be sent to it, we were unable to play, and the Tap closes (DESIGN.md §1, Tap). What the
/// network loses on its way is another matter: see `expire_receipts`.
const MISSED_ONE_IN: usize = 10;
/// What we say of the loudness of our own frames (RFC 6464): our prompts are levelled so.
const LEVEL: u8 = 25;
/// Late joiners waiting for their notice.
const NOTICES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    All,
    One(LegKey),
}

impl Audience {
    fn includes(self, leg: LegKey) -> bool {
        match self {
            Self::All => true,
            Self::One(only) => only == leg,
        }
    }
}

pub struct Announcement {
    kind: ConsentKind,
    prompt: Arc<EncodedPrompt>,
    audience: Audience,
    next: usize,
    began: MediaNs,
    run: RunId,
    /// A frame of it stands in the Tap.
    taped: bool,
}

impl Announcement {
    pub const fn new(kind: ConsentKind, prompt: Arc<EncodedPrompt>, audience: Audience) -> Self {
        Self { kind, prompt, audience, next: 0, began: MediaNs(0), run: 0, taped: false }
    }
}

/// What waits to be said in a room. A beep keeps its moment: it interrupts a notice, which then goes on.
#[derive(Default)]
pub struct Announcements {
    beep: Option<Announcement>,
    notices: VecDeque<Announcement>,
}

impl Announcements {
    fn push(&mut self, announcement: Announcement) {
        match announcement.kind {
            ConsentKind::Beep => self.beep = Some(announcement),
            ConsentKind::Notice if self.notices.len() < NOTICES_MAX => self.notices.push_back(announcement),
            // So many wait for theirs that one for everybody comes sooner to each; nobody is left without.
            ConsentKind::Notice => {
                self.notices.retain(|notice| notice.next > 0);
                self.notices.push_back(Announcement { audience: Audience::All, ..announcement });
            }
        }
    }

    fn current_mut(&mut self) -> Option<&mut Announcement> {
        self.beep.as_mut().or(self.notices.front_mut())
    }

    fn take_finished(&mut self) -> Option<Announcement> {
        let finished = |a: &Announcement| a.next >= a.prompt.frame_count();
        if self.beep.is_some() {
            return self.beep.take_if(|beep| finished(beep));
        }
        self.notices.pop_front_if(|notice| finished(notice))
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn is_empty(&self) -> bool {
        self.beep.is_none() && self.notices.is_empty()
    }
}

/// One frame of an announcement for the legs it is meant for.
struct Playing {
    kind: ConsentKind,
    prompt: Arc<EncodedPrompt>,
    audience: Audience,
    frame: usize,
    run: RunId,
}

/// What became of a frame for one of those who must hear it: who was connected when the burst began and still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is not owed the frame: it comes back to a notice of its own.
    NotOwed,
    Heard,
    /// Passed over, within what may be missed.
    Missed,
    /// A burst cannot be played to this one.
    Failed,
}

/// What became of a frame among all of them.
#[derive(Debug, Default, Clone, Copy)]
struct Handed {
    heard: u64,
    missed: u64,
    /// One to whom the burst cannot be played.
    failed: Option<LegKey>,
}

impl Handed {
    fn count(&mut self, leg: LegKey, fate: Fate) {
        match fate {
            Fate::NotOwed => {}
            Fate::Heard => self.heard += 1,
            Fate::Missed => self.missed += 1,
            Fate::Failed => {
                self.missed += 1;
                self.failed = self.failed.or(Some(leg));
            }
        }
    }
}

pub const fn media_codec(codec: CodecName) -> Codec {
    match codec {
        CodecName::Opus => Codec::Opus,
        CodecName::Pcmu => Codec::Pcmu,
        CodecName::Pcma => Codec::Pcma,
    }
}

impl Shard {
    pub(crate) fn play(&mut self, now: MediaNs, room: RoomKey, announcement: Announcement) {
        if let Some(room) = self.rooms.get_mut(room) {
            room.announcements.push(announcement);
        }
        self.start_tick(now, room);
    }

    /// Has the room's tick run from now on, if it does not yet.
    pub(crate) fn start_tick(&mut self, now: MediaNs, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.tick_due.is_none() {
            room.tick_due = Some(now);
            self.timers.set(now, Timer::Tick(key));
        }
    }

    /// The frames due at `due`.
    pub(crate) fn tick(&mut self, now: MediaNs, key: RoomKey, due: MediaNs) {
        let Some(room) = self.rooms.get_mut(key).filter(|room| room.tick_due == Some(due)) else { return };
        room.tick_due = None;
        let at = if now.since(due) > CATCH_UP { now } else { due };
        let announced = self.announce(at, key);
        let (played, handed) = self.play_to_legs(at, key, announced.as_ref());
        self.counters.announcer_missed_frames += handed.missed;
        if handed.heard > 0 {
            self.tape(at, key, announced.as_ref());
        }
        if let Some(leg) = handed.failed {
            self.close_tap(now, key, TapCloseReason::AnnouncerFailed, Some(leg));
        }
        self.finish_announcement(at.after(FRAME), key);
        let Some(room) = self.rooms.get_mut(key) else { return };
        if played || !room.announcements.is_empty() {
            let next = at.after(FRAME);
            room.tick_due = Some(next);
            self.timers.set(next, Timer::Tick(key));
        }
    }

    /// Picks the frame of the current announcement.
    fn announce(&mut self, at: MediaNs, key: RoomKey) -> Option<Playing> {
        let serial = self.next_serial();
        let room = self.rooms.get_mut(key)?;
        let current = room.announcements.current_mut()?;
        let frame = current.next;
        current.next += 1;
        if frame == 0 {
            current.began = at;
            current.run = serial << 8;
            for leg in &room.legs {
                if let Some(leg) =
                    self.legs.get_mut(*leg).filter(|l| l.is_connected() && current.audience.includes(*leg))
                    && let Some(line) = leg.ears.announcer.as_mut()
                {
                    *line.burst_mut(current.kind) = Some(Burst::default());
                }
            }
        }
        Some(Playing {
            kind: current.kind,
            prompt: Arc::clone(&current.prompt),
            audience: current.audience,
            frame,
            run: current.run,
        })
    }

    /// Writes a frame into the Tap that somebody was handed: what stands there was played, and what was played stands
    /// there. One party's full egress makes no hole in what the others heard.
    fn tape(&mut self, at: MediaNs, key: RoomKey, playing: Option<&Playing>) {
        let (Some(playing), Some(room)) = (playing, self.rooms.get_mut(key)) else { return };
        let (Some(tap), Some(current)) = (room.tap.as_mut(), room.announcements.current_mut()) else { return };
        if !std::mem::replace(&mut current.taped, true) {
            tap.announcement_started(playing.kind, at);
        }
        tap.announcer_frame(at, &playing.prompt, playing.frame);
    }

    fn finish_announcement(&mut self, end: MediaNs, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let Some(done) = room.announcements.take_finished() else { return };
        let Some(tap) = room.tap.as_mut() else { return };
        tap.announcement_ended(done.kind, end, done.taped);
        let look = tap.next_look(end).min(end);
        room.tap_due = Some(look);
        self.timers.set(look, Timer::Tap(key));
        let until = end.after(RECEIPT_WITHIN);
        let played_ms = self.clock.wall(done.began);
        for &leg_key in &room.legs {
            let Some(leg) = self.legs.get_mut(leg_key) else { continue };
            let Some(line) = leg.ears.announcer.as_mut() else { continue };
            if !done.audience.includes(leg_key) || line.burst_mut(done.kind).take().is_none() {
                continue;
            }
            line.expect_receipt(Receipt {
                recording: tap.recording.clone(),
                kind: done.kind,
                last_sequence: line.writer.last_extended(),
                played_ms,
                ended: end,
                until,
            });
            self.timers.set(until, Timer::Receipts(leg_key));
        }
    }

    /// Sends every leg its frame; `false` when nobody has one left. And what became of the announcement's.
    fn play_to_legs(&mut self, at: MediaNs, key: RoomKey, announced: Option<&Playing>) -> (bool, Handed) {
        let mut handed = Handed::default();
        let Some(room) = self.rooms.get(key) else { return (false, handed) };
        let mut more = announced.is_some();
        for &leg_key in &room.legs {
            let Some(leg) = self.legs.get_mut(leg_key) else { continue };
            let (egress, counters) = (&mut self.egress, &mut self.counters);
            let meant = announced.filter(|playing| playing.audience.includes(leg_key));
            let mut out = Outlet { egress, at, flow: leg_key.index() as u32, sent: 0 };
            match meant {
                Some(playing) => handed.count(leg_key, out.announcement(leg, playing)),
                None => more |= out.own_prompt(leg, &self.options.hold, leg_key),
            }
            more |= out.slot_tails(leg);
            counters.announcer_packets += out.sent;
        }
        (more, handed)
    }
}

/// Where one leg's frames of this tick go.
struct Outlet<'a> {
    egress: &'a mut crate::egress::Egress,
    at: MediaNs,
    flow: u32,
    sent: u64,
}

impl Outlet<'_> {
    fn announcement(&mut self, leg: &mut Leg, playing: &Playing) -> Fate {
        let codec = leg.ears.announcer.as_ref().and_then(|line| line.codec);
        let payload = codec.and_then(|codec| Some((codec, playing.prompt.frame(media_codec(codec), playing.frame)?)));
        let sent = match payload {
            Some((codec, payload)) => self.frame(leg, playing.run, codec, playing.frame, payload),
            None => Err(Unsent::Codec),
        };
        let Some(burst) = leg.ears.announcer.as_mut().map(|line| line.burst_mut(playing.kind)) else {
            return Fate::NotOwed;
        };
        match (sent, burst.as_mut()) {
            // It came when the burst had begun: what it hears of it is not owed to it.
            (_, None) => Fate::NotOwed,
            (Ok(()), Some(_)) => Fate::Heard,
            (Err(Unsent::NotConnected), Some(_)) => {
                *burst = None;
                Fate::NotOwed
            }
            (Err(Unsent::Codec), Some(_)) => Fate::Failed,
            (Err(Unsent::Full | Unsent::Late), Some(burst)) => {
                burst.missed += 1;
                if burst.missed * MISSED_ONE_IN > playing.prompt.frame_count() { Fate::Failed } else { Fate::Missed }
            }
        }
    }

    /// The hold prompt, or the silence after it; `false` when there is neither.
    fn own_prompt(&mut self, leg: &mut Leg, hold: &EncodedPrompt, key: LegKey) -> bool {
        let Some(line) = leg.ears.announcer.as_mut() else { return false };
        let Some(codec) = line.codec else { return false };
        if let Some(index) = line.hold {
            let content = hold.content(media_codec(codec));
            let Some(payload) = content.get(index % content.len().max(1)) else { return false };
            line.hold = Some(index + 1);
            // A number of its own that no announcement has: serials begin at 1. A frame missed is not made up for.
            let _ = self.frame(leg, key.index() as u64 & 0xff, codec, index, payload);
            return true;
        }
        if line.tail == 0 {
            return false;
        }
        line.tail -= 1;
        let more = line.tail > 0;
        if let Some(frame) = line.writer.following(codec) {
            let payload = media_codec(codec).silence_frame();
            let sending = Sending { frame: &frame, level: None, speaker: 0, payload };
            self.sent += u64::from(leg.send_on_announcer(self.egress, self.at, self.flow, &sending).is_ok());
        }
        more
    }

    fn frame(
        &mut self,
        leg: &mut Leg,
        run: RunId,
        codec: CodecName,
        index: usize,
        payload: &[u8],
    ) -> Result<(), Unsent> {
        let step = ticks(FRAME, codec.clock_rate_hz()) as u32;
        let frame = Frame {
            run,
            codec,
            sequence: index as u16,
            timestamp: (index as u32).wrapping_mul(step),
            marker: index == 0,
        };
        let sending = Sending { frame: &frame, level: Some(LEVEL), speaker: 0, payload };
        leg.send_on_announcer(self.egress, self.at, self.flow, &sending)?;
        self.sent += 1;
        Ok(())
    }

    fn slot_tails(&mut self, leg: &mut Leg) -> bool {
        let mut more = false;
        for index in 0..leg.ears.slots.len() {
            let Some(slot) = leg.ears.slots.get_mut(index) else { continue };
            if slot.tail == 0 {
                continue;
            }
            slot.tail -= 1;
            let last = slot.tail == 0;
            more |= !last;
            let frame = slot.writer.codec_running().and_then(|codec| slot.writer.following(codec));
            if let Some(frame) = frame {
                let payload = media_codec(frame.codec).silence_frame();
                let sending = Sending { frame: &frame, level: None, speaker: 0, payload };
                self.sent += u64::from(leg.send_on_slot(self.egress, self.at, self.flow, index, &sending).is_ok());
            }
            if last && let Some(slot) = leg.ears.slots.get_mut(index) {
                slot.writer.rest();
            }
        }
        more
    }
}
