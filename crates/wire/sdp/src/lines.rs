//! The frame of every description: lines of `letter=value`, a session part and media parts, all bounded.

use crate::SdpError;

/// A description larger than this is refused before it is read.
pub const MAX_BYTES: usize = 64 * 1024;
/// Lines in one description.
pub const MAX_LINES: usize = 4096;
/// Bytes in one line.
pub const MAX_LINE_BYTES: usize = 8 * 1024;
/// Media lines in one description.
pub const MAX_MEDIA: usize = 16;

/// One line, `key=value`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    pub key: u8,
    pub value: &'a str,
}

/// A description cut into its session part and its media parts; the `m=` line is the first of each media part.
#[derive(Debug)]
pub(crate) struct Sections<'a> {
    pub session: Vec<Line<'a>>,
    pub media: Vec<Vec<Line<'a>>>,
}

impl<'a> Sections<'a> {
    /// Cuts `text`. Accepts CRLF and bare LF (RFC 8866 §9.1 asks parsers to), nothing else as a line end.
    pub fn parse(text: &'a str) -> Result<Self, SdpError> {
        if text.len() > MAX_BYTES {
            return Err(SdpError::TooLarge { bytes: text.len() });
        }
        let mut sections = Self { session: Vec::new(), media: Vec::new() };
        for (index, raw) in text.split('\n').enumerate() {
            if index >= MAX_LINES {
                return Err(SdpError::TooManyLines);
            }
            let raw = raw.strip_suffix('\r').unwrap_or(raw);
            if raw.is_empty() {
                continue;
            }
            let line = cut_line(raw, index + 1)?;
            if line.key == b'm' {
                if sections.media.len() == MAX_MEDIA {
                    return Err(SdpError::TooManyMedia);
                }
                sections.media.push(vec![line]);
            } else {
                sections.media.last_mut().unwrap_or(&mut sections.session).push(line);
            }
        }
        sections.check_session()?;
        Ok(sections)
    }

    /// RFC 8866 §5: `v`, `o`, `s` and `t` are not optional, and `v` comes first.
    fn check_session(&self) -> Result<(), SdpError> {
        match self.session.first() {
            Some(Line { key: b'v', value: "0" }) => {}
            Some(Line { key: b'v', .. }) => return Err(SdpError::UnsupportedVersion),
            _ => return Err(SdpError::MissingVersion),
        }
        for key in [b'v', b'o', b's', b't'] {
            let found = self.session.iter().filter(|line| line.key == key).count();
            match found {
                0 => return Err(SdpError::MissingLine(char::from(key))),
                1 => {}
                // RFC 8866 §5.9: only t= may be repeated.
                _ if key == b't' => {}
                _ => return Err(SdpError::MalformedLine(char::from(key))),
            }
        }
        Ok(())
    }
}

fn cut_line(raw: &str, number: usize) -> Result<Line<'_>, SdpError> {
    if raw.len() > MAX_LINE_BYTES {
        return Err(SdpError::LineTooLong { line: number });
    }
    if raw.bytes().any(|b| b == 0x7f || (b < 0x20 && b != b'\t')) {
        return Err(SdpError::ControlCharacter { line: number });
    }
    match raw.as_bytes() {
        [key @ b'a'..=b'z', b'=', ..] => Ok(Line { key: *key, value: raw.get(2..).unwrap_or_default() }),
        _ => Err(SdpError::NotALine { line: number }),
    }
}

/// The value of the only line `key`, if there is one.
pub(crate) fn first<'a>(lines: &[Line<'a>], key: u8) -> Option<&'a str> {
    lines.iter().find(|line| line.key == key).map(|line| line.value)
}

/// All attributes as (name, value); a property attribute has an empty value.
pub(crate) fn attributes<'l, 'a: 'l>(lines: &'l [Line<'a>]) -> impl Iterator<Item = (&'a str, &'a str)> + 'l {
    lines.iter().filter(|line| line.key == b'a').map(|line| line.value.split_once(':').unwrap_or((line.value, "")))
}

/// The value of attribute `name`; an error if it stands twice with different values.
pub(crate) fn attribute<'a>(lines: &[Line<'a>], name: &'static str) -> Result<Option<&'a str>, SdpError> {
    let mut found = None;
    for (key, value) in attributes(lines) {
        if key == name {
            match found {
                None => found = Some(value),
                Some(earlier) if earlier == value => {}
                Some(_) => return Err(SdpError::ConflictingAttribute(name)),
            }
        }
    }
    Ok(found)
}

