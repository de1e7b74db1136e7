//! The call log, and calls made and ended over HTTP.
use super::auth::{Caller, Who};
use super::body::Body;
use super::problem::Problem;
use super::recordings::RecordingView;
use super::{App, READ_PATIENCE, Shared};
use crate::store::{Claimed, Cursor, EventCursor, StoredEvent};
use crate::tokens;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use offhook_bus::wall_now;
use offhook_contract::{CallId, HangupCause, LegId, UnixMs};
use offhook_control_core::{CallRow, CallWord, Command, CommandReply, Direction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const MAX_PAGE: u32 = 200;
const DEFAULT_PAGE: u32 = 50;
/// What a call's story shows at once. The beeps of three hours and their confirmations are more.
const MAX_EVENTS: u32 = 2_000;
const DEFAULT_EVENTS: u32 = 500;
const MAX_KEY_CHARS: usize = 128;

#[derive(Serialize)]
struct Party {
    name: String,
    number: Option<String>,
}

#[derive(Serialize)]
pub struct LogRow {
    id: CallId,
    direction: Direction,
    state: CallWord,
    from: Party,
    to: Party,
    started_ms: UnixMs,
    answered_ms: Option<UnixMs>,
    ended_ms: Option<UnixMs>,
    duration_ms: Option<u64>,
    cause: Option<HangupCause>,
    recordings: Vec<RecordingView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<EventView>>,
    /// Where the story goes on, if these are not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_next: Option<String>,
}

#[derive(Serialize)]
struct EventView {
    at_ms: UnixMs,
    kind: String,
    leg: Option<LegId>,
    data: Value,
}

impl From<StoredEvent> for EventView {
    fn from(event: StoredEvent) -> Self {
        Self { at_ms: event.at, kind: event.kind, leg: event.leg, data: event.data }
    }
}

impl LogRow {
    fn new(row: CallRow, recordings: Vec<RecordingView>) -> Self {
        let duration_ms = row.answered.zip(row.ended).map(|(answered, ended)| ended.since(answered));
        Self {
            id: row.id,
            direction: row.direction,
            state: row.state,
            from: Party { name: row.from_name, number: row.from_number },
            to: Party { name: row.to_name, number: row.to_number },
            started_ms: row.started,
            answered_ms: row.answered,
            ended_ms: row.ended,
            duration_ms,
            cause: row.cause,
            recordings,
            events: None,
            events_next: None,
        }
    }
}

#[derive(Deserialize)]
pub struct Page {
    limit: Option<u32>,
    after: Option<String>,
}

pub async fn list(State(app): State<Shared>, caller: Caller, Query(page): Query<Page>) -> Result<Json<Value>, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid(format!("limit is 1 to {MAX_PAGE}")));
    }
    let unreadable = || Problem::invalid("after is the value of next from the page before");
    let after = page.after.map(|text| Cursor::parse(&text).ok_or_else(unreadable)).transpose()?;
    app.writer.flushed(READ_PATIENCE).await?;
    let found = app.store.calls(&caller.tenant, caller.user_id(), limit, after.as_ref()).await?;
    let mut rows = Vec::with_capacity(found.calls.len());
    for row in found.calls {
        let recordings = app.recordings_of(&caller, &row.id).await?;
        rows.push(LogRow::new(row, recordings));
    }
    Ok(Json(json!({ "data": rows, "next": found.next.map(|c| c.to_string()) })))
}

pub async fn one(State(app): State<Shared>, caller: Caller, Path(id): Path<String>) -> Result<Json<LogRow>, Problem> {
    let id = CallId::parse(id).map_err(|_| Problem::not_found())?;
    app.writer.flushed(READ_PATIENCE).await?;
    let row = app.store.call(&caller.tenant, caller.user_id(), &id).await?.ok_or_else(Problem::not_found)?;
    let recordings = app.recordings_of(&caller, &id).await?;
    let found = app.store.call_events(&caller.tenant, &id, MAX_EVENTS, None).await?;
    let mut row = LogRow::new(row, recordings);
    row.events = Some(found.events.into_iter().map(EventView::from).collect());
    row.events_next = found.next.map(|cursor| cursor.to_string());
    Ok(Json(row))
}

