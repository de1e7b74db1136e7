//! Nonces that need no memory: the time, and a MAC over time and source (RFC 8489 §9.2, §14.10).
//!
//! Two forms. The long one begins with the nonce cookie and so offers SHA-256 and USERHASH. The short one leaves the
//! cookie out, for an answer that may not be much larger than the request that called for it; it is as short as it can be
//! for the same reason: each four bytes saved let the realm be four bytes longer.
use crate::path::ClientPath;
use crate::random::derived;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use offhook_shard::Moment;
use std::net::IpAddr;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// RFC 8489 §9.2: what a nonce with security features begins with; four characters of features follow.
const COOKIE: &[u8] = b"obMatJos2";
/// RFC 8489 §18.1: bit 0 is password algorithms, bit 1 username anonymity, and bit 0 of the 24 is the leftmost. (The nonce
/// of the sample in appendix B.1 has them at the other end.)
const FEATURE_ALGORITHMS: u8 = 0x80;
const FEATURE_USERHASH: u8 = 0x40;
const FEATURES_LEN: usize = 4;
const COOKIE_LEN: usize = COOKIE.len() + FEATURES_LEN;
/// A character of time and seven of MAC: 42 bits. Forging one takes a month at a million packets a second and wins nothing
/// but a nonce, which anyone gets by asking from where he is.
const BODY_LEN: usize = 8;
const BODY_BYTES: usize = 6;
/// Steps that the time character tells apart; the MAC covers the whole time, so it does not repeat.
const STEPS: u64 = 64;
/// Steps of a nonce's life: the rest tells an old one from one that is not yet minted.
const STEPS_OF_LIFE: u64 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Short,
    /// With neither of them it is short.
    Long {
        algorithms: bool,
        userhash: bool,
    },
}

impl Form {
    const fn features(self) -> u8 {
        let Self::Long { algorithms, userhash } = self else { return 0 };
        (if algorithms { FEATURE_ALGORITHMS } else { 0 }) | (if userhash { FEATURE_USERHASH } else { 0 })
    }

    pub(crate) const fn offers_algorithms(self) -> bool {
        self.features() & FEATURE_ALGORITHMS != 0
    }
}

/// What a valid nonce says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fresh {
    /// It offered password algorithms, so the client was sent PASSWORD-ALGORITHMS.
    pub(crate) algorithms: bool,
}

/// The text of a nonce.
pub(crate) struct Nonce {
    bytes: [u8; COOKIE_LEN + BODY_LEN],
    len: usize,
}

impl Nonce {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if let Some(slot) = self.bytes.get_mut(self.len..end) {
            slot.copy_from_slice(part);
            self.len = end;
        }
    }
}

pub(crate) struct Nonces {
    key: hmac::Key,
}

impl Nonces {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self { key: derived(secret, "nonce") }
    }

    pub(crate) fn mint(&self, now: Moment, path: &ClientPath, form: Form, lifetime: Option<Duration>) -> Nonce {
        let mut nonce = Nonce { bytes: [0; COOKIE_LEN + BODY_LEN], len: 0 };
        if form.features() != 0 {
            nonce.push(COOKIE);
            nonce.push(&features_text(form.features()));
        }
        nonce.push(&self.body(steps(now, lifetime), path, form.features()));
        nonce
    }

    /// Valid if we made it for this source no longer than `lifetime` ago, and a step (`None`: ever since the process began).
    pub(crate) fn check(
        &self,
        now: Moment,
        path: &ClientPath,
        text: &[u8],
        lifetime: Option<Duration>,
    ) -> Option<Fresh> {
        let (features, body) = match text.strip_prefix(COOKIE) {
            Some(rest) => {
                let (features, body) = rest.split_at_checked(FEATURES_LEN)?;
                (features_of(features)?, body)
            }
            None => (0, text),
        };
        let mut bytes = [0; BODY_BYTES];
        if body.len() != BODY_LEN || URL_SAFE_NO_PAD.decode_slice(body, &mut bytes).ok()? != BODY_BYTES {
            return None;
        }
        let step = step_s(lifetime);
        let now = steps(now, lifetime);
        let age = now.wrapping_sub(u64::from(bytes[0] >> 2)) % STEPS;
        let ours = self.body(now.checked_sub(age)?, path, features);
        if !bool::from(ours.as_slice().ct_eq(body)) {
            return None;
        }
        let is_young = lifetime.is_none_or(|lifetime| age.saturating_sub(1) * step < lifetime.as_secs());
        is_young.then_some(Fresh { algorithms: features & FEATURE_ALGORITHMS != 0 })
    }

    fn body(&self, steps: u64, path: &ClientPath, features: u8) -> [u8; BODY_LEN] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&steps.to_be_bytes());
        mac.update(&[features, u8::from(path.is_stream())]);
        mac.update(&path.client.port().to_be_bytes());
        match path.client.ip() {
            IpAddr::V4(ip) => mac.update(&ip.octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        let tag = mac.sign();
        let mut bytes = [0; BODY_BYTES];
        bytes.iter_mut().zip(tag.as_ref()).for_each(|(slot, byte)| *slot = *byte);
        bytes[0] = bytes[0] & 0x03 | ((steps % STEPS) as u8) << 2;
        let mut text = [0; BODY_LEN];
        // Six bytes are eight characters: it always fits.
        let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        text
    }
}

