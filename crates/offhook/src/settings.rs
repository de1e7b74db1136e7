//! `offhook config check|print`.
use anyhow::Result;
use offhook_runtime::{ConfigError, ConfigFile, Daemon};
use std::path::Path;
use std::process::ExitCode;

/// One line for each mistake; all of them, not only the first.
pub fn check(path: Option<&Path>) -> Result<ExitCode> {
    let config = ConfigFile::load(path)?;
    let mistakes = mistakes(&config);
    for mistake in &mistakes {
        eprintln!("{mistake}");
    }
    for lack in unreadable(&config) {
        eprintln!("warning: {lack}");
    }
    if mistakes.is_empty() {
        println!("{}: fine", config.name());
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::FAILURE)
}

pub fn print(path: Option<&Path>) -> Result<ExitCode> {
    print!("{}", ConfigFile::load(path)?.redacted());
    Ok(ExitCode::SUCCESS)
}

/// Certificate files that cannot be used here and now: the daemons may run elsewhere, or under another user.
fn unreadable(config: &ConfigFile) -> Vec<String> {
    let mut lacks = Vec::new();
    if let Ok(tls) = config.tls() {
        for (key, path) in [("certificate", tls.certificate), ("key", tls.key)] {
            if let Some(Err(error)) = path.as_ref().map(std::fs::File::open) {
                lacks.push(format!("tls.{key} = {:?}: {error}", path.unwrap_or_default()));
            }
        }
    }
    let turn = offhook_turn::TurnDaemon::config(config);
    if let (true, Ok(turn)) = (lacks.is_empty(), turn) {
        lacks.extend(turn.check_certificate().err().map(|why| format!("[turn]: {why}")));
    }
    lacks
}

type Check = fn(&ConfigFile) -> Result<(), ConfigError>;

/// Every section as the one who needs it reads it.
const CHECKS: [Check; 10] = [
    |c| c.runtime().map(drop),
    |c| c.net().map(drop),
    |c| c.tls().map(drop),
    |c| c.storage().map(drop),
    |c| c.bus().map(drop),
    |c| offhook_sfu::SfuDaemon::config(c).map(drop),
    |c| offhook_turn::TurnDaemon::config(c).map(drop),
    |c| offhook_sip::SipGateway::config(c).map(drop),
    |c| offhook_recorder::Recorder::config(c).map(drop),
    |c| offhook_control::Control::config(c).map(drop),
];

fn mistakes(config: &ConfigFile) -> Vec<ConfigError> {
    let mut mistakes: Vec<ConfigError> = Vec::new();
    for mistake in CHECKS.iter().filter_map(|check| check(config).err()) {
        // Several daemons read the shared sections.
        if mistakes.iter().all(|known| known.to_string() != mistake.to_string()) {
            mistakes.push(mistake);
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_contract::DaemonKind;
    use offhook_runtime::health_port;

    /// Each form's sample, and whose health port is its default.
    const SAMPLES: [(&str, Option<DaemonKind>); 6] = [
        ("offhook", None),
        ("control", Some(DaemonKind::Control)),
        ("sfu", Some(DaemonKind::Sfu)),
        ("turn", Some(DaemonKind::Turn)),
        ("sip", Some(DaemonKind::Sip)),
        ("recorder", Some(DaemonKind::Recorder)),
    ];

    /// Keys whose commented lines are examples; threads depend on the machine.
    const EXAMPLES: [&str; 18] = [
        "acme_ca_file",
        "acme_contact",
        "acme_directory",
        "acme_domains",
        "advertised",
        "ca_file",
        "certificate",
        "directory",
        "key",
        "media_threads",
        "node",
        "numbers",
        "public_addresses",
        "secrets",
        "threads",
        "urls",
        "username",
        "users",
    ];

    /// Everything as the daemons read it.
    fn shown(name: &str, text: &str) -> String {
        let config = ConfigFile::parse(name, text, []).unwrap();
        let common = (config.runtime().unwrap(), config.net().unwrap(), config.tls().unwrap());
        let stored = (config.storage().unwrap(), config.bus().unwrap());
        let daemons = (
            offhook_sfu::SfuDaemon::config(&config).unwrap(),
            offhook_turn::TurnDaemon::config(&config).unwrap(),
            offhook_sip::SipGateway::config(&config).unwrap(),
            offhook_recorder::Recorder::config(&config).unwrap(),
            offhook_control::Control::config(&config).unwrap(),
        );
        // Whether it was written down where TURN listens is no value of a key.
        format!("{common:?} {stored:?} {daemons:?}").replace("says_where: true", "says_where: false")
    }

    fn key_of(line: &str) -> Option<&str> {
        let key = line.strip_prefix('#')?.split_once(" = ")?.0;
        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
    }

    #[test]
    fn the_trunk_in_the_readme_is_accepted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (_, sample) = readme.split_once("```toml\n").unwrap();
        let (sample, _) = sample.split_once("```").unwrap();
        let config = ConfigFile::parse("README.md", sample, []).unwrap();
        assert!(mistakes(&config).is_empty(), "{:?}", mistakes(&config));
        let trunks = offhook_sip::SipGateway::config(&config).unwrap().trunks;
        assert!(trunks.len() == 1 && trunks[0].emergency && trunks[0].registration.is_some());
    }

    #[test]
    fn certificate_files_that_cannot_be_read_are_named() {
        offhook_runtime::install_crypto_provider();
        let lacks = |text: &str| unreadable(&ConfigFile::parse("offhook.toml", text, []).unwrap()).join("\n");
        assert_eq!(lacks(""), "");
        let shared = lacks("[tls]\ncertificate = \"/nowhere/chain.pem\"\nkey = \"/nowhere/key.pem\"\n");
        assert!(shared.contains("tls.certificate = \"/nowhere/chain.pem\": No such file"), "{shared}");
        assert!(shared.contains("tls.key = ") && shared.lines().count() == 2, "{shared}");
        let own = "[turn]\ncertificate = \"/nowhere/turn.pem\"\nkey = \"/nowhere/key.pem\"\n";
        assert!(lacks(own).contains("[turn]: cannot read /nowhere/turn.pem"), "{}", lacks(own));
        assert_eq!(lacks(&format!("{own}tls = false\n")), "");
    }

    #[test]
    fn what_a_sample_shows_as_a_default_is_the_default() {
        let mut compared = 0;
        for (sample, kind) in SAMPLES {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../configs/{sample}.toml"));
            let text = std::fs::read_to_string(path).unwrap();
            // A whole trunk behind '#' is an example.
            let text = text.split_once("#[[trunk]]").map_or(text.as_str(), |(before, _)| before);
            let lines: Vec<&str> = text.lines().collect();
            let default = shown(sample, text);
            for (at, line) in lines.iter().enumerate() {
                let Some(key) = key_of(line).filter(|key| !EXAMPLES.contains(key)) else { continue };
                compared += 1;
                if key == "health_listen" {
                    let address = health_port(kind);
                    assert!(line.contains(&format!("\"{address}\"")), "{sample}.toml: {line}; it is {address}");
                    continue;
                }
                let mut changed = lines.clone();
                changed[at] = line.strip_prefix('#').unwrap();
                let changed = changed.join("\n");
                assert_eq!(shown(sample, &changed), default, "{sample}.toml: {line}");
            }
        }
        assert!(compared > 60, "{compared}");
    }
}
