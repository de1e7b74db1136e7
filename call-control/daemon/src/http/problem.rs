//! Errors as RFC 9457 problem details.
use crate::engine::Stopped;
use crate::store::StoreError;
use crate::writer::NotFlushed;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use offhook_control_core::{CommandError, RefusalCode};
use serde::Serialize;

/// `code` is for programs, `detail` one sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    #[serde(serialize_with = "number")]
    status: StatusCode,
    detail: String,
    pub code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<offhook_contract::HangupCause>,
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

fn number<S: serde::Serializer>(status: &StatusCode, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u16(status.as_u16())
}

/// What a refusal said, for the log.
#[derive(Debug, Clone)]
pub struct Told {
    pub code: &'static str,
    pub detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status, detail: detail.into(), code, cause: None, retry_after_s: None }
    }
    /// The one answer for what is absent and for what is another tenant's.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing")
    }
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }
    pub fn forbidden(detail: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than 1 MiB")
    }
    pub fn slow_down(retry_after_s: u64) -> Self {
        let detail = "too many requests; wait and try again";
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::TOO_MANY_REQUESTS, "limit_reached", detail) }
    }
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self { retry_after_s: Some(2), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry) = (self.status, self.retry_after_s);
        let told = Told { code: self.code, detail: self.detail.clone() };
        let mut response = (status, Json(self)).into_response();
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a request failed at the database");
        Self::unavailable("the database does not answer")
    }
}

impl From<NotFlushed> for Problem {
    fn from(error: NotFlushed) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<Stopped> for Problem {
    fn from(error: Stopped) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl From<crate::secrets::SecretError> for Problem {
    fn from(error: crate::secrets::SecretError) -> Self {
        tracing::error!(%error, "no randomness");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server failed")
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let status = match error.code {
            RefusalCode::NotFound if error.cause.is_none() => return Self::not_found(),
            RefusalCode::NotFound | RefusalCode::Refused => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalCode::Invalid => StatusCode::BAD_REQUEST,
            RefusalCode::Conflict => StatusCode::CONFLICT,
            RefusalCode::LimitReached => StatusCode::TOO_MANY_REQUESTS,
            RefusalCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { cause: error.cause, ..Self::new(status, error.code.as_str(), error.message) }
    }
}
