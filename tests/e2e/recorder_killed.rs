//! The recorder dies in mid-call: the call does not notice, the recording goes on as its next segment.
use crate::recording::assert_on_grid;
use offhook_tests::api::Api;
use offhook_tests::browser::{says, text};
use offhook_tests::recorded::Recorded;
use offhook_tests::stack::Plan;
use offhook_tests::wait::{length, secs};
use offhook_tests::{Softphone, Stack, story};
use serde_json::json;

#[test]
fn a_killed_recorder_costs_neither_call_nor_beeps_and_resumes_as_the_next_segment() {
    story(|| {
        let mut stack = Stack::split(&Plan::default());
        let api = Api::dev(&stack.url(), "alice");
        api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_answer"})), &[]);
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        bob.wait_for(&says("status", "This call is being recorded"), secs(20));
        let from = bob.heard_frames();
        // Dead over a beep the first time, and never for as long as the SFU keeps the Tap (10 s).
        let kills = length(1, 4);
        let mut dead = Vec::new();
        for _ in 0..kills {
            bob.listen(11);
            let died = bob.heard_frames() - from;
            stack.kill_9("recorder");
            bob.listen(7);
            dead.push((died as f64 / 48_000.0, (bob.heard_frames() - from) as f64 / 48_000.0));
            stack.start("recorder");
        }
        let heard = bob.listen_from(from, 30 + 20 * kills);
        heard.from_onset(440, 1.0).assert_only_after_notice("Bob", 440, &[620]);
        let beeps = heard.bursts(1_400);
        let (died, back) = dead[0];
        assert!(beeps.iter().any(|at| (died..back).contains(at)), "no beep from {died:.1} to {back:.1} s: {beeps:?}");
        assert_on_grid("Bob's ear", &heard.bursts(1_400), 2 + kills as usize);
        alice.hang_up();
        alice.wait_idle();
        let recorded = Recorded::fetch(&api, stack.folder.path());
        recorded.assert_files_agree();
        let segments = recorded.row["segments"].as_array().unwrap();
        assert_eq!(segments.len() as u64, kills + 1, "{}", recorded.row);
        let lost: f64 = segments.iter().filter_map(|s| s["gap_ms"].as_f64()).sum();
        assert!(lost <= 1_000.0 * kills as f64, "{lost} ms are lost: {}", recorded.row);
        let present = recorded.left().from_onset(440, 2.0).but_last(0.5).presence(440);
        let whole = recorded.left().seconds();
        assert!(
            f64::from(present) * whole >= whole - 2.0 * kills as f64,
            "only {:.1} % of {whole:.1} s is there",
            present * 100.0
        );
        let words = if kills == 1 { "Interrupted once".to_owned() } else { format!("Interrupted {kills} times") };
        alice.wait_for(&text(&words), secs(20));
    });
}
