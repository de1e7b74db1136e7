//! Every route of the API, once: the router and the OpenAPI document are both made from this table.
use super::{Shared, auth, calls, me, openapi, recordings, turn, ws};
use axum::routing::{MethodRouter, delete, get, patch, post};

/// What a client must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    /// An access token or an API key.
    Bearer,
    /// Under `--dev` only.
    Dev,
}

#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    /// Schema names of the body and of the answer.
    pub body: Option<&'static str>,
    pub answer: &'static str,
    handler: fn() -> MethodRouter<Shared>,
}

macro_rules! route {
    ($method:literal $path:literal $access:ident $body:expr => $answer:literal, $summary:literal, $handler:expr) => {
        Route {
            method: $method,
            path: $path,
            access: Access::$access,
            summary: $summary,
            body: $body,
            answer: $answer,
            handler: || $handler,
        }
    };
}

pub const ROUTES: &[Route] = &[
    route!("post" "/v1/sign-in" Open Some("SignIn") => "SignedIn", "Sign in with login and password", post(auth::sign_in)),
    route!("post" "/v1/refresh" Open Some("Refresh") => "SignedIn", "Exchange a refresh token for new tokens", post(auth::refresh)),
    route!("post" "/v1/sign-out" Bearer Some("SignOut") => "Empty", "End a sign-in", post(auth::sign_out)),
    route!("get" "/v1/dev/users" Dev None => "DevUsers", "The users of --dev", get(me::dev_users)),
    route!("post" "/v1/dev/sign-in" Dev Some("DevSignIn") => "SignedIn", "Sign in by one click", post(me::dev_sign_in)),
    route!("get" "/v1/me" Bearer None => "Me", "The signed-in user", get(me::me)),
    route!("get" "/v1/calls" Bearer None => "Calls", "The call log, newest first", get(calls::list)),
    route!("post" "/v1/calls" Bearer Some("NewCall") => "CreatedCall", "Ring a user's pages, then dial", post(calls::create)),
    route!("get" "/v1/calls/{id}" Bearer None => "Call", "One call with its first 2000 events; events_next says that there are more", get(calls::one)),
    route!("get" "/v1/calls/{id}/events" Bearer None => "CallEvents", "A call's events, oldest first", get(calls::events)),
    route!("post" "/v1/calls/{id}/hangup" Bearer None => "Empty", "End a call", post(calls::hang_up)),
    route!("get" "/v1/recordings/{id}" Bearer None => "Recording", "One recording", get(recordings::one)),
    route!("get" "/v1/recordings/{id}/audio" Bearer None => "Audio", "The two-channel FLAC, with ranges; a ticket stands for the token", get(recordings::audio)),
    route!("post" "/v1/recordings/{id}/ticket" Bearer None => "Ticket", "An address for a browser's player, good for ten minutes", post(recordings::ticket)),
    route!("get" "/v1/recordings/{id}/manifest" Bearer None => "Manifest", "Files, times and checksums", get(recordings::manifest)),
    route!("get" "/v1/recordings/{id}/consent" Bearer None => "Consent", "The consent log", get(recordings::consent)),
    route!("get" "/v1/settings/recording" Bearer None => "RecordingSetting", "When calls are recorded", get(me::recording_setting)),
    route!("patch" "/v1/settings/recording" Bearer Some("RecordingSetting") => "RecordingSetting", "Change it: for admins and API keys", patch(me::set_recording_setting)),
    route!("get" "/v1/ice-servers" Bearer None => "IceServers", "TURN credentials for ten minutes", get(me::ice_servers)),
    route!("get" "/v1/turn/sessions" Bearer None => "TurnSessions", "A user's TURN sessions: for admins and API keys", get(turn::list)),
    route!("delete" "/v1/turn/sessions" Bearer None => "TurnEnded", "End them, and refuse the credentials given out so far: for admins and API keys", delete(turn::end)),
    route!("get" "/v1/ws" Open None => "WebSocket", "Commands and events; the token is in the first frame", get(ws::open)),
    route!("get" "/openapi.json" Open None => "Document", "This document", get(openapi::document)),
];

/// The routes that exist here: those of `--dev` are absent elsewhere, not merely refused.
pub fn existing(dev: bool) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |r| dev || r.access != Access::Dev)
}

pub fn router(dev: bool) -> axum::Router<Shared> {
    existing(dev).fold(axum::Router::new(), |router, route| router.route(route.path, (route.handler)()))
}
