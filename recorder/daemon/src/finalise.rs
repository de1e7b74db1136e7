//! The final files of a recording: two channels in FLAC, checksums, the manifest. Runs on threads of its own at low
//! priority; nothing stands under its final name before it is whole.
use crate::ffi::{FlacEncoder, FlacError};
use crate::files::checksum;
use crate::stage::Stage;
use crate::store::{Store, StoreError, put_in_place, segment_directory, write_whole};
use offhook_contract::fact::{FileRow, SegmentRow};
use offhook_contract::{RecordingId, UnixMs};
use offhook_recorder_core::live::Losses;
use offhook_recorder_core::manifest::{
    AUDIO_NAME, AnnouncementRow, AudioRow, ClockRow, DERIVED, FILE_NAME, Manifest, TrackRow, VERSION,
};
use offhook_recorder_core::recording::Finalised;
use offhook_recorder_core::recover::{Base, RunRow, SegmentRead};
use offhook_recorder_core::render::{Channels, Mixer, Quality, RenderError, channels_of, output_rate};
use offhook_recorder_core::{CloseReason, RecordingPlan, Voice, consent, timeline};
use std::fs::File;
use std::io::BufWriter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

/// What is mixed and encoded at a time.
const BLOCK_SECONDS: u64 = 1;
/// A packet's length, for the end of the recording.
const FRAME_NS: u64 = 20_000_000;
/// Polite to the threads that carry calls.
const NICENESS: i32 = 10;
/// What the fact names must fit into one message on the bus: where there are more files, only those made of them, and
/// only the first segments. The manifest, which is among them with its checksum, names all.
const MAX_TOLD_FILES: usize = 256;
const DERIVED_FILES: usize = 3;
const MAX_TOLD_SEGMENTS: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub enum FinaliseError {
    #[error("no segment of it can be read")]
    Nothing,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error(transparent)]
    Flac(#[from] FlacError),
    #[error("the finaliser panicked; the log says where")]
    Panicked,
    #[error("the finalisers have ended")]
    Ended,
}

/// A recording that is complete on disk.
#[derive(Debug)]
pub struct Order {
    pub plan: RecordingPlan,
    pub losses: Losses,
    pub stopped: Option<CloseReason>,
    pub recovered: bool,
}

type Job = (Order, oneshot::Sender<Result<Finalised, FinaliseError>>);

/// The finalising threads. They end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Finalisers {
    /// Never more than the recordings there are.
    queue: mpsc::Sender<Job>,
}

impl Finalisers {
    pub fn start(threads: u32, store: &Store) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..threads {
            let (jobs, store) = (Arc::clone(&jobs), store.clone());
            std::thread::Builder::new().name("recorder-final".to_owned()).spawn(move || {
                // Without the right to lower it the work is still done.
                let _ = rustix::process::nice(NICENESS);
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((order, done)) = job else { return };
                    let _ = done.send(attempt(&store, &order));
                }
            })?;
        }
        Ok(Self { queue })
    }

    pub async fn finalise(&self, order: Order) -> Result<Finalised, FinaliseError> {
        let (done, result) = oneshot::channel();
        self.queue.send((order, done)).map_err(|_| FinaliseError::Ended)?;
        result.await.map_err(|_| FinaliseError::Ended)?
    }
}

/// Counted on disk while it lasts: a recording whose final files are this process's death is not tried for ever.
fn attempt(store: &Store, order: &Order) -> Result<Finalised, FinaliseError> {
    let recording: &RecordingId = &order.plan.recording;
    store.finalising_begins(recording)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| finalise(store, order))).unwrap_or(Err(FinaliseError::Panicked));
    if outcome.is_err() {
        store.finalising_survived(recording)?;
    }
    outcome
}

/// Idempotent: what is there is made again.
pub fn finalise(store: &Store, order: &Order) -> Result<Finalised, FinaliseError> {
    let segments = store.read_segments(&order.plan)?;
    let directory = store.directory(&order.plan);
    let first = segments.first().ok_or(FinaliseError::Nothing)?;
    let origin_ns = first.opened.media_ns;
    let end_ns = segments.iter().map(|s| s.last_ns() + FRAME_NS).max().unwrap_or(origin_ns);
    let span = Span { origin_ns, end_ns, rate: rate_of(&segments) };
    let quality = write_audio(&directory, &order.plan, &segments, span)?;
    let base = newest_base(first, &segments);
    let rows = segment_rows(&segments, &base);
    let duration_ms = (end_ns - origin_ns) / 1_000_000;
    let mut files = checksums(&directory, &segments)?;
    let manifest = manifest(order, &segments, &base, span, quality, &rows, &files, &directory);
    let path = directory.join(FILE_NAME);
    write_whole(&path, &manifest)?;
    files.insert(1, checksum(&directory, FILE_NAME).map_err(|source| FinaliseError::File { path, source })?);
    store.index(&order.plan, files.clone())?;
    let (files, segments) = told(files, rows);
    Ok(Finalised { files, segments, duration_ms })
}

