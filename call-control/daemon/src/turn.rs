//! Whose TURN sessions run on every TURN server, and users who may keep none: whoever is disabled, has a new password or is
//! shown out by an admin loses the sessions and the credentials that he had until then.
//!
//! A new password ends no access token: a page of a former sign-in that is still open is given new credentials until its
//! token ends.
use crate::daemon::TaskEnd;
use crate::ice::{IceServers, TTL_S};
use crate::store::Outcast;
use futures_util::future::join_all;
use offhook_bus::{Bus, BusError, NodeTable, Target};
use offhook_contract::turn::{
    ListTurnSessions, RevokeTurnUser, RevokeTurnUsers, TURN_REVOKED_MAX, TURN_SESSIONS_MAX, TurnSession,
};
use offhook_contract::{BootId, Context, DaemonKind, NodeId, NodeRow, UnixMs};
use offhook_control_core::UserId;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

const TIMEOUT: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(2);
/// Between the moment that counts and the last credentials minted without knowing of it; and what clocks differ by.
const MARGIN_MS: u64 = 30_000;
/// A TURN server that says to have started this long after a revocation may yet have started before it.
const SKEW_MS: u64 = 3_600_000;
/// A revocation that the database does not name (any more) is told for so long.
const KEPT_MS: u64 = 24 * 3_600_000;
/// TURN servers that are away, and still known to have been told.
const AWAY_MAX: usize = 64;

/// Credentials that were given out before `at` have ended by then.
const fn credentials_end(at: UnixMs) -> UnixMs {
    at.plus_ms(TTL_S * 1_000 + MARGIN_MS)
}

/// What was found, and the servers of which nothing or not all is known.
#[derive(Debug, Default)]
pub struct Found {
    pub sessions: Vec<(NodeId, TurnSession)>,
    pub total: u64,
    pub missing: Vec<NodeId>,
}

/// Asks all TURN servers at once.
pub async fn sessions(bus: &Bus, nodes: &NodeTable, user: &UserId) -> Found {
    let list = ListTurnSessions { user: Some(user.to_string()) };
    let context = Context::default();
    let answers = nodes.list(DaemonKind::Turn).into_iter().map(async |row| {
        let answer = bus.request(Target::Node(row.node.clone()), &context, &list, TIMEOUT).await;
        (row.node, answer)
    });
    let mut found = Found::default();
    for (node, answer) in join_all(answers).await {
        match answer {
            Ok(some) => {
                found.total += u64::from(some.total);
                found.sessions.extend(some.sessions.into_iter().map(|session| (node.clone(), session)));
                if some.incomplete {
                    found.missing.push(node);
                }
            }
            Err(error) => {
                tracing::warn!(%node, %error, "a TURN server does not say whose sessions run");
                found.missing.push(node);
            }
        }
    }
    found.sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.began_ms));
    found.sessions.truncate(TURN_SESSIONS_MAX);
    found
}

/// Whose credentials were taken back when, and which life of which TURN server knows. Clones share it.
#[derive(Clone)]
pub struct Revocations {
    known: Arc<Mutex<Known>>,
    news: Arc<Notify>,
    ice: IceServers,
}

