//! A stack with a user before it, and what it holds while nothing happens.
use offhook_contract::HangupCause;
use offhook_tests::api::Api;
use offhook_tests::stack::Plan;
use offhook_tests::trunk::Trunk;
use offhook_tests::wait::{self, secs};
use offhook_tests::{Softphone, Stack};
use std::collections::BTreeMap;

/// A stack, its user, and what it held before anything happened.
pub struct Desk {
    pub stack: Stack,
    pub trunk: Trunk,
    pub alice: Softphone,
    pub api: Api,
    gauges: BTreeMap<String, f64>,
    files: usize,
}

const TIMES: &str = "ring_timeout_s = 5\n";

impl Desk {
    pub fn open(trunk: Trunk) -> Self {
        let sections = BTreeMap::from([("control", TIMES.to_owned()), ("sip", "carrier_silence_s = 3\n".to_owned())]);
        let stack = Stack::up(&Plan { config: trunk.config(), sections, ..Plan::default() });
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        // The first call opens what is opened once and kept.
        alice.dial("*43");
        alice.wait_active();
        alice.hang_up();
        alice.wait_idle();
        let api = Api::dev(&stack.url(), "alice");
        let (gauges, files) = settled(&stack);
        Self { stack, trunk, alice, api, gauges, files }
    }

    /// The newest call of the log ended for this cause.
    #[track_caller]
    pub fn logged(&self, cause: HangupCause) {
        wait::until("the log's cause", secs(5), || {
            let calls = self.api.calls();
            let newest = calls.first().ok_or("no call is logged")?;
            if newest["cause"] == cause.as_str() { Ok(()) } else { Err(newest.to_string()) }
        });
    }

    /// From now on this is what the stack may hold.
    pub fn look_again(&mut self) {
        (self.gauges, self.files) = settled(&self.stack);
    }

    /// Rooms, legs, ports, sockets, timers, taps and files are what they were at the last look.
    #[track_caller]
    pub fn holds_nothing_more(&self) {
        wait::until("everything to be let go", secs(45), || {
            let now = self.stack.gauges();
            let before = |name: &String| self.gauges.get(name).copied().unwrap_or(0.0);
            let more: Vec<_> = now.iter().filter(|(name, value)| **value > before(name)).collect();
            let files = self.stack.open_files();
            if more.is_empty() && files <= self.files {
                return Ok(());
            }
            Err(format!("{more:?}; {files} open files, {} before", self.files))
        });
    }
}

/// The gauges when two looks in a row agree.
fn settled(stack: &Stack) -> (BTreeMap<String, f64>, usize) {
    let mut last = BTreeMap::new();
    wait::until("the gauges to settle", secs(30), || {
        let calls = stack.figure("control", "calls", "") + stack.figure("sfu", "sfu_rooms", "");
        let now = stack.gauges();
        let calm = calls == 0.0 && now == last;
        last = now;
        if calm { Ok(()) } else { Err("they change".into()) }
    });
    (last, stack.open_files())
}
