//! What the command line does with tenants, users, numbers and keys, beside a running call-control or without one.
use crate::config::{Certificate, Config};
use crate::passwords;
use crate::secrets::{SecretError, random};
use crate::store::{ApiKeyRow, NewNumber, NewUser, Store, StoreError, StoredKey, TenantRow, UserChange};
pub use crate::store::{NumberRecording, NumberRow, UserRow};
use crate::tokens::{self, Tokens};
use offhook_bus::{new_message_id, wall_now};
use offhook_contract::dial::NumberError;
use offhook_contract::{DialRules, PhoneNumber, Secret, TenantId};
pub use offhook_control_core::RecordingMode;
use offhook_control_core::UserId;
use offhook_runtime::ConfigFile;
use std::net::SocketAddr;
use std::path::Path;

pub const DEV_TENANT: &str = "dev";
/// Login, name, extension.
const DEV_USERS: [(&str, &str, &str); 2] = [("alice", "Alice", "101"), ("bob", "Bob", "102")];

/// What `--dev` signs in with one click.
#[derive(Debug, Clone)]
pub struct DevTenant {
    pub id: TenantId,
    /// By extension; with those who are disabled.
    pub users: Vec<UserRow>,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Password(#[from] passwords::PasswordError),
    #[error("{0}")]
    Invalid(String),
    #[error("there is no such tenant: {0} (offhook tenant list names those that there are)")]
    NoTenant(TenantId),
    #[error("there is no such user: {0}")]
    NoUser(String),
    #[error("{login} is disabled (offhook user set --tenant {tenant} {login} --enable)")]
    Disabled { tenant: TenantId, login: String },
    #[error("{number}: {why}; it is written with + and country code, such as +493012345")]
    Number { number: String, why: NumberError },
    #[error("no token can be made")]
    Token,
}

/// The database of a call-control, for administration.
pub struct Admin {
    store: Store,
    /// They are dialled as such before anything else: an extension of the same digits could never be called.
    emergency_numbers: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct UserWish {
    pub login: String,
    pub name: String,
    pub extension: String,
    /// Absent: the user cannot sign in with a password.
    pub password: Option<String>,
    /// May change what concerns everybody of the tenant.
    pub admin: bool,
}

/// What is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct UserEdit {
    pub admin: Option<bool>,
    pub password: Option<String>,
    pub disabled: Option<bool>,
}

impl Admin {
    /// `data_dir` is call-control's own directory (`<storage.data_dir>/control`); `url` is `[storage] database_url`.
    pub async fn open(url: &Secret, data_dir: &Path) -> Result<Self, AdminError> {
        Ok(Self::over(Store::open(url, data_dir).await?))
    }

    /// The same for the database that a configuration names.
    pub async fn for_config(file: &ConfigFile) -> Result<Self, AdminError> {
        let storage = file.storage().map_err(|e| AdminError::Invalid(e.to_string()))?;
        let data_dir = storage.data_dir.join("control");
        std::fs::create_dir_all(&data_dir).map_err(|source| SecretError::File { path: data_dir.clone(), source })?;
        let emergency_numbers = file.dial().map_err(|e| AdminError::Invalid(e.to_string()))?.rules.emergency_numbers;
        Ok(Self { emergency_numbers, ..Self::open(&storage.database_url, &data_dir).await? })
    }

    pub(crate) fn over(store: Store) -> Self {
        Self { store, emergency_numbers: DialRules::default().emergency_numbers }
    }

    pub async fn add_tenant(&self, id: &str, name: &str, recording: RecordingMode) -> Result<TenantRow, AdminError> {
        let id = TenantId::parse(id).map_err(|e| AdminError::Invalid(e.to_string()))?;
        let tenant = TenantRow { id, name: short("name", name)?, recording };
        self.store.add_tenant(&tenant, wall_now()).await?;
        Ok(tenant)
    }

    pub async fn tenants(&self) -> Result<Vec<TenantRow>, AdminError> {
        Ok(self.store.tenants().await?)
    }

    async fn known(&self, tenant: &TenantId) -> Result<(), AdminError> {
        self.store.tenant(tenant).await?.map(drop).ok_or_else(|| AdminError::NoTenant(tenant.clone()))
    }

    /// Of all tenants, with those who are disabled.
    async fn everybody(&self) -> Result<Vec<UserRow>, AdminError> {
        let mut all = Vec::new();
        for tenant in self.store.tenants().await? {
            all.extend(self.store.all_users(&tenant.id).await?);
        }
        Ok(all)
    }

