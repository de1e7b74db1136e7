//! The ranges that no stranger may be sent to (IANA's special-purpose registries, RFC 6890).
use super::Forbidden;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is special; `None` for one of the open Internet.
pub(super) fn special(ip: IpAddr) -> Option<Forbidden> {
    match ip {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

const fn special_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    Some(match ip.octets() {
        [0, ..] => Forbidden::Unspecified,
        [127, ..] => Forbidden::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Forbidden::Private,
        // Among them the clouds' metadata service (RFC 3927, 169.254.169.254).
        [169, 254, ..] => Forbidden::LinkLocal,
        [100, 64..=127, ..] => Forbidden::CarrierGrade,
        [224..=239, ..] => Forbidden::Multicast,
        [255, 255, 255, 255] => Forbidden::Broadcast,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Forbidden::Documentation,
        // Protocol assignments, the end of 6to4's relays (RFC 7526), benchmarking, class E.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Forbidden::Reserved,
        _ => return None,
    })
}

const fn special_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Forbidden::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Forbidden::Loopback,
        // The clouds' metadata service is as closed here as at 169.254.169.254.
        [0xfd00, 0x0ec2, ..] => Forbidden::LinkLocal,
        // Site-local (RFC 3879) is as private as what came after it.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Forbidden::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Forbidden::LinkLocal,
        [0xff00..=0xffff, ..] => Forbidden::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Forbidden::Documentation,
        // NAT64 with a prefix of the operator's own (RFC 8215): where it leads cannot be seen from here.
        [0x0064, 0xff9b, 1, ..] => Forbidden::Reserved,
        // Discard-only (RFC 6666) and everything else below 2000::/3 but NAT64's /96; IETF's protocol assignments (RFC 2928)
        // but Teredo; segment routing (RFC 9602).
        [0x0064, 0xff9b, 0, ..] | [0x2001, 0, ..] => return None,
        [0x2001, 1..=0x1ff, ..] | [0..=0x1fff, ..] | [0x5f00, ..] => Forbidden::Reserved,
        _ => return None,
    })
}
