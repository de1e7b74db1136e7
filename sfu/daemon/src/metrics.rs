//! The media threads' figures as metrics.
use crate::engine::Engine;
use crate::stats::Snapshot;
use offhook_runtime::{LogThrottle, Metrics};
use std::cell::Cell;

/// Registers each figure when it is first seen.
pub struct Exported {
    metrics: Metrics,
    refused: Cell<u64>,
    log: LogThrottle,
}

/// What strangers send: told in the log beside being counted.
const FROM_STRANGERS: [&str; 6] = [
    "dropped_unknown",
    "dropped_unknown_source",
    "dropped_unauthenticated",
    "stun_malformed",
    "stun_unauthenticated",
    "dtls_failed",
];

impl Exported {
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, refused: Cell::new(0), log: LogThrottle::default() }
    }

    pub fn update(&self, engine: &Engine, pending_facts: u64) {
        let snapshots: Vec<Snapshot> = engine.threads().iter().map(|thread| thread.stats.read()).collect();
        let mut counters: Vec<(&'static str, u64)> = Vec::new();
        for snapshot in &snapshots {
            let s = &snapshot.sockets;
            let sockets = [
                ("sent_datagrams", s.sent_datagrams),
                ("refused_datagrams", s.refused_datagrams),
                ("send_calls", s.send_calls),
                ("receive_errors", s.receive_errors),
            ];
            for (name, value) in snapshot.counters.each().chain(sockets) {
                match counters.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, sum)) => *sum += value,
                    None => counters.push((name, value)),
                }
            }
        }
        self.tell_of_strangers(&counters);
        counters.push(("taps_refused", engine.taps_refused()));
        for (name, value) in counters {
            let help = "Counted by the media threads since the daemon started.";
            self.metrics.counter(&format!("sfu_{name}_total"), help).set(value);
        }
        let sum = |figure: fn(&Snapshot) -> usize| snapshots.iter().map(figure).sum::<usize>();
        for (name, value) in [
            ("rooms", sum(|s| s.gauges.rooms)),
            ("peers", sum(|s| s.gauges.peers)),
            ("links", sum(|s| s.gauges.links)),
            ("taps", sum(|s| s.gauges.taps)),
            ("timers", sum(|s| s.gauges.timers)),
            ("addresses", sum(|s| s.gauges.addresses)),
            ("sockets", sum(|s| s.open_sockets)),
            ("outbox_facts", usize::try_from(pending_facts).unwrap_or(usize::MAX)),
        ] {
            let gauge = self.metrics.gauge(&format!("sfu_{name}"), "What the SFU holds now.");
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }

    /// One line for all that was refused since the last one, by reason.
    fn tell_of_strangers(&self, counters: &[(&'static str, u64)]) {
        let by_reason = counters.iter().filter(|(name, count)| *count > 0 && FROM_STRANGERS.contains(name));
        let sum = by_reason.clone().map(|(_, count)| count).sum();
        if sum > self.refused.get() && self.log.pass().is_some() {
            let since = sum - self.refused.replace(sum);
            let reasons: Vec<String> = by_reason.map(|(name, count)| format!("{name}={count}")).collect();
            tracing::warn!(since, in_all = %reasons.join(" "), "datagrams at the media port refused");
        }
    }
}
