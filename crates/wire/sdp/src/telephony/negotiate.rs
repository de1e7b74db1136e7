//! Offer and answer (RFC 3264): what both sides agreed on, or why not.

use super::description::{Description, MediaKind};
use super::session::{AudioSession, Codec, Format, Proto};
use crate::Direction;
use std::net::SocketAddr;

/// A codec and the payload type it has towards one side.
pub type RtpCodec = Format;

/// What the media path needs after an exchange, seen from us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Where we send to, and the only address from which we accept.
    pub remote: SocketAddr,
    /// The same for RTCP.
    pub remote_rtcp: SocketAddr,
    /// Voice towards them.
    pub send: RtpCodec,
    /// Voice from them: any of these may come (payload numbers may differ per direction, RFC 3264 §5.1).
    pub receive: Vec<RtpCodec>,
    /// Payload type for digits towards them and from them.
    pub send_events: Option<u8>,
    pub receive_events: Option<u8>,
    /// Our side's direction: `sends()` says whether we may send now.
    pub direction: Direction,
    /// They put us on hold.
    pub held_by_remote: bool,
    pub ptime_ms: u16,
}

/// Why two descriptions do not meet; always 488 towards an offerer (RFC 3261 §21.4.26).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    #[error("there is no audio line")]
    NoAudio,
    #[error("the audio line is closed (port 0)")]
    AudioRefused,
    #[error("the audio line asks for {0}; only RTP/AVP is spoken on this trunk")]
    SecureOrFeedbackProfile(String),
    #[error("the audio line asks for {0}, which is not RTP")]
    UnknownProfile(String),
    #[error("no codec in common")]
    NoCommonCodec,
    #[error("the audio address is of another family than ours")]
    AddressFamily,
    #[error("the answer has {answered} lines, the offer had {offered} (RFC 3264 §6)")]
    LineCount { offered: usize, answered: usize },
    #[error("the answer takes a codec that was not offered")]
    NotOffered,
}

impl NegotiateError {
    /// The response to an offer that fails so.
    pub const fn response_code(&self) -> u16 {
        488
    }

    /// The number of a Warning header that says why (RFC 3261 §20.43).
    pub const fn warning_code(&self) -> u16 {
        match self {
            Self::NoAudio | Self::AudioRefused | Self::LineCount { .. } => 304,
            Self::SecureOrFeedbackProfile(_) | Self::UnknownProfile(_) => 302,
            Self::NoCommonCodec | Self::NotOffered => 305,
            Self::AddressFamily => 301,
        }
    }
}

/// Answers `offer` with what we have. `ours` lists every codec we could take; the answer takes one voice codec, the
/// offer's first that we know (RFC 3264 §6.1), and events if both have them, under the offer's numbers.
pub fn negotiate(offer: &Description, ours: &AudioSession) -> Result<(AudioSession, Agreed), NegotiateError> {
    let (_, theirs) = usable_audio(offer)?;
    same_family(ours, theirs)?;
    let voice = theirs
        .formats
        .iter()
        .find(|format| format.codec != Codec::TelephoneEvent && offers(ours, format.codec))
        .copied()
        .ok_or(NegotiateError::NoCommonCodec)?;
    let events = event_number(theirs).filter(|_| event_number(ours).is_some());
    let direction = theirs.direction.answered_with(ours.direction);
    let mut formats = vec![voice];
    formats.extend(events.map(|number| Format { number, codec: Codec::TelephoneEvent }));
    let answer = AudioSession { direction, formats, proto: Proto::Avp, ..ours.clone() };
    let agreed = Agreed {
        remote: theirs.socket(),
        remote_rtcp: theirs.rtcp_socket(),
        send: voice,
        receive: vec![voice],
        send_events: events,
        receive_events: events,
        direction: effective(direction, theirs),
        held_by_remote: theirs.is_hold(),
        ptime_ms: ptime(theirs),
    };
    Ok((answer, agreed))
}

/// Reads the answer to our offer `ours` (which had one line).
pub fn accept_answer(ours: &AudioSession, answer: &Description) -> Result<Agreed, NegotiateError> {
    if answer.media.len() != 1 {
        return Err(NegotiateError::LineCount { offered: 1, answered: answer.media.len() });
    }
    let (_, theirs) = usable_audio(answer)?;
    same_family(ours, theirs)?;
    let mut voices = theirs.formats.iter().filter(|format| format.codec != Codec::TelephoneEvent).peekable();
    let first = *voices.peek().ok_or(NegotiateError::NoCommonCodec)?;
    if !offers(ours, first.codec) {
        return Err(NegotiateError::NotOffered);
    }
    // They send to us under the numbers we wrote, to be heard by the codecs both sides kept.
    let receive: Vec<Format> = ours
        .formats
        .iter()
        .filter(|format| format.codec != Codec::TelephoneEvent && offers(theirs, format.codec))
        .copied()
        .collect();
    let send_events = event_number(theirs).filter(|_| event_number(ours).is_some());
    let direction = theirs.direction.reversed();
    Ok(Agreed {
        remote: theirs.socket(),
        remote_rtcp: theirs.rtcp_socket(),
        send: *first,
        receive,
        send_events,
        receive_events: send_events.and(event_number(ours)),
        direction: effective(ours.direction.reversed().answered_with(direction), theirs),
        held_by_remote: theirs.is_hold(),
        ptime_ms: ptime(theirs),
    })
}

fn usable_audio(description: &Description) -> Result<(usize, &AudioSession), NegotiateError> {
    let (index, audio) = description.audio().ok_or(NegotiateError::NoAudio)?;
    debug_assert!(description.media.get(index).is_some_and(|line| line.kind == MediaKind::Audio));
    match &audio.proto {
        _ if audio.port == 0 => Err(NegotiateError::AudioRefused),
        Proto::Avp => Ok((index, audio)),
        Proto::Secure(name) | Proto::Feedback(name) => Err(NegotiateError::SecureOrFeedbackProfile(name.clone())),
        Proto::Other(name) => Err(NegotiateError::UnknownProfile(name.clone())),
    }
}

fn same_family(ours: &AudioSession, theirs: &AudioSession) -> Result<(), NegotiateError> {
    if ours.address.is_ipv4() == theirs.address.is_ipv4() { Ok(()) } else { Err(NegotiateError::AddressFamily) }
}

/// An unspecified address means "do not send", whatever the direction says (RFC 3264 §8.4).
fn effective(direction: Direction, theirs: &AudioSession) -> Direction {
    Direction::new(direction.sends() && !theirs.address.is_unspecified(), direction.receives())
}

fn offers(session: &AudioSession, codec: Codec) -> bool {
    session.formats.iter().any(|format| format.codec == codec)
}

fn event_number(session: &AudioSession) -> Option<u8> {
    session.formats.iter().find(|format| format.codec == Codec::TelephoneEvent).map(|format| format.number)
}

fn ptime(session: &AudioSession) -> u16 {
    // RFC 3551 §4.2: 20 ms when nothing is said. Longer than 200 ms is not a telephone call.
    session.ptime_ms.filter(|ms| (10..=200).contains(ms)).unwrap_or(20)
}
