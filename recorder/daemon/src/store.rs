//! Where recordings lie, and what is found again after a death.
//!
//! Below the storage directory: `rec/…` the recordings (see `RecordingPath`); `active/<recording>.json` what is being
//! made, with its Tap's token, so mode 0600; `failed/…` the same of what could not be finished (its audio stays);
//! `index/<recording>.json` where a finished recording is.
use offhook_contract::fact::FileRow;
use offhook_contract::{RecordingId, TenantId};
use offhook_recorder_core::recover::{Cut, Recovered, SegmentRead, cut_consent, cut_run};
use offhook_recorder_core::{RecordingPath, RecordingPlan, consent, timeline};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A failed recording is tried again at so many starts, and so many of them at one.
const MAX_RETRIES: u32 = 3;
const RETRIED_AT_A_START: usize = 32;
/// So many processes may die while they make a recording's final files.
const MAX_FINALISING_DEATHS: u32 = 3;

/// More segments than any recording has; a directory listing is never trusted further.
const MAX_SEGMENTS: u32 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another recorder")]
    InUse { path: PathBuf },
    #[error("{path} cannot be read as what it should be")]
    Content { path: PathBuf, source: serde_json::Error },
}

/// Why no new recording is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskRefusal {
    #[error(
        "the recorder's disk has {free_mib} MiB free; {needed_mib} MiB must stay free (make room, or lower recorder.min_free_mib)"
    )]
    Bytes { free_mib: u64, needed_mib: u64 },
    #[error(
        "the recorder's disk has {free_percent} % free; {needed_percent} % must stay free (make room, or lower recorder.min_free_percent)"
    )]
    Percent { free_percent: u64, needed_percent: u64 },
    #[error("the recorder's disk does not say how much is free")]
    Unknown,
}

/// A recording that is not finished.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Active {
    pub plan: RecordingPlan,
    /// How often its recorder died.
    pub deaths: u32,
    /// How often it was tried again after it had failed.
    #[serde(default)]
    pub retries: u32,
    /// How often its final files were begun and neither made nor refused: the process died of them, or beside them.
    #[serde(default)]
    pub finalising: u32,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Active {
    /// Whether its final files were the end of too many processes.
    pub const fn is_deadly(&self) -> bool {
        self.finalising >= MAX_FINALISING_DEATHS
    }
}

/// Where a finished recording is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Indexed {
    pub tenant: TenantId,
    /// Below the storage directory; written by this recorder only.
    pub path: PathBuf,
    pub files: Vec<FileRow>,
}

#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    claim: Claim,
}

/// The directory is this recorder's as long as a clone of this lives: every thread that may still write holds one, so
/// that a next life never meets the last writes of the one before.
#[derive(Debug, Clone)]
pub struct Claim {
    _file: Arc<File>,
}

/// How long a dying life of this recorder may take for its last writes.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
const CLAIM_PAUSE: Duration = Duration::from_millis(20);

pub fn segment_directory(segment: u32) -> String {
    format!("segment-{segment}")
}

impl Store {
    /// Waits for the last life of this recorder to end its writes; blocks.
    pub fn open(root: PathBuf) -> Result<Self, StoreError> {
        for name in ["rec", "active", "failed", "index"] {
            make_private(&root.join(name))?;
        }
        let claim = claim(&root.join("lock"))?;
        Ok(Self { root, claim })
    }

    pub fn claim(&self) -> Claim {
        self.claim.clone()
    }

    pub fn directory(&self, plan: &RecordingPlan) -> PathBuf {
        self.root.join(relative(plan))
    }

    /// Whether another recording may begin.
    pub fn check_free(&self, min_bytes: u64, min_percent: u64) -> Result<(), DiskRefusal> {
        let disk = rustix::fs::statvfs(&self.root).map_err(|_| DiskRefusal::Unknown)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let total = disk.f_blocks.saturating_mul(disk.f_frsize).max(1);
        if free < min_bytes {
            return Err(DiskRefusal::Bytes { free_mib: free >> 20, needed_mib: min_bytes >> 20 });
        }
        let free_percent = free / (total / 100).max(1);
        if free_percent < min_percent {
            return Err(DiskRefusal::Percent { free_percent, needed_percent: min_percent });
        }
        Ok(())
    }

