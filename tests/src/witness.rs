//! Whether the machine itself kept time while a story ran.
//!
//! Real browsers and telephones play in real time, and a shared machine does not always run: a virtual processor that is
//! taken away for 300 ms leaves a hole in every sound. Threads of one processor each see that, because they wake later
//! than they asked. Their testimony excuses the time that was missing, with what a jitter buffer needs to recover, and lets
//! a story that failed on such a machine, or on one whose host gave its processors to others, be told again. On a machine
//! that kept time nothing is excused and nothing is told twice.
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// Two frames of sound: what the jitter buffers of the stack and its peers take without a gap.
const STALL: Duration = Duration::from_millis(40);
/// What a jitter buffer needs to find its depth again.
const RECOVERY: Duration = Duration::from_millis(100);
const TELLINGS: u32 = 3;

/// When a processor did not run.
#[derive(Debug, Clone, Copy)]
struct Stall {
    begin: Instant,
    end: Instant,
}

static STALLS: Mutex<Vec<Stall>> = Mutex::new(Vec::new());

fn stalls() -> Vec<Stall> {
    STALLS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Runs a story before witnesses. One that fails is told again, at most twice, when they saw the machine stand still or
/// the host gave processors of ours to others.
pub fn story(tell: impl Fn()) {
    for telling in 1..=TELLINGS {
        STALLS.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let (witnesses, stolen) = (Witnesses::call(), stolen());
        let Err(failure) = catch_unwind(AssertUnwindSafe(&tell)) else { return };
        drop(witnesses);
        let seen = Testimony { stalls: stalls(), stolen: self::stolen().saturating_sub(stolen) };
        if telling == TELLINGS || seen.kept_time() {
            eprintln!("failed at telling {telling}; {seen}");
            resume_unwind(failure);
        }
        say(&format!("is told again after a failure; {seen}"));
    }
}

/// How much of the last `span` the machine stood still, with what sound needs to recover.
pub fn stood_still(span: Duration) -> Duration {
    union_of(stalls().into_iter().filter(|stall| stall.end.elapsed() <= span))
}

/// Processors may stand still at the same time: that time is missing once.
fn union_of(stalls: impl Iterator<Item = Stall>) -> Duration {
    let mut sorted: Vec<Stall> = stalls.map(|stall| Stall { end: stall.end + RECOVERY, ..stall }).collect();
    sorted.sort_by_key(|stall| stall.begin);
    let mut covered: Option<Instant> = None;
    let mut sum = Duration::ZERO;
    for stall in sorted {
        let begin = covered.map_or(stall.begin, |end| end.max(stall.begin));
        sum += stall.end.saturating_duration_since(begin);
        covered = Some(covered.map_or(stall.end, |end| end.max(stall.end)));
    }
    sum
}

/// What the host took from our processors since the machine was started (`steal` of proc_stat(5), in hundredths of a
/// second).
fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let steal = stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse().ok());
    Duration::from_millis(10 * steal.unwrap_or(0u64))
}

/// Past the test runner's capture: who reads a green run sees what was excused in it.
pub fn say(words: &str) {
    use std::io::Write as _;
    let name = std::thread::current().name().unwrap_or("a story").to_owned();
    let _ = writeln!(std::io::stderr(), "\n{name}: {words}");
}

struct Testimony {
    stalls: Vec<Stall>,
    stolen: Duration,
}

impl Testimony {
    fn kept_time(&self) -> bool {
        const LITTLE: Duration = Duration::from_millis(100);
        self.stalls.is_empty() && self.stolen < LITTLE
    }
}

impl fmt::Display for Testimony {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.stalls.iter().map(|stall| stall.end - stall.begin).max().unwrap_or_default();
        let (times, stolen) = (self.stalls.len(), self.stolen);
        write!(f, "processors stood still {times} times, at most {longest:.0?}, and the host took {stolen:.1?} of them")
    }
}

/// One thread on each processor that we may use.
struct Witnesses {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witnesses {
    fn call() -> Self {
        let ours = sched_getaffinity(None).expect("the processors that we may use");
        let ended = Arc::new(AtomicBool::new(false));
        let each = (0..CpuSet::MAX_CPU).filter(|cpu| ours.is_set(*cpu));
        let threads = each.map(|cpu| {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || watch(cpu, &ended))
        });
        Self { threads: threads.collect(), ended }
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn watch(cpu: usize, ended: &AtomicBool) {
    let mut own = CpuSet::new();
    own.set(cpu);
    sched_setaffinity(None, &own).expect("a thread on a processor of ours");
    while !ended.load(Ordering::Relaxed) {
        let before = Instant::now();
        std::thread::sleep(TICK);
        let stall = Stall { begin: before + TICK, end: Instant::now() };
        if stall.end.saturating_duration_since(stall.begin) >= STALL {
            STALLS.lock().unwrap_or_else(PoisonError::into_inner).push(stall);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_two_processors_miss_is_missing_once() {
        let start = Instant::now();
        let stall = |from: u64, to: u64| {
            let at = |ms| start + Duration::from_millis(ms);
            Stall { begin: at(from), end: at(to) }
        };
        let all = [stall(2_000, 2_050), stall(0, 300), stall(10, 320), stall(390, 450)];
        assert_eq!(union_of(all.into_iter()), Duration::from_millis(550 + 150));
    }

    #[test]
    fn a_story_on_a_machine_that_keeps_time_is_told_once() {
        let quiet = Testimony { stalls: Vec::new(), stolen: Duration::from_millis(50) };
        assert!(quiet.kept_time());
        let robbed = Testimony { stalls: Vec::new(), stolen: Duration::from_millis(500) };
        assert!(!robbed.kept_time());
    }
}
