//! Refresh tokens, idempotency keys, audit lines, and what retention removes.
use super::{Store, StoreError, i64_of, parsed};
use offhook_contract::{TenantId, UnixMs};
use offhook_control_core::UserId;
use sqlx::Row;

/// What presenting a refresh token means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefreshUse {
    /// Used for the first time: exchange it.
    Fresh {
        tenant: TenantId,
        user: UserId,
        family: String,
    },
    /// Used before: somebody has a copy, so its whole family is revoked.
    Reused,
    Unknown,
}

/// An idempotency key at a request that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    New,
    /// The first request is still being worked on.
    InProgress,
    /// The key came with another body before.
    OtherBody,
    Done {
        status: u16,
        response: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub id: String,
    pub at: UnixMs,
    pub actor: String,
    pub action: &'static str,
    pub object: String,
    pub result: &'static str,
    pub source: String,
}

impl Store {
    pub async fn add_refresh_token(
        &self,
        tenant: &TenantId,
        user: &UserId,
        hash: &str,
        family: &str,
        created: UnixMs,
        expires: UnixMs,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO refresh_token (tenant, hash, user_id, family, created_ms, expires_ms) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(tenant.as_str())
        .bind(hash)
        .bind(user.as_str())
        .bind(family)
        .bind(i64_of(created.0))
        .bind(i64_of(expires.0))
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Takes a refresh token out of use. The hash of 256 random bits names its tenant. A page that refreshed twice at
    /// the same moment is no thief: reuse within `grace_ms` is answered as fresh.
    pub async fn use_refresh_token(&self, hash: &str, now: UnixMs, grace_ms: u64) -> Result<RefreshUse, StoreError> {
        let mut transaction = self.write.begin().await?;
        let row = sqlx::query(
            "SELECT tenant, user_id, family, expires_ms, used_ms, revoked_ms FROM refresh_token WHERE hash = $1",
        )
        .bind(hash)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(RefreshUse::Unknown) };
        let tenant = parsed(&row, "tenant", |t| TenantId::parse(t).ok())?;
        let family: String = row.try_get("family")?;
        let user = UserId::new(row.try_get::<String, _>("user_id")?);
        let used: Option<i64> = row.try_get("used_ms")?;
        let revoked: Option<i64> = row.try_get("revoked_ms")?;
        let expires: i64 = row.try_get("expires_ms")?;
        if revoked.is_some() || expires < i64_of(now.0) {
            return Ok(RefreshUse::Unknown);
        }
        if used.is_some_and(|at| at.saturating_add(i64_of(grace_ms)) < i64_of(now.0)) {
            sqlx::query(
                "UPDATE refresh_token SET revoked_ms = $3 WHERE tenant = $1 AND family = $2 AND revoked_ms IS NULL",
            )
            .bind(tenant.as_str())
            .bind(family)
            .bind(i64_of(now.0))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            return Ok(RefreshUse::Reused);
        }
        sqlx::query("UPDATE refresh_token SET used_ms = COALESCE(used_ms, $3) WHERE tenant = $1 AND hash = $2")
            .bind(tenant.as_str())
            .bind(hash)
            .bind(i64_of(now.0))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(RefreshUse::Fresh { tenant, user, family })
    }

