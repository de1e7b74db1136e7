//! Every daemon as its own process over nats-server, which goes away in mid-call.
use crate::recording::assert_on_grid;
use offhook_tests::api::Api;
use offhook_tests::recorded::Recorded;
use offhook_tests::stack::Plan;
use offhook_tests::trunk::{TELEPHONE, Trunk};
use offhook_tests::wait::length;
use offhook_tests::{Baresip, Softphone, Stack, sound, story};
use serde_json::json;

#[test]
fn a_recorded_telephone_call_survives_twenty_seconds_without_its_bus() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let mut stack = Stack::split(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path().to_path_buf();
        let api = Api::dev(&stack.url(), "alice");
        api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_answer"})), &[]);
        let callee =
            Baresip::start(&folder, trunk.port, &sound::tone_file(&folder, 620, sound::TELEPHONE_RATE, 180), true);
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial(TELEPHONE);
        alice.wait_active();
        alice.wait_says("This call is being recorded");
        let from = alice.heard_frames();
        alice.listen(4);
        stack.nats.as_mut().unwrap().stop();
        let dark = length(20, 120);
        alice.listen(dark);
        stack.nats.as_mut().unwrap().start_again();
        alice.listen(16);
        let heard = alice.listen_from(from, dark + 20);
        heard.from_onset(620, 1.0).assert_only_after_notice("Alice", 620, &[440]);
        assert_on_grid("Alice's ear", &heard.bursts(1_400), 2);
        alice.hang_up();
        alice.wait_idle();
        callee.wait_call_closed();
        callee.heard().from_onset(440, 3.0).but_last(0.5).assert_only_after_notice("the telephone", 440, &[620]);
        // The facts of the dark 20 s arrive: every beep of the recording is in the log.
        let recorded = Recorded::fetch(&api, &folder);
        recorded.assert_files_agree();
        let beeps = recorded.left().bursts(1_400);
        assert_on_grid("the left channel", &beeps, 3);
        recorded.assert_consent(beeps.len());
        assert_eq!(api.calls().len(), 1);
        assert_eq!(recorded.call["cause"], "normal", "{}", recorded.call);
    });
}
