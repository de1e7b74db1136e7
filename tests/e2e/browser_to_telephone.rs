//! A browser calls a telephone through the carrier's trunk.
use offhook_tests::api::Api;
use offhook_tests::sipp::Carrier;
use offhook_tests::stack::Plan;
use offhook_tests::trunk::{TELEPHONE, Trunk};
use offhook_tests::wait::secs;
use offhook_tests::{Baresip, Sipp, Softphone, Stack, sound, story};
use std::time::Duration;

#[test]
fn a_carrier_that_demands_digest_is_heard_before_its_answer_and_after_it() {
    story(|| {
        let trunk = Trunk::on_loopback().with_account("offhook", "open sesame");
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path();
        let mut carrier = Sipp::carrier(
            folder,
            trunk.port,
            &Carrier {
                digest: Some(("offhook".into(), "open sesame".into())),
                early: Some((sound::ulaw_file(folder, 1_000, 20), Duration::from_secs(8))),
                answer: Some(sound::ulaw_file(folder, 800, 20)),
                ..Carrier::default()
            },
        );
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial(TELEPHONE);
        alice.wait_says("Connecting through the telephone network");
        alice.hear_tone(1_000, 3.0, 3).assert_only("Alice before the answer", 1_000, &[440, 800]);
        alice.wait_active();
        alice.hear_tone(800, 2.0, 6).but_last(0.5).assert_only("Alice after the answer", 800, &[440, 1_000]);
        alice.picture("telephone");
        alice.hang_up();
        alice.wait_idle();
        assert!(carrier.finish(secs(10)), "{}", carrier.messages());
        let calls = Api::dev(&stack.url(), "alice").calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!(
            (&calls[0]["direction"], &calls[0]["cause"]),
            (&"outbound".into(), &"normal".into()),
            "{}",
            calls[0]
        );
        assert_eq!(calls[0]["to"]["number"], TELEPHONE);
    });
}

#[test]
fn a_telephone_hears_the_browser_and_nothing_of_itself() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path();
        let callee =
            Baresip::start(folder, trunk.port, &sound::tone_file(folder, 620, sound::TELEPHONE_RATE, 60), true);
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial(TELEPHONE);
        alice.wait_active();
        alice.hear_tone(620, 2.0, 6).assert_only("Alice", 620, &[440, 1_400]);
        alice.hang_up();
        alice.wait_idle();
        callee.wait_call_closed();
        let heard = callee.heard().from_onset(440, 2.0).but_last(0.5);
        assert!(heard.seconds() >= 5.0, "the telephone heard {:.1} s", heard.seconds());
        heard.assert_only("the telephone", 440, &[620, 1_400]);
    });
}

#[test]
fn a_telephone_that_hangs_up_ends_the_call_in_the_browser() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path();
        let mut carrier = Sipp::carrier(
            folder,
            trunk.port,
            &Carrier {
                answer: Some(sound::ulaw_file(folder, 800, 20)),
                hang_up_after: Some(Duration::from_secs(3)),
                ..Carrier::default()
            },
        );
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial(TELEPHONE);
        alice.wait_active();
        alice.wait_ended("status", &format!("{TELEPHONE} ended the call."));
        assert!(carrier.finish(secs(10)), "{}", carrier.messages());
    });
}
