//! The queue from the media threads to the signalling side: fixed memory, no allocation to put something in.
use offhook_sfu_core::Output;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use tokio::sync::Notify;

/// What waits; beyond it a media thread keeps its news until there is room.
const CAPACITY: usize = 4_096;

#[derive(Clone)]
pub struct OutputSender {
    queue: SyncSender<Output>,
    news: Arc<Notify>,
}

pub struct OutputReceiver {
    queue: Receiver<Output>,
    news: Arc<Notify>,
}

pub fn outputs() -> (OutputSender, OutputReceiver) {
    let (sender, receiver) = sync_channel(CAPACITY);
    let news = Arc::new(Notify::new());
    (OutputSender { queue: sender, news: Arc::clone(&news) }, OutputReceiver { queue: receiver, news })
}

impl OutputSender {
    /// Gives the output back when there is no room; drops it when nobody listens any more.
    pub fn try_send(&self, output: Output) -> Result<(), Output> {
        match self.queue.try_send(output) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(output)) => Err(output),
        }
    }

    /// Tells the other side to look; once for many.
    pub fn wake(&self) {
        self.news.notify_one();
    }
}

impl OutputReceiver {
    /// The next output; never returns when all media threads have ended.
    pub async fn next(&mut self) -> Output {
        loop {
            match self.queue.try_recv() {
                Ok(output) => return output,
                Err(TryRecvError::Disconnected) => return std::future::pending().await,
                Err(TryRecvError::Empty) => self.news.notified().await,
            }
        }
    }

    pub fn try_next(&mut self) -> Option<Output> {
        self.queue.try_recv().ok()
    }
}
