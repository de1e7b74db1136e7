//! Reading a trunk's description.

use super::session::{AudioSession, Codec, Format, Proto};
use crate::lines::{Line, MediaLine, Sections, attribute, attributes, decimal, first, is_token};
use crate::webrtc::shared::{Payload, parse_direction, payload_number};
use crate::{Direction, SdpError};
use std::net::{IpAddr, SocketAddr};

/// The `o=` line: who wrote the description and which version it is (RFC 8866 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub session_id: String,
    pub version: u64,
}

/// A description as the other side wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub origin: Origin,
    pub media: Vec<Media>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    Audio,
    /// Video, image (T.38), … : answered with port 0.
    Other(String),
}

/// One media line; those we do not take are kept as written, since an answer repeats them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    pub kind: MediaKind,
    pub formats: Vec<String>,
    pub session: AudioSession,
}

impl Media {
    pub fn kind_str(&self) -> &str {
        match &self.kind {
            MediaKind::Audio => "audio",
            MediaKind::Other(name) => name,
        }
    }
}

impl Description {
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let sections = Sections::parse(text)?;
        let session_address = first(&sections.session, b'c').map(parse_connection).transpose()?;
        let session_direction = parse_direction(&sections.session)?;
        let media = sections
            .media
            .iter()
            .map(|lines| parse_media(lines, session_address, session_direction))
            .collect::<Result<Vec<_>, _>>()?;
        if media.is_empty() {
            return Err(SdpError::NoMedia);
        }
        Ok(Self { origin: parse_origin(first(&sections.session, b'o').unwrap_or_default())?, media })
    }

    /// Reads the body of a message.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, SdpError> {
        Self::parse(std::str::from_utf8(bytes).map_err(|_| SdpError::NotText)?)
    }

    /// The audio line that a call uses: the first that is open and plain RTP, else the first that is open, else the first.
    pub fn audio(&self) -> Option<(usize, &AudioSession)> {
        let audio = || {
            let lines = self.media.iter().enumerate().filter(|(_, line)| line.kind == MediaKind::Audio);
            lines.map(|(index, line)| (index, &line.session))
        };
        let open = || audio().filter(|(_, session)| session.port != 0);
        open().find(|(_, session)| session.proto == Proto::Avp).or_else(|| open().next()).or_else(|| audio().next())
    }
}

fn parse_origin(value: &str) -> Result<Origin, SdpError> {
    const BAD: SdpError = SdpError::MalformedLine('o');
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).take(7).collect();
    let [_user, session_id, version, "IN", "IP4" | "IP6", _address] = words.as_slice() else {
        return Err(BAD);
    };
    if !session_id.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BAD);
    }
    Ok(Origin { session_id: (*session_id).to_owned(), version: decimal(version).ok_or(BAD)? })
}

/// `IN IP4 192.0.2.1` or `IN IP6 2001:db8::1`; a time to live or a count is for multicast, which a call never is.
fn parse_connection(value: &str) -> Result<IpAddr, SdpError> {
    const BAD: SdpError = SdpError::MalformedLine('c');
    let mut words = value.split(' ').filter(|word| !word.is_empty());
    let (Some("IN"), Some(family), Some(address), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BAD);
    };
    let address: IpAddr = address.parse().map_err(|_| BAD)?;
    match (family, address) {
        ("IP4", IpAddr::V4(_)) | ("IP6", IpAddr::V6(_)) if !address.is_multicast() => Ok(address),
        _ => Err(BAD),
    }
}

fn parse_media(
    lines: &[Line<'_>],
    session_address: Option<IpAddr>,
    session_direction: Option<Direction>,
) -> Result<Media, SdpError> {
    let m = MediaLine::parse(first(lines, b'm').unwrap_or_default())?;
    let own_address = first(lines, b'c').map(parse_connection).transpose()?;
    // RFC 8866 §5.7: every line needs a connection, its own or the session's.
    let address = own_address.or(session_address).ok_or(SdpError::MissingLine('c'))?;
    let kind = if m.kind == "audio" { MediaKind::Audio } else { MediaKind::Other(m.kind.to_owned()) };
    let is_audio = kind == MediaKind::Audio;
    Ok(Media {
        kind,
        formats: m.formats.iter().map(|&format| format.to_owned()).collect(),
        session: AudioSession {
            address,
            port: m.port,
            direction: parse_direction(lines)?.or(session_direction).unwrap_or_default(),
            formats: if is_audio { parse_formats(&m, lines)? } else { Vec::new() },
            ptime_ms: parse_ptime(lines)?,
            rtcp: parse_rtcp(lines, address)?,
            proto: Proto::parse(m.proto),
        },
    })
}

fn parse_ptime(lines: &[Line<'_>]) -> Result<Option<u16>, SdpError> {
    let Some(value) = attribute(lines, "ptime")? else { return Ok(None) };
    // Some write a fraction ("20.0"); only the whole milliseconds matter.
    let whole = value.trim().split('.').next().unwrap_or_default();
    decimal(whole).filter(|&ms| ms > 0).map(Some).ok_or(SdpError::MalformedAttribute("ptime"))
}

/// RFC 3605 §2.1: a port, and an address if it is another one. An address is taken only when it is that of the audio: nobody
/// else is to be sent reports.
fn parse_rtcp(lines: &[Line<'_>], address: IpAddr) -> Result<Option<SocketAddr>, SdpError> {
    const BAD: SdpError = SdpError::MalformedAttribute("rtcp");
    let Some(value) = attribute(lines, "rtcp")? else { return Ok(None) };
    let (port, connection) = match value.split_once(' ') {
        Some((port, connection)) => (port, Some(parse_connection(connection).map_err(|_| BAD)?)),
        None => (value, None),
    };
    let port = decimal(port).filter(|&port: &u16| port > 0).ok_or(BAD)?;
    Ok(connection.is_none_or(|other| other == address).then(|| SocketAddr::new(address, port)))
}

/// The formats we know, in the order of the m= line. Foreign codecs are skipped, not refused.
fn parse_formats(m: &MediaLine<'_>, lines: &[Line<'_>]) -> Result<Vec<Format>, SdpError> {
    let maps = attributes(lines)
        .filter(|(name, _)| *name == "rtpmap")
        .map(|(_, value)| Payload::parse_rtpmap(value))
        .collect::<Result<Vec<_>, _>>()?;
    let mut formats: Vec<Format> = Vec::new();
    for text in &m.formats {
        // A format of RTP is a number; the words of other protocols (T.38 over "audio") are not ours.
        let Some(number) = payload_number(text) else { continue };
        if formats.iter().any(|format| format.number == number) {
            return Err(SdpError::MalformedLine('m'));
        }
        let mapped = maps.iter().find(|map| map.number == number).cloned().or_else(|| Payload::from_static(number));
        let Some(map) = mapped else { continue };
        if let Some(codec) = Codec::from_rtpmap(&map.name, map.clock_hz, map.channels) {
            formats.push(Format { number, codec });
        }
    }
    Ok(formats)
}

/// Whether a text can stand as a word in a line we write.
pub(super) fn is_writable(text: &str) -> bool {
    is_token(text)
}
