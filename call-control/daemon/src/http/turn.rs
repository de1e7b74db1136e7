//! A user's TURN sessions, for whoever administers the tenant: to look at, and to end.
use super::Shared;
use super::auth::Caller;
use super::problem::Problem;
use crate::store::UserRow;
use crate::turn;
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use offhook_bus::BusError;
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
    let mut users = app.store.all_users(&caller.tenant).await?.into_iter();
    let found = users.find(|row| row.id.as_str() == user || row.login == user || row.extension == user);
    found.ok_or_else(Problem::not_found)
}

fn unreachable(error: BusError) -> Problem {
    Problem::unavailable(format!("a TURN server does not answer: {error}"))
}

pub async fn list(State(app): State<Shared>, caller: Caller, whose: Asked) -> Result<Json<Value>, Problem> {
    let user = meant(&app, &caller, whose).await?;
    let (sessions, total) = turn::sessions(&app.bus, &app.nodes, &user.id).await.map_err(unreachable)?;
    let rows: Vec<Value> = sessions
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
    Ok(Json(json!({ "data": rows, "total": total })))
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
    let ended = turn::revoke(&app.bus, &app.nodes, &user.id).await;
    let result = if ended.is_ok() { "ok" } else { "failed" };
    app.audit(&caller.tenant, caller.name(), "end_turn_sessions", user.id.to_string(), result, caller.source).await;
    Ok(Json(json!({ "ended": ended.map_err(unreachable)? })))
}
