//! A media thread: waits for sockets, orders and deadlines; carries out what they ask.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use offhook_net::{Poller, Ready, ReceiveBatch, SendBatch};
use offhook_sip_core::media::{LegMedia, LegReport, LinkStreams, MediaEvent, RemoteMedia};
use tokio::sync::mpsc::Sender;

use super::counters::MediaCounters;
use super::link_port::{LinkPort, TRAILER};
use super::ports::PortPair;
use super::slot::{BATCH, Bench, DATAGRAM, LegSlot, Side};

/// How often each leg's statistics are told.
const REPORT_PERIOD: Duration = Duration::from_secs(5);

/// Names a leg between signalling and media; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegKey(pub u64);

/// What signalling wants of a media thread.
#[derive(Debug)]
pub enum MediaOrder {
    Add {
        leg: LegKey,
        media: Box<LegMedia>,
        ports: Box<PortPair>,
    },
    Remote {
        leg: LegKey,
        media: RemoteMedia,
    },
    Link {
        leg: LegKey,
        port: Box<LinkPort>,
        streams: LinkStreams,
    },
    Answered {
        leg: LegKey,
    },
    Hold {
        leg: LegKey,
        held: bool,
    },
    /// Checked before: only keys, not too many.
    Digits {
        leg: LegKey,
        digits: String,
        duration_ms: u16,
    },
    Close {
        leg: LegKey,
    },
    Stop,
}

/// What a media thread tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MediaNews {
    pub leg: LegKey,
    pub news: News,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum News {
    Event(MediaEvent),
    Report(LegReport),
    /// The sockets are closed; the RTP port is free again.
    Closed {
        rtp_port: u16,
    },
}

pub(super) struct MediaThread {
    poller: Poller,
    orders: Receiver<MediaOrder>,
    news: Sender<MediaNews>,
    counters: Arc<MediaCounters>,
    epoch: Instant,
    legs: Vec<Option<LegSlot>>,
    index: HashMap<LegKey, usize>,
    timers: BinaryHeap<Reverse<(Duration, usize)>>,
    next_report: Duration,
}

impl MediaThread {
    pub(super) fn new(
        poller: Poller,
        orders: Receiver<MediaOrder>,
        news: Sender<MediaNews>,
        counters: Arc<MediaCounters>,
        epoch: Instant,
    ) -> Self {
        Self {
            poller,
            orders,
            news,
            counters,
            epoch,
            legs: Vec::new(),
            index: HashMap::new(),
            timers: BinaryHeap::with_capacity(1_024),
            next_report: REPORT_PERIOD,
        }
    }

