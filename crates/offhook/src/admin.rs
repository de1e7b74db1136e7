//! `offhook tenant|user|number|token`: beside a running call-control or without one, on the same database.
use crate::cli::{Keep, NumberCommand, TenantCommand, TokenCommand, UserCommand};
use crate::password;
use anyhow::{Context, Result};
use offhook_control::admin::{Admin, NumberRow, UserEdit, UserRow, UserWish};
use offhook_runtime::ConfigFile;
use std::path::Path;
use std::process::ExitCode;

pub fn tenant(path: Option<&Path>, command: TenantCommand) -> Result<ExitCode> {
    with_database(path, async |admin, _| match command {
        TenantCommand::Add { id, name, recording } => {
            let tenant = admin.add_tenant(&id, name.as_deref().unwrap_or(&id), recording).await?;
            println!("added {}", tenant.id);
            Ok(())
        }
        TenantCommand::Set { id, recording, keep_calls_days } => {
            if let Some(mode) = recording {
                admin.set_recording_mode(&id, mode).await?;
                println!("{id}: recording {}", mode.as_str());
            }
            if let Some(Keep(days)) = keep_calls_days {
                admin.keep_calls(&id, days).await?;
                let kept = days.map_or("for ever".to_owned(), |days| format!("for {days} days"));
                println!("{id}: calls that begin from now on are kept {kept}; files of recordings are not removed");
            }
            Ok(())
        }
        TenantCommand::List => {
            for tenant in admin.tenants().await? {
                println!("{:<24} {:<10} {}", tenant.id.as_str(), tenant.recording.as_str(), tenant.name);
            }
            Ok(())
        }
    })
}

pub fn user(path: Option<&Path>, command: UserCommand) -> Result<ExitCode> {
    with_database(path, async |admin, _| match command {
        UserCommand::Add { of, login, extension, name, no_password, admin: is_admin } => {
            let password = if no_password { None } else { Some(password::read()?) };
            let name = name.unwrap_or_else(|| login.clone());
            let wish = UserWish { login, name, extension, password, admin: is_admin };
            let user = admin.add_user(&of.tenant, wish).await?;
            println!("added {} with extension {}", user.login, user.extension);
            Ok(())
        }
        UserCommand::Set { of, login, admin: is_admin, no_admin, password, disable, enable } => {
            let either = |yes: bool, no: bool| (yes || no).then_some(yes);
            let password = if password { Some(password::read()?) } else { None };
            let edit = UserEdit { admin: either(is_admin, no_admin), password, disabled: either(disable, enable) };
            let user = admin.change_user(&of.tenant, &login, edit).await?;
            println!("changed {}: {}", user.login, role(&user));
            Ok(())
        }
        UserCommand::List { of } => {
            for user in admin.users(&of.tenant).await? {
                let sign_in = if user.password_hash.is_some() { "password" } else { "-" };
                let (extension, login, role) = (&user.extension, &user.login, role(&user));
                println!("{extension:<6} {login:<24} {sign_in:<9} {role:<15} {}", user.name);
            }
            Ok(())
        }
    })
}

const fn role(user: &UserRow) -> &'static str {
    match (user.admin, user.disabled) {
        (true, false) => "admin",
        (false, false) => "-",
        (true, true) => "admin, disabled",
        (false, true) => "disabled",
    }
}

pub fn number(path: Option<&Path>, command: NumberCommand) -> Result<ExitCode> {
    with_database(path, async |admin, _| match command {
        NumberCommand::Add { of, number, user, recording } => {
            let recording = recording.unwrap_or_default();
            let (given, former) = admin.put_number(&of.tenant, &number, &user, recording).await?;
            let users = admin.users(&of.tenant).await?;
            let extension_of = |row: &NumberRow| {
                users.iter().find(|u| u.id == row.user).map_or("-".to_owned(), |u| u.extension.clone())
            };
            let (number, mode, extension) = (given.number.e164(), shown_mode(&given), extension_of(&given));
            match former.as_ref().map(extension_of) {
                None => println!("added {number}, rings {extension}, recording {mode}"),
                Some(before) if before == extension => {
                    println!("{number} was there already, rings {extension}, recording {mode}");
                }
                Some(before) => println!("moved {number}: rings {extension}, no longer {before}, recording {mode}"),
            }
            Ok(())
        }
        NumberCommand::List { of } => {
            let users = admin.users(&of.tenant).await?;
            for row in admin.numbers(&of.tenant).await? {
                let extension = users.iter().find(|u| u.id == row.user).map_or("-", |u| u.extension.as_str());
                println!("{:<18} {:<6} {}", row.number.e164(), extension, shown_mode(&row));
            }
            Ok(())
        }
    })
}

fn shown_mode(number: &NumberRow) -> &'static str {
    number.recording.map_or("as the tenant", |mode| mode.as_str())
}

pub fn token(path: Option<&Path>, command: TokenCommand) -> Result<ExitCode> {
    with_database(path, async |admin, config| {
        let secret = match command {
            TokenCommand::List { of } => {
                for key in admin.api_keys(&of.tenant).await? {
                    println!("{:<18} {}…  {}", key.id, key.prefix, key.name);
                }
                return Ok(());
            }
            TokenCommand::Revoke { of, id } => {
                admin.revoke_api_key(&of.tenant, &id).await?;
                println!("revoked {id}");
                return Ok(());
            }
            TokenCommand::User { login } => {
                let data_dir = config.storage()?.data_dir.join("control");
                admin.create_token(&login, &data_dir).await?
            }
            TokenCommand::Key { of, name } => admin.create_api_key(&of.tenant, &name).await?,
        };
        println!("{}", secret.expose());
        Ok(())
    })
}

fn with_database(path: Option<&Path>, work: impl AsyncFnOnce(&Admin, &ConfigFile) -> Result<()>) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    offhook_runtime::install_crypto_provider();
    offhook_runtime::restrict_new_files();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let admin = Admin::for_config(&config).await.context("cannot open call-control's database")?;
        let outcome = work(&admin, &config).await;
        admin.close().await;
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}
