//! One audio line in neutral terms, ours or theirs.

use crate::Direction;
use std::net::{IpAddr, SocketAddr};

/// Codecs of a trunk. All three run at 8000 Hz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    Pcmu,
    Pcma,
    /// Digits as RTP events (RFC 4733).
    TelephoneEvent,
}

impl Codec {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::TelephoneEvent => "telephone-event",
        }
    }

    /// The payload type under which we offer it: static ones of RFC 3551 §6, and the customary 101 for events.
    pub const fn usual_number(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::TelephoneEvent => 101,
        }
    }

    pub(crate) fn from_rtpmap(name: &str, clock_hz: u32, channels: u8) -> Option<Self> {
        [Self::Pcmu, Self::Pcma, Self::TelephoneEvent]
            .into_iter()
            .find(|codec| name.eq_ignore_ascii_case(codec.name()) && clock_hz == 8_000 && channels == 1)
    }
}

/// A codec under its payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Format {
    pub number: u8,
    pub codec: Codec,
}

/// The profile of a media line. Only plain RTP/AVP is spoken for now; the others are known by name and refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proto {
    Avp,
    /// RTP/SAVP or RTP/SAVPF: keys in the description (RFC 4568) or DTLS.
    Secure(String),
    /// RTP/AVPF: early feedback (RFC 4585).
    Feedback(String),
    Other(String),
}

impl Proto {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "RTP/AVP" => Self::Avp,
            "RTP/AVPF" => Self::Feedback(text.to_owned()),
            _ if text.ends_with("RTP/SAVP") || text.ends_with("RTP/SAVPF") => Self::Secure(text.to_owned()),
            _ => Self::Other(text.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Secure(text) | Self::Feedback(text) | Self::Other(text) => text,
        }
    }
}

/// An audio line: where its author wants to receive, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSession {
    pub address: IpAddr,
    /// 0 refuses or ends the line.
    pub port: u16,
    pub direction: Direction,
    /// In order of preference.
    pub formats: Vec<Format>,
    pub ptime_ms: Option<u16>,
    /// Where its author receives RTCP, if it says so (RFC 3605); else one port above.
    pub rtcp: Option<SocketAddr>,
    pub proto: Proto,
}

impl AudioSession {
    /// Ours: `codecs` in order of preference, then telephone events, 20 ms packets.
    pub fn new(address: IpAddr, port: u16, codecs: &[Codec]) -> Self {
        let events = std::iter::once(&Codec::TelephoneEvent).filter(|event| !codecs.contains(event));
        let formats = codecs.iter().chain(events).map(|&codec| Format { number: codec.usual_number(), codec });
        Self {
            address,
            port,
            direction: Direction::SendRecv,
            formats: formats.collect(),
            ptime_ms: Some(20),
            rtcp: None,
            proto: Proto::Avp,
        }
    }

    /// Where its author receives.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where its author receives RTCP (RFC 3550 §11, RFC 3605).
    pub fn rtcp_socket(&self) -> SocketAddr {
        self.rtcp.unwrap_or_else(|| SocketAddr::new(self.address, self.port.saturating_add(1)))
    }

    /// Whether its author does not want to hear us now: `sendonly` or `inactive` (RFC 3264 §8.4), or the address
    /// 0.0.0.0 of the older RFC 2543.
    pub fn is_hold(&self) -> bool {
        !self.direction.receives() || self.address.is_unspecified()
    }
}