    /// Makes the recording's directory and remembers the plan before anything is promised.
    pub fn begin(&self, plan: &RecordingPlan) -> Result<(), StoreError> {
        make_private(&self.directory(plan))?;
        self.remember(&Active { plan: plan.clone(), deaths: 0, retries: 0, finalising: 0, reason: None })
    }

    fn remember(&self, active: &Active) -> Result<(), StoreError> {
        write_whole(&self.active_file(&active.plan.recording), active)
    }

    fn active_file(&self, recording: &RecordingId) -> PathBuf {
        self.root.join("active").join(format!("{recording}.json"))
    }

    /// Every recording that is not finished. One that cannot be read is named in the log and put aside; nothing that one
    /// of them is in the way of keeps the others from going on.
    pub fn unfinished(&self) -> Vec<Active> {
        let mut found = Vec::new();
        for path in json_in(&self.root.join("active")) {
            let error = match read_whole::<Active>(&path) {
                Ok(active) => {
                    found.push(active);
                    continue;
                }
                Err(error) => error,
            };
            tracing::error!(path = %path.display(), error = %with_source(&error), "an unfinished recording cannot be read");
            if let (StoreError::Content { .. }, Some(name)) = (&error, path.file_name())
                && let Err(error) = put_in_place(&path, &self.root.join("failed").join(name))
            {
                tracing::error!(path = %path.display(), error = %with_source(&error), "it cannot be put aside");
            }
        }
        found
    }

    /// Takes failed recordings up again, a few at a start and each a few times: what was in their way (a full disk) may
    /// be gone. They count as unfinished from here on. One that cannot be taken up stays for a later start. Of those whose
    /// final files were the end of processes only one, so that it cannot take the others along again.
    pub fn take_up_failed(&self) -> Vec<Active> {
        let mut taken = Vec::new();
        for path in json_in(&self.root.join("failed")) {
            // What cannot be read was named when it was put here.
            let Ok(active) = read_whole::<Active>(&path) else { continue };
            let another_deadly = active.is_deadly() && taken.iter().any(Active::is_deadly);
            if active.retries >= MAX_RETRIES || another_deadly {
                continue;
            }
            if taken.len() >= RETRIED_AT_A_START {
                break;
            }
            match self.take_up(&path, active) {
                Ok(active) => taken.push(active),
                Err(error) => {
                    tracing::error!(path = %path.display(), error = %with_source(&error), "a failed recording cannot be tried again");
                }
            }
        }
        taken
    }

    fn take_up(&self, path: &Path, active: Active) -> Result<Active, StoreError> {
        let active = Active { retries: active.retries + 1, ..active };
        write_whole(path, &active)?;
        put_in_place(path, &self.active_file(&active.plan.recording))?;
        Ok(active)
    }

    /// Puts the files of a dead recorder in order and says how to go on.
    pub fn recover(&self, active: &mut Active) -> Result<Recovered, StoreError> {
        active.deaths += 1;
        self.remember(active)?;
        let directory = self.directory(&active.plan);
        make_private(&directory)?;
        let mut segments = Vec::new();
        let mut next = 1;
        while next < MAX_SEGMENTS && directory.join(segment_directory(next)).is_dir() {
            segments.extend(recover_segment(&directory.join(segment_directory(next)))?);
            next += 1;
        }
        let played = segments.iter().map(|segment| segment.announced.len()).sum();
        let log = directory.join(consent::FILE_NAME);
        let bytes = read_if_there(&log)?;
        let (keep_bytes, chain) = cut_consent(&bytes, played);
        if keep_bytes < bytes.len() {
            cut_file(&log, &Cut { keep_bytes, append: Vec::new() })?;
        }
        Ok(Recovered::from_segments(&segments, next, chain))
    }

