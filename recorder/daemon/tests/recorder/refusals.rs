//! What the recorder refuses, and how it ends when others misbehave.
use crate::rig::{A_WHILE, Rig, context, directory_of, failed, finished};
use crate::sfu::{FRAME, SECOND, Voice, close, hub, open};
use crate::sound::{read_flac, tone_in};
use offhook_bus::BusError;
use offhook_contract::recorder::{GrantFile, RecorderInventoryRequest, RecordingFile, RecordingState, StopRecording};
use offhook_contract::sfu::TapOffer;
use offhook_contract::{CodecName, Context, ErrorCode, Secret};
use offhook_link::{Identity, InProcessTaps, TapForm};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

fn code<T: std::fmt::Debug>(outcome: Result<T, BusError>) -> (ErrorCode, String) {
    match outcome {
        Err(BusError::Refused(error)) => (error.code, error.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_refusal_has_its_code_and_words() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let rig = Rig::start_with(data.path(), &taps, "max_recordings = 1\n").await;
    let hub = hub(&taps).await;
    let unknown = crate::rig::recording("nobody");
    let stop = rig.ask(&StopRecording { recording: unknown.clone() }).await;
    assert_eq!(code(stop).0, ErrorCode::NotFound);
    let grant = rig.ask(&GrantFile { recording: unknown, file: RecordingFile::Flac }).await;
    assert_eq!(code(grant).0, ErrorCode::NotFound);

    let first = open(&hub, "rec-1", &rig.fingerprint);
    rig.record(first.offer.clone(), "caller").await.unwrap();
    let second = open(&hub, "rec-2", &rig.fingerprint);
    let (refused, words) = code(rig.record(second.offer.clone(), "caller").await);
    assert_eq!(refused, ErrorCode::Exhausted);
    assert!(words.contains("limit"), "{words}");
    let grant = rig.ask(&GrantFile { recording: first.offer.recording.clone(), file: RecordingFile::Flac }).await;
    assert_eq!(code(grant).0, ErrorCode::Conflict);
    let inventory = rig.ask(&RecorderInventoryRequest {}).await.unwrap();
    assert_eq!(inventory.recordings.len(), 1);
    let nobody = rig.ask_as(&Context::default(), &start_of(&second.offer)).await;
    assert_eq!(code(nobody).0, ErrorCode::Invalid);

    rig.switch.drain();
    rig.gauge_becomes("recordings", 1).await;
    rig.gauge_draining(&second.offer).await;
    close(first, SECOND);
    timeout(A_WHILE, rig.run).await.expect("a drained recorder ends with its last recording").unwrap().unwrap();
}

fn start_of(offer: &TapOffer) -> offhook_contract::recorder::StartRecording {
    offhook_contract::recorder::StartRecording {
        recording: offer.recording.clone(),
        tap: offer.clone(),
        caller_legs: Vec::new(),
        answered_ms: crate::rig::ANSWERED,
    }
}

impl Rig {
    /// From some moment on, a new recording is refused because of the drain.
    async fn gauge_draining(&self, offer: &TapOffer) {
        let refused = async {
            while code(self.record(offer.clone(), "caller").await).0 != ErrorCode::Draining {
                tokio::task::yield_now().await;
            }
        };
        timeout(A_WHILE, refused).await.expect("the drain is seen");
    }
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_no_new_recording() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let full = "[recorder]\nlisten = \"127.0.0.1:0\"\nmin_free_mib = 1000000000\n";
    let rig = Rig::start_raw(data.path(), &taps, full).await;
    let hub = hub(&taps).await;
    let tap = open(&hub, "rec-1", &rig.fingerprint);
    let (refused, words) = code(rig.record(tap.offer.clone(), "caller").await);
    assert_eq!(refused, ErrorCode::Exhausted);
    assert!(words.contains("must stay free"), "{words}");
}

#[tokio::test]
async fn a_tap_that_was_never_opened_fails_the_recording_with_a_reason() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let mut rig = Rig::start(data.path(), &taps).await;
    let hub = hub(&taps).await;
    let tap = open(&hub, "rec-1", &rig.fingerprint);
    let wrong = TapOffer { token: Secret::new("y".repeat(43)), ..tap.offer.clone() };
    rig.record(wrong, "caller").await.unwrap();
    let reason = rig.fact(failed).await;
    assert!(reason.contains("Tap"), "{reason}");
    rig.gauge_becomes("recordings", 0).await;
}

#[tokio::test]
async fn a_recording_stopped_by_call_control_is_finished_with_what_it_has() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let mut rig = Rig::start(data.path(), &taps).await;
    let hub = hub(&taps).await;
    let mut tap = open(&hub, "rec-1", &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    let mut voice = Voice::leg(&mut tap, 1, "caller", CodecName::Pcmu, 440.0);
    (0..100).for_each(|frame| voice.send(&mut tap, frame * FRAME));
    rig.fact(|fact| matches!(fact, offhook_contract::Fact::SegmentStarted { .. }).then_some(())).await;
    rig.ask(&StopRecording { recording: tap.offer.recording.clone() }).await.unwrap();
    rig.fact(finished).await;
    rig.gauge_becomes("recordings", 0).await;
    rig.ask(&StopRecording { recording: tap.offer.recording.clone() }).await.expect("stopped twice is stopped");
}

/// A TLS server with the offered certificate that says yes and then sends what is no record.
#[tokio::test]
async fn a_hostile_tap_ends_its_recording_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(data.path(), &TapForm::Network).await;
    let identity = Identity::generate().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let offer = TapOffer {
        recording: crate::rig::recording("rec-1"),
        addresses: vec![listener.local_addr().unwrap()],
        fingerprint: identity.fingerprint().to_string(),
        token: Secret::new("z".repeat(43)),
    };
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(identity.server_config().unwrap()));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tls.accept(stream).await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut greeting = vec![0; usize::from(length)];
            stream.read_exact(&mut greeting).await.unwrap();
            let mut answer = vec![0, 0, 0, 0, 20];
            answer.extend_from_slice(&[0xee; 20]);
            stream.write_all(&answer).await.unwrap();
            let _ = stream.read_u8().await;
        }
    });
    rig.record(offer, "caller").await.unwrap();
    rig.fact(failed).await;
    rig.gauge_becomes("recordings", 0).await;
    assert_eq!(rig.metrics.counter("tap_unreadable_total", "").get(), 1);
    assert!(!rig.run.is_finished());
}

