//! What must not be printed.
use toml::Value;

/// Whether a key of this name holds a secret.
pub(crate) fn is_secret(key: &str) -> bool {
    ["password", "secret", "secrets", "token", "nkey_seed", "api_key", "md5_key", "database_url"]
        .iter()
        .any(|word| key.ends_with(word))
}

/// The value with every secret in it as `***`.
pub(super) fn redacted(key: &str, value: &Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(table.iter().map(|(k, v)| (k.clone(), redacted(k, v))).collect()),
        Value::Array(list) => Value::Array(list.iter().map(|v| redacted(key, v)).collect()),
        Value::String(text) if is_secret(key) && !text.is_empty() => Value::String(redacted_text(key, text)),
        _ if is_secret(key) && !value.is_str() => Value::String("***".into()),
        Value::String(text) => Value::String(without_credentials(text)),
        _ => value.clone(),
    }
}

/// A database's address is worth reading without its password.
fn redacted_text(key: &str, text: &str) -> String {
    if key.ends_with("database_url") { without_credentials(text) } else { "***".into() }
}

/// `scheme://user:password@host` keeps everything but the password.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((credentials, _)) = authority.rsplit_once('@') else { return text.to_owned() };
    let tail = rest.get(credentials.len()..).unwrap_or_default();
    let user = credentials.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:***{tail}")
}
