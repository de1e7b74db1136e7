//! Telling the protocols apart that share one port (RFC 7983 §7, RFC 5761 §4).

/// What the first bytes of a datagram announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatagramKind {
    Stun,
    Dtls,
    /// ChannelData of TURN (RFC 8656 §12.4).
    TurnChannel,
    Rtp,
    Rtcp,
    Unknown,
}

impl DatagramKind {
    /// Decides by the first byte, and between RTP and RTCP by the second.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        let Some(first) = datagram.first() else { return Self::Unknown };
        match *first {
            0..=3 => Self::Stun,
            20..=63 => Self::Dtls,
            64..=79 => Self::TurnChannel,
            128..=191 => match datagram.get(1) {
                // RFC 5761 §4: packet types 192 to 223 are RTCP; as RTP they would be payload types 64 to 95 with the marker.
                Some(192..=223) => Self::Rtcp,
                Some(_) => Self::Rtp,
                None => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

/// Version 2 in the first byte, and enough bytes to say which of the two it is.
#[must_use]
pub fn is_rtp_or_rtcp(datagram: &[u8]) -> bool {
    matches!(DatagramKind::of(datagram), DatagramKind::Rtp | DatagramKind::Rtcp)
}

#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    DatagramKind::of(datagram) == DatagramKind::Rtcp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_known_by_its_first_bytes() {
        assert_eq!(DatagramKind::of(&[0x00, 0x01]), DatagramKind::Stun);
        assert_eq!(DatagramKind::of(&[0x16, 0xFE]), DatagramKind::Dtls);
        assert_eq!(DatagramKind::of(&[0x40, 0x00]), DatagramKind::TurnChannel);
        assert_eq!(DatagramKind::of(&[0x80, 0x6F]), DatagramKind::Rtp);
        assert_eq!(DatagramKind::of(&[0x90, 0xEF]), DatagramKind::Rtp);
        assert_eq!(DatagramKind::of(&[0x80, 0xC8]), DatagramKind::Rtcp);
        assert_eq!(DatagramKind::of(&[0x81, 0xCF]), DatagramKind::Rtcp);
        for unknown in [&[][..], &[0x80], &[0xC0, 0], &[5, 0], &[100, 0]] {
            assert_eq!(DatagramKind::of(unknown), DatagramKind::Unknown, "{unknown:?}");
        }
    }
}
