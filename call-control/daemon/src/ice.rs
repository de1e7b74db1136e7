//! ICE servers for a browser, with TURN credentials that live ten minutes.
use crate::config::Turn;
use offhook_contract::UnixMs;
use offhook_control_core::UserId;
use serde::Serialize;

pub const TTL_S: u64 = 600;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Empty without `[turn]`: our SFUs need none.
pub fn servers(turn: Option<&Turn>, user: &UserId, now: UnixMs) -> Vec<IceServer> {
    let Some(turn) = turn else { return Vec::new() };
    let expires = now.0 / 1000 + TTL_S;
    let minted = offhook_wire_stun::credentials::mint(turn.secret.expose().as_bytes(), expires, user.as_str());
    vec![IceServer { urls: turn.urls.clone(), username: Some(minted.username), credential: Some(minted.password) }]
}
