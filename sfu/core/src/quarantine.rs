//! After a panic: what was at work ends, and nothing else does.
use crate::announcer::FRAME;
use crate::room::RoomKey;
use crate::shard::{Shard, Timer};
use crate::time::MediaNs;
use offhook_contract::HangupCause;
use offhook_contract::fact::TapCloseReason;
use std::net::SocketAddr;

impl Shard {
    /// A datagram from this address made the shard panic: its leg is not to be trusted any more.
    pub fn quarantine(&mut self, now: MediaNs, from: SocketAddr, datagram: &[u8]) {
        self.counters.panics += 1;
        if let Some(key) = self.register.by_address(from, || crate::forward::rtp_ssrc(datagram)) {
            self.end_leg(now, key, HangupCause::InternalError, "a datagram of this leg broke an invariant");
        }
    }

    /// The timer that was at work made the shard panic, and will not come again: what it watched over ends, so that no
    /// Tap outlives its beeps and no leg its checks.
    pub fn quarantine_timer(&mut self, now: MediaNs) {
        self.counters.panics += 1;
        match self.at_work.take() {
            Some(Timer::Tick(room) | Timer::Tap(room)) => {
                // Before the Tap, whose end may panic as well.
                self.tick_anew(now, room);
                self.close_tap(now, room, TapCloseReason::AnnouncerFailed, None);
            }
            Some(Timer::Consent(leg) | Timer::Dtls(leg) | Timer::Reports(leg) | Timer::Receipts(leg)) => {
                self.end_leg(now, leg, HangupCause::InternalError, "a timer of this leg broke an invariant");
            }
            None => {}
        }
    }

    /// No announcement goes on, and the room's tick does, with or without a Tap: hold prompts and the silence that ends
    /// slots depend on it. A frame later, so that a tick which panics every time does so at most once a frame.
    fn tick_anew(&mut self, now: MediaNs, key: RoomKey) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.announcements.clear();
            room.tick_due = None;
        }
        self.start_tick(now.after(FRAME), key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, ConnectPlan, LinePlan, LinkPlan, Reply, RoomContext};
    use crate::shard::ShardOptions;
    use offhook_contract::sfu::RoomKind;
    use offhook_contract::{CallId, CodecName, LegId, RoomId, TenantId, UnixMs};
    use offhook_media::encode_beep;
    use offhook_media::tone::BeepSpec;
    use offhook_wire_srtp::{Profile, SrtpKey};
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: MediaNs = MediaNs(1_000_000_000);

    /// One telephone on hold.
    fn holding() -> Shard {
        let hold = Arc::new(encode_beep(&BeepSpec::default()).unwrap());
        let mut shard = Shard::new(ShardOptions::new(hold, 1));
        let (room, leg) = (RoomId::parse("call-1").unwrap(), LegId::parse("phone").unwrap());
        let context = RoomContext {
            tenant: TenantId::parse("acme").unwrap(),
            call: CallId::parse("call-1").unwrap(),
            epoch: None,
        };
        let line = |ssrc| LinePlan { ssrc, first_sequence: 1, first_timestamp: 1 };
        let key = || SrtpKey::new(Profile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap();
        let codecs = vec![CodecName::Pcma];
        let slots = vec![line(1)];
        let open =
            LinkPlan { key: key(), slots, announcer: line(2), report_ssrc: 3, source_id: 4, codecs: codecs.clone() };
        let connect = ConnectPlan { remote: "192.0.2.1:5000".parse().unwrap(), key: key(), ssrc: 5, codecs };
        let kind = RoomKind::Conversation;
        for command in [
            Command::OpenRoom { room: room.clone(), kind, context, opened_ms: UnixMs(0) },
            Command::OpenLink { room: room.clone(), leg: leg.clone(), plan: Box::new(open), emergency: false },
            Command::ConnectLink { room: room.clone(), leg: leg.clone(), plan: Box::new(connect) },
            Command::HoldLeg { room, leg, held: true },
        ] {
            assert_eq!(shard.handle_command(NOW, command), Ok(Reply::Done));
        }
        shard
    }

    /// Frames of ours in the second from `from` on.
    fn played(shard: &mut Shard, from: MediaNs) -> u64 {
        let before = shard.counters().announcer_packets;
        while let Some(due) = shard.poll_timeout().filter(|due| *due < from.after(Duration::from_secs(1))) {
            shard.handle_timeout(due.max(from));
            shard.clear_transmits();
        }
        shard.counters().announcer_packets - before
    }

    #[test]
    fn a_hold_prompt_goes_on_after_a_tick_that_panicked_in_a_room_without_a_tap() {
        for at_work in [Timer::Tick as fn(RoomKey) -> Timer, Timer::Tap] {
            let mut shard = holding();
            assert_eq!(played(&mut shard, NOW), 50);
            let later = NOW.after(Duration::from_secs(1));
            let key = shard.rooms.iter().map(|(key, _)| key).next().unwrap();
            // As the tick leaves it when it panics: it has begun, and its successor is not there.
            shard.rooms.get_mut(key).unwrap().tick_due = None;
            shard.at_work = Some(at_work(key));
            shard.quarantine_timer(later);
            assert_eq!((shard.counters().panics, played(&mut shard, later)), (1, 49));
        }
    }
}
