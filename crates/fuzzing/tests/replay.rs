//! Every target over its seeds and over a fixed number of seeded mutations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use offhook_fuzzing::mutate::{Mutator, dictionary};
use offhook_fuzzing::{TARGETS, Target};
use offhook_testkit::length;

const MUTATIONS: usize = 20_000;
const MUTATIONS_LONG: usize = 500_000;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn seeds(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut folders = vec![fuzz_folder().join("seeds").join(name)];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|extension| extension != "dict") {
                seeds.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    seeds.sort();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds
}

/// Runs one input; a panic names where it came from and prints it as bytes to become a seed.
fn check(target: &Target, origin: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        eprintln!("{}, {origin}: {input:02x?}", target.name);
        std::panic::resume_unwind(panic);
    }
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(name);
    for (file, seed) in &seeds {
        check(target, file, seed);
    }
    let words = fs::read_to_string(fuzz_folder().join("dict").join(format!("{name}.dict"))).unwrap();
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(|(_, seed)| seed).collect();
    let mut mutator = Mutator::seeded(0x0FF_400C, dictionary(&words));
    for round in 0..length(MUTATIONS, MUTATIONS_LONG) {
        check(target, &format!("mutation {round}"), &mutator.next_input(&seeds));
    }
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed_and_has_its_binary() {
            let named: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(named, [$(stringify!($name)),*]);
            let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
            for name in named {
                assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name} has no [[bin]]");
                let file = fuzz_folder().join("fuzz_targets").join(format!("{name}.rs"));
                assert!(fs::read_to_string(file).unwrap().contains(&format!("offhook_fuzzing::{name}::run")));
            }
        }
    };
}

replays!(stun, rtp, rtcp, srtp, sdp, sip, tap, recording, turn, turnserver_conf);
