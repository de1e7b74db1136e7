//! `[sfu]`, read raw and checked once.
use offhook_runtime::{ConfigError, ConfigFile};
use serde::Deserialize;
use std::net::SocketAddr;

const THREADS_MAX: usize = 256;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSfu {
    /// Where browsers' and Links' media arrive. Each further media thread takes the next port.
    media_listen: Vec<SocketAddr>,
    /// Absent: cores minus one, at least one.
    media_threads: Option<usize>,
    /// Where recorders on other machines dial Taps.
    tap_listen: Vec<SocketAddr>,
    /// What Tap offers say instead, behind NAT.
    tap_addresses: Vec<SocketAddr>,
    legs_max: usize,
}

impl Default for RawSfu {
    fn default() -> Self {
        Self {
            media_listen: vec![SocketAddr::from(([127, 0, 0, 1], 7882))],
            media_threads: None,
            tap_listen: vec![SocketAddr::from(([127, 0, 0, 1], 7890))],
            tap_addresses: Vec::new(),
            legs_max: 4_096,
        }
    }
}

/// The sockets of one media thread and what they are called outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadPlan {
    pub listen: Vec<SocketAddr>,
}

#[derive(Debug, Clone)]
pub struct SfuConfig {
    pub threads: Vec<ThreadPlan>,
    pub net: offhook_runtime::config::Net,
    pub tap_listen: Vec<SocketAddr>,
    pub tap_addresses: Vec<SocketAddr>,
    pub legs_max: usize,
}

impl SfuConfig {
    pub fn read(file: &ConfigFile) -> Result<Self, ConfigError> {
        let raw: RawSfu = file.section("sfu")?;
        let net = file.net()?;
        if raw.media_listen.is_empty() {
            return Err(file.refusal("sfu.media_listen", "at least one socket address"));
        }
        if raw.media_listen.iter().any(|bound| net.announced_all(*bound).is_empty()) {
            let expected = "an address of this host, or the unspecified one together with [net] public_addresses of \
                            the same family: browsers must be told where to send";
            return Err(file.refusal("sfu.media_listen", expected));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = raw.media_threads.unwrap_or_else(|| cores.saturating_sub(1).max(1));
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(file.refusal("sfu.media_threads", "1 to 256"));
        }
        if !(1..=100_000).contains(&raw.legs_max) {
            return Err(file.refusal("sfu.legs_max", "1 to 100000"));
        }
        let plans = (0..threads).map(|index| plan(&raw.media_listen, index)).collect::<Option<Vec<_>>>();
        let threads = plans.ok_or_else(|| {
            file.refusal("sfu.media_listen", "ports with room above them: each media thread takes the next one")
        })?;
        Ok(Self { threads, net, tap_listen: raw.tap_listen, tap_addresses: raw.tap_addresses, legs_max: raw.legs_max })
    }
}

/// Port 0 stays 0: the system chooses.
fn plan(listen: &[SocketAddr], index: usize) -> Option<ThreadPlan> {
    let own = |address: &SocketAddr| {
        let port = if address.port() == 0 { 0 } else { address.port().checked_add(u16::try_from(index).ok()?)? };
        Some(SocketAddr::new(address.ip(), port))
    };
    Some(ThreadPlan { listen: listen.iter().map(own).collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SfuConfig, ConfigError> {
        SfuConfig::read(&ConfigFile::parse("offhook.toml", text, []).unwrap())
    }

    #[test]
    fn each_media_thread_takes_the_next_port_on_every_address() {
        let config =
            read("[sfu]\nmedia_listen = [\"192.0.2.1:7000\", \"[2001:db8::1]:7000\"]\nmedia_threads = 2").unwrap();
        let second: Vec<String> = config.threads[1].listen.iter().map(ToString::to_string).collect();
        assert_eq!(second, ["192.0.2.1:7001", "[2001:db8::1]:7001"]);
        assert_eq!(read("").unwrap().threads[0].listen, ["127.0.0.1:7882".parse().unwrap()]);
    }

    #[test]
    fn what_cannot_work_is_refused_with_path_and_value() {
        for (text, path) in [
            ("[sfu]\nmedia_listen = [\"0.0.0.0:7882\"]", "sfu.media_listen"),
            ("[sfu]\nmedia_listen = []", "sfu.media_listen"),
            ("[sfu]\nmedia_listen = [\"127.0.0.1:65535\"]\nmedia_threads = 2", "sfu.media_listen"),
            ("[sfu]\nmedia_threads = 0", "sfu.media_threads"),
            ("[sfu]\nmedia_thread = 1", "sfu"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
        let open = "[net]\npublic_addresses = [{ public = \"203.0.113.9\", local = \"10.0.0.9\" }]\n";
        assert!(read(&format!("{open}[sfu]\nmedia_listen = [\"0.0.0.0:7882\"]")).is_ok());
    }
}
