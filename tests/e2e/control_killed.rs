//! Call-control dies in mid-call: nobody hears it, and it finds the call again.
use offhook_tests::api::Api;
use offhook_tests::browser::{role, says};
use offhook_tests::stack::Plan;
use offhook_tests::wait::{length, secs};
use offhook_tests::{Softphone, Stack, story};

#[test]
fn a_killed_call_control_interrupts_nothing_and_finds_the_call_again() {
    story(|| {
        let mut stack = Stack::split(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        bob.wait_active();
        let (at_alice, at_bob) = (alice.heard_frames(), bob.heard_frames());
        alice.listen(2);
        for _ in 0..length(1, 5) {
            stack.kill_9("control");
            for phone in [&mut alice, &mut bob] {
                phone.wait_for(&says("alert", "Your call goes on"), secs(15));
            }
            stack.start("control");
            for phone in [&mut alice, &mut bob] {
                phone.wait_gone(&says("alert", "Your call goes on"), secs(20));
                phone.wait_for(&role("button", "Hang up"), secs(5));
                phone.wait_for(&role("timer", "Duration"), secs(5));
            }
        }
        alice.listen(3);
        let seconds = (alice.heard_frames() - at_alice) / 48_000;
        alice.listen_from(at_alice, seconds).from_onset(620, 2.0).assert_only("Alice", 620, &[440]);
        bob.listen_from(at_bob, seconds).from_onset(440, 2.0).assert_only("Bob", 440, &[620]);
        bob.hang_up();
        bob.wait_idle();
        alice.wait_ended("status", "Bob ended the call.");
        for login in ["alice", "bob"] {
            let calls = Api::dev(&stack.url(), login).calls();
            assert_eq!(calls.len(), 1, "{login}: {calls:?}");
            assert_eq!((&calls[0]["state"], &calls[0]["cause"]), (&"ended".into(), &"normal".into()), "{}", calls[0]);
            let length = calls[0]["duration_ms"].as_u64().unwrap() / 1_000;
            assert!((seconds..seconds + 15).contains(&length), "{length} s are logged, {seconds} s were heard");
        }
    });
}

#[test]
fn a_reloaded_page_joins_the_same_call_again() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        bob.wait_active();
        alice.hear_tone(620, 2.0, 2);
        alice.reload();
        alice.wait_active();
        alice.hear_tone(620, 5.0, 4).assert_only("Alice after the reload", 620, &[440]);
        bob.hear_tone(440, 2.0, 4).assert_only("Bob after the reload", 440, &[620]);
        alice.hang_up();
        bob.wait_ended("status", "Alice ended the call.");
        assert_eq!(Api::dev(&stack.url(), "alice").calls().len(), 1);
    });
}
