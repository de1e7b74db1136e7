//! The SFU could play no more beeps: what was recorded until then is kept, says why it ends, and has no beep after it.
use crate::rig::{Rig, directory_of, finished};
use crate::sfu::{FRAME, ORIGIN, SECOND, Voice, beep, hub, open};
use crate::sound::{read_flac, tone_in};
use offhook_contract::{CodecName, Fact};
use offhook_link::{ClosedReason, InProcessTaps, TapForm};
use offhook_media::detect::find_bursts;
use offhook_recorder_core::consent::{self, ConsentEvent};
use offhook_recorder_core::input::CloseReason;
use offhook_recorder_core::manifest::Manifest;

#[tokio::test]
async fn a_recording_whose_beeps_failed_ends_with_the_last_beep_that_was_played_and_says_why() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, "rec-1", &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    let mut left = Voice::leg(&mut tap, 1, "caller", CodecName::Opus, 440.0);
    let mut right = Voice::leg(&mut tap, 2, "callee", CodecName::Pcmu, 700.0);
    let mut server = Voice::announcer(&mut tap, 3, CodecName::Opus);
    for frame in 0..9 * 50 {
        let at = frame * FRAME;
        left.send(&mut tap, at);
        right.send(&mut tap, at);
        if [SECOND, 4 * SECOND].contains(&at) {
            beep(&mut tap, &mut server, at);
        }
    }
    tap.writer.close(ClosedReason::AnnouncerFailed, ORIGIN + 9 * SECOND);
    let Fact::RecordingFinished { duration_ms, .. } = rig.fact(finished).await else { panic!() };
    assert!(duration_ms.abs_diff(9_000) < 100, "{duration_ms}");
    let directory = directory_of(data.path(), "rec-1");
    let stereo = read_flac(&directory.join("recording.flac"));
    for (side, hz) in [(&stereo.left, 440.0), (&stereo.right, 700.0)] {
        let (share, _) = tone_in(side, stereo.rate, hz, 100, 8_900);
        assert!(share >= 0.99, "{hz} Hz in {share}: what was said without beeps until the end is kept");
        let beeps: Vec<u32> = find_bursts(side, stereo.rate, 1_400.0).iter().map(|burst| burst.start_ms).collect();
        assert!(beeps.len() == 2 && beeps[0].abs_diff(1_000) <= 20 && beeps[1].abs_diff(4_000) <= 20, "{beeps:?}");
    }
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((manifest.stopped, manifest.announcements.len()), (CloseReason::AnnouncerFailed, 2));
    let log = consent::read(&std::fs::read(directory.join("consent.jsonl")).unwrap());
    let why = ConsentEvent::RecordingStopped { reason: CloseReason::AnnouncerFailed };
    assert_eq!(log.lines.iter().filter(|line| line.event == why).count(), 1);
    assert_eq!(log.chain.head(), manifest.consent_head);
}
