//! A user's TURN sessions, for whoever administers the tenant: to look at, and to end.
use super::Shared;
use super::auth::Caller;
use super::problem::Problem;
use crate::store::UserRow;
use crate::turn;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use offhook_bus::wall_now;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// Id, login or extension.
    user: String,
}

type Asked = Result<Query<Whose>, QueryRejection>;

async fn meant(app: &Shared, caller: &Caller, whose: Asked) -> Result<UserRow, Problem> {
    if !caller.is_admin() {
        return Err(Problem::forbidden("only an admin may look into TURN sessions and end them"));
    }
    let Ok(Query(Whose { user })) = whose else {
        return Err(Problem::invalid("say whose: ?user= with an id, a login or an extension"));
    };
    // Disabled ones, too: what they still have is of interest.
    named(app.store.all_users(&caller.tenant).await?, &user)
}

/// One's login may look like another's extension: then only an id says who is meant.
fn named(users: Vec<UserRow>, name: &str) -> Result<UserRow, Problem> {
    let (mut by_id, others): (Vec<_>, Vec<_>) = users.into_iter().partition(|row| row.id.as_str() == name);
    if let Some(user) = by_id.pop() {
        return Ok(user);
    }
    let mut found = others.into_iter().filter(|row| row.login == name || row.extension == name);
    match (found.next(), found.next()) {
        (Some(user), None) => Ok(user),
        (Some(_), Some(_)) => {
            let why = "one user's login is another's extension: say the id";
            Err(Problem::new(StatusCode::CONFLICT, "conflict", why))
        }
        (None, _) => Err(Problem::not_found()),
    }
}

pub async fn list(State(app): State<Shared>, caller: Caller, whose: Asked) -> Result<Json<Value>, Problem> {
    let user = meant(&app, &caller, whose).await?;
    let found = turn::sessions(&app.bus, &app.nodes, &user.id).await;
    let rows: Vec<Value> = found
        .sessions
        .into_iter()
        .map(|(node, session)| {
            json!({
                "node": node,
                "client": session.client,
                "transport": session.transport,
                "relayed": session.relayed,
                "began_ms": session.began_ms,
                "up": session.up,
                "down": session.down,
            })
        })
        .collect();
    Ok(Json(json!({ "data": rows, "total": found.total, "missing": found.missing })))
}

pub async fn end(State(app): State<Shared>, caller: Caller, whose: Asked) -> Result<Json<Value>, Problem> {
    let user = match meant(&app, &caller, whose).await {
        Ok(user) => user,
        Err(refused) => {
            app.audit(&caller.tenant, caller.name(), "end_turn_sessions", String::new(), "refused", caller.source)
                .await;
            return Err(refused);
        }
    };
    let at = wall_now();
    if let Err(error) = app.store.revoke_turn(&caller.tenant, &user.id, at).await {
        tracing::warn!(%error, "a call-control that starts later does not know whose TURN sessions were to end");
    }
    let (ended, missing) = app.revocations.end(&app.bus, &app.nodes, &user.id, at).await;
    let result = if missing.is_empty() { "ok" } else { "incomplete" };
    app.audit(&caller.tenant, caller.name(), "end_turn_sessions", user.id.to_string(), result, caller.source).await;
    Ok(Json(json!({ "ended": ended, "missing": missing })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::TenantId;
    use offhook_control_core::UserId;

    #[test]
    fn an_id_names_its_user_and_what_names_two_names_nobody() {
        let user = |id: &str, login: &str, extension: &str| UserRow {
            tenant: TenantId::parse("t").unwrap(),
            id: UserId::new(id),
            login: login.to_owned(),
            name: String::new(),
            extension: extension.to_owned(),
            password_hash: None,
            admin: false,
            disabled: false,
        };
        let users = || {
            vec![user("u1", "u2", "101"), user("u2", "102", "103"), user("u3", "104", "102"), user("u4", "105", "105")]
        };
        let found = |name: &str| {
            named(users(), name).map(|row| row.id.to_string()).map_err(|problem| problem.status().as_u16())
        };
        assert_eq!((found("u2"), found("103"), found("104")), (Ok("u2".into()), Ok("u2".into()), Ok("u3".into())));
        assert_eq!((found("105"), found("102"), found("9")), (Ok("u4".into()), Err(409), Err(404)));
    }
}
