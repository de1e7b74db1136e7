//! The borrowed packets of a compound.

use super::{ReportBlock, SDES_CNAME, SenderInfo};
use crate::NtpTime;

/// One packet of a compound; what we do not act on stays visible as `Unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    SenderReport(SenderReport<'a>),
    ReceiverReport(ReceiverReport<'a>),
    SourceDescription(SourceDescription<'a>),
    Goodbye(Goodbye<'a>),
    GenericNack(GenericNack<'a>),
    Unknown { packet_type: u8, format: u8, body: &'a [u8] },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport<'a> {
    pub ssrc: u32,
    pub info: SenderInfo,
    pub(super) blocks: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub fn reports(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverReport<'a> {
    pub ssrc: u32,
    pub(super) blocks: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub fn reports(&self) -> impl ExactSizeIterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

fn report_blocks(blocks: &[u8]) -> impl ExactSizeIterator<Item = ReportBlock> + use<'_> {
    blocks.as_chunks::<24>().0.iter().map(|block| {
        let word = |at: usize| block.get(at..).and_then(|b| b.first_chunk()).copied().map_or(0, u32::from_be_bytes);
        let loss = word(4);
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
        ReportBlock {
            ssrc: word(0),
            fraction_lost: (loss >> 24) as u8,
            // Shifting up and back down spreads the sign of the 24-bit field.
            cumulative_lost: ((loss << 8) as i32) >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        }
    })
}

pub(super) fn sender_info(bytes: &[u8; 20]) -> SenderInfo {
    let [n0, n1, n2, n3, n4, n5, n6, n7, t0, t1, t2, t3, p0, p1, p2, p3, o0, o1, o2, o3] = *bytes;
    SenderInfo {
        ntp: NtpTime(u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7])),
        rtp_timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        packet_count: u32::from_be_bytes([p0, p1, p2, p3]),
        octet_count: u32::from_be_bytes([o0, o1, o2, o3]),
    }
}

/// The chunks were walked once by the reader, so these iterators end where the chunks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceDescription<'a> {
    pub(super) count: u8,
    pub(super) body: &'a [u8],
}

impl<'a> SourceDescription<'a> {
    pub fn chunks(&self) -> impl Iterator<Item = SdesChunk<'a>> + use<'a> {
        let mut rest = self.body;
        (0..self.count).map_while(move |_| {
            let (chunk, behind) = split_chunk(rest)?;
            rest = behind;
            Some(chunk)
        })
    }

    /// The canonical name given for `ssrc`, if it is text.
    #[must_use]
    pub fn cname(&self, ssrc: u32) -> Option<&'a str> {
        let chunk = self.chunks().find(|chunk| chunk.ssrc == ssrc)?;
        let item = chunk.items().find(|item| item.item_type == SDES_CNAME)?;
        core::str::from_utf8(item.value).ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SdesChunk<'a> {
    pub ssrc: u32,
    items: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SdesItem<'a> {
    pub item_type: u8,
    pub value: &'a [u8],
}

impl<'a> SdesChunk<'a> {
    pub fn items(&self) -> impl Iterator<Item = SdesItem<'a>> + use<'a> {
        let mut rest = self.items;
        core::iter::from_fn(move || {
            let (item, behind) = split_item(rest)?;
            rest = behind;
            Some(item)
        })
    }
}

fn split_item(items: &[u8]) -> Option<(SdesItem<'_>, &[u8])> {
    let (&[item_type, len], rest) = items.split_first_chunk::<2>()?;
    if item_type == 0 {
        return None;
    }
    let (value, rest) = rest.split_at_checked(usize::from(len))?;
    Some((SdesItem { item_type, value }, rest))
}

/// RFC 3550 §6.5: items, at least one zero byte, then padding to the next word.
pub(super) fn split_chunk(body: &[u8]) -> Option<(SdesChunk<'_>, &[u8])> {
    let (ssrc, list) = body.split_first_chunk::<4>()?;
    let mut rest = list;
    while let Some((_, behind)) = split_item(rest) {
        rest = behind;
    }
    if rest.first() != Some(&0) {
        return None;
    }
    let items_len = list.len() - rest.len();
    let (_, behind) = list.split_at_checked((items_len + 1).next_multiple_of(4))?;
    Some((SdesChunk { ssrc: u32::from_be_bytes(*ssrc), items: list.get(..items_len)? }, behind))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye<'a> {
    pub(super) sources: &'a [u8],
    pub(super) reason: Option<&'a [u8]>,
}

impl<'a> Goodbye<'a> {
    pub fn ssrcs(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.sources.as_chunks::<4>().0.iter().map(|ssrc| u32::from_be_bytes(*ssrc))
    }

    /// Text for people, if the sender gave any that is UTF-8.
    #[must_use]
    pub fn reason(&self) -> Option<&'a str> {
        self.reason.and_then(|reason| core::str::from_utf8(reason).ok())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenericNack<'a> {
    pub sender_ssrc: u32,
    pub media_ssrc: u32,
    pub(super) entries: &'a [u8],
}

impl<'a> GenericNack<'a> {
    /// The pairs as sent: a lost number, and a mask of the sixteen behind it (RFC 4585 §6.2.1).
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (u16, u16)> + use<'a> {
        self.entries
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&[p0, p1, b0, b1]| (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([b0, b1])))
    }

    /// Every number reported lost, in the order sent.
    pub fn lost(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.pairs().flat_map(|(first, mask)| {
            let behind = (0..16_u16).filter(move |bit| mask & (1 << bit) != 0);
            core::iter::once(first).chain(behind.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}
