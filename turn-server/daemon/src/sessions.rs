//! What runs now: asked of every thread, answered between two packets.
use crate::server::Server;
use crate::worker::Order;
use offhook_contract::UnixMs;
use offhook_contract::turn::{TurnCarried, TurnSession, TurnSessions, TurnTransport};
use offhook_turn_core::{Carried, Moment, Session, Shard, Via};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A thread answers within a wake-up; one that is lost does not.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// Which sessions are meant.
pub(crate) type Whose = Arc<dyn Fn(&Session<'_>) -> bool + Send + Sync>;

/// A question to one thread.
pub(crate) struct Ask {
    whose: Whose,
    /// Rows wanted; the rest is counted.
    most: usize,
    wall: UnixMs,
    answer: mpsc::Sender<TurnSessions>,
}

impl Ask {
    /// On the relaying thread: rare, one look at each allocation, and no more held of them than twice what is wanted.
    pub(crate) fn answer(self, shard: &Shard, now: Moment) {
        let meant = shard.sessions().filter(|session| (self.whose)(session));
        let (newest, total) = newest(meant, self.most, |session| session.began);
        let sessions = newest.iter().map(|session| self.row(session, now)).collect();
        // Whoever asked may have stopped waiting.
        let _ = self.answer.try_send(TurnSessions { sessions, total, incomplete: false });
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

/// Those that began last, at most so many, and how many there were.
fn newest<T, K: Ord>(all: impl Iterator<Item = T>, most: usize, began: impl Fn(&T) -> K) -> (Vec<T>, u32) {
    let (mut kept, mut total) = (Vec::new(), 0_u32);
    for one in all {
        total = total.saturating_add(1);
        kept.push(one);
        if kept.len() > most * 2 {
            keep_newest(&mut kept, most, &began);
        }
    }
    keep_newest(&mut kept, most, &began);
    (kept, total)
}

fn keep_newest<T, K: Ord>(kept: &mut Vec<T>, most: usize, began: &impl Fn(&T) -> K) {
    if kept.len() > most {
        kept.select_nth_unstable_by_key(most, |one| Reverse(began(one)));
        kept.truncate(most);
    }
}

/// What `threads` have to say, or those of them that say it in time.
async fn gather(mut answers: mpsc::Receiver<TurnSessions>, threads: usize, most: usize) -> TurnSessions {
    let mut all = TurnSessions::default();
    let mut answered = 0;
    let gathered = async {
        while let Some(mut some) = answers.recv().await {
            answered += 1;
            all.total = all.total.saturating_add(some.total);
            all.sessions.append(&mut some.sessions);
        }
    };
    let _ = tokio::time::timeout(ANSWERED_WITHIN, gathered).await;
    all.incomplete = answered < threads;
    all.sessions.sort_by_key(|session| Reverse(session.began_ms));
    all.sessions.truncate(most);
    all
}

impl Server {
    /// The newest of all threads first, `most` of them.
    pub(crate) async fn sessions(&self, whose: Whose, most: usize, wall: UnixMs) -> TurnSessions {
        let (answer, answers) = mpsc::channel(self.workers().len().max(1));
        for worker in self.workers() {
            worker.tell(Order::Sessions(Ask { whose: Arc::clone(&whose), most, wall, answer: answer.clone() }));
        }
        drop(answer);
        gather(answers, self.workers().len(), most).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_the_rest_is_only_counted() {
        let began = [5, 1, 9, 3, 8, 2, 7, 7, 6];
        let mut held = 0;
        let all = began.iter().inspect(|_| held += 1);
        let (mut kept, total) = newest(all, 3, |began| **began);
        kept.sort();
        assert_eq!((kept, total, held), (vec![&7, &8, &9], 9, 9));
        assert_eq!(newest(began.iter(), 0, |began| **began), (Vec::new(), 9));
        let mut few = newest(began.iter(), 20, |began| **began).0;
        few.dedup();
        assert!(few.len() == 8 && few.capacity() <= 64, "in the order they came");
    }

    #[tokio::test]
    async fn an_answer_without_one_of_the_threads_says_so() {
        for (answered, incomplete) in [(2, false), (1, true), (0, true)] {
            let (answer, answers) = mpsc::channel(2);
            for _ in 0..answered {
                answer.try_send(TurnSessions { total: 3, ..TurnSessions::default() }).unwrap();
            }
            drop(answer);
            let found = gather(answers, 2, 10).await;
            assert_eq!((found.total, found.incomplete), (answered * 3, incomplete));
        }
    }
}
