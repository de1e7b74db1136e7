//! The bus of one process: a table of listeners and two maps with revisions.
use crate::message::wall_now;
use crate::subject::matches;
use crate::transport::{
    Bucket, Expect, KeyError, KeyValue, QUEUE_LENGTH, RawMessage, Responder, Transport, TransportError, until,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(crate) struct InProcess {
    broker: Arc<Broker>,
}

/// Takes the in-process bus away and brings it back, as a stopped server would.
#[derive(Clone)]
pub struct BusCut {
    broker: Arc<Broker>,
}

struct Broker {
    state: Mutex<State>,
    connected: watch::Sender<bool>,
    connected_since: Mutex<Instant>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    listeners: Vec<Listener>,
    /// Where the next search for a queue member begins.
    turn: usize,
    buckets: HashMap<Bucket, Keys>,
}

struct Listener {
    pattern: String,
    queue: Option<String>,
    messages: mpsc::Sender<RawMessage>,
}

struct Keys {
    created_ns: u64,
    revision: u64,
    values: BTreeMap<String, (Vec<u8>, u64)>,
    watchers: Vec<mpsc::Sender<KeyValue>>,
}

impl InProcess {
    pub(crate) fn new() -> (Self, BusCut) {
        let broker = Arc::new(Broker {
            state: Mutex::default(),
            connected: watch::Sender::new(true),
            connected_since: Mutex::new(Instant::now()),
            dropped: AtomicU64::new(0),
        });
        (Self { broker: broker.clone() }, BusCut { broker })
    }
}

impl BusCut {
    /// Requests fail, events are lost, watchers end.
    pub fn disconnect(&self) {
        self.broker.connected.send_replace(false);
        for keys in self.broker.state().buckets.values_mut() {
            keys.watchers.clear();
        }
    }

    pub fn reconnect(&self) {
        *self.broker.since() = Instant::now();
        self.broker.connected.send_replace(true);
    }
}

impl Broker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        self.connected_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_connected(&self) -> Result<(), TransportError> {
        if *self.connected.borrow() { Ok(()) } else { Err(TransportError::Disconnected) }
    }
}

impl State {
    /// The listener whose turn it is.
    fn responder_for(&mut self, subject: &str) -> Option<mpsc::Sender<RawMessage>> {
        self.listeners.retain(|l| !l.messages.is_closed());
        let count = self.listeners.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if let Some(listener) = self.listeners.get(at).filter(|l| matches(&l.pattern, subject)) {
                self.turn = at + 1;
                return Some(listener.messages.clone());
            }
        }
        None
    }

    /// Every listener without a queue, and one of each queue.
    fn receivers_for(&mut self, subject: &str) -> Vec<mpsc::Sender<RawMessage>> {
        self.listeners.retain(|l| !l.messages.is_closed());
        let mut queues: Vec<&str> = Vec::new();
        let mut receivers = Vec::new();
        for listener in self.listeners.iter().filter(|l| matches(&l.pattern, subject)) {
            if let Some(queue) = listener.queue.as_deref() {
                if queues.contains(&queue) {
                    continue;
                }
                queues.push(queue);
            }
            receivers.push(listener.messages.clone());
        }
        receivers
    }

    fn keys(&mut self, bucket: Bucket) -> &mut Keys {
        self.buckets.entry(bucket).or_insert_with(|| Keys {
            created_ns: wall_now().0.saturating_mul(1_000_000),
            revision: 0,
            values: BTreeMap::new(),
            watchers: Vec::new(),
        })
    }
}

impl Keys {
    fn check(&self, key: &str, expect: Expect) -> Result<(), KeyError> {
        let found = self.values.get(key).map(|(_, revision)| *revision);
        match (expect, found) {
            (Expect::Anything, _) | (Expect::Absent, None) => Ok(()),
            (Expect::Revision(expected), Some(found)) if expected == found => Ok(()),
            _ => Err(KeyError::Conflict),
        }
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        match &value {
            Some(value) => self.values.insert(key.clone(), (value.clone(), revision)),
            None => self.values.remove(&key),
        };
        let change = KeyValue { key, value, revision };
        // A watcher that is full or gone ends; its reader begins again and sees what stands in the bucket.
        self.watchers.retain(|watcher| watcher.try_send(change.clone()).is_ok());
        revision
    }
}

