//! Plain and XORed transport addresses (RFC 8489 §14.1 and §14.2).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{AddressFamily, MAGIC_COOKIE, TransactionId};

/// The longest address value: family, port and sixteen bytes.
pub(crate) const MAX_ADDRESS_LEN: usize = 20;

/// The sixteen bytes an address is XORed with: cookie, then transaction id.
fn mask(transaction: TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    let (cookie, id) = mask.split_at_mut(4);
    cookie.copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    id.copy_from_slice(&transaction.0);
    mask
}

fn xor<const N: usize>(mut bytes: [u8; N], mask: &[u8; 16]) -> [u8; N] {
    bytes.iter_mut().zip(mask).for_each(|(byte, m)| *byte ^= m);
    bytes
}

pub(crate) fn decode(value: &[u8]) -> Option<SocketAddr> {
    decode_masked(value, &[0; 16])
}

pub(crate) fn decode_xor(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    decode_masked(value, &mask(transaction))
}

fn decode_masked(value: &[u8], mask: &[u8; 16]) -> Option<SocketAddr> {
    let (head, address) = value.split_first_chunk::<4>()?;
    let [_reserved, family, p0, p1] = *head;
    let port = u16::from_be_bytes(xor([p0, p1], mask));
    let ip = match AddressFamily::from_wire(family)? {
        AddressFamily::V4 => IpAddr::V4(Ipv4Addr::from(xor(<[u8; 4]>::try_from(address).ok()?, mask))),
        AddressFamily::V6 => IpAddr::V6(Ipv6Addr::from(xor(<[u8; 16]>::try_from(address).ok()?, mask))),
    };
    Some(SocketAddr::new(ip, port))
}

pub(crate) fn encode(address: SocketAddr, out: &mut [u8; MAX_ADDRESS_LEN]) -> usize {
    encode_masked(address, &[0; 16], out)
}

pub(crate) fn encode_xor(address: SocketAddr, transaction: TransactionId, out: &mut [u8; MAX_ADDRESS_LEN]) -> usize {
    encode_masked(address, &mask(transaction), out)
}

fn encode_masked(address: SocketAddr, mask: &[u8; 16], out: &mut [u8; MAX_ADDRESS_LEN]) -> usize {
    let [p0, p1] = xor(address.port().to_be_bytes(), mask);
    let (family, bytes, len) = match address.ip() {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&xor(v4.octets(), mask));
            (AddressFamily::V4, bytes, 8)
        }
        IpAddr::V6(v6) => (AddressFamily::V6, xor(v6.octets(), mask), 20),
    };
    out[..4].copy_from_slice(&[0, family.wire(), p0, p1]);
    out[4..].copy_from_slice(&bytes);
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_come_back_plain_and_masked() {
        let id = TransactionId([7; 12]);
        for address in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let address: SocketAddr = address.parse().unwrap();
            let mut out = [0; MAX_ADDRESS_LEN];
            let len = encode_xor(address, id, &mut out);
            assert_eq!(decode_xor(&out[..len], id), Some(address));
            assert_ne!(decode(&out[..len]), Some(address));
            let len = encode(address, &mut out);
            assert_eq!(decode(&out[..len]), Some(address));
        }
    }

    #[test]
    fn wrong_family_or_length_is_no_address() {
        assert_eq!(decode(&[0, 1, 0, 80, 127, 0, 0]), None);
        assert_eq!(decode(&[0, 1, 0, 80, 127, 0, 0, 1, 0]), None);
        assert_eq!(decode(&[0, 3, 0, 80, 127, 0, 0, 1]), None);
        assert_eq!(decode(&[0, 2, 0, 80, 127, 0, 0, 1]), None);
    }
}
