//! The TURN server: what relaying costs against a bare loop of the same system calls and against Debian's coturn, all in
//! turns in the same run; allocations a second, memory of each, heap allocations per packet, and what the whole system
//! saves where TURN and SFU are one process.
//!
//! `--quick` behind the name has fewer rounds; a word behind it keeps to the cases whose names contain it.
mod allocating;
mod caller;
mod counting;
mod floor;
mod hosted;
mod inprocess;
mod legs;
mod load;
mod pages;
mod process;
mod relaying;
mod streams;
mod up;

use crate::cpu;
use anyhow::ensure;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

const SERVER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Apart from the server's, so that nobody's ports are in another's way.
const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PEER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const REALM: &str = "bench";
const USER: &str = "user";
const PASSWORD: &str = "sesame";
/// 20 ms of G.711 with RTP's header.
const PAYLOAD_BYTES: usize = 172;
const CHANNELS: RangeInclusive<u16> = 0x4000..=0x4FFF;
const CHANNELS_FROM: u16 = *CHANNELS.start();
/// Clients, relays and what else stands open.
const DESCRIPTORS: u64 = 12_000;

/// The channel of a client, by its number.
const fn channel(index: usize) -> u16 {
    CHANNELS_FROM + (index % 0x1000) as u16
}

pub struct Choice {
    pub quick: bool,
    /// A part of the names of cases.
    pub only: String,
}

pub fn run() -> anyhow::Result<()> {
    ensure!(cpu::cores() >= 2, "needs two cores: one for the servers, one for the generator");
    let words: Vec<String> = std::env::args().skip(2).collect();
    let quick = words.iter().any(|word| word == "--quick");
    let only = words.into_iter().find(|word| word != "--quick").unwrap_or_default();
    let choice = Choice { quick, only };
    cpu::raise_descriptor_limit(DESCRIPTORS)?;
    let hurries = cpu::hurry();
    conditions(hurries)?;
    cpu::pin(cpu::own_tid(), 1)?;
    relaying::run(&choice)?;
    if choice.has("allocate_rate bytes_per_allocation") {
        allocating::run(&choice)?;
    }
    if choice.has("allocations_per_packet") {
        counting::run()?;
    }
    if choice.has("inprocess_cpu_ratio_2_threads inprocess_cpu_ratio_200_legs") {
        inprocess::run(&choice)?;
    }
    Ok(())
}

impl Choice {
    fn has(&self, name: &str) -> bool {
        name.contains(&self.only) || (!self.only.is_empty() && self.only.contains(name))
    }
}

fn conditions(hurries: bool) -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    eprintln!("command: {}", args.join(" "));
    for kind in process::Kind::BOTH {
        eprintln!("{}", kind.describe()?);
    }
    eprintln!("turnserver.conf of both (port, pidfile and userdb of their own):\n{}", process::options(3_478));
    eprintln!(
        "floor: a thread on core 0: epoll_wait(64); from clients recvmmsg(64) and sendto, or a segmented send for a run of \
         one channel; from peers recvfrom of each ready socket (recvmmsg of fewer than 4) and one sendmmsg for all; \
         it looks by the clock, every 400 µs, while more than 10,000 packets a second come, as our server does"
    );
    eprintln!(
        "generator: one thread on core 1 that never sleeps, {PAYLOAD_BYTES}-byte payloads, each checked where it arrives \
         (owner, order, every byte), one socket for each client, one peer; 50k: one packet every 20 µs, clients in turn; \
         max: at most 1024 packets on their way, 128 with one allocation"
    );
    eprintln!("nice value of all: {}", if hurries { -15 } else { 0 });
    eprintln!("CPU time of the whole server process, kernel included, for every million packets that arrived; medians");
    Ok(())
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.into_iter().collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
