//! `/healthz` (the process lives), `/readyz` (every daemon can take work), `/metrics`: on loopback, without a password.
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use offhook_contract::DaemonKind;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) struct Health {
    /// With why those do not run that the process can do without.
    pub(crate) daemons: Vec<(DaemonKind, Lifecycle, Option<watch::Receiver<String>>)>,
    pub(crate) bus_connected: watch::Receiver<bool>,
    pub(crate) metrics: Metrics,
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, health: Arc<Health>) {
    let pages = axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    if let Err(error) = axum::serve(listener, pages).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}

/// 503 names everything that is missing, one line each.
async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let missing = health.missing();
    if missing.is_empty() {
        (StatusCode::OK, format!("ready\n{}", health.done_without()))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> impl IntoResponse {
    health.sample();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.render())
}

impl Health {
    fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if !*self.bus_connected.borrow() {
            missing.push("the bus is not connected".to_owned());
        }
        for (kind, lifecycle, trouble) in &self.daemons {
            if lifecycle.is_draining() {
                missing.push(format!("{kind} is draining"));
            } else if !lifecycle.is_ready() && trouble.as_ref().is_none_or(|why| why.borrow().is_empty()) {
                missing.push(format!("{kind} is not ready"));
            }
        }
        missing
    }

    /// A line for each daemon that does not run while the others do.
    fn done_without(&self) -> String {
        let failed = self.daemons.iter().filter(|(_, lifecycle, _)| !lifecycle.is_ready());
        let lines = failed.filter_map(|(kind, _, trouble)| {
            let why = trouble.as_ref()?.borrow();
            Some(format!("without {kind}: {}\n", *why))
        });
        lines.collect()
    }

    /// What is known only when someone asks.
    fn sample(&self) {
        let connected = i64::from(*self.bus_connected.borrow());
        self.metrics.gauge("bus_connected", "1 when the control bus is connected.").set(connected);
        for (kind, lifecycle, _) in &self.daemons {
            let metrics = self.metrics.for_daemon(kind.as_str());
            metrics.gauge("ready", "1 when the daemon takes new work.").set(i64::from(lifecycle.is_ready()));
        }
        if let Some(files) = open_files() {
            self.metrics.gauge("process_open_files", "Open file descriptors of the process.").set(files);
        }
        if let Some(bytes) = resident_bytes() {
            self.metrics.gauge("process_resident_memory_bytes", "Memory of the process.").set(bytes);
        }
    }
}

/// Without the descriptor that reads the directory.
fn open_files() -> Option<i64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    i64::try_from(count).ok().map(|n| n - 1)
}

fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().split(' ').next()?.parse().ok()?;
    Some(kib * 1024)
}
