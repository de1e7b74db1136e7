//! What is said on a Tap connection around the records: the dialler's greeting, the answer, the acknowledgements.
use super::record::TAP_VERSION;

/// A greeting is: length u16, version u8, recording (u8 length, text), token (u8 length, text), resume after u64.
pub(super) const MAX_GREETING_BYTES: usize = 1 + 65 + 256 + 8;

/// Why a Tap is not opened for a dialler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the other side speaks another Tap version")]
    Version,
    #[error("no such Tap, or not its token")]
    Token,
    #[error("not the certificate for which the Tap was opened")]
    Certificate,
    #[error("the Tap never had the record after which to resume")]
    ResumeAhead,
    #[error("the Tap is over")]
    Over,
    #[error("the greeting could not be read")]
    Greeting,
}

pub(super) const ACCEPTED: u8 = 0;

impl Refusal {
    const ALL: [Self; 6] =
        [Self::Version, Self::Token, Self::Certificate, Self::ResumeAhead, Self::Over, Self::Greeting];

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::Token => 2,
            Self::Certificate => 3,
            Self::ResumeAhead => 4,
            Self::Over => 5,
            Self::Greeting => 6,
        }
    }
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Greeting<'a> {
    pub recording: &'a str,
    pub token: &'a str,
    pub resume_after: u64,
}

impl<'a> Greeting<'a> {
    /// With its length in front. Texts over 255 bytes are no ids and no tokens.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut body = vec![TAP_VERSION];
        for text in [self.recording, self.token] {
            body.push(u8::try_from(text.len()).ok()?);
            body.extend_from_slice(text.as_bytes());
        }
        body.extend_from_slice(&self.resume_after.to_be_bytes());
        let mut out = u16::try_from(body.len()).ok()?.to_be_bytes().to_vec();
        out.append(&mut body);
        Some(out)
    }

    pub(super) fn decode(body: &'a [u8]) -> Result<Self, Refusal> {
        let (version, rest) = body.split_first().ok_or(Refusal::Greeting)?;
        if *version != TAP_VERSION {
            return Err(Refusal::Version);
        }
        let (recording, rest) = text(rest)?;
        let (token, rest) = text(rest)?;
        let resume_after = rest.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::Greeting)?;
        Ok(Self { recording, token, resume_after })
    }
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), Refusal> {
    let (length, rest) = bytes.split_first().ok_or(Refusal::Greeting)?;
    let (text, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Refusal::Greeting)?;
    Ok((std::str::from_utf8(text).map_err(|_| Refusal::Greeting)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_comes_back_and_every_cut_is_refused() {
        let greeting = Greeting { recording: "rec", token: "secret", resume_after: 77 };
        let bytes = greeting.encode().unwrap();
        let body = &bytes[2..];
        assert_eq!(Greeting::decode(body), Ok(greeting));
        for length in 0..body.len() {
            assert_eq!(Greeting::decode(&body[..length]), Err(Refusal::Greeting));
        }
        assert_eq!(Greeting::decode(&[9, 1, 2]), Err(Refusal::Version));
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
    }
}
