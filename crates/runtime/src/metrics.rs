//! Counters and gauges in Prometheus text. Plain atomics: a media thread may touch them once a tick.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Label sets of one name beyond this all count on one: a label must never carry a number or an id.
const MAX_SERIES: usize = 256;

/// Where a daemon registers what it counts. Cheap to clone; the daemon's own label is added to each series.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    daemon: Option<&'static str>,
    /// Names are another program's and stay as they are.
    verbatim: bool,
}

#[derive(Default)]
struct Registry {
    families: Mutex<BTreeMap<String, Family>>,
}

struct Family {
    help: String,
    series: BTreeMap<String, Series>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

enum Series {
    Counter(Counter),
    Gauge(Gauge),
}

/// Only rises.
#[derive(Clone, Default, Debug)]
pub struct Counter(Arc<AtomicU64>);

/// Rises and falls.
#[derive(Clone, Default, Debug)]
pub struct Gauge(Arc<AtomicI64>);

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// For a count that is kept elsewhere and only copied here.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self { registry: Arc::default(), daemon: None, verbatim: false }
    }

    /// The same registry; what is registered through it carries `daemon="…"`.
    pub fn for_daemon(&self, daemon: &'static str) -> Self {
        Self { daemon: Some(daemon), ..self.clone() }
    }

    /// The same registry for names that dashboards know from another program: nothing is put before them.
    pub fn verbatim(&self) -> Self {
        Self { verbatim: true, ..self.clone() }
    }

    /// `name` without the prefix `offhook_`, which is added. Registering again returns the same counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.counter_with(name, help, &[])
    }

    pub fn counter_with(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Counter {
        let mut families = self.registry.families();
        let series = self.series(&mut families, Kind::Counter, name, help, labels);
        match series {
            Some(Series::Counter(counter)) => counter.clone(),
            _ => Counter::default(),
        }
    }

    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauge_with(name, help, &[])
    }

    pub fn gauge_with(&self, name: &str, help: &str, labels: &[(&str, &str)]) -> Gauge {
        let mut families = self.registry.families();
        let series = self.series(&mut families, Kind::Gauge, name, help, labels);
        match series {
            Some(Series::Gauge(gauge)) => gauge.clone(),
            _ => Gauge::default(),
        }
    }

    /// The series, made if it is new; `None` for a name that is already of the other kind, and then what is counted
    /// is not shown.
    fn series<'a>(
        &self,
        families: &'a mut BTreeMap<String, Family>,
        kind: Kind,
        name: &str,
        help: &str,
        labels: &[(&str, &str)],
    ) -> Option<&'a Series> {
        let name =
            if self.verbatim || name.starts_with("offhook_") { name.to_owned() } else { format!("offhook_{name}") };
        let family = families.entry(name.clone()).or_insert_with(|| Family {
            help: help.to_owned(),
            series: BTreeMap::new(),
            kind,
        });
        if family.kind != kind {
            tracing::error!(name, "metric registered as counter and as gauge: the second is not shown");
            return None;
        }
        let own = self.daemon.map(|daemon| ("daemon", daemon));
        let mut key = label_text(own.into_iter().chain(labels.iter().copied()));
        if family.series.len() >= MAX_SERIES && !family.series.contains_key(&key) {
            key = label_text(own.into_iter().chain([("overflow", "true")]));
        }
        Some(family.series.entry(key).or_insert_with(|| match kind {
            Kind::Counter => Series::Counter(Counter::default()),
            Kind::Gauge => Series::Gauge(Gauge::default()),
        }))
    }

    /// A daemon that is started again begins with empty gauges; its counters go on.
    pub fn clear_gauges(&self) {
        let Some(daemon) = self.daemon else { return };
        let own = format!("daemon=\"{daemon}\"");
        for family in self.registry.families().values() {
            for (labels, series) in &family.series {
                if let (Series::Gauge(gauge), true) = (series, labels.contains(&own)) {
                    gauge.set(0);
                }
            }
        }
    }

    /// All of it in the Prometheus text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in self.registry.families().iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, series) in &family.series {
                let _ = match series {
                    Series::Counter(counter) => writeln!(text, "{name}{labels} {}", counter.get()),
                    Series::Gauge(gauge) => writeln!(text, "{name}{labels} {}", gauge.get()),
                };
            }
        }
        text
    }
}

impl Registry {
    fn families(&self) -> MutexGuard<'_, BTreeMap<String, Family>> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn label_text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let escape = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_carries_the_daemons_label_and_survives_a_restart() {
        let metrics = Metrics::new();
        let sfu = metrics.for_daemon("sfu");
        sfu.counter("packets_total", "Packets.").add(2);
        sfu.gauge_with("rooms", "Rooms.", &[("kind", "a\"b")]).set(3);
        metrics.for_daemon("sip").gauge("rooms", "Rooms.").set(7);
        sfu.clear_gauges();
        sfu.counter("packets_total", "Packets.").increment();
        let page = metrics.render();
        assert!(page.contains("# TYPE offhook_packets_total counter\noffhook_packets_total{daemon=\"sfu\"} 3\n"));
        assert!(page.contains("offhook_rooms{daemon=\"sfu\",kind=\"a\\\"b\"} 0\n"), "{page}");
        assert!(page.contains("offhook_rooms{daemon=\"sip\"} 7\n"));
    }

    #[test]
    fn labels_that_multiply_do_not_fill_the_memory() {
        let metrics = Metrics::new().for_daemon("sip");
        for n in 0..1_000 {
            metrics.counter_with("refused_total", "Refused.", &[("from", &n.to_string())]).increment();
        }
        let page = metrics.render();
        assert!(page.lines().count() < MAX_SERIES + 8);
        assert!(page.contains("overflow=\"true\"} 744"), "{page}");
    }
}
