//! Tenants, users, numbers and API keys.
use super::{Store, StoreError, i64_of, is_unique_violation, ms, opt_ms, parsed, parsed_opt};
use offhook_contract::{PhoneNumber, TenantId, UnixMs};
use offhook_control_core::{RecordingMode, User, UserId};
use sqlx::Row;
use sqlx::any::AnyRow;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    pub id: TenantId,
    pub name: String,
    pub recording: RecordingMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    pub tenant: TenantId,
    pub id: UserId,
    pub login: String,
    pub name: String,
    pub extension: String,
    /// Argon2, in PHC form; absent for users who cannot sign in with a password.
    pub password_hash: Option<String>,
    /// May change what concerns everybody of the tenant.
    pub admin: bool,
    /// Cannot sign in, be called or call; what is in the log stays.
    pub disabled: bool,
}

impl UserRow {
    pub fn user(&self) -> User {
        User { id: self.id.clone(), name: self.name.clone(), extension: self.extension.clone() }
    }
}

#[derive(Debug, Clone)]
pub struct NewUser {
    pub id: UserId,
    pub login: String,
    pub name: String,
    pub extension: String,
    pub password_hash: Option<String>,
    pub admin: bool,
    pub created: UnixMs,
}

/// What is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    pub admin: Option<bool>,
    pub password_hash: Option<String>,
    pub disabled: Option<bool>,
}

/// A user whose TURN sessions and credentials of before `at` are no good any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcast {
    pub tenant: TenantId,
    pub user: UserId,
    pub at: UnixMs,
    pub disabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberRow {
    pub number: PhoneNumber,
    pub user: UserId,
    /// Absent: as the tenant has it.
    pub recording: Option<RecordingMode>,
}

/// What becomes of a number's recording setting when it is given to a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NumberRecording {
    /// A number that was there keeps its own; a new one follows the tenant.
    #[default]
    Keep,
    /// As the tenant has it.
    Inherit,
    Set(RecordingMode),
}

#[derive(Debug, Clone)]
pub struct NewNumber {
    pub number: PhoneNumber,
    pub user: UserId,
    pub recording: NumberRecording,
    pub created: UnixMs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    pub tenant: TenantId,
    pub id: String,
    pub name: String,
}

/// A key as an operator may see it: not the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: String,
    pub name: String,
    /// What it begins with.
    pub prefix: String,
    pub created: UnixMs,
}

/// What [`user_row`] reads.
macro_rules! user_where {
    ($condition:literal) => {
        concat!(
            "SELECT tenant, id, login, name, extension, password_hash, admin, disabled_ms FROM \"user\" WHERE ",
            $condition
        )
    };
}

fn user_row(row: &AnyRow) -> Result<UserRow, StoreError> {
    Ok(UserRow {
        tenant: parsed(row, "tenant", |t| TenantId::parse(t).ok())?,
        id: UserId::new(row.try_get::<String, _>("id")?),
        login: row.try_get("login")?,
        name: row.try_get("name")?,
        extension: row.try_get("extension")?,
        password_hash: row.try_get("password_hash")?,
        admin: row.try_get::<i64, _>("admin")? != 0,
        disabled: row.try_get::<Option<i64>, _>("disabled_ms")?.is_some(),
    })
}

fn tenant_row(row: &AnyRow) -> Result<TenantRow, StoreError> {
    Ok(TenantRow {
        id: parsed(row, "tenant", |t| TenantId::parse(t).ok())?,
        name: row.try_get("name")?,
        recording: parsed(row, "recording_mode", RecordingMode::parse)?,
    })
}

/// A unique key that is taken becomes the answer "exists already".
fn taken(what: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| if is_unique_violation(&error) { StoreError::Exists(what) } else { StoreError::Database(error) }
}

