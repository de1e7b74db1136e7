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
    tids_by_name(name).into_iter().next().with_context(|| format!("no thread is called {name}"))
}

/// All of them.
pub fn tids_by_name(name: &str) -> Vec<i32> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().map_while(Result::ok);
    let named = threads.map(|entry| entry.path()).filter(|path| {
        let called = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        called.trim_end().starts_with(name)
    });
    named.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

/// Name and CPU time of each thread of a process.
pub fn threads_of(pid: u32) -> Vec<(String, Duration)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().map_while(Result::ok);
    let read = threads.filter_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        // Time on a core in ns, the first of three numbers.
        let spent = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let spent = Duration::from_nanos(spent.split(' ').next()?.parse().ok()?);
        Some((name.trim_end().to_owned(), spent))
    });
    read.collect()
}

/// CPU time, system time included, of a thread of this process.
pub fn time_of(tid: i32) -> Duration {
    // The clock of a thread, as the kernel encodes it: the inverted id above "per thread" and "scheduler's count".
    read((!tid << 3) | 6)
}

/// The same of a whole process, ours or another.
pub fn time_of_process(pid: i32) -> Duration {
    read((!pid << 3) | 2)
}

/// Before others, where that is allowed; for this process and those it starts later. What else the machine does then
/// disturbs less. The scheduler weighs sessions before it weighs processes, if it was built with autogroups.
pub fn hurry() -> bool {
    let _ = std::fs::write("/proc/self/autogroup", "-15");
    // SAFETY: no pointers are passed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) == 0 }
}

/// Descriptors for ten thousand clients; processes started later inherit the limit.
pub fn raise_descriptor_limit(wanted: u64) -> anyhow::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the calls read and write one rlimit, which lives through them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    if limit.rlim_max < wanted {
        bail!("needs {wanted} descriptors, {} are allowed: ulimit -n", limit.rlim_max);
    }
    Ok(())
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec, which lives through the call.
    let code = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(code, 0, "a clock of CPU time");
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