    /// The recording is finished.
    pub fn forget(&self, recording: &RecordingId) -> Result<(), StoreError> {
        let from = self.active_file(recording);
        match fs::remove_file(&from) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::File { path: from, source }),
            _ => Ok(()),
        }
    }

    /// The recording has failed, or still cannot be finished; its audio stays where it is. With a reason, that is kept.
    pub fn put_aside(&self, recording: &RecordingId, reason: Option<&str>) -> Result<(), StoreError> {
        let kept = self.update(recording, |active| active.reason = reason.map(str::to_owned).or(active.reason.take()));
        if let Err(error) = kept {
            // A full disk must not keep it among those that are made.
            tracing::error!(%recording, error = %with_source(&error), "why a recording failed cannot be kept");
        }
        let from = self.active_file(recording);
        match fs::rename(&from, self.root.join("failed").join(format!("{recording}.json"))) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError::File { path: from, source }),
            _ => Ok(()),
        }
    }

    /// Counted until [`Self::finalising_survived`] or the recording's end.
    pub fn finalising_begins(&self, recording: &RecordingId) -> Result<(), StoreError> {
        self.update(recording, |active| active.finalising = active.finalising.saturating_add(1))
    }

    /// The final files did not come about, but nobody died of that.
    pub fn finalising_survived(&self, recording: &RecordingId) -> Result<(), StoreError> {
        self.update(recording, |active| active.finalising = active.finalising.saturating_sub(1))
    }

    fn update(&self, recording: &RecordingId, change: impl FnOnce(&mut Active)) -> Result<(), StoreError> {
        match read_whole::<Active>(&self.active_file(recording)) {
            Ok(mut active) => {
                change(&mut active);
                self.remember(&active)
            }
            Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn deaths(&self, recording: &RecordingId) -> u32 {
        read_whole::<Active>(&self.active_file(recording)).map_or(0, |active| active.deaths)
    }

    pub fn index(&self, plan: &RecordingPlan, files: Vec<FileRow>) -> Result<(), StoreError> {
        let indexed = Indexed { tenant: plan.tenant.clone(), path: relative(plan), files };
        write_whole(&self.index_file(&plan.recording), &indexed)
    }

    fn index_file(&self, recording: &RecordingId) -> PathBuf {
        self.root.join("index").join(format!("{recording}.json"))
    }

    /// A finished recording: its entry and its directory.
    pub fn find(&self, recording: &RecordingId) -> Result<Option<(Indexed, PathBuf)>, StoreError> {
        match read_whole::<Indexed>(&self.index_file(recording)) {
            Ok(indexed) => {
                let directory = self.root.join(&indexed.path);
                Ok(Some((indexed, directory)))
            }
            Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The segments of a recording that is complete on disk.
    pub fn read_segments(&self, plan: &RecordingPlan) -> Result<Vec<SegmentRead>, StoreError> {
        let directory = self.directory(plan);
        let mut segments = Vec::new();
        for number in 1..MAX_SEGMENTS {
            let segment = directory.join(segment_directory(number));
            if !segment.is_dir() {
                break;
            }
            segments.extend(SegmentRead::read(&read_if_there(&segment.join(timeline::FILE_NAME))?));
        }
        Ok(segments)
    }
}

/// Nothing, and a word in the log, when the directory cannot be listed.
fn json_in(directory: &Path) -> Vec<PathBuf> {
    match fs::read_dir(directory) {
        Ok(listing) => {
            let paths = listing.flatten().map(|entry| entry.path());
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
        }
        Err(error) => {
            tracing::error!(path = %directory.display(), %error, "the recordings of the last life cannot be listed");
            Vec::new()
        }
    }
}

fn claim(path: &Path) -> Result<Claim, StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Claim { _file: Arc::new(file) }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if started.elapsed() >= CLAIM_PATIENCE => {
                return Err(StoreError::InUse { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(CLAIM_PAUSE),
        }
    }
}

fn relative(plan: &RecordingPlan) -> PathBuf {
    let RecordingPlan { tenant, call, recording, answered_ms, .. } = plan.clone();
    RecordingPath { tenant, call, recording, answered: answered_ms }.relative()
}

/// Cuts a segment's files to what its sidecar confirms; `None` if that is nothing.
fn recover_segment(directory: &Path) -> Result<Option<SegmentRead>, StoreError> {
    let sidecar = directory.join(timeline::FILE_NAME);
    let bytes = read_if_there(&sidecar)?;
    let Some(segment) = SegmentRead::read(&bytes) else { return Ok(None) };
    if segment.sidecar_bytes < bytes.len() {
        cut_file(&sidecar, &Cut { keep_bytes: segment.sidecar_bytes, append: Vec::new() })?;
    }
    for run in &segment.runs {
        let path = directory.join(&run.file);
        let bytes = read_if_there(&path)?;
        match cut_run(run, &bytes) {
            Some(cut) if cut.keep_bytes < bytes.len() || !cut.append.is_empty() => cut_file(&path, &cut)?,
            Some(_) => {}
            None => tracing::error!(path = %path.display(), "a track's file has lost its beginning"),
        }
    }
    Ok(Some(segment))
}

fn cut_file(path: &Path, cut: &Cut) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    file.set_len(cut.keep_bytes as u64).map_err(failed)?;
    file.write_all(&cut.append).map_err(failed)?;
    file.sync_all().map_err(failed)
}

fn read_if_there(path: &Path) -> Result<Vec<u8>, StoreError> {
    match fs::read(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(|source| StoreError::File { path: path.to_owned(), source }),
    }
}

fn make_private(path: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StoreError::File { path: path.to_owned(), source })
}

fn read_whole<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Content { path: path.to_owned(), source })
}

