//! How a database is reached, and its tables are read.
use super::ROWS_MAX;
use offhook_turn_core::RangeError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, PgConnection, SqliteConnection};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A database that takes longer counts as away.
const WITHIN: Duration = Duration::from_secs(5);
/// How long to wait while somebody writes.
const BUSY: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("psql-userdb cannot be read: {0}")]
    Connection(String),
    #[error("no answer within {} s", WITHIN.as_secs())]
    Slow,
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// Nothing is taken over: what somebody means to close must not stand open.
    #[error("{table} has a range that cannot be read: {source}")]
    Range {
        table: &'static str,
        #[source]
        source: RangeError,
    },
}

/// Which database.
#[derive(Clone)]
pub(crate) enum Source {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "SQLite {}", path.display()),
            Self::Postgres(to) => {
                write!(f, "PostgreSQL {}:{}/{}", to.get_host(), to.get_port(), to.get_database().unwrap_or_default())
            }
        }
    }
}

/// Without the password.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sqlite(a), Self::Sqlite(b)) => a == b,
            (Self::Postgres(a), Self::Postgres(b)) => a.to_url_lossy() == b.to_url_lossy(),
            _ => false,
        }
    }
}

impl Eq for Source {}

impl Source {
    /// `~` is the home of whoever runs the server, as for coturn.
    pub(super) fn sqlite(path: &str) -> Self {
        let home = path.strip_prefix("~/").and_then(|rest| Some(Path::new(&std::env::var_os("HOME")?).join(rest)));
        Self::Sqlite(home.unwrap_or_else(|| path.into()))
    }

    /// A URL, or libpq's `host=… dbname=… user=… password=…`.
    pub(super) fn postgres(text: &str) -> Result<Self, DatabaseError> {
        let to = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            from_url(text)?
        } else {
            from_words(text)?
        };
        Ok(Self::Postgres(Box::new(to)))
    }

    /// What is another after each write, as far as a file shows it: when it and its write-ahead log were written, and how
    /// long they are.
    pub(super) fn stamp(&self) -> Option<[Option<(SystemTime, u64)>; 2]> {
        let Self::Sqlite(path) = self else { return None };
        let of = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        let mut log = path.clone().into_os_string();
        log.push("-wal");
        Some([of(path), of(Path::new(&log))])
    }

    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        tokio::time::timeout(WITHIN, work).await.unwrap_or(Err(DatabaseError::Slow))
    }
}

/// libpq takes a URL without a host (`postgresql://user:word@/name`) for the local one; the crate does not.
fn from_url(text: &str) -> Result<PgConnectOptions, DatabaseError> {
    let local = PgConnectOptions::new_without_pgpass();
    let (whole, is_local) = match text.split_once("@/") {
        Some((who, name)) => (format!("{who}@localhost/{name}"), true),
        None => (text.to_owned(), false),
    };
    // The reason repeats the URL in no case; the URL itself holds the password.
    let options = PgConnectOptions::from_str(&whole).map_err(|error| DatabaseError::Connection(error.to_string()))?;
    Ok(if is_local { options.host(local.get_host()) } else { options })
}

fn from_words(text: &str) -> Result<PgConnectOptions, DatabaseError> {
    let mut options = PgConnectOptions::new_without_pgpass();
    for (name, value) in words(text)? {
        let wrong = |what: &str| DatabaseError::Connection(format!("{name} is {what}"));
        options = match name.as_str() {
            "host" | "hostaddr" => options.host(&value),
            "port" => options.port(value.parse().map_err(|_| wrong("no port"))?),
            "dbname" => options.database(&value),
            "user" => options.username(&value),
            "password" => options.password(&value),
            "application_name" => options.application_name(&value),
            "sslmode" => options.ssl_mode(PgSslMode::from_str(&value).map_err(|_| wrong("not known"))?),
            "sslrootcert" => options.ssl_root_cert(value),
            // Ours is fixed.
            "connect_timeout" => options,
            _ => return Err(wrong("not known")),
        };
    }
    Ok(options)
}

