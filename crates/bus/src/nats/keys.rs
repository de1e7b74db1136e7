//! The two buckets as JetStream streams under the names that key-value buckets have.
use super::transport::Link;
use crate::subject::Subjects;
use crate::transport::{Bucket, Expect, KeyError, KeyValue, QUEUE_LENGTH, TransportError, until};
use async_nats::Client;
use async_nats::jetstream;
use async_nats::jetstream::kv::{DeleteErrorKind, Entry, Operation, Store, UpdateError, UpdateErrorKind, Watch};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use futures_util::StreamExt;
use offhook_contract::node::PRESENCE_TTL_MS;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, watch};

const TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than any lease lives; what is left of a released lease goes with it.
const LEASE_MAX_AGE: Duration = Duration::from_secs(24 * 3_600);

/// Opens each bucket once per life of the connection, for a server that came back may have forgotten it.
pub(super) struct Buckets {
    jetstream: jetstream::Context,
    link: Arc<Link>,
    names: [(Bucket, String); 2],
    open: Mutex<HashMap<Bucket, Opened>>,
    runtime: Handle,
    /// Call-control makes the buckets; the others wait for it. Whoever may create a stream could have its messages
    /// delivered to subjects on which its own user may not publish, so the others' users may not.
    may_create: bool,
}

#[derive(Clone)]
struct Opened {
    store: Store,
    created_ns: u64,
    life: u64,
}

impl Buckets {
    pub(super) fn new(client: Client, link: Arc<Link>, subjects: &Subjects, runtime: Handle, may_create: bool) -> Self {
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(TIMEOUT);
        let names = [Bucket::Nodes, Bucket::Leases].map(|bucket| (bucket, subjects.bucket(bucket)));
        Self { jetstream, link, names, open: Mutex::default(), runtime, may_create }
    }

    pub(super) fn name(&self, bucket: Bucket) -> &str {
        self.names.iter().find(|(b, _)| *b == bucket).map(|(_, name)| name.as_str()).unwrap_or_default()
    }

    async fn opened(&self, bucket: Bucket) -> Result<Opened, KeyError> {
        self.link.check()?;
        let life = self.link.life();
        let mut open = self.open.lock().await;
        if let Some(opened) = open.get(&bucket).filter(|opened| opened.life == life) {
            return Ok(opened.clone());
        }
        let opened = match tokio::time::timeout(TIMEOUT, self.open_or_create(bucket, self.name(bucket), life)).await {
            Ok(opened) => opened?,
            Err(_) => return Err(TransportError::Timeout.into()),
        };
        open.insert(bucket, opened.clone());
        Ok(opened)
    }

    async fn open_or_create(&self, bucket: Bucket, name: &str, life: u64) -> Result<Opened, KeyError> {
        if self.may_create && self.jetstream.get_stream(format!("KV_{name}")).await.is_err() {
            self.jetstream.create_stream(stream_config(bucket, name)).await.map_err(|error| {
                TransportError::Server(format!("bucket {name} (is the server started with JetStream?): {error}"))
            })?;
        }
        let waiting = if self.may_create { "" } else { " (call-control makes it when it starts)" };
        let refused = |error: jetstream::context::KeyValueError| {
            TransportError::Server(format!("bucket {name}{waiting}: {error}"))
        };
        let store = self.jetstream.get_key_value(name).await.map_err(refused)?;
        let created = store.stream.cached_info().created.unix_timestamp_nanos();
        Ok(Opened { store, created_ns: u64::try_from(created).unwrap_or_default(), life })
    }

    /// After an error nobody knows what the server still has.
    async fn forget(&self, bucket: Bucket) {
        self.open.lock().await.remove(&bucket);
    }

    pub(super) async fn get(&self, bucket: Bucket, key: String) -> Result<Option<KeyValue>, KeyError> {
        let entry = self.opened(bucket).await?.store.entry(key).await;
        match entry {
            Ok(entry) => Ok(entry.map(from_entry).filter(|found| found.value.is_some())),
            Err(error) => {
                self.forget(bucket).await;
                Err(TransportError::Server(error.to_string()).into())
            }
        }
    }

