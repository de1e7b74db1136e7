//! The binary as an operator meets it: help, configuration, administration.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("[storage]\ndata_dir = \"{}\"\n", folder.path().join("data").display());
        std::fs::write(folder.path().join("offhook.toml"), text).unwrap();
        Self(folder)
    }

    /// Success, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        self.run_with(arguments, "", &[])
    }

    fn run_with(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> (bool, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_offhook"))
            .args(arguments)
            .envs(variables.iter().copied())
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Commands that read nothing have closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.success(), text(done.stdout), text(done.stderr))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[test]
fn help_and_version_need_no_configuration() {
    let folder = Folder::new();
    let (fine, help, _) = folder.run(&["--help"]);
    assert!(fine);
    for word in
        ["up", "sfu", "turn", "sip", "recorder", "control", "config", "tenant", "user", "number", "token", "version"]
    {
        assert!(help.lines().any(|l| l.trim_start().starts_with(word)), "{word} is missing in\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert_eq!(folder.run(&["version"]).1, format!("offhook {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn config_check_names_every_mistake_and_print_hides_secrets() {
    let folder = Folder::new();
    assert_eq!(folder.run(&["config", "check"]), (true, "offhook.toml: fine\n".into(), String::new()));
    let wrong = "[sfu]\nlegs_max = 0\n[control]\nring_timeout_s = 1\n[turn]\nurls = [\"turn:t\"]\nsecret = \"s3cret\"\n[[trunk]]\nname = \"t\"\ntenant = \"dev\"\naddress = \"192.0.2.1\"\npassword = \"hunter2\"\n";
    std::fs::write(folder.path("wrong.toml"), wrong).unwrap();
    let (fine, _, mistakes) = folder.run(&["config", "check", "--config", "wrong.toml"]);
    assert!(!fine);
    assert!(mistakes.contains("wrong.toml: sfu.legs_max = 0: 1 to 100000"), "{mistakes}");
    assert!(mistakes.contains("wrong.toml: control.ring_timeout_s = 1: 5 to 300"), "{mistakes}");
    let from = [("OFFHOOK__SFU__LEGS_MAX", "0")];
    let (_, _, mistakes) = folder.run_with(&["config", "check"], "", &from);
    assert!(mistakes.contains("environment OFFHOOK__SFU__LEGS_MAX: sfu.legs_max = 0"), "{mistakes}");
    let (fine, printed, _) = folder.run(&["config", "print", "--config", "wrong.toml"]);
    assert!(fine && printed.contains("password = \"***\"") && printed.contains("secret = \"***\""), "{printed}");
    assert!(!printed.contains("hunter2") && !printed.contains("s3cret"), "{printed}");
    let (fine, _, missing) = folder.run(&["config", "check", "--config", "nowhere.toml"]);
    assert!(!fine && missing.contains("nowhere.toml"), "{missing}");
}

#[test]
fn turn_credentials_are_minted_under_the_first_secret_or_the_one_that_the_server_made() {
    let folder = Folder::new();
    let asked = ["turn", "credentials", "--user", "bob", "--ttl", "900"];
    let (fine, _, why) = folder.run(&asked);
    assert!(!fine && why.contains("turn.secrets is not set"), "{why}");
    let check = |out: &str, secret: &[u8]| {
        let (name, password) = out.trim_end().split_once('\n').unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let expires: u64 = name.strip_suffix(":bob").unwrap().parse().unwrap();
        assert!((890..=900).contains(&(expires - now)), "{name}");
        assert_eq!(password, offhook_wire_stun::credentials::password(secret, name));
    };
    let (_, out, _) = folder.run_with(&asked, "", &[("OFFHOOK__TURN__SECRETS", "new\nold")]);
    check(&out, b"new");
    std::fs::create_dir(folder.path("data")).unwrap();
    let kept = folder.path("data").join("turn.secret");
    std::fs::write(&kept, "kept\n").unwrap();
    let mode = |mode| std::fs::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    assert!(folder.run(&asked).2.contains("chmod 600"));
    mode(0o600);
    check(&folder.run(&asked).1, b"kept");
    assert!(!folder.run(&["turn", "credentials", "--user", "a:b"]).0);
}

#[test]
fn a_tenant_its_user_its_number_and_its_tokens_are_made_and_listed() {
    let folder = Folder::new();
    let done = |arguments: &[&str], input: &str| {
        let (fine, out, err) = folder.run_with(arguments, input, &[]);
        assert!(fine, "{arguments:?}: {err}");
        out
    };
    let refused = |arguments: &[&str], input: &str| {
        let (fine, _, err) = folder.run_with(arguments, input, &[]);
        assert!(!fine, "{arguments:?}");
        err
    };
    done(&["tenant", "add", "acme", "--name", "Acme Ltd", "--recording", "on_demand"], "");
    assert!(done(&["tenant", "list"], "").contains("on_demand  Acme Ltd"));
    let user = ["user", "add", "--tenant", "acme", "carol", "--extension", "201"];
    assert!(refused(&user, "short\n").contains("at least 8"));
    done(&user, "a long password\n");
    let users = done(&["user", "list", "--tenant", "acme"], "");
    assert!(users.contains("201") && users.contains("carol") && users.contains("password"), "{users}");
    assert!(!users.contains("argon2"), "{users}");
    refused(&["user", "list", "--tenant", "nobody"], "");
    done(&["number", "add", "--tenant", "acme", "+493012345", "--user", "carol"], "");
    assert!(done(&["number", "list", "--tenant", "acme"], "").contains("+493012345"));
    refused(&["number", "add", "--tenant", "acme", "+493099999", "--user", "nobody"], "");
    let dave = ["user", "add", "--tenant", "acme", "dave", "--extension", "202", "--no-password", "--admin"];
    done(&dave, "");
    let users = done(&["user", "list", "--tenant", "acme"], "");
    let admins = users.lines().filter(|l| l.contains("admin")).collect::<Vec<_>>();
    assert!(admins.len() == 1 && admins[0].contains("dave"), "{users}");
    let help = refused(&["user", "add", "--tenant", "acme", "eve", "--extension", "112", "--no-password"], "");
    assert!(help.contains("112 is an emergency number"), "{help}");
    assert!(done(&["token", "user", "carol"], "").trim().len() > 40);
    assert!(done(&["token", "key", "--tenant", "acme", "--name", "crm"], "").trim().len() > 20);
    let keys = done(&["token", "list", "--tenant", "acme"], "");
    assert!(keys.lines().count() == 1 && keys.contains("ohk_") && keys.trim().ends_with("crm"), "{keys}");
    let id = keys.split_whitespace().next().unwrap();
    assert_eq!(done(&["token", "revoke", "--tenant", "acme", id], ""), format!("revoked {id}\n"));
    assert_eq!(done(&["token", "list", "--tenant", "acme"], ""), "");
    assert!(refused(&["token", "revoke", "--tenant", "acme", id], "").contains("no such key"));
    refused(&["token", "user", "nobody"], "");
}

#[test]
fn a_number_that_moves_keeps_its_recording_setting_until_another_is_named() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme", "--recording", "on_answer"]).0);
    for (login, extension) in [("carol", "201"), ("dave", "202")] {
        let line = ["user", "add", "--tenant", "acme", login, "--extension", extension, "--no-password"];
        assert!(folder.run(&line).0);
    }
    let give = |user, more: &[&str]| {
        let line = [&["number", "add", "--tenant", "acme", "+493012345", "--user", user], more].concat();
        let (fine, out, err) = folder.run(&line);
        if fine { out } else { err }
    };
    assert_eq!(give("carol", &["--recording", "off"]), "added +493012345, rings 201, recording off\n");
    assert_eq!(give("carol", &[]), "+493012345 was there already, rings 201, recording off\n");
    assert_eq!(give("dave", &[]), "moved +493012345: rings 202, no longer 201, recording off\n");
    let listed = || folder.run(&["number", "list", "--tenant", "acme"]).1;
    assert!(listed().lines().count() == 1 && listed().trim().ends_with("202    off"), "{}", listed());
    assert!(give("dave", &["--recording", "inherit"]).ends_with("rings 202, recording as the tenant\n"));
    assert!(listed().trim().ends_with("as the tenant"), "{}", listed());
    assert!(give("dave", &["--recording", "never"]).contains("off, on_answer, on_demand or inherit"));
}

#[test]
fn a_user_and_a_tenant_are_changed_in_what_is_named_and_in_nothing_else() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).0);
    let add = ["user", "add", "--tenant", "acme", "carol", "--extension", "201", "--no-password"];
    assert!(folder.run(&add).0);
    let set = |what: &[&str], input: &str| {
        let (fine, out, err) = folder.run_with(&[&["user", "set", "--tenant", "acme"], what].concat(), input, &[]);
        if fine { out } else { err }
    };
    let listed =
        || folder.run(&["user", "list", "--tenant", "acme"]).1.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(set(&["carol", "--admin"], ""), "changed carol: admin\n");
    assert_eq!(set(&["carol", "--password"], "a long password\n"), "changed carol: admin\n");
    assert_eq!(listed(), "201 carol password admin carol");
    assert_eq!(set(&["carol", "--no-admin", "--disable"], ""), "changed carol: disabled\n");
    assert_eq!(listed(), "201 carol password disabled carol");
    assert!(!folder.run(&["token", "user", "carol"]).0, "a disabled user gets no token");
    assert_eq!(set(&["carol", "--enable"], ""), "changed carol: -\n");
    assert!(folder.run(&["token", "user", "carol"]).0);
    assert!(set(&["carol"], "").contains("required"), "a change of nothing");
    assert!(set(&["carol", "--enable", "--disable"], "").contains("cannot be used with"));
    assert!(set(&["nobody", "--enable"], "").contains("no such user"));
    assert!(folder.run(&["tenant", "set", "acme", "--recording", "on_answer"]).0);
    let (fine, kept, _) = folder.run(&["tenant", "set", "acme", "--keep-calls-days", "30"]);
    assert!(fine && kept.contains("kept for 30 days; files of recordings are not removed"), "{kept}");
    assert!(folder.run(&["tenant", "list"]).1.contains("on_answer"), "what was not named stays");
    assert!(folder.run(&["tenant", "set", "acme", "--keep-calls-days", "forever"]).0);
    for wrong in [&["tenant", "set", "acme"][..], &["tenant", "set", "acme", "--keep-calls-days", "0"]] {
        assert!(!folder.run(wrong).0, "{wrong:?}");
    }
    assert!(!folder.run(&["tenant", "set", "nobody", "--recording", "off"]).0);
}

#[test]
fn a_password_is_not_shown_as_it_is_typed_and_the_terminal_is_as_before() {
    use rustix::termios::{LocalModes, tcgetattr};
    use std::io::{BufRead, BufReader, Read};
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).0);
    let keyboard = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&keyboard).unwrap();
    rustix::pty::unlockpt(&keyboard).unwrap();
    let name = rustix::pty::ptsname(&keyboard, Vec::new()).unwrap();
    let terminal = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_offhook"))
        .args(["user", "add", "--tenant", "acme", "carol", "--extension", "201"])
        .current_dir(folder.0.path())
        .stdin(terminal.try_clone().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut asked = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut asked).unwrap();
    assert!(asked.starts_with("Password"), "{asked}");
    let mut keyboard = std::fs::File::from(keyboard);
    keyboard.write_all(b"a long password\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO));
    // A mark that is echoed, so that there is something to read.
    keyboard.write_all(b"after\n").unwrap();
    let mut shown = String::new();
    while !shown.contains("after") {
        let mut some = [0; 64];
        let n = keyboard.read(&mut some).unwrap();
        shown.push_str(std::str::from_utf8(&some[..n]).unwrap());
    }
    assert!(!shown.contains("password"), "{shown:?}");
}

