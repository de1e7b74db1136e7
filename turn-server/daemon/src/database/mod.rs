//! coturn's user database, in SQLite or PostgreSQL: read, never written.
//!
//! Users, secrets, peer ranges and limits of our realm, and peer ranges of every realm. coturn asks its database at each
//! login; here it is read as a whole beside the relaying threads, again every few seconds and after a failed login, so
//! that a database that is slow or away delays nobody who is known. Who is not is looked up at the [`desk`].
mod connection;
mod desk;
mod kept;
mod watch;

pub use connection::DatabaseError;
pub(crate) use connection::Source;
pub(crate) use kept::Kept;
pub(crate) use watch::Poke;

use crate::plan::Plan;
use connection::Connection;
use desk::Desk;
use offhook_runtime::config::Turn;
use offhook_turn_core::conf::{Conf, Hidden};
use offhook_turn_core::{AddressRange, UserSecret, Users};
use std::sync::Arc;
use watch::Watch;

/// Of each table; what is more is left out, and said.
const ROWS_MAX: usize = 500_000;
/// Where coturn looks when nobody says: its own default, and its packagers'.
const DEFAULT_FILES: [&str; 4] =
    ["/var/lib/turn/turndb", "/var/db/turndb", "/usr/local/var/db/turndb", "/usr/local/var/lib/turn/turndb"];

/// Which database is read, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePlan {
    pub(crate) source: Source,
    realm: String,
    separator: char,
    /// Users come with `lt-cred-mech`, secrets with `use-auth-secret`.
    users: bool,
    secrets: bool,
}

impl DatabasePlan {
    pub(crate) fn of(conf: &Conf, realm: &str) -> Result<Option<Self>, DatabaseError> {
        let source = match (&conf.psql_userdb, conf.userdb.as_deref()) {
            (Some(text), _) => Source::postgres(&text.0)?,
            (None, Some("/dev/null") | None) => return Ok(None),
            (None, Some(path)) => Source::sqlite(path),
        };
        let secrets = conf.use_auth_secret || !conf.static_auth_secrets.is_empty();
        let users = conf.lt_cred_mech || !secrets;
        Ok(Some(Self { source, realm: realm.to_owned(), separator: conf.rest_api_separator, users, secrets }))
    }

    /// Of `[turn] database_url`: users and secrets alike.
    pub(crate) fn native(turn: &Turn) -> Result<Option<Self>, String> {
        let text = turn.database_url.expose();
        if text.is_empty() {
            return Ok(None);
        }
        let path = text.strip_prefix("sqlite://").or(text.strip_prefix("sqlite:")).unwrap_or(text);
        let source = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Source::postgres(text).map_err(|error| match error {
                DatabaseError::Connection(why) => format!("\"postgres://user:password@host/name\"; {why}"),
                other => other.to_string(),
            })?
        } else if path.starts_with('/') {
            Source::sqlite(path)
        } else {
            return Err("the whole path of an SQLite file, or \"postgres://user:password@host/name\"".to_owned());
        };
        Ok(Some(Self { source, realm: turn.realm.clone(), separator: ':', users: true, secrets: true }))
    }

    pub(crate) async fn read(&self) -> Result<Rows, DatabaseError> {
        self.source.within(self.read_all()).await
    }

    /// Those of these names whom it has now, and every secret; `None` if there are neither.
    async fn find(&self, names: &[Box<str>]) -> Result<Option<Users>, DatabaseError> {
        let mut connection = Connection::open(&self.source).await?;
        let mut found = Users::new(&self.realm);
        found.set_separator(self.separator);
        for name in names.iter().filter(|_| self.users) {
            let key = connection.key(USER, &self.realm, name).await?;
            if let Some(key) = key.and_then(|key| UserSecret::from_hex(key.trim())) {
                found.add(name, key);
            }
        }
        if self.secrets {
            for (secret, _) in connection.pairs("turn_secret", SECRETS, &self.realm, &mut Vec::new()).await? {
                found.add_rest_secret(secret.as_bytes());
            }
        }
        connection.close().await;
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    async fn read_all(&self) -> Result<Rows, DatabaseError> {
        let mut connection = Connection::open(&self.source).await?;
        let mut rows = Rows::default();
        if self.users {
            for (name, key) in connection.pairs("turnusers_lt", USERS, &self.realm, &mut rows.remarks).await? {
                rows.add_user(name, key.trim());
            }
        }
        if self.secrets {
            let found = connection.pairs("turn_secret", SECRETS, &self.realm, &mut rows.remarks).await?;
            rows.secrets = found.into_iter().map(|(value, _)| Hidden(value)).collect();
        }
        for (name, sql) in [("allowed_peer_ip", ALLOWED), ("denied_peer_ip", DENIED)] {
            let found = connection.pairs(name, sql, &self.realm, &mut rows.remarks).await?;
            let ranges = found.iter().map(|(range, _)| {
                let range = range.trim();
                range.parse().map_err(|source| DatabaseError::Range { table: name, source })
            });
            let ranges: Vec<AddressRange> = ranges.collect::<Result<_, _>>()?;
            if name == "allowed_peer_ip" { rows.allowed = ranges } else { rows.denied = ranges }
        }
        for (option, value) in connection.pairs("turn_realm_option", OPTIONS, &self.realm, &mut rows.remarks).await? {
            rows.add_option(option.trim(), value.trim());
        }
        if !connection.pairs("turn_origin_to_realm", ORIGINS, &self.realm, &mut Vec::new()).await?.is_empty() {
            rows.remarks.push("turn_origin_to_realm does nothing here: there is one realm, whatever the origin".into());
        }
        connection.close().await;
        Ok(rows)
    }
}

