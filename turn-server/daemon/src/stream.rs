//! TCP and TLS clients: one task each, told apart by their first byte, feeding the thread that owns their allocation. What
//! they bring and what is for them changes hands in buffers that come back, so that a packet of a call allocates nothing
//! here; only TLS makes a record of it. Waking a task costs the runtime a lock, and the thread a system call.
use crate::crowd::{Crowd, Place};
use crate::server::Handle;
use crate::tls::Certificate;
use crate::worker::Order;
use offhook_turn_core::stream::{Framed, next_message};
use offhook_turn_core::{ClientPath, Command, Via};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// A handshake, and a whole first message, must be done by then.
const FIRST_WITHIN: Duration = Duration::from_secs(10);
/// So long may whoever has no allocation take for each message that follows.
const NEXT_WITHIN: Duration = Duration::from_secs(30);
/// Without a byte for so long a connection ends, or for longer where allocations may last longer: a refresh comes more
/// often.
const IDLE: Duration = Duration::from_secs(3_700);
/// A refresh may come this late.
const LATE: Duration = Duration::from_secs(100);
/// Writing may stall for so long.
const STALLED: Duration = Duration::from_secs(10);
const READ_BYTES: usize = 8 << 10;
/// Messages that wait together leave in writes of so much.
const WRITE_BYTES: usize = 16 << 10;
/// Buffers of one connection that are read into: one is filled while the thread has the other.
const READS: usize = 2;
/// Room for a packet of a call and its header.
const MESSAGE_BYTES: usize = 2 << 10;
/// What has become longer than so many of its kind is not kept.
const GROWN: usize = 4;
/// Of a connection that has brought nothing yet: there may be thousands.
const PENDING_FIRST: usize = 1 << 10;
/// The longest message is 64 KiB and its header.
const PENDING_MAX: usize = (64 << 10) + 32;
/// Messages that wait for a client which reads slowly.
const QUEUE: usize = 256;
const CONNECTIONS_MAX: usize = 20_000;
/// What a success response to Allocate begins with (RFC 8489 §5, RFC 8656 §17).
const ALLOCATED: [u8; 2] = [0x01, 0x03];

/// Numbers connections once, over all threads.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// What a connection is, in the words of coturn's `turn_total_allocations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Tls,
}

/// Connections that hold an allocation. That they do the relaying threads know; whether TLS carries it, this side does.
static HELD: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Allocations of clients that came by a connection, under coturn's names for what carries them.
pub(crate) fn allocations() -> [(&'static str, usize); 2] {
    let [tcp, tls] = &HELD;
    [("TCP", tcp.load(Ordering::Relaxed)), ("TLS/TCP", tls.load(Ordering::Relaxed))]
}

/// One of [`HELD`], for as long as it lasts.
struct Held(Carrier);

impl Held {
    const fn count(carrier: Carrier) -> &'static AtomicUsize {
        let [tcp, tls] = &HELD;
        match carrier {
            Carrier::Tcp => tcp,
            Carrier::Tls => tls,
        }
    }

    fn new(carrier: Carrier) -> Self {
        Self::count(carrier).fetch_add(1, Ordering::Relaxed);
        Self(carrier)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        Self::count(self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A relaying thread's end of a connection. Without it the connection ends.
pub(crate) struct Line {
    /// What is for the client.
    pub(crate) queue: mpsc::Sender<Vec<u8>>,
    /// What came from it goes back when it is read.
    pub(crate) spent: mpsc::Sender<Vec<u8>>,
    carrier: Carrier,
    held: Option<Held>,
}

impl Line {
    /// It has an allocation from now on, or has none any more.
    pub(crate) fn hold(&mut self, holds: bool) {
        self.held = holds.then(|| Held::new(self.carrier));
    }
}

/// Buffers for what is for clients: the writing tasks give them back.
pub(crate) struct Spare {
    back: SyncSender<Vec<u8>>,
    returned: Receiver<Vec<u8>>,
}

impl Spare {
    /// And the end that is the tasks'.
    pub(crate) fn new() -> (Self, SyncSender<Vec<u8>>) {
        let (back, returned) = sync_channel(QUEUE);
        (Self { back: back.clone(), returned }, back)
    }

    /// `false`: the client does not read, or is gone.
    pub(crate) fn send(&self, line: &Line, bytes: &[u8]) -> bool {
        let mut message = self.returned.try_recv().unwrap_or_else(|_| Vec::with_capacity(MESSAGE_BYTES));
        message.clear();
        message.extend_from_slice(bytes);
        match line.queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message) | TrySendError::Closed(message)) => {
                give_back(&self.back, message);
                false
            }
        }
    }
}

