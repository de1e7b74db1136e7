//! What finished sessions carried, by realm and, if asked, by user: coturn's `turn_traffic_*`.
use offhook_turn_core::{Carried, Ended};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Users with a label of their own; whoever comes later is counted under [`OTHERS`].
const LABELS_MAX: usize = 1_000;
/// No user's name: it has a blank at its end.
const OTHERS: &str = "others ";
const NAME_BYTES_MAX: usize = 128;

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    up: Carried,
    down: Carried,
}

/// Written by the thread that writes the log, read by the page.
#[derive(Debug)]
pub(crate) struct Traffic(Mutex<Sessions>);

#[derive(Debug)]
struct Sessions {
    realm: String,
    separator: char,
    by_user: bool,
    sums: HashMap<Box<str>, Sums>,
}

impl Traffic {
    pub(crate) fn new(realm: &str, separator: char, by_user: bool) -> Self {
        Self(Mutex::new(Sessions { realm: realm.to_owned(), separator, by_user, sums: HashMap::new() }))
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted under other labels is counted no more: these are other series, and begin with nothing.
    pub(crate) fn reload(&self, realm: &str, separator: char, by_user: bool) {
        let mut sessions = self.sessions();
        if (sessions.realm.as_str(), sessions.by_user) != (realm, by_user) {
            sessions.sums.clear();
        }
        (sessions.realm, sessions.separator, sessions.by_user) = (realm.to_owned(), separator, by_user);
    }

    pub(crate) fn count(&self, ended: &Ended) {
        self.sessions().count(ended);
    }

    pub(crate) fn write(&self, page: &mut String) {
        self.sessions().write(page);
    }
}

impl Sessions {
    fn count(&mut self, ended: &Ended) {
        let user = if self.by_user { account(&ended.user, self.separator) } else { "" };
        let is_full = self.sums.len() >= LABELS_MAX && !self.sums.contains_key(user);
        let label = if is_full || user.len() > NAME_BYTES_MAX { OTHERS } else { user };
        let sum = self.sums.entry(label.into()).or_default();
        for (sum, carried) in [(&mut sum.up, ended.up), (&mut sum.down, ended.down)] {
            sum.packets = sum.packets.saturating_add(carried.packets);
            sum.bytes = sum.bytes.saturating_add(carried.bytes);
        }
    }

    fn write(&self, page: &mut String) {
        let mut rows: Vec<_> = self.sums.iter().collect();
        rows.sort_unstable_by_key(|(user, _)| *user);
        type Number = fn(&Sums) -> u64;
        let names: [(&str, Number); 8] = [
            ("turn_traffic_rcvp", |sums| sums.up.packets),
            ("turn_traffic_rcvb", |sums| sums.up.bytes),
            ("turn_traffic_sentp", |sums| sums.down.packets),
            ("turn_traffic_sentb", |sums| sums.down.bytes),
            ("turn_traffic_peer_rcvp", |sums| sums.down.packets),
            ("turn_traffic_peer_rcvb", |sums| sums.down.bytes),
            ("turn_traffic_peer_sentp", |sums| sums.up.packets),
            ("turn_traffic_peer_sentb", |sums| sums.up.bytes),
        ];
        for (name, number) in names {
            let _ = writeln!(page, "# TYPE {name} counter");
            for (user, sums) in &rows {
                let _ = write!(page, "{name}{{realm=\"{}\"", escaped(&self.realm));
                if self.by_user {
                    let _ = write!(page, ",user=\"{}\"", escaped(user));
                }
                let _ = writeln!(page, "}} {}", number(sums));
            }
        }
    }
}

/// REST credentials begin or end with a time, which would make a label for each session.
pub(crate) fn account(user: &str, separator: char) -> &str {
    let is_time = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match user.split_once(separator) {
        Some((time, name)) if is_time(time) => name,
        Some((name, time)) if is_time(time) => name,
        None if is_time(user) => "",
        _ => user,
    }
}

/// As Prometheus's text format has it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook_turn_core::{ClientPath, EndCause, Via};
    use std::time::Duration;

    fn ended(user: &str, packets: u64) -> Ended {
        let client = "192.0.2.1:1".parse().unwrap();
        let carried = Carried { packets, bytes: packets * 100 };
        Ended {
            user: user.into(),
            path: ClientPath { client, server: client, via: Via::Udp(0) },
            relayed: [None, None],
            cause: EndCause::Released,
            duration: Duration::ZERO,
            up: carried,
            down: Carried::default(),
        }
    }

    fn page(traffic: &Traffic) -> String {
        let mut text = String::new();
        traffic.write(&mut text);
        text
    }

    #[test]
    fn users_have_labels_and_rest_users_are_the_same_user_each_time() {
        let traffic = Traffic::new("r\"", ':', true);
        for user in ["900:bob", "bob:901", "902:bob", "ana", "903"] {
            traffic.count(&ended(user, 2));
        }
        let text = page(&traffic);
        assert!(text.contains("turn_traffic_rcvp{realm=\"r\\\"\",user=\"bob\"} 6\n"), "{text}");
        assert!(text.contains("turn_traffic_peer_sentb{realm=\"r\\\"\",user=\"ana\"} 200\n"), "{text}");
        assert!(text.contains("turn_traffic_sentp{realm=\"r\\\"\",user=\"\"} 0\n"), "{text}");
    }

    #[test]
    fn labels_are_bounded() {
        let traffic = Traffic::new("r", ':', true);
        for number in 0..LABELS_MAX + 50 {
            traffic.count(&ended(&format!("user-{number}"), 1));
        }
        traffic.count(&ended("user-0", 1));
        let text = page(&traffic);
        assert_eq!(text.lines().filter(|line| line.starts_with("turn_traffic_rcvp{")).count(), LABELS_MAX + 1);
        assert!(text.contains("turn_traffic_rcvp{realm=\"r\",user=\"others \"} 50\n"));
        assert!(text.contains("turn_traffic_rcvp{realm=\"r\",user=\"user-0\"} 2\n"));
    }

    #[test]
    fn without_labels_there_is_one_sum() {
        let traffic = Traffic::new("r", ':', false);
        traffic.count(&ended("a", 1));
        traffic.count(&ended("b", 2));
        assert!(page(&traffic).contains("turn_traffic_rcvp{realm=\"r\"} 3\n"));
    }
}
