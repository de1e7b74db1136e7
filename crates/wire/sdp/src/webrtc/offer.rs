//! Reading a browser's offer.

use super::parts::{AudioCodec, Extmap, Fingerprint, IceCredentials, Payload, payload_number};
use crate::lines::{Line, MAX_FORMATS, MediaLine, Sections, attribute, attributes, decimal, first, is_token};
use crate::{Direction, SdpError};

/// SSRCs described in one media line; a browser's audio line has one.
pub const MAX_SSRCS: usize = 16;
const MAX_EXTMAPS: usize = 32;
const MAX_FEEDBACK: usize = 16;

/// Everything of a browser's offer that an answer and a transport need. Candidates are ignored.
#[derive(Debug, Clone)]
pub struct Offer {
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    pub setup: Setup,
    /// Mids of the BUNDLE group in its order (RFC 9143).
    pub bundle: Vec<String>,
    pub media: Vec<OfferMedia>,
}

/// Who opens DTLS, as offered (RFC 8842 §5); we are always the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    ActPass,
    Active,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaKind {
    Audio,
    Video,
    /// `m=application`: data channels.
    Application,
    Other(String),
}

impl MediaKind {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
            Self::Other(name) => name,
        }
    }
}

/// One media line of an offer.
#[derive(Debug, Clone)]
pub struct OfferMedia {
    pub mid: String,
    pub kind: MediaKind,
    /// 0 when the line was stopped earlier; such a line can only be refused.
    pub port: u16,
    /// For example `UDP/TLS/RTP/SAVPF`.
    pub proto: String,
    pub direction: Direction,
    /// As listed in the m= line, first is preferred. Empty for `m=application`.
    pub payloads: Vec<Payload>,
    /// The m= line's formats as written, to be echoed when the line is refused.
    pub formats: Vec<String>,
    pub extmaps: Vec<Extmap>,
    pub ssrcs: Vec<Ssrc>,
    pub rtcp_mux: bool,
    pub rtcp_rsize: bool,
}

/// A stream that the browser announces on its sending line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssrc {
    pub ssrc: u32,
    pub cname: Option<String>,
}

impl Offer {
    /// Reads an offer; every refusal is a named [`SdpError`].
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        let sections = Sections::parse(text)?;
        let mut media = Vec::with_capacity(sections.media.len());
        for lines in &sections.media {
            let line = OfferMedia::parse(&sections.session, lines)?;
            if media.iter().any(|other: &OfferMedia| other.mid == line.mid) {
                return Err(SdpError::DuplicateMid(line.mid));
            }
            media.push(line);
        }
        if media.is_empty() {
            return Err(SdpError::NoMedia);
        }
        let bundle = parse_bundle(&sections.session, &media)?;
        // RFC 9143 §7.2.1: the transport of a bundle is that of its first line.
        let tagged = media.iter().position(|line| Some(&line.mid) == bundle.first());
        let transport: &[Line<'_>] =
            tagged.and_then(|i| sections.media.get(i)).map(Vec::as_slice).ok_or(SdpError::NotBundled)?;
        let either = |name| attribute_or_session(transport, &sections.session, name);
        Ok(Self {
            ice: IceCredentials::new(
                either("ice-ufrag")?.ok_or(SdpError::MissingAttribute("ice-ufrag"))?,
                either("ice-pwd")?.ok_or(SdpError::MissingAttribute("ice-pwd"))?,
            )?,
            fingerprint: parse_fingerprint(transport, &sections.session)?,
            setup: match either("setup")? {
                Some("actpass") => Setup::ActPass,
                Some("active") => Setup::Active,
                Some("passive") => return Err(SdpError::SetupPassive),
                Some(_) => return Err(SdpError::MalformedAttribute("setup")),
                None => return Err(SdpError::MissingAttribute("setup")),
            },
            bundle,
            media,
        })
    }

    /// Whether the line shares the bundle's transport; a line outside it can only be refused.
    pub fn is_bundled(&self, mid: &str) -> bool {
        self.bundle.iter().any(|bundled| bundled == mid)
    }
}

impl OfferMedia {
    /// The payload type under which the browser offered `codec` on this line.
    pub fn payload_of(&self, codec: AudioCodec) -> Option<u8> {
        self.payloads.iter().find(|payload| payload.codec() == Some(codec)).map(|payload| payload.number)
    }