    /// Runs until told to stop, or until nobody is left who could.
    pub(super) fn run(mut self) {
        let mut ready = Ready::default();
        let mut receive = ReceiveBatch::new(BATCH, DATAGRAM);
        let mut send = SendBatch::new(BATCH);
        let mut buffer = [0u8; DATAGRAM + TRAILER];
        loop {
            let timeout = self.next_deadline().saturating_sub(self.epoch.elapsed());
            if let Err(error) = self.poller.wait(Some(timeout), &mut ready)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a media thread cannot wait for its sockets any more and ends");
                return;
            }
            let counters = Arc::clone(&self.counters);
            let now = self.epoch.elapsed();
            let mut bench =
                Bench { now, receive: &mut receive, send: &mut send, buffer: &mut buffer, counters: &counters };
            if ready.woken() && !self.take_orders(&mut bench) {
                return;
            }
            for token in ready.tokens() {
                self.read(*token, &mut bench);
            }
            self.fire(&mut bench);
            if now >= self.next_report {
                self.next_report = now + REPORT_PERIOD;
                self.report();
            }
        }
    }

    fn next_deadline(&self) -> Duration {
        self.timers.peek().map_or(self.next_report, |Reverse((at, _))| self.next_report.min(*at))
    }

    fn read(&mut self, token: u64, bench: &mut Bench<'_>) {
        let Some((place, side)) = from_token(token) else { return };
        let Some(slot) = self.legs.get_mut(place).and_then(Option::as_mut) else { return };
        slot.read(side, bench);
        self.tell_events(place);
    }

    /// Every leg whose moment has come.
    fn fire(&mut self, bench: &mut Bench<'_>) {
        while let Some(Reverse((at, place))) = self.timers.peek().copied()
            && at <= bench.now
        {
            self.timers.pop();
            let Some(slot) = self.legs.get_mut(place).and_then(Option::as_mut) else { continue };
            if slot.scheduled == Some(at) {
                slot.scheduled = None;
                self.advance(place, bench);
            }
        }
        self.counters.timers.store(self.timers.len() as u64, Relaxed);
    }

    fn advance(&mut self, place: usize, bench: &mut Bench<'_>) {
        let Some(slot) = self.legs.get_mut(place).and_then(Option::as_mut) else { return };
        slot.advance(bench);
        let due = slot.media.poll_timeout();
        if let Some(at) = due
            && slot.scheduled.is_none_or(|known| at < known)
        {
            slot.scheduled = Some(at);
            self.timers.push(Reverse((at, place)));
        }
        self.tell_events(place);
    }

    fn tell_events(&mut self, place: usize) {
        let Some(slot) = self.legs.get_mut(place).and_then(Option::as_mut) else { return };
        while let Some(event) = slot.media.poll_event() {
            tell(&self.news, &self.counters, MediaNews { leg: slot.key, news: News::Event(event) });
        }
    }

    fn report(&mut self) {
        for slot in self.legs.iter().flatten() {
            tell(&self.news, &self.counters, MediaNews { leg: slot.key, news: News::Report(slot.media.report()) });
        }
    }

    /// False when the thread is to end.
    fn take_orders(&mut self, bench: &mut Bench<'_>) -> bool {
        loop {
            let order = match self.orders.try_recv() {
                Ok(MediaOrder::Stop) | Err(TryRecvError::Disconnected) => {
                    (0..self.legs.len()).for_each(|place| self.close(place, bench));
                    return false;
                }
                Ok(order) => order,
                Err(TryRecvError::Empty) => return true,
            };
            self.carry_out(order, bench);
        }
    }

    fn carry_out(&mut self, order: MediaOrder, bench: &mut Bench<'_>) {
        let now = bench.now;
        let leg = match order {
            MediaOrder::Add { leg, media, ports } => {
                self.add(leg, media, *ports);
                leg
            }
            MediaOrder::Link { leg, port, streams } => {
                self.connect(leg, port, streams);
                leg
            }
            MediaOrder::Remote { leg, media } => self.with(leg, |m| m.set_remote(now, media)),
            MediaOrder::Answered { leg } => self.with(leg, |m| m.answered(now)),
            MediaOrder::Hold { leg, held } => self.with(leg, |m| m.set_held(held)),
            MediaOrder::Digits { leg, digits, duration_ms } => self.with(leg, |m| {
                if let Err(error) = m.send_digits(&digits, duration_ms) {
                    tracing::warn!(%error, "digits not sent");
                }
            }),
            MediaOrder::Close { leg } => {
                if let Some(place) = self.index.get(&leg).copied() {
                    self.close(place, bench);
                }
                leg
            }
            MediaOrder::Stop => return,
        };
        if let Some(place) = self.index.get(&leg).copied() {
            self.advance(place, bench);
        }
    }

    fn with(&mut self, leg: LegKey, act: impl FnOnce(&mut LegMedia)) -> LegKey {
        let place = self.index.get(&leg).copied();
        if let Some(slot) = place.and_then(|p| self.legs.get_mut(p)).and_then(Option::as_mut) {
            act(&mut slot.media);
        }
        leg
    }

    fn add(&mut self, key: LegKey, media: Box<LegMedia>, ports: PortPair) {
        let place = self.legs.iter().position(Option::is_none).unwrap_or(self.legs.len());
        let watched = self
            .poller
            .add(&ports.rtp, token(place, Side::Rtp))
            .and_then(|()| self.poller.add(&ports.rtcp, token(place, Side::Rtcp)));
        if let Err(error) = watched {
            tracing::error!(%error, "a leg's sockets cannot be watched; it stays silent");
        }
        let slot = LegSlot { key, media, ports, link: None, scheduled: None };
        self.counters.sockets.fetch_add(slot.socket_count(), Relaxed);
        self.counters.legs.fetch_add(1, Relaxed);
        match self.legs.get_mut(place) {
            Some(free) => *free = Some(slot),
            None => self.legs.push(Some(slot)),
        }
        self.index.insert(key, place);
    }

    fn connect(&mut self, leg: LegKey, port: Box<LinkPort>, streams: LinkStreams) {
        let Some(place) = self.index.get(&leg).copied() else { return };
        let Some(slot) = self.legs.get_mut(place).and_then(Option::as_mut) else { return };
        if let Err(error) = self.poller.add(&port.socket, token(place, Side::Link)) {
            tracing::error!(%error, "a Link's socket cannot be watched; the room stays silent for this leg");
        }
        slot.media.set_link(streams);
        // A second Link (the room moved) takes the place of the first, whose socket closes here.
        if let Some(old) = slot.link.replace(port) {
            let _ = self.poller.remove(&old.socket);
        } else {
            self.counters.sockets.fetch_add(1, Relaxed);
        }
    }

    fn close(&mut self, place: usize, bench: &mut Bench<'_>) {
        let Some(mut slot) = self.legs.get_mut(place).and_then(Option::take) else { return };
        slot.media.close();
        slot.advance(bench);
        // Removal cannot fail for a socket that is open and was added.
        let _ = self.poller.remove(&slot.ports.rtp);
        let _ = self.poller.remove(&slot.ports.rtcp);
        if let Some(link) = &slot.link {
            let _ = self.poller.remove(&link.socket);
        }
        self.index.remove(&slot.key);
        self.timers.retain(|Reverse((_, p))| *p != place);
        self.counters.timers.store(self.timers.len() as u64, Relaxed);
        self.counters.legs.fetch_sub(1, Relaxed);
        self.counters.sockets.fetch_sub(slot.socket_count(), Relaxed);
        let (leg, rtp_port) = (slot.key, slot.ports.rtp.local_address().port());
        let last = News::Report(slot.media.report());
        drop(slot);
        tell(&self.news, &self.counters, MediaNews { leg, news: last });
        tell(&self.news, &self.counters, MediaNews { leg, news: News::Closed { rtp_port } });
    }
}

/// A full channel means that signalling hangs; news is then lost and counted, packets flow on.
fn tell(news: &Sender<MediaNews>, counters: &MediaCounters, what: MediaNews) {
    if news.try_send(what).is_err() {
        counters.add(|c| &c.news_lost);
    }
}

const fn token(place: usize, side: Side) -> u64 {
    (place as u64) << 2 | side as u64
}

const fn from_token(token: u64) -> Option<(usize, Side)> {
    let side = match token & 3 {
        0 => Side::Rtp,
        1 => Side::Rtcp,
        2 => Side::Link,
        _ => return None,
    };
    Some(((token >> 2) as usize, side))
}
