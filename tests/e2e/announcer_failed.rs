//! A party whom announcements cannot reach: there is no recording of that party, and everybody is told so.
use offhook_tests::api::Api;
use offhook_tests::browser::{css, says, text};
use offhook_tests::stack::Plan;
use offhook_tests::wait::{self, secs};
use offhook_tests::{Softphone, Stack, story};
use serde_json::json;

/// A page that has no line for announcements: it takes one line less than it should.
const WITHOUT_ANNOUNCER: &str = "
    const add = RTCPeerConnection.prototype.addTransceiver;
    RTCPeerConnection.prototype.addTransceiver = function (kind, options) {
        if (options?.direction === 'recvonly') {
            this.lines = (this.lines ?? 0) + 1;
            if (this.lines > 1) options = { direction: 'inactive' };
        }
        return add.call(this, kind, options);
    };";

const BEEP_HZ: u32 = 1_400;

fn stack() -> (Stack, Api) {
    let stack = Stack::up(&Plan::default());
    let api = Api::dev(&stack.url(), "alice");
    api.send("PATCH", "/v1/settings/recording", Some(json!({"mode": "on_answer"})), &[]);
    (stack, api)
}

#[test]
fn nothing_is_recorded_and_nobody_beeps_when_the_notice_cannot_be_heard() {
    story(|| {
        let (stack, api) = stack();
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        bob.before_each_page(WITHOUT_ANNOUNCER);
        bob.reload();
        bob.wait_for(&text("Connected"), secs(15));
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        let from = alice.heard_frames();
        alice.wait_for(&says("alert", "Recording has stopped"), secs(20));
        assert_eq!(alice.count(&css("[data-recording]")), 0, "the indicator is on");
        let heard = alice.listen_from(from, 20);
        heard.from_onset(620, 3.0).assert_only("Alice", 620, &[440]);
        assert!(heard.bursts(BEEP_HZ).is_empty(), "beeps without a recording: {:?}", heard.bursts(BEEP_HZ));
        alice.hang_up();
        alice.wait_idle();
        let row = wait::until("the recording's row", secs(10), || {
            let row = api.calls()[0]["recordings"][0].clone();
            if row["state"] == "failed" { Ok(row) } else { Err(row.to_string()) }
        });
        assert_eq!(row["files"].as_array().map_or(0, Vec::len), 0, "{row}");
        assert!(files_under(&stack.data(), "flac").is_empty(), "a file is there");
    });
}

#[test]
fn a_recording_stops_when_such_a_page_joins_and_its_file_ends_there() {
    story(|| {
        let (stack, api) = stack();
        let mut alice = Softphone::sign_in(&stack, "Alice", 440);
        let mut bob = Softphone::sign_in(&stack, "Bob", 620);
        alice.dial("102");
        bob.answer();
        alice.wait_active();
        alice.wait_for(&says("status", "This call is being recorded"), secs(15));
        alice.listen(6);
        bob.before_each_page(WITHOUT_ANNOUNCER);
        bob.reload();
        bob.wait_active();
        alice.wait_for(&says("alert", "Recording has stopped"), secs(20));
        let after = alice.listen(17);
        assert!(after.bursts(BEEP_HZ).is_empty(), "beeps go on: {:?}", after.bursts(BEEP_HZ));
        assert!(after.presence(620) >= 0.99, "the call itself was hurt");
        alice.hang_up();
        alice.wait_idle();
        // What was recorded before is kept, with its beep, and ends when the recording stopped.
        let flac = wait::until("the file of what was recorded", secs(30), || {
            files_under(&stack.data(), "flac").pop().ok_or_else(|| api.calls()[0]["recordings"].to_string())
        });
        let wav = stack.folder.path().join("kept.wav");
        let done =
            std::process::Command::new("flac").args(["-d", "-s", "-f", "-o"]).arg(&wav).arg(&flac).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let (rate, channels) = offhook_tests::sound::read_wav(&wav);
        let seconds = channels[0].len() as f64 / f64::from(rate);
        assert!((5.0..16.0).contains(&seconds), "the file lasts {seconds:.1} s");
        let row = api.calls()[0]["recordings"][0].clone();
        assert_eq!(row["state"], "failed", "{row}");
    });
}

fn files_under(folder: &std::path::Path, extension: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths
        .flat_map(|path| if path.is_dir() { files_under(&path, extension) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .collect()
}
