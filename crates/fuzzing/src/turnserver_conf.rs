//! coturn's configuration file: any text is read, and what is said about it stays short.

use offhook_turn_core::conf::Reading;

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
    again.add_arguments(&words);
}