/// The parts of `m=<media> <port>[/<n>] <proto> <fmt> ...` (RFC 8866 §5.14).
#[derive(Debug, Clone)]
pub(crate) struct MediaLine<'a> {
    pub kind: &'a str,
    pub port: u16,
    pub proto: &'a str,
    pub formats: Vec<&'a str>,
}

/// Formats in one media line; payload types are seven bits wide.
pub(crate) const MAX_FORMATS: usize = 128;

impl<'a> MediaLine<'a> {
    pub fn parse(value: &'a str) -> Result<Self, SdpError> {
        const BAD: SdpError = SdpError::MalformedLine('m');
        let mut words = value.split(' ').filter(|word| !word.is_empty());
        let (Some(kind), Some(port), Some(proto)) = (words.next(), words.next(), words.next()) else {
            return Err(BAD);
        };
        let port = match port.split_once('/') {
            // A range of ports is for layered multicast only; one pair is the same as none.
            Some((port, "1")) => port,
            Some(_) => return Err(BAD),
            None => port,
        };
        let formats: Vec<&str> = words.take(MAX_FORMATS + 1).collect();
        if formats.is_empty() {
            return Err(BAD);
        }
        if formats.len() > MAX_FORMATS {
            return Err(SdpError::TooMany { what: "formats", limit: MAX_FORMATS });
        }
        if ![kind, proto].iter().all(|word| is_token_path(word)) {
            return Err(BAD);
        }
        Ok(Self { kind, port: decimal(port).ok_or(BAD)?, proto, formats })
    }
}

/// A decimal number without sign or spaces.
pub(crate) fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || text.len() > 20 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `token` of RFC 8866 §9, also with the slashes of a protocol.
pub(crate) fn is_token_path(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b == b'/' || is_token_byte(b))
}

/// `token` of RFC 8866 §9.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

const fn is_token_byte(b: u8) -> bool {
    matches!(b, 0x21 | 0x23..=0x27 | 0x2A | 0x2B | 0x2D | 0x2E | 0x30..=0x39 | 0x41..=0x5A | 0x5E..=0x7E)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";

    #[test]
    fn both_line_ends_are_read_and_media_parts_are_cut() {
        let text = format!("{HEAD}m=audio 9 RTP/AVP 0\na=sendrecv\r\nm=video 0 RTP/AVP 96\r\n");
        let sections = Sections::parse(&text).unwrap();
        assert_eq!((sections.session.len(), sections.media.len()), (4, 2));
        assert_eq!(attribute(&sections.media[0], "sendrecv"), Ok(Some("")));
    }

    #[test]
    fn everything_is_bounded_and_refused_by_name() {
        let many = |n: usize| format!("{HEAD}{}", "m=audio 9 RTP/AVP 0\r\n".repeat(n));
        assert!(Sections::parse(&many(MAX_MEDIA)).is_ok());
        let cases = [
            ("x".repeat(MAX_BYTES + 1), SdpError::TooLarge { bytes: MAX_BYTES + 1 }),
            ("\n".repeat(MAX_LINES), SdpError::TooManyLines),
            (format!("v=0\ns={}\n", "x".repeat(MAX_LINE_BYTES)), SdpError::LineTooLong { line: 2 }),
            (many(MAX_MEDIA + 1), SdpError::TooManyMedia),
            ("v=0\ns=\0\n".into(), SdpError::ControlCharacter { line: 2 }),
            ("v=0\ns=a\rb\n".into(), SdpError::ControlCharacter { line: 2 }),
            ("v=0\nhello\n".into(), SdpError::NotALine { line: 2 }),
            ("v=1\n".into(), SdpError::UnsupportedVersion),
            ("o=x\n".into(), SdpError::MissingVersion),
            ("v=0\no=x\nt=0 0\n".into(), SdpError::MissingLine('s')),
            ("v=0\no=x\no=y\n".into(), SdpError::MalformedLine('o')),
        ];
        for (text, error) in cases {
            assert_eq!(Sections::parse(&text).unwrap_err(), error);
        }
    }

    #[test]
    fn media_lines_with_port_ranges_signs_or_no_format_are_refused() {
        for bad in ["audio 9", "audio 9 RTP/AVP", "audio -1 RTP/AVP 0", "audio 70000 RTP/AVP 0", "audio 9/2 RTP/AVP 0"]
        {
            assert_eq!(MediaLine::parse(bad).unwrap_err(), SdpError::MalformedLine('m'), "{bad}");
        }
        assert_eq!(MediaLine::parse("audio 9/1 RTP/AVP 0").unwrap().port, 9);
    }
}