/// What the fact says of the files and segments.
fn told(mut files: Vec<FileRow>, mut segments: Vec<SegmentRow>) -> (Vec<FileRow>, Vec<SegmentRow>) {
    if files.len() > MAX_TOLD_FILES {
        files.truncate(DERIVED_FILES);
    }
    segments.truncate(MAX_TOLD_SEGMENTS);
    (files, segments)
}

/// From when to when, at which rate.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub origin_ns: u64,
    pub end_ns: u64,
    pub rate: u32,
}

fn rate_of(segments: &[SegmentRead]) -> u32 {
    let spoken = segments.iter().flat_map(|segment| {
        let by_leg = |run: &&RunRow| matches!(segment.tracks.get(&run.track), Some(Voice::Leg(_)));
        segment.runs.iter().filter(by_leg).map(|run| &run.codec)
    });
    output_rate(spoken)
}

fn write_audio(
    directory: &Path,
    plan: &RecordingPlan,
    segments: &[SegmentRead],
    span: Span,
) -> Result<Quality, FinaliseError> {
    let (part, whole) = (directory.join("recording.flac.part"), directory.join(AUDIO_NAME));
    let failed = |source| FinaliseError::File { path: part.clone(), source };
    let file = File::create(&part).map_err(failed)?;
    let mut encoder = FlacEncoder::new(span.rate, BufWriter::with_capacity(1 << 18, file))?;
    let mut stage = Stage::new(directory, plan, segments, span);
    let rate = u64::from(span.rate);
    let mut left =
        u64::try_from(u128::from(span.end_ns - span.origin_ns) * u128::from(rate) / 1_000_000_000).unwrap_or(0);
    let (mut mixer, mut block, mut end) = (Mixer::default(), Vec::new(), 0_i64);
    while left > 0 {
        let count = left.min(rate * BLOCK_SECONDS);
        left -= count;
        end += i64::try_from(count).unwrap_or(0);
        stage.play_until(end, &mut mixer)?;
        block.clear();
        mixer.take(usize::try_from(count).unwrap_or(0), &mut block);
        encoder.process(&block)?;
    }
    encoder.finish()?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(failed)?;
    put_in_place(&part, &whole)?;
    Ok(stage.quality())
}

fn newest_base(first: &SegmentRead, segments: &[SegmentRead]) -> Base {
    let opened = &first.opened;
    let newest = segments.iter().flat_map(|segment| segment.clock_pairs.iter().copied()).last();
    let (media_ns, wall) = newest.unwrap_or((opened.media_ns, opened.wall));
    Base { clock: opened.clock.clone(), origin_ns: opened.media_ns, media_ns, wall }
}

fn segment_rows(segments: &[SegmentRead], base: &Base) -> Vec<SegmentRow> {
    let row = |segment: &SegmentRead| SegmentRow {
        segment: segment.opened.segment,
        started_ms: base.wall_of(segment.first_ns().unwrap_or(segment.opened.media_ns)),
        ended_ms: base.wall_of(segment.last_ns()),
        gap_ms: segment.opened.gap_ns / 1_000_000,
    };
    segments.iter().map(row).collect()
}

/// The audio first, then the consent log, then the originals.
fn checksums(directory: &Path, segments: &[SegmentRead]) -> Result<Vec<FileRow>, FinaliseError> {
    let mut names = vec![AUDIO_NAME.to_owned(), consent::FILE_NAME.to_owned()];
    for segment in segments {
        let folder = segment_directory(segment.opened.segment);
        names.push(format!("{folder}/{}", timeline::FILE_NAME));
        names.extend(segment.runs.iter().map(|run| format!("{folder}/{}", run.file)));
    }
    let row = |name: String| {
        checksum(directory, &name).map_err(|source| FinaliseError::File { path: directory.join(&name), source })
    };
    names.into_iter().map(row).collect()
}

