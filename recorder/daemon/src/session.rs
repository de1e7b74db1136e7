//! A recording's task: it alone holds the core, and carries words between it and the Tap, the disk thread, the outbox
//! and the finaliser.
use crate::disk::{Disk, DiskEvent, DiskWriter};
use crate::finalise::{FinaliseError, Finalisers, Order};
use crate::store::{Store, segment_directory, with_source};
use crate::tap::input_of;
use offhook_bus::Outbox;
use offhook_contract::recorder::RecordingRow;
use offhook_contract::{Context, Fact};
use offhook_link::{TapDialError, TapDialer, TapFrame, TapReadError, TapReader};
use offhook_recorder_core::recording::{Finalised, Output};
use offhook_recorder_core::{Recording, TapInput, consent};
use offhook_runtime::{Counter, Gauge, Metrics};
use std::future::{Future, pending};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

/// Facts that wait for a slow outbox: hours of beeps.
const FACT_QUEUE: usize = 1_024;
/// An outbox that refuses is asked again.
const FACT_PAUSE: Duration = Duration::from_secs(1);
/// For the last writes of a process that ends.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

/// What every session shares.
#[derive(Clone)]
pub struct Shared {
    pub store: Store,
    pub disk: Disk,
    pub dialer: TapDialer,
    pub outbox: Outbox,
    pub finalisers: Finalisers,
    pub figures: Figures,
    pub started: Instant,
}

#[derive(Clone)]
pub struct Figures {
    pub active: Gauge,
    pub finished: Counter,
    pub failed: Counter,
    pub resumed: Counter,
    pub gap_packets: Counter,
    pub broken_taps: Counter,
}

impl Figures {
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            active: metrics.gauge("recordings", "Recordings being made or finished now."),
            finished: metrics.counter("recordings_finished_total", "Recordings whose final files are there."),
            failed: metrics.counter("recordings_failed_total", "Recordings that ended without final files."),
            resumed: metrics.counter("tap_resumes_total", "Taps that were dialled again after a break."),
            gap_packets: metrics.counter("tap_gap_packets_total", "Packets that a Tap could not keep for us."),
            broken_taps: metrics.counter("tap_unreadable_total", "Taps that sent what is no record."),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Stop,
    /// The process ends; the recording goes on in its next life.
    Shutdown,
}

/// A running recording as the daemon sees it.
#[derive(Debug)]
pub struct Session {
    pub commands: mpsc::Sender<Command>,
    pub row: watch::Receiver<RecordingRow>,
    pub task: JoinHandle<()>,
}

/// Runs `recording` until its terminal fact is in the outbox.
pub fn spawn(shared: &Arc<Shared>, recording: Recording) -> Session {
    let (commands, orders) = mpsc::channel(8);
    let (row_sender, row) = watch::channel(row_of(&recording));
    let plan = recording.plan();
    let span = tracing::info_span!("recording", call = %plan.call, recording = %plan.recording);
    let task = tokio::spawn(run(Arc::clone(shared), recording, orders, row_sender).instrument(span));
    Session { commands, row, task }
}

fn row_of(recording: &Recording) -> RecordingRow {
    let plan = recording.plan();
    RecordingRow {
        recording: plan.recording.clone(),
        call: plan.call.clone(),
        tenant: plan.tenant.clone(),
        epoch: plan.epoch,
        state: recording.state(),
        segment: recording.segment(),
    }
}

/// Counts itself as long as it lives.
struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

type Waiting<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

struct Task {
    shared: Arc<Shared>,
    recording: Recording,
    reader: Option<TapReader>,
    dialling: Waiting<Result<TapReader, TapDialError>>,
    finalising: Waiting<Result<Finalised, FinaliseError>>,
    writer: DiskWriter,
    facts: mpsc::Sender<(Fact, Option<u64>)>,
    dials: u64,
    done: Option<bool>,
    /// Why it failed, once it has.
    failure: Option<String>,
    last_barrier: u64,
}

