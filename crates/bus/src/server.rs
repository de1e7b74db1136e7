//! The answering side. What every daemon must do alike happens here: repeated ids, passed deadlines, old epochs and
//! unreadable messages are answered without the daemon.
use crate::bus::Bus;
use crate::epochs::Epochs;
use crate::message::wall_now;
use crate::replies::{Arrival, CommandKey, Replies};
use crate::subject::{Target, is_reserved, request_name};
use crate::transport::{MAX_MESSAGE_BYTES, RawMessage, Responder, TransportError};
use offhook_contract::envelope::Envelope;
use offhook_contract::{Context, DaemonKind, ErrorCode, MessageId, ReplyEnvelope, Request, RequestError};
use serde_json::value::RawValue;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How far two machines' clocks may lie apart before a fresh request looks late.
const CLOCK_TOLERANCE_MS: u64 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("{0:?} is a reserved word and cannot be a node")]
    ReservedNode(String),
    #[error("the bus does not let us listen: {0}")]
    Listen(String),
}

/// Receives the requests of one daemon.
pub struct Server {
    messages: mpsc::Receiver<RawMessage>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    replies: Replies,
    epochs: Epochs,
}

/// One request that is to be carried out. Dropped without a reply it is answered with `Internal`.
pub struct Incoming {
    /// The request's name: compare with `R::NAME`.
    pub name: String,
    pub id: MessageId,
    pub context: Context,
    /// When the asking side stops waiting.
    pub deadline: Instant,
    body: Box<RawValue>,
    answer: Answer,
}

impl Bus {
    /// Receives what is sent to one node, or (in turns with the others of its kind) to any of them.
    pub async fn serve(&self, kind: DaemonKind, target: Target) -> Result<Server, ServeError> {
        let queue = match &target {
            Target::Node(node) if is_reserved(node.as_str()) => {
                return Err(ServeError::ReservedNode(node.to_string()));
            }
            Target::Node(_) => None,
            Target::Any => Some(kind.as_str().to_owned()),
        };
        let pattern = self.inner.subjects.requests(kind, &target);
        let refused = |error: TransportError| ServeError::Listen(error.to_string());
        let messages = self.inner.transport.listen(pattern, queue).await.map_err(refused)?;
        Ok(Server { messages, memory: Arc::default() })
    }
}

impl Server {
    /// The next request; `None` when the bus is gone for good.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            let message = self.messages.recv().await?;
            if let Some(incoming) = self.admit(message) {
                return Some(incoming);
            }
        }
    }

    fn admit(&self, message: RawMessage) -> Option<Incoming> {
        let responder = message.responder?;
        let name = request_name(&message.subject).to_owned();
        let envelope: Envelope = match serde_json::from_slice(&message.payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::warn!(request = name, %error, "unreadable request refused");
                refuse(responder, ErrorCode::Invalid, format!("the envelope cannot be read: {error}"));
                return None;
            }
        };
        let key = (name.clone(), envelope.id.clone());
        let mut memory = lock(&self.memory);
        let responder = match memory.replies.arrive(&key, responder) {
            Arrival::New(responder) => responder,
            Arrival::Repeated => return None,
            Arrival::Overloaded(responder) => {
                refuse(responder, ErrorCode::Exhausted, "too many requests are being worked on".into());
                return None;
            }
        };
        let verdict = check(&mut memory.epochs, &envelope);
        drop(memory);
        let answer = Answer { key, memory: self.memory.clone(), responder: Some(responder) };
        if let Err(refusal) = verdict {
            tracing::info!(request = name, call = ?envelope.call, %refusal, "request refused");
            answer.send(encode_error(&refusal));
            return None;
        }
        let life = Duration::from_millis(envelope.deadline_ms.since(wall_now()));
        Some(Incoming {
            name,
            id: envelope.id.clone(),
            context: envelope.context(),
            deadline: Instant::now() + life.min(Duration::from_secs(3_600)),
            body: envelope.body,
            answer,
        })
    }
}

fn check(epochs: &mut Epochs, envelope: &Envelope) -> Result<(), RequestError> {
    let late_ms = wall_now().since(envelope.deadline_ms);
    if late_ms > CLOCK_TOLERANCE_MS {
        let message = format!("the deadline passed {late_ms} ms ago (are the clocks of both machines right?)");
        return Err(RequestError::new(ErrorCode::TooLate, message));
    }
    if let (Some(call), Some(epoch)) = (&envelope.call, envelope.epoch)
        && let Err(newest) = epochs.admit(call, epoch)
    {
        let message = format!(
            "epoch {}/{} is older than {}/{}, under which the call acts now",
            epoch.bucket, epoch.revision, newest.bucket, newest.revision
        );
        return Err(RequestError::new(ErrorCode::StaleEpoch, message));
    }
    Ok(())
}

impl Incoming {
    /// The body as the request that `name` says it is.
    pub fn body<R: Request>(&self) -> Result<R, RequestError> {
        serde_json::from_str(self.body.get())
            .map_err(|error| RequestError::new(ErrorCode::Invalid, format!("{} cannot be read: {error}", self.name)))
    }

    /// Sends the reply and remembers it for repetitions.
    pub fn reply<R: Request>(self, outcome: Result<R::Reply, RequestError>) {
        let bytes = match outcome {
            Ok(reply) => encode_ok(&reply),
            Err(refusal) => encode_error(&refusal),
        };
        self.answer.send(bytes);
    }

    /// A refusal, when the request's type is not known.
    pub fn refuse(self, refusal: &RequestError) {
        self.answer.send(encode_error(refusal));
    }

    /// The answer to a request whose name this daemon does not know.
    pub fn unsupported(self) {
        let refusal = RequestError::new(ErrorCode::Unsupported, format!("there is no request {:?}", self.name));
        self.answer.send(encode_error(&refusal));
    }
}

struct Answer {
    key: CommandKey,
    memory: Arc<Mutex<Memory>>,
    responder: Option<Responder>,
}

impl Answer {
    fn send(mut self, reply: Vec<u8>) {
        self.finish(reply);
    }

    fn finish(&mut self, reply: Vec<u8>) {
        if let Some(responder) = self.responder.take() {
            responder(reply.clone());
            lock(&self.memory).replies.answer(self.key.clone(), reply);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.responder.is_some() {
            let refusal = RequestError::new(ErrorCode::Internal, "the work ended without a reply");
            self.finish(encode_error(&refusal));
        }
    }
}

fn encode_ok<T: serde::Serialize>(reply: &T) -> Vec<u8> {
    let encoded = serde_json::value::to_raw_value(reply).and_then(|body| serde_json::to_vec(&ReplyEnvelope::Ok(body)));
    match encoded {
        Ok(bytes) if bytes.len() <= MAX_MESSAGE_BYTES => bytes,
        Ok(bytes) => {
            let message = format!("the reply of {} bytes is over the limit of {MAX_MESSAGE_BYTES}", bytes.len());
            encode_error(&RequestError::new(ErrorCode::Exhausted, message))
        }
        Err(error) => encode_error(&RequestError::new(ErrorCode::Internal, format!("unwritable reply: {error}"))),
    }
}

fn encode_error(refusal: &RequestError) -> Vec<u8> {
    serde_json::to_vec(&ReplyEnvelope::Error(refusal.clone())).unwrap_or_default()
}

fn refuse(responder: Responder, code: ErrorCode, message: String) {
    responder(encode_error(&RequestError::new(code, message)));
}

/// A panic elsewhere must not stop the server: both tables stay consistent between statements.
fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
