//! Messages off a stream (RFC 8656 §12.5, RFC 8489 §6.2.2): STUN and ChannelData one behind the other.
use offhook_wire_stun::{HEADER_LEN, MAGIC_COOKIE, channel_data, framed_len};

/// What stands at the front of what a stream has brought so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// More must come first.
    Incomplete,
    /// A message of `length` bytes; the next one begins at `next`, behind the padding of ChannelData.
    Message { length: usize, next: usize },
    /// Neither of them: there is no way to find the next message, so the connection ends.
    Broken,
}

/// Looks at the front of `stream`. The first message of a connection is a STUN message: whoever begins with anything else
/// speaks another protocol.
#[must_use]
pub fn next_message(stream: &[u8], is_first: bool) -> Framed {
    let framed = |length: usize, next: usize| {
        if stream.len() < next { Framed::Incomplete } else { Framed::Message { length, next } }
    };
    let cookie = stream.get(4..).unwrap_or_default().iter().zip(MAGIC_COOKIE.to_be_bytes());
    match stream {
        [] => Framed::Incomplete,
        [first, ..] if is_first && *first >= 0x40 => Framed::Broken,
        [0..=0x3F, ..] if cookie.into_iter().any(|(theirs, ours)| *theirs != ours) => Framed::Broken,
        [0..=0x3F, ..] => match framed_len(stream) {
            Some(length) if length.is_multiple_of(4) => framed(length, length),
            None if stream.len() < HEADER_LEN => Framed::Incomplete,
            _ => Framed::Broken,
        },
        [0x40..=0x7F, _, l0, l1, ..] => {
            let length = channel_data::HEADER_LEN + usize::from(u16::from_be_bytes([*l0, *l1]));
            framed(length, length.next_multiple_of(4))
        }
        [0x40..=0x7F, ..] => Framed::Incomplete,
        _ => Framed::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_apart_byte_by_byte() {
        let mut stream = vec![0, 1, 0, 4, 0x21, 0x12, 0xA4, 0x42];
        stream.extend([7; 12]);
        stream.extend([0x80, 0x22, 0, 0]);
        stream.extend([0x40, 1, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);
        let first = stream.len() - 12;
        for end in 0..first {
            assert_eq!(next_message(&stream[..end], true), Framed::Incomplete, "{end}");
        }
        assert_eq!(next_message(&stream, true), Framed::Message { length: 24, next: 24 });
        let rest = &stream[24..];
        (0..12).for_each(|end| assert_eq!(next_message(&rest[..end], false), Framed::Incomplete));
        assert_eq!(next_message(rest, false), Framed::Message { length: 9, next: 12 });
    }

    #[test]
    fn other_protocols_are_told_by_their_first_bytes() {
        for other in
            [&b"GET / HTTP/1.1"[..], b"SSH-2.0", b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4", &[0x50], &[0x16; 20]]
        {
            assert_eq!(next_message(other, true), Framed::Broken, "{other:?}");
        }
        // ChannelData may not come first.
        assert_eq!(next_message(&[0x40, 0, 0, 0], true), Framed::Broken);
        assert_eq!(next_message(&[0x40, 0, 0, 0], false), Framed::Message { length: 4, next: 4 });
        assert_eq!(next_message(&[0x80, 0, 0, 0], false), Framed::Broken);
        let mut odd = [0; 21];
        odd[3] = 1;
        odd[4..8].copy_from_slice(&[0x21, 0x12, 0xA4, 0x42]);
        assert_eq!(next_message(&odd, false), Framed::Broken);
    }
}
