//! Reading an RTP packet: header, contributors, extensions, payload (RFC 3550 §5.1).

use core::ops::Range;

use crate::{AudioLevel, Extension, Extensions, FIXED_HEADER_LEN, RtpHeader};

/// Why bytes are not an RTP packet; such a packet is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    #[error("shorter than the header it announces")]
    Truncated,
    #[error("version {0} is not 2")]
    Version(u8),
    #[error("padding count {0} does not fit the packet")]
    Padding(u8),
}

/// The header alone. It can be read while the payload is still encrypted, when the padding cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderView {
    pub header: RtpHeader,
    /// Whether the last payload byte counts padding.
    pub padded: bool,
    csrc_count: u8,
    /// Profile word and length in bytes of the extension block's data, if there is one.
    extension: Option<(u16, usize)>,
}

impl HeaderView {
    /// # Errors
    /// [`RtpError::Truncated`] or [`RtpError::Version`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RtpError> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED_HEADER_LEN>().ok_or(RtpError::Truncated)?;
        let [b0, b1, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = *fixed;
        if b0 >> 6 != 2 {
            return Err(RtpError::Version(b0 >> 6));
        }
        let csrc_count = b0 & 0x0F;
        let rest = rest.get(usize::from(csrc_count) * 4..).ok_or(RtpError::Truncated)?;
        let extension = if b0 & 0x10 == 0 {
            None
        } else {
            let (&[p0, p1, l0, l1], data) = rest.split_first_chunk::<4>().ok_or(RtpError::Truncated)?;
            let len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
            if data.len() < len {
                return Err(RtpError::Truncated);
            }
            Some((u16::from_be_bytes([p0, p1]), len))
        };
        let header = RtpHeader {
            marker: b1 & 0x80 != 0,
            payload_type: b1 & 0x7F,
            sequence: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        };
        Ok(Self { header, padded: b0 & 0x20 != 0, csrc_count, extension })
    }

    /// Where the payload begins.
    #[must_use]
    pub const fn len(&self) -> usize {
        let extension = match self.extension {
            Some((_, len)) => 4 + len,
            None => 0,
        };
        self.csrc_end() + extension
    }

    /// Never true: a header has at least twelve bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    pub(crate) const fn csrc_end(&self) -> usize {
        FIXED_HEADER_LEN + 4 * self.csrc_count as usize
    }

    /// Profile word and position of the extension elements.
    pub(crate) fn extension_range(&self) -> Option<(u16, Range<usize>)> {
        let (profile, len) = self.extension?;
        let start = self.csrc_end() + 4;
        Some((profile, start..start + len))
    }
}

/// A whole packet, padding checked. Getters never fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    bytes: &'a [u8],
    view: HeaderView,
    payload_end: usize,
}

impl<'a> RtpPacket<'a> {
    /// # Errors
    /// [`RtpError`] names the broken rule.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let view = HeaderView::parse(bytes)?;
        let padding = if view.padded {
            // RFC 3550 §5.1: the count includes itself, so zero is as wrong as reaching into the header.
            let count = bytes.last().copied().unwrap_or(0);
            if count == 0 || usize::from(count) > bytes.len() - view.len() {
                return Err(RtpError::Padding(count));
            }
            usize::from(count)
        } else {
            0
        };
        Ok(Self { bytes, view, payload_end: bytes.len() - padding })
    }

    #[must_use]
    pub const fn header(&self) -> RtpHeader {
        self.view.header
    }

    #[must_use]
    pub const fn marker(&self) -> bool {
        self.view.header.marker
    }

    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        self.view.header.payload_type
    }

    #[must_use]
    pub const fn sequence(&self) -> u16 {
        self.view.header.sequence
    }

    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.view.header.timestamp
    }

    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.view.header.ssrc
    }

    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.view.len()
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The contributing sources: who is heard in this packet.
    pub fn csrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        let list = self.bytes.get(FIXED_HEADER_LEN..self.view.csrc_end()).unwrap_or_default();
        list.as_chunks::<4>().0.iter().map(|csrc| u32::from_be_bytes(*csrc))
    }

    /// The profile word of the extension block and its raw data.
    #[must_use]
    pub fn extension_block(&self) -> Option<(u16, &'a [u8])> {
        let (profile, range) = self.view.extension_range()?;
        Some((profile, self.bytes.get(range)?))
    }

    /// The elements of a one-byte or two-byte block; nothing for other profiles.
    #[must_use]
    pub fn extensions(&self) -> Extensions<'a> {
        self.extension_block().map_or_else(Extensions::empty, |(profile, data)| Extensions::new(profile, data))
    }

    #[must_use]
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions().find(|element: &Extension<'_>| element.id == id).map(|element| element.data)
    }

    /// The level under the negotiated extension id (RFC 6464 §3).
    #[must_use]
    pub fn audio_level(&self, id: u8) -> Option<AudioLevel> {
        self.extension(id)?.first().map(|byte| AudioLevel::from_byte(*byte))
    }

    /// Where the payload stands in the packet, padding left out.
    #[must_use]
    pub const fn payload_range(&self) -> Range<usize> {
        self.view.len()..self.payload_end
    }

    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.payload_range()).unwrap_or_default()
    }

    /// Bytes of padding behind the payload.
    #[must_use]
    pub const fn padding_len(&self) -> usize {
        self.bytes.len() - self.payload_end
    }
}
