//! Requests, replies and events over one NATS connection.
use super::keys::Buckets;
use crate::subject::Subjects;
use crate::transport::{
    Bucket, Expect, KeyError, KeyValue, QUEUE_LENGTH, RawMessage, Responder, Transport, TransportError, until,
};
use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request, Subscriber};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Events and replies that wait for the connection's task.
const OUTGOING: usize = 4_096;
/// Between two lines about the same trouble.
const COMPLAIN_PERIOD: Duration = Duration::from_secs(30);
/// A subscription is in force when the server has seen it; we wait for that no longer than this.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The state of the connection, as its events tell it.
pub(super) struct Link {
    connected: watch::Sender<bool>,
    since: Mutex<Instant>,
    /// Counts connections: what was learnt from one server's life does not hold in the next.
    life: AtomicU64,
    dropped: AtomicU64,
    complained: Mutex<Option<Instant>>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            connected: watch::Sender::new(false),
            since: Mutex::new(Instant::now()),
            life: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            complained: Mutex::new(None),
        }
    }
}

impl Link {
    pub(super) fn up(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.life.fetch_add(1, Ordering::Relaxed);
        self.connected.send_replace(true);
    }
    pub(super) fn down(&self) {
        self.connected.send_replace(false);
    }
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
    /// Attempts fail several times a second; the log hears of it every half minute.
    pub(super) fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = complained.is_none_or(|last| now.duration_since(last) >= COMPLAIN_PERIOD);
        if due {
            *complained = Some(now);
        }
        due
    }
    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }
    pub(super) fn check(&self) -> Result<(), TransportError> {
        if *self.connected.borrow() { Ok(()) } else { Err(TransportError::Disconnected) }
    }
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }
}

struct Outgoing {
    subject: String,
    payload: Vec<u8>,
}

pub(super) struct NatsTransport {
    client: Client,
    link: Arc<Link>,
    outgoing: mpsc::Sender<Outgoing>,
    buckets: Arc<Buckets>,
    nodes_bucket: String,
    /// Where forwarding tasks run: the connection's runtime, not a daemon's that may be restarted.
    runtime: Handle,
}

impl NatsTransport {
    pub(super) fn start(client: Client, link: Arc<Link>, subjects: &Subjects, may_create: bool) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let runtime = Handle::current();
        runtime.spawn(send_outgoing(client.clone(), queue));
        let buckets = Arc::new(Buckets::new(client.clone(), link.clone(), subjects, runtime.clone(), may_create));
        Self { client, link, outgoing, buckets, nodes_bucket: subjects.bucket(Bucket::Nodes), runtime }
    }

    async fn subscribe(&self, pattern: String, queue: Option<String>) -> Result<Subscriber, TransportError> {
        let refused = |error: async_nats::SubscribeError| TransportError::Server(error.to_string());
        let subscriber = match queue {
            Some(queue) => self.client.queue_subscribe(pattern, queue).await.map_err(refused)?,
            None => self.client.subscribe(pattern).await.map_err(refused)?,
        };
        self.round_trip().await;
        Ok(subscriber)
    }
}

impl NatsTransport {
    /// When the server answers, it has seen what was sent on this connection before: a subscription is in force. What
    /// it answers does not matter; this is a question that every kind of daemon may ask. Without a connection the
    /// client subscribes by itself when it has one.
    async fn round_trip(&self) {
        if *self.link.connected.borrow() {
            let request = Request::new().timeout(Some(SUBSCRIBE_TIMEOUT));
            let subject = format!("$JS.API.STREAM.INFO.KV_{}", self.nodes_bucket);
            if let Err(error) = self.client.send_request(subject, request).await {
                tracing::debug!(%error, "subscription not confirmed");
            }
        }
    }
}

/// Sends in order, and waits where the caller must not.
async fn send_outgoing(client: Client, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = client.publish(message.subject, message.payload.into()).await {
            tracing::debug!(%error, "message not sent");
        }
    }
}

/// From the subscription to whoever listens. A server's requests wait for room; events are dropped and counted.
async fn forward(
    mut from: Subscriber,
    to: mpsc::Sender<RawMessage>,
    outgoing: mpsc::Sender<Outgoing>,
    link: Arc<Link>,
) {
    loop {
        let message = tokio::select! {
            message = from.next() => message,
            () = to.closed() => None,
        };
        let Some(message) = message else { break };
        let wants_reply = message.reply.is_some();
        let responder = message.reply.map(|inbox| {
            let (outgoing, link) = (outgoing.clone(), link.clone());
            let respond: Responder = Box::new(move |payload| {
                if outgoing.try_send(Outgoing { subject: inbox.to_string(), payload }).is_err() {
                    link.count_dropped();
                }
            });
            respond
        });
        let raw = RawMessage { subject: message.subject.to_string(), payload: message.payload.to_vec(), responder };
        if wants_reply {
            if to.send(raw).await.is_err() {
                break;
            }
        } else if to.try_send(raw).is_err() {
            link.count_dropped();
        }
    }
    // The connection may be gone: then the subscription is, too.
    let _ = from.unsubscribe().await;
}

