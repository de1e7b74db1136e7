//! Calls that were answered, recorded and ended leave nothing behind.
use crate::desk::Desk;
use offhook_tests::browser::says;
use offhook_tests::trunk::{TELEPHONE, Trunk};
use offhook_tests::wait::{self, length, secs};
use offhook_tests::{Baresip, sound, story};
use serde_json::json;

#[test]
fn an_answered_and_recorded_telephone_call_leaves_nothing_behind() {
    story(|| {
        let mut desk = Desk::open(Trunk::on_loopback());
        desk.api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_answer"})), &[]);
        let folder = desk.stack.folder.path().to_path_buf();
        let tone = sound::tone_file(&folder, 620, sound::TELEPHONE_RATE, 120);
        let _callee = Baresip::start(&folder, desk.trunk.port, &tone, true);
        // The first such call opens what is opened once and kept.
        call(&mut desk, 1);
        desk.look_again();
        let last = 1 + length(2, 50) as usize;
        for nth in 2..=last {
            call(&mut desk, nth);
        }
        desk.holds_nothing_more();
    });
}

/// Rings, is answered, recorded, ended; its recording is finished.
#[track_caller]
fn call(desk: &mut Desk, nth: usize) {
    desk.alice.dial(TELEPHONE);
    desk.alice.wait_active();
    desk.alice.wait_for(&says("status", "This call is being recorded"), secs(20));
    desk.alice.hear_tone(620, 5.0, 1);
    assert!(desk.stack.figure("sfu", "sfu_taps", "") > 0.0, "a recorded call has a Tap");
    desk.alice.hang_up();
    desk.alice.wait_idle();
    wait::until("the recording to be finished", secs(40), || {
        let calls = desk.api.calls();
        let recorded = calls.iter().filter(|call| call["recordings"][0]["state"] == "stopped").count();
        // The first of all was the echo test.
        if recorded >= nth { Ok(()) } else { Err(format!("{recorded} of {nth}: {:?}", calls.first())) }
    });
}
