//! Threads by their kernel id: their CPU time, and the core they stay on.
#![allow(unsafe_code)]
use anyhow::{Context, bail};
use std::time::Duration;

pub fn own_tid() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

/// The thread of this process whose name begins with `name`.
pub fn tid_by_name(name: &str) -> anyhow::Result<i32> {
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if comm.trim_end().starts_with(name) {
            let tid = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
            return tid.context("a thread's number");
        }
    }
    bail!("no thread is called {name}")
}

/// CPU time, system time included, of a thread of this process.
pub fn time_of(tid: i32) -> Duration {
    // The clock of a thread, as the kernel encodes it: the inverted id above "per thread" and "scheduler's count".
    let clock = (!tid << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives through the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(code, 0, "the clock of thread {tid}");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Keeps a thread on one core.
pub fn pin(tid: i32, core: usize) -> anyhow::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set; the calls read and write only it.
    let code = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if code != 0 {
        bail!("cannot pin thread {tid} to core {core}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
