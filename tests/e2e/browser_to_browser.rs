//! Extension 101 calls 102: each hears the other and not itself; hang-up ends both; both have it in the history.
use offhook_tests::api::Api;
use offhook_tests::browser::Options;
use offhook_tests::stack::Plan;
use offhook_tests::wait::length;
use offhook_tests::{Softphone, Stack, sound, story};

#[test]
fn two_browsers_hear_each_other_and_both_keep_the_call_in_their_history() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        bob.wait_active();
        let from = bob.heard_frames();
        let seconds = length(6, 300);
        alice.hear_tone(620, 2.0, seconds).assert_only("Alice", 620, &[440, 1_400]);
        bob.listen_from(from, seconds + 2).from_onset(440, 2.0).assert_only("Bob", 440, &[620, 1_400]);
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
    });
}

/// As a person uses it: echo cancellation, noise suppression and gain control at work, which would swallow a tone.
#[test]
fn a_voice_is_heard_through_the_browsers_own_voice_processing() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let voice = sound::spoken_file(stack.folder.path());
        let mut alice = Softphone::open(&stack, "Alice", Options { wav: Some(voice.clone()), ..Options::default() });
        let silence = sound::silent_file(stack.folder.path());
        let mut bob =
            Softphone::open(&stack, "Bob", Options { wav: Some(silence), listen: true, ..Options::default() });
        alice.dial("102");
        bob.answer();
        bob.wait_active();
        bob.listen(3);
        let heard = bob.listen(8);
        let (loud, share) = (sound::loud_share(&sound::read_wav(&voice).1[0]), sound::loud_share(&heard.samples));
        assert!(share > 0.6 * loud, "Bob hears a voice in {share:.2} of the time, Alice speaks in {loud:.2} of it");
        alice.hang_up();
        bob.wait_ended("status", "Alice ended the call.");
    });
}
