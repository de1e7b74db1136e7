//! `*43` returns one's own tone.
use offhook_tests::stack::Plan;
use offhook_tests::wait::secs;
use offhook_tests::{Softphone, Stack, browser, story, wait};

#[test]
fn the_echo_test_returns_ones_own_tone_and_leaves_nothing_behind() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial("*43");
        alice.wait_active();
        let heard = alice.hear_tone(440, 2.0, 6);
        heard.assert_only("Alice", 440, &[1_400, 880]);
        alice.picture("echo");
        alice.hang_up();
        alice.wait_idle();
        alice.wait_for(&browser::text("You ended the call."), secs(5));
        for (daemon, gauge) in [("sfu", "sfu_rooms"), ("sfu", "sfu_peers"), ("control", "calls"), ("control", "legs")] {
            wait::until_true(&format!("{gauge} to be 0 again"), secs(10), || stack.figure(daemon, gauge, "") == 0.0);
        }
    });
}