/// Beside, synced, renamed, the directory synced: whole or not there.
pub fn write_whole(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: path.to_owned(), source };
    let content = |source| StoreError::Content { path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(value).map_err(content)?;
    let beside = path.with_extension("part");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    drop(file);
    put_in_place(&beside, path)
}

/// Renames and makes the rename durable.
pub fn put_in_place(from: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { path: to.to_owned(), source };
    fs::rename(from, to).map_err(failed)?;
    match to.parent() {
        Some(parent) => File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

/// An error with its causes in one line.
pub fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_full_refuses_with_words_for_the_operator() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        assert_eq!(store.check_free(0, 0), Ok(()));
        let refused = store.check_free(u64::MAX, 0).unwrap_err();
        assert!(refused.to_string().contains("recorder.min_free_mib"), "{refused}");
        let refused = store.check_free(0, 101).unwrap_err();
        assert!(refused.to_string().contains("recorder.min_free_percent"), "{refused}");
    }

    fn plan(name: &str) -> RecordingPlan {
        let text = serde_json::json!({
            "recording": name, "tenant": "acme", "call": "call-1", "epoch": null, "caller_legs": [], "answered_ms": 0,
            "tap": { "recording": name, "addresses": [], "fingerprint": "", "token": "t" },
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn deaths_in_finalising_are_counted_and_only_one_deadly_recording_is_tried_again_at_a_start() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let finalising = || store.unfinished().iter().map(|active| active.finalising).collect::<Vec<_>>();
        for name in ["a", "b", "c"] {
            store.begin(&plan(name)).unwrap();
            let id = plan(name).recording;
            let deaths = if name == "c" { 0 } else { 3 };
            (0..deaths).for_each(|_| store.finalising_begins(&id).unwrap());
        }
        let id = plan("c").recording;
        store.finalising_begins(&id).unwrap();
        store.finalising_survived(&id).unwrap();
        let mut counted = finalising();
        counted.sort_unstable();
        assert_eq!(counted, [0, 3, 3]);
        for name in ["a", "b", "c"] {
            store.put_aside(&plan(name).recording, Some("why")).unwrap();
        }
        let taken = store.take_up_failed();
        assert_eq!(taken.iter().filter(|active| active.is_deadly()).count(), 1);
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|active| active.reason.as_deref() == Some("why") && active.retries == 1));
    }
}
