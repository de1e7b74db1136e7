//! What a restarted call-control needs: the calls that had not ended, and what each tenant has talked today.
use super::{Store, StoreError, i64_of, ms, opt_ms, parsed, parsed_opt};
use offhook_contract::{CallId, HangupCause, LegId, NodeId, RecordingId, TenantId, TrunkName, UnixMs};
use offhook_control_core::{
    CallRow, CallWord, Direction, LegRow, LegWord, PartyKind, RecordingMode, RecordingWord, SessionId, StoredCall,
    UserId,
};
use sqlx::Row;
use sqlx::any::AnyRow;

impl Store {
    /// Across all tenants: the only reading that is (with [`Store::minutes_since`]), for the switchboard itself.
    pub async fn running_calls(&self) -> Result<Vec<StoredCall>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM call WHERE ended_ms IS NULL ORDER BY started_ms").fetch_all(&self.read).await?;
        let mut calls = Vec::with_capacity(rows.len());
        for row in rows {
            let call = call_row(&row)?;
            let legs = sqlx::query("SELECT * FROM leg WHERE tenant = $1 AND call_id = $2 ORDER BY position")
                .bind(call.tenant.as_str())
                .bind(call.id.as_str())
                .fetch_all(&self.read)
                .await?;
            let legs = legs.iter().map(leg_row).collect::<Result<Vec<_>, _>>()?;
            let recording = self.unfinished_recording(&call.tenant, &call.id).await?;
            calls.push(StoredCall { call, legs, recording });
        }
        Ok(calls)
    }

    async fn unfinished_recording(
        &self,
        tenant: &TenantId,
        call: &CallId,
    ) -> Result<Option<(RecordingId, RecordingWord, Option<NodeId>)>, StoreError> {
        let row = sqlx::query(
            "SELECT id, state, recorder_node FROM recording WHERE tenant = $1 AND call_id = $2 \
             ORDER BY asked_ms DESC, id DESC LIMIT 1",
        )
        .bind(tenant.as_str())
        .bind(call.as_str())
        .fetch_optional(&self.read)
        .await?;
        row.map(|row| {
            let id = parsed(&row, "id", |t| RecordingId::parse(t).ok())?;
            let state = parsed(&row, "state", RecordingWord::parse)?;
            Ok((id, state, parsed_opt(&row, "recorder_node", |t| NodeId::parse(t).ok())?))
        })
        .transpose()
    }

    /// Begun minutes of answered outbound calls that ended since `since`.
    pub async fn minutes_since(&self, since: UnixMs) -> Result<Vec<(TenantId, u32)>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, CAST(SUM((ended_ms - answered_ms + 59999) / 60000) AS BIGINT) AS minutes FROM call \
             WHERE direction = 'outbound' AND answered_ms IS NOT NULL AND ended_ms >= $1 GROUP BY tenant",
        )
        .bind(i64_of(since.0))
        .fetch_all(&self.read)
        .await?;
        rows.iter()
            .map(|row| {
                let minutes: Option<i64> = row.try_get("minutes")?;
                let tenant = parsed(row, "tenant", |t| TenantId::parse(t).ok())?;
                Ok((tenant, u32::try_from(minutes.unwrap_or(0)).unwrap_or(u32::MAX)))
            })
            .collect()
    }
}

pub(super) fn call_row(row: &AnyRow) -> Result<CallRow, StoreError> {
    Ok(CallRow {
        tenant: parsed(row, "tenant", |t| TenantId::parse(t).ok())?,
        id: parsed(row, "id", |t| CallId::parse(t).ok())?,
        direction: parsed(row, "direction", Direction::parse)?,
        state: parsed(row, "state", CallWord::parse)?,
        caller: parsed_opt(row, "caller_user", |t| Some(UserId::new(t)))?,
        callee: parsed_opt(row, "callee_user", |t| Some(UserId::new(t)))?,
        from_name: row.try_get("from_name")?,
        from_number: row.try_get("from_number")?,
        to_name: row.try_get("to_name")?,
        to_number: row.try_get("to_number")?,
        recording_mode: parsed(row, "recording_mode", RecordingMode::parse)?,
        started: ms(row.try_get("started_ms")?),
        answered: opt_ms(row, "answered_ms")?,
        ended: opt_ms(row, "ended_ms")?,
        cause: parsed_opt(row, "cause", HangupCause::parse)?,
        ended_by: parsed_opt(row, "ended_by", |t| LegId::parse(t).ok())?,
        sfu: parsed_opt(row, "sfu_node", |t| NodeId::parse(t).ok())?,
    })
}

fn leg_row(row: &AnyRow) -> Result<LegRow, StoreError> {
    let position: i64 = row.try_get("position")?;
    let muted: i64 = row.try_get("muted")?;
    Ok(LegRow {
        tenant: parsed(row, "tenant", |t| TenantId::parse(t).ok())?,
        call: parsed(row, "call_id", |t| CallId::parse(t).ok())?,
        id: parsed(row, "id", |t| LegId::parse(t).ok())?,
        position: u8::try_from(position).unwrap_or(u8::MAX),
        kind: parsed(row, "kind", PartyKind::parse)?,
        state: parsed(row, "state", LegWord::parse)?,
        user: parsed_opt(row, "user_id", |t| Some(UserId::new(t)))?,
        session: parsed_opt(row, "session", |t| Some(SessionId::new(t)))?,
        name: row.try_get("name")?,
        number: row.try_get("number")?,
        node: parsed_opt(row, "node", |t| NodeId::parse(t).ok())?,
        trunk: parsed_opt(row, "trunk", |t| TrunkName::parse(t).ok())?,
        sip_call_id: row.try_get("sip_call_id")?,
        muted: muted != 0,
        held_by: parsed_opt(row, "held_by", |t| LegId::parse(t).ok())?,
        started: ms(row.try_get("started_ms")?),
        answered: opt_ms(row, "answered_ms")?,
        ended: opt_ms(row, "ended_ms")?,
        cause: parsed_opt(row, "cause", HangupCause::parse)?,
    })
}
