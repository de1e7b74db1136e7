//! Presence: the row that every node keeps in the lease bucket.
use crate::ids::{BootId, DaemonKind, NodeId, TrunkName};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// How often a node renews its row, and how long a reader waits on its own clock before calling it gone.
pub const PRESENCE_PERIOD_MS: u64 = 2_000;
pub const PRESENCE_TTL_MS: u64 = 6_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    Ready,
    Draining,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    pub node: NodeId,
    pub kind: DaemonKind,
    pub boot: BootId,
    pub version: String,
    pub started_ms: UnixMs,
    pub state: NodeState,
    /// Sessions carried now (rooms, legs, recordings), and how many the node will take.
    pub load: u32,
    pub capacity: u32,
    /// An SFU's media addresses: what TURN may relay to.
    #[serde(default)]
    pub media_addresses: Vec<SocketAddr>,
    /// A recorder's certificate (SHA-256, hexadecimal): the one with which it dials Taps.
    #[serde(default)]
    pub certificate_fingerprint: Option<String>,
    /// A gateway's trunks.
    #[serde(default)]
    pub trunks: Vec<TrunkState>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkState {
    pub trunk: TrunkName,
    pub up: bool,
    pub emergency: bool,
}
