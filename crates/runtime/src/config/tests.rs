//! What an operator sees when a configuration is wrong, and what wins when it is right.
use super::*;
use offhook_contract::Secret;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sip {
    port: u16,
    listen: Vec<std::net::SocketAddr>,
    user_agent: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trunk {
    name: String,
    #[serde(default)]
    password: Secret,
}

fn config(text: &str, variables: &[(&str, &str)]) -> Result<ConfigFile, ConfigError> {
    ConfigFile::parse("offhook.toml", text, variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

#[test]
fn the_environment_wins_over_the_file_and_keeps_its_types() {
    let text = "[sip]\nport = 5060\nuser_agent = \"a\"\n";
    let variables = [
        ("OFFHOOK__SIP__PORT", "5070"),
        ("OFFHOOK__SIP__LISTEN", "[\"127.0.0.1:5060\", \"[::1]:5060\"]"),
        ("OFFHOOK__SIP__USER_AGENT", "42"),
        ("HOME", "/nowhere"),
    ];
    let sip: Sip = config(text, &variables).unwrap().section("sip").unwrap();
    assert_eq!((sip.port, sip.listen.len(), sip.user_agent.as_str()), (5070, 2, "42"));
}

#[test]
fn a_trunks_password_comes_from_a_variable_or_from_a_file_and_is_never_shown() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hunter2\n").unwrap();
    let text = "[[trunk]]\nname = \"main-line\"\n[[trunk]]\nname = \"second\"\n";
    let path = file.path().to_str().unwrap();
    let variables = [("OFFHOOK__TRUNK__MAIN_LINE__PASSWORD_FILE", path), ("OFFHOOK__TRUNK__SECOND__PASSWORD", "12345")];
    let config = config(text, &variables).unwrap();
    let trunks: Vec<Trunk> = config.trunks().unwrap();
    assert_eq!(trunks.iter().map(|t| t.password.expose()).collect::<Vec<_>>(), ["hunter2", "12345"]);
    assert_eq!(trunks.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["main-line", "second"]);
    let printed = config.redacted();
    assert!(printed.contains("***") && !printed.contains("hunter2") && !printed.contains("12345"), "{printed}");
}

#[test]
fn an_error_names_the_source_the_path_the_value_and_what_would_be_right() {
    let sip = |text: &str, variables: &[(&str, &str)]| {
        let refused = config(text, variables).and_then(|c| c.section::<Sip>("sip"));
        refused.unwrap_err().to_string()
    };
    let message = sip("[sip]\nport = 70000\n", &[]);
    assert!(message.starts_with("offhook.toml: sip.port = 70000: "), "{message}");
    let message = sip("[sip]\nport = 5060\n", &[("OFFHOOK__SIP__PORT", "none")]);
    assert!(message.starts_with("environment OFFHOOK__SIP__PORT: sip.port = \"none\": "), "{message}");
    let message = sip("[sip]\nprot = 5060\n", &[]);
    assert!(message.contains("sip") && message.contains("unknown field `prot`"), "{message}");
    let message = sip("[spi]\nport = 5060\n", &[]);
    assert!(message.contains("[spi] is no section"), "{message}");
    let message = sip("[sip\n", &[]);
    assert!(message.contains("not TOML") && message.contains("line 1"), "{message}");
    let message = sip("", &[("OFFHOOK__TRUNK__X__PASSWORD", "p")]);
    assert!(message.contains("no [[trunk]] whose name is \"x\""), "{message}");
    let refusal = config("[sfu]\nmedia_threads = 99\n", &[]).unwrap().refusal("sfu.media_threads", "1 to 64");
    assert_eq!(refusal.to_string(), "offhook.toml: sfu.media_threads = 99: 1 to 64");
    let refusal = config("[bus]\npassword = \"p\"\n", &[]).unwrap().refusal("bus.password", "at least 12 characters");
    assert_eq!(refusal.to_string(), "offhook.toml: bus.password = \"***\": at least 12 characters");
}

#[test]
fn public_addresses_are_plain_or_mapped_and_keep_to_their_family() {
    let text = "[net]\npublic_addresses = [\"2001:db8::5\", { public = \"203.0.113.5\", local = \"10.0.0.5\" }]\n";
    let net = config(text, &[]).unwrap().net().unwrap();
    assert_eq!(net.announced("10.0.0.5".parse().unwrap()), "203.0.113.5".parse::<std::net::IpAddr>().unwrap());
    assert_eq!(net.announced_all("[::]:7882".parse().unwrap()), ["[2001:db8::5]:7882".parse().unwrap()]);
    assert_eq!(net.announced_all("10.0.0.6:1".parse().unwrap()), ["10.0.0.6:1".parse().unwrap()]);
    let mixed = "[net]\npublic_addresses = [{ public = \"203.0.113.5\", local = \"::1\" }]\n";
    assert!(config(mixed, &[]).unwrap().net().is_err());
}

#[test]
fn health_is_never_offered_off_loopback() {
    let refused = config("[runtime]\nhealth_listen = [\"0.0.0.0:9600\"]\n", &[]).unwrap().runtime();
    assert!(refused.unwrap_err().to_string().contains("loopback addresses only"));
}

#[test]
fn a_database_address_is_shown_without_its_password() {
    let printed = config("[storage]\ndatabase_url = \"postgres://off:hook@db/x\"\n", &[]).unwrap().redacted();
    assert!(printed.contains("postgres://off:***@db/x"), "{printed}");
}

#[test]
fn a_list_with_one_element_may_be_written_without_brackets() {
    let variables = [("OFFHOOK__RUNTIME__HEALTH_LISTEN", "127.0.0.1:9700")];
    let read = config("[bus]\nurl = \"nats://127.0.0.1:4222\"\n", &variables).unwrap();
    assert_eq!(read.runtime().unwrap().health_listen, ["127.0.0.1:9700".parse().unwrap()]);
    assert_eq!(read.bus().unwrap().url, ["nats://127.0.0.1:4222"]);
    let refused = config("[runtime]\nhealth_listen = [\"here\"]\n", &[]).unwrap().runtime().unwrap_err();
    assert!(refused.to_string().contains("runtime.health_listen"), "{refused}");
}

#[test]
fn what_acme_cannot_use_is_refused_with_the_reason() {
    let tls = |text: &str| config(&format!("[tls]\n{text}"), &[]).unwrap().tls().map_err(|e| e.to_string());
    let names = "acme_domains = [\"Phone.Example.org\"]\n";
    let private = "acme_directory = \"https://ca.lan/acme/acme/directory\"\nacme_ca_file = \"/etc/ca.pem\"\n";
    let fine = tls(&format!("{names}{private}acme_contact = \"mailto:a@example.org\"\n")).unwrap();
    assert_eq!(fine.acme_domains, ["phone.example.org"]);
    assert!(tls(private).unwrap_err().contains("tls.acme_directory"), "who has no names has forgotten something");
    for name in ["*.example.org", "192.0.2.1", "2001:db8::1", "phone..org", "", "-a.org", "phone.example.org:443"] {
        let refused = tls(&format!("acme_domains = [\"phone.example.org\", \"{name}\"]\n")).unwrap_err();
        assert!(refused.contains("tls.acme_domains") && refused.contains("phone.example.org"), "{refused}");
    }
    let plain = tls(&format!("{names}acme_directory = \"http://ca.lan/directory\"\n")).unwrap_err();
    assert!(plain.contains("tls.acme_directory") && plain.contains("https://"), "{plain}");
    assert!(tls(&format!("{names}acme_contact = \"a@example.org\"\n")).unwrap_err().contains("mailto:"));
}

#[test]
fn what_is_no_section_or_no_address_is_said_in_plain_words() {
    let sip = |text: &str| config(text, &[]).and_then(|c| c.section::<Sip>("sip")).unwrap_err().to_string();
    assert_eq!(sip("sip = 3\n"), "offhook.toml: sip = 3: a section: [sip], and its keys below it");
    let named = sip("[sip]\nlisten = [\"localhost:5060\"]\n");
    assert!(named.contains("sip.listen[0] = \"localhost:5060\": an address and a port, such as"), "{named}");
    assert!(!sip("[sip\n").ends_with('\n'));
}
