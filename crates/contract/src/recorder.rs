//! Requests that a recorder answers. `offhook.<cluster>.v1.recorder.<node>.<request>`.
use crate::envelope::Request;
use crate::ids::{CallId, DaemonKind, LegId, RecordingId, TenantId};
use crate::secret::Secret;
use crate::sfu::{Done, TapOffer};
use crate::time::{Epoch, UnixMs};
use serde::{Deserialize, Serialize};

macro_rules! recorder_request {
    ($request:ty, $name:literal, $reply:ty) => {
        impl Request for $request {
            const DAEMON: DaemonKind = DaemonKind::Recorder;
            const NAME: &'static str = $name;
            type Reply = $reply;
        }
    };
}

/// Dials the Tap and records. The caller's legs go left, all others right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecording {
    pub recording: RecordingId,
    pub tap: TapOffer,
    pub caller_legs: Vec<LegId>,
    pub answered_ms: UnixMs,
}
recorder_request!(StartRecording, "start_recording", Done);

/// Ends a recording and has it finished; the files follow as the fact `RecordingFinished`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecording {
    pub recording: RecordingId,
}
recorder_request!(StopRecording, "stop_recording", Done);

/// A short-lived address of one file of a finished recording on the recorder's private listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantFile {
    pub recording: RecordingId,
    pub file: RecordingFile,
}
recorder_request!(GrantFile, "grant_file", FileGrant);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingFile {
    /// The two-channel FLAC.
    Flac,
    Manifest,
    Consent,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileGrant {
    /// `http://…` on loopback, `https://…` elsewhere; the token is inside.
    pub url: Secret,
    /// SHA-256 of the listener's certificate, hexadecimal, when it is `https`.
    pub fingerprint: Option<String>,
    pub expires_ms: UnixMs,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderInventoryRequest {}
recorder_request!(RecorderInventoryRequest, "inventory", RecorderInventory);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecorderInventory {
    pub recordings: Vec<RecordingRow>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingRow {
    pub recording: RecordingId,
    pub call: CallId,
    pub tenant: TenantId,
    pub epoch: Option<Epoch>,
    pub state: RecordingState,
    pub segment: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    Connecting,
    Recording,
    Finishing,
    Finished,
    Failed,
}
