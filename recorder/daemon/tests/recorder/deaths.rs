//! The recorder is killed in mid-recording: the same recording goes on as the next segment, and nothing is missing.
use crate::rig::{A_WHILE, Rig, directory_of};
use crate::sfu::{FRAME, SECOND, Tap, Voice, beep, close, hub, open};
use crate::sound::{read_flac, tone_in};
use offhook_contract::recorder::StartRecording;
use offhook_contract::sfu::TapOffer;
use offhook_contract::{CodecName, Fact};
use offhook_link::{Identity, InProcessTaps, TapForm};
use offhook_media::detect::find_bursts;
use offhook_recorder_core::consent;
use offhook_recorder_core::manifest::Manifest;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{interval, timeout};

const DATA_DIR: &str = "OFFHOOK_TEST_RECORDER_DATA";
const NAME: &str = "rec-1";

/// The child's side of the story below: a recorder with a call-control that writes facts to a file. In a run of its
/// own it has nothing to do.
#[tokio::test]
async fn a_recorder_in_a_process_of_its_own() {
    let Some(data_dir) = std::env::var_os(DATA_DIR) else { return };
    let data_dir = Path::new(&data_dir);
    let mut rig = Rig::start(data_dir, &TapForm::Network).await;
    if let Ok(start) = std::fs::read(data_dir.join("start.json")) {
        let start: StartRecording = serde_json::from_slice(&start).unwrap();
        std::fs::remove_file(data_dir.join("start.json")).unwrap();
        rig.ask(&start).await.unwrap();
    }
    let mut told = 0;
    loop {
        rig.facts.changed().await.unwrap();
        let facts = rig.all_facts();
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(data_dir.join("facts.jsonl")).unwrap();
        for fact in &facts[told..] {
            writeln!(file, "{}", serde_json::to_string(fact).unwrap()).unwrap();
        }
        told = facts.len();
    }
}

/// Killed when the story ends, however it ends.
struct Killed(Child);