    /// Those of `wanted` that the line offers, in the order of `wanted`, under the browser's own numbers.
    pub fn choose(&self, wanted: &[AudioCodec]) -> Vec<Payload> {
        wanted.iter().filter_map(|&codec| Some(Payload::of(codec, self.payload_of(codec)?))).collect()
    }

    /// The number under which the browser offered the header extension `uri`.
    pub fn extmap_id(&self, uri: &str) -> Option<u8> {
        self.extmaps.iter().find(|extmap| extmap.uri == uri).map(|extmap| extmap.id)
    }

    fn parse(session: &[Line<'_>], lines: &[Line<'_>]) -> Result<Self, SdpError> {
        let m = MediaLine::parse(first(lines, b'm').unwrap_or_default())?;
        let kind = match m.kind {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "application" => MediaKind::Application,
            other => MediaKind::Other(other.to_owned()),
        };
        let mid = attribute(lines, "mid")?.ok_or(SdpError::MissingAttribute("mid"))?;
        // RFC 9143 §15.2: the mid travels in a header extension, so it stays short.
        if !is_token(mid) || mid.len() > 16 {
            return Err(SdpError::MalformedAttribute("mid"));
        }
        let is_rtp = m.proto.contains("RTP/");
        Ok(Self {
            mid: mid.to_owned(),
            kind,
            port: m.port,
            proto: m.proto.to_owned(),
            direction: parse_direction(lines)?.or(parse_direction(session)?).unwrap_or_default(),
            payloads: if is_rtp { parse_payloads(&m, lines)? } else { Vec::new() },
            formats: m.formats.iter().map(|&format| format.to_owned()).collect(),
            extmaps: parse_extmaps(lines)?,
            ssrcs: parse_ssrcs(lines)?,
            rtcp_mux: attribute(lines, "rtcp-mux")?.is_some(),
            rtcp_rsize: attribute(lines, "rtcp-rsize")?.is_some(),
        })
    }
}

fn attribute_or_session<'a>(
    media: &[Line<'a>],
    session: &[Line<'a>],
    name: &'static str,
) -> Result<Option<&'a str>, SdpError> {
    Ok(attribute(media, name)?.or(attribute(session, name)?))
}