async fn run(
    shared: Arc<Shared>,
    recording: Recording,
    mut orders: mpsc::Receiver<Command>,
    row: watch::Sender<RecordingRow>,
) {
    shared.figures.active.add(1);
    let _counted = Counted(shared.figures.active.clone());
    let plan = recording.plan().clone();
    let (writer, mut disk_events) = shared.disk.open(shared.store.directory(&plan)).await;
    let (facts, fact_queue) = mpsc::channel(FACT_QUEUE);
    let (told_sender, mut told) = mpsc::channel(FACT_QUEUE);
    let context = Context { tenant: Some(plan.tenant), call: Some(plan.call), epoch: None };
    let teller = tokio::spawn(tell(shared.outbox.clone(), context, fact_queue, told_sender));
    let (dialling, finalising) = (None, None);
    let mut task = Task {
        shared,
        recording,
        reader: None,
        dialling,
        finalising,
        writer,
        facts,
        dials: 0,
        done: None,
        failure: None,
        last_barrier: 0,
    };
    loop {
        task.obey().await;
        row.send_if_modified(|known| {
            let (state, segment) = (task.recording.state(), task.recording.segment());
            let changed = (known.state, known.segment) != (state, segment);
            (known.state, known.segment) = (state, segment);
            changed
        });
        if let Some(failed) = task.done {
            return task.end(failed, teller).await;
        }
        let due = task.recording.poll_timeout();
        tokio::select! {
            frame = next_frame(&mut task.reader) => task.handle_frame(frame),
            dialled = wait(&mut task.dialling) => task.handle_dialled(dialled),
            finalised = wait(&mut task.finalising) => task.handle_finalised(finalised),
            Some(event) = disk_events.recv() => task.handle_disk(event),
            Some(number) = told.recv() => task.recording.handle_told(number),
            Some(order) = orders.recv() => match order {
                Command::Stop => {
                    let now = task.now();
                    task.recording.handle_stop(now);
                }
                Command::Shutdown => return task.shut_down(&mut disk_events).await,
            },
            () = sleep_till(task.shared.started, due) => {}
        }
        let now = task.now();
        task.recording.handle_timeout(now);
    }
}

async fn next_frame(reader: &mut Option<TapReader>) -> Result<Option<TapFrame>, TapReadError> {
    match reader {
        Some(reader) => reader.next().await,
        None => pending().await,
    }
}

/// Waits for what is under way, if anything is, and clears it.
async fn wait<T>(under_way: &mut Waiting<T>) -> T {
    match under_way {
        Some(future) => {
            let outcome = future.await;
            *under_way = None;
            outcome
        }
        None => pending().await,
    }
}

async fn sleep_till(started: Instant, due: Option<Duration>) {
    match due {
        Some(due) => sleep_until(started + due).await,
        None => pending().await,
    }
}

/// Puts facts into the outbox in order, each until it is kept.
async fn tell(
    outbox: Outbox,
    context: Context,
    mut facts: mpsc::Receiver<(Fact, Option<u64>)>,
    told: mpsc::Sender<u64>,
) {
    while let Some((fact, number)) = facts.recv().await {
        while let Err(error) = outbox.append(&context, fact.clone()).await {
            if error.is_final() {
                tracing::error!(error = %with_source(&error), "a fact is lost");
                break;
            }
            tracing::error!(error = %with_source(&error), "a fact waits for the outbox");
            tokio::time::sleep(FACT_PAUSE).await;
        }
        if let Some(number) = number {
            let _ = told.send(number).await;
        }
    }
}

impl Task {
    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Carries out what the core wants.
    async fn obey(&mut self) {
        while let Some(output) = self.recording.poll_output() {
            match output {
                Output::Dial { resume_after } => self.dial(resume_after),
                Output::HangUp => {
                    self.reader = None;
                    self.dialling = None;
                }
                Output::BeginSegment { segment } => {
                    tracing::info!(segment, "a segment begins");
                    self.writer.make_directory(segment_directory(segment)).await;
                }
                Output::Append { segment, append } => {
                    let file = PathBuf::from(segment_directory(segment)).join(append.file);
                    self.writer.append(file, append.bytes).await;
                }
                Output::AppendConsent(bytes) => self.writer.append(consent::FILE_NAME.into(), bytes).await,
                Output::Sync => self.writer.sync().await,
                Output::Barrier(number) => {
                    self.last_barrier = number;
                    self.writer.barrier(number).await;
                }
                Output::Fact { fact, number } => {
                    if let Fact::RecordingFailed { reason, .. } = &fact {
                        self.failure = Some(reason.clone());
                    }
                    // The teller lives as long as this task.
                    let _ = self.facts.send((fact, number)).await;
                }
                Output::Finalise => self.finalise(),
                Output::Done { failed } => self.done = Some(failed),
            }
        }
    }

    fn dial(&mut self, resume_after: u64) {
        if self.dials > 0 || resume_after > 0 {
            tracing::info!(resume_after, "dialling the Tap again");
            self.shared.figures.resumed.increment();
        }
        self.dials += 1;
        let (dialer, offer) = (self.shared.dialer.clone(), self.recording.plan().tap.clone());
        self.dialling = Some(Box::pin(async move { dialer.connect(&offer, resume_after).await }));
    }