/// `name = value` pairs; a value in quotes may hold blanks, and `\` takes the next character as it is.
fn words(text: &str) -> Result<Vec<(String, String)>, DatabaseError> {
    let wrong = |why: &str| DatabaseError::Connection(why.to_owned());
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| wrong("a word without ="))?;
        let after = after.trim_start();
        let (quoted, after) = after.strip_prefix('\'').map_or((false, after), |inner| (true, inner));
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = None;
        while let Some((at, character)) = characters.next() {
            match character {
                '\\' => value.extend(characters.next().map(|(_, next)| next)),
                '\'' if quoted => {
                    end = Some(at + 1);
                    break;
                }
                blank if !quoted && blank.is_whitespace() => {
                    end = Some(at);
                    break;
                }
                other => value.push(other),
            }
        }
        if quoted && end.is_none() {
            return Err(wrong("a quote is left open"));
        }
        found.push((name.trim().to_owned(), value));
        rest = after.get(end.unwrap_or(after.len())..).unwrap_or_default().trim_start();
    }
    Ok(found)
}

pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    pub(super) async fn open(source: &Source) -> Result<Self, DatabaseError> {
        Ok(match source {
            Source::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY);
                Self::Sqlite(options.disable_statement_logging().connect().await?)
            }
            Source::Postgres(options) => Self::Postgres(options.clone().disable_statement_logging().connect().await?),
        })
    }

    /// Two columns of text. A table that an older coturn did not make is empty.
    pub(super) async fn pairs(
        &mut self,
        table: &'static str,
        sql: &'static str,
        realm: &str,
        remarks: &mut Vec<String>,
    ) -> Result<Vec<(String, String)>, DatabaseError> {
        let limit = i64::try_from(ROWS_MAX).unwrap_or(i64::MAX) + 1;
        let found = match self {
            Self::Sqlite(to) => sqlx::query_as(sql).bind(realm).bind(limit).fetch_all(to).await,
            Self::Postgres(to) => sqlx::query_as(sql).bind(realm).bind(limit).fetch_all(to).await,
        };
        let mut rows: Vec<(String, String)> = match found {
            Ok(rows) => rows,
            Err(error) if is_missing_table(&error) => {
                remarks.push(format!("there is no table {table}"));
                Vec::new()
            }
            Err(error) => return Err(error.into()),
        };
        if rows.len() > ROWS_MAX {
            rows.truncate(ROWS_MAX);
            remarks.push(format!("{table} has more than {ROWS_MAX} rows; the rest is left out"));
        }
        Ok(rows)
    }

    /// The key of one user, who may not be there. So may the table.
    pub(super) async fn key(
        &mut self,
        sql: &'static str,
        realm: &str,
        name: &str,
    ) -> Result<Option<String>, DatabaseError> {
        let found = match self {
            Self::Sqlite(to) => sqlx::query_scalar(sql).bind(realm).bind(name).fetch_optional(to).await,
            Self::Postgres(to) => sqlx::query_scalar(sql).bind(realm).bind(name).fetch_optional(to).await,
        };
        match found {
            Err(error) if is_missing_table(&error) => Ok(None),
            found => Ok(found?),
        }
    }

    pub(super) async fn close(self) {
        let _ = match self {
            Self::Sqlite(to) => to.close().await,
            Self::Postgres(to) => to.close().await,
        };
    }
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_strings_are_libpqs() {
        let read = |text: &str| match Source::postgres(text).unwrap() {
            Source::Postgres(to) => (
                to.get_host().to_owned(),
                to.get_port(),
                to.get_username().to_owned(),
                Source::Postgres(to).to_string(),
            ),
            Source::Sqlite(_) => panic!(),
        };
        for text in [
            "host=db.example dbname=coturn user=turn password=wo'rd connect_timeout=30 port=5433",
            "host = 'db.example' port='5433' user=turn dbname=coturn password='wo\\'rd'",
            "postgresql://turn:wo%27rd@db.example:5433/coturn",
        ] {
            let (host, port, user, shown) = read(text);
            assert_eq!((host.as_str(), port, user.as_str()), ("db.example", 5433, "turn"), "{text}");
            assert_eq!(shown, "PostgreSQL db.example:5433/coturn");
        }
        let (host, ..) = read("postgresql://turn:word@/coturn");
        assert_eq!(host, PgConnectOptions::new_without_pgpass().get_host());
        for wrong in ["host", "host='x", "colour=red", "port=x", "postgres://a:secret@h:port/"] {
            let error = Source::postgres(wrong).unwrap_err().to_string();
            assert!(error.starts_with("psql-userdb") && !error.contains("secret"), "{error}");
        }
    }
}