#[allow(clippy::too_many_arguments)]
fn manifest(
    order: &Order,
    segments: &[SegmentRead],
    base: &Base,
    span: Span,
    quality: Quality,
    rows: &[SegmentRow],
    files: &[FileRow],
    directory: &Path,
) -> Manifest {
    let plan = &order.plan;
    let since = |ns: u64| ns.saturating_sub(span.origin_ns) / 1_000_000;
    let announcements = segments.iter().flat_map(|segment| {
        segment.announced.iter().map(move |announced| AnnouncementRow {
            kind: announced.kind,
            segment: segment.opened.segment,
            at_ms: since(announced.started_ns),
            length_ms: announced.ended_ns.saturating_sub(announced.started_ns) / 1_000_000,
            played_ms: announced.played,
        })
    });
    let log = std::fs::read(directory.join(consent::FILE_NAME)).unwrap_or_default();
    let closed = segments.last().and_then(|segment| segment.closed).map(|(reason, _)| reason);
    Manifest {
        version: VERSION,
        recording: plan.recording.clone(),
        call: plan.call.clone(),
        tenant: plan.tenant.clone(),
        answered_ms: plan.answered_ms,
        started_ms: base.wall_of(span.origin_ns),
        duration_ms: (span.end_ns - span.origin_ns) / 1_000_000,
        derived: DERIVED.to_owned(),
        audio: audio_row(span, quality),
        // The sidecar knows best; after a full disk it could not be told.
        stopped: closed.or(order.stopped).unwrap_or(CloseReason::Lost),
        recovered: order.recovered,
        segments: rows.to_vec(),
        tracks: track_rows(plan, segments, &since),
        clock: clock_row(base, segments),
        announcements: announcements.collect(),
        gaps: segments.iter().flat_map(|segment| segment.gaps.clone()).collect(),
        losses: order.losses,
        consent_head: consent::read(&log).chain.head().to_owned(),
        files: files.to_vec(),
    }
}

fn audio_row(span: Span, quality: Quality) -> AudioRow {
    let rate_reason = match span.rate {
        8_000 => "every party spoke G.711 (8 kHz)",
        _ => "a party spoke Opus (up to 48 kHz)",
    };
    AudioRow {
        file: AUDIO_NAME.to_owned(),
        rate_hz: span.rate,
        rate_reason: rate_reason.to_owned(),
        left: "the caller, and the Announcer".to_owned(),
        right: "everybody else, and the Announcer".to_owned(),
        concealed_ms: quality.concealed_ms,
        undecodable_packets: quality.undecodable,
    }
}

fn track_rows(plan: &RecordingPlan, segments: &[SegmentRead], since: &dyn Fn(u64) -> u64) -> Vec<TrackRow> {
    let rows = segments.iter().flat_map(|segment| segment.runs.iter().map(move |run| (segment, run)));
    let row = |(segment, run): (&SegmentRead, &RunRow)| {
        let voice = segment.tracks.get(&run.track).unwrap_or(&Voice::Announcer);
        let channel = match channels_of(voice, &plan.caller_legs) {
            Channels { left: true, right: true } => "both",
            Channels { left: true, .. } => "left",
            _ => "right",
        };
        let leg = if let Voice::Leg(leg) = voice { Some(leg.clone()) } else { None };
        TrackRow {
            segment: segment.opened.segment,
            track: run.track,
            leg,
            channel: channel.to_owned(),
            codec: run.codec,
            file: format!("{}/{}", segment_directory(segment.opened.segment), run.file),
            packets: run.entries.len() as u64,
            starts_ms: run.entries.first().map_or(0, |entry| since(entry.media_ns)),
        }
    };
    rows.map(row).collect()
}

fn clock_row(base: &Base, segments: &[SegmentRead]) -> ClockRow {
    let pairs: Vec<(u64, UnixMs)> = segments.iter().flat_map(|segment| segment.clock_pairs.clone()).collect();
    ClockRow { clock: base.clock.to_string(), origin_ns: base.origin_ns, pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_recording_fits_into_a_message_however_many_files_it_has() {
        let file = |n: u32| FileRow { name: format!("segment-1/t1-{n}.ogg"), bytes: u64::MAX, sha256: "f".repeat(64) };
        let segment =
            |n: u32| SegmentRow { segment: n, started_ms: UnixMs(n.into()), ended_ms: UnixMs(n.into()), gap_ms: 9 };
        let (files, segments) = told((0..100_000).map(file).collect(), (0..10_000).map(segment).collect());
        assert_eq!((files.len(), segments.len()), (3, 1_000));
        let (files, segments) = told((0..256).map(file).collect(), (0..1_000).map(segment).collect());
        assert_eq!((files.len(), segments.len()), (256, 1_000));
        let bytes = serde_json::to_vec(&(files, segments)).unwrap().len();
        assert!(bytes < 256 * 1_024, "{bytes}");
    }
}
