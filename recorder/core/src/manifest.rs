//! What a finished recording is made of, for people and for auditors.
use crate::input::CloseReason;
use crate::live::Losses;
use crate::recover::TapGap;
use offhook_contract::fact::{ConsentKind, FileRow, SegmentRow};
use offhook_contract::{CallId, CodecName, LegId, RecordingId, TenantId, UnixMs};
use serde::{Deserialize, Serialize};

pub const FILE_NAME: &str = "manifest.json";
pub const AUDIO_NAME: &str = "recording.flac";
pub const VERSION: u32 = 1;
/// Said in every manifest, so that nobody takes the archive copy for the original.
pub const DERIVED: &str = "recording.flac is derived: the originals are the lossy packets (Opus or G.711) in the \
segment directories, decoded, aligned on their arrival and mixed to two channels.";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub recording: RecordingId,
    pub call: CallId,
    pub tenant: TenantId,
    pub answered_ms: UnixMs,
    pub started_ms: UnixMs,
    pub duration_ms: u64,
    pub derived: String,
    pub audio: AudioRow,
    pub stopped: CloseReason,
    /// A recorder died while it was made; what it had not written was fetched again or stands as a gap.
    pub recovered: bool,
    pub segments: Vec<SegmentRow>,
    pub tracks: Vec<TrackRow>,
    pub clock: ClockRow,
    pub announcements: Vec<AnnouncementRow>,
    pub gaps: Vec<TapGap>,
    pub losses: Losses,
    /// SHA-256 of the consent log's last line.
    pub consent_head: String,
    /// Every file but this one.
    pub files: Vec<FileRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioRow {
    pub file: String,
    pub rate_hz: u32,
    /// Why this rate.
    pub rate_reason: String,
    pub left: String,
    pub right: String,
    pub concealed_ms: u64,
    pub undecodable_packets: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackRow {
    pub segment: u32,
    pub track: u16,
    /// `None`: the Announcer.
    pub leg: Option<LegId>,
    pub channel: String,
    pub codec: CodecName,
    pub file: String,
    pub packets: u64,
    /// From the recording's zero to the first packet's arrival.
    pub starts_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClockRow {
    /// The SFU's boot whose monotonic clock all times stand under.
    pub clock: String,
    pub origin_ns: u64,
    /// (media time in ns, wall time in ms).
    pub pairs: Vec<(u64, UnixMs)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnouncementRow {
    pub kind: ConsentKind,
    pub segment: u32,
    /// From the recording's zero.
    pub at_ms: u64,
    pub length_ms: u64,
    pub played_ms: UnixMs,
}
