//! Benches by name: `make bench BENCH=forward`. Results are `name<TAB>value<TAB>unit`, the conditions go to stderr.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a bench that cannot measure ends")]

mod cpu;
mod forward;
mod turn;

use offhook_testkit::CountingAllocator;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

type Bench = fn() -> anyhow::Result<()>;

const BENCHES: &[(&str, Bench)] = &[("forward", forward::run), ("turn", turn::run)];

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some((_, bench)) = BENCHES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = BENCHES.iter().map(|(known, _)| *known).collect();
        eprintln!("there is no bench {name:?}; there are: {}", known.join(", "));
        return ExitCode::from(2);
    };
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One result line.
pub fn result(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value:.4}\t{unit}");
}
