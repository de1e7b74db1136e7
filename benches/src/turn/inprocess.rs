//! Calls whose every packet goes through the TURN server to the SFU and back: what the whole system spends where `offhook
//! up` hands these packets over inside its process, and where the TURN server is the same one as a program of its own.
//!
//! In the figure: CPU time of every thread of every process of the system, that is of `offhook up` with all its daemons and,
//! without the hand-over, of `offhook-turn` beside it: media, relaying, signalling, timers, and what the kernel does in
//! their system calls. Loopback delivers inside the sender's call: what the servers send is on their account down to the
//! receiving socket, what the browsers send is on the browsers'. Not in the figure: the browsers (the generator on the other
//! core, the same for both), and interrupts that meet an idle core.
use super::process::{Kind, Process};
use super::up::{People, SECRET, Up};
use super::{Choice, REALM, SERVER_IP, median};
use crate::result;
use std::time::Duration;

const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 5;
/// So few that a TURN server of its own carries each packet at once, so many that it lets some gather first.
const FEW: usize = 80;
const MANY: usize = 200;

struct Case {
    legs: usize,
    /// Media threads, and relaying ones.
    threads: u16,
    suffix: &'static str,
}

const CASES: [Case; 3] = [
    Case { legs: FEW, threads: 1, suffix: "" },
    Case { legs: FEW, threads: 2, suffix: "_2_threads" },
    Case { legs: MANY, threads: 1, suffix: "_200_legs" },
];

pub fn run(choice: &Choice) -> anyhow::Result<()> {
    eprintln!(
        "in-process: {FEW} and {MANY} legs in calls of two, made by call-control's pages, PCMU over DTLS-SRTP, all through \
         TURN channels; with: taskset -c 0 offhook up; without: taskset -c 0 offhook up with [turn] urls and secrets of \
         taskset -c 0 offhook-turn -c turnserver.conf; CPU time of the whole processes for every packet that arrived"
    );
    let people = People::make(MANY)?;
    for (case, port) in CASES.iter().zip((17_890..).step_by(4)) {
        if choice.has(&format!("inprocess_cpu_ratio{}", case.suffix)) {
            compare(&people, case, port, if choice.quick { 1 } else { ROUNDS })?;
        }
    }
    Ok(())
}

fn compare(people: &People, case: &Case, port: u16, rounds: usize) -> anyhow::Result<()> {
    let Case { legs, threads, suffix } = *case;
    let mut handed = Up::start(people, legs, port..=port + threads - 1, None)?;
    let beside = Process::with(Kind::Ours, |port| options(port, threads))?;
    let mut sockets = Up::start(people, legs, port + threads..=port + 2 * threads - 1, Some(beside))?;
    let what = format!("in-process, {legs} legs, threads {threads}");
    eprintln!(
        "{what}: nobody talks: {:.2} % of a core with, {:.2} % without",
        handed.idle_share() * 100.0,
        sockets.idle_share() * 100.0
    );
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (a, b) = (handed.ns_per_packet(ROUND)?, sockets.ns_per_packet(ROUND)?);
        eprintln!("{what}, round {round}: {a:.0} ns handed over, {b:.0} ns by sockets");
        with.push(a);
        without.push(b);
        ratios.push(a / b);
    }
    for (name, up) in [("handed over", &handed), ("by sockets", &sockets)] {
        let spent: Vec<String> =
            up.threads().iter().take(6).map(|(name, spent)| format!("{name} {:.2} s", spent.as_secs_f64())).collect();
        eprintln!("{what}, {name}, since the start: {}", spent.join(", "));
    }
    result(&format!("turn.inprocess_ns_per_packet{suffix}"), median(with), "ns");
    result(&format!("turn.inprocess_sockets_ns_per_packet{suffix}"), median(without), "ns");
    result(&format!("turn.inprocess_cpu_ratio{suffix}"), median(ratios), "ratio");
    Ok(())
}

fn options(port: u16, threads: u16) -> String {
    format!(
        "listening-ip={SERVER_IP}\nrelay-ip={SERVER_IP}\nlistening-port={port}\nrelay-threads={threads}\nrealm={REALM}\n\
         use-auth-secret\nstatic-auth-secret={SECRET}\nallow-loopback-peers\nno-tls\nno-dtls\nno-tcp\nno-cli\n\
         no-stdout-log\nlog-file=/dev/null\n"
    )
}
