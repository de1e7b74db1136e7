//! The daemons' own threads in this process, whose allocator counts: heap allocations per relayed packet, over UDP, over
//! TCP, and handed over to the SFU and back.
use super::hosted::Hosted;
use super::load::{Field, Form, Load, Way};
use super::process::{free_port, options};
use crate::{cpu, result};
use anyhow::{Context, ensure};
use offhook_testkit::CountingAllocator;
use offhook_turn::{Plan, Server};
use offhook_turn_core::conf::Reading;
use std::time::Duration;
use tokio::runtime::Runtime;

const CLIENTS: usize = 100;
const RATE: u32 = 20_000;
/// Of every case, and once before all of them: tables and buffers have then grown to what the traffic needs.
const LASTS: Duration = Duration::from_millis(400);
const HANDED_OVER_LASTS: Duration = Duration::from_secs(3);

pub fn run() -> anyhow::Result<()> {
    let by_udp = count_relayed(&options(free_port()?), Field::allocate)?;
    result("turn.allocations_per_packet", by_udp, "allocations");
    let with_tcp = options(free_port()?).replace("no-tcp\n", "");
    let by_tcp = count_relayed(&with_tcp, Field::allocate_by_tcp)?;
    result("turn.allocations_per_packet_tcp", by_tcp, "allocations");
    for (threads, suffix) in [(1, ""), (2, "_2_threads")] {
        let counted = count_handed_over(threads)?;
        result(&format!("turn.allocations_per_packet_handed_over{suffix}"), counted, "allocations");
    }
    Ok(())
}

/// Of all threads, each by its kernel id.
fn counted(tids: &[i32]) -> u64 {
    tids.iter().map(|tid| CountingAllocator::count_of(*tid)).sum()
}

/// A server without a host, its relaying thread and those of its connections.
fn count_relayed(
    conf: &str,
    allocate: fn(std::net::SocketAddr, usize) -> anyhow::Result<Field>,
) -> anyhow::Result<f64> {
    let runtime: Runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("turn-tokio").enable_all().build()?;
    let mut reading = Reading::default();
    reading.add_file(conf);
    let (server, told) = runtime.block_on(Server::start(Plan::of(&reading.conf)?))?;
    std::thread::spawn(move || told.iter().count());
    let address = *server.udp_addresses().first().context("a listener")?;
    let by_tcp = !server.tcp_addresses().is_empty();
    let mut field = allocate(address, CLIENTS)?;
    let tids = cpu::tids_by_name("turn-");
    ensure!(tids.len() >= 2, "{} threads of the server: its own and one of connections are missing", tids.len());
    tids.iter().try_for_each(|tid| cpu::pin(*tid, 0))?;
    let (mut packets, mut allocations) = (0, 0);
    let forms = [Form::Channel, Form::Indication];
    let cases = forms.into_iter().flat_map(|form| [(Way::Up, form), (Way::Down, form)]);
    for (way, form) in cases.clone() {
        field.drive(&Load { way, form, rate: None, lasts: LASTS })?;
    }
    for rate in [Some(RATE), None] {
        for (way, form) in cases.clone() {
            let before = counted(&tids);
            let carried = field.drive(&Load { way, form, rate, lasts: LASTS })?.delivered;
            let more = counted(&tids) - before;
            eprintln!("by_tcp {by_tcp}, {way:?} {form:?} at {rate:?}: {more} allocations, {carried} packets");
            packets += carried;
            allocations += more;
        }
    }
    ensure!(packets > u64::from(RATE), "only {packets} packets were relayed");
    runtime.block_on(server.stop());
    Ok(allocations as f64 / packets as f64)
}

/// Media threads with their guests: what a leg sends goes to the SFU by a call, and what the other leg hears comes back.
fn count_handed_over(threads: u16) -> anyhow::Result<f64> {
    let mut hosted = Hosted::start(threads)?;
    let tids = hosted.tids()?;
    hosted.legs.drive(Duration::from_secs(1))?;
    hosted.legs.check()?;
    let before = counted(&tids);
    let packets = hosted.legs.drive(HANDED_OVER_LASTS)?;
    let allocations = counted(&tids) - before;
    eprintln!("handed over by {threads} media threads: {allocations} allocations, {packets} packets");
    hosted.stop()?;
    Ok(allocations as f64 / packets as f64)
}
