//! Any file, on a host that is described: names resolved, ciphers mapped, a plan made or a reason named, and nothing of the
//! network touched. The fuzzer's own seeds and mutations go on here to where it ends.
use crate::options::{file_of, names};
use offhook_testkit::length;
use offhook_turn::{Host, Plan};
use offhook_turn_core::conf::Reading;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

#[path = "../../../../crates/fuzzing/src/mutate.rs"]
mod mutate;

const MUTATIONS: usize = 3_000;
const MUTATIONS_LONG: usize = 100_000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host() -> Host {
    let addresses = ["10.0.0.1", "10.2.0.1", "127.0.0.1", "169.254.7.7", "::1", "fd00::1", "fe80::1"].map(ip).to_vec();
    Host { outward: vec![ip("10.0.0.1")], addresses, name: Some("turn".into()) }
}

fn check(text: &str, host: &Host) -> bool {
    let mut reading = Reading::default();
    reading.add_file(text);
    if reading.is_fatal()
        || reading.conf.resolve(|name| Ok(ip(if name.len() % 2 == 0 { "10.0.0.1" } else { "::1" }))).is_err()
    {
        return false;
    }
    let mut conf = reading.conf;
    // As if it had both, so that its list of ciphers counts.
    conf.cert.get_or_insert_default();
    conf.pkey.get_or_insert_default();
    let plan = match Plan::on(&conf, host) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert!(!plan.relays.is_empty() && !plan.ports.is_empty() && (1..=256).contains(&plan.threads));
    assert!(plan.relays.iter().all(|relay| !relay.local.is_unspecified()));
    assert!(
        plan.udp
            .iter()
            .chain(&plan.tcp)
            .all(|address: &SocketAddr| conf.aux_servers.contains(address) || address.port() != 0)
    );
    let policy = &plan.settings.policy;
    assert!(conf.denied_peers.iter().all(|range| policy.denied.contains(range)));
    assert!(policy.allowed.len() == conf.allowed_peers.len() && plan.warnings.iter().all(|line| !line.is_empty()));
    true
}

#[test]
fn any_file_makes_a_plan_or_a_reason() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut files: Vec<_> =
        fs::read_dir(fuzz.join("seeds/turnserver_conf")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    seeds.extend(names().map(|name| file_of(name).as_bytes().to_vec()));
    let host = host();
    for seed in &seeds {
        assert!(check(&String::from_utf8_lossy(seed), &host), "{}", String::from_utf8_lossy(seed));
    }
    let words = fs::read_to_string(fuzz.join("dict/turnserver_conf.dict")).unwrap();
    let mut mutator = mutate::Mutator::seeded(0x0FF_400C, mutate::dictionary(&words));
    let made = (0..length(MUTATIONS, MUTATIONS_LONG))
        .filter(|_| check(&String::from_utf8_lossy(&mutator.next_input(&seeds)), &host))
        .count();
    assert!(made > MUTATIONS / 10, "{made}");
}
