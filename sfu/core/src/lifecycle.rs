//! Rooms and legs: opening, joining, muting, holding, leaving.
use crate::command::{CommandError, ConnectPlan, LinkPlan, News, PeerPlan, Reply, RoomContext, TapPlan};
use crate::dtls::DtlsSession;
use crate::egress::Path;
use crate::leg::{Leg, LegKey, Media, TRAILING_SILENCE, Transport};
use crate::room::{Room, RoomKey};
use crate::shard::{Shard, Timer};
use crate::source::Source;
use crate::tap::{Due, Tap};
use crate::time::MediaNs;
use offhook_contract::audio::LINK_LEVEL_EXTENSION_ID;
use offhook_contract::fact::TapCloseReason;
use offhook_contract::sfu::{LegTransport, RoomKind, RoomLegRow, RoomRow};
use offhook_contract::{HangupCause, LegId, RecordingId, RoomId, UnixMs};
use offhook_wire_srtp::{ReceiveContext, SendContext};
use std::sync::Arc;
use std::time::Duration;

/// A browser without an authenticated check for so long has gone (RFC 7675 §5.1).
pub const CONSENT: Duration = Duration::from_secs(30);
/// Sender and receiver reports, and statistics (RFC 3550 §6.2 in its usual fixed form).
pub const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Kept free above the limit for the legs of calls for help, which no limit refuses (DESIGN.md §3).
pub const EMERGENCY_LEGS: usize = 16;

/// Where a new leg goes, and how its former self was.
pub struct Space {
    room: RoomKey,
    muted: bool,
    held: bool,
}

impl Shard {
    pub(crate) fn open_room(
        &mut self,
        id: RoomId,
        kind: RoomKind,
        context: RoomContext,
        opened_ms: UnixMs,
    ) -> Result<Reply, CommandError> {
        if let Some(room) = self.register.rooms.get(&id).and_then(|key| self.rooms.get_mut(*key)) {
            let same = room.kind == kind && room.context.tenant == context.tenant && room.context.call == context.call;
            if !same {
                return Err(CommandError::RoomConflict(id));
            }
            if context.epoch > room.context.epoch {
                Arc::make_mut(&mut room.context).epoch = context.epoch;
            }
            return Ok(Reply::Done);
        }
        let key = self.rooms.insert(Room::new(id.clone(), kind, context, opened_ms));
        self.register.rooms.insert(id, key);
        Ok(Reply::Done)
    }

    pub(crate) fn add_peer(
        &mut self,
        now: MediaNs,
        space: Space,
        id: LegId,
        plan: PeerPlan,
        dtls: Box<dyn DtlsSession>,
    ) -> Reply {
        let ufrag = plan.ufrag.clone();
        let serial = self.next_serial();
        let mut leg = Leg::peer(id, space.room, plan, dtls, now, serial);
        (leg.muted, leg.held) = (space.muted, space.held);
        let key = self.enter(now, space.room, leg);
        self.register.add_fragment(&ufrag, key);
        self.timers.set(now.after(CONSENT), Timer::Consent(key));
        Reply::Done
    }

    pub(crate) fn open_link(&mut self, now: MediaNs, space: Space, id: LegId, plan: LinkPlan) -> Reply {
        let serial = self.next_serial();
        let mut leg = Leg::link(id, space.room, plan, serial);
        (leg.muted, leg.held) = (space.muted, space.held);
        self.enter(now, space.room, leg);
        Reply::Done
    }

