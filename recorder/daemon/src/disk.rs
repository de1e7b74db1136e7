//! The threads that write. Each recording belongs to one of them, so its writes keep their order; tokio's workers
//! never wait for a disk. What is written survives the death of the process at once, and that of the machine after
//! the next sync.
use crate::store::Claim;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const THREADS: usize = 2;
/// Jobs that wait for a slow disk; behind them the Tap is no longer read, and the SFU keeps its last 10 s.
const QUEUE: usize = 512;
/// Of one recording; a file whose run is over is opened no more.
const MAX_OPEN_FILES: usize = 64;
/// What a loss of power may cost.
const SYNC_PERIOD: Duration = Duration::from_secs(5);

/// What a recording hears from its disk thread.
#[derive(Debug)]
pub enum DiskEvent {
    /// Everything before this barrier is written.
    Written(u64),
    /// Nothing more is written for this recording.
    Failed(io::Error),
}

#[derive(Debug)]
enum Job {
    Open { writer: u64, directory: PathBuf, events: mpsc::UnboundedSender<DiskEvent> },
    MakeDirectory { writer: u64, name: String },
    Append { writer: u64, file: PathBuf, bytes: Vec<u8> },
    Sync { writer: u64 },
    Barrier { writer: u64, number: u64 },
    Close { writer: u64 },
}

/// The threads. Dropping every handle ends them after their last job.
#[derive(Debug, Clone)]
pub struct Disk {
    queues: Arc<Vec<mpsc::Sender<Job>>>,
    next: Arc<AtomicU64>,
}

impl Disk {
    /// The threads hold `claim` until their last write.
    pub fn start(claim: &Claim) -> io::Result<Self> {
        let mut queues = Vec::new();
        for _ in 0..THREADS {
            let (queue, jobs) = mpsc::channel(QUEUE);
            let claim = claim.clone();
            std::thread::Builder::new().name("recorder-disk".to_owned()).spawn(move || {
                work(jobs);
                drop(claim);
            })?;
            queues.push(queue);
        }
        Ok(Self { queues: Arc::new(queues), next: Arc::default() })
    }

    /// A writer below `directory`, which exists.
    pub async fn open(&self, directory: PathBuf) -> (DiskWriter, mpsc::UnboundedReceiver<DiskEvent>) {
        let writer = self.next.fetch_add(1, Ordering::Relaxed);
        // Bounded by its use: one event for a barrier, two barriers a second.
        let (events, heard) = mpsc::unbounded_channel();
        let index = usize::try_from(writer).unwrap_or(0) % THREADS;
        let queue = self.queues.get(index).or_else(|| self.queues.first()).cloned();
        let handle = DiskWriter { queue, writer };
        handle.send(Job::Open { writer, directory, events }).await;
        (handle, heard)
    }
}

/// One recording's way to its disk thread.
#[derive(Debug)]
pub struct DiskWriter {
    queue: Option<mpsc::Sender<Job>>,
    writer: u64,
}

impl DiskWriter {
    async fn send(&self, job: Job) {
        if let Some(queue) = &self.queue {
            // The thread ends only after every handle is gone.
            let _ = queue.send(job).await;
        }
    }
    pub async fn make_directory(&self, name: String) {
        self.send(Job::MakeDirectory { writer: self.writer, name }).await;
    }
    pub async fn append(&self, file: PathBuf, bytes: Vec<u8>) {
        self.send(Job::Append { writer: self.writer, file, bytes }).await;
    }
    pub async fn sync(&self) {
        self.send(Job::Sync { writer: self.writer }).await;
    }
    pub async fn barrier(&self, number: u64) {
        self.send(Job::Barrier { writer: self.writer, number }).await;
    }
    pub async fn close(self) {
        self.send(Job::Close { writer: self.writer }).await;
    }
}

struct Writer {
    directory: PathBuf,
    events: mpsc::UnboundedSender<DiskEvent>,
    files: HashMap<PathBuf, Open>,
    failed: bool,
}

