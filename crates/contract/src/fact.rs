//! Facts: events that must not be lost. A producer keeps them in its outbox and repeats them as the request
//! [`StoreFact`] until call-control has replied `stored`; keyed by (producer, sequence) they count once.
use crate::envelope::Request;
use crate::hangup::HangupCause;
use crate::ids::{CallId, DaemonKind, LegId, RecordingId, TenantId};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Fact {
    /// The telephone answered (gateway).
    LegAnswered {
        leg: LegId,
    },
    /// A leg is over: a telephone hung up or could not be reached (gateway), or a browser's media is gone (SFU).
    LegEnded {
        leg: LegId,
        cause: HangupCause,
        sip_status: Option<u16>,
    },
    /// The SFU closed a Tap by itself.
    TapClosed {
        recording: RecordingId,
        reason: TapCloseReason,
    },
    /// A party's browser confirmed by receiver report that an announcement's packets reached it.
    AnnouncementReceived {
        recording: RecordingId,
        leg: LegId,
        kind: ConsentKind,
        played_ms: UnixMs,
    },
    /// No such report came within 8 s.
    AnnouncementUnconfirmed {
        recording: RecordingId,
        leg: LegId,
        kind: ConsentKind,
        played_ms: UnixMs,
    },
    /// The first packet of a segment is on disk (recorder).
    SegmentStarted {
        recording: RecordingId,
        segment: u32,
    },
    /// A notice or a beep stands in the Tap (recorder).
    ConsentPlayed {
        recording: RecordingId,
        segment: u32,
        kind: ConsentKind,
        played_ms: UnixMs,
    },
    /// Of a recording with many files only those made of the originals are named, and of many segments the first: the
    /// manifest, which is the second file, names all.
    RecordingFinished {
        recording: RecordingId,
        files: Vec<FileRow>,
        segments: Vec<SegmentRow>,
        duration_ms: u64,
    },
    RecordingFailed {
        recording: RecordingId,
        reason: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentKind {
    Notice,
    Beep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapCloseReason {
    /// Call-control asked for it, or the room closed.
    Requested,
    /// A notice or beep could not be played to a party: without it there is no recording.
    AnnouncerFailed,
    /// No recorder resumed within 10 s.
    RecorderGone,
}

/// A file of a finished recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    pub name: String,
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRow {
    pub segment: u32,
    pub started_ms: UnixMs,
    pub ended_ms: UnixMs,
    /// Milliseconds missing before this segment (a recorder's death, or a gap record of the Tap).
    pub gap_ms: u64,
}

/// A fact as it stands in an outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactRecord {
    /// Names the outbox, not the node: a new, empty outbox has a new name.
    pub producer: String,
    /// From 1, without holes.
    pub sequence: u64,
    pub tenant: TenantId,
    pub call: CallId,
    pub at_ms: UnixMs,
    pub fact: Fact,
}

/// To any call-control node; repeated until it replies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreFact {
    pub record: FactRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactReceipt {
    /// In the database; the producer may forget it. Also the reply to a repetition.
    Stored,
}

impl Request for StoreFact {
    const DAEMON: DaemonKind = DaemonKind::Control;
    const NAME: &'static str = "store_fact";
    type Reply = FactReceipt;
}
