//! The page itself: under its own policy, by keyboard, on a small screen, in two tabs, without a microphone or a server.
use offhook_tests::browser::{Options, label, role, says, text};
use offhook_tests::stack::Plan;
use offhook_tests::wait::secs;
use offhook_tests::{Softphone, Stack, sound, story};

#[test]
fn a_narrow_page_is_used_by_keyboard_alone_under_a_strict_policy() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let wav = sound::tone_file(stack.folder.path(), 440, sound::BROWSER_RATE, 120);
        let options = Options { wav: Some(wav), narrow: true, ..Options::default() };
        let mut alice = Softphone::open(&stack, "Alice", options);
        let too_wide = alice.evaluate("document.documentElement.scrollWidth > innerWidth");
        assert_eq!(too_wide, false, "the page scrolls sideways");
        tab_to(&mut alice, "Number or extension");
        for key in ["*", "4", "3", "Enter"] {
            alice.press(key);
        }
        alice.wait_active();
        tab_to(&mut alice, "Mute");
        alice.press("Enter");
        alice.wait_for(&role("button", "Unmute"), secs(5));
        tab_to(&mut alice, "Hang up");
        alice.press("Enter");
        alice.wait_for(&says("status", "You ended the call."), secs(10));
        let console = alice.console();
        assert!(!console.contains("Content Security Policy"), "{console}");
        let policy = stack_policy(&stack);
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{part} is not in {policy}");
        }
        assert!(!policy.contains("unsafe-inline"), "{policy}");
    });
}

fn stack_policy(stack: &Stack) -> String {
    let nobody = offhook_tests::api::Api { base: stack.url(), token: String::new() };
    let reply = nobody.send("GET", "/", None, &[]);
    reply.headers.get("content-security-policy").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Presses Tab until the focus is on the element of this name.
#[track_caller]
fn tab_to(phone: &mut Softphone, name: &str) {
    let focused =
        "(() => { const e = document.activeElement; return e.getAttribute('aria-label') ?? e.innerText ?? ''; })()";
    for _ in 0..60 {
        if phone.evaluate(focused).as_str().unwrap_or_default().trim() == name {
            return;
        }
        phone.press("Tab");
    }
    panic!("{name} is not reached by Tab");
}

#[test]
fn a_person_who_refuses_the_microphone_is_told_how_to_allow_it() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let mut alice = Softphone::open(&stack, "Alice", Options { microphone_denied: true, ..Options::default() });
        alice.dial("*43");
        alice.wait_for(&says("alert", "This page may not use the microphone."), secs(10));
        assert_eq!(stack.figure("control", "calls", ""), 0.0, "a call was begun without a microphone");
    });
}

#[test]
fn a_second_tab_waits_and_takes_the_running_call_over_when_asked_to() {
    story(|| {
        let stack = Stack::up(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        alice.dial("*43");
        alice.wait_active();
        alice.use_tab("second");
        alice.open(&stack.url());
        alice.wait_for(&text("The phone is active in another tab"), secs(10));
        alice.click(&role("button", "Use the phone here"));
        alice.wait_active();
        alice.hear_tone(440, 5.0, 3).assert_only("Alice in the second tab", 440, &[1_400]);
        alice.use_tab("main");
        alice.wait_for(&text("The phone is active in another tab"), secs(10));
    });
}

#[test]
fn a_page_whose_server_is_away_says_so_and_comes_back() {
    story(|| {
        let mut stack = Stack::up(&Plan::default());
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        stack.kill_9("offhook");
        alice.wait_for(&says("alert", "Connection lost. Reconnecting"), secs(15));
        stack.start("offhook");
        alice.wait_gone(&says("alert", "Connection lost. Reconnecting"), secs(20));
        alice.wait_for(&label("Number or extension"), secs(5));
        alice.dial("*43");
        alice.wait_active();
    });
}
