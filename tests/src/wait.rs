//! Waiting for something to become true, with a bound and with words.
use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(50);

/// Asks again and again until `probe` returns something; panics with `what` and the last reason after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= deadline => panic!("waited {limit:?} for {what}: {reason}"),
            Err(_) => std::thread::park_timeout(STEP),
        }
    }
}

/// [`until`] for a plain condition.
pub fn until_true(what: &str, limit: Duration, mut probe: impl FnMut() -> bool) {
    until(what, limit, || if probe() { Ok(()) } else { Err("not yet".into()) });
}

/// The long form of a proof, in seconds or times, under `make soak`.
pub use offhook_testkit::length;

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
