//! Where threads that relay ask for a login that they do not know: coturn asks its database at each login, and who was
//! added a moment ago gets in. One look at a time, off those threads, for everybody who waits.
use super::{DatabaseError, DatabasePlan, Poke};
use offhook_turn_core::{Elsewhere, LookUp, Users};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Instant, sleep_until, timeout};

/// Logins that wait to be looked up, of all threads.
const QUEUE: usize = 128;
/// So many are looked up at once, so often at most: a flood of names costs ten looks a second.
const AT_ONCE: usize = 32;
const EVERY: Duration = Duration::from_millis(100);
/// A look that takes longer finds nobody.
const WITHIN: Duration = Duration::from_millis(1_500);

#[derive(Debug)]
struct Question {
    name: Box<str>,
    look_up: LookUp,
}

/// The side of those who ask.
#[derive(Debug)]
pub(crate) struct Desk(Sender<Question>);

impl Elsewhere for Desk {
    fn look_up(&self, name: &str) -> Option<LookUp> {
        let look_up = LookUp::default();
        self.0.try_send(Question { name: name.into(), look_up: look_up.clone() }).ok()?;
        Some(look_up)
    }
}

/// A desk, and the work at it; whoever is found is told to `poke`, so that everything is read again soon.
pub(super) fn open(plan: DatabasePlan, poke: Poke) -> (Arc<Desk>, impl Future<Output = ()> + Send) {
    let (ask, questions) = mpsc::channel(QUEUE);
    let look = move |names: Vec<Box<str>>| {
        let (plan, poke) = (plan.clone(), poke.clone());
        async move {
            let found = plan.find(&names).await?;
            if found.as_ref().is_some_and(|found| names.iter().any(|name| found.knows(name))) {
                poke.wake();
            }
            Ok(found)
        }
    };
    (Arc::new(Desk(ask)), serve(questions, look))
}

async fn serve<F, T>(mut questions: Receiver<Question>, look: F)
where
    F: Fn(Vec<Box<str>>) -> T + Send,
    T: Future<Output = Result<Option<Users>, DatabaseError>> + Send,
{
    let mut asked = Vec::with_capacity(AT_ONCE);
    while questions.recv_many(&mut asked, AT_ONCE).await > 0 {
        let next = Instant::now() + EVERY;
        let mut names: Vec<Box<str>> = asked.iter().map(|question| question.name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        // A database that is away is spoken of where it is read as a whole.
        let found = timeout(WITHIN, look(names)).await.ok().and_then(Result::ok).flatten().map(Arc::new);
        for Question { look_up, .. } in asked.drain(..) {
            look_up.answer(found.clone());
        }
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// In the runtime's own time, which stands still while anything is to do.
    fn in_virtual_time(story: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(story);
    }

    #[test]
    fn a_flood_of_names_costs_few_looks_and_who_finds_no_place_is_told_at_once() {
        in_virtual_time(async {
            let (ask, questions) = mpsc::channel(QUEUE);
            let desk = Desk(ask);
            let looks = Arc::new(AtomicUsize::new(0));
            let most = Arc::new(Mutex::new(0));
            let (counted, largest) = (Arc::clone(&looks), Arc::clone(&most));
            let task = tokio::spawn(serve(questions, move |names| {
                counted.fetch_add(1, Ordering::Relaxed);
                let mut most = largest.lock().unwrap();
                *most = names.len().max(*most);
                async { Ok(None) }
            }));
            let (mut taken, mut told) = (0, 0);
            for n in 0..10_000 {
                match desk.look_up(&format!("user-{n}")) {
                    Some(_) => taken += 1,
                    None => told += 1,
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let looks = looks.load(Ordering::Relaxed);
            // Ten seconds.
            assert!((90..=101).contains(&looks), "{looks} looks");
            assert_eq!(*most.lock().unwrap(), AT_ONCE);
            assert!(taken <= QUEUE + AT_ONCE * looks && told > 5_000, "{taken} taken, {told} told");
            task.abort();
        });
    }

    #[test]
    fn all_who_wait_for_one_name_are_answered_by_one_look_and_a_slow_one_finds_nobody() {
        in_virtual_time(async {
            let (ask, questions) = mpsc::channel(QUEUE);
            let desk = Desk(ask);
            let all: Vec<LookUp> = (0..20).map(|_| desk.look_up("dave").unwrap()).collect();
            let task = tokio::spawn(serve(questions, |names| async move {
                assert_eq!(names.len(), 1);
                if names.first().is_some_and(|name| &**name == "slow") {
                    std::future::pending::<()>().await;
                }
                Ok(Some(Users::new("found")))
            }));
            tokio::time::sleep(Duration::from_millis(10)).await;
            let realm = |look_up: &LookUp| look_up.answered().map(|found| found.map(|found| found.realm().to_owned()));
            assert!(all.iter().all(|one| realm(one) == Some(Some("found".to_owned()))));
            let slow = desk.look_up("slow").unwrap();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            assert_eq!(realm(&slow), None);
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(realm(&slow), Some(None));
            task.abort();
        });
    }
}
