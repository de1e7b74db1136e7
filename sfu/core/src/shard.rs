//! One media thread's state and its five entrances: input, command, timeout, and the two polls.
use crate::command::{Command, CommandError, News, Output, Reply, RoomContext};
use crate::counters::{Counters, Gauges};
use crate::egress::{Egress, Transmit};
use crate::leg::{Leg, LegKey, Transport};
use crate::register::Register;
use crate::room::{Room, RoomKey};
use crate::time::MediaNs;
use offhook_contract::UnixMs;
use offhook_media::EncodedPrompt;
use offhook_shard::{Rate, Slab, SourceBuckets, Timers};
use offhook_wire_rtp::rtcp::ReportBlock;
use offhook_wire_rtp::{DatagramKind, NtpTime};
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Refusals of checks that we could not authenticate, per source address: enough for a browser that mistyped
/// nothing, too few to be worth reflecting off us.
pub(crate) const UNAUTHENTICATED_REPLIES: Rate = Rate { per_second: 5, burst: 5 };
const STUN_SOURCES: usize = 4096;
const OUTPUTS_MAX: usize = 16_384;

/// What a shard is made with.
#[derive(Clone)]
pub struct ShardOptions {
    /// Loops on a held leg's Announcer line.
    pub hold: Arc<EncodedPrompt>,
    /// Calls for help may use [`crate::EMERGENCY_LEGS`] more.
    pub legs_max: usize,
    pub legs_per_room_max: usize,
    /// Bytes of sent datagrams kept for repetition.
    pub egress_bytes: usize,
    /// Random; spreads sources over the table of refusals.
    pub secret: u64,
}

impl ShardOptions {
    pub const fn new(hold: Arc<EncodedPrompt>, secret: u64) -> Self {
        Self { hold, legs_max: 4_096, legs_per_room_max: 1_024, egress_bytes: 4 << 20, secret }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// Has the browser consented lately?
    Consent(LegKey),
    Dtls(LegKey),
    /// RTCP of ours, and statistics.
    Reports(LegKey),
    Receipts(LegKey),
    Tick(RoomKey),
    Tap(RoomKey),
}

/// A moment of both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WallClock {
    at: MediaNs,
    wall: UnixMs,
}

impl WallClock {
    pub(crate) fn wall(&self, moment: MediaNs) -> UnixMs {
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(0);
        if moment >= self.at {
            self.wall.plus_ms(ms(moment.since(self.at)))
        } else {
            UnixMs(self.wall.0.saturating_sub(ms(self.at.since(moment))))
        }
    }

    pub(crate) fn ntp(&self, now: MediaNs) -> NtpTime {
        NtpTime::from_unix_ns(self.wall.0 * 1_000_000 + now.0.saturating_sub(self.at.0))
    }
}

pub struct Shard {
    pub(crate) options: ShardOptions,
    pub(crate) clock: WallClock,
    pub(crate) rooms: Slab<Room>,
    pub(crate) legs: Slab<Leg>,
    pub(crate) register: Register,
    pub(crate) timers: Timers<Timer>,
    pub(crate) egress: Egress,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) counters: Counters,
    pub(crate) stun_refusals: SourceBuckets,
    pub(crate) report_blocks: Vec<ReportBlock>,
    /// The timer that is being carried out: who ends if it panics.
    pub(crate) at_work: Option<Timer>,
    serial: u64,
}

impl Shard {
    pub fn new(options: ShardOptions) -> Self {
        Self {
            clock: WallClock::default(),
            rooms: Slab::default(),
            legs: Slab::default(),
            register: Register::default(),
            timers: Timers::with_capacity(1_024),
            egress: Egress::new(options.egress_bytes),
            outputs: VecDeque::with_capacity(OUTPUTS_MAX),
            counters: Counters::default(),
            stun_refusals: SourceBuckets::new(STUN_SOURCES, options.secret),
            report_blocks: Vec::with_capacity(16),
            at_work: None,
            serial: 0,
            options,
        }
    }

    /// Takes one datagram; it is decrypted in place. `local` is our address on a socket bound to the wildcard.
    pub fn handle_input(&mut self, now: MediaNs, from: SocketAddr, local: Option<IpAddr>, datagram: &mut [u8]) {
        self.counters.received_datagrams += 1;
        match DatagramKind::of(datagram) {
            DatagramKind::Rtp => self.handle_rtp(now, from, datagram),
            DatagramKind::Rtcp => self.handle_rtcp(now, from, datagram),
            DatagramKind::Stun => self.handle_stun(now, from, local, datagram),
            DatagramKind::Dtls => self.handle_dtls(now, from, datagram),
            DatagramKind::TurnChannel | DatagramKind::Unknown => self.counters.dropped_unknown += 1,
        }
    }

