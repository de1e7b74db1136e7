//! The transaction behind the switchboard: what one or several inputs changed, with the facts that they came from.
use super::{Store, StoreError, i64_of};
use offhook_contract::{FactRecord, UnixMs};
use offhook_control_core::{CallEventRow, CallRow, ConsentRow, LegRow, RecordingOutcome, Write};
use sqlx::AnyConnection;

/// A fact whose (producer, sequence) goes into the inbox with the writes.
#[derive(Debug, Clone)]
pub struct InboxFact {
    pub record: FactRecord,
    pub stored: UnixMs,
}

/// What one input of the switchboard changed.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub writes: Vec<Write>,
    pub fact: Option<InboxFact>,
}

type Done = Result<(), StoreError>;

impl Store {
    /// Commits the batches together; all or none.
    pub async fn commit(&self, batches: &[Batch]) -> Done {
        let mut transaction = self.write.begin().await?;
        for batch in batches {
            if let Some(fact) = &batch.fact {
                inbox(&mut transaction, fact).await?;
            }
            for write in &batch.writes {
                apply(&mut transaction, write).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Whether a fact was stored before.
    pub async fn has_fact(&self, record: &FactRecord) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM fact_inbox WHERE tenant = $1 AND producer = $2 AND sequence = $3")
            .bind(record.tenant.as_str())
            .bind(record.producer.as_str())
            .bind(i64_of(record.sequence))
            .fetch_optional(&self.read)
            .await?;
        Ok(found.is_some())
    }
}

async fn inbox(connection: &mut AnyConnection, fact: &InboxFact) -> Done {
    sqlx::query(
        "INSERT INTO fact_inbox (tenant, producer, sequence, stored_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(fact.record.tenant.as_str())
    .bind(fact.record.producer.as_str())
    .bind(i64_of(fact.record.sequence))
    .bind(i64_of(fact.stored.0))
    .execute(connection)
    .await?;
    Ok(())
}

async fn apply(connection: &mut AnyConnection, write: &Write) -> Done {
    match write {
        Write::Call(row) => call(connection, row).await,
        Write::Leg(row) => leg(connection, row).await,
        Write::Event(row) => event(connection, row).await,
        Write::Consent(row) => consent(connection, row).await,
        Write::Recording { tenant, call, recording, at, outcome } => {
            let key = (tenant.as_str(), recording.as_str());
            sqlx::query(
                "INSERT INTO recording (tenant, id, call_id, state, asked_ms, files) \
                 VALUES ($1, $2, $3, 'starting', $4, '[]') ON CONFLICT DO NOTHING",
            )
            .bind(key.0)
            .bind(key.1)
            .bind(call.as_str())
            .bind(i64_of(at.0))
            .execute(&mut *connection)
            .await?;
            recording_outcome(connection, key, *at, outcome).await
        }
    }
}

fn time(value: Option<UnixMs>) -> Option<i64> {
    value.map(|ms| i64_of(ms.0))
}

async fn call(connection: &mut AnyConnection, row: &CallRow) -> Done {
    sqlx::query(
        "INSERT INTO call (tenant, id, direction, state, caller_user, callee_user, from_name, from_number, to_name, \
         to_number, recording_mode, started_ms, answered_ms, ended_ms, cause, ended_by, sfu_node, retain_until_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
         (SELECT $12 + call_retention_days * 86400000 FROM tenant WHERE tenant.tenant = $1)) \
         ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, callee_user = excluded.callee_user, \
         to_name = excluded.to_name, to_number = excluded.to_number, answered_ms = excluded.answered_ms, \
         ended_ms = excluded.ended_ms, cause = excluded.cause, ended_by = excluded.ended_by, \
         sfu_node = excluded.sfu_node",
    )
    .bind(row.tenant.as_str())
    .bind(row.id.as_str())
    .bind(row.direction.as_str())
    .bind(row.state.as_str())
    .bind(row.caller.as_ref().map(|u| u.as_str().to_owned()))
    .bind(row.callee.as_ref().map(|u| u.as_str().to_owned()))
    .bind(row.from_name.as_str())
    .bind(row.from_number.clone())
    .bind(row.to_name.as_str())
    .bind(row.to_number.clone())
    .bind(row.recording_mode.as_str())
    .bind(i64_of(row.started.0))
    .bind(time(row.answered))
    .bind(time(row.ended))
    .bind(row.cause.map(|c| c.as_str().to_owned()))
    .bind(row.ended_by.as_ref().map(|l| l.as_str().to_owned()))
    .bind(row.sfu.as_ref().map(|n| n.as_str().to_owned()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn leg(connection: &mut AnyConnection, row: &LegRow) -> Done {
    sqlx::query(
        "INSERT INTO leg (tenant, call_id, id, position, kind, state, user_id, session, name, number, node, trunk, \
         sip_call_id, muted, held_by, started_ms, answered_ms, ended_ms, cause) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
         ON CONFLICT (tenant, id) DO UPDATE SET state = excluded.state, session = excluded.session, \
         sip_call_id = excluded.sip_call_id, muted = excluded.muted, held_by = excluded.held_by, \
         answered_ms = excluded.answered_ms, ended_ms = excluded.ended_ms, cause = excluded.cause",
    )
    .bind(row.tenant.as_str())
    .bind(row.call.as_str())
    .bind(row.id.as_str())
    .bind(i64::from(row.position))
    .bind(row.kind.as_str())
    .bind(row.state.as_str())
    .bind(row.user.as_ref().map(|u| u.as_str().to_owned()))
    .bind(row.session.as_ref().map(|s| s.as_str().to_owned()))
    .bind(row.name.as_str())
    .bind(row.number.clone())
    .bind(row.node.as_ref().map(|n| n.as_str().to_owned()))
    .bind(row.trunk.as_ref().map(|t| t.as_str().to_owned()))
    .bind(row.sip_call_id.clone())
    .bind(i64::from(row.muted))
    .bind(row.held_by.as_ref().map(|l| l.as_str().to_owned()))
    .bind(i64_of(row.started.0))
    .bind(time(row.answered))
    .bind(time(row.ended))
    .bind(row.cause.map(|c| c.as_str().to_owned()))
    .execute(connection)
    .await?;
    Ok(())
}

async fn event(connection: &mut AnyConnection, row: &CallEventRow) -> Done {
    sqlx::query(
        "INSERT INTO call_event (tenant, call_id, id, at_ms, kind, leg, data) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT DO NOTHING",
    )
    .bind(row.tenant.as_str())
    .bind(row.call.as_str())
    .bind(row.id.as_str())
    .bind(i64_of(row.at.0))
    .bind(row.kind)
    .bind(row.leg.as_ref().map(|l| l.as_str().to_owned()))
    .bind(row.data.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn consent(connection: &mut AnyConnection, row: &ConsentRow) -> Done {
    let kind = match row.kind {
        offhook_contract::fact::ConsentKind::Notice => "notice",
        offhook_contract::fact::ConsentKind::Beep => "beep",
    };
    sqlx::query(
        "INSERT INTO consent_event (tenant, recording_id, kind, played_ms, status, leg, call_id, segment) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(row.tenant.as_str())
    .bind(row.recording.as_str())
    .bind(kind)
    .bind(i64_of(row.played.0))
    .bind(row.status.as_str())
    .bind(row.leg.as_ref().map_or("", |l| l.as_str()))
    .bind(row.call.as_str())
    .bind(row.segment.map(i64::from))
    .execute(connection)
    .await?;
    Ok(())
}

async fn recording_outcome(
    connection: &mut AnyConnection,
    (tenant, id): (&str, &str),
    at: UnixMs,
    outcome: &RecordingOutcome,
) -> Done {
    match outcome {
        RecordingOutcome::Asked { recorder } => {
            sqlx::query(
                "UPDATE recording SET recorder_node = COALESCE($3, recorder_node) WHERE tenant = $1 AND id = $2",
            )
            .bind(tenant)
            .bind(id)
            .bind(recorder.as_ref().map(|n| n.as_str().to_owned()))
            .execute(connection)
            .await?;
        }
        RecordingOutcome::State { state, reason } => {
            // What has failed stays failed, and what has stopped does not run again.
            sqlx::query(
                "UPDATE recording SET state = $3, reason = COALESCE(reason, $4), reason_code = COALESCE(reason_code, $5) \
                 WHERE tenant = $1 AND id = $2 AND state NOT IN ('failed', 'stopped')",
            )
            .bind(tenant)
            .bind(id)
            .bind(state.as_str())
            .bind(reason.as_ref().map(|r| r.sentence.clone()))
            .bind(reason.as_ref().and_then(|r| r.code).map(|c| c.as_str().to_owned()))
            .execute(connection)
            .await?;
        }
        RecordingOutcome::Segment { segment } => segment_started(connection, (tenant, id), *segment, at).await?,
        RecordingOutcome::Finished { files, segments, duration_ms } => {
            // A failure of the recorder's own (no code) was its files, and here they are. What else went wrong stays told.
            let files = serde_json::to_string(files).unwrap_or_else(|_| "[]".to_owned());
            sqlx::query(
                "UPDATE recording SET \
                 state = CASE WHEN state = 'failed' AND reason_code IS NOT NULL THEN state ELSE 'stopped' END, \
                 reason = CASE WHEN reason_code IS NULL THEN NULL ELSE reason END, files = $3, duration_ms = $4, \
                 retain_until_ms = COALESCE(retain_until_ms, \
                 (SELECT $5 + recording_retention_days * 86400000 FROM tenant WHERE tenant.tenant = $1)) \
                 WHERE tenant = $1 AND id = $2",
            )
            .bind(tenant)
            .bind(id)
            .bind(files)
            .bind(i64_of(*duration_ms))
            .bind(i64_of(at.0))
            .execute(&mut *connection)
            .await?;
            for row in segments {
                sqlx::query(
                    "INSERT INTO segment (tenant, recording_id, segment, started_ms, ended_ms, gap_ms) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, recording_id, segment) DO UPDATE SET \
                     started_ms = excluded.started_ms, ended_ms = excluded.ended_ms, gap_ms = excluded.gap_ms",
                )
                .bind(tenant)
                .bind(id)
                .bind(i64::from(row.segment))
                .bind(i64_of(row.started_ms.0))
                .bind(i64_of(row.ended_ms.0))
                .bind(i64_of(row.gap_ms))
                .execute(&mut *connection)
                .await?;
            }
        }
    }
    Ok(())
}

async fn segment_started(connection: &mut AnyConnection, (tenant, id): (&str, &str), segment: u32, at: UnixMs) -> Done {
    sqlx::query(
        "UPDATE recording SET started_ms = COALESCE(started_ms, $3), \
         state = CASE WHEN state = 'starting' THEN 'recording' ELSE state END WHERE tenant = $1 AND id = $2",
    )
    .bind(tenant)
    .bind(id)
    .bind(i64_of(at.0))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO segment (tenant, recording_id, segment, started_ms, gap_ms) VALUES ($1, $2, $3, $4, 0) \
         ON CONFLICT DO NOTHING",
    )
    .bind(tenant)
    .bind(id)
    .bind(i64::from(segment))
    .bind(i64_of(at.0))
    .execute(connection)
    .await?;
    Ok(())
}
