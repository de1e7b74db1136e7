//! Whose TURN sessions run on every TURN server, and users who may keep none: a disabled one loses his sessions and the
//! credentials that he still holds.
use crate::daemon::TaskEnd;
use crate::http::Disabled;
use crate::ice::TTL_S;
use offhook_bus::{Bus, BusError, NodeTable, Target, wall_now};
use offhook_contract::turn::{ListTurnSessions, RevokeTurnUser, TURN_SESSIONS_MAX, TurnSession};
use offhook_contract::{BootId, Context, DaemonKind, NodeId, TenantId, UnixMs};
use offhook_control_core::UserId;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_secs(2);

/// Credentials that were given out before now have ended by then.
fn credentials_end() -> UnixMs {
    wall_now().plus_ms(TTL_S * 1_000)
}

/// What was found on all TURN servers; one that does not answer fails the whole.
pub async fn sessions(
    bus: &Bus,
    nodes: &NodeTable,
    user: &UserId,
) -> Result<(Vec<(NodeId, TurnSession)>, u64), BusError> {
    let (mut found, mut total) = (Vec::new(), 0);
    for row in nodes.list(DaemonKind::Turn) {
        let list = ListTurnSessions { user: Some(user.to_string()) };
        let reply = bus.request(Target::Node(row.node.clone()), &Context::default(), &list, TIMEOUT).await?;
        total += u64::from(reply.total);
        found.extend(reply.sessions.into_iter().map(|session| (row.node.clone(), session)));
    }
    found.sort_by_key(|(_, session)| std::cmp::Reverse(session.began_ms));
    found.truncate(TURN_SESSIONS_MAX);
    Ok((found, total))
}

/// Ends a user's sessions on all TURN servers, also when one of them does not answer; says how many ran.
pub async fn revoke(bus: &Bus, nodes: &NodeTable, user: &UserId) -> Result<u64, BusError> {
    let (mut ended, mut failed) = (0, None);
    for row in nodes.list(DaemonKind::Turn) {
        match revoke_at(bus, &row.node, user, credentials_end()).await {
            Ok(more) => ended += u64::from(more),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(ended), Err)
}

async fn revoke_at(bus: &Bus, node: &NodeId, user: &UserId, until: UnixMs) -> Result<u32, BusError> {
    let revoke = RevokeTurnUser { user: user.to_string(), credentials_until_ms: until };
    let reply = bus.request(Target::Node(node.clone()), &Context::default(), &revoke, TIMEOUT).await?;
    Ok(reply.ended)
}

/// Disabled users, and which life of which TURN server has been told.
#[derive(Default)]
struct Outcasts {
    disabled: HashSet<(TenantId, UserId)>,
    /// Until when they may still hold credentials.
    until: HashMap<UserId, UnixMs>,
    told: HashSet<(NodeId, BootId, UserId)>,
}

impl Outcasts {
    fn take(&mut self, disabled: &HashSet<(TenantId, UserId)>) {
        for (_, user) in disabled.difference(&self.disabled) {
            self.until.insert(user.clone(), credentials_end());
            self.told.retain(|(_, _, told)| told != user);
        }
        self.disabled = disabled.clone();
    }

    fn forget_past(&mut self, now: UnixMs) {
        self.until.retain(|_, until| *until > now);
        self.told.retain(|(_, _, user)| self.until.contains_key(user));
    }

    /// Whether everybody knows now.
    async fn tell(&mut self, bus: &Bus, nodes: &NodeTable) -> bool {
        self.forget_past(wall_now());
        let mut all = true;
        for row in nodes.list(DaemonKind::Turn) {
            for (user, until) in &self.until {
                let known = (row.node.clone(), row.boot.clone(), user.clone());
                if self.told.contains(&known) {
                    continue;
                }
                match revoke_at(bus, &row.node, user, *until).await {
                    Ok(ended) => {
                        if ended > 0 {
                            tracing::info!(node = %row.node, %user, ended, "TURN sessions of a disabled user ended");
                        }
                        self.told.insert(known);
                    }
                    Err(error) => {
                        tracing::warn!(node = %row.node, %error, "a TURN server does not know yet who is disabled");
                        all = false;
                        break;
                    }
                }
            }
        }
        all
    }
}

/// Tells every TURN server, also one that starts later, for as long as credentials may live.
pub async fn keep_out(bus: Bus, mut disabled: Disabled) -> TaskEnd {
    let mut nodes = bus.nodes();
    let mut outcasts = Outcasts::default();
    loop {
        let now = disabled.borrow_and_update().clone();
        outcasts.take(&now);
        let all = outcasts.tell(&bus, &nodes).await;
        tokio::select! {
            changed = disabled.changed() => if changed.is_err() {
                // The one who reads the database has ended, and says why.
                std::future::pending::<()>().await;
            },
            () = nodes.changed() => {}
            () = tokio::time::sleep(RETRY), if !all => {}
        }
    }
}
