//! Writing our descriptions, with a version that grows only when the content changes.

use super::description::{Description, MediaKind, is_writable};
use super::session::{AudioSession, Codec};
use std::fmt::{self, Write};
use std::net::IpAddr;

/// Our side of one dialog's session: remembers what was last written (RFC 3264 §8: the version in `o=` grows by one with
/// each change and stays when nothing changed).
#[derive(Debug, Clone)]
pub struct LocalDescription {
    session_id: u64,
    version: u64,
    last: Option<(String, IpAddr)>,
}

impl LocalDescription {
    /// `session_id` must be random; the first version is 1.
    pub const fn new(session_id: u64) -> Self {
        // RFC 8866 §5.2: numeric; some peers read it as a signed 64-bit number.
        Self { session_id: session_id >> 1, version: 0, last: None }
    }

    /// The version last written; 0 before the first.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Our offer: one audio line.
    pub fn offer(&mut self, ours: &AudioSession) -> String {
        let mut body = String::with_capacity(256);
        // Writing into a String cannot fail.
        let _ = write_audio(&mut body, ours);
        self.finish(body, ours.address)
    }

    /// Our answer to `offer`: the audio line it uses answered with `answer`, every other line with port 0.
    pub fn answer(&mut self, offer: &Description, answer: &AudioSession) -> String {
        let used = offer.audio().map(|(index, _)| index);
        let mut body = String::with_capacity(256);
        for (index, line) in offer.media.iter().enumerate() {
            let _ = if Some(index) == used && line.kind == MediaKind::Audio {
                write_audio(&mut body, answer)
            } else {
                let words = || line.formats.iter().map(String::as_str).filter(|word| is_writable(word));
                write_declined(&mut body, line.kind_str(), line.session.proto.as_str(), words())
            };
        }
        self.finish(body, answer.address)
    }

    /// What was last written, word for word, if anything was.
    pub fn last(&self) -> Option<String> {
        self.last.as_ref().map(|(body, address)| self.with_head(body, *address))
    }

    fn finish(&mut self, body: String, address: IpAddr) -> String {
        let unchanged = self.last.as_ref().is_some_and(|(last, at)| *last == body && *at == address);
        if !unchanged {
            self.version += 1;
        }
        let text = self.with_head(&body, address);
        self.last = Some((body, address));
        text
    }

    fn with_head(&self, body: &str, address: IpAddr) -> String {
        let family = family(address);
        let Self { session_id, version, .. } = self;
        format!(
            "v=0\r\no=- {session_id} {version} IN {family} {address}\r\ns=-\r\n\
             c=IN {family} {address}\r\nt=0 0\r\n{body}"
        )
    }
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IP4",
        IpAddr::V6(_) => "IP6",
    }
}

fn write_audio(out: &mut String, session: &AudioSession) -> fmt::Result {
    write!(out, "m=audio {} {}", session.port, session.proto.as_str())?;
    for format in &session.formats {
        write!(out, " {}", format.number)?;
    }
    out.push_str("\r\n");
    for format in &session.formats {
        write!(out, "a=rtpmap:{} {}/8000\r\n", format.number, format.codec.name())?;
        if format.codec == Codec::TelephoneEvent {
            // RFC 4733 §2.4.1: the sixteen DTMF events.
            write!(out, "a=fmtp:{} 0-15\r\n", format.number)?;
        }
    }
    if let Some(ms) = session.ptime_ms {
        write!(out, "a=ptime:{ms}\r\n")?;
    }
    write!(out, "a={}\r\n", session.direction.as_str())
}

fn write_declined<'a>(
    out: &mut String,
    kind: &str,
    proto: &str,
    formats: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    write!(out, "m={kind} 0 {proto}")?;
    let mut any = false;
    for format in formats {
        write!(out, " {format}")?;
        any = true;
    }
    out.push_str(if any { "\r\n" } else { " 0\r\n" });
    Ok(())
}
