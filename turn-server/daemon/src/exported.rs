//! The threads' figures among the process's metrics: coturn's names for dashboards that exist, ours beside them.
use crate::server::{Server, read};
use crate::stream;
use crate::worker::Snapshot;
use offhook_runtime::Metrics;
use offhook_turn_core::{Counters, Gauges};

type Of = fn(&Counters) -> u64;
type GaugeOf = fn(&Gauges) -> usize;

/// As `turnserver --prometheus` calls them; live, where coturn's totals come at a session's end.
pub(crate) const COTURN: [(&str, &str, Of); 14] = [
    ("stun_binding_request", "Binding requests.", |c| c.binding_requests),
    ("stun_binding_response", "Binding requests that were answered.", |c| c.binding_responses),
    ("stun_binding_error", "Binding requests that were refused.", |c| c.binding_errors),
    ("turn_total_traffic_rcvp", "Packets from clients.", |c| c.up_packets),
    ("turn_total_traffic_rcvb", "Bytes from clients.", |c| c.up_bytes),
    ("turn_total_traffic_sentp", "Packets to clients.", |c| c.down_packets),
    ("turn_total_traffic_sentb", "Bytes to clients.", |c| c.down_bytes),
    ("turn_total_traffic_peer_sentp", "Packets to peers.", |c| c.up_packets),
    ("turn_total_traffic_peer_sentb", "Bytes to peers.", |c| c.up_bytes),
    ("turn_total_traffic_peer_rcvp", "Packets from peers.", |c| c.down_packets),
    ("turn_total_traffic_peer_rcvb", "Bytes from peers.", |c| c.down_bytes),
    ("turn_unauthenticated_401_requests", "By UDP, to be answered 401.", |c| c.udp_401_requests),
    ("turn_unauthenticated_401_responses", "401, sent by UDP.", |c| c.udp_401_responses),
    ("turn_unauthenticated_401_dropped_responses", "401 by UDP, held back by the limit.", |c| c.udp_401_dropped),
];

const GAUGES: [(&str, &str, GaugeOf); 2] = [
    ("turn_relays", "Relay sockets.", |g| g.relays),
    ("turn_reservations", "Relay ports kept for somebody.", |g| g.reservations),
];

/// `turn_total_allocations` by what carries the client, as coturn's `type` has it: neither DTLS nor SCTP is spoken.
pub(crate) fn by_carrier(altogether: usize) -> [(&'static str, usize); 3] {
    let [tcp, tls] = stream::allocations();
    [("UDP", altogether.saturating_sub(tcp.1 + tls.1)), tcp, tls]
}

pub(crate) struct Exported {
    metrics: Metrics,
    coturns: Metrics,
}

impl Exported {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { coturns: metrics.verbatim(), metrics }
    }

    pub(crate) fn update(&self, server: &Server) {
        let taken: Vec<Snapshot> = server.snapshots().iter().map(read).collect();
        let sum = |of: &dyn Fn(&Snapshot) -> u64| taken.iter().map(of).sum::<u64>();
        for (name, help, of) in COTURN {
            self.coturns.counter(name, help).set(sum(&|one| of(&one.counters)));
        }
        let allocations = i64::from(server.allocations());
        for (carrier, value) in by_carrier(usize::try_from(allocations).unwrap_or_default()) {
            let gauge =
                self.coturns.gauge_with("turn_total_allocations", "Allocations that run.", &[("type", carrier)]);
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.metrics.gauge("turn_allocations", "Allocations that run.").set(allocations);
        for (name, help, of) in GAUGES {
            let value = taken.iter().map(|one| of(&one.gauges)).sum::<usize>();
            self.metrics.gauge(name, help).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        for (at, (name, _)) in Counters::default().each().enumerate() {
            let value = sum(&|one| one.counters.each().nth(at).map_or(0, |(_, value)| value));
            self.metrics.counter(&format!("turn_{name}_total"), "Of the TURN server.").set(value);
        }
        let refused = self.metrics.counter("turn_refused_datagrams_total", "The system had no room or no route.");
        refused.set(sum(&|one| one.refused_datagrams));
        let handed = self.metrics.counter("turn_handed_over_total", "Between TURN and an SFU without a socket.");
        handed.set(sum(&|one| one.handed_over));
        let lost = self.metrics.counter("turn_lost_log_lines_total", "The log had no room for them.");
        lost.set(sum(&|one| one.lost_news));
    }
}
