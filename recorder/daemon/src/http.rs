//! The private listener: finished files, each under a token of its own that call-control was granted for a short
//! time. Plain HTTP on loopback; on other addresses TLS with the certificate whose fingerprint the grant names.
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use offhook_contract::Secret;
use offhook_contract::recorder::RecordingFile;
use offhook_link::{Identity, RandomError, random_token};
use offhook_runtime::{Counter, LogThrottle, Metrics};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{self, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Grants alive at a time.
const MAX_GRANTS: usize = 10_000;
const CHUNK_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("{MAX_GRANTS} files are granted already; try again in a minute")]
    Full,
    #[error(transparent)]
    Random(#[from] RandomError),
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("recorder.listen {address} cannot be used")]
    Bind { address: SocketAddr, source: io::Error },
}

#[derive(Debug, Clone)]
struct Grant {
    path: PathBuf,
    file: RecordingFile,
    /// As an entity tag.
    sha256: String,
    until: Instant,
}

/// Tokens and what they open. Kept by the token's hash, so that looking one up tells nothing about the others.
#[derive(Debug, Clone)]
pub struct Grants {
    grants: Arc<Mutex<HashMap<[u8; 32], Grant>>>,
    ttl: Duration,
    refused: Counter,
    log: Arc<LogThrottle>,
}

impl Grants {
    pub fn new(ttl: Duration, metrics: &Metrics) -> Self {
        let refused = metrics.counter("file_requests_refused_total", "Requests for files without a valid token.");
        Self { grants: Arc::default(), ttl, refused, log: Arc::default() }
    }

    fn refuse(&self, path: &str) -> Response {
        self.refused.increment();
        if let Some(held_back) = self.log.pass() {
            // The path holds the token, so it is not shown.
            let path = if path.starts_with("/files/") { "/files/…" } else { "another" };
            tracing::warn!(path, held_back, "file request refused: no such token, or not any more");
        }
        StatusCode::NOT_FOUND.into_response()
    }

    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A token for one file.
    pub fn grant(&self, path: PathBuf, file: RecordingFile, sha256: String) -> Result<Secret, GrantError> {
        let token = random_token()?;
        let now = Instant::now();
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= MAX_GRANTS {
            grants.retain(|_, grant| grant.until > now);
        }
        if grants.len() >= MAX_GRANTS {
            return Err(GrantError::Full);
        }
        grants.insert(key(token.expose()), Grant { path, file, sha256, until: now + self.ttl });
        Ok(token)
    }

    fn find(&self, token: &str) -> Option<Grant> {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(token);
        if grants.get(&key)?.until <= Instant::now() {
            grants.remove(&key);
        }
        grants.get(&key).cloned()
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The listeners; dropping them ends them.
#[derive(Debug)]
pub struct FileServer {
    pub bound: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub async fn listen(addresses: &[SocketAddr], identity: &Identity, grants: &Grants) -> Result<FileServer, ListenError> {
    let router = Router::new().route("/files/{token}", get(serve)).fallback(elsewhere).with_state(grants.clone());
    let mut server = FileServer { bound: Vec::new(), tasks: Vec::new() };
    for address in addresses {
        let failed = |source| ListenError::Bind { address: *address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
        server.bound.push(listener.local_addr().map_err(failed)?);
        let task = if address.ip().is_loopback() {
            let router = router.clone();
            tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_else(|error| ended(&error)) })
        } else {
            serve_tls(listener.into_std().map_err(failed)?, identity, router.clone()).map_err(failed)?
        };
        server.tasks.push(task);
    }
    Ok(server)
}

fn serve_tls(listener: std::net::TcpListener, identity: &Identity, router: Router) -> io::Result<JoinHandle<()>> {
    let mut tls = identity.server_config().map_err(io::Error::other)?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tls = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(tls));
    let acceptor = axum_server::from_tcp_rustls(listener, tls)?;
    Ok(tokio::spawn(async move {
        acceptor.serve(router.into_make_service()).await.unwrap_or_else(|error| ended(&error));
    }))
}

fn ended(error: &io::Error) {
    tracing::error!(%error, "the file listener ended");
}

async fn elsewhere(State(grants): State<Grants>, uri: Uri) -> Response {
    grants.refuse(uri.path())
}

async fn serve(
    State(grants): State<Grants>,
    UrlPath(token): UrlPath<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Some(grant) = grants.find(&token) else { return grants.refuse("/files/") };
    match answer(&grant, &method, &headers).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(path = %grant.path.display(), %error, "a granted file cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn answer(grant: &Grant, method: &Method, headers: &HeaderMap) -> io::Result<Response> {
    let mut file = File::open(&grant.path).await?;
    let length = file.metadata().await?.len();
    let tag = format!("\"{}\"", grant.sha256);
    // RFC 9110 §13.1.5: a range asked of another version is not given.
    let same = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes());
    let wanted = headers.get(header::RANGE).filter(|_| same).and_then(|range| range.to_str().ok());
    let (status, from, until) = match wanted.map_or(Range::Whole, |text| parse_range(text, length)) {
        Range::Whole => (StatusCode::OK, 0, length),
        Range::Part { from, until } => (StatusCode::PARTIAL_CONTENT, from, until),
        Range::Unsatisfiable => {
            let refused = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, refused).into_response());
        }
    };
    file.seek(SeekFrom::Start(from)).await?;
    let body = if method == Method::HEAD { Body::empty() } else { Body::from_stream(chunks(file, until - from)) };
    let mut response = Response::builder().status(status);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(header::CONTENT_RANGE, format!("bytes {from}-{}/{length}", until.saturating_sub(1)));
    }
    let fixed: [(HeaderName, &str); 4] = [
        (header::CONTENT_TYPE, media_type(grant.file)),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        response = response.header(name, value);
    }
    response
        .header(header::ETAG, HeaderValue::from_str(&tag).map_err(io::Error::other)?)
        .header(header::CONTENT_LENGTH, until - from)
        .body(body)
        .map_err(io::Error::other)
}

