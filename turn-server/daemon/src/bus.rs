//! What the bus asks of a TURN server: whose sessions run, and that an account's end.
use crate::native::Live;
use crate::server::Server;
use crate::sessions::Whose;
use offhook_bus::{Incoming, wall_now};
use offhook_contract::envelope::Request;
use offhook_contract::turn::{ListTurnSessions, RevokeTurnUser, TurnRevoked, TurnSessions};
use offhook_contract::{ErrorCode, RequestError, UnixMs};
use offhook_turn_core::Users;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Accounts whose credentials are refused at one time.
const REVOKED_MAX: usize = 10_000;
/// Longer than any credentials that call-control gives out.
const REVOKED_FOR_MS: u64 = 24 * 3_600_000;
const USER_BYTES: usize = 256;

/// Accounts, and until when (Unix milliseconds) the credentials that they hold are refused.
#[derive(Debug, Default)]
pub(crate) struct Revoked(BTreeMap<String, u64>);

impl Revoked {
    /// Adds one, and forgets those whose credentials have ended by themselves.
    fn add(&mut self, user: &str, until: UnixMs, now: UnixMs) -> Result<(), RequestError> {
        self.0.retain(|_, until| *until > now.0);
        if self.0.len() >= REVOKED_MAX && !self.0.contains_key(user) {
            let why = format!("the credentials of {REVOKED_MAX} accounts are revoked already");
            return Err(RequestError::new(ErrorCode::Exhausted, why));
        }
        let until = until.0.min(now.0 + REVOKED_FOR_MS);
        let known = self.0.entry(user.to_owned()).or_default();
        *known = until.max(*known);
        Ok(())
    }

    /// In whole seconds, as user names count.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.0.iter().map(|(user, until)| (user.clone(), until.div_ceil(1_000))).collect()
    }
}

/// What of the daemon an answer needs.
pub(crate) struct Desk<'a> {
    pub(crate) server: &'a Server,
    pub(crate) users: &'a Arc<Users>,
    pub(crate) live: &'a mut Live,
    pub(crate) revoked: &'a mut Revoked,
}

impl Desk<'_> {
    pub(crate) async fn list(&self, body: ListTurnSessions) -> TurnSessions {
        let users = Arc::clone(self.users);
        let whose: Whose = match body.user {
            Some(user) => Arc::new(move |name| name == user || users.account(name) == user),
            None => Arc::new(|_| true),
        };
        self.server.sessions(whose, wall_now()).await
    }

    fn note(&mut self, body: &RevokeTurnUser) -> Result<(), RequestError> {
        if body.user.is_empty() || body.user.len() > USER_BYTES {
            return Err(RequestError::new(ErrorCode::Invalid, "a user has 1 to 256 bytes"));
        }
        self.revoked.add(&body.user, body.credentials_until_ms, wall_now())?;
        self.live.revoked = self.revoked.list();
        Ok(())
    }
}

/// Answers one request; `apply` brings changed settings to the threads before sessions end, so that nobody slips back in.
pub(crate) async fn answer(mut desk: Desk<'_>, incoming: Incoming, apply: impl AsyncFnOnce(&Live)) {
    match incoming.name.as_str() {
        ListTurnSessions::NAME => match incoming.body::<ListTurnSessions>() {
            Ok(body) => {
                let found = desk.list(body).await;
                incoming.reply::<ListTurnSessions>(Ok(found));
            }
            Err(refusal) => incoming.refuse(&refusal),
        },
        RevokeTurnUser::NAME => match incoming.body::<RevokeTurnUser>() {
            Ok(body) => match desk.note(&body) {
                Ok(()) => {
                    let running = desk.list(ListTurnSessions { user: Some(body.user.clone()) }).await;
                    apply(desk.live).await;
                    desk.server.revoke(&body.user).await;
                    tracing::info!(user = ?body.user, sessions = running.total, "user revoked");
                    incoming.reply::<RevokeTurnUser>(Ok(TurnRevoked { ended: running.total }));
                }
                Err(refusal) => {
                    tracing::warn!(%refusal, "user not revoked");
                    incoming.refuse(&refusal);
                }
            },
            Err(refusal) => incoming.refuse(&refusal),
        },
        _ => incoming.unsupported(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_are_bounded_end_by_themselves_and_never_shrink() {
        let mut revoked = Revoked::default();
        for n in 0..REVOKED_MAX {
            revoked.add(&format!("u{n}"), UnixMs(5_500), UnixMs(0)).unwrap();
        }
        revoked.add("u0", UnixMs(3_000), UnixMs(0)).unwrap();
        assert_eq!(revoked.list()[0], ("u0".to_owned(), 6));
        assert_eq!(revoked.add("one more", UnixMs(9), UnixMs(0)).unwrap_err().code, ErrorCode::Exhausted);
        revoked.add("one more", UnixMs(u64::MAX), UnixMs(6_000)).unwrap();
        assert_eq!(revoked.list(), [("one more".to_owned(), 6 + REVOKED_FOR_MS / 1_000)]);
    }
}
