//! What the bus asks of a TURN server: whose sessions run, and that an account's end.
use crate::native::Live;
use crate::server::Server;
use crate::sessions::Whose;
use crate::worker::Order;
use offhook_bus::{Incoming, wall_now};
use offhook_contract::envelope::Request;
use offhook_contract::turn::{
    ListTurnSessions, RevokeTurnUser, RevokeTurnUsers, TURN_REVOKED_MAX, TURN_SESSIONS_MAX, TurnRevoked, TurnSessions,
};
use offhook_contract::{ErrorCode, RequestError, UnixMs};
use offhook_turn_core::{Command, Users};
use std::collections::{BTreeMap, HashMap};
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
    /// Adds some, and forgets those whose credentials have ended by themselves. Where there are too many, those make room
    /// whose credentials end first.
    fn add<'a>(&mut self, users: impl Iterator<Item = (&'a str, UnixMs)>, now: UnixMs) {
        for (user, until) in users {
            let known = self.0.entry(user.to_owned()).or_default();
            *known = until.0.min(now.0 + REVOKED_FOR_MS).max(*known);
        }
        self.0.retain(|_, until| *until > now.0);
        let excess = self.0.len().saturating_sub(REVOKED_MAX);
        if excess > 0 {
            tracing::warn!(
                excess,
                most = REVOKED_MAX,
                "too many accounts are revoked: some credentials are good again"
            );
            let mut ends: Vec<u64> = self.0.values().copied().collect();
            let (_, last, _) = ends.select_nth_unstable(excess - 1);
            let (last, mut left) = (*last, excess);
            self.0.retain(|_, until| {
                let goes = *until <= last && left > 0;
                left -= usize::from(goes);
                !goes
            });
        }
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

/// Which sessions of a revoked account end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    All,
    /// Those that logged in with the credentials that are taken back.
    OfCredentials,
}

impl Desk<'_> {
    async fn list(&self, body: ListTurnSessions) -> TurnSessions {
        let whose: Whose = match body.user {
            Some(user) => Arc::new(move |session| session.user == user || session.account == user),
            None => Arc::new(|_| true),
        };
        self.server.sessions(whose, TURN_SESSIONS_MAX, wall_now()).await
    }

    async fn revoke(&mut self, users: &[RevokeTurnUser], ending: Ending) -> Result<TurnRevoked, RequestError> {
        if users.len() > TURN_REVOKED_MAX {
            return Err(RequestError::new(ErrorCode::Invalid, format!("at most {TURN_REVOKED_MAX} users at once")));
        }
        if users.iter().any(|revoke| revoke.user.is_empty() || revoke.user.len() > USER_BYTES) {
            return Err(RequestError::new(ErrorCode::Invalid, "a user has 1 to 256 bytes"));
        }
        self.revoked.add(users.iter().map(|revoke| (revoke.user.as_str(), revoke.credentials_until_ms)), wall_now());
        // Settings that are made later know them, too.
        self.live.revoked = self.revoked.list();
        let refused = self.live.revoked.iter().map(|(user, until_s)| (Arc::from(user.as_str()), *until_s)).collect();
        let mut ended: HashMap<Arc<str>, u64> = HashMap::new();
        for revoke in users {
            let until_s = match ending {
                Ending::All => u64::MAX,
                Ending::OfCredentials => revoke.credentials_until_ms.0.div_ceil(1_000),
            };
            let known = ended.entry(revoke.user.as_str().into()).or_default();
            *known = until_s.max(*known);
        }
        let ended = Arc::new(ended);
        let running = self.server.sessions(meant(&ended, self.users), 0, wall_now()).await;
        self.server.revoke(Arc::new(refused), ended).await;
        tracing::info!(users = users.len(), first = ?users.first().map(|u| &u.user), sessions = running.total, "revoked");
        Ok(TurnRevoked { ended: running.total })
    }
}

/// As a shard finds them (`Command::Revoke`).
fn meant(ended: &Arc<HashMap<Arc<str>, u64>>, users: &Arc<Users>) -> Whose {
    let (ended, users) = (Arc::clone(ended), Arc::clone(users));
    Arc::new(move |session| {
        let until = ended.get(session.account).or_else(|| ended.get(session.user));
        until.is_some_and(|until| users.rest_expiry(session.user).is_none_or(|ends| ends <= *until))
    })
}

impl Server {
    /// On its way to every thread when this returns: what is asked of them later finds it done.
    async fn revoke(&self, refused: Arc<HashMap<Arc<str>, u64>>, ended: Arc<HashMap<Arc<str>, u64>>) {
        for worker in self.workers() {
            let revoke = Command::Revoke { refused: Arc::clone(&refused), ended: Arc::clone(&ended) };
            worker.tell_surely(Order::Command(revoke)).await;
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(mut desk: Desk<'_>, incoming: Incoming) {
    match incoming.name.as_str() {
        ListTurnSessions::NAME => match incoming.body::<ListTurnSessions>() {
            Ok(body) => {
                let found = desk.list(body).await;
                incoming.reply::<ListTurnSessions>(Ok(found));
            }
            Err(refusal) => incoming.refuse(&refusal),
        },
        RevokeTurnUser::NAME => match incoming.body::<RevokeTurnUser>() {
            Ok(body) => {
                let revoked = desk.revoke(&[body], Ending::All).await;
                incoming.reply::<RevokeTurnUser>(revoked.inspect_err(warn));
            }
            Err(refusal) => incoming.refuse(&refusal),
        },
        RevokeTurnUsers::NAME => match incoming.body::<RevokeTurnUsers>() {
            Ok(body) => {
                let revoked = desk.revoke(&body.users, Ending::OfCredentials).await;
                incoming.reply::<RevokeTurnUsers>(revoked.inspect_err(warn));
            }
            Err(refusal) => incoming.refuse(&refusal),
        },
        _ => incoming.unsupported(),
    }
}

fn warn(refusal: &RequestError) {
    tracing::warn!(%refusal, "nobody revoked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_are_bounded_end_by_themselves_never_shrink_and_the_latest_is_never_left_out() {
        let mut revoked = Revoked::default();
        let names: Vec<String> = (0..REVOKED_MAX).map(|n| format!("u{n:05}")).collect();
        let one = |name: &'static str, until| std::iter::once((name, UnixMs(until)));
        revoked.add(names.iter().map(|name| (name.as_str(), UnixMs(5_500))), UnixMs(0));
        revoked.add(one("u00000", 3_000), UnixMs(0));
        assert_eq!(revoked.list()[0], ("u00000".to_owned(), 6));
        revoked.add(one("one more", 9_000), UnixMs(0));
        assert_eq!(
            (revoked.0.len(), revoked.0.get("one more"), revoked.0.get("u00000")),
            (REVOKED_MAX, Some(&9_000), None)
        );
        revoked.add(one("late", 5_900), UnixMs(6_000));
        revoked.add(one("one more", u64::MAX), UnixMs(6_000));
        assert_eq!(revoked.list(), [("one more".to_owned(), 6 + REVOKED_FOR_MS / 1_000)]);
    }
}