    /// Signs out: the token's whole family is worth nothing from now on.
    pub async fn revoke_refresh_family(&self, tenant: &TenantId, hash: &str, now: UnixMs) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE refresh_token SET revoked_ms = $3 WHERE tenant = $1 AND revoked_ms IS NULL AND family IN \
             (SELECT family FROM refresh_token WHERE tenant = $1 AND hash = $2)",
        )
        .bind(tenant.as_str())
        .bind(hash)
        .bind(i64_of(now.0))
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// Claims an idempotency key for a request whose body hashes to `body_hash`.
    pub async fn claim_key(
        &self,
        tenant: &TenantId,
        actor: &str,
        key: &str,
        body_hash: &str,
        now: UnixMs,
    ) -> Result<Claimed, StoreError> {
        let inserted = sqlx::query(
            "INSERT INTO idempotency (tenant, actor, key, body_hash, created_ms) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(actor)
        .bind(key)
        .bind(body_hash)
        .bind(i64_of(now.0))
        .execute(&self.write)
        .await?;
        if inserted.rows_affected() == 1 {
            return Ok(Claimed::New);
        }
        let row = sqlx::query(
            "SELECT body_hash, status, response FROM idempotency WHERE tenant = $1 AND actor = $2 AND key = $3",
        )
        .bind(tenant.as_str())
        .bind(actor)
        .bind(key)
        .fetch_optional(&self.write)
        .await?;
        let Some(row) = row else { return Ok(Claimed::InProgress) };
        if row.try_get::<String, _>("body_hash")? != body_hash {
            return Ok(Claimed::OtherBody);
        }
        let (status, response): (Option<i64>, Option<String>) = (row.try_get("status")?, row.try_get("response")?);
        Ok(match (status.and_then(|s| u16::try_from(s).ok()), response) {
            (Some(status), Some(response)) => Claimed::Done { status, response },
            _ => Claimed::InProgress,
        })
    }

    pub async fn finish_key(
        &self,
        tenant: &TenantId,
        actor: &str,
        key: &str,
        status: u16,
        response: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE idempotency SET status = $4, response = $5 WHERE tenant = $1 AND actor = $2 AND key = $3")
            .bind(tenant.as_str())
            .bind(actor)
            .bind(key)
            .bind(i64::from(status))
            .bind(response)
            .execute(&self.write)
            .await?;
        Ok(())
    }

    pub async fn audit(&self, tenant: &TenantId, row: &AuditRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit (tenant, id, at_ms, actor, action, object, result, source) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(tenant.as_str())
        .bind(row.id.as_str())
        .bind(i64_of(row.at.0))
        .bind(row.actor.as_str())
        .bind(row.action)
        .bind(row.object.as_str())
        .bind(row.result)
        .bind(row.source.as_str())
        .execute(&self.write)
        .await?;
        Ok(())
    }

    /// What was done, newest first: (action, object, result).
    pub async fn audit_lines(&self, tenant: &TenantId) -> Result<Vec<(String, String, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT action, object, result FROM audit WHERE tenant = $1 ORDER BY at_ms DESC, id DESC LIMIT 1000",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.read)
        .await?;
        rows.iter().map(|row| Ok((row.try_get("action")?, row.try_get("object")?, row.try_get("result")?))).collect()
    }

    /// Removes what has outlived its use: spent tokens and keys, and calls past their tenant's retention.
    pub async fn purge(&self, now: UnixMs) -> Result<(), StoreError> {
        const DAY: u64 = 86_400_000;
        let day_ago = i64_of(now.0.saturating_sub(DAY));
        sqlx::query("DELETE FROM idempotency WHERE created_ms < $1").bind(day_ago).execute(&self.write).await?;
        sqlx::query("DELETE FROM refresh_token WHERE expires_ms < $1").bind(day_ago).execute(&self.write).await?;
        // Producers forget a fact once it is stored; a month is far longer than any outbox repeats.
        sqlx::query("DELETE FROM fact_inbox WHERE stored_ms < $1")
            .bind(i64_of(now.0.saturating_sub(31 * DAY)))
            .execute(&self.write)
            .await?;
        let mut transaction = self.write.begin().await?;
        for (table, call) in [
            ("consent_event", "consent_event.call_id"),
            (
                "segment",
                "(SELECT call_id FROM recording WHERE recording.tenant = segment.tenant \
              AND recording.id = segment.recording_id)",
            ),
            ("recording", "recording.call_id"),
            ("call_event", "call_event.call_id"),
            ("leg", "leg.call_id"),
            ("call", "call.id"),
        ] {
            let statement = format!("DELETE FROM {table} WHERE (tenant, {call}) IN ({OUTLIVED})");
            sqlx::query(sqlx::AssertSqlSafe(statement)).bind(i64_of(now.0)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Calls past their tenant's retention whose recordings left no file. The files are the recorder's, and only through the
/// call's row is there a right to hear them: while a recording has files, or may still get some, its call stays with all
/// that belongs to it. One that failed after it had begun may get them for another 90 days: the recorder tries it again
/// at its next starts.
const OUTLIVED: &str = "SELECT gone.tenant, gone.id FROM call AS gone \
    WHERE gone.retain_until_ms < $1 AND gone.ended_ms IS NOT NULL AND NOT EXISTS (SELECT 1 FROM recording AS kept \
    WHERE kept.tenant = gone.tenant AND kept.call_id = gone.id \
    AND (kept.files <> '[]' OR kept.state NOT IN ('failed', 'stopped') \
    OR (kept.started_ms IS NOT NULL AND gone.retain_until_ms >= $1 - 7776000000)))";
