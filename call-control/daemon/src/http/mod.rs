//! The HTTP and WebSocket API, and the pages.
mod assets;
pub mod auth;
mod body;
mod calls;
mod me;
mod openapi;
mod problem;
mod recordings;
mod refused;
pub mod routes;
mod source;
mod turn;
mod ws;

pub use assets::Assets;
pub use refused::Refused;
pub use source::Gate;

use crate::engine::Engine;
use crate::fetcher::Fetcher;
use crate::ice::IceServers;
use crate::store::Store;
use crate::tokens::Tokens;
use crate::turn::Revocations;
use crate::writer::Writer;
use arc_swap::ArcSwap;
use auth::Source;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use offhook_bus::{Bus, NodeTable};
use offhook_contract::TenantId;
use offhook_control_core::{Policy, RecordingMode, User, UserId};
use offhook_runtime::Counter;
use problem::Problem;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a reader waits for what the writer has not committed yet, before it is told that the database is away.
pub const READ_PATIENCE: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What every handler may use.
pub struct App {
    pub store: Store,
    pub writer: Writer,
    pub engine: Engine,
    pub bus: Bus,
    pub nodes: NodeTable,
    pub tokens: Tokens,
    pub gate: Gate,
    pub fetcher: Fetcher,
    pub assets: Assets,
    pub policy: ArcSwap<Policy>,
    pub ice: IceServers,
    pub revocations: Revocations,
    pub trusted_proxies: Vec<IpAddr>,
    pub allowed_origins: Vec<String>,
    pub commands_per_s: u32,
    /// The tenant of `--dev`.
    pub dev: Option<TenantId>,
    /// Who is disabled, read anew every few seconds: their pages are closed.
    pub disabled: Disabled,
    /// We speak TLS ourselves.
    pub tls: bool,
    /// The pages are reached over TLS, ours or a proxy's.
    pub secure: bool,
    pub auth_failures: Counter,
    pub throttled: Counter,
    pub refused: Refused,
}

pub type Shared = Arc<App>;
pub type Disabled = watch::Receiver<HashSet<(TenantId, UserId)>>;

impl App {
    /// The user whose extension was dialled, if there is one, and how the tenant's calls are recorded. An emergency
    /// number is nobody's extension, and waits for no database.
    pub async fn resolve(&self, tenant: &TenantId, dialled: &str) -> Result<(Option<User>, RecordingMode), Problem> {
        let dialled = dialled.trim();
        if self.policy.load().dial.is_emergency(dialled) {
            return Ok((None, RecordingMode::Off));
        }
        let row = self.store.tenant(tenant).await?.ok_or_else(Problem::not_found)?;
        let callee = match dialled.len() {
            1..=32 => self.store.user_by_extension(tenant, dialled).await?,
            _ => None,
        };
        Ok((callee.map(|u| u.user()), row.recording))
    }
}

/// The whole application.
pub fn application(app: Shared) -> axum::Router {
    let api = routes::router(app.dev.is_some())
        .layer(middleware::from_fn(time_limit))
        .layer(middleware::from_fn_with_state(app.clone(), rate_limit))
        .layer(middleware::from_fn(body::refuse_large))
        .layer(axum::extract::DefaultBodyLimit::max(body::MAX_BODY_BYTES));
    api.route("/v1", axum::routing::any(no_such_route))
        .route("/v1/{*rest}", axum::routing::any(no_such_route))
        .fallback_service(axum::routing::get(assets::serve).fallback(wrong_method).with_state(app.clone()))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), surround))
        .with_state(app)
}

async fn no_such_route() -> Problem {
    Problem::not_found()
}

async fn wrong_method() -> Problem {
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "invalid", "this address does not take this method")
}

const NO_TLS: &str = "this port speaks plain HTTP, so only this machine and the proxies in control.trusted_proxies may \
                      use it: come through the TLS proxy, or set [tls]";

/// Outermost: finds the client's address, and puts the same headers on every answer.
async fn surround(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let source = source::client(peer, request.headers(), &app.trusted_proxies);
    request.extensions_mut().insert(Source(source));
    let is_api = request.uri().path().starts_with("/v1") || request.uri().path() == "/openapi.json";
    let method = request.method().clone();
    let mut response = match source::may_speak(peer, app.tls, &app.trusted_proxies) {
        true => next.run(request).await,
        false => Problem::forbidden(NO_TLS).into_response(),
    };
    app.refused.note(source, &method, &response);
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if app.secure {
        let lasting = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, lasting);
    }
    if is_api {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// No inline code, no foreign hosts, no frames; the microphone is ours alone.
const SECURITY_HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; \
         media-src 'self' blob:; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "microphone=(self), camera=(), geolocation=(), payment=(), usb=()"),
];

async fn rate_limit(State(app): State<Shared>, Source(source): Source, request: Request, next: Next) -> Response {
    if !app.gate.request(source, Instant::now()) {
        app.throttled.increment();
        return Problem::slow_down(1).into_response();
    }
    next.run(request).await
}

async fn time_limit(request: Request, next: Next) -> Response {
    // The headers' time: streams of recordings and WebSockets go on afterwards.
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long").into_response(),
    }
}
