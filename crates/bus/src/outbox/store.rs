//! The file: facts by sequence, the outbox's own name and the last sequence given out. One thread writes; appends that
//! arrive together share one sync to disk.
use super::{Order, OutboxError, OutboxLimits, Shared};
use crate::transport::MAX_MESSAGE_BYTES;
use offhook_contract::{CallId, Fact, FactRecord, TenantId, UnixMs};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const FACTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("facts");
/// `producer`: the outbox's name.
const NAMES: TableDefinition<'static, &str, &str> = TableDefinition::new("names");
/// `last_sequence`: it must not fall back when the facts behind it are gone.
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");
/// What a message carries of a fact; the rest is its envelope.
pub(super) const MAX_FACT_BYTES: usize = MAX_MESSAGE_BYTES - 4 * 1024;
/// Appends that share one commit.
const BATCH: usize = 64;
/// A daemon that is started again inside its process waits this long for its former life to let go of the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Entry {
    pub(super) tenant: TenantId,
    pub(super) call: CallId,
    pub(super) at_ms: UnixMs,
    pub(super) fact: Fact,
}

pub(super) struct Store {
    database: Database,
    path: PathBuf,
    producer: String,
    limits: OutboxLimits,
    last_sequence: u64,
    facts: u64,
    bytes: u64,
}

type Appended = (Entry, oneshot::Sender<Result<(), OutboxError>>);

impl Store {
    pub(super) fn open(path: &Path, limits: OutboxLimits) -> Result<Self, OutboxError> {
        let database = open_database(path)?;
        let storage = |source| OutboxError::Storage { path: path.to_owned(), source };
        let (producer, last_sequence, facts, bytes) = read_state(&database).map_err(storage)?;
        Ok(Self { database, path: path.to_owned(), producer, limits, last_sequence, facts, bytes })
    }

    pub(super) fn pending(&self) -> u64 {
        self.facts
    }

    pub(super) fn newest(&self) -> u64 {
        self.last_sequence
    }

    /// Until every sender is gone.
    pub(super) fn obey(mut self, mut orders: mpsc::Receiver<Order>, shared: &Shared) {
        let mut batch = Vec::new();
        while orders.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut appends = Vec::new();
            for order in batch.drain(..) {
                match order {
                    Order::Append { entry, done } => appends.push((entry, done)),
                    Order::Read { from, count, done } => {
                        self.append(std::mem::take(&mut appends), shared);
                        // The reader may have gone.
                        let _ = done.send(self.read(from, count));
                    }
                    Order::Stored { sequences } => {
                        self.append(std::mem::take(&mut appends), shared);
                        self.forget(&sequences, shared);
                    }
                }
            }
            self.append(appends, shared);
        }
    }

    fn append(&mut self, appends: Vec<Appended>, shared: &Shared) {
        if appends.is_empty() {
            return;
        }
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        let (mut facts, mut bytes) = (self.facts, self.bytes);
        for (entry, done) in appends {
            let sequence = self.last_sequence + 1 + records.len() as u64;
            let encoded = match encode(&self.producer, sequence, entry) {
                Ok(encoded) => encoded,
                Err(source) => {
                    let _ = done.send(Err(OutboxError::Content { path: self.path.clone(), source }));
                    continue;
                }
            };
            if encoded.len() > MAX_FACT_BYTES {
                let _ = done.send(Err(OutboxError::TooLarge { bytes: encoded.len(), limit: MAX_FACT_BYTES }));
                continue;
            }
            if facts + 1 > self.limits.max_facts || bytes + encoded.len() as u64 > self.limits.max_bytes {
                shared.refused_full.fetch_add(1, Ordering::Relaxed);
                let _ = done.send(Err(OutboxError::Full { facts, bytes }));
                continue;
            }
            facts += 1;
            bytes += encoded.len() as u64;
            records.push((sequence, encoded));
            waiting.push(done);
        }
        let outcome = self.write(&records);
        if outcome.is_ok() {
            self.last_sequence += records.len() as u64;
            (self.facts, self.bytes) = (facts, bytes);
            shared.pending.store(self.facts, Ordering::Relaxed);
            shared.newest.send_replace(self.last_sequence);
        }
        let mut failure = outcome.err();
        for done in waiting {
            let answer = match failure.take() {
                None => Ok(()),
                Some(source) => {
                    let again = redb::Error::Io(std::io::Error::other(source.to_string()));
                    failure = Some(again);
                    Err(OutboxError::Storage { path: self.path.clone(), source })
                }
            };
            let _ = done.send(answer);
        }
    }

    fn write(&self, records: &[(u64, Vec<u8>)]) -> Result<(), redb::Error> {
        let Some((last, _)) = records.last() else { return Ok(()) };
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut facts = write.open_table(FACTS)?;
            for (sequence, encoded) in records {
                facts.insert(*sequence, encoded.as_slice())?;
            }
            write.open_table(NUMBERS)?.insert("last_sequence", *last)?;
        }
        write.commit()?;
        Ok(())
    }

    fn read(&self, from: u64, count: usize) -> Result<Vec<FactRecord>, OutboxError> {
        let storage = |source| OutboxError::Storage { path: self.path.clone(), source };
        let encoded = self.read_encoded(from, count).map_err(storage)?;
        let content = |source| OutboxError::Content { path: self.path.clone(), source };
        encoded.iter().map(|bytes| serde_json::from_slice(bytes).map_err(content)).collect()
    }

    fn read_encoded(&self, from: u64, count: usize) -> Result<Vec<Vec<u8>>, redb::Error> {
        let facts = self.database.begin_read()?.open_table(FACTS)?;
        let mut encoded = Vec::new();
        for row in facts.range(from..)?.take(count) {
            encoded.push(row?.1.value().to_vec());
        }
        Ok(encoded)
    }

    /// Without a sync of its own: a fact that comes back after a power cut is sent again and counts once.
    fn forget(&mut self, sequences: &[u64], shared: &Shared) {
        match self.remove(sequences) {
            Ok((facts, bytes)) => {
                self.facts = self.facts.saturating_sub(facts);
                self.bytes = self.bytes.saturating_sub(bytes);
                shared.pending.store(self.facts, Ordering::Relaxed);
                shared.stored.fetch_add(facts, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "stored facts not removed from the outbox")
            }
        }
    }

    fn remove(&self, sequences: &[u64]) -> Result<(u64, u64), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::None)?;
        let (mut count, mut bytes) = (0, 0);
        {
            let mut facts = write.open_table(FACTS)?;
            for sequence in sequences {
                if let Some(removed) = facts.remove(sequence)? {
                    count += 1;
                    bytes += removed.value().len() as u64;
                }
            }
        }
        write.commit()?;
        Ok((count, bytes))
    }
}

