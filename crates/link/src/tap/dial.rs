//! The recorder's side of a Tap: dialling with `resume after record n`, then records in rising order.
use super::hub::{Attach, Attachment, Next, Registry};
use super::record::{MAX_RECORD_BYTES, RecordError, TapFrame, TapRecord};
use super::wire::{ACCEPTED, Greeting, Refusal};
use crate::identity::{Fingerprint, Identity, IdentityError, InvalidFingerprint};
use offhook_contract::sfu::TapOffer;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For each address of an offer.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);
const ACKNOWLEDGE_PERIOD: Duration = Duration::from_secs(1);
/// Records that wait for a reader that does not take them; behind them TCP pushes back.
const QUEUE: usize = 256;
const BATCH: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum TapDialError {
    #[error("the offer names no address")]
    NoAddress,
    #[error("{address}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("{0} did not answer in time")]
    Silent(SocketAddr),
    #[error("the offer's fingerprint")]
    Fingerprint(#[from] InvalidFingerprint),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the answer {0} is unknown")]
    UnknownAnswer(u8),
    #[error("the offer's token or recording is too long")]
    OfferTooLong,
}

#[derive(Debug, thiserror::Error)]
pub enum TapReadError {
    /// Dial again with `resume_after`.
    #[error("the Tap's connection ended before its closing record")]
    Interrupted,
    #[error("connection")]
    Io(#[from] io::Error),
    /// The other side is broken or hostile.
    #[error("a record that cannot be read")]
    Record(#[from] RecordError),
}

/// Dials Taps with one identity, in the form it was made for.
#[derive(Debug, Clone)]
pub struct TapDialer {
    identity: Identity,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Network,
    InProcess(Arc<Registry>),
}

impl TapDialer {
    pub(super) fn network(identity: Identity) -> Self {
        Self { identity, form: Form::Network }
    }
    pub(super) fn in_process(identity: Identity, registry: Arc<Registry>) -> Self {
        Self { identity, form: Form::InProcess(registry) }
    }

    /// The one to announce: Taps are opened for it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// Opens the offered Tap. `resume_after`: the number of the last record already kept, 0 for none.
    pub async fn connect(&self, offer: &TapOffer, resume_after: u64) -> Result<TapReader, TapDialError> {
        let expected: Fingerprint = offer.fingerprint.parse()?;
        let source = match &self.form {
            Form::InProcess(registry) => {
                let tap = registry.find(offer.recording.as_str(), offer.token.expose())?;
                let recorder = self.identity.fingerprint();
                let attach = Attach { registry, recorder, hub: Some(expected), remote: false, resume_after };
                Source::InProcess { attachment: Box::new(Attachment::new(tap, &attach)?), queue: VecDeque::new() }
            }
            Form::Network => {
                let stream = self.dial(offer, expected, resume_after).await?;
                Source::Network(Connection::start(stream, resume_after))
            }
        };
        Ok(TapReader { source, last: resume_after, closed: false })
    }

    async fn dial(&self, offer: &TapOffer, expected: Fingerprint, resume_after: u64) -> Result<Stream, TapDialError> {
        let connector = TlsConnector::from(Arc::new(self.identity.mutual_client_config(expected)?));
        let greeting =
            Greeting { recording: offer.recording.as_str(), token: offer.token.expose(), resume_after }.encode();
        let greeting = greeting.ok_or(TapDialError::OfferTooLong)?;
        let mut failure = TapDialError::NoAddress;
        for address in &offer.addresses {
            match timeout(DIAL_PATIENCE, dial_one(*address, &connector, &greeting)).await {
                Ok(Ok((stream, ACCEPTED))) => return Ok(stream),
                Ok(Ok((_, code))) => {
                    return Err(Refusal::from_code(code).map_or(TapDialError::UnknownAnswer(code), Into::into));
                }
                Ok(Err(source)) => failure = TapDialError::Unreachable { address: *address, source },
                Err(_) => failure = TapDialError::Silent(*address),
            }
        }
        Err(failure)
    }
}

type Stream = TlsStream<TcpStream>;

async fn dial_one(address: SocketAddr, connector: &TlsConnector, greeting: &[u8]) -> io::Result<(Stream, u8)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // The fingerprint is the name; this one is never looked at.
    let name = rustls_pki_types::ServerName::IpAddress(address.ip().into());
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(greeting).await?;
    stream.flush().await?;
    let code = stream.read_u8().await?;
    Ok((stream, code))
}

/// The records of a Tap. Dropping it detaches.
#[derive(Debug)]
pub struct TapReader {
    source: Source,
    last: u64,
    closed: bool,
}

#[derive(Debug)]
enum Source {
    InProcess { attachment: Box<Attachment>, queue: VecDeque<Arc<[u8]>> },
    Network(Connection),
}

impl TapReader {
    /// The next record, checked; `None` after the closing record. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<TapFrame>, TapReadError> {
        if self.closed {
            return Ok(None);
        }
        let bytes = match &mut self.source {
            Source::InProcess { attachment, queue } => next_in_process(attachment, queue).await?,
            Source::Network(connection) => connection.next().await?,
        };
        let frame = TapFrame::check(bytes, self.last)?;
        self.last = frame.number();
        self.closed = matches!(frame.record()?, TapRecord::Closed { .. });
        Ok(Some(frame))
    }

    /// The last record given: what to resume after.
    pub fn last_number(&self) -> u64 {
        self.last
    }
}

async fn next_in_process(
    attachment: &mut Attachment,
    queue: &mut VecDeque<Arc<[u8]>>,
) -> Result<Arc<[u8]>, TapReadError> {
    if let Some(bytes) = queue.pop_front() {
        return Ok(bytes);
    }
    let mut batch = Vec::with_capacity(BATCH);
    match attachment.next(BATCH, &mut batch).await {
        Next::Records => {
            queue.extend(batch);
            queue.pop_front().ok_or(TapReadError::Interrupted)
        }
        Next::End | Next::Replaced => Err(TapReadError::Interrupted),
    }
}

/// The socket is read and acknowledged by tasks of its own, so a busy reader is slow but never silent.
#[derive(Debug)]
struct Connection {
    records: mpsc::Receiver<Result<Arc<[u8]>, TapReadError>>,
    tasks: [JoinHandle<()>; 2],
}

impl Connection {
    fn start(stream: Stream, resume_after: u64) -> Self {
        let (from, to) = tokio::io::split(stream);
        let (sender, records) = mpsc::channel(QUEUE);
        let seen = Arc::new(AtomicU64::new(resume_after));
        let receive = tokio::spawn(receive(from, sender, Arc::clone(&seen)));
        let acknowledge = tokio::spawn(acknowledge(to, seen));
        Self { records, tasks: [receive, acknowledge] }
    }

    async fn next(&mut self) -> Result<Arc<[u8]>, TapReadError> {
        self.records.recv().await.unwrap_or(Err(TapReadError::Interrupted))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn receive(from: ReadHalf<Stream>, records: mpsc::Sender<Result<Arc<[u8]>, TapReadError>>, seen: Arc<AtomicU64>) {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    loop {
        let record = read_record(&mut from).await;
        let ended = record.is_err();
        if let Ok(bytes) = &record
            && let Some((number, _)) = super::record::peek(bytes)
        {
            seen.store(number, Ordering::Relaxed);
        }
        if records.send(record).await.is_err() || ended {
            return;
        }
    }
}

async fn read_record(from: &mut (impl AsyncReadExt + Unpin)) -> Result<Arc<[u8]>, TapReadError> {
    let length = match from.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(TapReadError::Interrupted),
        Err(error) => return Err(error.into()),
    };
    if length > MAX_RECORD_BYTES {
        return Err(RecordError::TooLong(length).into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

async fn acknowledge(mut to: WriteHalf<Stream>, seen: Arc<AtomicU64>) {
    loop {
        tokio::time::sleep(ACKNOWLEDGE_PERIOD).await;
        let number = seen.load(Ordering::Relaxed);
        if to.write_u64(number).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
}
