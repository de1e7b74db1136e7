//! Networks behind the host that a turnserver.conf leaves open: coturn closes none by itself.
use offhook_turn_core::{AddressRange, RelayAddress, Settings};

const NETWORKS: [&str; 6] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"];

/// A sentence, where a peer in one of them can be reached that no `allowed-peer-ip` names.
pub(crate) fn warning(settings: &Settings, relays: &[RelayAddress]) -> Option<String> {
    if !settings.turn || !settings.udp_relay {
        return None;
    }
    let closed: Vec<AddressRange> = settings.policy.denied.iter().chain(&settings.policy.allowed).copied().collect();
    let speaks = |range: &AddressRange| {
        relays.iter().any(|relay| relay.local.is_ipv4() == matches!(range, AddressRange::V4 { .. }))
    };
    let is_open = |network: &&str| {
        network.parse::<AddressRange>().is_ok_and(|range| speaks(&range) && !is_covered(range, &closed))
    };
    let open: Vec<&str> = NETWORKS.iter().copied().filter(|network| is_open(network)).collect();
    (!open.is_empty()).then(|| {
        format!(
            "private peers are reachable, as from coturn: close {} with denied-peer-ip, but for what clients shall reach",
            open.join(", ")
        )
    })
}

const fn borders(range: AddressRange) -> (bool, u128, u128) {
    match range {
        AddressRange::V4 { first, last } => (true, first as u128, last as u128),
        AddressRange::V6 { first, last } => (false, first, last),
    }
}

/// Whether each address of `range` is in one of `others`.
fn is_covered(range: AddressRange, others: &[AddressRange]) -> bool {
    let (v4, mut next, last) = borders(range);
    let mut others: Vec<_> = others.iter().map(|other| borders(*other)).filter(|other| other.0 == v4).collect();
    others.sort_unstable();
    for (_, first, end) in others {
        if first <= next && next <= end {
            match end.checked_add(1) {
                Some(after) if end < last => next = after,
                _ => return true,
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_by_those_that_leave_no_gap() {
        let is = |range: &str, others: &[&str]| {
            let others: Vec<AddressRange> = others.iter().map(|other| other.parse().unwrap()).collect();
            is_covered(range.parse().unwrap(), &others)
        };
        assert!(is("10.0.0.0/8", &["10.0.0.0-10.255.255.255"]) && is("10.0.0.0/8", &["0.0.0.0/0"]));
        assert!(is("10.0.0.0/8", &["10.128.0.0/9", "fc00::/7", "9.0.0.0-10.127.255.255", "10.3.0.0/16"]));
        assert!(!is("10.0.0.0/8", &["10.0.0.0-10.255.255.254"]) && !is("10.0.0.0/8", &["10.0.0.1-10.255.255.255"]));
        assert!(!is("10.0.0.0/8", &["10.0.0.0/9", "10.128.0.1-11.0.0.0"]) && !is("10.0.0.0/8", &["::/0"]));
        assert!(is("fc00::/7", &["fc00::/8", "fd00::/8"]) && is("ff00::/8", &["::/0"]) && !is("fc00::/7", &[]));
    }
}
