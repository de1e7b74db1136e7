//! A telephone calls our number; it rings in the user's browser.
use offhook_tests::api::Api;
use offhook_tests::browser::role;
use offhook_tests::sipp::Caller;
use offhook_tests::stack::Plan;
use offhook_tests::trunk::{OUR_NUMBER, Trunk};
use offhook_tests::wait::secs;
use offhook_tests::{Baresip, Sipp, Softphone, Stack, ports, sound, story, wait};

#[test]
fn our_number_rings_the_browser_and_both_hear_each_other() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let folder = stack.folder.path();
        let caller =
            Baresip::start(folder, trunk.port, &sound::tone_file(folder, 620, sound::TELEPHONE_RATE, 90), false);
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        caller.dial(&format!("sip:{OUR_NUMBER}@127.0.0.1:{}", stack.sip_port));
        alice.wait_for(&role("alertdialog", "Incoming call"), secs(10));
        alice.picture("incoming");
        alice.answer();
        alice.wait_active();
        alice.hear_tone(620, 2.0, 6).assert_only("Alice", 620, &[440, 1_400]);
        alice.press_keys("42#");
        let pressed = || caller.digits_heard();
        wait::until("the keys at the telephone", secs(10), || match pressed() {
            digits if digits.len() >= 3 => Ok(()),
            digits => Err(format!("{digits:?}")),
        });
        assert_eq!(pressed(), "42#");
        alice.hang_up();
        alice.wait_idle();
        caller.wait_call_closed();
        let heard = caller.heard().from_onset(440, 3.0);
        heard.between(0.0, 5.0).assert_only("the telephone", 440, &[620, 1_400]);
        let calls = Api::dev(&stack.url(), "alice").calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        assert_eq!((&calls[0]["direction"], &calls[0]["cause"]), (&"inbound".into(), &"normal".into()), "{}", calls[0]);
    });
}

#[test]
fn a_callers_keys_arrive_once_each() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut caller =
            Sipp::caller(stack.folder.path(), trunk.port, stack.sip_port, &Caller { to: OUR_NUMBER, keys: "159*#" });
        alice.answer();
        alice.wait_active();
        alice.wait_for(&offhook_tests::browser::says("log", "159*#"), secs(20));
        let shown = alice.text_of(&offhook_tests::browser::says("log", "159*#"));
        assert!(shown.trim_end().ends_with(": 159*#"), "{shown}");
        assert!(caller.finish(secs(20)), "{}", caller.messages());
        alice.wait_idle();
        // What a caller types may be a secret, so the history does not keep it.
        let api = Api::dev(&stack.url(), "alice");
        let id = api.calls()[0]["id"].as_str().unwrap().to_owned();
        let call = api.get(&format!("/v1/calls/{id}")).to_string();
        assert!(!call.contains("159") && !call.contains("\"digit\""), "{call}");
    });
}

#[test]
fn a_stranger_is_not_answered_and_creates_nothing() {
    story(|| {
        let trunk = Trunk::on_loopback();
        let stack = Stack::up(&Plan { config: trunk.config(), ..Plan::default() });
        let before = stack.gauges();
        let dropped = stack.figure("sip", "sip_dropped_total", "unknown_source");
        let socket = std::net::UdpSocket::bind(("127.0.0.9", 0)).unwrap();
        let invite = offhook_tests::sipp::plain_invite(OUR_NUMBER, stack.sip_port, ports::free());
        socket.send_to(invite.as_bytes(), ("127.0.0.1", stack.sip_port)).unwrap();
        wait::until_true("the stranger to be counted", secs(5), || {
            stack.figure("sip", "sip_dropped_total", "unknown_source") > dropped
        });
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 2_048]).is_err(), "a stranger was answered");
        assert_eq!(stack.gauges(), before);
        assert!(Api::dev(&stack.url(), "alice").calls().is_empty());
    });
}