const fn media_type(file: RecordingFile) -> &'static str {
    match file {
        RecordingFile::Flac => "audio/flac",
        RecordingFile::Manifest => "application/json",
        RecordingFile::Consent => "application/x-ndjson",
    }
}

fn chunks(file: File, left: u64) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let mut chunk = vec![0; usize::try_from(left.min(CHUNK_BYTES)).unwrap_or(0)];
        match file.read(&mut chunk).await {
            Ok(0) => Some((Err(io::ErrorKind::UnexpectedEof.into()), (file, 0))),
            Ok(read) => {
                chunk.truncate(read);
                Some((Ok(Bytes::from(chunk)), (file, left - read as u64)))
            }
            Err(error) => Some((Err(error), (file, 0))),
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// From the first byte up to, not including, the second.
    Part {
        from: u64,
        until: u64,
    },
    Unsatisfiable,
}

/// RFC 9110 §14.1.2. Several ranges, or what cannot be read, are answered with the whole (§14.2 allows it).
fn parse_range(text: &str, length: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Whole;
    };
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let (from, until) = match (first, last) {
        ("", suffix) => match number(suffix) {
            Some(count) => (length.saturating_sub(count), length),
            None => return Range::Whole,
        },
        (first, "") => match number(first) {
            Some(from) => (from, length),
            None => return Range::Whole,
        },
        (first, last) => match number(first).zip(number(last)) {
            Some((from, last)) if from <= last => (from, last.saturating_add(1).min(length)),
            _ => return Range::Whole,
        },
    };
    if from >= until { Range::Unsatisfiable } else { Range::Part { from, until } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, expected) in [
            ("bytes=0-99", Range::Part { from: 0, until: 100 }),
            ("bytes=500-", Range::Part { from: 500, until: 1_000 }),
            ("bytes=-200", Range::Part { from: 800, until: 1_000 }),
            ("bytes=-2000", Range::Part { from: 0, until: 1_000 }),
            ("bytes=990-5000", Range::Part { from: 990, until: 1_000 }),
            ("bytes=1000-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=9-3", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=18446744073709551616-", Range::Whole),
            ("items=0-1", Range::Whole),
        ] {
            assert_eq!(parse_range(text, 1_000), expected, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Range::Unsatisfiable);
    }

    #[tokio::test]
    async fn off_loopback_files_travel_under_the_pinned_certificate_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("consent.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let grants = Grants::new(Duration::from_secs(60), &Metrics::default());
        let token = grants.grant(path, RecordingFile::Consent, "ab".to_owned()).unwrap();
        let identity = Identity::generate().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://{}/files/{}", listener.local_addr().unwrap(), token.expose());
        let router = Router::new().route("/files/{token}", get(serve)).with_state(grants);
        let task = serve_tls(listener, &identity, router).unwrap();
        let client = |fingerprint| {
            let pinned = offhook_link::pinned_client_config(fingerprint).unwrap();
            reqwest::Client::builder().tls_backend_preconfigured(pinned).build().unwrap()
        };
        let response = client(identity.fingerprint()).get(&url).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        assert_eq!(response.text().await.unwrap(), "{}\n");
        let other = Identity::generate().unwrap().fingerprint();
        assert!(client(other).get(&url).send().await.is_err());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_ends_with_its_time() {
        let grants = Grants::new(Duration::from_secs(60), &Metrics::default());
        let token = grants.grant("a".into(), RecordingFile::Flac, String::new()).unwrap();
        assert!(grants.find(token.expose()).is_some() && grants.find("other").is_none());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(grants.find(token.expose()).is_none());
    }
}
