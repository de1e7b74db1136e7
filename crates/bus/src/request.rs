//! The asking side: one request, one reply or one named reason.
use crate::bus::Bus;
use crate::message::{encode, new_message_id};
use crate::subject::{Target, is_reserved};
use crate::transport::{MAX_MESSAGE_BYTES, TransportError};
use offhook_contract::{Context, MessageId, ReplyEnvelope, Request, RequestError};
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The node is not there (or none of the kind is): known at once, without waiting.
    #[error("nobody answers {subject}")]
    NoResponders { subject: String },
    #[error("no reply to {subject} within {timeout:?}")]
    Timeout { subject: String, timeout: Duration },
    #[error("the bus is not connected")]
    Disconnected,
    #[error("too many messages wait to be sent")]
    Full,
    #[error("the bus server refused: {0}")]
    Server(String),
    #[error("a message of {bytes} bytes is over the limit of {MAX_MESSAGE_BYTES}, or the bus server's (max_payload)")]
    TooLarge { bytes: usize },
    #[error("{0:?} is a reserved word and cannot be a node")]
    ReservedNode(String),
    #[error("the message cannot be written")]
    Encode(#[source] serde_json::Error),
    #[error("the reply to {subject} cannot be read")]
    UnreadableReply { subject: String, source: serde_json::Error },
    /// The other side answered with a refusal.
    #[error(transparent)]
    Refused(#[from] RequestError),
}

impl BusError {
    /// Whether the request may have been carried out although no reply came.
    pub fn may_have_happened(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::UnreadableReply { .. } | Self::Server(_))
    }
}

impl Bus {
    /// Sends a request and waits at most `timeout` for its reply. A request that must be repeated until it is known
    /// to have happened keeps its id: [`Bus::request_as`].
    pub async fn request<R: Request>(
        &self,
        to: Target,
        context: &Context,
        body: &R,
        timeout: Duration,
    ) -> Result<R::Reply, BusError> {
        self.request_as(new_message_id(), to, context, body, timeout).await
    }

    /// The same under an id of the caller's: a repetition is answered with the first reply and does nothing.
    pub async fn request_as<R: Request>(
        &self,
        id: MessageId,
        to: Target,
        context: &Context,
        body: &R,
        timeout: Duration,
    ) -> Result<R::Reply, BusError> {
        if let Target::Node(node) = &to
            && is_reserved(node.as_str())
        {
            return Err(BusError::ReservedNode(node.to_string()));
        }
        let subject = self.inner.subjects.request(R::DAEMON, &to, R::NAME);
        let payload = encode(id, context, timeout, body).map_err(BusError::Encode)?;
        if payload.len() > MAX_MESSAGE_BYTES {
            return Err(BusError::TooLarge { bytes: payload.len() });
        }
        let bytes = payload.len();
        let reply = match self.inner.transport.request(subject.clone(), payload, timeout).await {
            Ok(reply) => reply,
            Err(error) => return Err(name_error(error, subject, timeout, bytes)),
        };
        read_reply::<R>(&reply, subject)
    }
}

fn name_error(error: TransportError, subject: String, timeout: Duration, bytes: usize) -> BusError {
    match error {
        TransportError::NoResponders => BusError::NoResponders { subject },
        TransportError::Timeout => BusError::Timeout { subject, timeout },
        TransportError::Disconnected => BusError::Disconnected,
        TransportError::Full => BusError::Full,
        TransportError::TooLarge => BusError::TooLarge { bytes },
        TransportError::Server(reason) => BusError::Server(reason),
    }
}

fn read_reply<R: Request>(reply: &[u8], subject: String) -> Result<R::Reply, BusError> {
    let unreadable = |source| BusError::UnreadableReply { subject, source };
    match serde_json::from_slice::<ReplyEnvelope>(reply) {
        Ok(ReplyEnvelope::Ok(body)) => serde_json::from_str(body.get()).map_err(unreadable),
        Ok(ReplyEnvelope::Error(refusal)) => Err(BusError::Refused(refusal)),
        Err(source) => Err(unreadable(source)),
    }
}
