//! What surrounds every message on the bus, also in-process.
use crate::ids::{CallId, DaemonKind, MessageId, TenantId};
use crate::time::{Epoch, UnixMs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version in every subject. A change that older code cannot read takes the next number.
pub const BUS_VERSION: &str = "v1";

/// A request names its daemon, its word in the subject and its reply.
pub trait Request: Serialize + DeserializeOwned + Send + Sync + 'static {
    const DAEMON: DaemonKind;
    const NAME: &'static str;
    type Reply: Serialize + DeserializeOwned + Send + 'static;
}

/// On whose behalf a message is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub tenant: Option<TenantId>,
    pub call: Option<CallId>,
    pub epoch: Option<Epoch>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    pub id: MessageId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    pub sent_ms: UnixMs,
    pub deadline_ms: UnixMs,
    pub body: Box<RawValue>,
}

impl Envelope {
    pub fn context(&self) -> Context {
        Context { tenant: self.tenant.clone(), call: self.call.clone(), epoch: self.epoch }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyEnvelope {
    Ok(Box<RawValue>),
    Error(RequestError),
}

/// A refusal that travels back over the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct RequestError {
    pub code: ErrorCode,
    /// One sentence that an operator can act on. No secrets, no full numbers.
    pub message: String,
}

impl RequestError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message could not be read, or a value is out of range.
    Invalid,
    /// Unknown request name.
    Unsupported,
    NotFound,
    /// The thing exists already in another form, or the state does not allow it.
    Conflict,
    /// The command came under an older epoch than the node has seen.
    StaleEpoch,
    /// A rule forbids it.
    Refused,
    /// A limit was reached.
    Exhausted,
    /// The node is shutting down.
    Draining,
    /// The deadline had passed before the work began.
    TooLate,
    Internal,
}
