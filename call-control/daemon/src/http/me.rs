//! What a page needs to know about its user; the settings; ICE servers; the users of `--dev`.
use super::auth::{Caller, SignedIn, Source};
use super::body::Body;
use super::problem::Problem;
use super::{App, Shared};
use crate::ice;
use crate::store::UserRow;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use offhook_bus::wall_now;
use offhook_contract::TenantId;
use offhook_control_core::{RecordingMode, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Clone, Serialize)]
pub struct Me {
    user: MyUser,
    tenant: MyTenant,
    features: Features,
}

#[derive(Debug, Clone, Serialize)]
struct MyUser {
    id: UserId,
    name: String,
    login: String,
    extension: String,
    admin: bool,
}

#[derive(Debug, Clone, Serialize)]
struct MyTenant {
    id: TenantId,
    name: String,
}

#[derive(Debug, Clone, Serialize)]
struct Features {
    emergency_calls: bool,
    recording: RecordingMode,
    outbound_calls: bool,
}

impl App {
    pub async fn me_of(&self, user: &UserRow) -> Result<Me, Problem> {
        let tenant = self.store.tenant(&user.tenant).await?.ok_or_else(Problem::not_found)?;
        let policy = self.policy.load();
        Ok(Me {
            user: MyUser {
                id: user.id.clone(),
                name: user.name.clone(),
                login: user.login.clone(),
                extension: user.extension.clone(),
                admin: user.admin,
            },
            features: Features {
                emergency_calls: policy.emergency_calls(&tenant.id),
                recording: tenant.recording,
                outbound_calls: policy.outbound_calls(&tenant.id),
            },
            tenant: MyTenant { id: tenant.id, name: tenant.name },
        })
    }
}

fn signed_in(caller: &Caller) -> Result<&UserRow, Problem> {
    caller.user().ok_or_else(|| Problem::forbidden("an API key is no user"))
}

pub async fn me(State(app): State<Shared>, caller: Caller) -> Result<Json<Me>, Problem> {
    Ok(Json(app.me_of(signed_in(&caller)?).await?))
}

pub async fn ice_servers(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let user = signed_in(&caller)?;
    let servers = app.ice.for_page(ice::page_host(&headers).as_deref(), &user.id, wall_now());
    Ok(Json(json!({ "ice_servers": servers, "ttl_s": ice::TTL_S })))
}

pub async fn recording_setting(State(app): State<Shared>, caller: Caller) -> Result<Json<Value>, Problem> {
    let tenant = app.store.tenant(&caller.tenant).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(json!({ "mode": tenant.recording })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingSetting {
    mode: RecordingMode,
}

pub async fn set_recording_setting(
    State(app): State<Shared>,
    caller: Caller,
    body: Body<RecordingSetting>,
) -> Result<Json<Value>, Problem> {
    let mode = body.value.mode;
    let audit = async |result| {
        let (tenant, who, source) = (&caller.tenant, caller.name(), caller.source);
        app.audit(tenant, who, "set_recording_mode", mode.as_str().to_owned(), result, source).await;
    };
    if !caller.is_admin() {
        audit("refused").await;
        return Err(Problem::forbidden("only an admin may change what is recorded for everybody"));
    }
    app.store.set_recording_mode(&caller.tenant, mode).await?;
    audit("ok").await;
    Ok(Json(json!({ "mode": mode })))
}

/// A page elsewhere that resolves its own name to this address must not sign itself in.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub async fn dev_users(State(app): State<Shared>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    let tenant = app.dev.as_ref().filter(|_| is_local(&headers)).ok_or_else(Problem::not_found)?;
    let users = app.store.users(tenant).await?;
    let row = |u: &UserRow| json!({ "login": u.login, "name": u.name, "extension": u.extension });
    Ok(Json(json!({ "data": users.iter().map(row).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevSignIn {
    login: String,
}

pub async fn dev_sign_in(
    State(app): State<Shared>,
    Source(source): Source,
    headers: HeaderMap,
    body: Body<DevSignIn>,
) -> Result<Json<SignedIn>, Problem> {
    let tenant = app.dev.as_ref().filter(|_| is_local(&headers)).ok_or_else(Problem::not_found)?;
    let user = app.store.user_by_login(&body.value.login).await?;
    let user = user.filter(|u| u.tenant == *tenant).ok_or_else(Problem::not_found)?;
    app.audit(tenant, format!("user:{}", user.id), "dev_sign_in", user.login.clone(), "ok", source).await;
    Ok(Json(app.issue(tenant, &user.id, None).await?))
}