/// A key-value write is a message on the key's subject; a deletion says so in a header and has no body.
async fn overhear(
    mut from: Subscriber,
    keys: String,
    to: mpsc::Sender<KeyValue>,
    mut connected: watch::Receiver<bool>,
) {
    loop {
        let message = tokio::select! {
            message = from.next() => message,
            () = until(&mut connected, false) => None,
            () = to.closed() => None,
        };
        let Some(message) = message else { break };
        let Some(key) = message.subject.as_str().strip_prefix(&keys) else { continue };
        let removed = message.headers.as_ref().is_some_and(|headers| headers.get("KV-Operation").is_some());
        let value = (!removed).then(|| message.payload.to_vec());
        if to.send(KeyValue { key: key.to_owned(), value, revision: 0 }).await.is_err() {
            break;
        }
    }
    // The connection may be gone: then the subscription is, too.
    let _ = from.unsubscribe().await;
}

impl Transport for NatsTransport {
    fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        async move {
            self.link.check()?;
            let mut connected = self.link.subscribe();
            let request = Request::new().payload(payload.into()).timeout(Some(timeout));
            let replied = tokio::select! {
                replied = self.client.send_request(subject, request) => replied,
                () = until(&mut connected, false) => return Err(TransportError::Timeout),
            };
            match replied {
                Ok(message) => Ok(message.payload.to_vec()),
                Err(error) => Err(match error.kind() {
                    RequestErrorKind::NoResponders => TransportError::NoResponders,
                    RequestErrorKind::TimedOut => TransportError::Timeout,
                    RequestErrorKind::MaxPayloadExceeded => TransportError::TooLarge,
                    _ => TransportError::Server(error.to_string()),
                }),
            }
        }
        .boxed()
    }

    fn listen(
        &self,
        pattern: String,
        queue: Option<String>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<RawMessage>, TransportError>> {
        async move {
            let subscriber = self.subscribe(pattern, queue).await?;
            let (to, received) = mpsc::channel(QUEUE_LENGTH);
            self.runtime.spawn(forward(subscriber, to, self.outgoing.clone(), self.link.clone()));
            Ok(received)
        }
        .boxed()
    }

    fn publish(&self, subject: String, payload: Vec<u8>) -> Result<(), TransportError> {
        self.link.check()?;
        self.outgoing.try_send(Outgoing { subject, payload }).map_err(|_| TransportError::Full)
    }

    fn get(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<Option<KeyValue>, KeyError>> {
        async move { self.buckets.get(bucket, key).await }.boxed()
    }

    fn put(&self, bucket: Bucket, key: String, value: Vec<u8>, expect: Expect) -> BoxFuture<'_, Result<u64, KeyError>> {
        async move { self.buckets.put(bucket, key, value, expect).await }.boxed()
    }

    fn delete(&self, bucket: Bucket, key: String, expect: Expect) -> BoxFuture<'_, Result<(), KeyError>> {
        async move { self.buckets.delete(bucket, key, expect).await }.boxed()
    }

    fn watch(&self, bucket: Bucket) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>> {
        async move { self.buckets.watch(bucket).await }.boxed()
    }

    fn overhear(
        &self,
        bucket: Bucket,
        prefix: &'static str,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>> {
        async move {
            self.link.check()?;
            let keys = format!("$KV.{}.", self.buckets.name(bucket));
            let subscriber = self.subscribe(format!("{keys}{prefix}.*"), None).await?;
            let (to, changes) = mpsc::channel(QUEUE_LENGTH);
            self.runtime.spawn(overhear(subscriber, keys, to, self.link.subscribe()));
            Ok(changes)
        }
        .boxed()
    }

    fn created_ns(&self, bucket: Bucket) -> BoxFuture<'_, Result<u64, KeyError>> {
        async move { self.buckets.created_ns(bucket).await }.boxed()
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.link.subscribe()
    }

    fn connected_since(&self) -> Instant {
        *self.link.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> u64 {
        self.link.dropped.load(Ordering::Relaxed)
    }
}