pub(crate) fn parse_direction(lines: &[Line<'_>]) -> Result<Option<Direction>, SdpError> {
    let mut found = None;
    for (name, value) in attributes(lines) {
        let Some(direction) = Direction::from_attribute(name).filter(|_| value.is_empty()) else { continue };
        if found.is_some_and(|earlier| earlier != direction) {
            return Err(SdpError::ConflictingAttribute("direction"));
        }
        found = Some(direction);
    }
    Ok(found)
}

/// RFC 8122 §5: media level replaces session level; of several hashes we take sha-256.
fn parse_fingerprint(media: &[Line<'_>], session: &[Line<'_>]) -> Result<Fingerprint, SdpError> {
    for level in [media, session] {
        let mut any = false;
        let mut chosen: Option<Fingerprint> = None;
        for (_, value) in attributes(level).filter(|(name, _)| *name == "fingerprint") {
            any = true;
            if let Some(fingerprint) = Fingerprint::parse(value)? {
                if chosen.is_some_and(|earlier| earlier != fingerprint) {
                    return Err(SdpError::ConflictingAttribute("fingerprint"));
                }
                chosen = Some(fingerprint);
            }
        }
        match chosen {
            Some(fingerprint) => return Ok(fingerprint),
            None if any => return Err(SdpError::NoSha256Fingerprint),
            None => {}
        }
    }
    Err(SdpError::MissingAttribute("fingerprint"))
}

fn parse_bundle(session: &[Line<'_>], media: &[OfferMedia]) -> Result<Vec<String>, SdpError> {
    let mut groups = attributes(session)
        .filter(|(name, _)| *name == "group")
        .filter_map(|(_, value)| value.strip_prefix("BUNDLE"))
        .filter(|mids| mids.starts_with(' '));
    let group = groups.next().ok_or(SdpError::NotBundled)?;
    if groups.next().is_some() {
        return Err(SdpError::ConflictingAttribute("group:BUNDLE"));
    }
    let mut bundle: Vec<String> = Vec::new();
    for mid in group.split(' ').filter(|mid| !mid.is_empty()) {
        if !media.iter().any(|line| line.mid == mid) {
            return Err(SdpError::UnknownMid(mid.chars().take(16).collect()));
        }
        if bundle.iter().any(|other| other == mid) {
            return Err(SdpError::DuplicateMid(mid.to_owned()));
        }
        bundle.push(mid.to_owned());
    }
    Ok(bundle)
}

fn parse_payloads(m: &MediaLine<'_>, lines: &[Line<'_>]) -> Result<Vec<Payload>, SdpError> {
    let mut payloads: Vec<Payload> = Vec::with_capacity(m.formats.len());
    for format in &m.formats {
        let number = payload_number(format).ok_or(SdpError::MalformedLine('m'))?;
        if payloads.iter().any(|payload| payload.number == number) {
            return Err(SdpError::MalformedLine('m'));
        }
        let unknown =
            Payload { number, name: String::new(), clock_hz: 0, channels: 1, fmtp: None, feedback: Vec::new() };
        payloads.push(Payload::from_static(number).unwrap_or(unknown));
    }
    debug_assert!(payloads.len() <= MAX_FORMATS);
    for (name, value) in attributes(lines) {
        match name {
            "rtpmap" => {
                let mapped = Payload::parse_rtpmap(value)?;
                // A map of a number that the m= line does not list says nothing (RFC 8866 §6.6).
                if let Some(payload) = payloads.iter_mut().find(|payload| payload.number == mapped.number) {
                    *payload = Payload {
                        fmtp: payload.fmtp.take(),
                        feedback: std::mem::take(&mut payload.feedback),
                        ..mapped
                    };
                }
            }
            "fmtp" => set_fmtp(&mut payloads, value)?,
            "rtcp-fb" => add_feedback(&mut payloads, value)?,
            _ => {}
        }
    }
    Ok(payloads)
}

fn set_fmtp(payloads: &mut [Payload], value: &str) -> Result<(), SdpError> {
    let (number, text) = value.split_once(' ').ok_or(SdpError::MalformedAttribute("fmtp"))?;
    let number = payload_number(number).ok_or(SdpError::MalformedAttribute("fmtp"))?;
    if let Some(payload) = payloads.iter_mut().find(|payload| payload.number == number) {
        payload.fmtp = Some(text.to_owned());
    }
    Ok(())
}

fn add_feedback(payloads: &mut [Payload], value: &str) -> Result<(), SdpError> {
    const BAD: SdpError = SdpError::MalformedAttribute("rtcp-fb");
    let (number, text) = value.split_once(' ').ok_or(BAD)?;
    let only = if number == "*" { None } else { Some(payload_number(number).ok_or(BAD)?) };
    for payload in payloads.iter_mut().filter(|payload| only.is_none_or(|number| payload.number == number)) {
        if payload.feedback.len() == MAX_FEEDBACK {
            return Err(SdpError::TooMany { what: "rtcp-fb", limit: MAX_FEEDBACK });
        }
        payload.feedback.push(text.to_owned());
    }
    Ok(())
}

fn parse_extmaps(lines: &[Line<'_>]) -> Result<Vec<Extmap>, SdpError> {
    let mut extmaps: Vec<Extmap> = Vec::new();
    for (_, value) in attributes(lines).filter(|(name, _)| *name == "extmap") {
        let extmap = Extmap::parse(value)?;
        if extmaps.len() == MAX_EXTMAPS {
            return Err(SdpError::TooMany { what: "extmap", limit: MAX_EXTMAPS });
        }
        if extmaps.iter().any(|other| other.id == extmap.id) {
            return Err(SdpError::ConflictingAttribute("extmap"));
        }
        extmaps.push(extmap);
    }
    Ok(extmaps)
}

/// RFC 5576 §4.1. Only the cname is kept of what is said about a source.
fn parse_ssrcs(lines: &[Line<'_>]) -> Result<Vec<Ssrc>, SdpError> {
    let mut ssrcs: Vec<Ssrc> = Vec::new();
    for (_, value) in attributes(lines).filter(|(name, _)| *name == "ssrc") {
        let (number, about) = value.split_once(' ').unwrap_or((value, ""));
        let ssrc = decimal(number).ok_or(SdpError::MalformedAttribute("ssrc"))?;
        let cname = about.strip_prefix("cname:").map(str::to_owned);
        if let Some(known) = ssrcs.iter_mut().find(|known| known.ssrc == ssrc) {
            known.cname = known.cname.take().or(cname);
        } else if ssrcs.len() == MAX_SSRCS {
            return Err(SdpError::TooMany { what: "ssrc", limit: MAX_SSRCS });
        } else {
            ssrcs.push(Ssrc { ssrc, cname });
        }
    }
    Ok(ssrcs)
}
