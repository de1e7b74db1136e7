//! A network namespace with one cable to this one, and a firewall in it. Needs root.
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

/// Removed with everything in it.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
    /// This side of the cable.
    pub outside: IpAddr,
}

impl Namespace {
    /// A namespace whose firewall drops every UDP datagram that would leave.
    pub fn without_udp() -> Self {
        let number = std::process::id();
        let (name, cable) = (format!("offhook-{number}"), format!("oh{}", number % 1_000_000));
        let octet = (number % 250) as u8 + 1;
        let (outside, inside) = (Ipv4Addr::new(10, 77, octet, 1), Ipv4Addr::new(10, 77, octet, 2));
        let namespace = Self { name, outside: IpAddr::V4(outside) };
        let far = format!("{cable}x");
        run("ip", &["netns", "add", &namespace.name]);
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", &far, "netns", &namespace.name]);
        run("ip", &["addr", "add", &format!("{outside}/24"), "dev", &cable]);
        run("ip", &["link", "set", &cable, "up"]);
        namespace.inside(&["ip", "addr", "add", &format!("{inside}/24"), "dev", &far]);
        namespace.inside(&["ip", "link", "set", &far, "up"]);
        namespace.inside(&["ip", "link", "set", "lo", "up"]);
        namespace.inside(&["nft", "add", "table", "inet", "firewall"]);
        let chain = "{ type filter hook output priority 0 ; }";
        namespace.inside(&["nft", "add", "chain", "inet", "firewall", "out", chain]);
        namespace.inside(&[
            "nft", "add", "rule", "inet", "firewall", "out", "oifname", "!=", "lo", "meta", "l4proto", "udp",
            "counter", "drop",
        ]);
        namespace
    }

    fn inside(&self, command: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.name], command].concat())
    }

    /// Connections to other ports are dropped as well.
    pub fn let_only_out(&self, ports: &[u16]) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = format!("{{ {} }}", ports.join(", "));
        let rule = ["nft", "add", "rule", "inet", "firewall", "out", "oifname", "!=", "lo", "tcp", "dport", "!="];
        self.inside(&[&rule[..], &[&ports, "drop"]].concat());
    }

    /// Datagrams that the firewall dropped.
    pub fn dropped(&self) -> u64 {
        let rules = self.inside(&["nft", "list", "chain", "inet", "firewall", "out"]);
        let packets = rules.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next());
        packets.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no counter in {rules}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The cable goes with it.
        let quiet = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
        drop(quiet);
    }
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {arguments:?} (needs root): {words}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