#[test]
fn what_the_process_writes_only_its_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).0);
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.path("data/control")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        seen += 1;
    }
    assert!(seen > 0);
}

const SAMPLES: [&str; 5] = ["offhook.toml", "sfu.toml", "sip.toml", "recorder.toml", "control.toml"];

fn sample(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name)).unwrap()
}

#[test]
fn every_sample_is_accepted_as_it_is() {
    let folder = Folder::new();
    for name in SAMPLES {
        std::fs::write(folder.path("sample.toml"), sample(name)).unwrap();
        let (fine, _, mistakes) = folder.run(&["config", "check", "--config", "sample.toml"]);
        assert!(fine, "{name}: {mistakes}");
        assert!(sample(name).lines().count() <= 72, "{name} is more than a screen");
    }
}

/// A key that is shown as a comment must exist, too.
#[test]
fn every_commented_key_of_a_sample_is_one_that_the_daemons_know() {
    let folder = Folder::new();
    for name in SAMPLES {
        let shown = |line: &str| {
            let key = line.strip_prefix('#').unwrap_or(line);
            let is_key =
                key.split(" = ").next().is_some_and(|k| k.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            if line.starts_with('#') && (key.starts_with("[[") || (is_key && key.contains(" = "))) {
                key.to_owned()
            } else {
                line.to_owned()
            }
        };
        let text: Vec<String> = sample(name).lines().map(shown).collect();
        // Of two ways to a certificate one can be used.
        let text = text.iter().filter(|line| !line.starts_with("acme_")).cloned().collect::<Vec<_>>().join("\n");
        assert!(text.lines().filter(|line| !line.starts_with('#') && line.contains(" = ")).count() > 5);
        std::fs::write(folder.path("sample.toml"), text).unwrap();
        let (fine, _, mistakes) = folder.run(&["config", "check", "--config", "sample.toml"]);
        assert!(fine, "{name}: {mistakes}");
    }
}

#[test]
fn a_mistake_is_named_by_what_was_typed_and_by_what_would_be_right() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).0);
    for (login, extension) in [("carol", "201"), ("dave", "202")] {
        assert!(folder.run(&["user", "add", "--tenant", "acme", login, "--extension", extension, "--no-password"]).0);
    }
    assert!(folder.run(&["user", "set", "--tenant", "acme", "dave", "--disable"]).0);
    let enable = "offhook user set --tenant acme dave --enable";
    let number = ["number", "add", "--tenant", "acme", "+493012345", "--user"];
    let table: [(&[&str], &[&str]); 9] = [
        (&["user", "list", "--tenant", "nope"], &["no such tenant: nope", "offhook tenant list"]),
        (&["token", "key", "--tenant", "nope", "--name", "crm"], &["no such tenant: nope"]),
        (&["number", "add", "--tenant", "acme", "03012345", "--user", "carol"], &["03012345", "such as +493012345"]),
        (&[&number[..], &["eve"]].concat(), &["no such user: eve"]),
        (&[&number[..], &["dave"]].concat(), &["dave is disabled", enable]),
        (&["token", "user", "dave"], &["dave is disabled", enable]),
        (&["token", "user", "eve"], &["no such user: eve"]),
        (&["tenant", "set", "acme"], &["--recording", "--keep-calls-days"]),
        (&["user", "add", "--tenant", "acme", "eve", "--extension", "203"], &["no password came on standard input"]),
    ];
    for (typed, words) in table {
        let (fine, _, said) = folder.run(typed);
        assert!(!fine && words.iter().all(|word| said.contains(word)), "{typed:?}: {said}");
    }
}

#[test]
fn what_keeps_everything_from_starting_is_said_once_and_at_once() {
    let folder = Folder::new();
    std::fs::write(folder.path("a-file"), "").unwrap();
    let (fine, _, said) = folder.run_with(&["up"], "", &[("OFFHOOK__STORAGE__DATA_DIR", "a-file")]);
    assert!(!fine && said.starts_with("offhook: cannot use the directory of [storage] data_dir, a-file: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let health = taken.local_addr().unwrap().to_string();
    let (fine, _, said) = folder.run_with(&["up"], "", &[("OFFHOOK__RUNTIME__HEALTH_LISTEN", &health)]);
    assert!(!fine && said.contains(&format!("[runtime] health_listen {health} (is it running already?)")), "{said}");
}
