//! The database: SQLite beside the other data, or PostgreSQL by URL, with one SQL. Every method of a repository takes
//! the tenant. The writer's transactions are in [`writer`]; what reads is spread over the other files by subject.
mod calls;
mod people;
mod recordings;
mod running;
mod sessions;
mod write;

pub use calls::{CallPage, Cursor, EventCursor, EventPage, StoredEvent};
pub use people::{
    ApiKeyRow, NewNumber, NewUser, NumberRecording, NumberRow, Outcast, StoredKey, TenantRow, UserChange, UserRow,
};
pub use recordings::{StoredConsent, StoredRecording, StoredSegment};
pub use sessions::{AuditRow, Claimed, RefreshUse};
pub use write::{Batch, InboxFact};

use offhook_contract::Secret;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor, Row};
use std::path::Path;
use std::time::Duration;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// How long SQLite waits for another process (the command line) that writes.
const BUSY_TIMEOUT_MS: u32 = 5_000;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database cannot be opened ({what})")]
    Open { what: String, source: sqlx::Error },
    #[error("the database's tables cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("the database does not answer")]
    Database(#[from] sqlx::Error),
    #[error("a stored value cannot be read: {0}")]
    Unreadable(&'static str),
    #[error("{0} exists already")]
    Exists(&'static str),
    #[error("there is no such {0}")]
    Missing(&'static str),
}

impl StoreError {
    /// Whether trying again can help: the database is away, busy or restarting, rather than refusing the statement.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default().into_owned();
                // SQLite: 5 busy, 6 locked, 10 disk I/O, 13 full. PostgreSQL: classes 08, 40, 53, 57, 58.
                let primary = code.parse::<u32>().map(|n| n & 0xff);
                matches!(primary, Ok(5 | 6 | 10 | 13)) && code.len() < 5
                    || ["08", "40", "53", "57", "58"].iter().any(|class| code.len() == 5 && code.starts_with(class))
            }
            Self::Database(
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::TypeNotFound { .. } | sqlx::Error::ColumnNotFound(_),
            ) => false,
            Self::Database(_) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    /// One connection: SQLite has one writer, and the writer's order is the order of the calls.
    write: AnyPool,
    read: AnyPool,
}

impl Store {
    /// Opens the database that `url` names, or `control.sqlite` in `data_dir` when it is empty.
    pub async fn open(url: &Secret, data_dir: &Path) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (engine, url) = match url.expose() {
            "" => (Engine::Sqlite, format!("sqlite://{}?mode=rwc", data_dir.join("control.sqlite").display())),
            url if url.starts_with("sqlite:") => (Engine::Sqlite, url.to_owned()),
            url => (Engine::Postgres, url.to_owned()),
        };
        let what = if engine == Engine::Sqlite { "SQLite" } else { "PostgreSQL" };
        let opened = |source| StoreError::Open { what: what.to_owned(), source };
        let write = pool(engine, 1).connect(&url).await.map_err(opened)?;
        MIGRATIONS.run(&write).await?;
        let read = pool(engine, 4).connect(&url).await.map_err(opened)?;
        Ok(Self { write, read })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").fetch_one(&self.read).await?;
        Ok(())
    }

    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// SQLite's defaults are wrong for us on every connection: no WAL, no patience, no foreign keys.
fn pool(engine: Engine, connections: u32) -> AnyPoolOptions {
    let options =
        AnyPoolOptions::new().max_connections(connections).min_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
    if engine != Engine::Sqlite {
        return options;
    }
    options.after_connect(|connection, _| {
        Box::pin(async move {
            connection.execute("PRAGMA journal_mode = WAL").await?;
            connection.execute("PRAGMA synchronous = FULL").await?;
            connection.execute("PRAGMA foreign_keys = ON").await?;
            let patience: &'static str = "PRAGMA busy_timeout = 5000";
            debug_assert!(patience.ends_with(&BUSY_TIMEOUT_MS.to_string()));
            connection.execute(patience).await?;
            Ok(())
        })
    })
}

/// A unique key was violated: that is an answer, not a failure.
fn is_unique_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.is_unique_violation())
}

fn ms(value: i64) -> offhook_contract::UnixMs {
    offhook_contract::UnixMs(u64::try_from(value).unwrap_or(0))
}

fn i64_of(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn opt_ms(row: &sqlx::any::AnyRow, column: &str) -> Result<Option<offhook_contract::UnixMs>, sqlx::Error> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(ms))
}

/// Reads a text column as an id or a word.
fn parsed<T>(
    row: &sqlx::any::AnyRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    parse(&text).ok_or(StoreError::Unreadable(column))
}

fn parsed_opt<T>(
    row: &sqlx::any::AnyRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|t| parse(&t).ok_or(StoreError::Unreadable(column))).transpose()
}
