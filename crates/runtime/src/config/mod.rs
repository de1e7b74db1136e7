//! One `offhook.toml` for all daemons, the environment over it, checked section by section. Types given to
//! [`ConfigFile::section`] carry `#[serde(deny_unknown_fields)]`, so that a misspelt key is an error and not a default.
mod dial;
mod environment;
mod error;
mod listening;
mod redact;
mod shared;
#[cfg(test)]
mod tests;
mod turn;
mod turn_urls;

pub use dial::Dial;
pub use error::ConfigError;
pub use shared::{BusConfig, Net, PublicAddress, Runtime, Storage, Tls, one_or_many};
pub use turn::{Turn, TurnCertificate, TurnFamily, TurnLifetimes, TurnMediaPeer, TurnProtocol, TurnQuotas, TurnUser};
pub use turn_urls::{is_loopback_host, leads_to_loopback};

use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

const SECTIONS: [&str; 12] =
    ["runtime", "net", "tls", "bus", "storage", "dial", "sfu", "turn", "sip", "recorder", "control", "trunk"];
/// Read when no path is given, if it is there.
const DEFAULT_FILE: &str = "offhook.toml";

/// A configuration as it was read: file and environment in one table.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    /// Absent when there is no file: then everything is default or environment.
    path: Option<PathBuf>,
    name: String,
    table: Table,
    /// Which path was set by which environment variable.
    from_environment: BTreeMap<String, String>,
}

impl ConfigFile {
    /// Reads `path`, or `offhook.toml` if there is one, and the environment of this process.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| default.exists().then_some(default));
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let Some(path) = path else { return Self::parse("(no file)", "", variables) };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config = Self::parse(&path.display().to_string(), &text, variables)?;
        config.path = Some(path.to_owned());
        Ok(config)
    }

    /// The same from text; `name` stands in errors.
    pub fn parse(
        name: &str,
        text: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            file: name.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let from_environment = environment::overlay(&mut table, variables)?;
        let config = Self { path: None, name: name.to_owned(), table, from_environment };
        config.check_sections()?;
        Ok(config)
    }

    /// The same file and the environment, read again.
    pub fn reread(&self) -> Result<Self, ConfigError> {
        Self::load(self.path.as_deref())
    }

    fn check_sections(&self) -> Result<(), ConfigError> {
        match self.table.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
            None => Ok(()),
            Some(section) => Err(ConfigError::UnknownSection {
                file: self.name.clone(),
                section: section.clone(),
                known: SECTIONS.join(", "),
            }),
        }
    }

    /// One section as a type; an absent section is an empty one.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let value = self.table.get(name).cloned().unwrap_or_else(|| Value::Table(Table::new()));
        if !value.is_table() {
            return Err(self.refusal(name, &format!("a section: [{name}], and its keys below it")));
        }
        self.read(name, value)
    }

    /// Every `[[trunk]]`, in the file's order.
    pub fn trunks<T: DeserializeOwned>(&self) -> Result<Vec<T>, ConfigError> {
        let list = match self.table.get("trunk") {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(self.refusal("trunk", "a list of tables: [[trunk]]")),
        };
        let mut names = Vec::new();
        for (at, trunk) in list.iter().enumerate() {
            let name = trunk.get("name").and_then(Value::as_str).unwrap_or_default();
            if name.is_empty() || names.contains(&name) {
                return Err(self.refusal(&format!("trunk[{at}].name"), "every trunk has a name of its own"));
            }
            names.push(name);
        }
        list.iter().enumerate().map(|(at, trunk)| self.read(&format!("trunk[{at}]"), trunk.clone())).collect()
    }

    fn read<T: DeserializeOwned>(&self, root: &str, value: Value) -> Result<T, ConfigError> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let inner = error.path().to_string();
            let path = if inner == "." { root.to_owned() } else { format!("{root}.{inner}") };
            self.refusal(&path, in_our_words(error.inner().message()))
        })
    }

    /// The error for a value that a daemon's own check refuses. `path` as in `sfu.media_threads` or `trunk[0].name`;
    /// `expected` says what would be right: `"1 to 64"`.
    pub fn refusal(&self, path: &str, expected: &str) -> ConfigError {
        let (source, value) = self.at(path);
        ConfigError::Value { source_name: source, path: path.to_owned(), value, expected: expected.to_owned() }
    }

    /// Where a value came from, and how it may be shown.
    fn at(&self, path: &str) -> (String, String) {
        let source = match self.from_environment.get(path) {
            Some(variable) => format!("environment {variable}"),
            None => self.name.clone(),
        };
        let mut found: Option<&Value> = None;
        let mut last = "";
        for word in path.split(['.', '[']).map(|w| w.trim_end_matches(']')) {
            found = match (found, word.parse::<usize>()) {
                (None, _) if last.is_empty() => self.table.get(word),
                (Some(Value::Array(list)), Ok(at)) => list.get(at),
                (Some(value), _) => value.get(word),
                (None, _) => None,
            };
            last = word;
        }
        let value = found.map_or_else(|| "(not set)".to_owned(), |value| redact::redacted(last, value).to_string());
        (source, value)
    }

    /// Everything that was set, secrets as `***`, as TOML.
    pub fn redacted(&self) -> String {
        let table = redact::redacted("", &Value::Table(self.table.clone()));
        toml::to_string_pretty(&table).unwrap_or_default()
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What the standard library says of an address helps nobody who wrote a host's name.
fn in_our_words(message: &str) -> &str {
    match message.trim_end() {
        "invalid socket address syntax" => {
            "an address and a port, such as \"192.0.2.1:8080\" or \"[::1]:8080\"; no host's name"
        }
        "invalid IP address syntax" => "an address, such as \"192.0.2.1\" or \"2001:db8::1\"; no host's name",
        other => other,
    }
}
