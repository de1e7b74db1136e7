//! What others see of the gateway: figures for `/metrics`, and its row in the table of nodes.

use offhook_bus::{Bus, Presence};
use offhook_contract::node::{NodeState, TrunkState};
use offhook_contract::{BootId, DaemonKind, NodeId, NodeRow, UnixMs};
use offhook_runtime::{Counter, Gauge, LogThrottle, Metrics};
use offhook_sip_core::api::Stats;
use offhook_sip_core::media::DropReason;
use std::cell::Cell;
use tokio::sync::watch;

use crate::media::MediaCounts;

/// What is shown once a second.
#[derive(Debug, Clone)]
pub struct Figures {
    pub media: MediaCounts,
    pub legs: usize,
    pub outbound: usize,
    pub ports: usize,
    pub sip: Stats,
    pub sip_dropped: u64,
    pub sip_transactions: usize,
    pub sip_timers: usize,
    pub facts: u64,
}

pub struct Reporter {
    gauges: Gauges,
    counters: Counters,
    dropped: Vec<Counter>,
    /// Refused packets of which the log has told.
    told: Cell<u64>,
    log: LogThrottle,
    row: watch::Sender<NodeRow>,
    presence: Presence,
}

struct Gauges {
    outbound: Gauge,
    inbound: Gauge,
    ports: Gauge,
    sockets: Gauge,
    timers: Gauge,
    transactions: Gauge,
    sip_timers: Gauge,
    facts: Gauge,
    trunks_up: Gauge,
    trunks_down: Gauge,
}

type ReadStat = fn(&Stats) -> u64;

struct Counters {
    trunk_received: Counter,
    trunk_sent: Counter,
    link_received: Counter,
    link_sent: Counter,
    link_refused: Counter,
    send_refused: Counter,
    news_lost: Counter,
    sip: Vec<(Counter, ReadStat)>,
    sip_dropped: Counter,
}

/// Who announces itself.
pub struct Introduction {
    pub node: NodeId,
    pub boot: BootId,
    pub started: UnixMs,
    pub capacity: usize,
}

impl Reporter {
    pub fn new(metrics: &Metrics, bus: &Bus, who: Introduction) -> Self {
        let row = NodeRow {
            node: who.node,
            kind: DaemonKind::Sip,
            boot: who.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: who.started,
            state: NodeState::Ready,
            load: 0,
            capacity: u32::try_from(who.capacity).unwrap_or(u32::MAX),
            media_addresses: Vec::new(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        };
        let (row, watched) = watch::channel(row);
        Self {
            gauges: Gauges::new(metrics),
            counters: Counters::new(metrics),
            dropped: DropReason::ALL
                .iter()
                .map(|reason| {
                    let help = "RTP and RTCP of carriers that was not used, by reason.";
                    metrics.counter_with("sip_trunk_packets_dropped_total", help, &[("reason", reason.as_str())])
                })
                .collect(),
            told: Cell::new(0),
            log: LogThrottle::default(),
            row,
            presence: bus.announce(watched),
        }
    }

    pub fn show(&self, figures: &Figures) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (g, c, media) = (&self.gauges, &self.counters, &figures.media);
        g.outbound.set(count(figures.outbound));
        g.inbound.set(count(figures.legs.saturating_sub(figures.outbound)));
        g.ports.set(count(figures.ports));
        g.sockets.set(gauge(media.sockets));
        g.timers.set(gauge(media.timers));
        g.transactions.set(count(figures.sip_transactions));
        g.sip_timers.set(count(figures.sip_timers));
        g.facts.set(gauge(figures.facts));
        c.trunk_received.set(media.trunk_received);
        c.trunk_sent.set(media.trunk_sent);
        c.link_received.set(media.link_received);
        c.link_sent.set(media.link_sent);
        c.link_refused.set(media.link_refused);
        c.send_refused.set(media.send_refused);
        c.news_lost.set(media.news_lost);
        c.sip_dropped.set(figures.sip_dropped);
        self.dropped.iter().zip(media.trunk_dropped).for_each(|(counter, n)| counter.set(n));
        self.tell_of_strangers(&media.trunk_dropped, media.link_refused);
        c.sip.iter().for_each(|(counter, read)| counter.set(read(&figures.sip)));
    }

