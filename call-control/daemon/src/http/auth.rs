//! Signing in and out, and who stands behind a request.
use super::body::Body;
use super::problem::Problem;
use super::{App, Shared};
use crate::passwords;
use crate::store::{AuditRow, RefreshUse, UserRow};
use crate::tokens::{self, REFRESH_GRACE_MS, REFRESH_TOKEN_MS, Subject};
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header;
use axum::http::request::Parts;
use offhook_bus::wall_now;
use offhook_contract::{TenantId, UnixMs};
use offhook_control_core::{Actor, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::IpAddr;
use std::time::Instant;

/// The one who asks, from the token alone.
#[derive(Debug, Clone)]
pub struct Caller {
    pub tenant: TenantId,
    pub who: Who,
    pub source: IpAddr,
}

#[derive(Debug, Clone)]
pub enum Who {
    User(Box<UserRow>),
    /// The tenant's own key: sees all of the tenant, is nobody in a call.
    Key {
        id: String,
    },
}

impl Caller {
    pub fn user(&self) -> Option<&UserRow> {
        if let Who::User(user) = &self.who { Some(user) } else { None }
    }
    pub fn user_id(&self) -> Option<&UserId> {
        self.user().map(|u| &u.id)
    }
    /// A key is the tenant's own and may do what an admin may.
    pub fn is_admin(&self) -> bool {
        self.user().is_none_or(|user| user.admin)
    }
    /// For audit lines and idempotency keys.
    pub fn name(&self) -> String {
        match &self.who {
            Who::User(user) => format!("user:{}", user.id),
            Who::Key { id } => format!("key:{id}"),
        }
    }
    pub fn actor(&self) -> Actor {
        Actor { tenant: self.tenant.clone(), user: self.user().map(UserRow::user), session: None }
    }
}

/// The client's address, put into the request by the outermost layer.
#[derive(Debug, Clone, Copy)]
pub struct Source(pub IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Source {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| Problem::invalid("the client's address is unknown"))
    }
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let Source(source) = Source::from_request_parts(parts, app).await?;
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = header.and_then(|v| v.strip_prefix("Bearer ")).map(str::trim).unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(Problem::unauthorized("sign in, or send an API key, as \"Authorization: Bearer …\""));
        }
        app.caller(&token, source).await
    }
}

impl App {
    /// Whom a token or an API key speaks for. Failures are counted against the source.
    pub async fn caller(&self, token: &str, source: IpAddr) -> Result<Caller, Problem> {
        if !self.gate.may_try(source, Instant::now()) {
            return Err(Problem::slow_down(60));
        }
        let found = match tokens::looks_like_api_key(token) {
            true => self.key_holder(token).await?,
            false => self.user_of(self.tokens.check(token)).await?,
        };
        self.judged(found, source)
    }

    /// Whom a ticket to a recording's sound speaks for.
    pub async fn ticket_holder(&self, ticket: &str, recording: &str, source: IpAddr) -> Result<Caller, Problem> {
        if !self.gate.may_try(source, Instant::now()) {
            return Err(Problem::slow_down(60));
        }
        let found = self.user_of(self.tokens.check_ticket(ticket, recording)).await?;
        self.judged(found, source)
    }

    fn judged(&self, found: Result<(TenantId, Who), tokens::TokenError>, source: IpAddr) -> Result<Caller, Problem> {
        match found {
            Ok((tenant, who)) => Ok(Caller { tenant, who, source }),
            Err(refused) => {
                // An old token is what every page has after a night's sleep: no attack.
                if refused != tokens::TokenError::Expired {
                    self.gate.failed(source, Instant::now());
                    self.auth_failures.increment();
                }
                Err(Problem::unauthorized(&refused.to_string()))
            }
        }
    }

    async fn key_holder(&self, token: &str) -> Result<Result<(TenantId, Who), tokens::TokenError>, Problem> {
        let key = self.store.api_key_by_hash(&tokens::hash(token)).await?;
        Ok(key.map(|k| (k.tenant, Who::Key { id: k.id })).ok_or(tokens::TokenError::Invalid))
    }

    async fn user_of(
        &self,
        checked: Result<Subject, tokens::TokenError>,
    ) -> Result<Result<(TenantId, Who), tokens::TokenError>, Problem> {
        let subject = match checked {
            Ok(subject) => subject,
            Err(refused) => return Ok(Err(refused)),
        };
        let user = self.store.user(&subject.tenant, &subject.user).await?;
        Ok(user.map(|u| (subject.tenant, Who::User(Box::new(u)))).ok_or(tokens::TokenError::Invalid))
    }

