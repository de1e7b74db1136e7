//! Events: told once to whoever listens now. Lost when nobody does; what must not be lost is a fact.
use crate::bus::Bus;
use crate::message::{encode, new_message_id};
use crate::subject::is_reserved;
use crate::transport::{MAX_MESSAGE_BYTES, RawMessage, TransportError};
use offhook_contract::envelope::Envelope;
use offhook_contract::{Context, Event, TenantId};
use std::time::Duration;
use tokio::sync::mpsc;

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("the bus is not connected")]
    Disconnected,
    #[error("too many messages wait to be sent")]
    Full,
    #[error("an event of {bytes} bytes is over the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge { bytes: usize },
    #[error("{0:?} is a reserved word and cannot be a tenant")]
    ReservedTenant(String),
    #[error("the event cannot be written")]
    Encode(#[source] serde_json::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("{0:?} is a reserved word and cannot be a tenant")]
    ReservedTenant(String),
    #[error("{0:?} is no kind of event")]
    Kind(String),
    #[error("the bus does not let us listen: {0}")]
    Listen(String),
}

/// Receives events.
pub struct Events {
    messages: mpsc::Receiver<RawMessage>,
}

impl Bus {
    /// Tells an event. Never waits.
    pub fn publish(&self, context: &Context, event: &Event) -> Result<(), PublishError> {
        let tenant = context.tenant.as_ref();
        if let Some(tenant) = tenant.filter(|t| is_reserved(t.as_str())) {
            return Err(PublishError::ReservedTenant(tenant.to_string()));
        }
        let subject = self.inner.subjects.event(tenant, event.kind());
        let payload = encode(new_message_id(), context, Duration::ZERO, event).map_err(PublishError::Encode)?;
        if payload.len() > MAX_MESSAGE_BYTES {
            return Err(PublishError::TooLarge { bytes: payload.len() });
        }
        self.inner.transport.publish(subject, payload).map_err(|error| match error {
            TransportError::Full => PublishError::Full,
            _ => PublishError::Disconnected,
        })
    }

    /// Listens to one tenant's events or everyone's, of one kind or all.
    pub async fn subscribe(&self, tenant: Option<&TenantId>, kind: Option<&str>) -> Result<Events, SubscribeError> {
        if let Some(tenant) = tenant.filter(|t| is_reserved(t.as_str())) {
            return Err(SubscribeError::ReservedTenant(tenant.to_string()));
        }
        if let Some(kind) = kind.filter(|k| k.is_empty() || !k.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            return Err(SubscribeError::Kind(kind.to_owned()));
        }
        let pattern = self.inner.subjects.events(tenant, kind);
        let refused = |error: TransportError| SubscribeError::Listen(error.to_string());
        let messages = self.inner.transport.listen(pattern, None).await.map_err(refused)?;
        Ok(Events { messages })
    }
}

impl Events {
    /// The next event; `None` when the bus is gone for good. Kinds that this version does not know are passed over.
    pub async fn next(&mut self) -> Option<(Context, Event)> {
        loop {
            let message = self.messages.recv().await?;
            match read(&message.payload) {
                Ok(told) => return Some(told),
                Err(error) => tracing::debug!(subject = message.subject, %error, "unreadable event passed over"),
            }
        }
    }
}

fn read(payload: &[u8]) -> Result<(Context, Event), serde_json::Error> {
    let envelope: Envelope = serde_json::from_slice(payload)?;
    let event = serde_json::from_str(envelope.body.get())?;
    Ok((envelope.context(), event))
}