#[tokio::test]
async fn a_disk_that_fills_up_ends_the_recording_with_what_was_written() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let mut rig = Rig::start(data.path(), &taps).await;
    let hub = hub(&taps).await;
    let mut tap = open(&hub, "rec-1", &rig.fingerprint);
    // The file of the track's second run stands on a device that is always full.
    let segment = directory_of(data.path(), "rec-1").join("segment-1");
    std::fs::create_dir_all(&segment).unwrap();
    std::os::unix::fs::symlink("/dev/full", segment.join("t1-1.g711")).unwrap();
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    let mut voice = Voice::leg(&mut tap, 1, "caller", CodecName::Pcmu, 440.0);
    (0..100).for_each(|frame| voice.send(&mut tap, frame * FRAME));
    rig.fact(|fact| matches!(fact, offhook_contract::Fact::SegmentStarted { .. }).then_some(())).await;
    voice.switch(CodecName::Pcma);
    (100..200).for_each(|frame| voice.send(&mut tap, frame * FRAME));
    rig.fact(finished).await;
    let stereo = read_flac(&directory_of(data.path(), "rec-1").join("recording.flac"));
    let (share, _) = tone_in(&stereo.left, stereo.rate, 440.0, 20, 1_900);
    assert!(share > 0.99, "{share}");
    assert!(stereo.left.len() < 3 * 8_000, "what was not written is not invented");
    let manifest = std::fs::read_to_string(directory_of(data.path(), "rec-1").join("manifest.json")).unwrap();
    assert!(manifest.contains("\"stopped\": \"disk_failed\""), "{manifest}");
    rig.gauge_becomes("recordings", 0).await;
}

#[tokio::test]
async fn a_tap_of_another_call_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let mut rig = Rig::start(data.path(), &taps).await;
    let hub = hub(&taps).await;
    let tap = open(&hub, "rec-1", &rig.fingerprint);
    let other = Context { call: Some(offhook_contract::CallId::parse("call-2").unwrap()), ..context() };
    rig.ask_as(&other, &start_of(&tap.offer)).await.unwrap();
    let reason = rig.fact(failed).await;
    assert!(reason.contains("another"), "{reason}");
    let rows = rig.ask(&RecorderInventoryRequest {}).await.unwrap().recordings;
    assert!(rows.iter().all(|row| row.state == RecordingState::Failed));
}