    pub async fn add_user(&self, tenant: &TenantId, wish: UserWish) -> Result<UserRow, AdminError> {
        self.known(tenant).await?;
        let extension = wish.extension.trim().to_owned();
        if !(2..=6).contains(&extension.len()) || !extension.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AdminError::Invalid("an extension has 2 to 6 digits".to_owned()));
        }
        if self.emergency_numbers.contains(&extension) {
            let why = "is an emergency number (dial.emergency_numbers): whoever dials it calls for help, not this user";
            return Err(AdminError::Invalid(format!("{extension} {why}; choose another extension")));
        }
        let login = short("login", &wish.login)?;
        let password_hash = match wish.password {
            Some(password) => Some(passwords::hash(password).await?),
            None => None,
        };
        let id = UserId::new(new_message_id().as_str());
        let name = short("name", &wish.name)?;
        let admin = wish.admin;
        let user = NewUser { id: id.clone(), login, name, extension, password_hash, admin, created: wall_now() };
        self.store.add_user(tenant, &user).await?;
        self.store.user(tenant, &id).await?.ok_or(AdminError::Store(StoreError::Missing("user")))
    }

    /// With those who are disabled.
    pub async fn users(&self, tenant: &TenantId) -> Result<Vec<UserRow>, AdminError> {
        self.known(tenant).await?;
        Ok(self.store.all_users(tenant).await?)
    }

    /// A running call-control refuses a disabled user's tokens from the next request on, and closes his pages.
    pub async fn change_user(&self, tenant: &TenantId, login: &str, edit: UserEdit) -> Result<UserRow, AdminError> {
        let users = self.users(tenant).await?;
        let user = users.iter().find(|u| u.login == login).ok_or_else(|| AdminError::NoUser(login.to_owned()))?;
        let password_hash = match edit.password {
            Some(password) => Some(passwords::hash(password).await?),
            None => None,
        };
        let change = UserChange { admin: edit.admin, password_hash, disabled: edit.disabled };
        self.store.change_user(tenant, &user.id, &change, wall_now()).await?;
        let changed = self.store.all_users(tenant).await?.into_iter().find(|u| u.id == user.id);
        changed.ok_or(AdminError::Store(StoreError::Missing("user")))
    }

    /// Calls to `number` ring this user (login or extension) from now on; also what it was before, if the tenant had it.
    pub async fn put_number(
        &self,
        tenant: &TenantId,
        number: &str,
        wished: &str,
        recording: NumberRecording,
    ) -> Result<(NumberRow, Option<NumberRow>), AdminError> {
        let plain = number.replace([' ', '-', '(', ')', '.'], "");
        let number =
            PhoneNumber::try_from(plain).map_err(|why| AdminError::Number { number: number.to_owned(), why })?;
        let users = self.users(tenant).await?;
        let user = users.iter().find(|u| u.login == wished || u.extension == wished);
        let user = user.ok_or_else(|| AdminError::NoUser(wished.to_owned()))?;
        if user.disabled {
            return Err(AdminError::Disabled { tenant: tenant.clone(), login: user.login.clone() });
        }
        let former = self.store.number(tenant, &number).await?;
        let new = NewNumber { number: number.clone(), user: user.id.clone(), recording, created: wall_now() };
        self.store.put_number(tenant, &new).await?;
        let stored = self.store.number(tenant, &number).await?.ok_or(StoreError::Missing("number"))?;
        Ok((stored, former))
    }

    pub async fn numbers(&self, tenant: &TenantId) -> Result<Vec<NumberRow>, AdminError> {
        self.known(tenant).await?;
        Ok(self.store.numbers(tenant).await?)
    }

    /// How long the tenant's calls stay in the log; `None` is for ever.
    pub async fn keep_calls(&self, tenant: &TenantId, days: Option<u32>) -> Result<(), AdminError> {
        self.known(tenant).await?;
        Ok(self.store.set_call_retention(tenant, days).await?)
    }

    pub async fn set_recording_mode(&self, tenant: &TenantId, mode: RecordingMode) -> Result<(), AdminError> {
        self.known(tenant).await?;
        Ok(self.store.set_recording_mode(tenant, mode).await?)
    }

    /// A new API key of the tenant, shown this once.
    pub async fn create_api_key(&self, tenant: &TenantId, name: &str) -> Result<Secret, AdminError> {
        self.known(tenant).await?;
        let (key, prefix) = tokens::new_api_key()?;
        let id = tokens::hex(&random::<8>()?);
        let row = ApiKeyRow { tenant: tenant.clone(), id, name: short("name", name)? };
        self.store.add_api_key(&row, &prefix, &tokens::hash(&key), wall_now()).await?;
        Ok(Secret::new(key))
    }

    pub async fn api_keys(&self, tenant: &TenantId) -> Result<Vec<StoredKey>, AdminError> {
        self.known(tenant).await?;
        Ok(self.store.api_keys(tenant).await?)
    }

    /// A running call-control refuses the key from its next request on.
    pub async fn revoke_api_key(&self, tenant: &TenantId, id: &str) -> Result<(), AdminError> {
        Ok(self.store.revoke_api_key(tenant, id, wall_now()).await?)
    }

    /// A short-lived access token of a user, signed with the key in `data_dir`.
    pub async fn create_token(&self, login: &str, data_dir: &Path) -> Result<Secret, AdminError> {
        let found = self.everybody().await?.into_iter().find(|user| user.login == login);
        let user = found.ok_or_else(|| AdminError::NoUser(login.to_owned()))?;
        if user.disabled {
            return Err(AdminError::Disabled { tenant: user.tenant, login: user.login });
        }
        let tokens = Tokens::open(data_dir, tokens::MAX_ACCESS_TOKEN_S)?;
        let token = tokens.issue(&user.tenant, &user.id, wall_now()).map_err(|_| AdminError::Token)?;
        Ok(Secret::new(token))
    }

    /// The tenant and users of `--dev`; what is there already stays as it is, and so does who is disabled.
    pub async fn seed_dev(&self) -> Result<DevTenant, AdminError> {
        let tenant = TenantId::parse(DEV_TENANT).map_err(|e| AdminError::Invalid(e.to_string()))?;
        if self.store.tenant(&tenant).await?.is_none() {
            let row =
                TenantRow { id: tenant.clone(), name: "Development".to_owned(), recording: RecordingMode::OnDemand };
            self.store.add_tenant(&row, wall_now()).await?;
        }
        let there = self.store.all_users(&tenant).await?;
        for (n, (login, name, extension)) in DEV_USERS.into_iter().enumerate() {
            if there.iter().all(|user| user.extension != extension) {
                let login = self.free_login(login).await?;
                let (name, extension) = (name.into(), extension.into());
                let wish = UserWish { login, name, extension, password: None, admin: n == 0 };
                self.add_user(&tenant, wish).await?;
            }
        }
        let mut users = self.store.all_users(&tenant).await?;
        users.retain(|user| DEV_USERS.iter().any(|(.., extension)| user.extension == *extension));
        Ok(DevTenant { id: tenant, users })
    }

    /// Logins are unique among all tenants: where one has taken `wished`, it is another one.
    async fn free_login(&self, wished: &str) -> Result<String, AdminError> {
        let everybody = self.everybody().await?;
        let others = (1u32..).map(|n| if n == 1 { format!("{wished}-dev") } else { format!("{wished}-dev{n}") });
        let free = std::iter::once(wished.to_owned())
            .chain(others)
            .find(|login| everybody.iter().all(|user| user.login != *login));
        Ok(free.unwrap_or_else(|| wished.to_owned()))
    }

    /// Gives each number of the dev tenant's trunks to the first user, so that a `[[trunk]]` can be called at once.
    pub async fn seed_dev_numbers(&self, tenant: &TenantId, numbers: &[PhoneNumber]) -> Result<(), AdminError> {
        let (_, _, extension) = DEV_USERS[0];
        let Some(user) = self.store.user_by_extension(tenant, extension).await? else { return Ok(()) };
        for number in numbers {
            if self.store.number(tenant, number).await?.is_none() {
                let (number, recording) = (number.clone(), NumberRecording::Keep);
                let new = NewNumber { number, user: user.id.clone(), recording, created: wall_now() };
                self.store.put_number(tenant, &new).await?;
            }
        }
        Ok(())
    }

    /// Users whose extension one of `emergency` is: they cannot be called by it.
    pub(crate) async fn hidden_users(&self, emergency: &[String]) -> Result<Vec<UserRow>, AdminError> {
        let mut hidden = self.everybody().await?;
        hidden.retain(|user| !user.disabled && emergency.contains(&user.extension));
        Ok(hidden)
    }

    pub async fn close(&self) {
        self.store.close().await;
    }
}