impl Transport for InProcess {
    fn request(
        &self,
        subject: String,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        let work = async move {
            self.broker.check_connected()?;
            let listener = self.broker.state().responder_for(&subject).ok_or(TransportError::NoResponders)?;
            let (reply, replied) = oneshot::channel::<Vec<u8>>();
            // The asking side may have gone; then nobody wants the reply.
            let responder: Responder = Box::new(move |bytes| drop(reply.send(bytes)));
            let message = RawMessage { subject, payload, responder: Some(responder) };
            let mut connected = self.broker.connected.subscribe();
            tokio::select! {
                outcome = exchange(listener, message, replied) => outcome,
                () = until(&mut connected, false) => Err(TransportError::Timeout),
            }
        };
        async move { tokio::time::timeout(timeout, work).await.unwrap_or(Err(TransportError::Timeout)) }.boxed()
    }

    fn listen(
        &self,
        pattern: String,
        queue: Option<String>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<RawMessage>, TransportError>> {
        let (messages, received) = mpsc::channel(QUEUE_LENGTH);
        self.broker.state().listeners.push(Listener { pattern, queue, messages });
        futures_util::future::ready(Ok(received)).boxed()
    }

    fn publish(&self, subject: String, payload: Vec<u8>) -> Result<(), TransportError> {
        self.broker.check_connected()?;
        for receiver in self.broker.state().receivers_for(&subject) {
            let message = RawMessage { subject: subject.clone(), payload: payload.clone(), responder: None };
            if receiver.try_send(message).is_err() {
                self.broker.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn get(&self, bucket: Bucket, key: String) -> BoxFuture<'_, Result<Option<KeyValue>, KeyError>> {
        let found = self.broker.check_connected().map_err(KeyError::from).map(|()| {
            let mut state = self.broker.state();
            let found = state.keys(bucket).values.get(&key).cloned();
            found.map(|(value, revision)| KeyValue { key, value: Some(value), revision })
        });
        futures_util::future::ready(found).boxed()
    }

    fn put(&self, bucket: Bucket, key: String, value: Vec<u8>, expect: Expect) -> BoxFuture<'_, Result<u64, KeyError>> {
        let written = self.broker.check_connected().map_err(KeyError::from).and_then(|()| {
            let mut state = self.broker.state();
            let keys = state.keys(bucket);
            keys.check(&key, expect)?;
            Ok(keys.write(key, Some(value)))
        });
        futures_util::future::ready(written).boxed()
    }

    fn delete(&self, bucket: Bucket, key: String, expect: Expect) -> BoxFuture<'_, Result<(), KeyError>> {
        let deleted = self.broker.check_connected().map_err(KeyError::from).and_then(|()| {
            let mut state = self.broker.state();
            let keys = state.keys(bucket);
            match expect {
                Expect::Absent => return Err(KeyError::Conflict),
                _ => keys.check(&key, expect)?,
            }
            keys.write(key, None);
            Ok(())
        });
        futures_util::future::ready(deleted).boxed()
    }

    fn watch(&self, bucket: Bucket) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>> {
        let watching = self.broker.check_connected().map_err(KeyError::from).map(|()| {
            let mut state = self.broker.state();
            let keys = state.keys(bucket);
            let (watcher, changes) = mpsc::channel(QUEUE_LENGTH + keys.values.len());
            for (key, (value, revision)) in &keys.values {
                let standing = KeyValue { key: key.clone(), value: Some(value.clone()), revision: *revision };
                // The channel was made large enough.
                let _ = watcher.try_send(standing);
            }
            keys.watchers.push(watcher);
            changes
        });
        futures_util::future::ready(watching).boxed()
    }

    /// There is nothing to be secret from whoever is in the process.
    fn overhear(
        &self,
        bucket: Bucket,
        _prefix: &'static str,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<KeyValue>, KeyError>> {
        self.watch(bucket)
    }

    fn created_ns(&self, bucket: Bucket) -> BoxFuture<'_, Result<u64, KeyError>> {
        let created = self.broker.state().keys(bucket).created_ns;
        futures_util::future::ready(Ok(created)).boxed()
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.broker.connected.subscribe()
    }

    fn connected_since(&self) -> Instant {
        *self.broker.since()
    }

    fn dropped(&self) -> u64 {
        self.broker.dropped.load(Ordering::Relaxed)
    }
}

async fn exchange(
    listener: mpsc::Sender<RawMessage>,
    message: RawMessage,
    replied: oneshot::Receiver<Vec<u8>>,
) -> Result<Vec<u8>, TransportError> {
    listener.send(message).await.map_err(|_| TransportError::NoResponders)?;
    match replied.await {
        Ok(reply) => Ok(reply),
        // As over a network: a server that vanishes in the middle is silent.
        Err(_) => std::future::pending().await,
    }
}