    fn finalise(&mut self) {
        let finalisers = self.shared.finalisers.clone();
        let recovered = self.shared.store.deaths(&self.recording.plan().recording) > 0;
        let (plan, losses) = (self.recording.plan().clone(), self.recording.losses());
        let order = Order { plan, losses, stopped: self.recording.stopped(), recovered };
        self.finalising = Some(Box::pin(async move { finalisers.finalise(order).await }));
    }

    fn handle_dialled(&mut self, dialled: Result<TapReader, TapDialError>) {
        match dialled {
            Ok(reader) => {
                self.reader = Some(reader);
                self.recording.handle_connected();
            }
            Err(error) => {
                let refused = matches!(error, TapDialError::Refused(_));
                tracing::warn!(error = %with_source(&error), refused, "the Tap could not be opened");
                self.recording.handle_dial_failed(refused, self.shared.started.elapsed());
            }
        }
    }

    fn handle_frame(&mut self, frame: Result<Option<TapFrame>, TapReadError>) {
        let now = self.now();
        match frame {
            Ok(Some(frame)) => match frame.record() {
                Ok(record) => self.handle_record(frame.number(), &input_of(record), now),
                Err(error) => self.handle_unreadable(&error),
            },
            Ok(None) => self.reader = None,
            Err(TapReadError::Record(error)) => self.handle_unreadable(&error),
            Err(error) => {
                tracing::warn!(error = %with_source(&error), "the Tap's connection broke");
                self.reader = None;
                self.recording.handle_lost(now);
            }
        }
    }

    fn handle_record(&mut self, number: u64, input: &TapInput<'_>, now: Duration) {
        if let TapInput::Gap { packets, .. } = input {
            tracing::warn!(packets, "the Tap has a gap");
            self.shared.figures.gap_packets.add(*packets);
        }
        if let Err(mismatch) = self.recording.handle_record(number, input, now) {
            tracing::error!(%mismatch, "the Tap is refused");
            self.reader = None;
            self.recording.handle_failed(&mismatch.to_string());
        }
    }

    fn handle_unreadable(&mut self, error: &dyn std::error::Error) {
        tracing::error!(error = %with_source(error), "the Tap sent what is no record; the recording ends here");
        self.shared.figures.broken_taps.increment();
        self.reader = None;
        let now = self.now();
        self.recording.handle_broken(now);
    }

    fn handle_disk(&mut self, event: DiskEvent) {
        match event {
            DiskEvent::Written(barrier) => self.recording.handle_written(barrier),
            DiskEvent::Failed(error) => {
                tracing::error!(%error, "the disk takes no more; the recording ends here, what is written stays");
                self.recording.handle_disk_failed();
            }
        }
    }

    fn handle_finalised(&mut self, finalised: Result<Finalised, FinaliseError>) {
        match finalised {
            Ok(finalised) => {
                tracing::info!(duration_ms = finalised.duration_ms, "the recording is finished");
                self.recording.handle_finalised(finalised);
            }
            Err(error) => {
                let reason =
                    format!("the final files could not be made; the originals are kept: {}", with_source(&error));
                tracing::error!(reason);
                self.recording.handle_failed(&reason);
            }
        }
    }

    /// Everything is told; the recording is forgotten when its facts are kept.
    async fn end(self, failed: bool, teller: JoinHandle<()>) {
        let Self { shared, recording, writer, facts, failure, .. } = self;
        drop(facts);
        let _ = teller.await;
        writer.close().await;
        let id = &recording.plan().recording;
        let forgotten = if failed {
            shared.figures.failed.increment();
            shared.store.put_aside(id, failure.as_deref())
        } else {
            shared.figures.finished.increment();
            shared.store.forget(id)
        };
        if let Err(error) = forgotten {
            tracing::error!(error = %with_source(&error), "a recording that is over could not be put aside");
        }
    }

    /// Writes what is held; the next life of this recorder goes on.
    async fn shut_down(mut self, disk_events: &mut mpsc::UnboundedReceiver<DiskEvent>) {
        let now = self.now();
        self.recording.handle_shutdown(now);
        self.obey().await;
        self.writer.sync().await;
        let barrier = self.last_barrier + 1;
        self.writer.barrier(barrier).await;
        let written = async {
            while let Some(event) = disk_events.recv().await {
                if matches!(event, DiskEvent::Written(number) if number >= barrier) {
                    return;
                }
            }
        };
        if timeout(SHUTDOWN_PATIENCE, written).await.is_err() {
            tracing::warn!("the disk was too slow for the last writes");
        }
        if self.finalising.is_some() {
            // An end that was asked for is no death.
            let id = &self.recording.plan().recording;
            if let Err(error) = self.shared.store.finalising_survived(id) {
                tracing::warn!(error = %with_source(&error), "the next life will count an ordered end as a death");
            }
        }
    }
}
