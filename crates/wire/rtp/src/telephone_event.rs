//! Key presses in RTP (RFC 4733 §2.3).

/// The four bytes of one telephone-event payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// 0 to 15 are the keys; others are tones nobody here acts on.
    pub event: u8,
    /// Sent three times at the end of a press (RFC 4733 §2.5.1.4).
    pub end: bool,
    /// Power below full scale in dBm0: 0 to 63, larger is quieter.
    pub volume: u8,
    /// Ticks of the payload type's clock since the packet's timestamp.
    pub duration: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TelephoneEventError {
    #[error("payload has fewer than four bytes")]
    Truncated,
}

/// Keys in the order of their event codes (RFC 4733 §3.2).
const KEYS: &[u8; 16] = b"0123456789*#ABCD";

impl TelephoneEvent {
    pub const LEN: usize = 4;

    /// Reads the first event of a payload; a payload may carry more, which senders of key presses do not use.
    ///
    /// # Errors
    /// Fewer than four bytes.
    pub fn parse(payload: &[u8]) -> Result<Self, TelephoneEventError> {
        let &[event, flags, d0, d1] = payload.first_chunk::<4>().ok_or(TelephoneEventError::Truncated)?;
        Ok(Self { event, end: flags & 0x80 != 0, volume: flags & 0x3F, duration: u16::from_be_bytes([d0, d1]) })
    }

    /// The payload; the volume is cut to its six bits.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let [d0, d1] = self.duration.to_be_bytes();
        [self.event, ((self.end as u8) << 7) | (self.volume & 0x3F), d0, d1]
    }

    /// The key as printed on a telephone.
    #[must_use]
    pub fn key(&self) -> Option<char> {
        KEYS.get(usize::from(self.event)).map(|key| char::from(*key))
    }

    /// The event code of a key; letters in either case.
    #[must_use]
    pub fn code_of(key: char) -> Option<u8> {
        let key = u8::try_from(key).ok()?.to_ascii_uppercase();
        KEYS.iter().position(|k| *k == key).and_then(|at| u8::try_from(at).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_survives_the_wire() {
        for key in "0123456789*#ABCD".chars() {
            let event = TelephoneEvent::code_of(key).unwrap();
            let sent = TelephoneEvent { event, end: true, volume: 10, duration: 1600 };
            let heard = TelephoneEvent::parse(&sent.to_bytes()).unwrap();
            assert_eq!((heard, heard.key()), (sent, Some(key)));
        }
        assert_eq!(TelephoneEvent::code_of('d'), Some(15));
        assert_eq!(TelephoneEvent::code_of('é'), None);
    }

    #[test]
    fn other_events_have_no_key_and_short_payloads_are_refused() {
        assert_eq!(TelephoneEvent::parse(&[16, 0, 0, 0]).unwrap().key(), None);
        assert_eq!(TelephoneEvent::parse(&[1, 2, 3]), Err(TelephoneEventError::Truncated));
    }
}