impl Killed {
    fn start(data_dir: &Path) -> Self {
        let test = ["--exact", "deaths::a_recorder_in_a_process_of_its_own", "--nocapture"];
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(test).env(DATA_DIR, data_dir).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn facts(data_dir: &Path) -> Vec<Fact> {
    let text = std::fs::read_to_string(data_dir.join("facts.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn fact_in_file(data_dir: &Path, wanted: impl Fn(&Fact) -> bool) -> Fact {
    let mut tick = interval(Duration::from_millis(20));
    let found = async {
        loop {
            tick.tick().await;
            if let Some(fact) = facts(data_dir).into_iter().find(&wanted) {
                return fact;
            }
        }
    };
    timeout(A_WHILE, found).await.unwrap_or_else(|_| panic!("{:?}", facts(data_dir)))
}

struct Talk {
    left: Voice,
    right: Voice,
    server: Voice,
    frame: u64,
}

impl Talk {
    fn begin(tap: &mut Tap) -> Self {
        Self {
            left: Voice::leg(tap, 1, "caller", CodecName::Opus, 440.0),
            right: Voice::leg(tap, 2, "callee", CodecName::Pcmu, 700.0),
            server: Voice::announcer(tap, 3, CodecName::Opus),
            frame: 0,
        }
    }

    fn speak(&mut self, tap: &mut Tap, seconds: u64) {
        for _ in 0..seconds * 50 {
            let at = self.frame * FRAME;
            self.left.send(tap, at);
            self.right.send(tap, at);
            if at % (5 * SECOND) == 2 * SECOND {
                beep(tap, &mut self.server, at);
            }
            self.frame += 1;
        }
    }
}

/// Where the child's death falls in the story.
async fn die_after(seconds: u64) {
    let data = tempfile::tempdir().unwrap();
    let recorder = Identity::load_or_create(data.path(), "recorder").unwrap();
    let hub = hub(&TapForm::Network).await;
    let mut tap = open(&hub, NAME, &recorder.fingerprint().to_string());
    let offer: TapOffer = tap.offer.clone();
    let start = StartRecording {
        recording: offer.recording.clone(),
        tap: offer,
        caller_legs: vec![crate::rig::leg("caller")],
        answered_ms: crate::rig::ANSWERED,
    };
    std::fs::write(data.path().join("start.json"), serde_json::to_vec(&start).unwrap()).unwrap();
    let first = Killed::start(data.path());
    let mut talk = Talk::begin(&mut tap);
    talk.speak(&mut tap, seconds);
    fact_in_file(data.path(), |fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. })).await;
    // Its disk has some of this, perhaps not all, when it dies.
    talk.speak(&mut tap, 3);
    drop(first);
    talk.speak(&mut tap, 3);
    let second = Killed::start(data.path());
    fact_in_file(data.path(), |fact| matches!(fact, Fact::SegmentStarted { segment: 2, .. })).await;
    talk.speak(&mut tap, 4);
    let length_s = seconds + 10;
    close(tap, length_s * SECOND);
    let fact = fact_in_file(data.path(), |fact| matches!(fact, Fact::RecordingFinished { .. })).await;
    drop(second);
    check(&directory_of(data.path(), NAME), &fact, &facts(data.path()), length_s);
}

fn check(directory: &Path, fact: &Fact, told: &[Fact], length_s: u64) {
    let Fact::RecordingFinished { segments, duration_ms, .. } = fact else { panic!("{fact:?}") };
    assert_eq!(segments.iter().map(|row| (row.segment, row.gap_ms)).collect::<Vec<_>>(), [(1, 0), (2, 0)]);
    assert!(duration_ms.abs_diff(length_s * 1_000) < 100, "{duration_ms}");
    let stereo = read_flac(&directory.join("recording.flac"));
    let end = usize::try_from(length_s * 1_000).unwrap() - 100;
    for (side, hz) in [(&stereo.left, 440.0), (&stereo.right, 700.0)] {
        let (share, _) = tone_in(side, stereo.rate, hz, 100, end);
        assert!(share >= 0.99, "{hz} Hz in {share} of the frames");
        let beeps: Vec<u32> = find_bursts(side, stereo.rate, 1_400.0).iter().map(|burst| burst.start_ms).collect();
        let expected: Vec<u32> = (0..).map(|n| 2_000 + n * 5_000).take_while(|at| *at < end as u32).collect();
        assert_eq!(beeps.len(), expected.len(), "{beeps:?}");
        assert!(beeps.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 20), "{beeps:?}");
    }
    let manifest: Manifest = serde_json::from_slice(&std::fs::read(directory.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest.recovered);
    let log = std::fs::read(directory.join("consent.jsonl")).unwrap();
    assert_eq!(consent::read(&log).bytes, log.len(), "the chain runs through the death");
    let mut beeps: Vec<u64> = told
        .iter()
        .filter_map(|fact| if let Fact::ConsentPlayed { played_ms, .. } = fact { Some(played_ms.0) } else { None })
        .collect();
    beeps.sort_unstable();
    beeps.dedup();
    assert_eq!(beeps.len(), manifest.announcements.len(), "every beep is told");
    assert_eq!(told.iter().filter(|fact| matches!(fact, Fact::RecordingFinished { .. })).count(), 1);
}

#[tokio::test]
async fn a_killed_recorder_goes_on_as_the_next_segment_without_a_hole() {
    die_after(3).await;
}

#[tokio::test]
async fn so_it_does_when_it_dies_during_a_beep() {
    die_after(4).await;
}

#[tokio::test]
async fn a_recorder_that_is_told_to_end_at_once_leaves_the_recording_to_its_next_life() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, NAME, &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    let mut talk = Talk::begin(&mut tap);
    talk.speak(&mut tap, 4);
    rig.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. }).then_some(())).await;
    rig.switch.drain();
    talk.speak(&mut tap, 3);
    rig.switch.stop();
    let early = rig.facts.clone();
    timeout(A_WHILE, rig.run).await.expect("it ends").unwrap().unwrap();
    let mut next = Rig::start(data.path(), &taps).await;
    next.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 2, .. }).then_some(())).await;
    talk.speak(&mut tap, 6);
    close(tap, 13 * SECOND);
    let fact = next.fact(crate::rig::finished).await;
    let told: Vec<Fact> = early.borrow().iter().map(|record| record.fact.clone()).chain(next.all_facts()).collect();
    check(&directory_of(data.path(), NAME), &fact, &told, 13);
}

