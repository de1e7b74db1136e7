//! Where the stack listens, as far as a configuration says: TURN clients must not be relayed there.
use super::ConfigFile;
use offhook_contract::DaemonKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use toml::Value;

/// Where the daemons listen when nothing is said (`crates/offhook/tests/listening.rs` holds these to the truth).
const DEFAULTS: [(&str, &str, u16); 3] =
    [("control", "listen", 8_080), ("sfu", "tap_listen", 7_890), ("recorder", "listen", 7_891)];
const SIP_PORT: u16 = 5_060;
const RTP_PORTS: [u16; 2] = [20_000, 20_999];
const EVERYWHERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

impl ConfigFile {
    /// Each section's `listen` and `…_listen` but TURN's own and the SFU's media ports, which are peers; the pages of health
    /// and metrics; the bus. The wildcard address stands for every address of the host: SIP is received on whichever routes
    /// to a trunk.
    pub fn listening_sockets(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        for (name, section) in self.table.iter().filter(|(name, _)| *name != "turn") {
            for (key, value) in section.as_table().into_iter().flatten() {
                let listens = key == "listen" || key.ends_with("_listen");
                if listens && !(name == "sfu" && key == "media_listen") {
                    all.extend(sockets(value));
                }
            }
        }
        let unsaid = DEFAULTS.iter().filter(|(section, key, _)| self.said(section, key).is_none());
        all.extend(unsaid.map(|(_, _, port)| SocketAddr::from(([127, 0, 0, 1], *port))));
        let sip = self.said("sip", "listen").and_then(|value| sockets(value).first().map(SocketAddr::port));
        all.extend(EVERYWHERE.map(|ip| SocketAddr::new(ip, sip.unwrap_or(SIP_PORT))));
        all.extend([None].into_iter().chain(DaemonKind::ALL.map(Some)).map(crate::health_port));
        let servers = self.bus().map(|bus| bus.url).unwrap_or_default();
        all.extend(servers.iter().filter_map(|url| url.split("://").last()?.parse::<SocketAddr>().ok()));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Ports on which the stack receives on whichever address of the host: RTP's. Relays have theirs where the ranges meet
    /// and nobody chose RTP's.
    pub fn listening_ports(&self) -> Vec<RangeInclusive<u16>> {
        let said = self.said("sip", "rtp_ports").and_then(Value::as_array).and_then(|range| {
            let port = |at: usize| u16::try_from(range.get(at)?.as_integer()?).ok();
            Some([port(0)?, port(1)?])
        });
        let relays = self.turn().map(|turn| turn.relay_ports);
        let meets = |ports: &[u16; 2]| relays.as_ref().is_ok_and(|r| ports[0] <= *r.end() && *r.start() <= ports[1]);
        let ports = said.or(Some(RTP_PORTS).filter(|ports| !meets(ports)));
        ports.map(|[first, last]| first..=last).into_iter().collect()
    }

    fn said(&self, section: &str, key: &str) -> Option<&Value> {
        self.table.get(section)?.get(key)
    }
}

/// `"a"` as well as `["a", "b"]`.
fn sockets(value: &Value) -> Vec<SocketAddr> {
    let texts = value.as_array().map_or_else(|| vec![value], |list| list.iter().collect());
    texts.into_iter().filter_map(|text| text.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse("offhook.toml", text, []).unwrap()
    }

    #[test]
    fn sip_listens_wherever_a_trunk_is_reached_from() {
        let has = |text: &str, socket: &str| file(text).listening_sockets().contains(&socket.parse().unwrap());
        for text in ["", "[sip]\nlisten = []\n"] {
            assert!(has(text, "0.0.0.0:5060") && has(text, "[::]:5060"));
        }
        let text = "[sip]\nlisten = [\"192.0.2.1:5070\", \"192.0.2.2:5080\"]\n";
        assert!(has(text, "192.0.2.1:5070") && has(text, "192.0.2.2:5080"));
        assert!(has(text, "0.0.0.0:5070") && !has(text, "0.0.0.0:5060") && !has(text, "0.0.0.0:5080"));
    }

    #[test]
    fn rtps_ports_are_ours_unless_relays_have_them() {
        let ports = |text: &str| file(text).listening_ports();
        assert_eq!(ports(""), [20_000..=20_999]);
        assert_eq!(ports("[sip]\nrtp_ports = [30000, 30099]\n"), [30_000..=30_099]);
        assert!(ports("[turn]\nrelay_ports = [20500, 29999]\n").is_empty());
        let both = "[sip]\nrtp_ports = [30000, 30099]\n[turn]\nrelay_ports = [30050, 39999]\n";
        assert_eq!(ports(both), [30_000..=30_099]);
    }
}
