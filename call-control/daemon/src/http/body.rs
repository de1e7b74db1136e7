//! JSON bodies: bounded in size and depth before anything is parsed.
use super::problem::Problem;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use std::time::Duration;

pub const MAX_BODY_BYTES: usize = 1 << 20;
pub const MAX_DEPTH: usize = 32;
const MAX_DRAINED_BYTES: usize = 4 * MAX_BODY_BYTES;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// A JSON body of type `T`, with its bytes.
pub struct Body<T> {
    pub value: T,
    pub bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type =
            request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        // Also what keeps foreign pages out: they cannot send this type without being asked first.
        if content_type.split(';').next().map(str::trim) != Some("application/json") {
            let status = axum::http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "invalid", "send the body as application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            match rejection.status() == axum::http::StatusCode::PAYLOAD_TOO_LARGE {
                true => Problem::too_large(),
                false => Problem::invalid("the body cannot be read"),
            }
        })?;
        if is_too_deep(&bytes) {
            return Err(Problem::invalid(format!("the body is nested deeper than {MAX_DEPTH}")));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::invalid(format!("the body is not right: {error}")))?;
        Ok(Self { value, bytes })
    }
}

/// Refuses a body by the length it announces. A moderate one is read to its end first: a client that is still sending
/// when the connection closes would not hear the answer.
pub async fn refuse_large(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(length) if length > MAX_BODY_BYTES => {
            if length <= MAX_DRAINED_BYTES {
                let drained = axum::body::to_bytes(request.into_body(), MAX_DRAINED_BYTES);
                // Slow ones are not waited for.
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
            }
            Problem::too_large().into_response()
        }
        _ => next.run(request).await,
    }
}

/// Counts open brackets outside strings; what is no JSON is found by the parser.
pub fn is_too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(is_too_deep("[".repeat(33).as_bytes()));
        assert!(!is_too_deep("[]".repeat(100).as_bytes()));
        assert!(!is_too_deep(format!("\"{}\"", "[".repeat(100)).as_bytes()));
        assert!(!is_too_deep(br#"{"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["}"#));
    }
}
