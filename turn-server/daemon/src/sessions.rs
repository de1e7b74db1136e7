//! What runs now: asked of every thread, answered between two packets.
use crate::server::Server;
use crate::worker::Order;
use offhook_contract::UnixMs;
use offhook_contract::turn::{TURN_SESSIONS_MAX, TurnCarried, TurnSession, TurnSessions, TurnTransport};
use offhook_turn_core::{Carried, Moment, Session, Shard, Via};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A thread answers within a wake-up; one that is lost does not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Whose sessions are meant, by the name that logged in.
pub(crate) type Whose = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A question to one thread.
pub(crate) struct Ask {
    whose: Whose,
    wall: UnixMs,
    answer: mpsc::Sender<TurnSessions>,
}

impl Ask {
    /// On the relaying thread: rare, and short whatever runs there.
    pub(crate) fn answer(self, shard: &Shard, now: Moment) {
        let mut meant: Vec<Session<'_>> = shard.sessions().filter(|session| (self.whose)(session.user)).collect();
        let total = u32::try_from(meant.len()).unwrap_or(u32::MAX);
        if meant.len() > TURN_SESSIONS_MAX {
            meant.select_nth_unstable_by_key(TURN_SESSIONS_MAX, |session| Reverse(session.began));
            meant.truncate(TURN_SESSIONS_MAX);
        }
        let sessions = meant.iter().map(|session| self.row(session, now)).collect();
        // Whoever asked may have stopped waiting.
        let _ = self.answer.try_send(TurnSessions { sessions, total });
    }

    fn row(&self, session: &Session<'_>, now: Moment) -> TurnSession {
        let lasts_ms = u64::try_from(now.since(session.began).as_millis()).unwrap_or_default();
        TurnSession {
            user: session.user.to_owned(),
            client: session.path.client,
            transport: match session.path.via {
                Via::Udp(_) => TurnTransport::Udp,
                Via::Stream(_) => TurnTransport::Stream,
            },
            relayed: session.relayed.into_iter().flatten().collect(),
            began_ms: UnixMs(self.wall.0.saturating_sub(lasts_ms)),
            up: carried(session.up),
            down: carried(session.down),
        }
    }
}

const fn carried(carried: Carried) -> TurnCarried {
    TurnCarried { packets: carried.packets, bytes: carried.bytes }
}

impl Server {
    /// The newest of all threads first.
    pub(crate) async fn sessions(&self, whose: Whose, wall: UnixMs) -> TurnSessions {
        let (answer, mut answers) = mpsc::channel(self.workers().len().max(1));
        for worker in self.workers() {
            worker.tell(Order::Sessions(Ask { whose: Arc::clone(&whose), wall, answer: answer.clone() }));
        }
        drop(answer);
        let mut all = TurnSessions::default();
        let gather = async {
            while let Some(mut some) = answers.recv().await {
                all.total = all.total.saturating_add(some.total);
                all.sessions.append(&mut some.sessions);
            }
        };
        // What did not come in time is left out.
        let _ = tokio::time::timeout(ANSWERED_WITHIN, gather).await;
        all.sessions.sort_by_key(|session| Reverse(session.began_ms));
        all.sessions.truncate(TURN_SESSIONS_MAX);
        all
    }
}
