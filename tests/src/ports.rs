//! Free ports on loopback.
use std::collections::HashSet;
use std::net::{TcpListener, UdpSocket};
use std::sync::{LazyLock, Mutex};

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(|| Mutex::new(HashSet::new()));

/// A port free for both TCP and UDP, given to nobody else in this process.
pub fn free() -> u16 {
    for _ in 0..1_000 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
    panic!("no free port on loopback");
}

/// The first of `count` free consecutive UDP ports, at an even number.
pub fn free_range(count: u16) -> u16 {
    for base in (20_000u16..31_000).step_by(usize::from(count.max(2))) {
        let mut given = GIVEN.lock().unwrap();
        let range = base..base + count;
        let fits = range.clone().all(|p| !given.contains(&p) && UdpSocket::bind(("127.0.0.1", p)).is_ok());
        if fits {
            given.extend(range);
            return base;
        }
    }
    panic!("no {count} free consecutive ports on loopback");
}
