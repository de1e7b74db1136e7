//! Writing the answer: ICE-lite, one bundle, one SSRC per sending line.

use super::offer::{MediaKind, Offer, OfferMedia};
use super::parts::{Fingerprint, IceCredentials, Payload, URI_AUDIO_LEVEL, URI_MID};
use crate::lines::is_token;
use std::fmt::{self, Write};
use std::net::SocketAddr;

/// What we answer; one [`LinePlan`] for each line of the offer, in its order.
#[derive(Debug, Clone)]
pub struct AnswerPlan {
    pub session_id: u64,
    pub session_version: u64,
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    /// Addresses that the browser can reach, best first; each becomes a host candidate.
    pub candidates: Vec<SocketAddr>,
    pub lines: Vec<LinePlan>,
}

#[derive(Debug, Clone)]
pub enum LinePlan {
    /// The browser sends here: `recvonly`.
    Receive { payloads: Vec<Payload> },
    /// A slot or the Announcer: `sendonly` with one SSRC for ever. `payloads` names every type that may ever be sent.
    Send { payloads: Vec<Payload>, ssrc: u32, cname: String, stream: String, track: String },
    /// Agreed but silent for now: `inactive`.
    Idle { payloads: Vec<Payload> },
    /// Port 0.
    Refuse,
}

/// Why a plan does not fit its offer. All of these are our own faults, except [`AnswerError::NothingAccepted`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the plan has {planned} lines, the offer {offered} (RFC 3264 §6)")]
    LineCount { planned: usize, offered: usize },
    #[error("no line of the offer was accepted")]
    NothingAccepted,
    #[error("no candidate address")]
    NoCandidate,
    #[error("line {mid} is accepted without any payload type")]
    NoPayload { mid: String },
    #[error("line {mid} was not offered payload type {number} with that codec")]
    PayloadNotOffered { mid: String, number: u8 },
    #[error("line {mid} was offered with a direction that does not allow the planned one (RFC 3264 §6.1)")]
    Direction { mid: String },
    #[error("line {mid} is not audio, stopped, outside the bundle or without rtcp-mux and can only be refused")]
    MustRefuse { mid: String },
    #[error("{what} holds characters that would break the description")]
    Unwritable { what: &'static str },
    #[error("two sending lines share SSRC {ssrc}")]
    DuplicateSsrc { ssrc: u32 },
}

/// The answer to `offer` that `plan` describes.
pub fn write_answer(offer: &Offer, plan: &AnswerPlan) -> Result<String, AnswerError> {
    check(offer, plan)?;
    let mut out = String::with_capacity(512 + plan.lines.len() * 640);
    // Writing into a String cannot fail.
    let _ = write_session(&mut out, offer, plan);
    let mut candidates = plan.candidates.as_slice();
    for (line, planned) in offer.media.iter().zip(&plan.lines) {
        let _ = match planned {
            LinePlan::Refuse => write_refused(&mut out, line),
            _ => write_accepted(&mut out, line, planned, plan, std::mem::take(&mut candidates)),
        };
    }
    Ok(out)
}

fn check(offer: &Offer, plan: &AnswerPlan) -> Result<(), AnswerError> {
    if offer.media.len() != plan.lines.len() {
        return Err(AnswerError::LineCount { planned: plan.lines.len(), offered: offer.media.len() });
    }
    if plan.candidates.is_empty() {
        return Err(AnswerError::NoCandidate);
    }
    if plan.lines.iter().all(|line| matches!(line, LinePlan::Refuse)) {
        return Err(AnswerError::NothingAccepted);
    }
    let mut ssrcs: Vec<u32> = Vec::new();
    for (line, planned) in offer.media.iter().zip(&plan.lines) {
        check_line(offer, line, planned)?;
        if let LinePlan::Send { ssrc, .. } = planned {
            if ssrcs.contains(ssrc) {
                return Err(AnswerError::DuplicateSsrc { ssrc: *ssrc });
            }
            ssrcs.push(*ssrc);
        }
    }
    Ok(())
}

fn check_line(offer: &Offer, line: &OfferMedia, planned: &LinePlan) -> Result<(), AnswerError> {
    let mid = || line.mid.clone();
    let (payloads, fits) = match planned {
        LinePlan::Refuse => return Ok(()),
        LinePlan::Receive { payloads } => (payloads, line.direction.sends()),
        LinePlan::Idle { payloads } => (payloads, true),
        LinePlan::Send { payloads, cname, stream, track, .. } => {
            for (what, text) in [("cname", cname), ("stream", stream), ("track", track)] {
                if !is_token(text) || text.len() > 64 {
                    return Err(AnswerError::Unwritable { what });
                }
            }
            (payloads, line.direction.receives())
        }
    };
    // `bundle-only` lines are offered with port 0 (RFC 9143 §6), so port 0 alone does not refuse a bundled line.
    if line.kind != MediaKind::Audio || !offer.is_bundled(&line.mid) || !line.rtcp_mux {
        return Err(AnswerError::MustRefuse { mid: mid() });
    }
    if !fits {
        return Err(AnswerError::Direction { mid: mid() });
    }
    if payloads.is_empty() {
        return Err(AnswerError::NoPayload { mid: mid() });
    }
    for payload in payloads {
        let offered = line.payloads.iter().any(|other| {
            other.number == payload.number
                && other.name.eq_ignore_ascii_case(&payload.name)
                && (other.clock_hz, other.channels) == (payload.clock_hz, payload.channels)
        });
        if !offered {
            return Err(AnswerError::PayloadNotOffered { mid: mid(), number: payload.number });
        }
        let printable = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !payload.fmtp.iter().chain(&payload.feedback).all(|text| printable(text)) {
            return Err(AnswerError::Unwritable { what: "a payload's parameters" });
        }
    }
    Ok(())
}