fn encode(producer: &str, sequence: u64, entry: Entry) -> Result<Vec<u8>, serde_json::Error> {
    let Entry { tenant, call, at_ms, fact } = entry;
    serde_json::to_vec(&FactRecord { producer: producer.to_owned(), sequence, tenant, call, at_ms, fact })
}

fn open_database(path: &Path) -> Result<Database, OutboxError> {
    let began = Instant::now();
    loop {
        match Database::create(path) {
            Ok(database) => return Ok(database),
            Err(DatabaseError::DatabaseAlreadyOpen) if began.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(OutboxError::InUse { path: path.to_owned() }),
            Err(error) => return Err(OutboxError::Storage { path: path.to_owned(), source: error.into() }),
        }
    }
}

/// The producer's name (made now for a new file), the last sequence, and how much is pending.
fn read_state(database: &Database) -> Result<(String, u64, u64, u64), redb::Error> {
    let write = database.begin_write()?;
    let state = {
        let mut names = write.open_table(NAMES)?;
        let known = names.get("producer")?.map(|name| name.value().to_owned());
        let producer = match known {
            Some(name) => name,
            None => {
                let name = uuid::Uuid::now_v7().as_hyphenated().to_string();
                names.insert("producer", name.as_str())?;
                name
            }
        };
        let last = write.open_table(NUMBERS)?.get("last_sequence")?.map_or(0, |n| n.value());
        let facts = write.open_table(FACTS)?;
        let mut bytes = 0;
        for row in facts.iter()? {
            bytes += row?.1.value().len() as u64;
        }
        (producer, last, facts.len()?, bytes)
    };
    write.commit()?;
    Ok(state)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Puts another fact under a number, however large.
    pub(in crate::outbox) async fn replace_fact(path: &Path, sequence: u64, fact: &Fact) {
        let (path, fact) = (path.to_owned(), fact.clone());
        let work = move || {
            // Its former writer may still be about to let go.
            let database = open_database(&path).unwrap();
            let write = database.begin_write().unwrap();
            {
                let mut facts = write.open_table(FACTS).unwrap();
                let old = facts.get(sequence).unwrap().unwrap().value().to_vec();
                let mut record: FactRecord = serde_json::from_slice(&old).unwrap();
                record.fact = fact;
                facts.insert(sequence, serde_json::to_vec(&record).unwrap().as_slice()).unwrap();
            }
            write.commit().unwrap();
        };
        tokio::task::spawn_blocking(work).await.unwrap();
    }
}
