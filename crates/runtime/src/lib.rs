//! What every daemon needs around its core: configuration, logs, metrics, health, signals, drain and restarts.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
mod daemon;
mod entry;
mod health;
mod identity;
mod lifecycle;
mod logging;
mod metrics;
mod process;
mod shown;
mod supervisor;
pub mod systemd;
mod throttle;

pub use config::{ConfigError, ConfigFile};
pub use daemon::{Daemon, Deps, Program, RunError, StartError};
pub use entry::{AloneError, connect_bus, health_port, main, run_alone};
pub use lifecycle::{Lifecycle, LifecycleSwitch, Reloads};
pub use logging::{LogFormat, start_logging};
pub use metrics::{Counter, Gauge, Metrics};
pub use process::{Process, ProcessError, install_crypto_provider, restrict_new_files};
pub use shown::{shown, shown_ip};
pub use throttle::LogThrottle;
