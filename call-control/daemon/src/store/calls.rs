//! The call log, and a call's story.
use super::running::call_row;
use super::{Store, StoreError, i64_of, ms, parsed_opt};
use offhook_contract::{CallId, LegId, TenantId, UnixMs};
use offhook_control_core::{CallRow, UserId};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A page of the log, newest first, and where the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub struct CallPage {
    pub calls: Vec<CallRow>,
    pub next: Option<Cursor>,
}

/// The last call of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub started: UnixMs,
    pub id: CallId,
}

impl Cursor {
    pub fn parse(text: &str) -> Option<Self> {
        let (started, id) = text.split_once('.')?;
        Some(Self { started: UnixMs(started.parse().ok()?), id: CallId::parse(id).ok()? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.started.0, self.id)
    }
}

/// A page of a call's events, oldest first, and where the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    pub next: Option<EventCursor>,
}

/// The last event of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventCursor {
    pub at: UnixMs,
    pub id: String,
}

/// An event's id is made of ours and a word or two.
const MAX_EVENT_ID_BYTES: usize = 512;

impl EventCursor {
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        (id.len() <= MAX_EVENT_ID_BYTES).then_some(())?;
        Some(Self { at: UnixMs(at.parse().ok()?), id: id.to_owned() })
    }
}

impl std::fmt::Display for EventCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.at.0, self.id)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    pub id: String,
    pub at: UnixMs,
    pub kind: String,
    pub leg: Option<LegId>,
    pub data: serde_json::Value,
}

impl Store {
    /// A user's own calls, or (without one, for the tenant's keys) all.
    pub async fn calls(
        &self,
        tenant: &TenantId,
        user: Option<&UserId>,
        limit: u32,
        after: Option<&Cursor>,
    ) -> Result<CallPage, StoreError> {
        let before = after.map_or(i64::MAX, |c| i64_of(c.started.0));
        let before_id = after.map_or("~", |c| c.id.as_str());
        let rows = sqlx::query(
            "SELECT * FROM call WHERE tenant = $1 AND ($2 = '' OR caller_user = $2 OR callee_user = $2) \
             AND (started_ms < $3 OR (started_ms = $3 AND id < $4)) ORDER BY started_ms DESC, id DESC LIMIT $5",
        )
        .bind(tenant.as_str())
        .bind(user.map_or("", UserId::as_str))
        .bind(before)
        .bind(before_id)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.read)
        .await?;
        let mut calls = rows.iter().map(call_row).collect::<Result<Vec<_>, _>>()?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = calls.len() > wanted;
        calls.truncate(wanted);
        let last = calls.last().filter(|_| more);
        let next = last.map(|c| Cursor { started: c.started, id: c.id.clone() });
        Ok(CallPage { calls, next })
    }

    pub async fn call(
        &self,
        tenant: &TenantId,
        user: Option<&UserId>,
        id: &CallId,
    ) -> Result<Option<CallRow>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM call WHERE tenant = $1 AND ($2 = '' OR caller_user = $2 OR callee_user = $2) AND id = $3",
        )
        .bind(tenant.as_str())
        .bind(user.map_or("", UserId::as_str))
        .bind(id.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.as_ref().map(call_row).transpose()
    }

    pub async fn call_events(
        &self,
        tenant: &TenantId,
        id: &CallId,
        limit: u32,
        after: Option<&EventCursor>,
    ) -> Result<EventPage, StoreError> {
        let rows = sqlx::query(
            "SELECT id, at_ms, kind, leg, data FROM call_event WHERE tenant = $1 AND call_id = $2 \
             AND (at_ms > $3 OR (at_ms = $3 AND id > $4)) ORDER BY at_ms, id LIMIT $5",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(after.map_or(-1, |c| i64_of(c.at.0)))
        .bind(after.map_or("", |c| c.id.as_str()))
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.read)
        .await?;
        let mut events = rows.iter().map(event_row).collect::<Result<Vec<_>, _>>()?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = events.len() > wanted;
        events.truncate(wanted);
        let last = events.last().filter(|_| more);
        let next = last.map(|e| EventCursor { at: e.at, id: e.id.clone() });
        Ok(EventPage { events, next })
    }
}

fn event_row(row: &AnyRow) -> Result<StoredEvent, StoreError> {
    let data: String = row.try_get("data")?;
    Ok(StoredEvent {
        id: row.try_get("id")?,
        at: ms(row.try_get("at_ms")?),
        kind: row.try_get("kind")?,
        leg: parsed_opt(row, "leg", |t| LegId::parse(t).ok())?,
        data: serde_json::from_str(&data).map_err(|_| StoreError::Unreadable("data"))?,
    })
}
