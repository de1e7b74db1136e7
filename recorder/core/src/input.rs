//! What a Tap tells the core, free of any transport. Times are nanoseconds of the Tap's clock.
use offhook_contract::fact::ConsentKind;
use offhook_contract::{BootId, CallId, CodecName, LegId, RecordingId, TenantId, UnixMs};
use serde::{Deserialize, Serialize};

/// Whose voice a track carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voice {
    Leg(LegId),
    Announcer,
}

/// One RTP packet as the SFU received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub track: u16,
    pub media_ns: u64,
    pub codec: CodecName,
    pub sequence: u16,
    pub timestamp: u32,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    Requested,
    AnnouncerFailed,
    RecorderGone,
    /// The SFU's side went away without a word.
    Abandoned,
    /// The Tap could not be resumed in time.
    Lost,
    /// The recorder's disk took no more.
    DiskFailed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapInput<'a> {
    Hello {
        recording: RecordingId,
        call: CallId,
        tenant: TenantId,
        clock: BootId,
        media_ns: u64,
        wall: UnixMs,
    },
    Track {
        track: u16,
        voice: Voice,
        at_ns: u64,
    },
    Packet(Packet<'a>),
    AnnouncementStarted {
        kind: ConsentKind,
        at_ns: u64,
    },
    AnnouncementEnded {
        kind: ConsentKind,
        at_ns: u64,
    },
    ClockPair {
        media_ns: u64,
        wall: UnixMs,
    },
    /// What the Tap could not keep.
    Gap {
        packets: u64,
        first_ns: u64,
        last_ns: u64,
    },
    TrackEnded {
        track: u16,
        at_ns: u64,
    },
    Closed {
        reason: CloseReason,
        at_ns: u64,
    },
}