/// What finds no room there is not needed.
fn give_back(spent: &SyncSender<Vec<u8>>, message: Vec<u8>) {
    if message.capacity() <= GROWN * MESSAGE_BYTES {
        let _ = spent.try_send(message);
    }
}

/// A connection's own buffers.
struct Reads {
    spent: mpsc::Receiver<Vec<u8>>,
    made: usize,
}

impl Reads {
    /// An empty one. While the thread has not read the others the sender waits, as TCP has it; `None`: it has closed the
    /// connection.
    async fn next(&mut self) -> Option<Vec<u8>> {
        let mut buffer = match self.spent.try_recv() {
            Ok(spent) => spent,
            Err(_) if self.made < READS => {
                self.made += 1;
                Vec::with_capacity(PENDING_FIRST)
            }
            Err(_) => self.spent.recv().await?,
        };
        buffer.clear();
        buffer.shrink_to(GROWN * READ_BYTES);
        Some(buffer)
    }
}

/// How long whoever has an allocation may be silent.
pub(crate) fn idle(lifetime_max: Duration) -> Duration {
    IDLE.max(lifetime_max.saturating_add(LATE))
}

pub(crate) struct Door {
    pub(crate) tls: Option<Arc<Certificate>>,
    pub(crate) tls_only: bool,
    pub(crate) workers: Vec<Handle>,
    /// In seconds: [`idle`], as the settings have it now.
    pub(crate) idle_s: Arc<AtomicU64>,
}

/// Accepts for ever.
pub(crate) async fn accept(listener: TcpListener, door: Arc<Door>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let crowd = Arc::new(Crowd::default());
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, client)) => {
                // Too many strangers from there: closed at once.
                let Some(standing) = crowd.enter(client.ip()) else { continue };
                let door = Arc::clone(&door);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, client, &door, &standing).await {
                        // One for each stranger: not for an everyday log.
                        tracing::trace!(client = %offhook_runtime::shown(client), %error, "connection ended");
                    }
                    drop(place);
                });
            }
            // No descriptors left: the next one may find some.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(stream: TcpStream, client: SocketAddr, door: &Door, standing: &Place) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let server = stream.local_addr()?;
    let due = Instant::now() + FIRST_WITHIN;
    let mut first = [0];
    let seen = timeout_at(due, stream.peek(&mut first)).await??;
    if seen == 0 {
        return Ok(());
    }
    match (&door.tls, first) {
        (Some(tls), [TLS_HANDSHAKE]) => {
            let acceptor = TlsAcceptor::from(tls.server_config());
            let stream = timeout_at(due, acceptor.accept(stream)).await??;
            relay(stream, client, server, door, Carrier::Tls, standing).await
        }
        (_, [0..=3]) if !door.tls_only => relay(stream, client, server, door, Carrier::Tcp, standing).await,
        _ => Ok(()),
    }
}

async fn relay<S: AsyncRead + AsyncWrite>(
    stream: S,
    client: SocketAddr,
    server: SocketAddr,
    door: &Door,
    carrier: Carrier,
    standing: &Place,
) -> io::Result<()> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = ClientPath { client, server, via: Via::Stream(number) };
    let Some(worker) = door.workers.get(number as usize % door.workers.len().max(1)) else { return Ok(()) };
    let ((queue, waiting), (spent, reads)) = (mpsc::channel(QUEUE), mpsc::channel(READS));
    let reads = Reads { spent: reads, made: 0 };
    let line = Line { queue, spent, carrier, held: None };
    if !worker.tell(Order::StreamOpened { path, line }) {
        return Ok(());
    }
    let (reader, writer) = tokio::io::split(stream);
    let outcome = tokio::select! {
        read = read_all(reader, path, (worker, reads), (standing, &door.idle_s)) => read,
        written = write_all(writer, (waiting, worker.spare()), carrier, standing) => written,
    };
    worker.tell_surely(Order::Command(Command::ClientClosed { path })).await;
    outcome
}