    pub(crate) fn connect_link(
        &mut self,
        now: MediaNs,
        room: &RoomId,
        id: &LegId,
        plan: &ConnectPlan,
    ) -> Result<Reply, CommandError> {
        let room_key = self.room_key(room)?;
        let key = self.leg_key(room_key, id).ok_or_else(|| CommandError::NoLeg(id.clone()))?;
        let serial = self.next_serial();
        let free = self.register.is_link_free(plan.remote, plan.ssrc);
        let leg = self.legs.get_mut(key).ok_or_else(|| CommandError::NoLeg(id.clone()))?;
        let Transport::Link(link) = &mut leg.transport else { return Err(CommandError::NotALink(id.clone())) };
        if let Some(remote) = link.remote {
            return if remote == (plan.remote, plan.ssrc) {
                Ok(Reply::Done)
            } else {
                Err(CommandError::LinkConnected(id.clone()))
            };
        }
        if !free {
            return Err(CommandError::LinkAddressTaken(plan.remote));
        }
        // The other side's first choice among what we may send is what its telephone speaks: notices go out in it.
        let common = plan.codecs.iter().copied().find(|codec| link.codecs.contains(codec));
        let common = common.ok_or_else(|| CommandError::NoCodec(id.clone()))?;
        let outbound = SendContext::new(&link.key).map_err(|_| CommandError::LinkKey)?;
        let inbound = ReceiveContext::new(&plan.key).map_err(|_| CommandError::LinkKey)?;
        link.remote = Some((plan.remote, plan.ssrc));
        let types = crate::command::PayloadTypes::on_links(&plan.codecs);
        leg.source = Source::new(types, Some(LINK_LEVEL_EXTENSION_ID), Some(plan.ssrc), serial);
        if let Some(line) = leg.ears.announcer.as_mut() {
            line.codec = Some(common);
        }
        leg.media = Some(Media { inbound, outbound });
        leg.path = Some(Path { remote: plan.remote, local: None });
        self.register.add_link(plan.remote, plan.ssrc, key);
        self.connected(now, key);
        Ok(Reply::Done)
    }

    /// Space for one leg more. A leg that joins again replaces itself; what was said about it stays.
    pub(crate) fn make_space(
        &mut self,
        now: MediaNs,
        room: &RoomId,
        id: &LegId,
        emergency: bool,
    ) -> Result<Space, CommandError> {
        let room = self.room_key(room)?;
        let mut space = Space { room, muted: false, held: false };
        if let Some(key) = self.leg_key(room, id) {
            (space.muted, space.held) = self.legs.get(key).map_or((false, false), |leg| (leg.muted, leg.held));
            self.remove_leg(now, key);
        }
        self.check_space(room, emergency)?;
        Ok(space)
    }

    fn check_space(&self, room: RoomKey, emergency: bool) -> Result<(), CommandError> {
        let spare = if emergency { EMERGENCY_LEGS } else { 0 };
        let limit = self.options.legs_per_room_max + spare;
        if let Some(room) = self.rooms.get(room).filter(|room| room.legs.len() >= limit) {
            return Err(CommandError::RoomFull { room: room.id.clone(), limit });
        }
        let limit = self.options.legs_max + spare;
        if self.legs.len() >= limit { Err(CommandError::ShardFull { limit }) } else { Ok(()) }
    }

    fn enter(&mut self, now: MediaNs, room_key: RoomKey, leg: Leg) -> LegKey {
        let unheard = !leg.hears_announcements();
        let key = self.legs.insert(leg);
        if let Some(room) = self.rooms.get_mut(room_key) {
            room.legs.push(key);
        }
        if unheard {
            // Without the notice for everyone there is no recording (DESIGN.md §6).
            self.close_tap(now, room_key, TapCloseReason::AnnouncerFailed, Some(key));
        }
        key
    }

    /// Media flows from now on.
    pub(crate) fn connected(&mut self, now: MediaNs, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        // Spread, so that the reports of many legs do not fall into one tick.
        let first = Duration::from_millis(1_000 + u64::from(leg.source_id % 4_000));
        self.timers.set(now.after(first), Timer::Reports(key));
        let room_key = leg.room;
        if leg.held {
            self.start_hold_prompt(now, key);
        }
        let late = self.rooms.get(room_key).and_then(|room| room.tap.as_ref()).filter(|tap| tap.is_recording());
        if let Some(notice) = late.map(|tap| tap.notice_for(crate::announcer::Audience::One(key))) {
            self.play(now, room_key, notice);
        }
    }

