//! Allocations come and go: how fast, and what each weighs while it stands.
use super::caller::{Caller, Want, everyone};
use super::load::Field;
use super::process::{Kind, Process};
use super::{CLIENT_IP, Choice, median};
use crate::result;
use std::time::Duration;

const ALLOCATIONS: usize = 10_000;
/// Come and gone before anything is measured: code is in memory, tables have their first size.
const WARM_UP: usize = 2_000;
const ROUNDS: usize = 3;
/// For memory to go back.
const SETTLES: Duration = Duration::from_millis(1_500);

#[derive(Debug, Clone, Copy)]
struct Measured {
    cpu_us: f64,
    per_second: f64,
    bytes: f64,
    returned: f64,
}

pub fn run(choice: &Choice) -> anyhow::Result<()> {
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..if choice.quick { 1 } else { ROUNDS } {
        for (kind, measured) in Kind::BOTH.into_iter().zip(&mut all) {
            measured.push(measure(kind)?);
        }
    }
    let [ours, coturn] = all;
    let of = |all: &[Measured], take: fn(&Measured) -> f64| median(all.iter().map(take));
    let cpu_us = [of(&ours, |m| m.cpu_us), of(&coturn, |m| m.cpu_us)];
    let rates = [of(&ours, |m| m.per_second), of(&coturn, |m| m.per_second)];
    for (index, name) in ["ours", "coturn"].into_iter().enumerate() {
        result(&format!("turn.allocate_cpu_us_{name}"), cpu_us[index], "us of CPU");
        result(&format!("turn.allocations_per_second_{name}"), rates[index], "1/s");
    }
    // By the server's CPU: what one core could do, whatever else the machine does.
    result("turn.allocate_rate_ratio", cpu_us[1] / cpu_us[0], "ratio");
    result("turn.allocate_rate_ratio_wall", rates[0] / rates[1], "ratio");
    result("turn.bytes_per_allocation", of(&ours, |m| m.bytes), "bytes");
    result("turn.bytes_per_allocation_coturn", of(&coturn, |m| m.bytes), "bytes");
    result("turn.bytes_returned", of(&ours, |m| m.returned), "share");
    Ok(())
}

/// A fresh process: every allocation is challenged, made, given a channel, and released.
fn measure(kind: Kind) -> anyhow::Result<Measured> {
    let process = Process::start(kind)?;
    let peer = Field::peers()?[0].local_address();
    let callers = |count: usize| (0..count).map(|_| Caller::new(CLIENT_IP.into())).collect::<anyhow::Result<Vec<_>>>();
    let mut first = callers(WARM_UP)?;
    for want in [Want::Allocate, Want::Bind(peer), Want::Release] {
        everyone(&mut first, process.address, want)?;
    }
    let mut callers = callers(ALLOCATIONS)?;
    let empty = process.resident_bytes()?;
    let before = process.cpu();
    let took = everyone(&mut callers, process.address, Want::Allocate)?;
    let spent = process.cpu() - before;
    everyone(&mut callers, process.address, Want::Bind(peer))?;
    let full = process.resident_bytes()?;
    everyone(&mut callers, process.address, Want::Release)?;
    std::thread::sleep(SETTLES);
    let left = process.resident_bytes()?;
    let measured = Measured {
        cpu_us: spent.as_secs_f64() * 1e6 / ALLOCATIONS as f64,
        per_second: ALLOCATIONS as f64 / took.as_secs_f64(),
        bytes: full.saturating_sub(empty) as f64 / ALLOCATIONS as f64,
        returned: full.saturating_sub(left) as f64 / full.saturating_sub(empty).max(1) as f64,
    };
    eprintln!(
        "allocate {}: {:.1} µs of CPU, {:.0}/s, {empty} bytes resident, {:.0} more for each of {ALLOCATIONS}, {:.0} % back",
        kind.name(),
        measured.cpu_us,
        measured.per_second,
        measured.bytes,
        measured.returned * 100.0
    );
    Ok(measured)
}
