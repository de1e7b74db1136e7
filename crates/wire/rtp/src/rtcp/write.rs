//! Writing a compound into the caller's buffer, packet after packet.

use super::{NACK_FORMAT, ReportBlock, SDES_CNAME, SenderInfo, packet_type as pt};
use crate::WriteError;

/// The count field has five bits.
const MAX_COUNT: usize = 31;
/// A length byte in front.
const MAX_TEXT: usize = 255;

/// Methods chain on `&mut self`; the first failure is kept and reported by [`Self::finish`], which returns the length.
#[derive(Debug)]
pub struct RtcpWriter<'b> {
    buf: &'b mut [u8],
    len: usize,
    error: Option<WriteError>,
}

impl<'b> RtcpWriter<'b> {
    #[must_use]
    pub const fn new(buf: &'b mut [u8]) -> Self {
        Self { buf, len: 0, error: None }
    }

    /// SR (RFC 3550 §6.4.1) with at most 31 blocks.
    pub fn sender_report(&mut self, ssrc: u32, info: &SenderInfo, blocks: &[ReportBlock]) -> &mut Self {
        self.packet(pt::SENDER_REPORT, "report blocks", blocks.len(), |out| {
            out.word(ssrc);
            out.bytes(&info.ntp.0.to_be_bytes());
            out.word(info.rtp_timestamp);
            out.word(info.packet_count);
            out.word(info.octet_count);
            blocks.iter().for_each(|block| out.report_block(block));
        })
    }

    /// RR (RFC 3550 §6.4.2) with at most 31 blocks.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[ReportBlock]) -> &mut Self {
        self.packet(pt::RECEIVER_REPORT, "report blocks", blocks.len(), |out| {
            out.word(ssrc);
            blocks.iter().for_each(|block| out.report_block(block));
        })
    }

    /// SDES with the one item every participant owes (RFC 3550 §6.5.1); names beyond 255 bytes are refused.
    pub fn source_description(&mut self, ssrc: u32, cname: &str) -> &mut Self {
        let Ok(len) = u8::try_from(cname.len()) else {
            return self.fail(too_long("bytes of a CNAME", cname));
        };
        self.packet(pt::SOURCE_DESCRIPTION, "chunks", 1, |out| {
            out.word(ssrc);
            out.bytes(&[SDES_CNAME, len]);
            out.bytes(cname.as_bytes());
            out.bytes(&[0]);
        })
    }

    /// BYE (RFC 3550 §6.6); an empty reason is left out.
    pub fn goodbye(&mut self, ssrcs: &[u32], reason: &str) -> &mut Self {
        let Ok(len) = u8::try_from(reason.len()) else {
            return self.fail(too_long("bytes of a reason", reason));
        };
        self.packet(pt::GOODBYE, "sources", ssrcs.len(), |out| {
            ssrcs.iter().for_each(|ssrc| out.word(*ssrc));
            if len > 0 {
                out.bytes(&[len]);
                out.bytes(reason.as_bytes());
            }
        })
    }

    /// Generic NACK (RFC 4585 §6.2.1). `lost` in sending order packs best; no number gives no packet.
    pub fn generic_nack(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        lost: impl IntoIterator<Item = u16>,
    ) -> &mut Self {
        let mut lost = lost.into_iter();
        let Some(mut first) = lost.next() else { return self };
        self.packet(pt::TRANSPORT_FEEDBACK, "format", usize::from(NACK_FORMAT), |out| {
            out.word(sender_ssrc);
            out.word(media_ssrc);
            let mut mask = 0_u16;
            for sequence in lost {
                match sequence.wrapping_sub(first) {
                    0 => {}
                    behind @ 1..=16 => mask |= 1 << (behind - 1),
                    _ => {
                        out.nack_pair(first, mask);
                        (first, mask) = (sequence, 0);
                    }
                }
            }
            out.nack_pair(first, mask);
        })
    }

    /// The length of the compound.
    ///
    /// # Errors
    /// The first thing that went wrong while writing.
    pub fn finish(&self) -> Result<usize, WriteError> {
        self.error.map_or(Ok(self.len), Err)
    }

    fn fail(&mut self, error: WriteError) -> &mut Self {
        self.error.get_or_insert(error);
        self
    }

    /// Writes header and body, pads the body to a word, then fills in the length.
    fn packet(
        &mut self,
        packet_type: u8,
        what: &'static str,
        count: usize,
        body: impl FnOnce(&mut Body<'_>),
    ) -> &mut Self {
        if self.error.is_some() {
            return self;
        }
        let count_bits = match u8::try_from(count) {
            Ok(bits) if count <= MAX_COUNT => bits,
            _ => return self.fail(WriteError::TooMany { what, count, max: MAX_COUNT }),
        };
        let start = self.len;
        let mut out = Body { buf: self.buf, at: start + 4 };
        body(&mut out);
        let padding = out.at.next_multiple_of(4) - out.at;
        out.bytes([0; 3].get(..padding).unwrap_or_default());
        let end = out.at;
        let capacity = self.buf.len();
        let words = (end - start) / 4 - 1;
        let (Some(header), Ok(words)) = (self.buf.get_mut(start..start + 4), u16::try_from(words)) else {
            return self.fail(WriteError::BufferTooSmall { needed: end, capacity });
        };
        if end > capacity {
            return self.fail(WriteError::BufferTooSmall { needed: end, capacity });
        }
        let [w0, w1] = words.to_be_bytes();
        header.copy_from_slice(&[0x80 | count_bits, packet_type, w0, w1]);
        self.len = end;
        self
    }
}

fn too_long(what: &'static str, text: &str) -> WriteError {
    WriteError::TooMany { what, count: text.len(), max: MAX_TEXT }
}

/// Counts every byte, writes those that fit: a packet that does not is refused as a whole afterwards.
struct Body<'b> {
    buf: &'b mut [u8],
    at: usize,
}

impl Body<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(slot) = self.buf.get_mut(self.at..end) {
            slot.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn word(&mut self, word: u32) {
        self.bytes(&word.to_be_bytes());
    }

    fn nack_pair(&mut self, first: u16, mask: u16) {
        self.word((u32::from(first) << 16) | u32::from(mask));
    }

    fn report_block(&mut self, block: &ReportBlock) {
        let lost = block.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF);
        let [_, l0, l1, l2] = lost.to_be_bytes();
        self.word(block.ssrc);
        self.bytes(&[block.fraction_lost, l0, l1, l2]);
        self.word(block.highest_sequence);
        self.word(block.jitter);
        self.word(block.last_sr);
        self.word(block.delay_since_last_sr);
    }
}
