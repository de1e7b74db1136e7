//! What both transports do: bytes to subjects, and two small buckets of keys with revisions.
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The largest message on either transport (NATS's default `max_payload`).
pub(crate) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Messages that wait for one receiver; a server's senders then wait, a subscriber's messages are dropped.
pub(crate) const QUEUE_LENGTH: usize = 1024;

pub(crate) struct RawMessage {
    pub(crate) subject: String,
    pub(crate) payload: Vec<u8>,
    /// Absent for events.
    pub(crate) responder: Option<Responder>,
}

/// Sends the one reply.
pub(crate) type Responder = Box<dyn FnOnce(Vec<u8>) + Send>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportError {
    #[error("nobody listens there")]
    NoResponders,
    #[error("no reply in time")]
    Timeout,
    #[error("the bus is not connected")]
    Disconnected,
    #[error("too many messages wait to be sent")]
    Full,
    /// Than the server's own limit, which may be lower than ours.
    #[error("the message is too large for the bus server")]
    TooLarge,
    #[error("the bus server refused: {0}")]
    Server(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Bucket {
    Nodes,
    Leases,
}

impl Bucket {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Leases => "leases",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// The key exists, or has another revision than the writer knows.
    #[error("another writer was first")]
    Conflict,
    #[error(transparent)]
    Transport(#[from] TransportError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    /// `None`: deleted.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) revision: u64,
}

/// Which revision a write expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Anything,
    Absent,
    Revision(u64),
}

pub(crate) trait Transport: Send + Sync + 'static {
    fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>>;
    /// With a `queue`, each message goes to one of its members.
    fn listen(
        &self,
        pattern: String,
        queue: Option<String>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<RawMessage>, TransportError>>;
    /// At most once, and never waits.
    fn publish(&self, subject: String, payload: Vec<u8>) -> Result<(), TransportError>;

    fn get(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<Option<KeyValue>, KeyError>>;
    /// Returns the new revision.
    fn put(&self, bucket: Bucket, key: String, value: Vec<u8>, expect: Expect) -> BoxFuture<'_, Result<u64, KeyError>>;
    /// `Expect::Absent` has no meaning here and is refused as a conflict.
    fn delete(&self, bucket: Bucket, key: String, expect: Expect) -> BoxFuture<'_, Result<(), KeyError>>;
    /// What stands in the bucket, then what changes. Ends when the reader falls behind or the connection is lost.
    fn watch(&self, bucket: Bucket) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>>;
    /// Writes to keys that begin with `prefix` and a dot, as they happen; what stands there already may be passed over.
    /// Needs no right on the bucket but to hear these keys. Ends as [`Transport::watch`] does.
    fn overhear(
        &self,
        bucket: Bucket,
        prefix: &'static str,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>>;
    /// When the bucket was created (ns since 1970): the first half of an epoch.
    fn created_ns(&self, bucket: Bucket) -> BoxFuture<'_, Result<u64, KeyError>>;

    fn connected(&self) -> watch::Receiver<bool>;
    /// Since when the connection stands without a break; waits for other nodes are counted from here.
    fn connected_since(&self) -> Instant;
    /// Messages dropped because a receiver was slow.
    fn dropped(&self) -> u64;
}

/// Waits until a flag has this value; for ever when nobody can set it any more.
pub(crate) async fn until(flag: &mut watch::Receiver<bool>, value: bool) {
    if flag.wait_for(|now| *now == value).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the flag is raised or its owner is gone.
pub(crate) async fn raised_or_dropped(flag: &mut watch::Receiver<bool>) {
    // An error means that the owner is gone.
    let _ = flag.wait_for(|now| *now).await;
}
