//! Refusals of a configuration: where it stands, what it says, what would be right.
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{file} is not TOML: {message}")]
    Syntax { file: String, message: String },
    /// `source_name` is the file, or the environment variable that set the value.
    #[error("{source_name}: {path} = {value}: {expected}")]
    Value { source_name: String, path: String, value: String, expected: String },
    #[error("{file}: [{section}] is no section; there are {known}")]
    UnknownSection { file: String, section: String, known: String },
    #[error("environment {variable}: {reason}")]
    Environment { variable: String, reason: String },
}
