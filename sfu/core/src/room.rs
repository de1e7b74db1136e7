//! A room: its legs, and what is being played in it.
use crate::announcer::Announcements;
use crate::command::RoomContext;
use crate::leg::LegKey;
use crate::tap::Tap;
use crate::time::MediaNs;
use offhook_contract::sfu::RoomKind;
use offhook_contract::{RoomId, UnixMs};
use offhook_shard::Key;
use std::sync::Arc;

pub type RoomKey = Key<Room>;

pub struct Room {
    pub id: RoomId,
    pub kind: RoomKind,
    pub context: Arc<RoomContext>,
    pub opened_ms: UnixMs,
    pub legs: Vec<LegKey>,
    pub announcements: Announcements,
    pub tap: Option<Tap>,
    /// The next frame of ours is due; `None` while nothing of ours is playing.
    pub tick_due: Option<MediaNs>,
    /// The Tap is looked at then.
    pub tap_due: Option<MediaNs>,
}

impl Room {
    pub fn new(id: RoomId, kind: RoomKind, context: RoomContext, opened_ms: UnixMs) -> Self {
        Self {
            id,
            kind,
            context: Arc::new(context),
            opened_ms,
            legs: Vec::new(),
            announcements: Announcements::default(),
            tap: None,
            tick_due: None,
            tap_due: None,
        }
    }
}
