//! ChannelData framing (RFC 8656 §12.4): four bytes in front of a relayed datagram.

/// Channel number and length.
pub const HEADER_LEN: usize = 4;
/// First and last number a client may bind (RFC 8656 §12).
pub const CHANNEL_RANGE: core::ops::RangeInclusive<u16> = 0x4000..=0x4FFF;

/// A relayed datagram as it stands in the carrier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelData<'a> {
    pub channel: u16,
    pub payload: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelDataError {
    #[error("shorter than the 4-byte header")]
    Truncated,
    #[error("channel {0:#06x} is outside the range a client may bind")]
    Channel(u16),
    #[error("length field says {declared} bytes, {actual} are there")]
    Length { declared: usize, actual: usize },
}

impl<'a> ChannelData<'a> {
    /// Reads one datagram. Bytes behind the declared length are padding and ignored (RFC 8656 §12.5).
    ///
    /// # Errors
    /// [`ChannelDataError`] names the broken rule.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ChannelDataError> {
        let (&[c0, c1, l0, l1], rest) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(ChannelDataError::Truncated)?;
        let channel = u16::from_be_bytes([c0, c1]);
        if !CHANNEL_RANGE.contains(&channel) {
            return Err(ChannelDataError::Channel(channel));
        }
        let declared = usize::from(u16::from_be_bytes([l0, l1]));
        let payload = rest.get(..declared).ok_or(ChannelDataError::Length { declared, actual: rest.len() })?;
        Ok(Self { channel, payload })
    }
}

/// The header to write in front of `payload_len` bytes; `None` if the length does not fit its field.
#[must_use]
pub fn header(channel: u16, payload_len: usize) -> Option<[u8; HEADER_LEN]> {
    let [l0, l1] = u16::try_from(payload_len).ok()?.to_be_bytes();
    let [c0, c1] = channel.to_be_bytes();
    Some([c0, c1, l0, l1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_without_its_padding() {
        let mut datagram = header(0x4001, 3).unwrap().to_vec();
        datagram.extend_from_slice(b"abc\0");
        assert_eq!(ChannelData::parse(&datagram).unwrap(), ChannelData { channel: 0x4001, payload: b"abc" });
    }

    #[test]
    fn foreign_channels_and_short_payloads_are_refused() {
        assert_eq!(ChannelData::parse(&[0x3F, 0xFF, 0, 0]), Err(ChannelDataError::Channel(0x3FFF)));
        assert_eq!(ChannelData::parse(&[0x50, 0x00, 0, 0]), Err(ChannelDataError::Channel(0x5000)));
        assert_eq!(ChannelData::parse(&[0x40, 0, 0]), Err(ChannelDataError::Truncated));
        let short = ChannelData::parse(&[0x40, 0, 0, 2, 9]);
        assert_eq!(short, Err(ChannelDataError::Length { declared: 2, actual: 1 }));
        assert_eq!(header(0x4000, 65_536), None);
    }
}
