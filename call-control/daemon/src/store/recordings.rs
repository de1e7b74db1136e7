//! Recordings with their segments, consent events and files.
use super::{Store, StoreError, ms, opt_ms, parsed, parsed_opt};
use offhook_contract::fact::FileRow;
use offhook_contract::{CallId, NodeId, RecordingId, TenantId, UnixMs};
use offhook_control_core::RecordingWord;
use sqlx::Row;
use sqlx::any::AnyRow;

#[derive(Debug, Clone, PartialEq)]
pub struct StoredRecording {
    pub id: RecordingId,
    pub call: CallId,
    pub state: RecordingWord,
    pub reason: Option<String>,
    pub reason_code: Option<String>,
    pub recorder: Option<NodeId>,
    pub started: Option<UnixMs>,
    pub duration_ms: Option<u64>,
    pub files: Vec<FileRow>,
    pub segments: Vec<StoredSegment>,
    pub consent: Vec<StoredConsent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSegment {
    pub segment: u32,
    pub started: UnixMs,
    pub ended: Option<UnixMs>,
    pub gap_ms: u64,
}

/// What was played; the confirmations of browsers are in the call's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConsent {
    pub kind: String,
    pub played: UnixMs,
    pub segment: Option<u32>,
}

impl Store {
    pub async fn recording(&self, tenant: &TenantId, id: &RecordingId) -> Result<Option<StoredRecording>, StoreError> {
        let row = sqlx::query("SELECT * FROM recording WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await?;
        match row {
            Some(row) => Ok(Some(self.with_parts(tenant, recording_row(&row)?).await?)),
            None => Ok(None),
        }
    }

    pub async fn recordings_of(&self, tenant: &TenantId, call: &CallId) -> Result<Vec<StoredRecording>, StoreError> {
        let rows = sqlx::query("SELECT * FROM recording WHERE tenant = $1 AND call_id = $2 ORDER BY asked_ms, id")
            .bind(tenant.as_str())
            .bind(call.as_str())
            .fetch_all(&self.read)
            .await?;
        let mut recordings = Vec::with_capacity(rows.len());
        for row in &rows {
            recordings.push(self.with_parts(tenant, recording_row(row)?).await?);
        }
        Ok(recordings)
    }

    async fn with_parts(
        &self,
        tenant: &TenantId,
        mut recording: StoredRecording,
    ) -> Result<StoredRecording, StoreError> {
        let rows = sqlx::query("SELECT * FROM segment WHERE tenant = $1 AND recording_id = $2 ORDER BY segment")
            .bind(tenant.as_str())
            .bind(recording.id.as_str())
            .fetch_all(&self.read)
            .await?;
        for row in &rows {
            let (segment, gap): (i64, i64) = (row.try_get("segment")?, row.try_get("gap_ms")?);
            recording.segments.push(StoredSegment {
                segment: u32::try_from(segment).unwrap_or(0),
                started: ms(row.try_get("started_ms")?),
                ended: opt_ms(row, "ended_ms")?,
                gap_ms: u64::try_from(gap).unwrap_or(0),
            });
        }
        let rows = sqlx::query(
            "SELECT kind, played_ms, segment FROM consent_event WHERE tenant = $1 AND recording_id = $2 \
             AND status = 'played' ORDER BY played_ms LIMIT 10000",
        )
        .bind(tenant.as_str())
        .bind(recording.id.as_str())
        .fetch_all(&self.read)
        .await?;
        for row in &rows {
            let segment: Option<i64> = row.try_get("segment")?;
            recording.consent.push(StoredConsent {
                kind: row.try_get("kind")?,
                played: ms(row.try_get("played_ms")?),
                segment: segment.and_then(|s| u32::try_from(s).ok()),
            });
        }
        Ok(recording)
    }
}

fn recording_row(row: &AnyRow) -> Result<StoredRecording, StoreError> {
    let files: String = row.try_get("files")?;
    let duration: Option<i64> = row.try_get("duration_ms")?;
    Ok(StoredRecording {
        id: parsed(row, "id", |t| RecordingId::parse(t).ok())?,
        call: parsed(row, "call_id", |t| CallId::parse(t).ok())?,
        state: parsed(row, "state", RecordingWord::parse)?,
        reason: row.try_get("reason")?,
        reason_code: row.try_get("reason_code")?,
        recorder: parsed_opt(row, "recorder_node", |t| NodeId::parse(t).ok())?,
        started: opt_ms(row, "started_ms")?,
        duration_ms: duration.and_then(|d| u64::try_from(d).ok()),
        files: serde_json::from_str(&files).map_err(|_| StoreError::Unreadable("files"))?,
        segments: Vec::new(),
        consent: Vec::new(),
    })
}
