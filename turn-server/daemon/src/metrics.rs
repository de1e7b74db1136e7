//! Prometheus text under coturn's names.
use crate::exported::{COTURN, by_carrier};
use crate::server::read;
use crate::traffic::Traffic;
use crate::worker::SharedSnapshot;
use crate::worker::Snapshot;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use offhook_turn_core::{Counters, Gauges};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// `/` says that the process lives, `path` what it did.
pub(crate) async fn serve(
    listener: TcpListener,
    path: &str,
    snapshots: Vec<SharedSnapshot>,
    traffic: Arc<Traffic>,
) -> std::io::Result<()> {
    let snapshots = Arc::new(snapshots);
    let page = get(move || {
        let mut text = page(&snapshots);
        traffic.write(&mut text);
        async move { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text) }
    });
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let router = Router::new().route(&path, page);
    let router = if path == "/" { router } else { router.route("/", get(async || "ok")) };
    axum::serve(listener, router).await
}

pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

fn page(snapshots: &[SharedSnapshot]) -> String {
    let taken: Vec<_> = snapshots.iter().map(read).collect();
    let sum = |of: fn(&Counters) -> u64| taken.iter().map(|one| of(&one.counters)).sum::<u64>();
    let gauge = |of: fn(&Gauges) -> usize| taken.iter().map(|one| of(&one.gauges)).sum::<usize>();
    let mut text = String::with_capacity(4_096);
    for (name, help, of) in COTURN {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}", sum(of));
    }
    let _ = writeln!(text, "# TYPE turn_total_allocations gauge");
    for (carrier, value) in by_carrier(gauge(|g| g.allocations)) {
        let _ = writeln!(text, "turn_total_allocations{{type=\"{carrier}\"}} {value}");
    }
    for (name, value) in [("relays", gauge(|g| g.relays)), ("free_ports", free_ports(&taken))] {
        let _ = writeln!(text, "# TYPE offhook_turn_{name} gauge\noffhook_turn_{name} {value}");
    }
    let names: Vec<&str> = Counters::default().each().map(|(name, _)| name).collect();
    for name in names {
        let of_name = |counters: &Counters| counters.each().find(|(n, _)| *n == name).map_or(0, |(_, value)| value);
        let value: u64 = taken.iter().map(|one| of_name(&one.counters)).sum();
        let _ = writeln!(text, "# TYPE offhook_turn_{name}_total counter\noffhook_turn_{name}_total {value}");
    }
    let sockets = [
        ("refused_datagrams", taken.iter().map(|one| one.refused_datagrams).sum::<u64>()),
        ("handed_over_datagrams", taken.iter().map(|one| one.handed_over).sum()),
        ("lost_log_lines", taken.iter().map(|one| one.lost_news).sum()),
    ];
    for (name, value) in sockets {
        let _ = writeln!(text, "# TYPE offhook_turn_{name}_total counter\noffhook_turn_{name}_total {value}");
    }
    text
}

/// The threads draw from one range: what each of them has of it is missing to all.
fn free_ports(taken: &[Snapshot]) -> usize {
    let held = |one: &Snapshot| one.gauges.relays + one.gauges.reservations;
    let range = taken.first().map_or(0, |one| one.gauges.free_ports + held(one));
    range.saturating_sub(taken.iter().map(held).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_sums_the_threads_under_coturns_names() {
        let one = |up_packets, allocations| {
            let mut snapshot = Snapshot::default();
            snapshot.counters.up_packets = up_packets;
            snapshot.gauges.allocations = allocations;
            Arc::new(std::sync::Mutex::new(snapshot))
        };
        let text = page(&[one(3, 1), one(4, 2)]);
        for line in [
            "turn_total_traffic_rcvp 7",
            "turn_total_traffic_peer_sentp 7",
            "turn_total_allocations{type=\"UDP\"} 3",
            "stun_binding_request 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
