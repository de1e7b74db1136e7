//! Recordings: rows, and files streamed through from the recorder that has them, after the right was checked.
use super::auth::{Caller, Source};
use super::problem::Problem;
use super::{App, READ_PATIENCE, Shared};
use crate::store::StoredRecording;
use crate::tokens::TICKET_S;
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use offhook_bus::{Target, wall_now};
use offhook_contract::fact::FileRow;
use offhook_contract::recorder::{GrantFile, RecordingFile};
use offhook_contract::{CallId, Context, RecordingId, UnixMs};
use offhook_control_core::RecordingWord;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const GRANT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Serialize)]
pub struct RecordingView {
    id: RecordingId,
    call_id: CallId,
    state: RecordingWord,
    started_ms: Option<UnixMs>,
    duration_ms: Option<u64>,
    segments: Vec<SegmentView>,
    consent: Vec<ConsentView>,
    files: Vec<FileRow>,
    reason: Option<String>,
    reason_code: Option<String>,
}

#[derive(Serialize)]
struct SegmentView {
    segment: u32,
    started_ms: UnixMs,
    ended_ms: Option<UnixMs>,
    gap_ms: u64,
}

#[derive(Serialize)]
struct ConsentView {
    kind: String,
    played_ms: UnixMs,
    segment: Option<u32>,
}

impl From<StoredRecording> for RecordingView {
    fn from(recording: StoredRecording) -> Self {
        let segments = recording.segments.into_iter().map(|s| SegmentView {
            segment: s.segment,
            started_ms: s.started,
            ended_ms: s.ended,
            gap_ms: s.gap_ms,
        });
        let consent = recording.consent.into_iter().map(|c| ConsentView {
            kind: c.kind,
            played_ms: c.played,
            segment: c.segment,
        });
        Self {
            id: recording.id,
            call_id: recording.call,
            state: recording.state,
            started_ms: recording.started,
            duration_ms: recording.duration_ms,
            segments: segments.collect(),
            consent: consent.collect(),
            files: recording.files,
            reason: recording.reason,
            reason_code: recording.reason_code,
        }
    }
}

impl App {
    pub async fn recordings_of(&self, caller: &Caller, call: &CallId) -> Result<Vec<RecordingView>, Problem> {
        let found = self.store.recordings_of(&caller.tenant, call).await?;
        Ok(found.into_iter().map(RecordingView::from).collect())
    }

    /// The recording, if the caller was in its call (a key sees all of its tenant).
    async fn recording_for(&self, caller: &Caller, id: &str) -> Result<StoredRecording, Problem> {
        let id = RecordingId::parse(id).map_err(|_| Problem::not_found())?;
        self.writer.flushed(READ_PATIENCE).await?;
        let recording = self.store.recording(&caller.tenant, &id).await?.ok_or_else(Problem::not_found)?;
        let call = self.store.call(&caller.tenant, caller.user_id(), &recording.call).await?;
        call.map(|_| recording).ok_or_else(Problem::not_found)
    }
}

pub async fn one(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RecordingView>, Problem> {
    Ok(Json(app.recording_for(&caller, &id).await?.into()))
}

/// Where a player of a browser hears a recording, and how long.
#[derive(Serialize)]
pub struct TicketView {
    url: String,
    expires_in_s: u64,
}

/// The right is checked here, and again at every use.
pub async fn ticket(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TicketView>, Problem> {
    let recording = app.recording_for(&caller, &id).await?.id;
    let user = caller.user_id().ok_or_else(|| Problem::forbidden("an API key reads the sound itself"))?;
    let made = app.tokens.ticket(&caller.tenant, user, &recording, wall_now());
    let ticket = made.map_err(|_| Problem::unavailable("no ticket can be made"))?;
    Ok(Json(TicketView { url: format!("/v1/recordings/{recording}/audio?ticket={ticket}"), expires_in_s: TICKET_S }))
}

#[derive(Deserialize)]
struct TicketInAddress {
    ticket: Option<String>,
}

/// Who listens: by an access token, or by a ticket in the address.
pub struct Listener(Caller);

impl FromRequestParts<Shared> for Listener {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let given = Query::<TicketInAddress>::try_from_uri(&parts.uri).ok().and_then(|query| query.0.ticket);
        let Some(ticket) = given.filter(|_| !parts.headers.contains_key(header::AUTHORIZATION)) else {
            return Ok(Self(Caller::from_request_parts(parts, app).await?));
        };
        let Source(source) = Source::from_request_parts(parts, app).await?;
        let Path(recording) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        Ok(Self(app.ticket_holder(&ticket, &recording, source).await?))
    }
}

pub async fn audio(
    state: State<Shared>,
    Listener(caller): Listener,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    stream(state, caller, id, headers, RecordingFile::Flac).await
}
pub async fn manifest(
    state: State<Shared>,
    caller: Caller,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    stream(state, caller, id, headers, RecordingFile::Manifest).await
}
pub async fn consent(
    state: State<Shared>,
    caller: Caller,
    id: Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    stream(state, caller, id, headers, RecordingFile::Consent).await
}

async fn stream(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    file: RecordingFile,
) -> Result<Response, Problem> {
    let recording = app.recording_for(&caller, &id).await?;
    let recorder = recording.recorder.clone().ok_or_else(Problem::not_found)?;
    let context = Context { tenant: Some(caller.tenant.clone()), call: Some(recording.call.clone()), epoch: None };
    let ask = GrantFile { recording: recording.id.clone(), file };
    let grant = app.bus.request(Target::Node(recorder), &context, &ask, GRANT_TIMEOUT).await.map_err(|error| {
        tracing::info!(call = %recording.call, recording = %recording.id, %error, "no file from the recorder");
        match error {
            offhook_bus::BusError::Refused(r) if r.code == offhook_contract::ErrorCode::NotFound => {
                Problem::not_found()
            }
            _ => Problem::unavailable("the recorder that has the file does not answer"),
        }
    })?;
    let what = match file {
        RecordingFile::Flac => "listen_to_recording",
        RecordingFile::Manifest => "read_recording_manifest",
        RecordingFile::Consent => "read_recording_consent",
    };
    // A player asks for many ranges; the first one is the access.
    let range = headers.get(header::RANGE).cloned();
    if range.as_ref().and_then(|r| r.to_str().ok()).is_none_or(|r| r.starts_with("bytes=0-")) {
        app.audit(&caller.tenant, caller.name(), what, recording.id.to_string(), "ok", caller.source).await;
    }
    let fetched = app.fetcher.get(&grant, range).await.map_err(|error| {
        tracing::warn!(call = %recording.call, recording = %recording.id, %error, "the recorder's file listener failed");
        Problem::unavailable("the recorder that has the file does not answer")
    })?;
    pass_on(fetched, file)
}

/// Status, length and ranges as the recorder gave them; the type is ours to say.
fn pass_on(fetched: reqwest::Response, file: RecordingFile) -> Result<Response, Problem> {
    let status = match fetched.status().as_u16() {
        code @ (200 | 206 | 416) => StatusCode::from_u16(code).unwrap_or(StatusCode::OK),
        404 => return Err(Problem::not_found()),
        _ => return Err(Problem::unavailable("the recorder does not give the file")),
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    for name in [header::CONTENT_LENGTH, header::CONTENT_RANGE, header::ACCEPT_RANGES, header::ETAG] {
        if let Some(value) = fetched.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let kind = match file {
        RecordingFile::Flac => "audio/flac",
        RecordingFile::Manifest => "application/json",
        RecordingFile::Consent => "application/x-ndjson",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = Body::from_stream(fetched.bytes_stream());
    Ok(response)
}
