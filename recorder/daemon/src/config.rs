//! `[recorder]`, read and checked.
use offhook_runtime::{ConfigError, ConfigFile};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the recorder is run.
#[derive(Debug, Clone)]
pub struct Config {
    /// The private listener for finished files: plain HTTP on loopback addresses, TLS with the node's pinned
    /// certificate on others.
    pub listen: Vec<SocketAddr>,
    /// Where call-control reaches it, if not at the first address listened on.
    pub advertised: Option<SocketAddr>,
    /// Where recordings lie; `recordings` in the daemon's data directory if absent.
    pub directory: Option<PathBuf>,
    pub max_recordings: u32,
    pub grant_ttl: Duration,
    pub finaliser_threads: u32,
    /// Below either of these no new recording is begun.
    pub min_free_bytes: u64,
    pub min_free_percent: u64,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    #[serde(deserialize_with = "offhook_runtime::config::one_or_many")]
    listen: Vec<SocketAddr>,
    advertised: Option<SocketAddr>,
    directory: Option<PathBuf>,
    max_recordings: u32,
    grant_ttl_s: u64,
    finaliser_threads: u32,
    min_free_mib: u64,
    min_free_percent: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 7_891))],
            advertised: None,
            directory: None,
            max_recordings: 500,
            grant_ttl_s: 60,
            finaliser_threads: 1,
            min_free_mib: 1_024,
            min_free_percent: 5,
        }
    }
}

impl Config {
    pub fn read(file: &ConfigFile) -> Result<Self, ConfigError> {
        let raw: Raw = file.section("recorder")?;
        let check = |fine: bool, path: &str, expected: &str| {
            if fine { Ok(()) } else { Err(file.refusal(&format!("recorder.{path}"), expected)) }
        };
        check(!raw.listen.is_empty(), "listen", "at least one address")?;
        let wildcard = raw.advertised.is_none() && raw.listen.first().is_some_and(|first| first.ip().is_unspecified());
        check(!wildcard, "advertised", "the address under which call-control reaches a listener on every address")?;
        check((1..=10_000).contains(&raw.max_recordings), "max_recordings", "1 to 10000")?;
        check((5..=3_600).contains(&raw.grant_ttl_s), "grant_ttl_s", "5 to 3600")?;
        check((1..=64).contains(&raw.finaliser_threads), "finaliser_threads", "1 to 64")?;
        check(raw.min_free_percent <= 90, "min_free_percent", "0 to 90")?;
        Ok(Self {
            listen: raw.listen,
            advertised: raw.advertised,
            directory: raw.directory,
            max_recordings: raw.max_recordings,
            grant_ttl: Duration::from_secs(raw.grant_ttl_s),
            finaliser_threads: raw.finaliser_threads,
            min_free_bytes: raw.min_free_mib.saturating_mul(1 << 20),
            min_free_percent: raw.min_free_percent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::read(&ConfigFile::parse("offhook.toml", text, []).unwrap())
    }

    #[test]
    fn an_empty_section_is_the_sample() {
        let config = read("").unwrap();
        assert_eq!(config.listen, ["127.0.0.1:7891".parse().unwrap()]);
        assert_eq!(config.min_free_bytes, 1 << 30);
    }

    #[test]
    fn a_mistake_is_named_with_its_path_and_range() {
        for (text, path) in [
            ("[recorder]\nmax_recordings = 0\n", "recorder.max_recordings"),
            ("[recorder]\nlisten = []\n", "recorder.listen"),
            ("[recorder]\nlisten = \"0.0.0.0:7891\"\n", "recorder.advertised"),
            ("[recorder]\ncolour = 1\n", "colour"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
    }
}