/// Without `userdb`, the file that coturn would read, if it is there.
pub(crate) fn default_file() -> Option<&'static str> {
    DEFAULT_FILES.into_iter().find(|path| std::path::Path::new(path).is_file())
}

const USERS: &str = "SELECT CAST(name AS TEXT), COALESCE(CAST(hmackey AS TEXT), '') FROM turnusers_lt WHERE realm = $1 \
                     ORDER BY name LIMIT $2";
const USER: &str =
    "SELECT COALESCE(CAST(hmackey AS TEXT), '') FROM turnusers_lt WHERE realm = $1 AND name = $2 LIMIT 1";
const SECRETS: &str = "SELECT CAST(value AS TEXT), '' FROM turn_secret WHERE realm = $1 ORDER BY value LIMIT $2";
const ALLOWED: &str = "SELECT CAST(ip_range AS TEXT), '' FROM allowed_peer_ip WHERE realm = $1 OR realm = '' \
                       ORDER BY ip_range LIMIT $2";
const DENIED: &str = "SELECT CAST(ip_range AS TEXT), '' FROM denied_peer_ip WHERE realm = $1 OR realm = '' \
                      ORDER BY ip_range LIMIT $2";
const OPTIONS: &str = "SELECT CAST(opt AS TEXT), COALESCE(CAST(value AS TEXT), '') FROM turn_realm_option \
                       WHERE realm = $1 ORDER BY opt LIMIT $2";
const ORIGINS: &str = "SELECT CAST(origin AS TEXT), CAST($1 AS TEXT) FROM turn_origin_to_realm LIMIT ($2 - $2 + 1)";

/// What a database says for our realm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    pub users: Vec<(String, UserSecret)>,
    pub secrets: Vec<Hidden>,
    pub allowed: Vec<AddressRange>,
    pub denied: Vec<AddressRange>,
    pub max_bps: Option<u64>,
    pub total_quota: Option<u64>,
    pub user_quota: Option<u64>,
    /// Said when they change.
    pub remarks: Vec<String>,
    /// Where those are looked up who are not among them.
    pub(crate) desk: AtDesk,
}

/// No part of what the database says: where to ask, and whether users may be found there.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtDesk(Option<(Arc<Desk>, bool)>);

impl PartialEq for AtDesk {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for AtDesk {}

impl Rows {
    fn add_user(&mut self, name: String, key: &str) {
        match UserSecret::from_hex(key) {
            Some(key) => self.users.push((name, key)),
            None => self.remarks.push(format!("user {name:?} is passed over: the key is not 32 hexadecimal digits")),
        }
    }

    fn add_option(&mut self, option: &str, value: &str) {
        let place = match option {
            "max-bps" => &mut self.max_bps,
            "total-quota" => &mut self.total_quota,
            "user-quota" => &mut self.user_quota,
            _ => return self.remarks.push(format!("turn_realm_option {option:?} is not known")),
        };
        match value.parse() {
            Ok(number) => *place = Some(number),
            Err(_) => self.remarks.push(format!("turn_realm_option {option}={value:?} is no number")),
        }
    }

    /// Adds to a plan what the database says; its limits take the place of the file's.
    pub(crate) fn apply(&self, plan: &mut Plan) {
        let settings = &mut plan.settings;
        for (name, secret) in &self.users {
            // Who stands in the file too is who he is there.
            if !settings.users.knows(name) {
                settings.users.add(name, secret.clone());
            }
        }
        for secret in &self.secrets {
            settings.users.add_rest_secret(secret.0.as_bytes());
        }
        if let AtDesk(Some((desk, has_users))) = &self.desk {
            settings.elsewhere = Some(Arc::clone(desk) as _);
            if *has_users {
                settings.users.expect_md5_keys();
            }
        }
        settings.policy.allowed.extend(&self.allowed);
        settings.policy.denied.extend(&self.denied);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        if let Some(number) = self.max_bps {
            plan.limits.bytes_per_second = number;
        }
        if let Some(number) = self.total_quota {
            plan.limits.allocations = narrow(number);
        }
        if let Some(number) = self.user_quota {
            plan.limits.allocations_per_user = narrow(number);
        }
    }
}
