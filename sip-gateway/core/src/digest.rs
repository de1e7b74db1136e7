//! Answering digest challenges (RFC 7616, RFC 8760, and RFC 2617 for servers without qop).

use crate::random::{Random, hex};
use crate::trunk::Credentials;
use md5::{Digest as _, Md5};
use offhook_wire_sip::{AuthParams, Message, Name, quote};
use sha2::{Sha256, Sha512_256};
use std::fmt::Write;

/// Hashes, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Md5,
    Sha256,
    Sha512_256,
}

impl Algorithm {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    fn hash(self, text: &str) -> String {
        fn to_hex(bytes: &[u8]) -> String {
            let mut out = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                // Writing into a String cannot fail.
                let _ = write!(out, "{byte:02x}");
            }
            out
        }
        match self {
            Self::Md5 => to_hex(&Md5::digest(text)),
            Self::Sha256 => to_hex(&Sha256::digest(text)),
            Self::Sha512_256 => to_hex(&Sha512_256::digest(text)),
        }
    }
}

/// One challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// `-sess`: HA1 also covers the nonces.
    session: bool,
    /// `qop=auth`; without any qop the response is that of RFC 2069.
    qop: bool,
    pub stale: bool,
    /// Came as 407, so the answer is Proxy-Authorization.
    proxy: bool,
}

/// Why no challenge of a response is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("there is no digest challenge with an algorithm and a qop that we know")]
    NoUsableChallenge,
    #[error("the realm is not the one configured for the trunk")]
    ForeignRealm,
    #[error("the trunk has no credentials")]
    NoCredentials,
    #[error("the carrier refused the user name or password")]
    Refused,
}

impl Challenge {
    /// The strongest challenge of a 401 or 407 that we can answer (RFC 8760 §2.4).
    pub fn strongest(response: &Message<'_>) -> Option<Self> {
        let (name, proxy) = match response.code() {
            Some(401) => (Name::WwwAuthenticate, false),
            Some(407) => (Name::ProxyAuthenticate, true),
            _ => return None,
        };
        let usable = response.auth(name).filter_map(|params| Self::read(&params, proxy));
        // The first of equals, as the server prefers it.
        usable.reduce(|best, next| if next.algorithm > best.algorithm { next } else { best })
    }

    fn read(params: &AuthParams<'_>, proxy: bool) -> Option<Self> {
        if !params.is_digest() {
            return None;
        }
        let text = |name| params.get(name).map(|text| text.into_owned());
        let named = text("algorithm").unwrap_or_else(|| "MD5".to_owned()).to_ascii_uppercase();
        let (named, session) = named.strip_suffix("-SESS").map_or((named.as_str(), false), |base| (base, true));
        let algorithm = match named {
            "MD5" => Algorithm::Md5,
            "SHA-256" => Algorithm::Sha256,
            "SHA-512-256" => Algorithm::Sha512_256,
            _ => return None,
        };
        // auth-int alone would need the body's hash and is not spoken.
        let qop = match text("qop") {
            None => false,
            Some(list) if list.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
        };
        let stale = text("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true"));
        let printable = |text: &String| !text.is_empty() && !text.contains(char::is_control);
        Some(Self {
            realm: text("realm").filter(|realm| !realm.contains(char::is_control))?,
            nonce: text("nonce").filter(printable)?,
            opaque: text("opaque").filter(|opaque| !opaque.contains(char::is_control)),
            algorithm,
            session,
            qop,
            stale,
            proxy,
        })
    }
}

/// Answers the challenges of one conversation with one trunk: one call, or one registration.
#[derive(Debug, Clone, Default)]
pub struct Digest {
    challenge: Option<Challenge>,
    /// How often the nonce was used (RFC 7616 §3.4).
    count: u32,
    /// An answer was sent for which no verdict came yet.
    pending: bool,
    /// A stale nonce was already replaced once.
    renewed: bool,
}

impl Digest {
    /// Takes a 401 or 407 to a request of ours. `Ok`: send it again with [`Self::authorization`]. A second refusal of the same
    /// password is final; only `stale=true` gives one more try (RFC 7616 §3.3).
    pub fn challenged(&mut self, response: &Message<'_>, credentials: Option<&Credentials>) -> Result<(), DigestError> {
        let credentials = credentials.ok_or(DigestError::NoCredentials)?;
        let challenge = Challenge::strongest(response).ok_or(DigestError::NoUsableChallenge)?;
        if credentials.realm.as_ref().is_some_and(|realm| *realm != challenge.realm) {
            return Err(DigestError::ForeignRealm);
        }
        if self.pending {
            if !challenge.stale || self.renewed {
                return Err(DigestError::Refused);
            }
            self.renewed = true;
        }
        self.challenge = Some(challenge);
        self.count = 0;
        self.pending = true;
        Ok(())
    }

