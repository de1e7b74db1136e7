//! One sender, 500 receivers: what it costs to forward a packet, against a bare loop of the same system calls and
//! crypto over the same topology in the same run.
pub mod client;
pub mod daemon;
mod floor;
pub mod ground;
mod memory;

use crate::{cpu, result};
use anyhow::ensure;

pub const RECEIVERS: usize = 500;
/// Twice a phone's rate, below the cap of a sender.
pub const PACKETS_PER_SECOND: u32 = 100;
pub const PAYLOAD_BYTES: usize = 160;
/// Seconds of one round, and rounds of each side, taken in turns.
const ROUND_S: u32 = 4;
const ROUNDS: usize = 3;

/// What one round cost.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub ns_per_packet: f64,
    pub allocations: u64,
    pub packets: u64,
}

pub fn run() -> anyhow::Result<()> {
    ensure!(cpu::cores() >= 2, "needs two cores: one for the media thread, one for everybody else");
    conditions();
    let memory = memory::ns_per_packet()?;
    let packets = PACKETS_PER_SECOND * ROUND_S;
    let mut ours = daemon::Ours::start()?;
    let mut floor = floor::Floor::start()?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (a, b) = (ours.round(packets)?, floor.round(packets)?);
        eprintln!("round {round}: {:.0} ns ours, {:.0} ns floor", a.ns_per_packet, b.ns_per_packet);
        own.push(a);
        bare.push(b);
    }
    ours.stop()?;
    let (socket, least) = (median(&own), median(&bare));
    let allocations: u64 = own.iter().map(|round| round.allocations).sum();
    let forwarded: u64 = own.iter().map(|round| round.packets).sum();
    result("forward.memory_ns_per_packet", memory, "ns");
    result("forward.socket_ns_per_packet", socket, "ns");
    result("forward.floor_ns_per_packet", least, "ns");
    result("forward.ratio_to_floor", socket / least, "ratio");
    result("forward.allocations_per_packet", allocations as f64 / forwarded as f64, "allocations");
    Ok(())
}

fn conditions() {
    let args: Vec<String> = std::env::args().collect();
    eprintln!("command: {}", args.join(" "));
    eprintln!("ours: the SFU daemon in this process on the in-process bus, media_threads = 1, pinned to core 0");
    eprintln!(
        "floor: epoll_wait, recvmmsg(64), AES-256-GCM open, {RECEIVERS} x AES-256-GCM seal, sendmmsg(64), core 0"
    );
    eprintln!(
        "peers: one sender of {PACKETS_PER_SECOND} packets/s of {PAYLOAD_BYTES} bytes, {RECEIVERS} receivers, each with its \
         own UDP socket on loopback and (ours) its own ICE and DTLS, AEAD_AES_256_GCM, on core 1"
    );
    eprintln!("{ROUNDS} rounds of {ROUND_S} s each; CPU time of the forwarding thread, kernel included; medians");
}

fn median(rounds: &[Round]) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(|round| round.ns_per_packet).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The payload of packet `number`: recognisable, and different from its neighbours.
pub fn payload(number: u32) -> [u8; PAYLOAD_BYTES] {
    let mut bytes = [0xd5; PAYLOAD_BYTES];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[PAYLOAD_BYTES - 4..].copy_from_slice(&(!number).to_be_bytes());
    bytes
}