    pub(crate) fn leg_key(&self, room: RoomKey, id: &LegId) -> Option<LegKey> {
        let room = self.rooms.get(room)?;
        room.legs.iter().copied().find(|key| self.legs.get(*key).is_some_and(|leg| *leg.id == *id))
    }

    pub(crate) fn mute_leg(
        &mut self,
        now: MediaNs,
        room: &RoomId,
        id: &LegId,
        muted: bool,
    ) -> Result<Reply, CommandError> {
        let (room, key) = self.find_leg(room, id)?;
        if let Some(leg) = self.legs.get_mut(key) {
            leg.muted = muted;
        }
        if muted {
            self.vacate(now, room, key);
        }
        Ok(Reply::Done)
    }

    pub(crate) fn hold_leg(
        &mut self,
        now: MediaNs,
        room: &RoomId,
        id: &LegId,
        held: bool,
    ) -> Result<Reply, CommandError> {
        let (room, key) = self.find_leg(room, id)?;
        let Some(leg) = self.legs.get_mut(key) else { return Ok(Reply::Done) };
        if std::mem::replace(&mut leg.held, held) == held {
            return Ok(Reply::Done);
        }
        if !held {
            if let Some(line) = leg.ears.announcer.as_mut().take_if(|line| line.hold.take().is_some()) {
                line.tail = TRAILING_SILENCE;
            }
            self.start_tick(now, room);
            return Ok(Reply::Done);
        }
        self.vacate(now, room, key);
        self.empty_slots(now, room, key);
        self.start_hold_prompt(now, key);
        Ok(Reply::Done)
    }

    fn start_hold_prompt(&mut self, now: MediaNs, key: LegKey) {
        let Some(leg) = self.legs.get_mut(key) else { return };
        if let Some(line) = leg.ears.announcer.as_mut() {
            line.hold = Some(0);
            // It begins at its first frame again, which would be late in the numbers of the time before.
            line.writer.rest();
        }
        let room = leg.room;
        self.start_tick(now, room);
    }

    fn find_leg(&self, room: &RoomId, id: &LegId) -> Result<(RoomKey, LegKey), CommandError> {
        let room = self.room_key(room)?;
        Ok((room, self.leg_key(room, id).ok_or_else(|| CommandError::NoLeg(id.clone()))?))
    }

    /// The speaker leaves every slot; silence ends each cleanly.
    fn vacate(&mut self, now: MediaNs, room_key: RoomKey, speaker: LegKey) {
        let legs = self.rooms.get(room_key).map(|room| room.legs.clone()).unwrap_or_default();
        for listener in legs {
            self.release(now, room_key, listener, |slot| *slot == speaker);
        }
    }

    /// The listener hears nobody any more.
    fn empty_slots(&mut self, now: MediaNs, room: RoomKey, listener: LegKey) {
        self.release(now, room, listener, |_| true);
    }

    fn release(&mut self, now: MediaNs, room: RoomKey, listener: LegKey, which: impl Fn(&LegKey) -> bool) {
        let count = self.legs.get(listener).map_or(0, |leg| leg.ears.slots.len());
        for index in 0..count {
            let slot = self.legs.get_mut(listener).and_then(|leg| leg.ears.slots.get_mut(index));
            let Some(slot) = slot.filter(|slot| slot.speaker.as_ref().is_some_and(&which)) else { continue };
            slot.speaker = None;
            slot.tail = TRAILING_SILENCE;
            self.tell_slot(now, room, listener, index, None);
            self.start_tick(now, room);
        }
    }

    pub(crate) fn remove_leg_of(&mut self, now: MediaNs, room: &RoomId, id: &LegId) {
        if let Ok((_, key)) = self.find_leg(room, id) {
            self.remove_leg(now, key);
        }
    }

