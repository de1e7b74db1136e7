//! The values that stand both in an offer and in an answer.

use crate::SdpError;
use crate::lines::{decimal, is_token};
use std::fmt;

/// RFC 6464: the level of each packet's audio.
pub const URI_AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// RFC 9143 §15: the media line a packet belongs to.
pub const URI_MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// ICE user fragment and password of one side (RFC 8839 §5.4).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

impl IceCredentials {
    /// Checks lengths and characters: 4 to 256 and 22 to 256 `ice-char`.
    pub fn new(ufrag: impl Into<String>, pwd: impl Into<String>) -> Result<Self, SdpError> {
        let (ufrag, pwd) = (ufrag.into(), pwd.into());
        // Browsers also write '-' and '_' (base64url), which RFC 8839 does not list; they cannot break a line.
        let ice_chars = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_".contains(&b));
        if !(4..=256).contains(&ufrag.len()) || !ice_chars(&ufrag) {
            return Err(SdpError::MalformedAttribute("ice-ufrag"));
        }
        if !(22..=256).contains(&pwd.len()) || !ice_chars(&pwd) {
            return Err(SdpError::MalformedAttribute("ice-pwd"));
        }
        Ok(Self { ufrag, pwd })
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).field("pwd", &"***").finish()
    }
}

/// The SHA-256 of a DTLS certificate (RFC 8122 §5). Other hashes are not accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Reads `sha-256 AB:CD:…`; `Ok(None)` for another hash.
    pub fn parse(value: &str) -> Result<Option<Self>, SdpError> {
        const BAD: SdpError = SdpError::MalformedAttribute("fingerprint");
        let (hash, hex) = value.trim().split_once(' ').ok_or(BAD)?;
        if !hash.eq_ignore_ascii_case("sha-256") {
            return Ok(None);
        }
        let mut bytes = [0; 32];
        let mut parts = hex.trim().split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = part.and_then(|p| u8::from_str_radix(p, 16).ok()).ok_or(BAD)?;
        }
        if parts.next().is_some() {
            return Err(BAD);
        }
        Ok(Some(Self(bytes)))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha-256 ")?;
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The codecs that may ever be sent to or taken from a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    Opus,
    Pcmu,
    Pcma,
}

impl AudioCodec {
    /// In the order of our answers.
    pub const ALL: [Self; 3] = [Self::Opus, Self::Pcmu, Self::Pcma];

    /// Encoding name, clock rate and channels, as in `a=rtpmap`.
    pub const fn rtpmap(self) -> (&'static str, u32, u8) {
        match self {
            Self::Opus => ("opus", 48_000, 2),
            Self::Pcmu => ("PCMU", 8_000, 1),
            Self::Pcma => ("PCMA", 8_000, 1),
        }
    }

    /// What we ask of a browser that sends this codec.
    const fn fmtp(self) -> Option<&'static str> {
        match self {
            // RFC 7587 §6.1: mono is what a telephone call has; in-band FEC repairs single losses.
            Self::Opus => Some("minptime=10;useinbandfec=1"),
            Self::Pcmu | Self::Pcma => None,
        }
    }
}

/// One payload type with what describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    pub number: u8,
    /// Encoding name as written by its author; compare without case.
    pub name: String,
    pub clock_hz: u32,
    pub channels: u8,
    pub fmtp: Option<String>,
    /// `a=rtcp-fb` values, for example `nack`.
    pub feedback: Vec<String>,
}

impl Payload {
    /// The payload of `codec` under `number`, as we write it into an answer: Opus with our `fmtp` and with `nack`.
    pub fn of(codec: AudioCodec, number: u8) -> Self {
        let (name, clock_hz, channels) = codec.rtpmap();
        let feedback = if codec == AudioCodec::Opus { vec!["nack".to_owned()] } else { Vec::new() };
        Self { number, name: name.to_owned(), clock_hz, channels, fmtp: codec.fmtp().map(str::to_owned), feedback }
    }

    pub fn codec(&self) -> Option<AudioCodec> {
        AudioCodec::ALL.into_iter().find(|codec| {
            let (name, clock_hz, channels) = codec.rtpmap();
            self.name.eq_ignore_ascii_case(name) && self.clock_hz == clock_hz && self.channels == channels
        })
    }

    /// Reads `<pt> <name>/<clock>[/<channels>]` (RFC 8866 §6.6).
    pub(crate) fn parse_rtpmap(value: &str) -> Result<Self, SdpError> {
        const BAD: SdpError = SdpError::MalformedAttribute("rtpmap");
        let (number, rest) = value.split_once(' ').ok_or(BAD)?;
        let mut parts = rest.trim().split('/');
        let (Some(name), Some(clock)) = (parts.next(), parts.next()) else { return Err(BAD) };
        let channels = match parts.next() {
            Some(text) => decimal(text).filter(|&n| n > 0).ok_or(BAD)?,
            None => 1,
        };
        let number = payload_number(number).ok_or(BAD)?;
        if parts.next().is_some() || !is_token(name) {
            return Err(BAD);
        }
        let clock_hz = decimal(clock).filter(|&hz| hz > 0).ok_or(BAD)?;
        Ok(Self { number, name: name.to_owned(), clock_hz, channels, fmtp: None, feedback: Vec::new() })
    }

    /// A static assignment of RFC 3551 §6 that needs no `a=rtpmap`, as far as we use them.
    pub(crate) fn from_static(number: u8) -> Option<Self> {
        let (name, clock_hz) = match number {
            0 => ("PCMU", 8_000),
            8 => ("PCMA", 8_000),
            9 => ("G722", 8_000),
            13 => ("CN", 8_000),
            18 => ("G729", 8_000),
            _ => return None,
        };
        Some(Self { number, name: name.to_owned(), clock_hz, channels: 1, fmtp: None, feedback: Vec::new() })
    }
}

/// A payload type: seven bits (RFC 3550 §5.1).
pub(crate) fn payload_number(text: &str) -> Option<u8> {
    decimal(text).filter(|&n: &u8| n < 128)
}

/// A header extension's number and meaning (RFC 8285 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extmap {
    pub id: u8,
    pub uri: String,
}

impl Extmap {
    pub(crate) fn parse(value: &str) -> Result<Self, SdpError> {
        const BAD: SdpError = SdpError::MalformedAttribute("extmap");
        let mut words = value.split(' ').filter(|word| !word.is_empty());
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { return Err(BAD) };
        let id = id.split_once('/').map_or(id, |(id, _direction)| id);
        // RFC 8285 §4.3: two-byte headers reach 255; numbers above are for renegotiation only.
        let id = decimal(id).filter(|&id| id > 0).ok_or(BAD)?;
        Ok(Self { id, uri: uri.to_owned() })
    }
}