    pub(super) async fn put(
        &self,
        bucket: Bucket,
        key: String,
        value: Vec<u8>,
        expect: Expect,
    ) -> Result<u64, KeyError> {
        let store = self.opened(bucket).await?.store;
        let written = match expect {
            Expect::Anything => {
                store.put(key, value.into()).await.map_err(|e| TransportError::Server(e.to_string()).into())
            }
            Expect::Revision(revision) => store.update(key, value.into(), revision).await.map_err(update_error),
            Expect::Absent => create(&store, key, value).await,
        };
        if matches!(written, Err(KeyError::Transport(_))) {
            self.forget(bucket).await;
        }
        written
    }

    pub(super) async fn delete(&self, bucket: Bucket, key: String, expect: Expect) -> Result<(), KeyError> {
        let store = self.opened(bucket).await?.store;
        let revision = match expect {
            Expect::Anything => None,
            Expect::Revision(revision) => Some(revision),
            Expect::Absent => return Err(KeyError::Conflict),
        };
        store.delete_expect_revision(key, revision).await.map_err(update_error)
    }

    pub(super) async fn watch(&self, bucket: Bucket) -> Result<mpsc::Receiver<KeyValue>, KeyError> {
        let store = self.opened(bucket).await?.store;
        match store.watch_with_history(">").await {
            Ok(watch) => {
                let (to, changes) = mpsc::channel(QUEUE_LENGTH);
                self.runtime.spawn(forward(watch, to, self.link.subscribe()));
                Ok(changes)
            }
            Err(error) => {
                self.forget(bucket).await;
                Err(TransportError::Server(error.to_string()).into())
            }
        }
    }

    pub(super) async fn created_ns(&self, bucket: Bucket) -> Result<u64, KeyError> {
        Ok(self.opened(bucket).await?.created_ns)
    }
}

/// What the client would create, said to the stream API.
fn stream_config(bucket: Bucket, name: &str) -> Config {
    let (max_age, storage) = match bucket {
        Bucket::Nodes => (Duration::from_millis(PRESENCE_TTL_MS), StorageType::Memory),
        // Fencing numbers must not fall back when the server restarts.
        Bucket::Leases => (LEASE_MAX_AGE, StorageType::File),
    };
    Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        max_age,
        storage,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        max_message_size: 64 * 1024,
        num_replicas: 1,
        ..Config::default()
    }
}

/// A key that never was, or one whose last word is that it was deleted.
async fn create(store: &Store, key: String, value: Vec<u8>) -> Result<u64, KeyError> {
    match store.update(&key, value.clone().into(), 0).await.map_err(update_error) {
        Err(KeyError::Conflict) => {}
        outcome => return outcome,
    }
    let entry = store.entry(key.clone()).await.map_err(|e| TransportError::Server(e.to_string()))?;
    match entry {
        Some(entry) if entry.operation != Operation::Put => {
            store.update(key, value.into(), entry.revision).await.map_err(update_error)
        }
        _ => Err(KeyError::Conflict),
    }
}

fn update_error(error: UpdateError) -> KeyError {
    match error.kind() {
        UpdateErrorKind::WrongLastRevision => KeyError::Conflict,
        DeleteErrorKind::TimedOut => TransportError::Timeout.into(),
        _ => TransportError::Server(error.to_string()).into(),
    }
}

fn from_entry(entry: Entry) -> KeyValue {
    let value = (entry.operation == Operation::Put).then(|| entry.value.to_vec());
    KeyValue { key: entry.key, value, revision: entry.revision }
}

/// Ends with the connection: the server's side of a watch does not survive it.
async fn forward(mut watch: Watch, to: mpsc::Sender<KeyValue>, mut connected: watch::Receiver<bool>) {
    loop {
        let entry = tokio::select! {
            entry = watch.next() => entry,
            () = until(&mut connected, false) => return,
            () = to.closed() => return,
        };
        match entry {
            Some(Ok(entry)) => {
                if to.send(from_entry(entry)).await.is_err() {
                    return;
                }
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "watch ended");
                return;
            }
            None => return,
        }
    }
}
