//! Writing RTP headers into the caller's buffer (RFC 3550 §5.1, RFC 8285 §4.2).

use crate::{Extension, FIXED_HEADER_LEN};

/// Why a header or report could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{needed} bytes do not fit into a buffer of {capacity}")]
    BufferTooSmall { needed: usize, capacity: usize },
    #[error("{count} {what} where at most {max} fit")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("payload type {0} needs more than seven bits")]
    PayloadType(u8),
    #[error("one-byte extension {id} with {len} bytes; ids are 1 to 14, lengths 1 to 16")]
    Extension { id: u8, len: usize },
}

/// What stands in the fixed header, version and counts aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpHeader {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

impl RtpHeader {
    /// Writes the twelve bytes of a header without contributors or extensions; returns its length.
    ///
    /// # Errors
    /// The buffer is too small or the payload type too large.
    pub fn write(&self, buf: &mut [u8]) -> Result<usize, WriteError> {
        self.write_with(buf, &[], &[])
    }

    /// Writes a header with contributors and, if there are any, one-byte extensions; returns its length.
    ///
    /// # Errors
    /// More than 15 contributors, an extension outside the one-byte form, or a buffer too small.
    pub fn write_with(&self, buf: &mut [u8], csrcs: &[u32], extensions: &[Extension<'_>]) -> Result<usize, WriteError> {
        if self.payload_type > 0x7F {
            return Err(WriteError::PayloadType(self.payload_type));
        }
        let csrc_count = u8::try_from(csrcs.len()).unwrap_or(u8::MAX);
        if csrc_count > 15 {
            return Err(WriteError::TooMany { what: "contributors", count: csrcs.len(), max: 15 });
        }
        let elements = elements_len(extensions)?;
        let words = u16::try_from(elements.div_ceil(4)).map_err(|_| WriteError::TooMany {
            what: "extension bytes",
            count: elements,
            max: usize::from(u16::MAX) * 4,
        })?;
        let csrc_end = FIXED_HEADER_LEN + csrcs.len() * 4;
        let block = if extensions.is_empty() { 0 } else { 4 + usize::from(words) * 4 };
        let len = csrc_end + block;
        let capacity = buf.len();
        let out = buf.get_mut(..len).ok_or(WriteError::BufferTooSmall { needed: len, capacity })?;

        let (fixed, rest) = out.split_at_mut(FIXED_HEADER_LEN);
        fixed[0] = 0x80 | (u8::from(block > 0) << 4) | csrc_count;
        self.put(fixed);
        let (list, block) = rest.split_at_mut(csrcs.len() * 4);
        for (slot, csrc) in list.as_chunks_mut::<4>().0.iter_mut().zip(csrcs) {
            *slot = csrc.to_be_bytes();
        }
        if let Some((head, data)) = block.split_first_chunk_mut::<4>() {
            let [w0, w1] = words.to_be_bytes();
            let [p0, p1] = crate::extension::ONE_BYTE_PROFILE.to_be_bytes();
            *head = [p0, p1, w0, w1];
            put_elements(data, extensions);
        }
        Ok(len)
    }

    /// Overwrites the header of a packet that stays otherwise as it is: contributors, extensions, padding remain.
    ///
    /// # Errors
    /// The packet is shorter than a header or the payload type too large.
    pub fn rewrite_in_place(&self, packet: &mut [u8]) -> Result<(), WriteError> {
        if self.payload_type > 0x7F {
            return Err(WriteError::PayloadType(self.payload_type));
        }
        let capacity = packet.len();
        let fixed = packet
            .get_mut(..FIXED_HEADER_LEN)
            .ok_or(WriteError::BufferTooSmall { needed: FIXED_HEADER_LEN, capacity })?;
        self.put(fixed);
        Ok(())
    }

    /// Everything behind the first byte. `fixed` has the header's twelve bytes.
    fn put(&self, fixed: &mut [u8]) {
        fixed[1] = (u8::from(self.marker) << 7) | self.payload_type;
        fixed[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
    }
}

/// RFC 8285 §4.2: ids 1 to 14 and 1 to 16 bytes of data, one byte in front.
fn elements_len(extensions: &[Extension<'_>]) -> Result<usize, WriteError> {
    let mut total = 0;
    for Extension { id, data } in extensions {
        if !(1..=14).contains(id) || !(1..=16).contains(&data.len()) {
            return Err(WriteError::Extension { id: *id, len: data.len() });
        }
        total += 1 + data.len();
    }
    Ok(total)
}

/// `out` was sized by [`elements_len`]; what is left over is padding.
fn put_elements(mut out: &mut [u8], extensions: &[Extension<'_>]) {
    for Extension { id, data } in extensions {
        let (element, rest) = out.split_at_mut(1 + data.len());
        #[allow(clippy::cast_possible_truncation, reason = "elements_len let 1 to 16 pass")]
        let len_bits = (data.len() - 1) as u8;
        element[0] = (id << 4) | len_bits;
        element[1..].copy_from_slice(data);
        out = rest;
    }
    out.fill(0);
}
