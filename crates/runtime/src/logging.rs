//! The log: standard error, text for people or JSON for machines, its level changed by SIGHUP.
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts the log; later calls only change the level.
pub fn start_logging(level: &str, format: LogFormat) {
    if FILTER.get().is_some() {
        set_log_level(level);
        return;
    }
    let (filter, handle) = reload::Layer::new(filter_for(level));
    let registry = tracing_subscriber::registry().with(filter);
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    // An error means that another subscriber is installed already (a test's): that one stays.
    let started = match format {
        LogFormat::Text => registry.with(layer.with_target(true).compact()).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    if started.is_ok() {
        let _ = FILTER.set(handle);
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panic")));
    }
}

/// Changes the level of a running process.
pub(crate) fn set_log_level(level: &str) {
    if let Some(Err(error)) = FILTER.get().map(|handle| handle.reload(filter_for(level))) {
        tracing::warn!(%error, "log level not changed");
    }
}

/// An unreadable level was refused when the configuration was read. The NATS client's own lines repeat what the bus
/// says, so they are shown only when they are asked for by name.
fn filter_for(level: &str) -> EnvFilter {
    let level = if level.contains("async_nats") { level.to_owned() } else { format!("async_nats=error,{level}") };
    EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"))
}

pub(crate) fn is_log_level(level: &str) -> bool {
    EnvFilter::try_new(level).is_ok()
}
