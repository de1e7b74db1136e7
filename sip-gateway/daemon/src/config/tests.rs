//! What an operator may write, and what is refused by name.

use super::*;

const TRUNK: &str = "[[trunk]]\nname = \"carrier\"\ntenant = \"acme\"\n";

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::read(&ConfigFile::parse("offhook.toml", text, []).unwrap())
}

#[test]
fn a_trunk_needs_a_name_a_tenant_and_an_address_and_the_rest_has_defaults() {
    let config = read(&format!("{TRUNK}address = \"203.0.113.10\"\nnumbers = [\"+493012345\"]\n")).unwrap();
    let trunk = &config.trunks[0];
    assert_eq!((trunk.host.as_str(), trunk.port, trunk.domain.as_str()), ("203.0.113.10", 5_060, "203.0.113.10"));
    assert_eq!(trunk.caller_id.as_deref(), Some("+493012345"));
    assert_eq!(trunk.codecs, [CodecName::Pcma, CodecName::Pcmu]);
    assert_eq!(trunk.keep_alive, Some(Duration::from_secs(30)));
    assert!(trunk.registration.is_none() && trunk.account.is_none() && !trunk.emergency);
    assert_eq!((config.port, config.listen.len(), config.rtp_ports), (5_060, 0, (20_000, 20_999)));
    assert!(config.media_threads >= 1);
}

#[test]
fn addresses_are_names_or_numbers_with_or_without_a_port() {
    for (text, host, port) in [
        ("sip.example.com", "sip.example.com", 5_060),
        ("sip.example.com:5070", "sip.example.com", 5_070),
        ("192.0.2.1:5080", "192.0.2.1", 5_080),
        ("[2001:db8::1]:5080", "2001:db8::1", 5_080),
        ("2001:db8::1", "2001:db8::1", 5_060),
    ] {
        assert_eq!(host_and_port(text), Some((host.to_owned(), port)), "{text}");
    }
    for bad in ["", ":5060", "a b", "sip:x@y", "host:0", "host:99999", "-x"] {
        assert_eq!(host_and_port(bad), None, "{bad}");
    }
}

#[test]
fn what_is_out_of_range_is_refused_with_its_path_and_what_would_be_right() {
    for (text, path) in [
        ("[sip]\nrtp_ports = [20000, 20000]\n".to_owned(), "sip.rtp_ports"),
        ("[sip]\nmax_legs = 0\n".to_owned(), "sip.max_legs"),
        ("[sip]\nmedia_timeout_s = 1\n".to_owned(), "sip.media_timeout_s"),
        ("[sip]\nlisten = [\"nowhere\"]\n".to_owned(), "sip.listen"),
        ("[sip]\nprot = 5060\n".to_owned(), "prot"),
        (format!("{TRUNK}address = \"a b\"\n"), "trunk[0].address"),
        (format!("{TRUNK}address = \"x\"\nsources = [\"1.2.3.4/40\"]\n"), "trunk[0].sources"),
        (format!("{TRUNK}address = \"x\"\nregister = true\n"), "trunk[0].username"),
        (format!("{TRUNK}address = \"x\"\ncodecs = [\"pcma\", \"pcma\"]\n"), "trunk[0].codecs"),
        (format!("{TRUNK}address = \"x\"\nkeep_alive_s = 1\n"), "trunk[0].keep_alive_s"),
        (format!("{TRUNK}address = \"x\"\nnumbers = [\"030\"]\n"), "trunk[0].numbers"),
        (format!("{TRUNK}address = \"x\"\ncolour = 1\n"), "colour"),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(path), "{error}");
    }
}

#[test]
fn two_emergency_trunks_of_one_tenant_are_refused() {
    let other = TRUNK.replace("carrier", "second");
    let both = format!("{TRUNK}address = \"x\"\nemergency = true\n{other}address = \"y\"\nemergency = true\n");
    assert!(read(&both).unwrap_err().to_string().contains("emergency"));
    assert!(read(&both.replace("tenant = \"acme\"\naddress = \"y\"", "tenant = \"b\"\naddress = \"y\"")).is_ok());
}

#[test]
fn numbers_are_read_as_the_carrier_writes_them() {
    let with = |dial: &str, more: &str| {
        let text = format!("{dial}{TRUNK}address = \"x\"\nnumbers = [\"+493012345\"]\n{more}");
        read(&text).unwrap().trunks.remove(0)
    };
    let e164 = |trunk: &TrunkPlan, text: &str| trunk.read_number(text).map(|n| n.e164().to_owned());
    let plain = with("", "");
    assert_eq!(e164(&plain, "15551230000").as_deref(), Some("+15551230000"));
    assert_eq!(e164(&plain, "493012345").as_deref(), Some("+493012345"));
    assert_eq!(e164(&plain, "anonymous"), None);
    let german = with("[dial]\ncountry_code = \"49\"\n", "");
    assert_eq!(e164(&german, "030998877").as_deref(), Some("+4930998877"));
    assert_eq!(e164(&german, "493012345").as_deref(), Some("+493012345"), "our own, in whatever spelling");
    let digits = with("[dial]\ncountry_code = \"49\"\n", "digits_are_international = true\ndial_format = \"digits\"\n");
    assert_eq!(e164(&digits, "15551230000").as_deref(), Some("+15551230000"));
    assert_eq!(digits.write_number(&digits.numbers[0]), "493012345");
    assert_eq!(german.write_number(&german.numbers[0]), "+493012345");
}
