//! coturn's configuration file: any text is read, and what is said about it stays short.

use std::net::{IpAddr, Ipv4Addr};

use offhook_turn_core::conf::{CommandLine, Reading};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut reading = Reading::default();
    reading.add_file(text);
    assert!(reading.notes.len() <= text.lines().count());
    let mut again = Reading::default();
    again.add_file(text);
    assert_eq!(reading, again);
    assert!(reading.notes.iter().all(|note| note.option.chars().count() <= 64 && !note.to_string().is_empty()));
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = CommandLine::of(words.iter().map(|word| (*word).to_owned()));
    assert!(line.rest.len() <= words.len());
    again.add_arguments(&line.rest);
    // Every name stands for the same address, or for none.
    let written = again.conf.names.len();
    let mut unknown = again.conf.clone();
    assert_eq!(unknown.resolve(|_| Err("none".to_owned())).is_err(), written > 0);
    let before = again.conf.listening_ips.len() + again.conf.relay_ips.len() + again.conf.external_ips.len();
    if again.conf.resolve(|_| Ok(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)))).is_ok() {
        let after = again.conf.listening_ips.len() + again.conf.relay_ips.len() + again.conf.external_ips.len();
        assert_eq!((after, again.conf.names.len()), (before + written, 0));
    }
}