impl Revocations {
    pub fn new(ice: IceServers) -> Self {
        Self { known: Arc::default(), news: Arc::default(), ice }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As the database has it now.
    pub fn take(&self, read: &[Outcast], now: UnixMs) {
        let mut known = self.known();
        known.take(read, now);
        let until = known.revoked.iter().map(|(user, revoked)| (user.clone(), credentials_end(revoked.at)));
        let disabled = read.iter().filter(|outcast| outcast.disabled).map(|outcast| outcast.user.clone());
        self.ice.keep_from(disabled.collect(), until.collect(), now);
        drop(known);
        self.news.notify_one();
    }

    /// Ends what a user has on all TURN servers at once; says how many ran, and which servers will be told when they are
    /// back. What he is given from now on is good.
    pub async fn end(&self, bus: &Bus, nodes: &NodeTable, user: &UserId, at: UnixMs) -> (u64, Vec<NodeId>) {
        let until = credentials_end(at);
        self.ice.outlive(user, until);
        let revoke = RevokeTurnUser { user: user.to_string(), credentials_until_ms: until };
        let context = Context::default();
        let rows = nodes.list(DaemonKind::Turn);
        self.known().add(user, at, &rows);
        let answers = rows.into_iter().map(async |row| {
            let answer = bus.request(Target::Node(row.node.clone()), &context, &revoke, TIMEOUT).await;
            (row, answer)
        });
        let (mut ended, mut missing) = (0, Vec::new());
        for (row, answer) in join_all(answers).await {
            match answer {
                Ok(reply) => ended += u64::from(reply.ended),
                Err(error) => {
                    tracing::warn!(node = %row.node, %error, "a TURN server does not know yet whose sessions are to end");
                    self.known().was_not_told(&row.node, user);
                    missing.push(row.node);
                }
            }
        }
        self.news.notify_one();
        (ended, missing)
    }

    /// Tells a server what it may have missed.
    async fn tell(&self, bus: &Bus, row: &NodeRow) -> Result<(), BusError> {
        let due = self.known().due(row);
        for some in due.chunks(TURN_REVOKED_MAX) {
            let revoke = |(user, at): &(UserId, UnixMs)| RevokeTurnUser {
                user: user.to_string(),
                credentials_until_ms: credentials_end(*at),
            };
            let body = RevokeTurnUsers { users: some.iter().map(revoke).collect() };
            let reply = bus.request(Target::Node(row.node.clone()), &Context::default(), &body, TIMEOUT).await?;
            if reply.ended > 0 {
                tracing::info!(node = %row.node, users = some.len(), ended = reply.ended, "TURN sessions ended");
            }
            self.known().told(row, some);
        }
        Ok(())
    }

    /// Tells every TURN server, also one that was away when it mattered, or starts later.
    pub async fn keep_out(self, bus: Bus) -> TaskEnd {
        let mut nodes = bus.nodes();
        let mut failing = HashSet::new();
        loop {
            let rows = nodes.list(DaemonKind::Turn);
            for row in &rows {
                match self.tell(&bus, row).await {
                    Ok(()) => drop(failing.remove(&row.node)),
                    Err(error) if failing.insert(row.node.clone()) => {
                        tracing::warn!(node = %row.node, %error, "a TURN server does not know yet whom to show out");
                    }
                    Err(_) => {}
                }
            }
            self.known().forget_away(&rows);
            failing.retain(|node| rows.iter().any(|row| row.node == *node));
            tokio::select! {
                () = self.news.notified() => {}
                () = nodes.changed() => {}
                () = tokio::time::sleep(RETRY), if !failing.is_empty() => {}
            }
        }
    }
}

/// When it happened, by this clock, and as the database has it.
#[derive(Clone, Copy)]
struct Revoked {
    at: UnixMs,
    stored: UnixMs,
}

/// What one life of a server has been told.
struct Told {
    boot: BootId,
    /// All that was known then.
    generation: Option<u64>,
    users: HashMap<UserId, UnixMs>,
}

#[derive(Default)]
struct Known {
    revoked: HashMap<UserId, Revoked>,
    /// Counts the changes of `revoked`.
    generation: u64,
    told: HashMap<NodeId, Told>,
    was_read: bool,
}

impl Known {
    /// A line that is new says that it happened just now, whatever the clock of whoever wrote it.
    fn take(&mut self, read: &[Outcast], now: UnixMs) {
        for outcast in read {
            let known = self.revoked.get(&outcast.user);
            if known.is_some_and(|known| known.stored >= outcast.at) {
                continue;
            }
            let at = if self.was_read { now } else { outcast.at.min(now) };
            self.revoked.insert(outcast.user.clone(), Revoked { at, stored: outcast.at });
            self.generation += 1;
        }
        self.was_read = true;
        let named: HashSet<&UserId> = read.iter().map(|outcast| &outcast.user).collect();
        self.revoked.retain(|user, revoked| named.contains(user) || revoked.at.plus_ms(KEPT_MS) > now);
    }

    /// These servers are being told.
    fn add(&mut self, user: &UserId, at: UnixMs, rows: &[NodeRow]) {
        self.revoked.insert(user.clone(), Revoked { at, stored: at });
        self.generation += 1;
        for row in rows {
            self.told(row, &[(user.clone(), at)]);
        }
    }

    fn was_not_told(&mut self, node: &NodeId, user: &UserId) {
        if let Some(told) = self.told.get_mut(node) {
            told.users.remove(user);
            told.generation = None;
        }
    }

    /// What this life of a server may have missed: all that happened since it began, however long ago, as an allocation
    /// outlives its credentials. The latest first.
    fn due(&mut self, row: &NodeRow) -> Vec<(UserId, UnixMs)> {
        let generation = self.generation;
        let told = Self::life(&mut self.told, row);
        if told.generation == Some(generation) {
            return Vec::new();
        }
        let missed = |user: &UserId, at: UnixMs| {
            at.plus_ms(SKEW_MS) >= row.started_ms && told.users.get(user).is_none_or(|told| *told < at)
        };
        let mut due: Vec<(UserId, UnixMs)> =
            self.revoked.iter().filter(|(u, r)| missed(u, r.at)).map(|(user, r)| (user.clone(), r.at)).collect();
        due.sort_unstable_by(|(a, at), (b, bt)| bt.cmp(at).then_with(|| a.as_str().cmp(b.as_str())));
        if due.is_empty() {
            told.generation = Some(generation);
            told.users.retain(|user, _| self.revoked.contains_key(user));
        }
        due
    }

    fn told(&mut self, row: &NodeRow, users: &[(UserId, UnixMs)]) {
        let told = Self::life(&mut self.told, row);
        told.users.extend(users.iter().cloned());
    }