    pub async fn audit(
        &self,
        tenant: &TenantId,
        actor: String,
        action: &'static str,
        object: String,
        result: &'static str,
        source: IpAddr,
    ) {
        let at = wall_now();
        let id = offhook_bus::new_message_id().to_string();
        let row = AuditRow { id, at, actor, action, object, result, source: source.to_string() };
        if let Err(error) = self.store.audit(tenant, &row).await {
            tracing::warn!(%error, action, "an audit line was lost");
        }
    }

    pub async fn issue(&self, tenant: &TenantId, user: &UserId, family: Option<String>) -> Result<SignedIn, Problem> {
        let now = wall_now();
        let refused = |_| Problem::unavailable("no token can be made");
        let access_token = self.tokens.issue(tenant, user, now).map_err(refused)?;
        let refresh_token = tokens::new_refresh_token()?;
        let hash = tokens::hash(&refresh_token);
        let family = family.unwrap_or_else(|| hash.clone());
        let expires = UnixMs(now.0 + REFRESH_TOKEN_MS);
        self.store.add_refresh_token(tenant, user, &hash, &family, now, expires).await?;
        Ok(SignedIn { access_token, expires_in_s: self.tokens.life_s(), refresh_token })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    login: String,
    password: String,
}

#[derive(Serialize)]
pub struct SignedIn {
    access_token: String,
    expires_in_s: u64,
    refresh_token: String,
}

pub async fn sign_in(
    State(app): State<Shared>,
    Source(source): Source,
    body: Body<SignIn>,
) -> Result<Json<SignedIn>, Problem> {
    let SignIn { login, password } = body.value;
    let now = Instant::now();
    if !app.gate.may_try(source, now) || !app.gate.may_sign_in(&login, now) {
        return Err(Problem::slow_down(60));
    }
    let user = if login.len() <= 128 { app.store.user_by_login(&login).await? } else { None };
    let kept = user.as_ref().and_then(|u| u.password_hash.clone());
    let right = passwords::verify(password, kept).await;
    match user.filter(|_| right) {
        Some(user) => {
            app.gate.signed_in(&login);
            app.audit(&user.tenant, format!("user:{}", user.id), "sign_in", login, "ok", source).await;
            Ok(Json(app.issue(&user.tenant, &user.id, None).await?))
        }
        None => {
            app.gate.failed(source, now);
            app.gate.sign_in_failed(&login, now);
            app.auth_failures.increment();
            tracing::info!(source = %offhook_runtime::shown_ip(source), "sign-in refused: wrong login or password");
            Err(Problem::unauthorized("the login or the password is wrong"))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    refresh_token: String,
}

pub async fn refresh(
    State(app): State<Shared>,
    Source(source): Source,
    body: Body<Refresh>,
) -> Result<Json<SignedIn>, Problem> {
    let now = Instant::now();
    if !app.gate.may_try(source, now) {
        return Err(Problem::slow_down(60));
    }
    let hash = tokens::hash(&body.value.refresh_token);
    match app.store.use_refresh_token(&hash, wall_now(), REFRESH_GRACE_MS).await? {
        RefreshUse::Fresh { tenant, user, family } => {
            app.store.user(&tenant, &user).await?.ok_or_else(|| Problem::unauthorized("sign in again"))?;
            Ok(Json(app.issue(&tenant, &user, Some(family)).await?))
        }
        outcome => {
            if outcome == RefreshUse::Reused {
                tracing::warn!(source = %offhook_runtime::shown_ip(source), "a refresh token was used twice: its sign-in is ended");
            }
            app.gate.failed(source, now);
            app.auth_failures.increment();
            Err(Problem::unauthorized("sign in again"))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignOut {
    refresh_token: Option<String>,
}

pub async fn sign_out(
    State(app): State<Shared>,
    caller: Caller,
    body: Body<SignOut>,
) -> Result<Json<serde_json::Value>, Problem> {
    if let Some(token) = body.value.refresh_token {
        app.store.revoke_refresh_family(&caller.tenant, &tokens::hash(&token), wall_now()).await?;
    }
    app.audit(&caller.tenant, caller.name(), "sign_out", String::new(), "ok", caller.source).await;
    Ok(Json(json!({})))
}