fn short(what: &str, text: &str) -> Result<String, AdminError> {
    let text = text.trim();
    let fine = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fine { Ok(text.to_owned()) } else { Err(AdminError::Invalid(format!("a {what} has 1 to 64 characters"))) }
}

/// What the person who started the process reads about the pages, once they are served at `addresses`.
pub fn banner(config: &Config, addresses: &[SocketAddr], dev: Option<&DevTenant>) -> Vec<String> {
    let scheme = if matches!(config.certificate, Certificate::Plain) { "http" } else { "https" };
    let mut lines: Vec<String> = addresses.iter().map(|a| format!("Softphone and API: {scheme}://{a}/")).collect();
    if let Some(dev) = dev {
        for UserRow { name, extension, login, disabled, .. } in &dev.users {
            let state = match disabled {
                false => "signs in with one click (only under --dev)".to_owned(),
                true => format!("disabled (offhook user set --tenant {} {login} --enable)", dev.id),
            };
            lines.push(format!("{name}, extension {extension}: {state}"));
        }
        lines.push("Dial *43 for the echo test".to_owned());
    }
    for trunk in &config.policy.trunks {
        lines.push(format!("Telephone numbers are dialled over trunk {} (tenant {})", trunk.name, trunk.tenant));
    }
    lines
}