    fn life<'a>(told: &'a mut HashMap<NodeId, Told>, row: &NodeRow) -> &'a mut Told {
        let begun = || Told { boot: row.boot.clone(), generation: None, users: HashMap::new() };
        let life = told.entry(row.node.clone()).or_insert_with(begun);
        if life.boot != row.boot {
            *life = begun();
        }
        life
    }

    /// One that comes back is told again: that changes nothing there.
    fn forget_away(&mut self, rows: &[NodeRow]) {
        if self.told.len() > rows.len() + AWAY_MAX {
            self.told.retain(|node, _| rows.iter().any(|row| row.node == *node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::{NodeState, TenantId};

    const HOUR: u64 = 3_600_000;
    const START: u64 = 1_000 * HOUR;

    fn server(name: &str, boot: &str, started: u64) -> NodeRow {
        NodeRow {
            node: NodeId::parse(name).unwrap(),
            kind: DaemonKind::Turn,
            boot: BootId::parse(boot).unwrap(),
            version: String::new(),
            started_ms: UnixMs(started),
            state: NodeState::Ready,
            load: 0,
            capacity: 1,
            media_addresses: Vec::new(),
            certificate_fingerprint: None,
            trunks: Vec::new(),
        }
    }

    fn outcast(user: &str, at: u64) -> Outcast {
        Outcast { tenant: TenantId::parse("t").unwrap(), user: UserId::new(user), at: UnixMs(at), disabled: true }
    }

    fn due(known: &mut Known, row: &NodeRow) -> Vec<(String, u64)> {
        known.due(row).into_iter().map(|(user, at)| (user.to_string(), at.0)).collect()
    }

    /// Refreshes keep an allocation alive after its credentials: nobody else would end it.
    #[test]
    fn a_server_that_was_away_for_longer_than_credentials_live_is_told_when_it_is_back() {
        let mut known = Known::default();
        let (there, away) = (server("turn-1", "a", START), server("turn-2", "b", START));
        known.take(&[], UnixMs(START));
        known.take(&[outcast("bob", START + HOUR)], UnixMs(START + HOUR));
        let told = known.due(&there);
        known.told(&there, &told);
        assert!(due(&mut known, &there).is_empty());
        // Eleven minutes later, or eleven days; also a call-control that has just started.
        for later in [11 * 60_000, 11 * 24 * HOUR] {
            known.take(&[outcast("bob", START + HOUR)], UnixMs(START + HOUR + later));
            assert_eq!(due(&mut known, &away), [("bob".to_owned(), START + HOUR)]);
        }
        let mut again = Known::default();
        again.take(&[outcast("bob", START + HOUR)], UnixMs(START + 300 * HOUR));
        assert_eq!(due(&mut again, &away).len(), 1);
    }

    #[test]
    fn a_server_is_told_what_happened_since_it_started_the_latest_first() {
        let mut known = Known::default();
        let all = [outcast("old", START), outcast("new", START + 10 * HOUR), outcast("newer", START + 11 * HOUR)];
        known.take(&all, UnixMs(START + 12 * HOUR));
        let mut row = server("turn-1", "a", START + 5 * HOUR);
        assert_eq!(due(&mut known, &row).iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["newer", "new"]);
        let told = known.due(&row);
        known.told(&row, &told[..1]);
        assert_eq!(due(&mut known, &row), [("new".to_owned(), START + 10 * HOUR)]);
        row.boot = BootId::parse("b").unwrap();
        assert_eq!(due(&mut known, &row).len(), 2, "what starts again has forgotten");
        // By an admin's hand: told at once, unless that failed.
        let told = known.due(&row);
        known.told(&row, &told);
        known.add(&UserId::new("eve"), UnixMs(START + 13 * HOUR), std::slice::from_ref(&row));
        assert!(due(&mut known, &row).is_empty());
        known.was_not_told(&row.node, &UserId::new("eve"));
        assert_eq!(due(&mut known, &row), [("eve".to_owned(), START + 13 * HOUR)]);
    }

    #[test]
    fn what_is_new_in_the_database_happened_now_and_is_told_once() {
        let mut known = Known::default();
        let row = server("turn-1", "a", START);
        known.take(&[], UnixMs(START));
        // Written by a machine whose clock is behind.
        known.take(&[outcast("bob", START - 5 * HOUR)], UnixMs(START + 7));
        let told = known.due(&row);
        assert_eq!(told, [(UserId::new("bob"), UnixMs(START + 7))]);
        known.told(&row, &told);
        known.take(&[outcast("bob", START - 5 * HOUR)], UnixMs(START + 9));
        assert!(due(&mut known, &row).is_empty());
        known.take(&[outcast("bob", START)], UnixMs(START + 20));
        assert_eq!(due(&mut known, &row), [("bob".to_owned(), START + 20)], "once more");
        known.take(&[], UnixMs(START + 2 * KEPT_MS));
        assert!(known.revoked.is_empty(), "let in again long ago");
    }

    #[test]
    fn credentials_that_were_minted_a_moment_later_have_ended_by_then_too() {
        assert_eq!(credentials_end(UnixMs(5)), UnixMs(630_005));
    }
}
