//! Allocations come and go: how many a second one core makes, what each weighs while it stands, and what of it comes back.
//!
//! The server has core 0 to itself, the generator asks from core 1 with 64 requests in flight and never sleeps. The rate is
//! allocations in a second of the clock while the server had nothing else to do than to work; where it had to wait for
//! requests (less than 95 % busy), it is allocations in a second of the server's CPU, which is what a core that never waits
//! makes, and the unit of the line says so.
use super::caller::{Caller, Want, everyone};
use super::load::Field;
use super::process::{Kind, Process};
use super::{CLIENT_IP, Choice, median};
use crate::result;
use std::time::Duration;

const ALLOCATIONS: usize = 10_000;
/// Come and gone before anything is measured, so that code is in memory: no more, for the heap that they leave behind is
/// heap that the measured ones would not have to take.
const WARM_UP: usize = 64;
const ROUNDS: usize = 5;
/// For memory to go back.
const SETTLES: Duration = Duration::from_millis(1_500);
/// The share of its core that a server uses which does not wait for the generator.
const SATURATED: f64 = 0.95;

#[derive(Debug, Clone, Copy)]
struct Measured {
    per_second: f64,
    per_cpu_second: f64,
    busy: f64,
    bytes: f64,
    left: f64,
}

pub fn run(choice: &Choice) -> anyhow::Result<()> {
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..if choice.quick { 1 } else { ROUNDS } {
        for (kind, measured) in Kind::BOTH.into_iter().zip(&mut all) {
            measured.push(measure(kind)?);
        }
    }
    let [ours, coturn] = &all;
    let both = |take: fn(&Measured) -> f64| [ours, coturn].map(|all| median(all.iter().map(take)));
    let (clock, cpu, busy) = (both(|m| m.per_second), both(|m| m.per_cpu_second), both(|m| m.busy));
    for (index, name) in ["ours", "coturn"].into_iter().enumerate() {
        result(&format!("turn.allocations_per_second_{name}"), clock[index], "1/s");
        result(&format!("turn.allocations_per_cpu_second_{name}"), cpu[index], "1/s of CPU");
        result(&format!("turn.allocate_busy_{name}"), busy[index], "share of a core");
    }
    let [by_clock, by_cpu] = [clock, cpu].map(|[ours, coturn]| ours / coturn);
    if busy.iter().all(|busy| *busy >= SATURATED) {
        result("turn.allocate_rate_ratio", by_clock, "ratio of allocations a second, both saturated");
    } else {
        result("turn.allocate_rate_ratio", by_cpu, "ratio of allocations a second of CPU, not both saturated");
    }
    result("turn.allocate_rate_ratio_clock", by_clock, "ratio of allocations a second");
    result("turn.allocate_rate_ratio_cpu", by_cpu, "ratio of allocations a second of CPU");
    let [(bytes, coturns), (left, coturns_left)] =
        [both(|m| m.bytes), both(|m| m.left)].map(|[ours, coturn]| (ours, coturn));
    result("turn.bytes_per_allocation", bytes, "bytes");
    result("turn.bytes_per_allocation_coturn", coturns, "bytes");
    result("turn.bytes_per_allocation_ratio", bytes / coturns, "ratio");
    result("turn.bytes_left_per_allocation", left, "bytes, after they ended");
    result("turn.bytes_left_per_allocation_coturn", coturns_left, "bytes, after they ended");
    result("turn.bytes_returned", 1.0 - left / bytes, "share");
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
    let took = everyone(&mut callers, process.address, Want::Allocate)?.as_secs_f64();
    let spent = (process.cpu() - before).as_secs_f64();
    everyone(&mut callers, process.address, Want::Bind(peer))?;
    let full = process.resident_bytes()?;
    everyone(&mut callers, process.address, Want::Release)?;
    std::thread::sleep(SETTLES);
    let left = process.resident_bytes()?;
    let count = ALLOCATIONS as f64;
    let measured = Measured {
        per_second: count / took,
        per_cpu_second: count / spent,
        busy: spent / took,
        bytes: full.saturating_sub(empty) as f64 / count,
        left: left.saturating_sub(empty) as f64 / count,
    };
    eprintln!(
        "allocate {}: {:.0}/s, the server {:.0} % busy, {:.1} µs of CPU each; {empty} bytes resident before, {:.0} more for \
         each of {ALLOCATIONS}, {:.0} for each after they ended",
        kind.name(),
        measured.per_second,
        measured.busy * 100.0,
        1e6 / measured.per_cpu_second,
        measured.bytes,
        measured.left
    );
    Ok(measured)
}