    /// A datagram that the socket cut off.
    pub const fn count_truncated(&mut self) {
        self.counters.dropped_unknown += 1;
    }

    pub fn handle_command(&mut self, now: MediaNs, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::OpenRoom { room, kind, context, opened_ms } => self.open_room(room, kind, context, opened_ms),
            Command::AddPeer { room, leg, plan, dtls, emergency } => {
                self.make_space(now, &room, &leg, emergency).map(|space| self.add_peer(now, space, leg, *plan, dtls))
            }
            Command::OpenLink { room, leg, plan, emergency } => {
                self.make_space(now, &room, &leg, emergency).map(|space| self.open_link(now, space, leg, *plan))
            }
            Command::ConnectLink { room, leg, plan } => self.connect_link(now, &room, &leg, &plan),
            Command::RemoveLeg { room, leg } => {
                self.remove_leg_of(now, &room, &leg);
                Ok(Reply::Done)
            }
            Command::CloseRoom { room } => {
                self.close_room(now, &room);
                Ok(Reply::Done)
            }
            Command::MuteLeg { room, leg, muted } => self.mute_leg(now, &room, &leg, muted),
            Command::HoldLeg { room, leg, held } => self.hold_leg(now, &room, &leg, held),
            Command::CheckTap { room } => {
                self.room_key(&room).and_then(|key| self.check_tap(key)).map(|()| Reply::Done)
            }
            Command::OpenTap { room, plan } => self.open_tap(now, &room, *plan),
            Command::CloseTap { room, recording } => {
                self.close_tap_of(now, &room, &recording);
                Ok(Reply::Done)
            }
            Command::Inventory => Ok(Reply::Inventory(self.inventory())),
            Command::SetClock { at, wall } => {
                self.clock = WallClock { at, wall };
                Ok(Reply::Done)
            }
            Command::EndAll { cause } => {
                self.end_all(now, cause);
                Ok(Reply::Done)
            }
        }
    }

    /// Does what is due. Call again while [`Self::poll_timeout`] is not later than `now`.
    pub fn handle_timeout(&mut self, now: MediaNs) {
        // What comes due while we work waits for the next call, so that input is never starved.
        let mut left = self.timers.len();
        while left > 0
            && let Some((due, timer)) = self.timers.pop_due(now)
        {
            left -= 1;
            self.at_work = Some(timer);
            match timer {
                Timer::Consent(leg) => self.check_consent(now, leg),
                Timer::Dtls(leg) => self.dtls_timeout(now, leg),
                Timer::Reports(leg) => self.report(now, leg),
                Timer::Receipts(leg) => self.expire_receipts(now, leg),
                Timer::Tick(room) => self.tick(now, room, due),
                Timer::Tap(room) => self.look_at_tap(now, room, due),
            }
        }
        self.at_work = None;
    }

    /// When [`Self::handle_timeout`] is due. O(1).
    pub fn poll_timeout(&self) -> Option<MediaNs> {
        self.timers.next_due()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Datagrams to send; call [`Self::clear_transmits`] when they are sent.
    pub fn transmits(&self) -> impl ExactSizeIterator<Item = Transmit<'_>> {
        self.egress.transmits()
    }

    pub fn clear_transmits(&mut self) {
        self.egress.clear();
    }

    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What the daemon noticed outside (a panic it caught).
    pub const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    pub fn gauges(&self) -> Gauges {
        let peers = self.legs.iter().filter(|(_, leg)| matches!(leg.transport, Transport::Peer(_))).count();
        Gauges {
            rooms: self.rooms.len(),
            peers,
            links: self.legs.len() - peers,
            taps: self.rooms.iter().filter(|(_, room)| room.tap.is_some()).count(),
            timers: self.timers.len(),
            addresses: self.register.addresses(),
        }
    }

    /// Legs carried now.
    pub const fn load(&self) -> usize {
        self.legs.len()
    }

    pub(crate) const fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn room_key(&self, room: &offhook_contract::RoomId) -> Result<RoomKey, CommandError> {
        self.register.rooms.get(room).copied().ok_or_else(|| CommandError::NoRoom(room.clone()))
    }

    pub(crate) fn tell(&mut self, now: MediaNs, context: Arc<RoomContext>, news: News) {
        // Statistics are the one thing that may be lost when nobody listens.
        if self.outputs.len() >= OUTPUTS_MAX && matches!(news, News::LegStats(_)) {
            return;
        }
        self.outputs.push_back(Output { context, at: now, news });
    }

    pub(crate) fn tell_room(&mut self, now: MediaNs, room: RoomKey, news: News) {
        if let Some(context) = self.rooms.get(room).map(|room| Arc::clone(&room.context)) {
            self.tell(now, context, news);
        }
    }
}
