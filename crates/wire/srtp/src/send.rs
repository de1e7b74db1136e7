//! Sealing what we send.

use core::fmt;

use offhook_wire_rtp::HeaderView;

use crate::cipher::{PacketId, RTCP_CLEAR_LEN, Session};
use crate::index::IndexWindow;
use crate::sources::Sources;
use crate::{DEFAULT_MAX_SOURCES, KeyError, Profile, SrtpError, SrtpKey};

/// RFC 3711 §9.2: an SRTCP index has 31 bits and must not come round.
const RTCP_INDEX_END: u32 = 1 << 31;

/// One direction towards one peer. Every source starts in rollover cycle 0, so begin sequence numbers below 2^15: a
/// receiver that misses the first packets must still guess the cycle (RFC 3711 §3.3.1).
pub struct SendContext {
    profile: Profile,
    rtp: Session,
    rtcp: Session,
    sources: Sources<IndexWindow>,
    next_rtcp_index: u32,
}

impl SendContext {
    /// # Errors
    /// The cipher refuses the key.
    pub fn new(key: &SrtpKey) -> Result<Self, KeyError> {
        Self::with_max_sources(key, DEFAULT_MAX_SOURCES)
    }

    /// # Errors
    /// The cipher refuses the key.
    pub fn with_max_sources(key: &SrtpKey, max_sources: usize) -> Result<Self, KeyError> {
        Ok(Self {
            profile: key.profile(),
            rtp: Session::for_rtp(key)?,
            rtcp: Session::for_rtcp(key)?,
            sources: Sources::new(max_sources),
            next_rtcp_index: 0,
        })
    }

    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Seals the packet in `buf[..len]`, which needs [`Profile::tag_len`] bytes of room behind it; returns the new
    /// length. The rollover counter follows the sequence numbers.
    ///
    /// # Errors
    /// A repeated or far too old sequence number is refused: its nonce may have been used. Otherwise a broken header,
    /// too little room, too many sources, or a key used up.
    pub fn protect_rtp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let view = HeaderView::parse(packet(buf, len)?)?;
        let ssrc = view.header.ssrc;
        if let Some(window) = self.sources.get_mut(ssrc) {
            let index = window.estimate(view.header.sequence)?;
            window.check(index)?;
            let sealed = self.rtp.seal_rtp(buf, view.len(), len, PacketId { ssrc, index })?;
            window.commit(index);
            return Ok(sealed);
        }
        self.sources.room()?;
        let index = u64::from(view.header.sequence);
        let sealed = self.rtp.seal_rtp(buf, view.len(), len, PacketId { ssrc, index })?;
        self.sources.insert(ssrc, IndexWindow::starting_at(index));
        Ok(sealed)
    }

    /// Seals the packet in `buf[..len]` under an index the caller keeps: rollover counter above, sequence number in the
    /// lower 16 bits. Nothing is remembered. The caller never gives one index of a source two different packets; a
    /// retransmission is the same bytes again.
    ///
    /// # Errors
    /// An index that is not the packet's or beyond 48 bits, a broken header, or too little room.
    pub fn protect_rtp_with_index(&self, buf: &mut [u8], len: usize, index: u64) -> Result<usize, SrtpError> {
        let view = HeaderView::parse(packet(buf, len)?)?;
        if index & 0xFFFF != u64::from(view.header.sequence) {
            return Err(SrtpError::IndexMismatch);
        }
        if index >> 48 != 0 {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtp.seal_rtp(buf, view.len(), len, PacketId { ssrc: view.header.ssrc, index })
    }

    /// Seals the compound in `buf[..len]`, which needs [`Profile::rtcp_trailer_len`] bytes of room behind it; returns
    /// the new length. One index counts for all sources of this context.
    ///
    /// # Errors
    /// Not RTCP, too little room, or a key used up.
    pub fn protect_rtcp(&mut self, buf: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let ssrc = rtcp_sender(packet(buf, len)?)?;
        if self.next_rtcp_index >= RTCP_INDEX_END {
            return Err(SrtpError::KeyExhausted);
        }
        let id = PacketId { ssrc, index: u64::from(self.next_rtcp_index) };
        let sealed = self.rtcp.seal_rtcp(buf, len, id)?;
        self.next_rtcp_index += 1;
        Ok(sealed)
    }
}

impl fmt::Debug for SendContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendContext").field("profile", &self.profile).field("keys", &"***").finish_non_exhaustive()
    }
}

fn packet(buf: &[u8], len: usize) -> Result<&[u8], SrtpError> {
    buf.get(..len).ok_or(SrtpError::BufferTooSmall { needed: len, capacity: buf.len() })
}

/// The SSRC in the clear part of a compound, which must be RTCP at least that far.
pub(crate) fn rtcp_sender(compound: &[u8]) -> Result<u32, SrtpError> {
    let &[first, _, _, _, s0, s1, s2, s3] = compound.first_chunk::<RTCP_CLEAR_LEN>().ok_or(SrtpError::Truncated)?;
    if first >> 6 != 2 {
        return Err(SrtpError::NotRtcp);
    }
    Ok(u32::from_be_bytes([s0, s1, s2, s3]))
}
