//! Who may know whom: `daemon -> its own core -> contract, media -> wire`; `daemon -> runtime, bus, link, net`.
use crate::graph::{Graph, Package};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room<'a> {
    Wire,
    Media,
    Contract,
    /// With the daemon's folder.
    Core(&'a str),
    Daemon(&'a str),
    Net,
    Bus,
    Link,
    Runtime,
    /// What shards are made of.
    Shard,
    /// The command line and what tests and measures: may name several daemons.
    Top,
}

fn room(package: &Package) -> Option<Room<'_>> {
    let folder = package.folder.as_deref()?;
    Some(match folder {
        "crates/shard" => Room::Shard,
        "crates/media" => Room::Media,
        "crates/contract" => Room::Contract,
        "crates/net" => Room::Net,
        "crates/bus" => Room::Bus,
        "crates/link" => Room::Link,
        "crates/runtime" => Room::Runtime,
        _ if folder.starts_with("crates/wire/") => Room::Wire,
        _ if folder.starts_with("crates/") || folder == "tests" || folder == "benches" => Room::Top,
        _ => match folder.split_once('/') {
            Some((daemon, "core")) => Room::Core(daemon),
            Some((daemon, "daemon")) => Room::Daemon(daemon),
            _ => return None,
        },
    })
}

/// May `from` name `to` as a normal dependency?
fn allowed(from: Room<'_>, to: Room<'_>) -> bool {
    use Room::{Bus, Contract, Core, Daemon, Link, Media, Net, Runtime, Shard, Top, Wire};
    match (from, to) {
        (Top, _) => true,
        (Wire, Wire) | (Media | Contract, Wire) => true,
        (Core(_), Contract | Media | Wire | Shard) => true,
        (Daemon(mine), Core(theirs)) => mine == theirs,
        (Daemon(_), Contract | Media | Wire | Runtime | Bus | Link | Net) => true,
        (Net, Wire) | (Bus | Link, Contract | Wire) => true,
        (Runtime, Contract | Bus | Link) => true,
        _ => false,
    }
}

const fn is_pure(room: Room<'_>) -> bool {
    matches!(room, Room::Wire | Room::Shard | Room::Media | Room::Contract | Room::Core(_))
}

/// Crates that do IO, read clocks or start threads: no direct dependency of a pure crate.
const IO_CRATES: [&str; 20] = [
    "tokio",
    "async-nats",
    "axum",
    "axum-server",
    "hyper",
    "hyper-util",
    "reqwest",
    "sqlx",
    "redb",
    "socket2",
    "libc",
    "mio",
    "rustls-acme",
    "tokio-rustls",
    "tokio-tungstenite",
    "tower-http",
    "tracing-subscriber",
    "getrandom",
    "rand",
    "rcgen",
];

/// A second provider of TLS cryptography beside aws-lc-rs.
const OTHER_PROVIDERS: [&str; 4] = ["ring", "openssl", "openssl-sys", "native-tls"];

pub fn check(graph: &Graph) -> Vec<String> {
    let mut findings = Vec::new();
    for package in graph.ours.values() {
        let Some(from) = room(package) else {
            findings.push(format!("{}: its folder {:?} is no room of the house", package.name, package.folder));
            continue;
        };
        for dep in &package.normal {
            if graph.ours.get(dep).and_then(room).is_some_and(|to| !allowed(from, to)) {
                findings.push(format!("{} must not know {dep}", package.name));
            }
            if is_pure(from) && IO_CRATES.contains(&dep.as_str()) {
                findings.push(format!("{} is pure and must not depend on {dep}", package.name));
            }
        }
    }
    for package in &graph.shipped {
        if OTHER_PROVIDERS.contains(&package.name.as_str()) {
            findings.push(format!("{} {} is a second TLS provider beside aws-lc-rs", package.name, package.version));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(packages: &[(&str, &str, &[&str])]) -> Graph {
        let ours = packages.iter().map(|(name, folder, normal)| {
            let normal = normal.iter().map(|d| (*d).to_owned()).collect();
            (
                (*name).to_owned(),
                Package { name: (*name).into(), folder: Some((*folder).into()), normal, ..Package::default() },
            )
        });
        Graph { ours: ours.collect(), shipped: Vec::new() }
    }

    #[test]
    fn a_daemon_that_names_another_daemon_is_found() {
        let found = check(&graph(&[("sfu", "sfu/daemon", &["recorder"]), ("recorder", "recorder/daemon", &[])]));
        assert_eq!(found, ["sfu must not know recorder"]);
    }

    #[test]
    fn a_core_that_names_another_core_or_does_io_is_found() {
        let found = check(&graph(&[("a", "sfu/core", &["b", "tokio"]), ("b", "recorder/core", &[])]));
        assert_eq!(found, ["a must not know b", "a is pure and must not depend on tokio"]);
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        let packages: [(&str, &str, &[&str]); 6] = [
            ("wire", "crates/wire/rtp", &[]),
            ("contract", "crates/contract", &[]),
            ("media", "crates/media", &["wire"]),
            ("core", "sfu/core", &["contract", "media", "wire"]),
            ("net", "crates/net", &["libc"]),
            ("daemon", "sfu/daemon", &["core", "net", "contract", "tokio"]),
        ];
        assert_eq!(check(&graph(&packages)), [""; 0]);
    }

    #[test]
    fn a_second_tls_provider_is_found() {
        let mut graph = graph(&[]);
        graph.shipped.push(Package { name: "ring".into(), version: "0.17.14".into(), ..Package::default() });
        assert_eq!(check(&graph).len(), 1);
    }
}
