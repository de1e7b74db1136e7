//! The environment over the file: `OFFHOOK__SIP__PORT=5070`, `OFFHOOK__TRUNK__<NAME>__PASSWORD`, and `…_FILE` for a
//! value that stands in a file of its own.
use super::error::ConfigError;
use super::redact::is_secret;
use std::collections::BTreeMap;
use toml::{Table, Value};

const PREFIX: &str = "OFFHOOK__";
/// A secret's file holds one line; anything longer is not one.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Writes the variables into `table` and returns which path came from which variable.
pub(super) fn overlay(
    table: &mut Table,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut sources = BTreeMap::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else { continue };
        let mut words: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        if words.len() < 2 || words.iter().any(String::is_empty) {
            return Err(refuse(&variable, "expected OFFHOOK__<SECTION>__<KEY>"));
        }
        let from_file = take_file_suffix(&mut words, table);
        let text = if from_file { read_value(&variable, &text)? } else { text };
        let path = if words.first().is_some_and(|w| w == "trunk") {
            set_in_trunk(table, &variable, &words, &text, from_file)?
        } else {
            set(table, &variable, &words, &text, from_file)?;
            words.join(".")
        };
        sources.insert(path, variable);
    }
    Ok(sources)
}

/// `…_FILE` names a file with the value, except where a key of the file itself ends in `_file`.
fn take_file_suffix(words: &mut [String], table: &Table) -> bool {
    let is_key = lookup(table, words).is_some();
    match words.last_mut() {
        Some(last) if !is_key && is_secret(last.strip_suffix("_file").unwrap_or_default()) => {
            last.truncate(last.len() - "_file".len());
            true
        }
        _ => false,
    }
}

fn lookup<'a>(table: &'a Table, words: &[String]) -> Option<&'a Value> {
    let (first, rest) = words.split_first()?;
    rest.iter().try_fold(table.get(first)?, |value, word| value.get(word))
}

fn read_value(variable: &str, path: &str) -> Result<String, ConfigError> {
    let unreadable = |error: std::io::Error| refuse(variable, &format!("cannot read {path}: {error}"));
    if std::fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(refuse(variable, &format!("{path} is larger than {MAX_FILE_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn set(table: &mut Table, variable: &str, words: &[String], text: &str, as_text: bool) -> Result<(), ConfigError> {
    let Some((key, sections)) = words.split_last() else { return Ok(()) };
    let mut at = table;
    for section in sections {
        let entry = at.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        at = entry.as_table_mut().ok_or_else(|| refuse(variable, &format!("{section} is a value, not a section")))?;
    }
    let stays_text = as_text || is_secret(key) || at.get(key).is_some_and(Value::is_str);
    at.insert(key.clone(), if stays_text { Value::String(text.to_owned()) } else { read(text) });
    Ok(())
}

/// Trunks are a list; the second word is the name of one.
fn set_in_trunk(
    table: &mut Table,
    variable: &str,
    words: &[String],
    text: &str,
    as_text: bool,
) -> Result<String, ConfigError> {
    let (Some(name), Some(key)) = (words.get(1), words.get(2..).filter(|rest| !rest.is_empty())) else {
        return Err(refuse(variable, "expected OFFHOOK__TRUNK__<NAME>__<KEY>"));
    };
    let trunks = table.get_mut("trunk").and_then(Value::as_array_mut);
    for (at, trunk) in trunks.into_iter().flatten().enumerate() {
        let Some(trunk) = trunk.as_table_mut() else { continue };
        if trunk.get("name").and_then(Value::as_str).is_some_and(|n| variable_word(n) == *name) {
            set(trunk, variable, key, text, as_text)?;
            return Ok(format!("trunk[{at}].{}", key.join(".")));
        }
    }
    Err(refuse(variable, &format!("there is no [[trunk]] whose name is {name:?}")))
}

fn variable_word(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// A number, a truth value, a list or a table when it reads as one; else text.
fn read(text: &str) -> Value {
    let as_toml = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    as_toml.filter(|v| !v.is_datetime()).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn refuse(variable: &str, reason: &str) -> ConfigError {
    ConfigError::Environment { variable: variable.to_owned(), reason: reason.to_owned() }
}
