//! What can be typed.
use clap::{Args, Parser, Subcommand};
use offhook_contract::TenantId;
use offhook_control::admin::{NumberRecording, RecordingMode};
use std::path::PathBuf;

/// Self-hosted telephony: browsers, SIP trunks, recording with consent.
///
/// `offhook up --dev` starts everything on this machine, with data and secrets under ./data,
/// and prints the softphone's address.
#[derive(Debug, Parser)]
#[command(name = "offhook", disable_version_flag = true, verbatim_doc_comment)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// The configuration [default: offhook.toml in this directory, if there is one]
    #[arg(long, value_name = "FILE", env = "OFFHOOK_CONFIG", hide_env_values = true, global = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs every daemon in this one process
    Up {
        /// For trying things out: two users with one-click sign-in
        #[arg(long)]
        dev: bool,
    },
    /// Runs the SFU alone, over NATS
    Sfu {
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Runs the TURN server alone, over NATS; or prints credentials for it
    ///
    /// For a turnserver.conf of coturn there is offhook-turn -c turnserver.conf.
    #[command(args_conflicts_with_subcommands = true)]
    Turn {
        #[command(subcommand)]
        command: Option<TurnCommand>,
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Runs the SIP gateway alone, over NATS
    Sip {
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Runs the recorder alone, over NATS
    Recorder {
        #[arg(long, hide = true)]
        dev: bool,
    },
    /// Runs call-control alone, over NATS
    Control {
        /// For trying things out: two users with one-click sign-in
        #[arg(long)]
        dev: bool,
    },
    /// Checks or prints the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Organisations: each has its own users, numbers, calls and recordings
    Tenant {
        #[command(subcommand)]
        command: TenantCommand,
    },
    /// People who can sign in, and their extensions
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Telephone numbers of a trunk, and whom they ring
    Number {
        #[command(subcommand)]
        command: NumberCommand,
    },
    /// Tokens of users, and API keys of programs
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Prints the version
    Version,
}

#[derive(Debug, Subcommand)]
pub enum TurnCommand {
    /// Prints a user name and a password, as call-control gives them to browsers
    Credentials {
        /// For whom; quotas and revocation go by it
        #[arg(long, value_parser = turn_user)]
        user: String,
        /// How many seconds they are good for
        #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
        ttl: u64,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Reads everything as the daemons would, and names every mistake
    Check,
    /// Prints what is set by file and environment, secrets as ***
    Print,
}

#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Adds a tenant
    Add {
        /// A short word for configuration and command line, such as "acme"
        id: String,
        /// As people read it
        #[arg(long)]
        name: Option<String>,
        /// Which calls are recorded: off, on_answer or on_demand
        #[arg(long, default_value = "off", value_parser = recording)]
        recording: RecordingMode,
    },
    /// Changes a tenant; what is not named stays as it is
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        /// The tenant's id
        id: TenantId,
        /// Which calls are recorded: off, on_answer or on_demand
        #[arg(long, group = "change", value_parser = recording)]
        recording: Option<RecordingMode>,
        /// Calls leave the log this many days after they began; or "forever"
        ///
        /// Holds for calls that begin from now on, and only for those of which no recording has files.
        /// Files of recordings are not removed.
        #[arg(long, group = "change", value_name = "DAYS", value_parser = days, verbatim_doc_comment)]
        keep_calls_days: Option<Keep>,
    },
    /// Lists the tenants
    List,
}

#[derive(Debug, Args)]
pub struct OfTenant {
    /// The tenant's id
    #[arg(long, value_name = "ID")]
    pub tenant: TenantId,
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Adds a user; the password is read from standard input
    Add {
        #[command(flatten)]
        of: OfTenant,
        /// With this the user signs in
        login: String,
        /// 2 to 6 digits
        #[arg(long)]
        extension: String,
        /// As others see it [default: the login]
        #[arg(long)]
        name: Option<String>,
        /// The user cannot sign in with a password
        #[arg(long)]
        no_password: bool,
        /// May change the tenant's settings, such as which calls are recorded
        #[arg(long)]
        admin: bool,
    },
    /// Changes a user; what is not named stays as it is
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
    Set {
        #[command(flatten)]
        of: OfTenant,
        /// Whom, as the user signs in
        login: String,
        /// May change the tenant's settings
        #[arg(long, group = "change", conflicts_with = "no_admin")]
        admin: bool,
        /// May not, from now on
        #[arg(long, group = "change")]
        no_admin: bool,
        /// Reads a new password from standard input and ends every sign-in
        #[arg(long, group = "change")]
        password: bool,
        /// Ends every sign-in and closes the pages; nobody can reach the user
        #[arg(long, group = "change", conflicts_with = "enable")]
        disable: bool,
        /// The user may sign in again
        #[arg(long, group = "change")]
        enable: bool,
    },
    /// Lists a tenant's users
    List {
        #[command(flatten)]
        of: OfTenant,
    },
}

#[derive(Debug, Subcommand)]
pub enum NumberCommand {
    /// Gives a number to a user: calls to it ring there from now on
    Add {
        #[command(flatten)]
        of: OfTenant,
        /// With + and country code, such as +493012345
        number: String,
        /// Login or extension
        #[arg(long)]
        user: String,
        /// Beats the tenant's setting: off, on_answer or on_demand; inherit follows it again
        ///
        /// Without this a number that is there keeps what it has, and a new one follows the tenant.
        #[arg(long, value_parser = number_recording, verbatim_doc_comment)]
        recording: Option<NumberRecording>,
    },
    /// Lists a tenant's numbers
    List {
        #[command(flatten)]
        of: OfTenant,
    },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a short-lived access token of a user; it is shown once
    User {
        /// Whose, as the user signs in
        login: String,
    },
    /// Makes an API key of a tenant, good until it is revoked; it is shown once
    Key {
        #[command(flatten)]
        of: OfTenant,
        /// What it is for
        #[arg(long)]
        name: String,
    },
    /// Lists a tenant's API keys: id, first letters, name
    List {
        #[command(flatten)]
        of: OfTenant,
    },
    /// Takes an API key back: it opens nothing from now on
    Revoke {
        #[command(flatten)]
        of: OfTenant,
        /// As `offhook token list` shows it
        id: String,
    },
}

fn turn_user(text: &str) -> Result<String, String> {
    let fine = (1..=128).contains(&text.len()) && !text.contains(|c: char| c == ':' || c.is_control());
    if fine { Ok(text.to_owned()) } else { Err("expected 1 to 128 bytes without a colon".to_owned()) }
}

fn recording(text: &str) -> Result<RecordingMode, String> {
    RecordingMode::parse(text).ok_or_else(|| "expected off, on_answer or on_demand".to_owned())
}

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep(pub Option<u32>);

fn days(text: &str) -> Result<Keep, String> {
    match (text, text.parse()) {
        ("forever", _) => Ok(Keep(None)),
        (_, Ok(days @ 1..=36_500)) => Ok(Keep(Some(days))),
        _ => Err("expected 1 to 36500, or forever".to_owned()),
    }
}

fn number_recording(text: &str) -> Result<NumberRecording, String> {
    match (text, RecordingMode::parse(text)) {
        ("inherit", _) => Ok(NumberRecording::Inherit),
        (_, Some(mode)) => Ok(NumberRecording::Set(mode)),
        (_, None) => Err("expected off, on_answer, on_demand or inherit".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_and_every_option_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{} {} says nothing", command.get_name(), argument.get_id());
            }
            for subcommand in command.get_subcommands() {
                check(subcommand);
            }
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_the_command() {
        for line in [["offhook", "--config", "a.toml", "up"], ["offhook", "up", "--config", "a.toml"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap().config, Some("a.toml".into()));
        }
    }
}
