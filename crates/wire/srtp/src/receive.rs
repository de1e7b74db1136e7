//! Opening what a peer sent.

use core::fmt;

use offhook_wire_rtp::HeaderView;

use crate::cipher::{PacketId, Session};
use crate::index::IndexWindow;
use crate::send::rtcp_sender;
use crate::sources::Sources;
use crate::{DEFAULT_MAX_SOURCES, KeyError, Profile, SrtpError, SrtpKey};

/// An authentic packet: where it ends now, and which it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Length of the plain packet at the front of the buffer.
    pub len: usize,
    pub ssrc: u32,
    /// Rollover counter above, sequence number in the lower 16 bits.
    pub index: u64,
}

/// One direction from one peer. State changes only by packets that authenticated.
pub struct ReceiveContext {
    profile: Profile,
    rtp: Session,
    rtcp: Session,
    rtp_sources: Sources<IndexWindow>,
    rtcp_sources: Sources<IndexWindow>,
}

impl ReceiveContext {
    /// # Errors
    /// The cipher refuses the key.
    pub fn new(key: &SrtpKey) -> Result<Self, KeyError> {
        Self::with_max_sources(key, DEFAULT_MAX_SOURCES)
    }

    /// `max_sources` holds for RTP and for RTCP, each on its own.
    ///
    /// # Errors
    /// The cipher refuses the key.
    pub fn with_max_sources(key: &SrtpKey, max_sources: usize) -> Result<Self, KeyError> {
        Ok(Self {
            profile: key.profile(),
            rtp: Session::for_rtp(key)?,
            rtcp: Session::for_rtcp(key)?,
            rtp_sources: Sources::new(max_sources),
            rtcp_sources: Sources::new(max_sources),
        })
    }

    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// RTP sources that have authenticated so far.
    #[must_use]
    pub fn source_count(&self) -> usize {
        self.rtp_sources.len()
    }

    /// Joins a stream whose rollover counter is known from elsewhere (RFC 3711 §3.3.1): `highest` is the last index sent.
    /// A source already known keeps what it authenticated.
    ///
    /// # Errors
    /// Too many sources, or an index beyond 48 bits.
    pub fn expect_index(&mut self, ssrc: u32, highest: u64) -> Result<(), SrtpError> {
        if highest >> 48 != 0 {
            return Err(SrtpError::KeyExhausted);
        }
        if self.rtp_sources.get_mut(ssrc).is_none() {
            self.rtp_sources.room()?;
            self.rtp_sources.insert(ssrc, IndexWindow::expecting(highest));
        }
        Ok(())
    }

    /// Opens the packet that fills `buf`; returns the length of the plain packet in front.
    ///
    /// # Errors
    /// As [`Self::open_rtp`].
    pub fn unprotect_rtp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        self.open_rtp(buf).map(|opened| opened.len)
    }

    /// As [`Self::unprotect_rtp`], telling source and index as well.
    ///
    /// # Errors
    /// A broken header, a replayed or too old index, one source too many (these cost no cipher), or a tag that does
    /// not match.
    pub fn open_rtp(&mut self, buf: &mut [u8]) -> Result<Opened, SrtpError> {
        let view = HeaderView::parse(buf)?;
        let ssrc = view.header.ssrc;
        if let Some(window) = self.rtp_sources.get_mut(ssrc) {
            let index = window.estimate(view.header.sequence)?;
            window.check(index)?;
            let len = self.rtp.open_rtp(buf, view.len(), PacketId { ssrc, index })?;
            window.commit(index);
            return Ok(Opened { len, ssrc, index });
        }
        self.rtp_sources.room()?;
        let index = u64::from(view.header.sequence);
        let len = self.rtp.open_rtp(buf, view.len(), PacketId { ssrc, index })?;
        self.rtp_sources.insert(ssrc, IndexWindow::starting_at(index));
        Ok(Opened { len, ssrc, index })
    }

    /// Opens the compound that fills `buf`; returns the length of the plain compound in front. Compounds that are only
    /// authenticated are refused: every profile here encrypts (RFC 3711 §3.4 leaves the choice to the sender).
    ///
    /// # Errors
    /// Not RTCP, not encrypted, a replayed or too old index, one source too many, or a tag that does not match.
    pub fn unprotect_rtcp(&mut self, buf: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = rtcp_sender(buf)?;
        let index = u64::from(self.rtcp.rtcp_index(buf)?);
        let id = PacketId { ssrc, index };
        if let Some(window) = self.rtcp_sources.get_mut(ssrc) {
            window.check(index)?;
            let len = self.rtcp.open_rtcp(buf, id)?;
            window.commit(index);
            return Ok(len);
        }
        self.rtcp_sources.room()?;
        let len = self.rtcp.open_rtcp(buf, id)?;
        self.rtcp_sources.insert(ssrc, IndexWindow::starting_at(index));
        Ok(len)
    }
}

impl fmt::Debug for ReceiveContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveContext")
            .field("profile", &self.profile)
            .field("keys", &"***")
            .field("sources", &self.rtp_sources.len())
            .finish_non_exhaustive()
    }
}
