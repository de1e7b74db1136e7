//! A party that does what no telephone does: the recording is made all the same, and nobody else's sound suffers. Where
//! its own sound belongs its timestamps do not say.
use crate::rig::{Rig, directory_of, finished};
use crate::sfu::{FRAME, SECOND, Voice, close, hub, open};
use crate::sound::{read_flac, tone_in};
use offhook_contract::{CodecName, Fact};
use offhook_link::{InProcessTaps, TapForm};
use offhook_recorder_core::manifest::Manifest;

#[tokio::test]
async fn a_party_that_changes_its_codec_with_each_packet_costs_few_files_and_no_sound() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, "rec-1", &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    let mut left = Voice::leg(&mut tap, 1, "caller", CodecName::Opus, 440.0);
    let mut right = Voice::leg(&mut tap, 2, "callee", CodecName::Pcmu, 700.0);
    for frame in 0..20 * 50 {
        left.switch([CodecName::Pcma, CodecName::Opus, CodecName::Pcmu][usize::try_from(frame % 3).unwrap()]);
        left.send(&mut tap, frame * FRAME);
        right.send(&mut tap, frame * FRAME);
    }
    close(tap, 20 * SECOND);
    let fact = rig.fact(finished).await;
    let Fact::RecordingFinished { files, .. } = fact else { panic!("{fact:?}") };
    assert!(files.len() < 80, "{}", files.len());
    let directory = directory_of(data.path(), "rec-1");
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    let packets = |track: u16| manifest.tracks.iter().filter(|row| row.track == track).map(|row| row.packets).sum();
    assert_eq!((packets(1), packets(2), manifest.losses.missing), (1_000_u64, 1_000_u64, 0));
    let stereo = read_flac(&directory.join("recording.flac"));
    let (share, _) = tone_in(&stereo.right, stereo.rate, 700.0, 100, 19_900);
    assert!(share >= 0.99, "700 Hz in {share} of the frames");
}
