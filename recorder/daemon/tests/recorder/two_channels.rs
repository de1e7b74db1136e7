//! Caller left, the other side right, beeps in both at their time; files, facts and checksums agree.
use crate::rig::{A_WHILE, Rig, directory_of, finished};
use crate::sfu::{FRAME, SECOND, Tap, Voice, beep, close, hub, open};
use crate::sound::{Stereo, read_flac, tone_in};
use offhook_contract::fact::{ConsentKind, Fact};
use offhook_contract::recorder::{GrantFile, RecordingFile};
use offhook_contract::{CodecName, Context, TenantId};
use offhook_link::{InProcessTaps, TapForm};
use offhook_media::detect::find_bursts;
use offhook_recorder_core::consent::{self, ConsentEvent};
use offhook_recorder_core::manifest::Manifest;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use tokio::time::timeout;

const CALLER_HZ: f32 = 440.0;
const CALLEE_HZ: f32 = 700.0;
const BEEPS_S: [u64; 3] = [3, 18, 33];
const LENGTH_S: u64 = 40;

/// Forty seconds in which both speak and three beeps sound.
fn talk(tap: &mut Tap, caller: CodecName, callee: CodecName, announcer: CodecName) {
    let mut left = Voice::leg(tap, 1, "caller", caller, CALLER_HZ);
    let mut right = Voice::leg(tap, 2, "callee", callee, CALLEE_HZ);
    let mut server = Voice::announcer(tap, 3, announcer);
    for frame in 0..LENGTH_S * 50 {
        let at = frame * FRAME;
        left.send(tap, at);
        right.send(tap, at + 7_000_000);
        if at.is_multiple_of(SECOND) && BEEPS_S.contains(&(at / SECOND)) {
            beep(tap, &mut server, at);
        }
    }
}

fn check_sound(stereo: &Stereo) {
    let Stereo { rate, left, right } = stereo;
    let expected = usize::try_from(LENGTH_S * u64::from(*rate)).unwrap();
    assert!(left.len().abs_diff(expected) <= *rate as usize / 10, "{} for {expected}", left.len());
    for (side, own, foreign) in [(left, CALLER_HZ, CALLEE_HZ), (right, CALLEE_HZ, CALLER_HZ)] {
        let (share, level) = tone_in(side, *rate, own, 100, 39_900);
        assert!(share >= 0.99, "{own} Hz in {share}");
        let (_, leaked) = tone_in(side, *rate, foreign, 100, 39_900);
        assert!(leaked < level - 40.0, "{foreign} Hz at {leaked} beside {own} Hz at {level}");
        let bursts = find_bursts(side, *rate, 1_400.0);
        assert_eq!(bursts.len(), BEEPS_S.len(), "{bursts:?}");
        for (burst, second) in bursts.iter().zip(BEEPS_S) {
            let expected = u32::try_from(second * 1_000).unwrap();
            assert!(burst.start_ms.abs_diff(expected) <= 20, "{burst:?} for {expected}");
            assert!(burst.len_ms.abs_diff(200) <= 20, "{burst:?}");
        }
    }
}

fn check_files(directory: &Path, fact: &Fact) -> Manifest {
    let Fact::RecordingFinished { files, segments, duration_ms, .. } = fact else { panic!("{fact:?}") };
    for file in files {
        let bytes = std::fs::read(directory.join(&file.name)).unwrap();
        assert_eq!((bytes.len() as u64, consent::hex(&Sha256::digest(&bytes))), (file.bytes, file.sha256.clone()));
    }
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest.files.iter().all(|file| files.contains(file)), "manifest and fact name the same files");
    assert_eq!((&manifest.segments, manifest.duration_ms), (segments, *duration_ms));
    assert_eq!(segments.len(), 1);
    assert!(duration_ms.abs_diff(LENGTH_S * 1_000) < 100, "{duration_ms}");
    assert!(manifest.derived.contains("lossy") && !manifest.recovered);
    let log = consent::read(&std::fs::read(directory.join("consent.jsonl")).unwrap());
    assert_eq!(log.chain.head(), manifest.consent_head);
    let played = log.lines.iter().filter(|line| matches!(line.event, ConsentEvent::Played { .. })).count();
    assert_eq!(played, BEEPS_S.len());
    manifest
}

