//! Network namespaces of a test's own, and threads that enter them. Needs root.
#![allow(dead_code, reason = "no test needs all of it")]
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Gone with everything in it when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// With its loopback alone.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("oh-turn-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// On a card that leads nowhere, by which everything leaves: these are the host's addresses, the first of each family
    /// the one by which it goes out.
    pub fn with_addresses<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Self {
        let namespace = Self::new();
        namespace.ip("link add card type veth peer name wall");
        namespace.ip("link set card up");
        namespace.ip("link set wall up");
        let (mut v4, mut v6) = (false, false);
        for address in addresses {
            let is_v6 = address.contains(':');
            let (bits, more) = if is_v6 { ("128", " nodad") } else { ("32", "") };
            namespace.ip(&format!("addr add {address}/{bits} dev card{more}"));
            let was_there = std::mem::replace(if is_v6 { &mut v6 } else { &mut v4 }, true);
            if !was_there {
                namespace.ip(&format!("{} route add default dev card src {address}", if is_v6 { "-6" } else { "-4" }));
            }
        }
        namespace
    }

    /// A cable to another namespace, of this MTU, with an address (and its prefix) at each end.
    pub fn cable(&self, name: &str, address: &str, other: &Self, others: &str, mtu: u32) {
        let (here, there) = (&self.name, &other.name);
        let words =
            format!("link add {name} netns {here} mtu {mtu} type veth peer name {name} mtu {mtu} netns {there}");
        ip(&words.split(' ').collect::<Vec<_>>());
        for (end, address) in [(self, address), (other, others)] {
            let more = if address.contains(':') { " nodad" } else { "" };
            end.ip(&format!("addr add {address} dev {name}{more}"));
            end.ip(&format!("link set {name} up"));
        }
    }

    /// `ip` with these words, in here.
    pub fn ip(&self, words: &str) {
        ip(&["-n", &self.name].into_iter().chain(words.split(' ')).collect::<Vec<_>>());
    }

    /// A command that will run in here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Does `work` in here; sockets that it opens stay here.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
        let inside = || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

#[track_caller]
fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("ip is not installed (apt install iproute2)");
    assert!(output.status.success(), "ip {words:?} (needs root): {}", String::from_utf8_lossy(&output.stderr));
}
