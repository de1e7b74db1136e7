//! What finished sessions carried, among the process's metrics: coturn's `turn_traffic_*`, of all or of each user.
use crate::traffic::account;
use offhook_runtime::Metrics;
use offhook_turn_core::Ended;
use std::sync::{Arc, Mutex, PoisonError};

const NAME_BYTES_MAX: usize = 128;
/// Between expiry and user in names that call-control mints.
const SEPARATOR: char = ':';
const HELP: &str = "Of sessions that have ended.";

/// Clones share it: the log's thread counts, a reload changes the labels. How many there are, the metrics bound.
#[derive(Clone)]
pub(crate) struct Carried {
    metrics: Metrics,
    labels: Arc<Mutex<Labels>>,
}

#[derive(Debug, Clone)]
struct Labels {
    realm: String,
    by_user: bool,
}

impl Carried {
    pub(crate) fn new(metrics: &Metrics, realm: &str, by_user: bool) -> Self {
        let labels = Arc::new(Mutex::new(Labels { realm: realm.to_owned(), by_user }));
        Self { metrics: metrics.verbatim(), labels }
    }

    pub(crate) fn reload(&self, realm: &str, by_user: bool) {
        *self.labels.lock().unwrap_or_else(PoisonError::into_inner) = Labels { realm: realm.to_owned(), by_user };
    }

    pub(crate) fn count(&self, ended: &Ended) {
        let Labels { realm, by_user } = self.labels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let user = account(&ended.user, SEPARATOR);
        // No user's name: it has a blank at its end.
        let user = if user.len() > NAME_BYTES_MAX { "others " } else { user };
        let labels = [("realm", realm.as_str()), ("user", user)];
        let labels = if by_user { &labels[..] } else { &labels[..1] };
        let (up, down) = (ended.up, ended.down);
        for (name, number) in [
            ("turn_traffic_rcvp", up.packets),
            ("turn_traffic_rcvb", up.bytes),
            ("turn_traffic_sentp", down.packets),
            ("turn_traffic_sentb", down.bytes),
            ("turn_traffic_peer_rcvp", down.packets),
            ("turn_traffic_peer_rcvb", down.bytes),
            ("turn_traffic_peer_sentp", up.packets),
            ("turn_traffic_peer_sentb", up.bytes),
        ] {
            self.metrics.counter_with(name, HELP, labels).add(number);
        }
    }
}