    /// One line for all packets that calls' ports refused since the last one, by reason.
    fn tell_of_strangers(&self, trunk: &[u64], link: u64) {
        let sum = trunk.iter().sum::<u64>() + link;
        if sum > self.told.get() && self.log.pass().is_some() {
            let since = sum - self.told.replace(sum);
            let by_reason = DropReason::ALL.iter().map(|reason| reason.as_str()).zip(trunk.iter().copied());
            let by_reason = by_reason.chain([("link", link)]).filter(|(_, count)| *count > 0);
            let reasons: Vec<String> = by_reason.map(|(name, count)| format!("{name}={count}")).collect();
            tracing::warn!(since, in_all = %reasons.join(" "), "packets at the ports of calls refused");
        }
    }

    /// Brings the row up to date; tells the bus only what changed.
    pub fn present(&self, legs: usize, trunks: Vec<TrunkState>, draining: bool) {
        let up = trunks.iter().filter(|t| t.up).count();
        self.gauges.trunks_up.set(i64::try_from(up).unwrap_or(i64::MAX));
        self.gauges.trunks_down.set(i64::try_from(trunks.len() - up).unwrap_or(i64::MAX));
        let state = if draining { NodeState::Draining } else { NodeState::Ready };
        let load = u32::try_from(legs).unwrap_or(u32::MAX);
        self.row.send_if_modified(|row| {
            let changed = row.load != load || row.state != state || row.trunks != trunks;
            (row.load, row.state) = (load, state);
            row.trunks = trunks;
            changed
        });
    }

    /// Takes the row away.
    pub async fn withdraw(self) {
        self.presence.withdraw().await;
    }
}

impl Gauges {
    fn new(metrics: &Metrics) -> Self {
        let legs = |direction| metrics.gauge_with("sip_legs", "Telephone legs.", &[("direction", direction)]);
        let trunks = |state| metrics.gauge_with("sip_trunks", "Trunks, by what is known of them.", &[("state", state)]);
        Self {
            outbound: legs("outbound"),
            inbound: legs("inbound"),
            ports: metrics.gauge("sip_rtp_port_pairs", "Pairs of RTP and RTCP ports in use."),
            sockets: metrics.gauge("sip_media_sockets", "Open RTP, RTCP and Link sockets."),
            timers: metrics.gauge("sip_media_timers", "Deadlines that the media threads wait for."),
            transactions: metrics
                .gauge("sip_transactions", "SIP transactions, those that only absorb repetitions included."),
            sip_timers: metrics.gauge("sip_timers", "Deadlines of SIP transactions, legs and trunks."),
            facts: metrics.gauge("sip_facts_pending", "Facts that call-control has not stored yet."),
            trunks_up: trunks("up"),
            trunks_down: trunks("down"),
        }
    }
}

impl Counters {
    fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.counter(name, help);
        let dropped = "SIP datagrams and messages that were turned away, by reason.";
        let refused =
            |reason, read: ReadStat| (metrics.counter_with("sip_dropped_total", dropped, &[("reason", reason)]), read);
        let messages = "SIP datagrams and messages, by what became of them.";
        let seen =
            |kind, read: ReadStat| (metrics.counter_with("sip_messages_total", messages, &[("kind", kind)]), read);
        Self {
            trunk_received: counter("sip_trunk_packets_received_total", "RTP and RTCP received from carriers."),
            trunk_sent: counter("sip_trunk_packets_sent_total", "RTP sent to carriers."),
            link_received: counter("sip_link_packets_received_total", "Packets received on Links."),
            link_sent: counter("sip_link_packets_sent_total", "Packets sent on Links."),
            link_refused: counter(
                "link_packets_refused_total",
                "Packets on Links that were not authentic or of no use.",
            ),
            send_refused: counter("sip_packets_not_sent_total", "Packets that the system did not take."),
            news_lost: counter(
                "sip_media_news_lost_total",
                "News of media threads that signalling was too slow to hear.",
            ),
            sip: vec![
                seen("received", |s| s.datagrams_in),
                seen("sent", |s| s.datagrams_out),
                seen("repeated_to_us", |s| s.retransmissions_in),
                seen("repeated_by_us", |s| s.retransmissions_out),
                refused("unknown_source", |s| s.unknown_source),
                refused("malformed", |s| s.malformed),
                refused("foreign_dialog", |s| s.foreign_dialog),
                refused("no_dialog", |s| s.no_dialog),
                refused("stray_response", |s| s.stray_responses),
                refused("refused", |s| s.refused_requests),
                refused("overload", |s| s.overload),
            ],
            sip_dropped: metrics.counter_with("sip_dropped_total", dropped, &[("reason", "slow")]),
        }
    }
}