    /// The shard's own decision: told to the leg's owner.
    pub(crate) fn end_leg(&mut self, now: MediaNs, key: LegKey, cause: HangupCause, reason: &'static str) {
        let Some(leg) = self.legs.get(key) else { return };
        let (room_key, id) = (leg.room, LegId::clone(&leg.id));
        if let Some(room) = self.rooms.get(room_key).map(|room| room.id.clone()) {
            self.tell_room(now, room_key, News::LegEnded { room, leg: id, cause, reason });
        }
        self.remove_leg(now, key);
    }

    pub(crate) fn remove_leg(&mut self, now: MediaNs, key: LegKey) {
        let Some(room_key) = self.legs.get(key).map(|leg| leg.room) else { return };
        self.vacate(now, room_key, key);
        let Some(leg) = self.legs.remove(key) else { return };
        match &leg.transport {
            Transport::Peer(peer) => {
                self.register.remove_fragment(&peer.ufrag);
                for address in &peer.validated {
                    self.register.remove_peer_address(*address, key);
                }
            }
            Transport::Link(link) => {
                if let Some((address, ssrc)) = link.remote {
                    self.register.remove_link(address, ssrc);
                }
            }
        }
        self.timers.retain(|timer| !is_of_leg(timer, key));
        if let Some(room) = self.rooms.get_mut(room_key) {
            room.legs.retain(|other| *other != key);
            if let Some(tap) = room.tap.as_mut() {
                leg.source.streams.iter().filter_map(|s| s.track).for_each(|track| tap.track_ended(track, now));
            }
        }
    }

    pub(crate) fn close_room(&mut self, now: MediaNs, id: &RoomId) {
        let Ok(key) = self.room_key(id) else { return };
        self.close_tap(now, key, TapCloseReason::Requested, None);
        for leg in self.rooms.get(key).map(|room| room.legs.clone()).unwrap_or_default() {
            self.remove_leg(now, leg);
        }
        self.rooms.remove(key);
        self.register.rooms.remove(id);
        self.timers.retain(|timer| !matches!(timer, Timer::Tick(room) | Timer::Tap(room) if *room == key));
    }

    pub(crate) fn end_all(&mut self, now: MediaNs, cause: HangupCause) {
        let legs: Vec<LegKey> = self.legs.iter().map(|(key, _)| key).collect();
        for leg in legs {
            self.end_leg(now, leg, cause, "the node is shutting down");
        }
        let rooms: Vec<RoomId> = self.register.rooms.keys().cloned().collect();
        for room in rooms {
            self.close_room(now, &room);
        }
    }

    /// A room with a party whom the notice cannot reach is not recorded (DESIGN.md §6).
    pub(crate) fn check_tap(&self, key: RoomKey) -> Result<(), CommandError> {
        let Some(room) = self.rooms.get(key) else { return Ok(()) };
        if room.kind == RoomKind::Echo {
            return Err(CommandError::EchoRoom);
        }
        if let Some(tap) = &room.tap {
            return Err(CommandError::TapOpen(tap.recording.clone()));
        }
        let deaf = room.legs.iter().filter_map(|leg| self.legs.get(*leg)).find(|leg| !leg.hears_announcements());
        deaf.map_or(Ok(()), |leg| Err(CommandError::NoticeUnheard(LegId::clone(&leg.id))))
    }

    pub(crate) fn open_tap(&mut self, now: MediaNs, room: &RoomId, plan: TapPlan) -> Result<Reply, CommandError> {
        let key = self.room_key(room)?;
        self.check_tap(key)?;
        let burst = Duration::from_millis(u64::from(plan.beep.duration_ms()));
        if plan.notice.frame_count() == 0 || plan.beep.frame_count() == 0 || plan.period <= burst {
            return Err(CommandError::TapPlan);
        }
        let Some(room) = self.rooms.get_mut(key) else { return Ok(Reply::Done) };
        for leg in &room.legs {
            let Some(leg) = self.legs.get_mut(*leg) else { continue };
            leg.source.streams.iter_mut().for_each(|stream| stream.track = None);
            leg.ears.announcer.iter_mut().for_each(|line| line.unheard_bursts = 0);
        }
        room.tap = Some(Tap::new(plan, now));
        room.tap_due = Some(now);
        self.timers.set(now, Timer::Tap(key));
        Ok(Reply::Done)
    }