pub async fn events(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, Problem> {
    let id = CallId::parse(id).map_err(|_| Problem::not_found())?;
    let limit = page.limit.unwrap_or(DEFAULT_EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        return Err(Problem::invalid(format!("limit is 1 to {MAX_EVENTS}")));
    }
    let unreadable = || Problem::invalid("after is the value of next, or of events_next, from the page before");
    let after = page.after.map(|text| EventCursor::parse(&text).ok_or_else(unreadable)).transpose()?;
    app.writer.flushed(READ_PATIENCE).await?;
    app.store.call(&caller.tenant, caller.user_id(), &id).await?.ok_or_else(Problem::not_found)?;
    let found = app.store.call_events(&caller.tenant, &id, limit, after.as_ref()).await?;
    let events: Vec<_> = found.events.into_iter().map(EventView::from).collect();
    Ok(Json(json!({ "data": events, "next": found.next.map(|c| c.to_string()) })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCall {
    /// Whose pages ring first; one's own when a user asks.
    extension: Option<String>,
    to: String,
}

pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    body: Body<NewCall>,
) -> Result<Response, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(app.originate(&caller, body.value).await?.into_response());
    };
    let key = key.to_str().ok().filter(|k| !k.is_empty() && k.len() <= MAX_KEY_CHARS);
    let key = key.ok_or_else(|| Problem::invalid("Idempotency-Key is 1 to 128 printable characters"))?;
    let body_hash = tokens::hex(&<sha2::Sha256 as sha2::Digest>::digest(&body.bytes));
    let name = caller.name();
    match app.store.claim_key(&caller.tenant, &name, key, &body_hash, wall_now()).await? {
        Claimed::New => {}
        Claimed::InProgress => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "conflict",
                "the first request with this key is still running",
            ));
        }
        Claimed::OtherBody => {
            return Err(Problem::new(StatusCode::CONFLICT, "conflict", "this key came with another body before"));
        }
        Claimed::Done { status, response } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
            let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
            return Ok((status, [("content-type", kind)], response).into_response());
        }
    }
    let outcome = app.originate(&caller, body.value).await;
    let (status, text) = match &outcome {
        Ok((status, Json(value))) => (status.as_u16(), value.to_string()),
        Err(problem) => (problem.status().as_u16(), serde_json::to_string(problem).unwrap_or_default()),
    };
    app.store.finish_key(&caller.tenant, &name, key, status, &text).await?;
    Ok(outcome?.into_response())
}

impl App {
    async fn originate(&self, caller: &Caller, new: NewCall) -> Result<(StatusCode, Json<Value>), Problem> {
        let user = match (&caller.who, &new.extension) {
            (Who::User(user), None) => (**user).clone(),
            (Who::User(user), Some(extension)) if *extension == user.extension => (**user).clone(),
            (Who::User(_), Some(_)) => return Err(Problem::forbidden("a user can make calls for himself only")),
            (Who::Key { .. }, None) => return Err(Problem::invalid("extension says whose pages ring first")),
            (Who::Key { .. }, Some(extension)) => {
                let found = self.store.user_by_extension(&caller.tenant, extension).await?;
                found.ok_or_else(|| Problem::invalid("there is no user with this extension"))?
            }
        };
        let (callee, recording) = self.resolve(&caller.tenant, &new.to).await?;
        let command = Command::Originate { caller: user.user(), dialled: new.to, callee, recording };
        let reply = self.engine.command(caller.actor(), command).await??;
        match reply {
            CommandReply::Call { call, view, .. } => {
                self.audit(&caller.tenant, caller.name(), "create_call", call.to_string(), "ok", caller.source).await;
                Ok((StatusCode::CREATED, Json(json!({ "id": call, "call": view }))))
            }
            CommandReply::Joined { .. } => Err(Problem::unavailable("the server failed")),
        }
    }
}

pub async fn hang_up(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = CallId::parse(id).map_err(|_| Problem::not_found())?;
    let command = Command::HangUp { call: id.clone() };
    match app.engine.command(caller.actor(), command).await? {
        Ok(_) => {}
        // It may be over already: then the wish is fulfilled.
        Err(refusal) => {
            app.writer.flushed(READ_PATIENCE).await?;
            app.store.call(&caller.tenant, caller.user_id(), &id).await?.ok_or_else(|| Problem::from(refusal))?;
        }
    }
    app.audit(&caller.tenant, caller.name(), "hang_up", id.to_string(), "ok", caller.source).await;
    Ok(Json(json!({})))
}
