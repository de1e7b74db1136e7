//! The loudness a sender claims for a packet (RFC 6464 §3). A claim only: good for ranking, not for trust.

/// Level and voice flag of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// The sender's detector heard speech.
    pub voice: bool,
    /// Level below full scale: 0 is loudest, 127 is silence (or quieter).
    pub minus_dbov: u8,
}

impl AudioLevel {
    pub const SILENCE: Self = Self { voice: false, minus_dbov: 127 };

    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self { voice: byte & 0x80 != 0, minus_dbov: byte & 0x7F }
    }

    /// Levels beyond 127 are written as 127.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        let level = if self.minus_dbov > 127 { 127 } else { self.minus_dbov };
        ((self.voice as u8) << 7) | level
    }
}