async fn record(taps: TapForm, caller: CodecName, callee: CodecName, announcer: CodecName) -> (Stereo, Manifest) {
    let data = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(data.path(), &taps).await;
    let hub = hub(&taps).await;
    let mut tap = open(&hub, "rec-1", &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    rig.record(tap.offer.clone(), "caller").await.expect("asked twice it is begun once");
    talk(&mut tap, caller, callee, announcer);
    close(tap, LENGTH_S * SECOND);
    let fact = rig.fact(finished).await;
    let directory = directory_of(data.path(), "rec-1");
    let manifest = check_files(&directory, &fact);
    let facts = rig.all_facts();
    let beeps: Vec<u64> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::ConsentPlayed { kind: ConsentKind::Beep, played_ms, segment: 1, .. } => Some(played_ms.0),
            _ => None,
        })
        .collect();
    assert_eq!(beeps, BEEPS_S.map(|second| crate::sfu::WALL.0 + second * 1_000));
    assert_eq!(facts.iter().filter(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. })).count(), 1);
    let stereo = read_flac(&directory.join("recording.flac"));
    check_sound(&stereo);
    for track in manifest.tracks.iter().filter(|track| track.codec == CodecName::Opus) {
        let seen = Command::new("opusinfo").arg(directory.join(&track.file)).output().unwrap();
        let words = String::from_utf8_lossy(&seen.stdout).into_owned() + &String::from_utf8_lossy(&seen.stderr);
        assert!(seen.status.success() && !words.contains("WARNING"), "{words}");
    }
    rig.gauge_becomes("recordings", 0).await;
    rig.gauge_becomes("outbox_pending", 0).await;
    check_download(&rig, &directory).await;
    rig.switch.drain();
    timeout(A_WHILE, rig.run).await.expect("a drained recorder ends").unwrap().unwrap();
    (stereo, manifest)
}

async fn check_download(rig: &Rig, directory: &Path) {
    let grant = rig.granted("rec-1", RecordingFile::Flac).await;
    let whole = std::fs::read(directory.join("recording.flac")).unwrap();
    let client = reqwest::Client::new();
    let response = client.get(grant.url.expose()).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "audio/flac");
    assert_eq!(response.bytes().await.unwrap(), whole);
    let part = client.get(grant.url.expose()).header("range", "bytes=1000-1999").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], format!("bytes 1000-1999/{}", whole.len()));
    assert_eq!(part.bytes().await.unwrap(), &whole[1_000..2_000]);
    let wrong = grant.url.expose().replace("/files/", "/files/x");
    assert_eq!(client.get(wrong).send().await.unwrap().status(), 404);
    let foreign = Context { tenant: Some(TenantId::parse("other").unwrap()), ..crate::rig::context() };
    let wanted = GrantFile { recording: crate::rig::recording("rec-1"), file: RecordingFile::Flac };
    assert!(rig.ask_as(&foreign, &wanted).await.is_err(), "another tenant gets no grant");
}

fn in_process() -> TapForm {
    TapForm::InProcess(InProcessTaps::default())
}

#[tokio::test]
async fn two_telephones_are_recorded_at_8_khz() {
    let (stereo, manifest) = record(in_process(), CodecName::Pcmu, CodecName::Pcma, CodecName::Pcmu).await;
    assert_eq!((stereo.rate, manifest.audio.rate_hz), (8_000, 8_000));
}

#[tokio::test]
async fn two_browsers_are_recorded_at_48_khz_over_tls() {
    let (stereo, manifest) = record(TapForm::Network, CodecName::Opus, CodecName::Opus, CodecName::Opus).await;
    assert_eq!((stereo.rate, manifest.audio.rate_hz), (48_000, 48_000));
}

#[tokio::test]
async fn a_browser_and_a_telephone_stay_aligned_at_48_khz() {
    let (stereo, _) = record(in_process(), CodecName::Opus, CodecName::Pcmu, CodecName::Opus).await;
    assert_eq!(stereo.rate, 48_000);
}