impl Store {
    pub async fn add_tenant(&self, tenant: &TenantRow, created: UnixMs) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO tenant (tenant, name, created_ms, recording_mode) VALUES ($1, $2, $3, $4)")
            .bind(tenant.id.as_str())
            .bind(tenant.name.as_str())
            .bind(i64_of(created.0))
            .bind(tenant.recording.as_str())
            .execute(&self.write)
            .await
            .map_err(taken("a tenant of this name"))?;
        Ok(())
    }

    /// For the operator's command line only.
    pub async fn tenants(&self) -> Result<Vec<TenantRow>, StoreError> {
        let rows = sqlx::query("SELECT tenant, name, recording_mode FROM tenant ORDER BY tenant")
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(tenant_row).collect()
    }

    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRow>, StoreError> {
        let row = sqlx::query("SELECT tenant, name, recording_mode FROM tenant WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(tenant_row).transpose()
    }

    pub async fn set_recording_mode(&self, tenant: &TenantId, mode: RecordingMode) -> Result<(), StoreError> {
        sqlx::query("UPDATE tenant SET recording_mode = $2 WHERE tenant = $1")
            .bind(tenant.as_str())
            .bind(mode.as_str())
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// How long ended calls are kept; `None` is for ever. Calls that began before keep what they were given.
    pub async fn set_call_retention(&self, tenant: &TenantId, days: Option<u32>) -> Result<(), StoreError> {
        sqlx::query("UPDATE tenant SET call_retention_days = $2 WHERE tenant = $1")
            .bind(tenant.as_str())
            .bind(days.map(i64::from))
            .execute(&self.write)
            .await?;
        Ok(())
    }

    pub async fn add_user(&self, tenant: &TenantId, user: &NewUser) -> Result<(), StoreError> {
        self.tenant(tenant).await?.ok_or(StoreError::Missing("tenant"))?;
        sqlx::query(
            "INSERT INTO \"user\" (tenant, id, login, name, extension, password_hash, admin, created_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(tenant.as_str())
        .bind(user.id.as_str())
        .bind(user.login.as_str())
        .bind(user.name.as_str())
        .bind(user.extension.as_str())
        .bind(user.password_hash.clone())
        .bind(i64::from(user.admin))
        .bind(i64_of(user.created.0))
        .execute(&self.write)
        .await
        .map_err(taken("a user with this login (in any tenant) or this extension"))?;
        Ok(())
    }

    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRow>, StoreError> {
        let rows = sqlx::query(user_where!("tenant = $1 AND disabled_ms IS NULL ORDER BY extension"))
            .bind(tenant.as_str())
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(user_row).collect()
    }

    /// With those who are disabled: for the operator's command line.
    pub async fn all_users(&self, tenant: &TenantId) -> Result<Vec<UserRow>, StoreError> {
        let rows = sqlx::query(user_where!("tenant = $1 ORDER BY extension"))
            .bind(tenant.as_str())
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(user_row).collect()
    }

    /// Of every tenant: whoever is disabled, and whoever's TURN credentials were taken back since.
    pub async fn outcasts(&self, since: UnixMs) -> Result<Vec<Outcast>, StoreError> {
        let rows = sqlx::query(
            "SELECT tenant, id, disabled_ms, turn_revoked_ms FROM \"user\" \
             WHERE disabled_ms IS NOT NULL OR turn_revoked_ms > $1",
        )
        .bind(i64_of(since.0))
        .fetch_all(&self.read)
        .await?;
        let outcast = |row: &AnyRow| {
            let (disabled, revoked) = (opt_ms(row, "disabled_ms")?, opt_ms(row, "turn_revoked_ms")?);
            Ok(Outcast {
                tenant: parsed(row, "tenant", |t| TenantId::parse(t).ok())?,
                user: UserId::new(row.try_get::<String, _>("id")?),
                at: disabled.max(revoked).unwrap_or(UnixMs(0)),
                disabled: disabled.is_some(),
            })
        };
        rows.iter().map(outcast).collect()
    }

    /// What this user's TURN servers gave him until now is taken back.
    pub async fn revoke_turn(&self, tenant: &TenantId, id: &UserId, at: UnixMs) -> Result<(), StoreError> {
        sqlx::query("UPDATE \"user\" SET turn_revoked_ms = $3 WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(i64_of(at.0))
            .execute(&self.write)
            .await?;
        Ok(())
    }

    /// Whoever is disabled, or has a new password, must sign in again wherever he was signed in, and his TURN sessions end.
    pub async fn change_user(
        &self,
        tenant: &TenantId,
        id: &UserId,
        change: &UserChange,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let ends = change.disabled == Some(true) || change.password_hash.is_some();
        let mut transaction = self.write.begin().await?;
        let changed = sqlx::query(
            "UPDATE \"user\" SET admin = COALESCE($3, admin), password_hash = COALESCE($4, password_hash), \
             disabled_ms = CASE WHEN $5 = 1 THEN COALESCE(disabled_ms, $7) WHEN $6 = 1 THEN NULL ELSE disabled_ms END, \
             turn_revoked_ms = CASE WHEN $8 = 1 THEN $7 ELSE turn_revoked_ms END WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(change.admin.map(i64::from))
        .bind(change.password_hash.clone())
        .bind(i64::from(change.disabled == Some(true)))
        .bind(i64::from(change.disabled == Some(false)))
        .bind(i64_of(now.0))
        .bind(i64::from(ends))
        .execute(&mut *transaction)
        .await?;
        if changed.rows_affected() == 0 {
            return Err(StoreError::Missing("user"));
        }
        if ends {
            sqlx::query(
                "UPDATE refresh_token SET revoked_ms = $3 WHERE tenant = $1 AND user_id = $2 AND revoked_ms IS NULL",
            )
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(i64_of(now.0))
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// At sign-in the tenant is not known yet: logins are unique among all.
    pub async fn user_by_login(&self, login: &str) -> Result<Option<UserRow>, StoreError> {
        let row = sqlx::query(user_where!("login = $1 AND disabled_ms IS NULL"))
            .bind(login)
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(user_row).transpose()
    }

    pub async fn user(&self, tenant: &TenantId, id: &UserId) -> Result<Option<UserRow>, StoreError> {
        let row = sqlx::query(user_where!("tenant = $1 AND id = $2 AND disabled_ms IS NULL"))
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(user_row).transpose()
    }

    pub async fn user_by_extension(&self, tenant: &TenantId, extension: &str) -> Result<Option<UserRow>, StoreError> {
        let row = sqlx::query(user_where!("tenant = $1 AND extension = $2 AND disabled_ms IS NULL"))
            .bind(tenant.as_str())
            .bind(extension)
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(user_row).transpose()
    }

    /// Gives a number to a user; one that the tenant has already moves to this user. A move says nothing about
    /// recording: what was set stays until it is set anew.
    pub async fn put_number(&self, tenant: &TenantId, number: &NewNumber) -> Result<(), StoreError> {
        self.user(tenant, &number.user).await?.ok_or(StoreError::Missing("user"))?;
        let (mode, says) = match number.recording {
            NumberRecording::Keep => (None, false),
            NumberRecording::Inherit => (None, true),
            NumberRecording::Set(mode) => (Some(mode.as_str().to_owned()), true),
        };
        sqlx::query(
            "INSERT INTO number (tenant, number, user_id, recording_mode, created_ms) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (tenant, number) DO UPDATE SET user_id = excluded.user_id, \
             recording_mode = CASE WHEN $6 = 1 THEN excluded.recording_mode ELSE number.recording_mode END",
        )
        .bind(tenant.as_str())
        .bind(number.number.e164())
        .bind(number.user.as_str())
        .bind(mode)
        .bind(i64_of(number.created.0))
        .bind(i64::from(says))
        .execute(&self.write)
        .await?;
        Ok(())
    }

    pub async fn numbers(&self, tenant: &TenantId) -> Result<Vec<NumberRow>, StoreError> {
        let rows = sqlx::query("SELECT number, user_id, recording_mode FROM number WHERE tenant = $1 ORDER BY number")
            .bind(tenant.as_str())
            .fetch_all(&self.read)
            .await?;
        rows.iter().map(number_row).collect()
    }

    pub async fn number(&self, tenant: &TenantId, number: &PhoneNumber) -> Result<Option<NumberRow>, StoreError> {
        let row = sqlx::query("SELECT number, user_id, recording_mode FROM number WHERE tenant = $1 AND number = $2")
            .bind(tenant.as_str())
            .bind(number.e164())
            .fetch_optional(&self.read)
            .await?;
        row.as_ref().map(number_row).transpose()
    }

    pub async fn add_api_key(
        &self,
        key: &ApiKeyRow,
        prefix: &str,
        hash: &str,
        created: UnixMs,
    ) -> Result<(), StoreError> {
        self.tenant(&key.tenant).await?.ok_or(StoreError::Missing("tenant"))?;
        sqlx::query("INSERT INTO api_key (tenant, id, name, prefix, hash, created_ms) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .bind(key.name.as_str())
            .bind(prefix)
            .bind(hash)
            .bind(i64_of(created.0))
            .execute(&self.write)
            .await
            .map_err(taken("this key"))?;
        Ok(())
    }

    /// The tenant's keys that open something.
    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<StoredKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, name, prefix, created_ms FROM api_key WHERE tenant = $1 AND revoked_ms IS NULL \
             ORDER BY created_ms, id",
        )
        .bind(tenant.as_str())
        .fetch_all(&self.read)
        .await?;
        let key = |row: &AnyRow| {
            Ok(StoredKey {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                prefix: row.try_get("prefix")?,
                created: ms(row.try_get("created_ms")?),
            })
        };
        rows.iter().map(key).collect()
    }

    /// From now on the key opens nothing. What it did stays in the audit lines.
    pub async fn revoke_api_key(&self, tenant: &TenantId, id: &str, now: UnixMs) -> Result<(), StoreError> {
        let revoked =
            sqlx::query("UPDATE api_key SET revoked_ms = $3 WHERE tenant = $1 AND id = $2 AND revoked_ms IS NULL")
                .bind(tenant.as_str())
                .bind(id)
                .bind(i64_of(now.0))
                .execute(&self.write)
                .await?;
        if revoked.rows_affected() == 0 { Err(StoreError::Missing("key")) } else { Ok(()) }
    }

    /// The hash of 256 random bits names its key and its tenant.
    pub async fn api_key_by_hash(&self, hash: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        let row = sqlx::query("SELECT tenant, id, name FROM api_key WHERE hash = $1 AND revoked_ms IS NULL")
            .bind(hash)
            .fetch_optional(&self.read)
            .await?;
        row.map(|row| {
            Ok(ApiKeyRow {
                tenant: parsed(&row, "tenant", |t| TenantId::parse(t).ok())?,
                id: row.try_get("id")?,
                name: row.try_get("name")?,
            })
        })
        .transpose()
    }
}

fn number_row(row: &AnyRow) -> Result<NumberRow, StoreError> {
    Ok(NumberRow {
        number: parsed(row, "number", |t| PhoneNumber::try_from(t.to_owned()).ok())?,
        user: UserId::new(row.try_get::<String, _>("user_id")?),
        recording: parsed_opt(row, "recording_mode", RecordingMode::parse)?,
    })
}
