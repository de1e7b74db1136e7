//! A recorded call: two clean channels, beeps on their grid in everybody's ears, files that agree with each other.
use offhook_tests::api::Api;
use offhook_tests::browser::{css, role, says};
use offhook_tests::recorded::Recorded;
use offhook_tests::stack::Plan;
use offhook_tests::wait::{length, secs};
use offhook_tests::{Softphone, Stack, story};
use serde_json::json;

const BEEP_HZ: u32 = 1_400;

/// The beginnings of beeps lie on the 15 s grid of the first one, within 0.15 s.
#[track_caller]
pub fn assert_on_grid(who: &str, beeps: &[f64], at_least: usize) {
    assert!(beeps.len() >= at_least, "{who}: {beeps:?}");
    for beep in beeps {
        let since = beep - beeps[0];
        let off = (since - (since / 15.0).round() * 15.0).abs();
        assert!(off <= 0.15, "{who}: a beep is {off:.3} s off the grid: {beeps:?}");
    }
}

#[test]
fn each_party_is_on_its_own_channel_and_both_hear_the_beeps() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let api = Api::dev(&stack.url(), "alice");
        let set = api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_answer"})), &[]);
        assert_eq!(set.status, 200, "{}", String::from_utf8_lossy(&set.bytes));
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        bob.wait_active();
        let from = bob.heard_frames();
        for phone in [&mut alice, &mut bob] {
            phone.wait_for(&says("status", "This call is being recorded"), secs(15));
            assert_eq!(phone.count(&css("[data-recording] button")), 0, "the indicator can be closed");
        }
        let seconds = length(40, 300);
        let beeps = seconds as usize / 15;
        let at_alice = alice.listen(seconds);
        let at_bob = bob.listen_from(from, seconds);
        alice.picture("recorded");
        alice.hang_up();
        alice.wait_idle();
        // A tone goes on under the notice and the beeps.
        at_alice.from_onset(620, 2.0).assert_only_after_notice("Alice", 620, &[440]);
        at_bob.from_onset(440, 2.0).assert_only_after_notice("Bob", 440, &[620]);
        assert_on_grid("Alice's ear", &at_alice.bursts(BEEP_HZ), beeps);
        assert_on_grid("Bob's ear", &at_bob.bursts(BEEP_HZ), beeps);

        let recorded = Recorded::fetch(&api, stack.folder.path());
        recorded.assert_files_agree();
        let (left, right) = (recorded.left(), recorded.right());
        left.from_onset(440, 2.0).but_last(0.5).assert_only_after_notice("the left channel", 440, &[620]);
        right.from_onset(620, 2.0).but_last(0.5).assert_only_after_notice("the right channel", 620, &[440]);
        assert_on_grid("the left channel", &left.bursts(BEEP_HZ), beeps + 1);
        assert_on_grid("the right channel", &right.bursts(BEEP_HZ), beeps + 1);
        recorded.assert_consent(beeps + 1);

        // The history plays it to a person.
        alice.click(&role("button", "Play recording"));
        alice.wait_for(&css("audio[controls]"), secs(15));
        alice.until("document.querySelector('audio[controls]').duration > 35", secs(10));
        alice.until("document.querySelector('canvas') !== null", secs(10));
        alice.picture("recording");
    });
}

#[test]
fn on_demand_the_button_starts_and_stops_it_and_never_before_the_answer() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let api = Api::dev(&stack.url(), "alice");
        api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_demand"})), &[]);
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.wait_for(&role("button", "Answer"), secs(10));
        assert_eq!(alice.count(&role("button", "Record")), 0, "recording is offered before the answer");
        bob.answer();
        alice.wait_active();
        assert_eq!(bob.count(&says("status", "This call is being recorded")), 0);
        alice.click(&role("button", "Record"));
        bob.wait_for(&says("status", "This call is being recorded"), secs(15));
        let heard = bob.listen(8);
        assert!(!heard.bursts(BEEP_HZ).is_empty(), "no beep after the notice");
        alice.click(&role("button", "Stop recording"));
        bob.wait_gone(&says("status", "This call is being recorded"), secs(15));
        let after = bob.listen(17);
        assert!(after.bursts(BEEP_HZ).is_empty(), "beeps go on after the recording: {:?}", after.bursts(BEEP_HZ));
        alice.hang_up();
        alice.wait_idle();
        Recorded::fetch(&api, stack.folder.path()).assert_files_agree();
    });
}