    pub(crate) fn close_tap_of(&mut self, now: MediaNs, room: &RoomId, recording: &RecordingId) {
        let Ok(key) = self.room_key(room) else { return };
        let open = self.rooms.get(key).and_then(|room| room.tap.as_ref());
        if open.is_some_and(|tap| tap.recording == *recording) {
            self.close_tap(now, key, TapCloseReason::Requested, None);
        }
    }

    /// Tap and beeps end together; the owner hears of what it did not ask for. `unheard_by`: to whom nothing could be
    /// played.
    pub(crate) fn close_tap(&mut self, now: MediaNs, key: RoomKey, reason: TapCloseReason, unheard_by: Option<LegKey>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let Some(tap) = room.tap.take() else { return };
        room.tap_due = None;
        room.announcements.clear();
        for leg in &room.legs {
            if let Some(line) = self.legs.get_mut(*leg).and_then(|leg| leg.ears.announcer.as_mut())
                && line.end_bursts()
                && line.hold.is_none()
            {
                line.tail = TRAILING_SILENCE;
            }
        }
        self.start_tick(now, key);
        if reason != TapCloseReason::Requested {
            let leg = unheard_by.and_then(|leg| self.legs.get(leg)).map(|leg| LegId::clone(&leg.id));
            self.tell_room(now, key, News::TapClosed { recording: tap.recording.clone(), reason, leg });
        }
        tap.close(reason, now);
    }

    pub(crate) fn look_at_tap(&mut self, now: MediaNs, key: RoomKey, due: MediaNs) {
        let wall = self.clock.wall(now);
        let Some(room) = self.rooms.get_mut(key).filter(|room| room.tap_due == Some(due)) else { return };
        let Some(tap) = room.tap.as_mut() else { return };
        let what = tap.look(now, wall);
        let next = tap.next_look(now);
        room.tap_due = Some(next);
        self.timers.set(next, Timer::Tap(key));
        match what {
            Due::Nothing => {}
            Due::Play(announcement) => self.play(now, key, announcement),
            Due::Close(reason) => self.close_tap(now, key, reason, None),
        }
    }

    pub(crate) fn check_consent(&mut self, now: MediaNs, key: LegKey) {
        let Some(Transport::Peer(peer)) = self.legs.get(key).map(|leg| &leg.transport) else { return };
        let until = peer.last_check.after(CONSENT);
        if now < until {
            self.timers.set(until, Timer::Consent(key));
        } else {
            self.end_leg(now, key, HangupCause::MediaLost, "no authenticated check for 30 s");
        }
    }

    pub(crate) fn inventory(&self) -> Vec<RoomRow> {
        let row = |room: &Room| RoomRow {
            room: room.id.clone(),
            tenant: room.context.tenant.clone(),
            call: room.context.call.clone(),
            epoch: room.context.epoch,
            kind: room.kind,
            opened_ms: room.opened_ms,
            legs: room.legs.iter().filter_map(|key| self.legs.get(*key)).map(leg_row).collect(),
            taps: room.tap.iter().map(|tap| tap.recording.clone()).collect(),
        };
        self.rooms.iter().map(|(_, room)| row(room)).collect()
    }
}

fn leg_row(leg: &Leg) -> RoomLegRow {
    RoomLegRow {
        leg: LegId::clone(&leg.id),
        transport: match leg.transport {
            Transport::Peer(_) => LegTransport::Peer,
            Transport::Link(_) => LegTransport::Link,
        },
        connected: leg.is_connected(),
        muted: leg.muted,
        held: leg.held,
    }
}

fn is_of_leg(timer: &Timer, key: LegKey) -> bool {
    matches!(timer, Timer::Consent(leg) | Timer::Dtls(leg) | Timer::Reports(leg) | Timer::Receipts(leg) if *leg == key)
}