    /// A request with our answer was not refused.
    pub const fn accepted(&mut self) {
        self.pending = false;
        self.renewed = false;
    }

    /// Whether an answer was sent that neither was refused nor taken yet.
    pub const fn is_pending(&self) -> bool {
        self.pending
    }

    /// Whether the conversation was challenged and answered before.
    pub const fn is_known(&self) -> bool {
        self.challenge.is_some()
    }

    /// The header that answers the last challenge for a request `method` to `uri`, if there was one.
    pub fn authorization(
        &mut self,
        credentials: &Credentials,
        method: &str,
        uri: &str,
        random: &mut dyn Random,
    ) -> Option<(Name, String)> {
        let challenge = self.challenge.as_ref()?;
        self.count = self.count.saturating_add(1);
        let cnonce = hex(random, 16);
        let name = if challenge.proxy { Name::ProxyAuthorization } else { Name::Authorization };
        Some((name, challenge.answer(credentials, method, uri, self.count, &cnonce)))
    }
}

impl Challenge {
    /// RFC 7616 §3.4.1 to §3.4.3.
    fn answer(&self, credentials: &Credentials, method: &str, uri: &str, count: u32, cnonce: &str) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let Credentials { username, password, .. } = credentials;
        let Self { realm, nonce, .. } = self;
        let mut ha1 = hash(&format!("{username}:{realm}:{}", password.expose()));
        if self.session {
            ha1 = hash(&format!("{ha1}:{nonce}:{cnonce}"));
        }
        let ha2 = hash(&format!("{method}:{uri}"));
        let response = if self.qop {
            hash(&format!("{ha1}:{nonce}:{count:08x}:{cnonce}:auth:{ha2}"))
        } else {
            hash(&format!("{ha1}:{nonce}:{ha2}"))
        };
        let mut out = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\", algorithm={}{}",
            quote(username),
            quote(realm),
            quote(nonce),
            quote(uri),
            self.algorithm.as_str(),
            if self.session { "-sess" } else { "" },
        );
        // Writing into a String cannot fail.
        if let Some(opaque) = &self.opaque {
            let _ = write!(out, ", opaque={}", quote(opaque));
        }
        if self.qop {
            let _ = write!(out, ", qop=auth, nc={count:08x}, cnonce=\"{cnonce}\"");
        } else if self.session {
            let _ = write!(out, ", cnonce=\"{cnonce}\"");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;
    use offhook_contract::Secret;

    fn mufasa(password: &str) -> Credentials {
        Credentials { username: "Mufasa".into(), password: Secret::new(password), realm: None }
    }

    fn response(code: u16, challenges: &str) -> String {
        format!(
            "SIP/2.0 {code} No\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{challenges}\r\n"
        )
    }

    fn challenge(text: &str) -> Challenge {
        let response = response(401, &format!("WWW-Authenticate: {text}\r\n"));
        Challenge::strongest(&Message::parse(response.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn the_vector_of_rfc_2617() {
        let challenge = challenge(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        );
        let answer = challenge.answer(&mufasa("Circle Of Life"), "GET", "/dir/index.html", 1, "0a4f113b");
        assert!(answer.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{answer}");
        assert!(answer.contains("qop=auth, nc=00000001, cnonce=\"0a4f113b\""));
        assert!(answer.contains("opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""));
    }

    #[test]
    fn the_vectors_of_rfc_7616() {
        let of = |algorithm: &str| {
            let challenge = challenge(&format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            ));
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            challenge.answer(&mufasa("Circle of Life"), "GET", "/dir/index.html", 1, cnonce)
        };
        assert!(of("MD5").contains("response=\"8ca523f5e9506fed4657c9700eebdbec\""));
        let sha = of("SHA-256");
        assert!(sha.contains("response=\"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1\""));
        assert!(sha.contains("algorithm=SHA-256"));
    }

    #[test]
    fn without_qop_the_old_form_is_used() {
        // H(H(Mufasa:r:x):n:H(INVITE:sip:b)) with MD5, the parts hashed one by one.
        let challenge = challenge("Digest realm=\"r\", nonce=\"n\"");
        let ha1 = Algorithm::Md5.hash("Mufasa:r:x");
        let ha2 = Algorithm::Md5.hash("INVITE:sip:b");
        let answer = challenge.answer(&mufasa("x"), "INVITE", "sip:b", 1, "c");
        assert!(answer.contains(&Algorithm::Md5.hash(&format!("{ha1}:n:{ha2}"))));
        assert!(!answer.contains("cnonce") && !answer.contains("nc="));
    }

    #[test]
    fn the_strongest_of_several_challenges_is_answered() {
        let all = "WWW-Authenticate: Digest realm=\"r\", nonce=\"1\", algorithm=MD5, qop=\"auth\"\r\n\
                   WWW-Authenticate: Digest realm=\"r\", nonce=\"2\", algorithm=SHA-256, qop=\"auth\"\r\n\
                   WWW-Authenticate: Digest realm=\"r\", nonce=\"3\", algorithm=SHA-1, qop=\"auth\"\r\n\
                   WWW-Authenticate: Digest realm=\"r\", nonce=\"4\", algorithm=SHA-512-256, qop=\"auth-int\"\r\n\
                   WWW-Authenticate: Basic realm=\"r\"\r\n";
        let text = response(401, all);
        let best = Challenge::strongest(&Message::parse(text.as_bytes()).unwrap()).unwrap();
        assert_eq!((best.algorithm, best.nonce.as_str()), (Algorithm::Sha256, "2"));
        let only_int = response(401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"4\", qop=\"auth-int\"\r\n");
        assert_eq!(Challenge::strongest(&Message::parse(only_int.as_bytes()).unwrap()), None);
        let wrong_header = response(407, "WWW-Authenticate: Digest realm=\"r\", nonce=\"4\"\r\n");
        assert_eq!(Challenge::strongest(&Message::parse(wrong_header.as_bytes()).unwrap()), None);
    }

    #[test]
    fn a_wrong_password_is_tried_once_and_a_stale_nonce_replaced_once() {
        let plain = response(407, "Proxy-Authenticate: Digest realm=\"r\", nonce=\"1\", qop=\"auth\"\r\n");
        let stale = response(407, "Proxy-Authenticate: Digest realm=\"r\", nonce=\"2\", qop=\"auth\", stale=TRUE\r\n");
        let (plain, stale) = (Message::parse(plain.as_bytes()).unwrap(), Message::parse(stale.as_bytes()).unwrap());
        let who = mufasa("x");
        let mut digest = Digest::default();
        assert_eq!(digest.challenged(&plain, Some(&who)), Ok(()));
        assert_eq!(digest.challenged(&plain, Some(&who)), Err(DigestError::Refused));
        let mut digest = Digest::default();
        digest.challenged(&plain, Some(&who)).unwrap();
        assert_eq!(digest.challenged(&stale, Some(&who)), Ok(()));
        assert_eq!(digest.challenged(&stale, Some(&who)), Err(DigestError::Refused));
        digest.accepted();
        assert_eq!(digest.challenged(&plain, Some(&who)), Ok(()), "a new nonce after a success is no wrong password");
    }

    #[test]
    fn nothing_is_answered_for_another_realm_or_without_credentials() {
        let text = response(401, "WWW-Authenticate: Digest realm=\"evil\", nonce=\"1\"\r\n");
        let message = Message::parse(text.as_bytes()).unwrap();
        let pinned = Credentials { realm: Some("carrier".into()), ..mufasa("x") };
        assert_eq!(Digest::default().challenged(&message, Some(&pinned)), Err(DigestError::ForeignRealm));
        assert_eq!(Digest::default().challenged(&message, None), Err(DigestError::NoCredentials));
    }

    #[test]
    fn the_nonce_count_grows_with_each_use() {
        let text = response(401, "WWW-Authenticate: Digest realm=\"r\", nonce=\"1\", qop=auth\r\n");
        let mut digest = Digest::default();
        let mut random = Seeded::new(1);
        assert_eq!(digest.authorization(&mufasa("x"), "BYE", "sip:b", &mut random), None);
        digest.challenged(&Message::parse(text.as_bytes()).unwrap(), Some(&mufasa("x"))).unwrap();
        for count in ["nc=00000001", "nc=00000002"] {
            let (name, value) = digest.authorization(&mufasa("x"), "BYE", "sip:b", &mut random).unwrap();
            assert_eq!(name, Name::Authorization);
            assert!(value.contains(count), "{value}");
        }
    }
}