struct Open {
    file: File,
    dirty: bool,
}

fn work(mut jobs: mpsc::Receiver<Job>) {
    let mut writers: HashMap<u64, Writer> = HashMap::new();
    let mut synced = Instant::now();
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Job::Open { writer, directory, events } => {
                writers.insert(writer, Writer { directory, events, files: HashMap::new(), failed: false });
            }
            Job::Close { writer } => {
                writers.remove(&writer);
            }
            Job::MakeDirectory { writer, name } => run(&mut writers, writer, |w| w.make_directory(&name)),
            Job::Append { writer, file, bytes } => run(&mut writers, writer, |w| w.append(&file, &bytes)),
            Job::Sync { writer } => run(&mut writers, writer, Writer::sync),
            Job::Barrier { writer, number } => run(&mut writers, writer, |w| {
                let _ = w.events.send(DiskEvent::Written(number));
                Ok(())
            }),
        }
        if synced.elapsed() >= SYNC_PERIOD {
            let all: Vec<u64> = writers.keys().copied().collect();
            all.into_iter().for_each(|writer| run(&mut writers, writer, Writer::sync));
            synced = Instant::now();
        }
    }
}

fn run(writers: &mut HashMap<u64, Writer>, writer: u64, job: impl FnOnce(&mut Writer) -> io::Result<()>) {
    let Some(writer) = writers.get_mut(&writer).filter(|writer| !writer.failed) else { return };
    if let Err(error) = job(writer) {
        writer.failed = true;
        writer.files.clear();
        let _ = writer.events.send(DiskEvent::Failed(error));
    }
}

impl Writer {
    fn make_directory(&mut self, name: &str) -> io::Result<()> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(&path)?;
        // Files of the segment before are complete.
        self.sync()?;
        self.files.retain(|file, _| file.starts_with(name) || file.parent() == Some(Path::new("")));
        File::open(&self.directory)?.sync_all()
    }

    fn append(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        if !self.files.contains_key(file) {
            if self.files.len() >= MAX_OPEN_FILES {
                self.sync()?;
                self.files.clear();
            }
            let opened = OpenOptions::new().append(true).create(true).open(self.directory.join(file))?;
            self.files.insert(file.to_owned(), Open { file: opened, dirty: false });
        }
        let Some(open) = self.files.get_mut(file) else { return Ok(()) };
        open.dirty = true;
        open.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        for open in self.files.values_mut().filter(|open| open.dirty) {
            open.file.sync_data()?;
            open.dirty = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_keep_their_order_and_the_barrier_comes_after_them() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::start(&crate::store::Store::open(directory.path().to_owned()).unwrap().claim()).unwrap();
        let (writer, mut events) = disk.open(directory.path().to_owned()).await;
        writer.make_directory("segment-1".to_owned()).await;
        for n in 0..100_u8 {
            writer.append("segment-1/a".into(), vec![n]).await;
        }
        writer.sync().await;
        writer.barrier(7).await;
        assert!(matches!(events.recv().await, Some(DiskEvent::Written(7))));
        let written = std::fs::read(directory.path().join("segment-1/a")).unwrap();
        assert_eq!(written, (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_failed_write_is_told_once_and_ends_that_writer_only() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::start(&crate::store::Store::open(directory.path().to_owned()).unwrap().claim()).unwrap();
        let (broken, mut told) = disk.open(directory.path().join("is not there")).await;
        let (fine, mut heard) = disk.open(directory.path().to_owned()).await;
        broken.append("a".into(), vec![1]).await;
        broken.barrier(1).await;
        broken.close().await;
        assert!(matches!(told.recv().await, Some(DiskEvent::Failed(_))));
        assert!(told.recv().await.is_none());
        fine.append("a".into(), vec![1]).await;
        fine.barrier(2).await;
        assert!(matches!(heard.recv().await, Some(DiskEvent::Written(2))));
    }
}
