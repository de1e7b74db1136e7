//! Envelopes: made for sending, read after arrival.
use offhook_contract::envelope::Envelope;
use offhook_contract::{Context, MessageId, UnixMs};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A new message id.
pub fn new_message_id() -> MessageId {
    MessageId::from_uuid(uuid::Uuid::now_v7())
}

/// The wall clock, for envelopes and records.
pub fn wall_now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The JSON of an envelope around `body`, valid for `life`.
pub(crate) fn encode<T: Serialize>(
    id: MessageId,
    context: &Context,
    life: Duration,
    body: &T,
) -> Result<Vec<u8>, serde_json::Error> {
    let sent_ms = wall_now();
    let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    serde_json::to_vec(&Envelope {
        id,
        tenant: context.tenant.clone(),
        call: context.call.clone(),
        epoch: context.epoch,
        sent_ms,
        deadline_ms: sent_ms.plus_ms(life_ms),
        body: serde_json::value::to_raw_value(body)?,
    })
}
