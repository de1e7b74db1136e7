//! The daemon's own thread in this process, whose allocator counts: heap allocations per relayed packet.
use super::load::{Field, Form, Load, Way};
use super::process::{free_port, options};
use crate::{alloc, cpu, result};
use anyhow::{Context, ensure};
use offhook_turn::{Plan, Server};
use offhook_turn_core::conf::Reading;
use std::time::Duration;

const CLIENTS: usize = 100;
const RATE: u32 = 20_000;
const LASTS: Duration = Duration::from_millis(400);

pub fn run() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut reading = Reading::default();
    reading.add_file(&options(free_port()?));
    let (server, told) = runtime.block_on(Server::start(Plan::of(&reading.conf)?))?;
    std::thread::spawn(move || told.iter().count());
    let address = *server.udp_addresses().first().context("a listener")?;
    let mut field = Field::allocate(address, CLIENTS)?;
    let tid = cpu::tid_by_name("turn-0")?;
    cpu::pin(tid, 0)?;
    let (mut packets, mut allocations) = (0, 0);
    for rate in [Some(RATE), None] {
        for (way, form) in [
            (Way::Up, Form::Channel),
            (Way::Down, Form::Channel),
            (Way::Up, Form::Indication),
            (Way::Down, Form::Indication),
        ] {
            let before = alloc::allocations_of(tid);
            packets += field.drive(&Load { way, form, rate, lasts: LASTS })?.delivered;
            allocations += alloc::allocations_of(tid) - before;
        }
    }
    ensure!(packets > u64::from(RATE), "only {packets} packets were relayed");
    runtime.block_on(server.stop());
    eprintln!("{allocations} heap allocations while {packets} packets were relayed");
    result("turn.allocations_per_packet", allocations as f64 / packets as f64, "allocations");
    Ok(())
}