/// The names in a folder of the store.
fn names(data_dir: &Path, folder: &str) -> Vec<String> {
    let listing = std::fs::read_dir(data_dir.join("recordings").join(folder)).unwrap();
    listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn end(rig: Rig) {
    rig.gauge_becomes("recordings", 0).await;
    rig.switch.stop();
    timeout(A_WHILE, rig.run).await.expect("it ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_recording_that_cannot_be_recovered_is_told_and_put_aside() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, NAME, &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    Talk::begin(&mut tap).speak(&mut tap, 2);
    rig.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. }).then_some(())).await;
    rig.switch.drain();
    rig.switch.stop();
    timeout(A_WHILE, rig.run).await.expect("it ends").unwrap().unwrap();
    // A sidecar that can neither be read nor cut; and an entry that is nobody's.
    let sidecar = directory_of(data.path(), NAME).join("segment-1/timeline.bin");
    std::fs::remove_file(&sidecar).unwrap();
    std::fs::create_dir(&sidecar).unwrap();
    std::fs::write(data.path().join("recordings/active/garbage.json"), "{").unwrap();
    let mut next = Rig::start(data.path(), &taps).await;
    let reason = next.fact(crate::rig::failed).await;
    assert!(reason.contains("could not go on") && reason.contains("timeline"), "{reason}");
    end(next).await;
    assert_eq!(names(data.path(), "active"), Vec::<String>::new());
    let mut aside = names(data.path(), "failed");
    aside.sort();
    assert_eq!(aside, ["garbage.json", "rec-1.json"]);
}

#[tokio::test]
async fn a_recording_whose_final_files_failed_is_finished_at_a_later_start() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, NAME, &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    Talk::begin(&mut tap).speak(&mut tap, 3);
    rig.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. }).then_some(())).await;
    let in_the_way = directory_of(data.path(), NAME).join("recording.flac.part");
    std::fs::create_dir(&in_the_way).unwrap();
    close(tap, 3 * SECOND);
    let reason = rig.fact(crate::rig::failed).await;
    assert!(reason.contains("the originals are kept"), "{reason}");
    end(rig).await;
    assert_eq!((names(data.path(), "active").len(), names(data.path(), "failed").len()), (0, 1));
    // Still in the way: told again, kept again.
    let mut second = Rig::start(data.path(), &taps).await;
    second.fact(crate::rig::failed).await;
    end(second).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    let mut third = Rig::start(data.path(), &taps).await;
    let fact = third.fact(crate::rig::finished).await;
    assert!(
        matches!(fact, Fact::RecordingFinished { duration_ms, .. } if duration_ms.abs_diff(3_000) < 100),
        "{fact:?}"
    );
    end(third).await;
    assert_eq!((names(data.path(), "active").len(), names(data.path(), "failed").len()), (0, 0));
    assert_eq!(names(data.path(), "index"), ["rec-1.json"]);
    assert_eq!(read_flac(&directory_of(data.path(), NAME).join("recording.flac")).rate, 48_000);
}

