//! Long-term keys and the short-lived TURN credentials that coturn calls its REST API.
//!
//! A username is `expiry:user` (Unix seconds), its password the base64 of HMAC-SHA1 over the username under a secret
//! that server and issuer share. The server keeps no list: it recomputes the password of whoever asks.

use core::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

/// What a browser's `RTCIceServer` needs. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).field("password", &"***").finish()
    }
}

/// Why a username opens nothing. On the wire all of these are 401 (RFC 8489 §9.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    #[error("the username carries no expiry time")]
    NoExpiry,
    #[error("expired {0} s ago")]
    Expired(u64),
}

impl CredentialError {
    #[must_use]
    pub const fn stun_code(self) -> u16 {
        401
    }
}

/// Credentials for `user` that end at `expires_unix_s`.
#[must_use]
pub fn mint(secret: &[u8], expires_unix_s: u64, user: &str) -> Credentials {
    let username = if user.is_empty() { expires_unix_s.to_string() } else { format!("{expires_unix_s}:{user}") };
    let password = password(secret, &username);
    Credentials { username, password }
}

/// The password that belongs to `username` under `secret`, whether or not it has expired.
#[must_use]
pub fn password(secret: &[u8], username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    STANDARD.encode(hmac::sign(&key, username.as_bytes()))
}

/// The expiry time in a username: before the colon, else (as coturn does) behind it, else the whole name.
///
/// # Errors
/// [`CredentialError::NoExpiry`] if there is no time in it.
pub fn expiry(username: &str) -> Result<u64, CredentialError> {
    let (first, second) = username.split_once(':').map_or((username, None), |(a, b)| (a, Some(b)));
    unix_seconds(first).or_else(|| second.and_then(unix_seconds)).ok_or(CredentialError::NoExpiry)
}

/// The password to check a request of `username` against at `now_unix_s`.
///
/// # Errors
/// The username has no expiry time, or it has passed.
pub fn verify(secret: &[u8], username: &str, now_unix_s: u64) -> Result<String, CredentialError> {
    let expires = expiry(username)?;
    if expires <= now_unix_s {
        return Err(CredentialError::Expired(now_unix_s - expires));
    }
    Ok(password(secret, username))
}

/// The key of the long-term mechanism: MD5 of `user:realm:password` (RFC 8489 §9.2.2). Compare with
/// [`crate::Message::verify_integrity`]. Names outside ASCII must have been prepared by the caller (RFC 8265).
#[must_use]
pub fn long_term_key(user: &str, realm: &str, password: &str) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in [user, ":", realm, ":", password] {
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// The same under the SHA-256 password algorithm (RFC 8489 §18.5.1.2).
#[must_use]
pub fn long_term_key_sha256(user: &str, realm: &str, password: &str) -> [u8; 32] {
    sha256(&[user, ":", realm, ":", password])
}

/// USERHASH: SHA-256 of `user:realm` (RFC 8489 §14.4).
#[must_use]
pub fn userhash(user: &str, realm: &str) -> [u8; 32] {
    sha256(&[user, ":", realm])
}

fn sha256(parts: &[&str]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for part in parts {
        context.update(part.as_bytes());
    }
    let mut out = [0; 32];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(slot, byte)| *slot = *byte);
    out
}

/// Digits only: `parse` alone would take a leading plus sign.
fn unix_seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_credentials_verify_until_their_hour() {
        let minted = mint(b"north", 1_700_000_600, "alice");
        assert_eq!(minted.username, "1700000600:alice");
        assert_eq!(verify(b"north", &minted.username, 1_700_000_599).unwrap(), minted.password);
        assert_eq!(verify(b"north", &minted.username, 1_700_000_600), Err(CredentialError::Expired(0)));
        assert_ne!(verify(b"south", &minted.username, 0).unwrap(), minted.password);
    }

    #[test]
    fn the_password_is_what_coturn_computes() {
        // openssl: printf '1700000600:alice' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(mint(b"north", 1_700_000_600, "alice").password, "gthUwOpcRoLI0MMCziCEBOWYnpo=");
    }

    #[test]
    fn expiry_stands_on_either_side_of_the_colon() {
        assert_eq!(expiry("1700000600:alice"), Ok(1_700_000_600));
        assert_eq!(expiry("alice:1700000600"), Ok(1_700_000_600));
        assert_eq!(expiry("1700000600"), Ok(1_700_000_600));
        for bad in ["", ":", "alice", "-1:alice", "+1:alice", "99999999999999999999:a", "1\0:a", "%s%n"] {
            assert_eq!(expiry(bad), Err(CredentialError::NoExpiry), "{bad:?}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let shown = format!("{:?}", mint(b"north", 1, "alice"));
        assert!(shown.contains("***") && !shown.contains(&mint(b"north", 1, "alice").password));
    }
}
