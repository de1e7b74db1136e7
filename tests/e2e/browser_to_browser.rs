//! Extension 101 calls 102: each hears the other and not itself; hang-up ends both; both have it in the history.
use offhook_tests::api::Api;
use offhook_tests::stack::Plan;
use offhook_tests::{Softphone, Stack};

#[test]
fn two_browsers_hear_each_other_and_both_keep_the_call_in_their_history() {
    let stack = Stack::up(&Plan::default());
    let mut alice = Softphone::sign_in(&stack, "Alice", 440);
    let mut bob = Softphone::sign_in(&stack, "Bob", 620);
    alice.dial("102");
    bob.answer();
    alice.wait_active();
    bob.wait_active();
    let from = bob.heard_frames();
    alice.hear_tone(620, 2.0, 6).assert_only("Alice", 620, &[440, 1_400]);
    bob.listen_from(from, 8).from_onset(440, 2.0).assert_only("Bob", 440, &[620, 1_400]);
    alice.picture("active");
    alice.hang_up();
    alice.wait_idle();
    bob.wait_says("Alice ended the call.");
    bob.picture("ended");
    for (login, direction) in [("alice", "internal"), ("bob", "internal")] {
        let calls = Api::dev(&stack.url(), login).calls();
        assert_eq!(calls.len(), 1, "{login}: {calls:?}");
        let call = &calls[0];
        assert_eq!((&call["direction"], &call["cause"]), (&direction.into(), &"normal".into()), "{call}");
        assert_eq!(call["to"]["number"], "102");
        assert!(call["duration_ms"].as_u64().unwrap() >= 6_000, "{call}");
    }
}