/// Who has no allocation brings a whole message in time; for the others a byte will do.
async fn read_all(
    mut reader: impl AsyncRead + Unpin,
    path: ClientPath,
    (worker, mut reads): (&Handle, Reads),
    (standing, idle_s): (&Place, &AtomicU64),
) -> io::Result<()> {
    let Some(mut pending) = reads.next().await else { return Ok(()) };
    let mut is_first = true;
    let mut due = Instant::now() + FIRST_WITHIN;
    let mut idle_from = Instant::now();
    let idle_now = || Duration::from_secs(idle_s.load(Ordering::Relaxed));
    loop {
        let was_known = standing.is_known();
        let until = if was_known { idle_from + idle_now() } else { due };
        if was_known && pending.capacity() < READ_BYTES {
            pending.reserve(READ_BYTES);
        }
        match timeout_at(until, reader.read_buf(&mut pending)).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(read) => {
                read?;
                idle_from = Instant::now();
            }
            // It logged in while we waited.
            Err(_) if !was_known && standing.is_known() => continue,
            Err(late) => return Err(late.into()),
        }
        let whole = whole(&pending, &mut is_first)?;
        if whole > 0 {
            let Some(mut next) = reads.next().await else { return Ok(()) };
            next.extend_from_slice(pending.get(whole..).unwrap_or_default());
            pending.truncate(whole);
            let order = Order::StreamMessages { path, messages: std::mem::replace(&mut pending, next) };
            // A thread with more work than it can take loses messages, as a network does.
            if worker.tell_or_return(order).is_some() {
                reads.made -= 1;
            }
            due = idle_from + NEXT_WITHIN;
        }
        if pending.len() > PENDING_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// How many bytes the whole messages take that have come.
fn whole(pending: &[u8], is_first: &mut bool) -> io::Result<usize> {
    let mut at = 0;
    loop {
        match next_message(pending.get(at..).unwrap_or_default(), *is_first) {
            Framed::Message { next, .. } => {
                at += next;
                *is_first = false;
            }
            Framed::Incomplete => return Ok(at),
            Framed::Broken => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Ends when the worker drops the queue. Messages that wait together leave in one write, but for TLS: a record each, since
/// clients exist that take a record for a message (coturn's own among them).
async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    (mut waiting, spare): (mpsc::Receiver<Vec<u8>>, &SyncSender<Vec<u8>>),
    carrier: Carrier,
    standing: &Place,
) -> io::Result<()> {
    let mut together = Vec::new();
    while let Some(message) = waiting.recv().await {
        look_for_allocation(&message, standing);
        let next = if carrier == Carrier::Tcp { waiting.try_recv().ok() } else { None };
        let Some(next) = next else {
            timeout(STALLED, writer.write_all(&message)).await??;
            timeout(STALLED, writer.flush()).await??;
            give_back(spare, message);
            continue;
        };
        together.clear();
        together.shrink_to(GROWN * WRITE_BYTES);
        let mut another = Some(message);
        let mut after = Some(next);
        while let Some(message) = another {
            together.extend_from_slice(&message);
            give_back(spare, message);
            another = after.take();
            if another.is_none() && together.len() < WRITE_BYTES {
                another = waiting.try_recv().ok();
            }
            if let Some(message) = &another {
                look_for_allocation(message, standing);
            }
        }
        timeout(STALLED, writer.write_all(&together)).await??;
        timeout(STALLED, writer.flush()).await??;
    }
    timeout(STALLED, writer.shutdown()).await?
}

fn look_for_allocation(answer: &[u8], standing: &Place) {
    if !standing.is_known() && answer.starts_with(&ALLOCATED) {
        standing.make_known();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_be_silent_for_longer_than_any_allocation_lasts() {
        for (lifetime_max_s, idle_s) in [(600, 3_700), (3_600, 3_700), (7_200, 7_300), (86_400, 86_500)] {
            assert_eq!(idle(Duration::from_secs(lifetime_max_s)), Duration::from_secs(idle_s));
        }
    }
}