/// Time in steps, of which a lifetime has [`STEPS_OF_LIFE`]; without a lifetime it stands still.
fn steps(now: Moment, lifetime: Option<Duration>) -> u64 {
    if lifetime.is_none() { 0 } else { now.seconds() / step_s(lifetime) }
}

fn step_s(lifetime: Option<Duration>) -> u64 {
    lifetime.unwrap_or_default().as_secs().div_ceil(STEPS_OF_LIFE).max(1)
}

fn features_text(features: u8) -> [u8; FEATURES_LEN] {
    let mut text = [0; FEATURES_LEN];
    let _ = URL_SAFE_NO_PAD.encode_slice([features, 0, 0], &mut text);
    text
}

fn features_of(text: &[u8]) -> Option<u8> {
    let mut bytes = [0; 3];
    URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    match bytes {
        [features, 0, 0] if features & !(FEATURE_ALGORITHMS | FEATURE_USERHASH) == 0 => Some(features),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Via;

    const LIFE: Option<Duration> = Some(Duration::from_secs(600));

    fn path(client: &str) -> ClientPath {
        ClientPath { client: client.parse().unwrap(), server: "198.51.100.1:3478".parse().unwrap(), via: Via::Udp(0) }
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn a_nonce_is_good_for_its_source_and_its_time_only() {
        let nonces = Nonces::new(&[7; 32]);
        let here = path("192.0.2.1:5000");
        let long = |algorithms, userhash| Form::Long { algorithms, userhash };
        for form in [Form::Short, long(true, true), long(true, false), long(false, true), long(false, false)] {
            let nonce = nonces.mint(at(1_000), &here, form, LIFE);
            let text = nonce.as_bytes();
            assert!(text.len() == 8 || text.starts_with(b"obMatJos2") && text.len() == 21);
            let check = |now, path: &ClientPath, text: &[u8]| nonces.check(at(now), path, text, LIFE);
            assert_eq!(check(1_600, &here, text), Some(Fresh { algorithms: form.offers_algorithms() }));
            assert_eq!(check(1_000 + 600 + 2 * 19, &here, text), None);
            assert_eq!(check(980, &here, text), None);
            assert_eq!(check(1_000, &path("192.0.2.1:5001"), text), None);
            assert_eq!(check(1_000, &path("192.0.2.2:5000"), text), None);
            assert_eq!(check(1_000, &ClientPath { via: Via::Stream(1), ..here }, text), None);
            // After the short time has gone round once, too.
            assert_eq!(check(1_000 + STEPS * 19, &here, text), None);
            assert_eq!(Nonces::new(&[8; 32]).check(at(1_000), &here, text, LIFE), None);
            for bit in 0..text.len() * 8 {
                let mut flipped = text.to_vec();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(check(1_000, &here, &flipped), None, "{bit}");
            }
            let endless = nonces.mint(at(1_000), &here, form, None);
            assert!(nonces.check(at(90_000), &here, endless.as_bytes(), None).is_some());
        }
    }

    #[test]
    fn a_nonce_lives_for_its_time_and_less_than_two_steps_longer() {
        let nonces = Nonces::new(&[7; 32]);
        let here = path("192.0.2.1:5000");
        for life in [1, 10, 32, 33, 100, 600, 3_600, 86_400] {
            let lifetime = Some(Duration::from_secs(life));
            for minted in [0, 1, 77, 1_000_003] {
                let nonce = nonces.mint(at(minted), &here, Form::Short, lifetime);
                let good = |age| nonces.check(at(minted + age), &here, nonce.as_bytes(), lifetime).is_some();
                assert!(good(0) && good(life / 2) && good(life), "{life} {minted}");
                assert!(!good(life + 2 * step_s(lifetime)), "{life} {minted}");
            }
        }
    }

    #[test]
    fn text_that_is_no_nonce_is_refused() {
        let nonces = Nonces::new(&[7; 32]);
        for text in [
            &b""[..],
            b"obMatJos2",
            b"obMatJos2AAAC",
            b"f//499k9",
            b"f-_499k9",
            b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA",
        ] {
            assert_eq!(nonces.check(at(5), &path("192.0.2.1:1"), text, LIFE), None);
        }
    }
}