#[tokio::test]
async fn a_recording_whose_final_files_killed_three_recorders_is_put_aside_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let hub = hub(&taps).await;
    let mut rig = Rig::start(data.path(), &taps).await;
    let mut tap = open(&hub, NAME, &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    Talk::begin(&mut tap).speak(&mut tap, 3);
    rig.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. }).then_some(())).await;
    rig.switch.drain();
    rig.switch.stop();
    timeout(A_WHILE, rig.run).await.expect("it ends").unwrap().unwrap();
    close(tap, 3 * SECOND);
    // As three deaths leave it.
    let entry = data.path().join("recordings/active/rec-1.json");
    let mut active: serde_json::Value = serde_json::from_slice(&std::fs::read(&entry).unwrap()).unwrap();
    active["finalising"] = 3.into();
    std::fs::write(&entry, active.to_string()).unwrap();
    let mut next = Rig::start(data.path(), &taps).await;
    let told = next.fact(crate::rig::failed).await;
    assert!(told.contains("died 3 times") && told.contains("the originals are kept"), "{told}");
    end(next).await;
    assert_eq!((names(data.path(), "active").len(), names(data.path(), "failed").len()), (0, 1));
    let aside = std::fs::read(data.path().join("recordings/failed/rec-1.json")).unwrap();
    let aside: serde_json::Value = serde_json::from_slice(&aside).unwrap();
    assert_eq!(aside["reason"], told);
    // Whatever it was may be gone: tried again, alone, at a later start.
    let mut later = Rig::start(data.path(), &taps).await;
    later.fact(crate::rig::finished).await;
    end(later).await;
    assert_eq!((names(data.path(), "active").len(), names(data.path(), "failed").len()), (0, 0));
}

/// A failed recording of three seconds: what is in the way of its final files.
async fn leave_one_failed(data: &Path, taps: &TapForm) -> std::path::PathBuf {
    let hub = hub(taps).await;
    let mut rig = Rig::start(data, taps).await;
    let mut tap = open(&hub, NAME, &rig.fingerprint);
    rig.record(tap.offer.clone(), "caller").await.unwrap();
    Talk::begin(&mut tap).speak(&mut tap, 3);
    rig.fact(|fact| matches!(fact, Fact::SegmentStarted { segment: 1, .. }).then_some(())).await;
    let in_the_way = directory_of(data, NAME).join("recording.flac.part");
    std::fs::create_dir(&in_the_way).unwrap();
    close(tap, 3 * SECOND);
    rig.fact(crate::rig::failed).await;
    end(rig).await;
    in_the_way
}

#[tokio::test]
async fn a_failed_recording_that_cannot_be_taken_up_keeps_no_recorder_from_starting() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let in_the_way = leave_one_failed(data.path(), &taps).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    // One that cannot be written again, beside one that can; and nonsense nobody can put aside.
    let failed = data.path().join("recordings/failed");
    let entry = std::fs::read_to_string(failed.join("rec-1.json")).unwrap();
    std::fs::write(failed.join("rec-2.json"), entry.replace("rec-1", "rec-2")).unwrap();
    std::fs::create_dir(failed.join("rec-2.part")).unwrap();
    std::fs::create_dir(failed.join("nonsense.json")).unwrap();
    std::fs::write(data.path().join("recordings/active/nonsense.json"), "{").unwrap();
    let mut next = Rig::start(data.path(), &taps).await;
    next.fact(crate::rig::finished).await;
    end(next).await;
    assert_eq!(names(data.path(), "index"), ["rec-1.json"]);
    assert!(names(data.path(), "failed").contains(&"rec-2.json".to_owned()), "it stays for a later start");
}

#[tokio::test]
async fn on_a_full_disk_no_failed_recording_is_tried_again_and_no_try_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let taps = TapForm::InProcess(InProcessTaps::default());
    let in_the_way = leave_one_failed(data.path(), &taps).await;
    std::fs::remove_dir(&in_the_way).unwrap();
    for _ in 0..4 {
        let full = "[recorder]\nlisten = \"127.0.0.1:0\"\nmin_free_mib = 1000000000000\nmin_free_percent = 0\n";
        let rig = Rig::start_raw(data.path(), &taps, full).await;
        end(rig).await;
        assert_eq!((names(data.path(), "active").len(), names(data.path(), "failed").len()), (0, 1));
    }
    let mut roomy = Rig::start(data.path(), &taps).await;
    roomy.fact(crate::rig::finished).await;
    end(roomy).await;
    assert_eq!(names(data.path(), "index"), ["rec-1.json"]);
}