fn write_session(out: &mut String, offer: &Offer, plan: &AnswerPlan) -> fmt::Result {
    write!(out, "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", plan.session_id, plan.session_version)?;
    out.push_str("a=group:BUNDLE");
    // RFC 9143 §7.3.3: only accepted lines stand in the answer's group, in the order of the offer's.
    for mid in &offer.bundle {
        let accepted = offer
            .media
            .iter()
            .zip(&plan.lines)
            .any(|(line, planned)| line.mid == *mid && !matches!(planned, LinePlan::Refuse));
        if accepted {
            write!(out, " {mid}")?;
        }
    }
    // RFC 8839 §5.3: we only ever answer checks.
    out.push_str("\r\na=ice-lite\r\na=msid-semantic: WMS\r\n");
    Ok(())
}

fn write_refused(out: &mut String, line: &OfferMedia) -> fmt::Result {
    write!(out, "m={} 0 {}", line.kind.as_str(), line.proto)?;
    for format in &line.formats {
        write!(out, " {format}")?;
    }
    write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:{}\r\n", line.mid)
}

fn write_accepted(
    out: &mut String,
    line: &OfferMedia,
    planned: &LinePlan,
    plan: &AnswerPlan,
    candidates: &[SocketAddr],
) -> fmt::Result {
    let (payloads, direction) = match planned {
        LinePlan::Receive { payloads } => (payloads.as_slice(), "recvonly"),
        LinePlan::Send { payloads, .. } => (payloads.as_slice(), "sendonly"),
        LinePlan::Idle { payloads } => (payloads.as_slice(), "inactive"),
        LinePlan::Refuse => return Ok(()),
    };
    write!(out, "m={} 9 {}", line.kind.as_str(), line.proto)?;
    for payload in payloads {
        write!(out, " {}", payload.number)?;
    }
    write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n")?;
    for (index, candidate) in candidates.iter().enumerate() {
        write_candidate(out, index, *candidate)?;
    }
    if !candidates.is_empty() {
        out.push_str("a=end-of-candidates\r\n");
    }
    write!(out, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", plan.ice.ufrag, plan.ice.pwd)?;
    write!(out, "a=fingerprint:{}\r\na=setup:passive\r\na=mid:{}\r\n", plan.fingerprint, line.mid)?;
    for uri in [URI_AUDIO_LEVEL, URI_MID] {
        if let Some(id) = line.extmap_id(uri) {
            write!(out, "a=extmap:{id} {uri}\r\n")?;
        }
    }
    write!(out, "a={direction}\r\n")?;
    if let LinePlan::Send { stream, track, .. } = planned {
        write!(out, "a=msid:{stream} {track}\r\n")?;
    }
    out.push_str("a=rtcp-mux\r\n");
    if line.rtcp_rsize {
        out.push_str("a=rtcp-rsize\r\n");
    }
    payloads.iter().try_for_each(|payload| write_payload(out, payload))?;
    if let LinePlan::Send { ssrc, cname, .. } = planned {
        write!(out, "a=ssrc:{ssrc} cname:{cname}\r\n")?;
    }
    Ok(())
}

/// RFC 8839 §5.1; the priority is that of a host candidate with falling local preference (RFC 8445 §5.1.2.1).
fn write_candidate(out: &mut String, index: usize, address: SocketAddr) -> fmt::Result {
    let preference = 65_535_u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
    let priority = (126 << 24) | (preference << 8) | 255;
    write!(out, "a=candidate:{} 1 udp {priority} {} {} typ host\r\n", index + 1, address.ip(), address.port())
}

fn write_payload(out: &mut String, payload: &Payload) -> fmt::Result {
    let Payload { number, name, clock_hz, channels, fmtp, feedback } = payload;
    write!(out, "a=rtpmap:{number} {name}/{clock_hz}")?;
    if *channels > 1 {
        write!(out, "/{channels}")?;
    }
    out.push_str("\r\n");
    for value in feedback {
        write!(out, "a=rtcp-fb:{number} {value}\r\n")?;
    }
    if let Some(value) = fmtp {
        write!(out, "a=fmtp:{number} {value}\r\n")?;
    }
    Ok(())
}
